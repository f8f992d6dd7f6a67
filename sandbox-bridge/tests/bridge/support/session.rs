//! A session as the bridge sees it: takes each numbered frame once and in order, acknowledges, repeats `hello`.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use oi_protocol::diff::DiffBundle;
use oi_protocol::sandbox_socket::SandboxFrame;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::eventually;
use super::signing_key::{self, SigningKey};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const SESSION_ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The password that the control plane gives for git.
pub const GIT_PASSWORD: &str = "ghs_short_lived_password_of_the_forge";

#[derive(Default)]
pub struct Taken {
    /// Numbered frames, each once, in order.
    pub frames: Vec<Value>,
    /// Frames without a number.
    pub loose: Vec<Value>,
    /// Numbered frames that came again.
    pub repeated: usize,
    /// Frames that did not follow the mark.
    pub gaps: usize,
    /// Text by part, as deltas build it.
    pub parts: HashMap<String, String>,
    pub mark: i64,
    pub connections: usize,
    pub headers: Vec<HeaderMap>,
    pub pull_requests: Vec<(String, Value)>,
    /// Stored outputs by name.
    pub outputs: HashMap<String, String>,
    /// Bundles of changes that were uploaded.
    pub diffs: Vec<Value>,
    /// Those that were refused.
    pub refused_diffs: usize,
    /// What was said when there was none.
    pub diff_failures: Vec<String>,
    /// Failures of the boot that came by the way that needs no socket.
    pub boot_errors: Vec<Value>,
    /// Pages of managed skills, which are given in order; the last one again and again.
    pub skills: VecDeque<(u16, Value)>,
    /// What was asked of them.
    pub skill_queries: Vec<String>,
    /// Files of prompts by id.
    pub attachments: HashMap<String, Vec<u8>>,
    /// Other calls of the sandbox, and how they are answered.
    pub calls: super::session_calls::Calls,
}

pub struct Inner {
    taken: Mutex<Taken>,
    out: Mutex<Option<mpsc::UnboundedSender<Message>>>,
    pub acknowledge: AtomicBool,
    /// Sends no `hello`, and acknowledges by `ackId`.
    pub dialect_1: AtomicBool,
    /// Answers upgrades with this status unless it is 0.
    pub refuse_with: AtomicU16,
    pub credential_calls: AtomicUsize,
    /// How long credentials live, in ms.
    pub credential_life: AtomicI64,
    /// Refuses credentials with this status unless it is 0.
    pub refuse_credentials_with: AtomicU16,
    /// The key that commits are signed with, in a folder of its own; none, and they are not.
    pub signing: Mutex<Option<SigningKey>>,
    /// How often it was asked whether commits are signed.
    pub signing_reads: AtomicUsize,
    /// Answers the next signings with these statuses.
    pub refuse_signing_with: Mutex<VecDeque<u16>>,
    /// Refuses outputs with this status unless it is 0.
    pub refuse_outputs_with: AtomicU16,
    /// The same for diffs.
    pub refuse_diffs_with: AtomicU16,
    pub pull_request_answers: Mutex<VecDeque<(u16, Value)>>,
    /// Addresses of ports, once the backend has said them.
    pub tunnel_urls: Mutex<Value>,
    /// Gets the sockets of terminals; without it they are refused.
    pub terminals: Mutex<Option<mpsc::UnboundedSender<(HeaderMap, WebSocket)>>>,
}

#[derive(Clone)]
pub struct Session {
    pub url: String,
    pub inner: Arc<Inner>,
}

