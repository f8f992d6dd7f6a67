//! A session under test, in words of the product.

use std::collections::BTreeSet;

use oi_protocol::session_state::{PromptSource, SpawnSource};
use oi_protocol::{MessageId, SessionId};
use oi_session::access::SandboxAccess;
use oi_session::call::{CallReply, EnqueuePrompt, InitRepository, InitSession, Person, Principal, SessionCall};
use oi_session::input::{ReplyId, SocketId};
use oi_session::job::{ClaimedJob, Job, JobResult, StartFrom, StartSandbox, StopSandbox};
use oi_session::sql::{Row, Sql, Value as SqlValue};
use oi_session::token::sandbox_token;
use serde_json::{Value, json};

use super::host::{Host, KEY};
use super::probe::Dump;

/// A sandbox that the backend was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub generation: i64,
    pub token: String,
}

impl Sandbox {
    pub fn of(start: &StartSandbox) -> Self {
        Self {
            id: start.sandbox_id.clone(),
            generation: start.generation,
            token: sandbox_token(&KEY, &start.session_id, start.generation, &start.nonce),
        }
    }
}

pub struct Session {
    pub host: Host,
    /// Sandboxes that were asked for, in order.
    pub started: Vec<Sandbox>,
    pub stopped: Vec<StopSandbox>,
    /// What each start began with.
    pub begun: Vec<StartFrom>,
    /// Files that the backend keeps.
    pub images: BTreeSet<String>,
    /// How the backend says that its sandboxes are reached.
    pub access: Option<Box<SandboxAccess>>,
}

pub fn session_id() -> SessionId {
    SessionId::from_bytes([0x51; 16])
}

pub fn person(name: &str) -> Person {
    Person {
        user_id: format!("user-{name}"),
        name: Some(name.to_owned()),
        scm_login: Some(name.to_lowercase()),
        scm_user_id: Some("1001".to_owned()),
        ..Person::default()
    }
}

pub fn init(warm: bool) -> InitSession {
    InitSession {
        session_id: session_id(),
        title: None,
        repositories: vec![InitRepository {
            repo_owner: "acme".to_owned(),
            repo_name: "sample".to_owned(),
            repo_id: 7,
            base_branch: "main".to_owned(),
            base_sha: None,
        }],
        environment: None,
        sandbox_timeout_ms: None,
        model: "demo/scripted".to_owned(),
        reasoning_effort: None,
        owner: person("Ada"),
        spawn_source: SpawnSource::User,
        warm,
        child_of: None,
        fork_of: None,
    }
}

pub fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("frames and answers are JSON")
}

/// Messages of a frame, with batches taken apart.
pub fn messages(text: &str) -> Vec<Value> {
    let frame = value(text);
    match frame["type"].as_str() {
        Some("batch") => frame["messages"].as_array().cloned().unwrap_or_default(),
        _ => vec![frame],
    }
}

impl Session {
    /// An object that no session was created in.
    pub fn blank(seed: u64) -> Self {
        Self {
            host: Host::new(seed),
            started: Vec::new(),
            stopped: Vec::new(),
            begun: Vec::new(),
            images: BTreeSet::new(),
            access: None,
        }
    }

    /// A session without a sandbox.
    pub fn new() -> Self {
        let mut session = Self::blank(1);
        let reply = session.call(SessionCall::Init(Box::new(init(false))));
        assert_eq!(reply.status, 200, "{}", reply.body);
        session
    }

    pub fn call(&mut self, call: SessionCall) -> CallReply {
        self.call_as(Principal::User { user_id: "user-Ada".to_owned() }, call)
    }

    pub fn call_as(&mut self, principal: Principal, call: SessionCall) -> CallReply {
        let reply = self.begin(principal, call);
        self.answer(reply).expect("the call is answered at once")
    }

    pub fn begin(&mut self, principal: Principal, call: SessionCall) -> ReplyId {
        self.host.call(principal, call).expect("no fault is planned")
    }

    pub fn answer(&mut self, reply: ReplyId) -> Option<CallReply> {
        self.host.replies.remove(&reply)
    }

    pub fn token(&mut self, name: &str) -> String {
        let reply = self.call(SessionCall::MintClientToken { person: Box::new(person(name)) });
        value(&reply.body)["token"].as_str().expect("a token").to_owned()
    }

    /// A subscribed page; its frames so far are taken.
    pub fn page(&mut self, name: &str, dialect: u32) -> SocketId {
        let (socket, _) = self.subscribe(name, dialect, None);
        socket
    }

    /// A new page and the `subscribed` that it gets.
    pub fn subscribe(&mut self, name: &str, dialect: u32, after: Option<i64>) -> (SocketId, Value) {
        let token = self.token(name);
        let socket = self.host.open_client().expect("no fault is planned");
        let mut frame = json!({"type": "subscribe", "token": token, "clientId": "page"});
        if dialect == 2 {
            frame["dialect"] = json!(2);
        }
        if let Some(after) = after {
            frame["afterRevision"] = json!(after);
        }
        self.say(socket, &frame);
        let subscribed = self.take(socket).into_iter().find(|frame| frame["type"] == "subscribed");
        (socket, subscribed.expect("the page is subscribed"))
    }

