//! OpenCode's HTTP API with scripted turns, for tests that are about the bridge. What the script is depends on a
//! word of the prompt.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

const SESSION: &str = "ses_fake";

#[derive(Clone)]
pub struct FakeOpenCode {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    events: Mutex<broadcast::Sender<String>>,
    messages: Mutex<Vec<Value>>,
    busy: watch::Sender<bool>,
    aborted: watch::Sender<bool>,
    turn: Mutex<Option<tokio::task::AbortHandle>>,
    title: Mutex<String>,
    pub prompts: AtomicUsize,
    replies: AtomicUsize,
    /// Parts of the newest prompt.
    parts: Mutex<Value>,
}

impl FakeOpenCode {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let inner = Arc::new(Inner {
            events: Mutex::new(broadcast::channel(4096).0),
            messages: Mutex::default(),
            busy: watch::channel(false).0,
            aborted: watch::channel(false).0,
            turn: Mutex::default(),
            title: Mutex::new("New session - x".to_owned()),
            prompts: AtomicUsize::new(0),
            replies: AtomicUsize::new(0),
            parts: Mutex::default(),
        });
        let fake = Self { url, inner };
        let router = Router::new()
            .route("/global/health", get(|| async { Json(json!({"healthy": true})) }))
            .route("/config/providers", get(|| async { Json(json!({})) }))
            .route("/experimental/tool", get(|| async { Json(json!([])) }))
            .route("/session", post(info))
            .route("/session/{id}", get(info))
            .route("/session/status", get(status))
            .route("/session/{id}/prompt_async", post(prompt))
            .route("/session/{id}/abort", post(abort))
            .route("/session/{id}/message", get(messages))
            .route("/event", get(events))
            .route("/question/{id}/reply", post(reply))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    /// Prompts that were given, repetitions included.
    pub fn prompts(&self) -> usize {
        self.inner.prompts.load(Ordering::Relaxed)
    }

    /// Asks a person something in the turn that runs.
    pub fn ask(&self) {
        let questions = json!([{"question": "Shall I?", "header": "Leave", "options": []}]);
        self.tell("question.asked", &json!({"id": "que_1", "sessionID": SESSION, "questions": questions}));
    }

    /// Answers of people that came.
    pub fn replies(&self) -> usize {
        self.inner.replies.load(Ordering::Relaxed)
    }

    /// Parts of the newest prompt.
    pub fn parts(&self) -> Value {
        self.inner.parts.lock().expect("no test panicked in it").clone()
    }

    /// Gives the session a title, and tells nobody.
    pub fn name_the_session(&self, title: &str) {
        title.clone_into(&mut self.inner.title.lock().expect("no test panicked in it"));
    }

    /// Ends every event stream, as a broken connection would.
    pub fn break_streams(&self) {
        *self.inner.events.lock().expect("no test panicked in it") = broadcast::channel(4096).0;
    }

    /// What a killed process leaves: nothing runs, and the newest message stays as it was.
    pub fn die(&self) {
        if let Some(turn) = self.inner.turn.lock().expect("no test panicked in it").take() {
            turn.abort();
        }
        self.inner.busy.send_replace(false);
        self.break_streams();
    }

    fn tell(&self, kind: &str, properties: &Value) {
        let text = json!({"id": "evt_1", "type": kind, "properties": properties}).to_string();
        drop(self.inner.events.lock().expect("no test panicked in it").send(text));
    }

    fn store(&self, change: impl FnOnce(&mut Vec<Value>)) {
        change(&mut self.inner.messages.lock().expect("no test panicked in it"));
    }

    fn message(&self, info: &Value) {
        self.store(|messages| match messages.iter_mut().find(|m| m["info"]["id"] == info["id"]) {
            Some(message) => message["info"] = info.clone(),
            None => messages.push(json!({"info": info, "parts": []})),
        });
        self.tell("message.updated", &json!({"sessionID": SESSION, "info": info}));
    }

    fn part(&self, part: &Value) {
        self.store(|messages| {
            let message = messages.iter_mut().find(|m| m["info"]["id"] == part["messageID"]).expect("a message");
            let parts = message["parts"].as_array_mut().expect("parts");
            match parts.iter_mut().find(|known| known["id"] == part["id"]) {
                Some(known) => *known = part.clone(),
                None => parts.push(part.clone()),
            }
        });
        self.tell("message.part.updated", &json!({"sessionID": SESSION, "part": part}));
    }