impl Session {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let inner = Arc::new(Inner {
            taken: Mutex::default(),
            out: Mutex::default(),
            acknowledge: AtomicBool::new(true),
            dialect_1: AtomicBool::new(false),
            refuse_with: AtomicU16::new(0),
            credential_calls: AtomicUsize::new(0),
            credential_life: AtomicI64::new(3_600_000),
            refuse_credentials_with: AtomicU16::new(0),
            signing: Mutex::default(),
            signing_reads: AtomicUsize::new(0),
            refuse_signing_with: Mutex::default(),
            refuse_outputs_with: AtomicU16::new(0),
            refuse_diffs_with: AtomicU16::new(0),
            pull_request_answers: Mutex::default(),
            tunnel_urls: Mutex::new(json!({})),
            terminals: Mutex::default(),
        });
        let session = Self { url, inner };
        let router = Router::new()
            .route("/sessions/{id}/ws", get(upgrade))
            .route("/sessions/{id}/terminal", get(terminal))
            .route("/sessions/{id}/scm-credentials", post(credentials))
            .route("/sessions/{id}/sandbox-skills", get(skills))
            .route("/sessions/{id}/tunnel-urls", get(tunnel_urls))
            .route("/sandbox/{id}/error", post(boot_error))
            .route("/sessions/{id}/commit-signing", get(signing_key::setting).post(signing_key::sign))
            .route("/sessions/{id}/pr", post(pull_request))
            .route("/sessions/{id}/outputs/{output}", put(output).layer(DefaultBodyLimit::max(64 << 20)))
            .route("/sessions/{id}/diff", put(diff))
            .route("/sessions/{id}/diff/failure", post(diff_failure))
            .route("/sessions/{id}/attachments/{attachment}", get(attachment))
            .merge(super::session_calls::routes())
            .with_state(session.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        session
    }

