//! How many events of an agent a session takes in a second, from the bridge's socket to SQLite and to its watchers.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::api::Person;
use e2e::backend::Backend;
use e2e::bridge::Bridge;
use e2e::socket::{Socket, open, subscribe};
use e2e::stack::{Options, Ready, Stack};
use e2e::{Failed, Outcome};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::echo::Echo;
use crate::{ms, row, say};

/// Events of one turn of the agent.
pub const TURN: usize = 38;
/// Turns of one measurement.
const TURNS: usize = 150;
/// Frames that may be out without their acknowledgement; text is acknowledged by its write, four times a second.
const WINDOW: i64 = 4_000;
const REPEATS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes the frames of turns, numbered.
pub struct Script {
    /// The prompt that they belong to.
    pub message: Value,
    /// Number of the next frame.
    pub next: i64,
    /// Parts so far.
    pub part: usize,
}

impl Script {
    fn frame(&mut self, mut event: Value) -> Message {
        event["seq"] = json!(self.next);
        event["messageId"] = self.message.clone();
        event["sandboxId"] = json!("bench");
        event["timestamp"] = json!(1.0);
        self.next += 1;
        Message::text(event.to_string())
    }

    /// 24 deltas of text, one finished part, five tool calls that begin and end, a step that begins and ends, a title:
    /// what an agent's turn looks like on the wire.
    pub fn turn(&mut self) -> Vec<Message> {
        self.part += 1;
        let part = format!("p{}", self.part);
        let mut frames = vec![self.frame(json!({"type": "step_start"}))];
        for word in 0..24 {
            frames.push(self.frame(json!({"type": "part_delta", "partId": part, "kind": "text", "offset": word * 20,
                "text": "twenty characters.. "})));
        }
        frames.push(self.frame(json!({"type": "part_done", "partId": part, "kind": "text", "length": 480})));
        for call in 0..5 {
            let call = format!("{part}-{call}");
            for status in ["running", "completed"] {
                let output = if status == "completed" { "x".repeat(400) } else { String::new() };
                frames.push(self.frame(json!({"type": "tool_call", "tool": "bash", "args": {"command": "ls -l"},
                    "callId": call, "status": status, "output": output})));
            }
        }
        frames.push(self.frame(json!({"type": "step_finish", "cost": 0.001, "reason": "stop"})));
        frames.push(self.frame(json!({"type": "session_title", "title": "A title"})));
        frames
    }

    fn tool_calls(&mut self) -> Vec<Message> {
        (0..TURN)
            .map(|call| {
                let id = format!("{}-{call}", self.next);
                self.frame(json!({"type": "tool_call", "tool": "bash", "args": {}, "callId": id, "status": "completed",
                    "output": "x".repeat(500)}))
            })
            .collect()
    }