    async fn turn(self, prompt: String, text: String, number: usize) {
        let answer = format!("msg_answer{number}");
        let time =
            |completed: bool| if completed { json!({"created": 2, "completed": 3}) } else { json!({"created": 2}) };
        let assistant = |completed: bool, error: Option<Value>| {
            json!({"id": answer, "sessionID": SESSION, "role": "assistant", "parentID": prompt, "time": time(completed),
                "finish": completed.then_some("stop"), "error": error})
        };
        self.inner.aborted.send_replace(false);
        self.inner.busy.send_replace(true);
        self.message(&json!({"id": prompt, "sessionID": SESSION, "role": "user", "time": {"created": 1}}));
        self.tell("session.status", &json!({"sessionID": SESSION, "status": {"type": "busy"}}));
        self.message(&assistant(false, None));
        let part = |id: &str, body: Value| {
            let mut part = json!({"id": format!("prt_{id}{number}"), "sessionID": SESSION, "messageID": answer});
            part.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
            part
        };
        let mut error = None;
        if text.contains("ERROR") {
            let told = json!({"name": "APIError", "data": {"message": "the provider refused"}});
            self.tell("session.error", &json!({"sessionID": SESSION, "error": told}));
            error = Some(told);
        } else if text.contains("HANG") {
            while !*self.inner.aborted.borrow() {
                self.tell("server.heartbeat", &json!({}));
                sleep(Duration::from_millis(30)).await;
            }
        } else if !text.contains("EMPTY") {
            self.part(&part("a_step", json!({"type": "step-start"})));
            let words = if text.contains("SLOW") { 400 } else { 5 };
            let said = self.speak(&part, words, text.contains("BREAK")).await;
            if *self.inner.aborted.borrow() {
                let told = json!({"name": "MessageAbortedError", "data": {"message": "Aborted"}});
                self.tell("session.error", &json!({"sessionID": SESSION, "error": told}));
                self.idle();
                error = Some(told);
            }
            self.part(&part("b_text", json!({"type": "text", "text": said, "time": {"start": 2, "end": 3}})));
            if text.contains("TOOL") {
                let output = if text.contains("LONG") { long_output() } else { "fine\n".to_owned() };
                let state = json!({"status": "completed", "input": {"command": "true"}, "output": output,
                    "metadata": {"exit": 0}, "time": {"start": 2, "end": 3}});
                self.part(&part("c_tool", json!({"type": "tool", "tool": "bash", "callID": "call_1", "state": state})));
            }
            self.part(&part("d_end", json!({"type": "step-finish", "cost": 0.5, "reason": "stop"})));
        }
        self.message(&assistant(true, error));
        self.idle();
    }

    async fn speak(&self, part: &impl Fn(&str, Value) -> Value, words: usize, breaks: bool) -> String {
        let open = part("b_text", json!({"type": "text", "text": "", "time": {"start": 2}}));
        self.part(&open);
        let mut said = String::new();
        for word in 0..words {
            let delta = format!("word{word}😀 ");
            said.push_str(&delta);
            self.tell(
                "message.part.delta",
                &json!({"sessionID": SESSION, "messageID": open["messageID"], "partID": open["id"], "field": "text",
                    "delta": delta}),
            );
            sleep(Duration::from_millis(15)).await;
            if *self.inner.aborted.borrow() {
                break;
            }
            if breaks && word == 1 {
                self.break_streams();
                sleep(Duration::from_millis(100)).await;
            }
        }
        said
    }

    fn idle(&self) {
        self.inner.busy.send_replace(false);
        self.tell("session.status", &json!({"sessionID": SESSION, "status": {"type": "idle"}}));
        self.tell("session.idle", &json!({"sessionID": SESSION}));
    }
}

async fn info(State(fake): State<FakeOpenCode>) -> Json<Value> {
    let title = fake.inner.title.lock().expect("no test panicked in it").clone();
    Json(json!({"id": SESSION, "title": title}))
}

async fn status(State(fake): State<FakeOpenCode>) -> Json<Value> {
    Json(if *fake.inner.busy.borrow() { json!({SESSION: {"type": "busy"}}) } else { json!({}) })
}

async fn messages(State(fake): State<FakeOpenCode>) -> Json<Value> {
    Json(Value::Array(fake.inner.messages.lock().expect("no test panicked in it").clone()))
}

async fn prompt(State(fake): State<FakeOpenCode>, Path(id): Path<String>, Json(body): Json<Value>) -> StatusCode {
    assert_eq!(id, SESSION);
    let message = body["messageID"].as_str().expect("an id").to_owned();
    assert!(message.starts_with("msg"));
    let number = fake.inner.prompts.fetch_add(1, Ordering::Relaxed);
    let text = body["parts"][0]["text"].as_str().unwrap_or_default().to_owned();
    body["parts"].clone_into(&mut fake.inner.parts.lock().expect("no test panicked in it"));
    let turn = tokio::spawn(fake.clone().turn(message, text, number)).abort_handle();
    *fake.inner.turn.lock().expect("no test panicked in it") = Some(turn);
    StatusCode::NO_CONTENT
}

async fn abort(State(fake): State<FakeOpenCode>) -> Json<bool> {
    fake.inner.aborted.send_replace(true);
    Json(true)
}

async fn reply(State(fake): State<FakeOpenCode>) -> Json<bool> {
    fake.inner.replies.fetch_add(1, Ordering::Relaxed);
    Json(true)
}

async fn events(State(fake): State<FakeOpenCode>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = fake.inner.events.lock().expect("no test panicked in it").subscribe();
    Sse::new(stream::unfold(receiver, async |mut receiver| {
        let text = receiver.recv().await.ok()?;
        Some((Ok(Event::default().data(text)), receiver))
    }))
}

/// What a tool prints when it is asked for much.
pub fn long_output() -> String {
    (0..20_000).fold(String::new(), |text, line| text + &format!("line {line} äöü\n"))
}
