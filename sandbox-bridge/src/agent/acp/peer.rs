//! JSON-RPC on lines: our calls and their answers, the agent's calls and notices.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{Notify, mpsc, oneshot};

use super::translate::session_title;

/// Longest line that is taken.
const LINE_MAX_BYTES: usize = 32 << 20;
/// Lines that wait to be written.
const LINES_WAITING: usize = 64;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
    /// It ended.
    #[error("the agent ended")]
    Gone,
    /// It took too long.
    #[error("the agent did not answer within {0} s")]
    TimedOut(u64),
}

/// Something that the agent sends by itself.
#[derive(Debug)]
pub struct Incoming {
    /// `session/update`, …
    pub method: String,
    /// Its parameters.
    pub params: Value,
    /// Set where an answer is wanted.
    pub id: Option<Value>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, CallError>>>;

struct Inner {
    lines: mpsc::Sender<String>,
    next: AtomicU64,
    /// Calls that wait; `None` once the agent ended.
    waiting: Mutex<Option<Waiting>>,
    /// Who hears what the agent sends by itself: the turn that runs.
    listener: Mutex<Option<mpsc::Sender<Incoming>>>,
    abandoned: Notify,
    /// What the agent called its session last, also while no turn runs.
    title: Mutex<Option<String>>,
}

/// The agent at the other end. A copy is the same.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peer")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    /// Speaks over these streams. The future ends with the input.
    pub fn new<R, W>(input: R, output: W) -> (Self, impl Future<Output = ()> + Send)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (lines, mut to_write) = mpsc::channel::<String>(LINES_WAITING);
        let peer = Self(Arc::new(Inner {
            lines,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
            listener: Mutex::default(),
            abandoned: Notify::new(),
            title: Mutex::default(),
        }));
        tokio::spawn(async move {
            let mut output = output;
            while let Some(mut line) = to_write.recv().await {
                line.push('\n');
                if output.write_all(line.as_bytes()).await.is_err() || output.flush().await.is_err() {
                    return;
                }
            }
        });
        let reading = peer.clone();
        (peer, async move {
            reading.read(input).await;
            // Whoever waits is told by the loss of the other half.
            *lock(&reading.0.waiting) = None;
            *lock(&reading.0.listener) = None;
        })
    }

    async fn read(&self, input: impl AsyncRead + Unpin) {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        loop {
            line.clear();
            let Ok(more) = read_line(&mut input, &mut line).await else { return };
            if !more {
                return;
            }
            if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.take(message).await;
            } else {
                // Some agents greet people on the same stream.
                tracing::debug!(event = "acp.no_json", bytes = line.len());
            }
        }
    }

    async fn take(&self, mut message: Value) {
        let id = message.get("id").cloned();
        let Some(method) = message.get("method").and_then(Value::as_str).map(str::to_owned) else {
            let Some(id) = id.as_ref().and_then(Value::as_u64) else { return };
            let waiting = lock(&self.0.waiting).as_mut().and_then(|waiting| waiting.remove(&id));
            let result = match message.get("error") {
                Some(error) => Err(CallError::Refused(refusal(error))),
                None => Ok(message["result"].take()),
            };
            if let Some(waiting) = waiting {
                drop(waiting.send(result));
            }
            return;
        };
        let incoming = Incoming { method, params: message["params"].take(), id };
        if let Some(title) = session_title(&incoming.params["update"]) {
            *lock(&self.0.title) = Some(title.to_owned());
        }
        let listener = lock(&self.0.listener).clone();
        let unheard = match listener {
            // A turn takes what comes as it comes, so this waits for moments at most.
            Some(listener) => listener.send(incoming).await.err().map(|unheard| unheard.0),
            None => Some(incoming),
        };
        if let Some(Incoming { id: Some(id), .. }) = unheard {
            self.refuse(&id, -32603, "no prompt is running").await;
        }
    }

    /// From now on the agent's own messages go to `listener`.
    pub fn listen(&self, listener: Option<mpsc::Sender<Incoming>>) {
        *lock(&self.0.listener) = listener;
    }

    async fn send(&self, message: &Value) {
        // A failure means that the agent ended, which is told by other ways.
        drop(self.0.lines.send(message.to_string()).await);
    }

    /// Calls without a limit: whoever waits for it has one.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match lock(&self.0.waiting).as_mut() {
            Some(waiting) => drop(waiting.insert(id, answer)),
            None => return Err(CallError::Gone),
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        answered.await.unwrap_or(Err(CallError::Gone))
    }

    /// Calls and waits for so long.
    pub async fn call_within(&self, limit: Duration, method: &str, params: Value) -> Result<Value, CallError> {
        let answered = tokio::time::timeout(limit, self.call(method, params)).await;
        answered.unwrap_or(Err(CallError::TimedOut(limit.as_secs())))
    }

    /// Tells without an answer.
    pub async fn notify(&self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    /// Answers a call of the agent.
    pub async fn answer(&self, id: &Value, result: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result})).await;
    }

    /// Refuses a call of the agent.
    pub async fn refuse(&self, id: &Value, code: i32, message: &str) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})).await;
    }

    /// What the agent calls its session.
    pub fn title(&self) -> Option<String> {
        lock(&self.0.title).clone()
    }

    /// The agent does not do as it is told: its process shall be ended and another one started.
    pub fn abandon(&self) {
        self.0.abandoned.notify_one();
    }

    /// Waits until somebody abandons it.
    pub async fn abandoned(&self) {
        self.0.abandoned.notified().await;
    }
}