    fn tokens(&mut self) -> Vec<Message> {
        let first = self.next;
        (0..TURN as i64)
            .map(|_| {
                let offset = (self.next - first) * 6;
                let part = format!("t{first}");
                self.frame(json!({"type": "part_delta", "partId": part, "kind": "text", "offset": offset,
                    "text": "token "}))
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Turns,
    ToolCalls,
    Tokens,
}

/// A session with one page and a bridge that has its prompt.
pub struct Running {
    /// The session.
    pub session: String,
    /// A token for its pages.
    pub token: String,
    /// The page.
    pub page: Socket,
    /// The bridge.
    pub bridge: Bridge,
    /// The prompt.
    pub message: Value,
}

impl Running {
    /// Creates it, connects both and sends the prompt.
    pub async fn begin(ready: &Ready, backend: &Backend) -> Outcome<Self> {
        let ada = Person::sign_in(ready, "ada").await?;
        let session = ada.create_session().await?;
        let token = ada.ws_token(&session).await?;
        let (mut page, _) = subscribe(ready, &session, &token, None).await?;
        let mut bridge = Bridge::new(backend.sandbox_of(&session).await?);
        bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
        page.send(&json!({"type": "prompt", "clientRequestId": "bench", "content": "measure"})).await?;
        bridge.listen(PATIENCE, |b| !b.prompts.is_empty()).await?;
        bridge.listen(PATIENCE, Bridge::is_settled).await?;
        let message = bridge.prompts.first().map(|prompt| prompt["messageId"].clone()).unwrap_or_default();
        Ok(Self { session, token, page, bridge, message })
    }
}

/// One session with its bridge and watchers: events a second, from the first frame out to the last acknowledged and
/// the last revision at every watcher.
async fn rate(ready: &Ready, backend: &Backend, kind: Kind, watchers: usize) -> Outcome<f64> {
    let Running { session, token, page, bridge, message } = Running::begin(ready, backend).await?;
    let mut tasks = Vec::new();
    let mut sockets = vec![page];
    for _ in 1..watchers {
        sockets.push(subscribe(ready, &session, &token, None).await?.0);
    }
    for socket in sockets {
        let mut stream = socket.into_stream();
        tasks.push(tokio::spawn(async move {
            // Nothing is parsed: the generator shares the machine with what it measures.
            while let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, stream.next()).await {
                if frame.is_text() && frame.to_text().is_ok_and(|text| text.contains("the last call")) {
                    return true;
                }
            }
            false
        }));
    }
    let (socket, next) = bridge.into_socket()?;
    let (mut sink, mut stream) = socket.into_stream().split();
    let mut script = Script { message, next, part: 0 };
    let mut turns: Vec<Vec<Message>> = (0..TURNS)
        .map(|_| match kind {
            Kind::Turns => script.turn(),
            Kind::ToolCalls => script.tool_calls(),
            Kind::Tokens => script.tokens(),
        })
        .collect();
    turns.push(vec![script.frame(json!({"type": "tool_call", "tool": "bash", "args": {}, "callId": "the last call",
        "status": "completed"}))]);
    let last = script.next - 1;
    let begun = Instant::now();
    let (mut sent, mut acked) = (next - 1, next - 1);
    for turn in turns {
        while sent - acked > WINDOW {
            acked = acked.max(acknowledged(&mut stream).await?);
        }
        sent += turn.len() as i64;
        for frame in turn {
            sink.feed(frame).await?;
        }
        sink.flush().await?;
    }
    while acked < last {
        acked = acked.max(acknowledged(&mut stream).await?);
    }
    for task in tasks {
        if !task.await.unwrap_or(false) {
            return Err(Failed("a watcher did not see the end".to_owned()));
        }
    }
    Ok((last + 1 - next) as f64 / begun.elapsed().as_secs_f64())
}

async fn acknowledged(
    stream: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> Outcome<i64> {
    let Some(frame) = tokio::time::timeout(PATIENCE, stream.next()).await? else {
        return Err(Failed("the session closed the bridge".to_owned()));
    };
    let frame: Value = serde_json::from_str(frame?.to_text().unwrap_or("null"))?;
    Ok(if frame["type"] == "ack" { frame["seq"].as_i64().unwrap_or(0) } else { 0 })
}

/// Subscribing to a long session, and resuming after a short gap.
async fn openings(ready: &Ready, backend: &Backend, place: &str) -> Outcome {
    let Running { session, token, page: _page, mut bridge, message } = Running::begin(ready, backend).await?;
    for call in 0..5_000 {
        bridge
            .emit(json!({"type": "tool_call", "messageId": message, "tool": "bash", "args": {}, "callId": format!("c{call}"),
                "status": "completed", "output": "x".repeat(300)}))
            .await;
        if call % 500 == 499 {
            bridge.listen(PATIENCE, Bridge::is_settled).await?;
        }
    }
    bridge.listen(PATIENCE, Bridge::is_settled).await?;
    let (mut opened, mut whole, mut resumed, mut revision) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..OPENINGS {
        let opening = Opening::measure(ready, &session, &token, None).await?;
        revision = opening.revision;
        opened.push(opening.opened_ms);
        whole.push(opening.subscribed_ms);
    }
    for _ in 0..OPENINGS {
        let opening = Opening::measure(ready, &session, &token, Some(revision - 5)).await?;
        opened.push(opening.opened_ms);
        resumed.push(opening.subscribed_ms);
    }
    row(&format!("open a socket to a session of 5 000 events, {place}"), opened, "ms");
    row(&format!("subscribe to it, with its snapshot of 500 events, {place}"), whole, "ms");
    row(&format!("subscribe to it, resuming five events behind, {place}"), resumed, "ms");
    Ok(())
}

/// Sockets of one measurement.
const OPENINGS: usize = 40;

/// One socket that is opened and subscribes.
struct Opening {
    /// Until the upgrade is answered.
    opened_ms: f64,
    /// From `subscribe` to the last byte of `subscribed`, which is not parsed meanwhile.
    subscribed_ms: f64,
    revision: i64,
}

impl Opening {
    async fn measure(ready: &Ready, session: &str, token: &str, after: Option<i64>) -> Outcome<Self> {
        let origin = vec![("Origin", ready.base_url.clone())];
        let begun = Instant::now();
        let socket = open(ready, session, "", &origin).await?;
        let opened_ms = ms(begun);
        let mut stream = socket.map_err(|status| Failed(format!("upgrade refused: {status}")))?.into_stream();
        let mut frame = json!({"type": "subscribe", "token": token, "clientId": "bench", "dialect": 2});
        if let Some(after) = after {
            frame["afterRevision"] = json!(after);
        }
        let frame = Message::text(frame.to_string());
        let begun = Instant::now();
        stream.send(frame).await?;
        loop {
            let Some(frame) = tokio::time::timeout(PATIENCE, stream.next()).await? else {
                return Err(Failed("the session closed a page".to_owned()));
            };
            let frame = frame?;
            let text = frame.to_text().unwrap_or_default();
            if text.starts_with(r#"{"type":"subscribed""#) {
                let subscribed_ms = ms(begun);
                let subscribed: Value = serde_json::from_str(text)?;
                let rows = subscribed["timeline"]["events"].as_array().map_or(0, Vec::len);
                if rows != if after.is_some() { 5 } else { 500 } {
                    return Err(Failed(format!("{rows} events in the answer")));
                }
                stream.close(None).await?;
                return Ok(Self { opened_ms, subscribed_ms, revision: subscribed["revision"].as_i64().unwrap_or(0) });
            }
        }
    }
}

/// Everything above, with the state in one place.
async fn below(folder: &Path, place: &str) -> Outcome {
    let scratch = tempfile::Builder::new().prefix("oi-echo-").tempdir_in(folder)?;
    let echo = Echo::start(scratch.path()).await?;
    let backend = Backend::start().await?;
    let options = Options {
        backend: Some((backend.url.clone(), backend.secret.clone())),
        below: Some(folder.to_path_buf()),
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    stack.connect_directly().await?;
    let ready = &stack.ready;
    for (what, writes) in [("bare object: messages echoed", false), ("bare object: messages stored and echoed", true)] {
        let mut rates = Vec::new();
        for _ in 0..REPEATS {
            rates.push(echo.rate(writes).await?);
        }
        row(&format!("{what}, {place}"), rates, "per s");
    }
    let mut greeted = Vec::new();
    for _ in 0..15 {
        let begun = Instant::now();
        echo.greet().await?;
        greeted.push(ms(begun));
    }
    row(&format!("bare object: a socket opened and one message answered, {place}"), greeted, "ms");
    // The first run compiles what it runs.
    Box::pin(rate(ready, &backend, Kind::Turns, 1)).await?;
    let kinds = [
        ("events of 38-event turns, 1 watcher", Kind::Turns, 1),
        ("events of 38-event turns, 10 watchers", Kind::Turns, 10),
        ("events of 38-event turns, 50 watchers", Kind::Turns, 50),
        ("text deltas, 1 watcher", Kind::Tokens, 1),
        ("stored tool calls, 1 watcher", Kind::ToolCalls, 1),
    ];
    for (what, kind, watchers) in kinds {
        let mut rates = Vec::new();
        for _ in 0..REPEATS {
            rates.push(Box::pin(rate(ready, &backend, kind, watchers)).await?);
        }
        row(&format!("{what}, {place}"), rates, "per s");
    }
    Box::pin(openings(ready, &backend, place)).await?;
    stack.stop().await
}

/// Opening and subscribing alone, with the state in memory.
pub async fn only_openings() -> Outcome {
    let folder = Path::new("/dev/shm");
    let folder = if folder.is_dir() { folder.to_path_buf() } else { std::env::temp_dir() };
    let backend = Backend::start().await?;
    let options = Options {
        backend: Some((backend.url.clone(), backend.secret.clone())),
        below: Some(folder),
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    stack.connect_directly().await?;
    Box::pin(openings(&stack.ready, &backend, "tmpfs")).await?;
    stack.stop().await
}

/// With the state in memory and on disk, past wrangler's proxy.
pub async fn streams() -> Outcome {
    say("<!-- straight to workerd, state on tmpfs and on disk -->");
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        Box::pin(below(memory, "tmpfs")).await?;
    }
    Box::pin(below(&std::env::temp_dir(), "disk")).await
}
