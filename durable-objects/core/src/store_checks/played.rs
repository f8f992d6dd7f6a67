//! A session on a store, with everything around it played: clock, randomness, sockets, jobs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oi_protocol::sandbox_socket::SandboxFrame;
use oi_protocol::session_state::SpawnSource;
use oi_protocol::{SessionId, UnixMillis};
use serde_json::{Value as Json, json};

use super::{Checked, Failed, Store};
use crate::call::{CallEnvelope, CallReply, InitRepository, InitSession, Person, Principal, SessionCall};
use crate::clock::{Config, Cx};
use crate::core::SessionCore;
use crate::input::{Input, ReplyId, SandboxUpgrade, SocketId, UpgradeAnswer};
use crate::job::{ClaimedJob, Job, JobResult, StartSandbox};
use crate::sql::{Row, Sql, SqlError, Value};
use crate::token::sandbox_token;

const KEY: [u8; 32] = [9; 32];

/// How a statement goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    Fail,
    Panic,
}

/// A store whose `left`-th statement from now breaks.
struct Breaking<'s> {
    sql: &'s dyn Sql,
    left: &'s std::cell::Cell<Option<u64>>,
    how: Break,
}

impl Sql for Breaking<'_> {
    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, SqlError> {
        match self.left.get() {
            Some(1) => {
                self.left.set(None);
                match self.how {
                    Break::Fail => return Err(SqlError("planned".to_owned())),
                    // No panic hook runs, so that a test's output stays readable.
                    Break::Panic => std::panic::resume_unwind(Box::new("planned")),
                }
            }
            Some(left) => self.left.set(Some(left - 1)),
            None => {}
        }
        self.sql.run(sql, params)
    }
}

/// A session and what surrounds it.
pub(super) struct Played<'s> {
    store: &'s dyn Store,
    core: Option<SessionCore>,
    pub now: UnixMillis,
    pub config: Config,
    seed: u64,
    /// Live sockets and their attachments.
    sockets: BTreeMap<SocketId, Option<String>>,
    next_socket: u64,
    /// Frames to each socket, batches taken apart.
    inboxes: BTreeMap<SocketId, VecDeque<Json>>,
    replies: BTreeMap<ReplyId, CallReply>,
    pub jobs: Vec<ClaimedJob>,
    /// The statement that breaks next.
    plan: Option<(u64, Break)>,
    next_frame: i64,
}

/// As frames and answers are.
fn parse(text: &str) -> Checked<Json> {
    serde_json::from_str(text).map_err(|error| Failed(format!("{error} in {text}")))
}

pub(super) fn tool(message: &str, call: &str, status: &str) -> Json {
    json!({"type": "tool_call", "messageId": message, "tool": "bash", "args": {"command": "ls \u{1F980}"},
        "callId": call, "status": status, "output": "one\u{0}two", "sandboxId": "s", "timestamp": 1.5})
}

pub(super) fn delta(message: &str, part: &str, offset: usize, text: &str) -> Json {
    json!({"type": "part_delta", "messageId": message, "partId": part, "kind": "text", "offset": offset, "text": text})
}

pub(super) fn complete(message: &str) -> Json {
    json!({"type": "execution_complete", "messageId": message, "success": true, "sandboxId": "s", "timestamp": 2.0})
}

impl<'s> Played<'s> {
    /// An object that no session was created in.
    pub fn blank(store: &'s dyn Store) -> Self {
        Self {
            store,
            core: None,
            now: UnixMillis(1_800_000_000_000),
            config: Config::with_key(KEY.to_vec()),
            seed: 1,
            sockets: BTreeMap::new(),
            next_socket: 0,
            inboxes: BTreeMap::new(),
            replies: BTreeMap::new(),
            jobs: Vec::new(),
            plan: None,
            next_frame: 1,
        }
    }

    /// A session whose sandbox is asked for.
    pub fn created(store: &'s dyn Store) -> Checked<Self> {
        let mut played = Self::blank(store);
        let reply = played.call(SessionCall::Init(Box::new(InitSession {
            session_id: SessionId::from_bytes([0x51; 16]),
            title: Some("A title \u{1F980}".to_owned()),
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
            owner: person(),
            spawn_source: SpawnSource::User,
            warm: true,
            child_of: None,
            fork_of: None,
        })))?;
        if reply.status == 200 { Ok(played) } else { Err(Failed(format!("not created: {}", reply.body))) }
    }