    pub fn taken(&self) -> MutexGuard<'_, Taken> {
        self.inner.taken.lock().expect("no test panicked in it")
    }

    /// Sends a command.
    pub fn send(&self, command: &Value) {
        let out = self.inner.out.lock().expect("no test panicked in it");
        out.as_ref().expect("a bridge is connected").send(Message::text(command.to_string())).expect("it listens");
    }

    pub fn prompt(&self, message_id: &str, content: &str) {
        self.send(&json!({"type": "prompt", "messageId": message_id, "content": content, "model": "demo/scripted",
            "author": {"userId": "u1", "gitIdentity": {"mode": "attributed-user", "name": "Ada Lovelace",
            "email": "ada@example.com"}}}));
    }

    /// Cuts the connection without a goodbye.
    pub fn cut(&self) {
        *self.inner.out.lock().expect("no test panicked in it") = None;
    }

    /// Forgets what was not acknowledged, as an evicted session does that had not written it.
    pub fn forget_to(&self, mark: i64) {
        let mut taken = self.taken();
        taken.mark = mark;
        taken.frames.truncate(mark as usize);
        taken.parts.clear();
    }

    /// Waits for a numbered frame.
    pub async fn frame(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = eventually(what, Duration::from_secs(60), || {
            self.taken().frames.iter().find(|frame| wanted(frame)).cloned()
        });
        found.await
    }

    pub async fn completed(&self, message_id: &str) -> Value {
        self.frame("execution_complete", |f| f["type"] == "execution_complete" && f["messageId"] == message_id).await
    }

    pub async fn booted(&self) {
        let boot = |f: &Value| f["type"] == "boot_progress" && f["phase"] == "ready";
        let frame = self.frame("the boot's end", boot).await;
        assert_eq!(frame["status"], "completed", "{frame}");
    }

    /// The reason of a boot that failed.
    pub async fn boot_failed(&self) -> String {
        let boot = |f: &Value| f["type"] == "boot_progress" && f["phase"] == "ready";
        let frame = self.frame("the boot's end", boot).await;
        assert_eq!(frame["status"], "failed", "{frame}");
        frame["detail"].as_str().expect("a reason").to_owned()
    }

    /// Warnings of a scope.
    pub fn warnings(&self, scope: &str) -> Vec<Value> {
        let taken = self.taken();
        taken.frames.iter().filter(|f| f["type"] == "warning" && f["scope"] == scope).cloned().collect()
    }

    /// How a phase of the boot ended, if it did.
    pub fn phase(&self, phase: &str) -> Option<String> {
        let taken = self.taken();
        let mut of = taken.frames.iter().filter(|f| f["type"] == "boot_progress" && f["phase"] == phase);
        of.rfind(|f| f["status"] != "started").and_then(|f| f["status"].as_str().map(str::to_owned))
    }

    pub async fn connected(&self, times: usize) {
        eventually("a connection", Duration::from_secs(30), || (self.taken().connections >= times).then_some(())).await;
    }

    /// Types of the frames of one prompt, in order, without steps and boot.
    pub fn story(&self, message_id: &str) -> Vec<String> {
        let taken = self.taken();
        let of = taken.frames.iter().filter(|frame| frame["messageId"] == message_id);
        of.map(|frame| frame["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Final texts of one prompt.
    pub fn texts(&self, message_id: &str) -> Vec<String> {
        let taken = self.taken();
        let done = taken.frames.iter().filter(|f| f["messageId"] == message_id && f["type"] == "part_done");
        done.map(|frame| frame["text"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

async fn upgrade(
    State(session): State<Session>,
    Path(id): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    assert_eq!(id, SESSION_ID);
    let refuse_with = session.inner.refuse_with.load(Ordering::Relaxed);
    if refuse_with != 0 {
        session.taken().connections += 1;
        return StatusCode::from_u16(refuse_with).expect("a status").into_response();
    }
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
    session.taken().headers.push(headers);
    upgrade.on_upgrade(move |socket| serve(session, socket))
}

async fn serve(session: Session, mut socket: WebSocket) {
    let (out, mut outgoing) = mpsc::unbounded_channel();
    *session.inner.out.lock().expect("no test panicked in it") = Some(out);
    session.taken().connections += 1;
    if !session.inner.dialect_1.load(Ordering::Relaxed) {
        let hello = hello(&session);
        drop(socket.send(Message::text(hello)).await);
    }
    loop {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => drop(socket.send(message).await),
                // The test cut the connection.
                None => return,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    for answer in take(&session, text.as_str()) {
                        drop(socket.send(Message::text(answer)).await);
                    }
                }
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

fn hello(session: &Session) -> String {
    let taken = session.taken();
    let parts: Vec<Value> =
        taken.parts.iter().map(|(id, text)| json!({"partId": id, "length": text.encode_utf16().count()})).collect();
    json!({"type": "hello", "dialect": 2, "ackedSeq": taken.mark, "parts": parts}).to_string()
}

fn take(session: &Session, text: &str) -> Vec<String> {
    let frame: Value = serde_json::from_str(text).expect("the bridge sends JSON");
    SandboxFrame::parse(text).unwrap_or_else(|error| panic!("not a frame of the wire: {error}: {text}"));
    let mut taken = session.taken();
    if let Some(ack_id) = frame["ackId"].as_str() {
        taken.loose.push(frame.clone());
        let answer = json!({"type": "ack", "ackId": ack_id}).to_string();
        return if session.inner.acknowledge.load(Ordering::Relaxed) { vec![answer] } else { Vec::new() };
    }
    let Some(seq) = frame["seq"].as_i64() else {
        taken.loose.push(frame);
        return Vec::new();
    };
    if seq <= taken.mark {
        taken.repeated += 1;
        return Vec::new();
    }
    if seq != taken.mark + 1 || !follows(&mut taken, &frame) {
        taken.gaps += 1;
        drop(taken);
        return vec![hello(session)];
    }
    taken.mark = seq;
    taken.frames.push(frame);
    if session.inner.acknowledge.load(Ordering::Relaxed) {
        vec![json!({"type": "ack", "seq": seq}).to_string()]
    } else {
        Vec::new()
    }
}

/// Cuts and appends, as the wire says; `false` when a delta begins beyond what is held.
fn follows(taken: &mut Taken, frame: &Value) -> bool {
    let part = || frame["partId"].as_str().expect("a part").to_owned();
    match frame["type"].as_str() {
        Some("part_delta") => {
            let offset = frame["offset"].as_u64().expect("an offset") as usize;
            let held = taken.parts.entry(part()).or_default();
            let mut units: Vec<u16> = held.encode_utf16().collect();
            if offset > units.len() {
                return false;
            }
            units.truncate(offset);
            units.extend(frame["text"].as_str().expect("text").encode_utf16());
            *held = String::from_utf16(&units).expect("no pair is split");
        }
        Some("part_done") => {
            let held = taken.parts.remove(&part()).unwrap_or_default();
            let text = frame["text"].as_str().unwrap_or(&held);
            assert_eq!(frame["length"].as_u64(), Some(text.encode_utf16().count() as u64));
        }
        _ => {}
    }
    true
}

pub fn has_token(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

async fn credentials(State(session): State<Session>, headers: HeaderMap) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    session.inner.credential_calls.fetch_add(1, Ordering::Relaxed);
    let refuse_with = session.inner.refuse_credentials_with.load(Ordering::Relaxed);
    if refuse_with != 0 {
        return StatusCode::from_u16(refuse_with).expect("a status").into_response();
    }
    // Those who ask meanwhile find it on its way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let end = sandbox_bridge::clock::now().plus(session.inner.credential_life.load(Ordering::Relaxed)).0;
    Json(json!({"username": "x-access-token", "password": GIT_PASSWORD, "expires_at_epoch_ms": end})).into_response()
}

async fn output(
    State(session): State<Session>,
    Path((_, output)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(headers["content-length"], body.len().to_string().as_str(), "the length is announced");
    let refuse_with = session.inner.refuse_outputs_with.load(Ordering::Relaxed);
    if refuse_with != 0 {
        return StatusCode::from_u16(refuse_with).expect("a status").into_response();
    }
    session.taken().outputs.insert(output.clone(), body);
    (StatusCode::CREATED, Json(json!({"outputRef": output}))).into_response()
}

async fn diff(State(session): State<Session>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let refuse_with = session.inner.refuse_diffs_with.load(Ordering::Relaxed);
    if refuse_with != 0 {
        let status = StatusCode::from_u16(refuse_with).expect("a status");
        session.taken().refused_diffs += 1;
        return (status, Json(json!({"error": "No diffs today"}))).into_response();
    }
    let bundle: DiffBundle = serde_json::from_value(body.clone()).expect("a bundle of the wire");
    bundle.check().expect("within the limits");
    session.taken().diffs.push(body);
    Json(json!({"revisionId": "r"})).into_response()
}

async fn diff_failure(State(session): State<Session>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    session.taken().diff_failures.push(body["error"].as_str().expect("a sentence").to_owned());
    Json(json!({})).into_response()
}

async fn attachment(
    State(session): State<Session>,
    Path((_, attachment)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match session.taken().attachments.get(&attachment) {
        Some(bytes) => bytes.clone().into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "Attachment not found"}))).into_response(),
    }
}

async fn skills(State(session): State<Session>, headers: HeaderMap, uri: http::Uri) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut taken = session.taken();
    taken.skill_queries.push(uri.query().unwrap_or_default().to_owned());
    let page = if taken.skills.len() > 1 { taken.skills.pop_front() } else { taken.skills.front().cloned() };
    let (status, body) =
        page.unwrap_or((200, json!({"schemaVersion": 1, "manifestSha256": "none", "skills": [], "nextCursor": null})));
    (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response()
}

async fn tunnel_urls(State(session): State<Session>, headers: HeaderMap) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let urls = session.inner.tunnel_urls.lock().expect("no panic").clone();
    Json(json!({"tunnelUrls": urls})).into_response()
}

async fn boot_error(
    State(session): State<Session>,
    Path(sandbox): Path<String>,
    headers: HeaderMap,
    Json(mut body): Json<Value>,
) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    body["sandbox"] = sandbox.into();
    session.taken().boot_errors.push(body);
    Json(json!({})).into_response()
}

async fn pull_request(State(session): State<Session>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let key = headers["idempotency-key"].to_str().expect("text").to_owned();
    let head = body["headBranch"].as_str().unwrap_or("open-inspect/generated").to_owned();
    session.taken().pull_requests.push((key, body));
    let next = session.inner.pull_request_answers.lock().expect("no test panicked in it").pop_front();
    let (status, answer) = next.unwrap_or_else(|| {
        (
            200,
            json!({"prNumber": 7, "prUrl": "http://forge/acme/api/pull/7", "state": "open", "headBranch": head,
                "baseBranch": "main", "updated": false}),
        )
    });
    (StatusCode::from_u16(status).expect("a status"), Json(answer)).into_response()
}

async fn terminal(State(session): State<Session>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let taker = session.inner.terminals.lock().expect("no test panicked in it").clone();
    match taker {
        Some(taker) => upgrade.on_upgrade(async move |socket| drop(taker.send((headers, socket)))),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