    pub fn say(&mut self, socket: SocketId, frame: &Value) {
        self.host.client_sends(socket, &frame.to_string());
    }

    /// Frames that came since the last time.
    pub fn take(&mut self, socket: SocketId) -> Vec<Value> {
        let inbox = self.host.sockets.get_mut(&socket).map(|socket| std::mem::take(&mut socket.inbox));
        inbox.unwrap_or_default().iter().flat_map(|text| messages(text)).collect()
    }

    pub fn take_of(&mut self, socket: SocketId, kind: &str) -> Vec<Value> {
        self.take(socket).into_iter().filter(|frame| frame["type"] == kind).collect()
    }

    pub fn closed(&self, socket: SocketId) -> Option<(u16, String)> {
        self.host.sockets.get(&socket).and_then(|socket| socket.closed.clone())
    }

    /// Queues a prompt by the socket and gives its answer.
    pub fn prompt(&mut self, socket: SocketId, request: &str, content: &str) -> Value {
        let _ = self.take(socket);
        self.say(socket, &json!({"type": "prompt", "clientRequestId": request, "content": content}));
        let frames = self.take(socket);
        let answer = frames.into_iter().find(|f| f["clientRequestId"] == request);
        answer.expect("a prompt is answered")
    }

    /// The same, for one that is accepted.
    pub fn queue(&mut self, socket: SocketId, request: &str, content: &str) -> MessageId {
        let answer = self.prompt(socket, request, content);
        assert_eq!(answer["type"], "prompt_queued", "{answer}");
        MessageId::parse(answer["messageId"].as_str().expect("an id")).expect("a minted id")
    }

    pub fn rest_prompt(&mut self, content: &str, key: Option<&str>) -> CallReply {
        self.call(SessionCall::Prompt(Box::new(EnqueuePrompt {
            author: person("Grace"),
            content: content.to_owned(),
            source: PromptSource::Slack,
            model: None,
            reasoning_effort: None,
            attachments: Vec::new(),
            idempotency_key: key.map(str::to_owned),
            callback_context: None,
        })))
    }

    /// Takes the claimed jobs of a kind.
    pub fn take_jobs(&mut self, kind: &str) -> Vec<ClaimedJob> {
        let (wanted, rest): (Vec<_>, Vec<_>) = self.host.jobs.drain(..).partition(|claimed| claimed.job.kind() == kind);
        self.host.jobs.extend(rest);
        wanted
    }

    /// Runs jobs well until none is claimed: the backend starts and stops, D1 takes all. The forge's wait.
    pub fn run_jobs(&mut self) {
        let mut waiting = Vec::new();
        while let Some(claimed) = self.host.jobs.pop_front() {
            let result = match &claimed.job {
                Job::ReportUsage(_) => JobResult::Standing { person: None, deployment: None },
                Job::StartSandbox(start) => {
                    self.started.push(Sandbox::of(start));
                    self.begun.push(start.from.clone());
                    let provider_object_id = format!("box-{}", start.sandbox_id);
                    JobResult::SandboxStarted { provider_object_id, access: self.access.clone() }
                }
                Job::StopSandbox(stop) => {
                    self.stopped.push(stop.clone());
                    JobResult::Done
                }
                Job::TakeSnapshot(take) => {
                    let image_id = format!("image-{}", take.number);
                    self.images.insert(image_id.clone());
                    JobResult::SnapshotTaken { image_id }
                }
                Job::DeleteSnapshot(delete) => {
                    self.images.remove(&delete.image_id);
                    JobResult::Done
                }
                Job::IndexSession(_)
                | Job::IndexTurn(_)
                | Job::BotCallback(_)
                | Job::TellParent(_)
                | Job::OfferResult(_)
                | Job::RecordPullRequest(_)
                | Job::CollectStorage(_) => JobResult::Done,
                Job::OpenPullRequest(_)
                | Job::RefreshPullRequests(_)
                | Job::ArchiveEvents(_)
                | Job::ReadArchive(_)
                | Job::CopyTimeline(_) => {
                    waiting.push(claimed);
                    continue;
                }
            };
            self.host.report(&claimed, result);
            if self.host.alarm.is_some_and(|alarm| alarm <= self.host.now) {
                self.host.fire_alarm();
            }
        }
        self.host.jobs.extend(waiting);
    }

    /// The newest sandbox, once the backend has started it.
    pub fn sandbox(&mut self) -> Sandbox {
        self.run_jobs();
        self.started.last().cloned().expect("a sandbox was asked for")
    }