    /// The same with its bridge connected and a page that follows: page, bridge.
    pub fn connected(store: &'s dyn Store) -> Checked<(Self, SocketId, SocketId)> {
        let mut played = Self::created(store)?;
        let start = played.take_start()?;
        let token = sandbox_token(&KEY, &start.1.session_id, start.1.generation, &start.1.nonce);
        played.report(&start.0, JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None })?;
        let bridge = played.new_socket();
        let upgrade = SandboxUpgrade { token, sandbox_id: start.1.sandbox_id, dialect: 2 };
        played.feed(Input::SandboxUpgrade { socket: bridge, upgrade })?;
        let page = played.subscribe(None)?.0;
        played.frame(bridge, json!({"type": "ready", "sandboxId": "s", "timestamp": 1.0, "runtimeVersion": "v1"}))?;
        Ok((played, page, bridge))
    }

    pub fn take_start(&mut self) -> Checked<(ClaimedJob, StartSandbox)> {
        let claimed = self.take_job("start_sandbox")?;
        match claimed.job.clone() {
            Job::StartSandbox(start) => Ok((claimed, start)),
            other => Err(Failed(format!("another job: {other:?}"))),
        }
    }

    pub fn take_job(&mut self, kind: &str) -> Checked<ClaimedJob> {
        let found = self.jobs.iter().position(|claimed| claimed.job.kind() == kind);
        found.map(|index| self.jobs.remove(index)).ok_or_else(|| Failed(format!("no job {kind} is claimed")))
    }

    /// The next statements break at the `n`-th, 1 being the first.
    pub fn break_at(&mut self, n: u64, how: Break) {
        self.plan = Some((n, how));
    }

    /// Whether the plan has not struck; forgets it.
    pub fn disarm(&mut self) -> bool {
        self.plan.take().is_some()
    }

    fn transact(&mut self, input: Input<'_>) -> Checked {
        let mut core = self.core.take().unwrap_or_default();
        let mut input = Some(input);
        let mut outputs = None;
        let (now, config, seed) = (self.now, &self.config, &mut self.seed);
        let left = std::cell::Cell::new(self.plan.map(|(n, _)| n));
        let how = self.plan.map_or(Break::Fail, |(_, how)| how);
        let result = self.store.transact(&mut |sql| {
            let input = input.take().ok_or("an input is taken once")?;
            let mut rng = |bytes: &mut [u8]| {
                for byte in bytes {
                    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *byte = (*seed >> 56) as u8;
                }
            };
            let mut cx = Cx { now, rng: &mut rng, config };
            let breaking = Breaking { sql, left: &left, how };
            outputs = Some(core.commit(&breaking, &mut cx, input).map_err(|fault| fault.to_string())?);
            Ok(())
        });
        self.plan = left.get().map(|left| (left, how));
        result.map_err(Failed)?;
        let outputs = outputs.ok_or_else(|| Failed("the transaction did not run".to_owned()))?;
        self.core = Some(core);
        if let Some(UpgradeAnswer::Reject { status, body }) = &outputs.upgrade {
            return Err(Failed(format!("the upgrade was refused with {status} {body}")));
        }
        for (id, text) in outputs.attachments {
            self.sockets.insert(id, Some(text));
        }
        for frame in outputs.frames {
            let frame_json = parse(&frame.text)?;
            let messages = match frame_json["type"].as_str() {
                Some("batch") => frame_json["messages"].as_array().cloned().unwrap_or_default(),
                _ => vec![frame_json],
            };
            for to in frame.to {
                self.inboxes.entry(to).or_default().extend(messages.iter().cloned());
            }
        }
        for (id, ..) in outputs.closes {
            self.sockets.remove(&id);
        }
        self.replies.extend(outputs.replies);
        self.jobs.extend(outputs.jobs);
        Ok(())
    }

    /// Takes one input, by a core that is built when there is none.
    pub fn feed(&mut self, input: Input<'_>) -> Checked {
        if self.core.is_none() {
            let sockets = self.sockets.iter().map(|(id, attachment)| (*id, attachment.clone())).collect();
            self.transact(Input::Woken { sockets })?;
        }
        self.transact(input)
    }

    /// The object leaves memory; its sockets sleep.
    pub fn evict(&mut self) {
        self.core = None;
    }

    /// The object is built again.
    pub fn wake(&mut self) -> Checked {
        self.evict();
        let sockets = self.sockets.iter().map(|(id, attachment)| (*id, attachment.clone())).collect();
        self.transact(Input::Woken { sockets })
    }

    /// Ids that are in use.
    pub fn sockets(&self) -> BTreeSet<SocketId> {
        self.sockets.keys().copied().collect()
    }

    fn new_socket(&mut self) -> SocketId {
        self.next_socket += 1;
        let id = SocketId(self.next_socket);
        self.sockets.insert(id, None);
        id
    }

    /// A call that is answered at once.
    pub fn call(&mut self, call: SessionCall) -> Checked<CallReply> {
        if let Some(core) = &mut self.core
            && let Some(reply) = core.read(self.store.sql(), self.now, &call)?
        {
            return Ok(reply);
        }
        let envelope = Box::new(CallEnvelope { principal: Principal::User { user_id: person().user_id }, call });
        self.feed(Input::Call { reply: ReplyId(1), envelope })?;
        self.replies.remove(&ReplyId(1)).ok_or_else(|| Failed("the call was not answered".to_owned()))
    }

    pub fn ask(&mut self, call: SessionCall) -> Checked<Json> {
        let reply = self.call(call)?;
        parse(&reply.body)
    }

    /// A page of dialect 2, and its `subscribed`.
    pub fn subscribe(&mut self, after_revision: Option<i64>) -> Checked<(SocketId, Json)> {
        let minted = self.ask(SessionCall::MintClientToken { person: Box::new(person()) })?;
        let socket = self.new_socket();
        self.feed(Input::ClientOpened { socket })?;
        let mut frame = json!({"type": "subscribe", "token": minted["token"], "clientId": "page", "dialect": 2});
        if let Some(after) = after_revision {
            frame["afterRevision"] = json!(after);
        }
        self.say(socket, &frame)?;
        let subscribed = self.take(socket, "subscribed")?;
        Ok((socket, subscribed))
    }

    pub fn say(&mut self, socket: SocketId, frame: &Json) -> Checked {
        self.feed(Input::ClientFrame { socket, text: &frame.to_string() })
    }

    /// The newest frame of a kind; the others are dropped.
    pub fn take(&mut self, socket: SocketId, kind: &str) -> Checked<Json> {
        let frames = self.inboxes.remove(&socket).unwrap_or_default();
        let found = frames.iter().rev().find(|frame| frame["type"] == kind).cloned();
        found.ok_or_else(|| Failed(format!("no {kind} among {frames:?}")))
    }

    /// Queues a prompt and gives its id.
    pub fn prompt(&mut self, page: SocketId, content: &str) -> Checked<String> {
        self.say(page, &json!({"type": "prompt", "clientRequestId": format!("r{}", self.seed), "content": content}))?;
        let queued = self.take(page, "prompt_queued")?;
        Ok(queued["messageId"].as_str().unwrap_or_default().to_owned())
    }

    /// The bridge's next frame.
    pub fn frame(&mut self, bridge: SocketId, event: Json) -> Checked {
        self.frames(bridge, vec![event])
    }

    /// Frames that arrive together.
    pub fn frames(&mut self, bridge: SocketId, events: Vec<Json>) -> Checked {
        let mut frames = Vec::new();
        for mut event in events {
            event["seq"] = json!(self.next_frame);
            self.next_frame += 1;
            let text = event.to_string();
            frames.push(SandboxFrame::parse(&text).map_err(|_| Failed(format!("no frame: {text}")))?);
        }
        self.feed(Input::SandboxEvents { socket: bridge, frames })
    }

    /// The number of the bridge's next frame.
    pub const fn frames_sent(&self) -> i64 {
        self.next_frame
    }

    /// Frames from this number on were not taken: the bridge sends them again.
    pub const fn rewind(&mut self, next_frame: i64) {
        self.next_frame = next_frame;
    }

    pub fn report(&mut self, claimed: &ClaimedJob, result: JobResult) -> Checked {
        self.feed(Input::JobResult { job: claimed.id, attempt: claimed.attempt, result })
    }
}

fn person() -> Person {
    Person {
        user_id: "user-Ada".to_owned(),
        name: Some("Ada \u{1F469}\u{200D}\u{1F4BB}".to_owned()),
        scm_login: Some("ada".to_owned()),
        scm_user_id: Some("1001".to_owned()),
        ..Person::default()
    }
}