/// The sentence of an error, with its details where those say more.
fn refusal(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("the agent refused without a reason");
    let details = error.get("data").and_then(|data| data.get("details").or_else(|| data.get("message")).or(Some(data)));
    match details.and_then(Value::as_str).filter(|details| !details.is_empty()) {
        Some(details) => format!("{message}: {details}"),
        None => message.to_owned(),
    }
}

/// One line without its end. A line that is too long is read over and comes empty, which is no JSON.
async fn read_line(input: &mut (impl tokio::io::AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut too_long = false;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        too_long |= line.len() + taken > LINE_MAX_BYTES;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(&available[..taken]);
        }
        input.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_find_their_calls_and_an_end_ends_them_all() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(ours);
        let (peer, reading) = Peer::new(read, write);
        tokio::spawn(reading);
        let (their_read, mut their_write) = tokio::io::split(theirs);
        let mut their_lines = BufReader::new(their_read).lines();
        let calls = [peer.clone(), peer.clone(), peer.clone()];
        let [one, two, three] = calls.map(|peer| tokio::spawn(async move { peer.call("m", json!({})).await }));
        for _ in 0..3 {
            their_lines.next_line().await.expect("read").expect("a call");
        }
        let text = "a greeting\n{\"id\":2,\"result\":\"two\"}\n{\"id\":1,\"error\":{\"code\":1,\"message\":\"no\",\
            \"data\":{\"details\":\"why\"}}}\n";
        their_write.write_all(text.as_bytes()).await.expect("written");
        assert_eq!(two.await.expect("no panic"), Ok(json!("two")));
        assert_eq!(one.await.expect("no panic"), Err(CallError::Refused("no: why".to_owned())));
        drop((their_lines, their_write));
        assert_eq!(three.await.expect("no panic"), Err(CallError::Gone));
        assert_eq!(peer.call("m", json!({})).await, Err(CallError::Gone));
    }

    #[tokio::test]
    async fn a_title_that_comes_after_the_turn_is_kept() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(ours);
        let (peer, reading) = Peer::new(read, write);
        assert_eq!(peer.title(), None);
        let notice = json!({"method": "session/update", "params": {"sessionId": "s", "update": {
            "sessionUpdate": "session_info_update", "title": " Mend the door "}}});
        let (_, mut their_write) = tokio::io::split(theirs);
        their_write.write_all(format!("{notice}\n").as_bytes()).await.expect("written");
        their_write.shutdown().await.expect("ended");
        reading.await;
        assert_eq!(peer.title().as_deref(), Some("Mend the door"));
    }

    #[tokio::test]
    async fn a_call_of_the_agent_that_nobody_hears_is_refused() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(ours);
        let (_peer, reading) = Peer::new(read, write);
        tokio::spawn(reading);
        let (their_read, mut their_write) = tokio::io::split(theirs);
        their_write.write_all(b"{\"id\":\"a\",\"method\":\"fs/x\",\"params\":{}}\n").await.expect("written");
        let line = BufReader::new(their_read).lines().next_line().await.expect("read").expect("an answer");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&answer["id"], answer["error"].is_object()), (&json!("a"), true));
    }
}