    /// The newest sandbox's bridge connects.
    pub fn connect(&mut self, dialect: u32) -> SocketId {
        let sandbox = self.sandbox();
        self.connect_as(&sandbox, dialect).expect("the newest sandbox may connect")
    }

    pub fn connect_as(&mut self, sandbox: &Sandbox, dialect: u32) -> Result<SocketId, (u16, String)> {
        self.host.upgrade(&sandbox.token, &sandbox.id, dialect)
    }

    /// A warmed session with its bridge of dialect 2 connected and ready (frame 1).
    pub fn with_bridge() -> (Self, SocketId, SocketId) {
        let mut session = Self::new();
        let page = session.page("Ada", 2);
        session.say(page, &json!({"type": "typing"}));
        let bridge = session.connect(2);
        session.frame(bridge, 1, ready());
        let _ = (session.take(page), session.take(bridge));
        (session, page, bridge)
    }

    /// The same with a prompt that runs and is accepted (frame 2).
    pub fn with_run() -> (Self, SocketId, SocketId, MessageId) {
        let (mut session, page, bridge) = Self::with_bridge();
        let id = session.queue(page, "first", "do it");
        session.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": id}));
        let _ = (session.take(page), session.take(bridge));
        (session, page, bridge, id)
    }

    /// A numbered frame of dialect 2.
    pub fn frame(&mut self, bridge: SocketId, seq: i64, mut event: Value) {
        event["seq"] = json!(seq);
        self.host.bridge_sends(bridge, &event.to_string());
    }

    /// A frame of dialect 1.
    pub fn plain(&mut self, bridge: SocketId, event: &Value) {
        self.host.bridge_sends(bridge, &event.to_string());
    }

    pub fn rows(&self, sql: &str) -> Vec<Row> {
        self.host.sql.inner.run(sql, &[]).expect("a test's own query is right")
    }

    pub fn count(&self, sql: &str) -> i64 {
        match self.rows(sql).pop().and_then(|mut row| row.pop()) {
            Some(SqlValue::Int(count)) => count,
            other => panic!("not a count: {other:?}"),
        }
    }

    /// Status and outcome of a prompt.
    pub fn state(&self, id: &MessageId) -> (String, Option<String>) {
        let rows = self.rows(&format!("SELECT status, outcome FROM messages WHERE id = '{id}'"));
        match rows.into_iter().next().as_deref() {
            Some([SqlValue::Text(status), SqlValue::Text(outcome)]) => (status.clone(), Some(outcome.clone())),
            Some([SqlValue::Text(status), SqlValue::Null]) => (status.clone(), None),
            other => panic!("no such prompt: {other:?}"),
        }
    }

    pub fn outcome(&self, id: &MessageId) -> String {
        self.state(id).1.unwrap_or_else(|| "none".to_owned())
    }

    /// Bodies of the stored events of a type.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.rows(&format!("SELECT body FROM events WHERE type = '{kind}' ORDER BY seq"))
            .into_iter()
            .map(|row| match row.first() {
                Some(SqlValue::Text(body)) => value(body),
                other => panic!("no body: {other:?}"),
            })
            .collect()
    }

    pub fn sandbox_status(&self) -> String {
        match self.rows("SELECT status FROM sandbox").pop().and_then(|mut row| row.pop()) {
            Some(SqlValue::Text(status)) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    /// All that is stored, table by table.
    pub fn dump(&self) -> Dump {
        self.host.sql.dump()
    }
}

pub fn ready() -> Value {
    json!({"type": "ready", "sandboxId": "s", "timestamp": 1.0, "runtimeVersion": "v100-test"})
}

/// The same with where the work of the session's one repository started.
pub fn ready_at(sha: &str) -> Value {
    let mut event = ready();
    event["repositories"] = json!([{"position": 0, "repoOwner": "Acme", "repoName": "sample", "baseSha": sha}]);
    event
}

pub fn delta(id: &MessageId, part: &str, offset: usize, text: &str) -> Value {
    json!({"type": "part_delta", "messageId": id, "partId": part, "kind": "text", "offset": offset, "text": text})
}

pub fn done(id: &MessageId, part: &str, text: Option<&str>, length: usize) -> Value {
    let mut event = json!({"type": "part_done", "messageId": id, "partId": part, "kind": "text", "length": length});
    if let Some(text) = text {
        event["text"] = json!(text);
    }
    event
}

pub fn complete(id: &MessageId, success: bool) -> Value {
    let mut event =
        json!({"type": "execution_complete", "messageId": id, "success": success, "sandboxId": "s", "timestamp": 2.0});
    if !success {
        event["error"] = json!("Task was cancelled");
    }
    event
}

pub fn tool(id: &MessageId, call: &str, status: &str) -> Value {
    json!({"type": "tool_call", "messageId": id, "tool": "bash", "args": {"command": "ls"}, "callId": call,
        "status": status, "sandboxId": "s", "timestamp": 1.5})
}
