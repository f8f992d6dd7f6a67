//! One session and all that is around it, under a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oi_protocol::sandbox_socket::SandboxFrame;
use oi_protocol::session_state::SpawnSource;
use oi_protocol::{SessionId, UnixMillis};
use oi_session::call::{CallEnvelope, InitRepository, InitSession, Person, Principal, SessionCall};
use oi_session::clock::{Config, Cx};
use oi_session::core::{Fault, SessionCore, Streamed};
use oi_session::input::{Input, Outputs, ReplyId, SandboxUpgrade, SocketId, UpgradeAnswer};
use oi_session::job::{ClaimedJob, Job, JobResult};
use oi_session::sql::{Row, Sql, SqlError, Value as SqlValue};
use oi_session::sql_native::NativeSql;
use oi_session::token;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::{Value, json};

use crate::bridge::Sandbox;
use crate::client::{Client, text};

/// A bug of the host, planted to see whether the simulator finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// None.
    Nothing,
    /// Outputs of a commit that was rolled back are carried out.
    OutputsOfRolledBack,
    /// The core is kept after its commit was rolled back.
    CoreKeptAfterFault,
    /// The alarm never fires.
    NoAlarm,
    /// A sandbox's stop is never carried out, and said to be.
    StopsNothing,
}

/// SQL that fails at a chosen statement.
struct Failing<'a> {
    sql: &'a NativeSql,
    left: std::cell::Cell<Option<u32>>,
}

impl Sql for Failing<'_> {
    fn run(&self, sql: &str, params: &[SqlValue]) -> Result<Vec<Row>, SqlError> {
        match self.left.get() {
            Some(0) => return Err(SqlError("the storage refused".to_owned())),
            Some(left) => self.left.set(Some(left - 1)),
            None => {}
        }
        self.sql.run(sql, params)
    }
}

pub struct World {
    pub sql: NativeSql,
    core: Option<SessionCore>,
    pub now: i64,
    pub rng: StdRng,
    config: Config,
    session: SessionId,
    plant: Plant,
    /// Whether things still go wrong.
    pub faulty: bool,
    /// Live sockets and their attachments.
    attachments: BTreeMap<SocketId, Option<String>>,
    to_socket: BTreeMap<SocketId, VecDeque<Value>>,
    next_socket: u64,
    pub clients: Vec<Client>,
    pub sandboxes: Vec<Sandbox>,
    /// Attempts under way, with when their time ends.
    jobs: Vec<(ClaimedJob, i64)>,
    alarm: Option<i64>,
    tick_at: Option<i64>,
    indexed: i64,
    pulls: BTreeSet<String>,
    requests: u32,
    pub trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64, plant: Plant) -> Result<Self, String> {
        let mut world = Self {
            sql: NativeSql::in_memory().map_err(|error| error.to_string())?,
            core: Some(SessionCore::new()),
            now: 1_700_000_000_000,
            rng: StdRng::seed_from_u64(seed),
            config: Config::with_key(vec![7; 32]),
            session: SessionId::from_bytes([9; 16]),
            plant,
            faulty: false,
            attachments: BTreeMap::new(),
            to_socket: BTreeMap::new(),
            next_socket: 0,
            clients: vec![Client::default(), Client::default()],
            sandboxes: Vec::new(),
            jobs: Vec::new(),
            alarm: None,
            tick_at: None,
            indexed: 0,
            pulls: BTreeSet::new(),
            requests: 0,
            trace: Vec::new(),
        };
        let init = InitSession {
            session_id: world.session.clone(),
            title: None,
            repositories: vec![InitRepository {
                repo_owner: "acme".to_owned(),
                repo_name: "sample".to_owned(),
                repo_id: 1,
                base_branch: "main".to_owned(),
            }],
            model: "demo/scripted".to_owned(),
            reasoning_effort: None,
            owner: person(0),
            spawn_source: SpawnSource::User,
            warm: true,
        };
        world.call(Principal::Platform, SessionCall::Init(Box::new(init)))?;
        world.faulty = true;
        Ok(world)
    }

    fn note(&mut self, what: impl Into<String>) {
        if self.trace.len() < 4_000 {
            self.trace.push(what.into());
        }
    }

    /// One input as the host takes it. `None` when it was rolled back.
    fn feed(&mut self, input: Input<'_>) -> Result<Option<Outputs>, String> {
        let fails = self.faulty && self.rng.random_bool(0.01);
        let left = fails.then(|| self.rng.random_range(0..12));
        let Some(mut core) = self.core.take() else { return Err("no core".to_owned()) };
        let (mut random, now, config, planted) = (self.rng.next_u64(), self.now, self.config.clone(), self.plant);
        let mut fill = |bytes: &mut [u8]| {
            for byte in bytes {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (random >> 33) as u8;
            }
        };
        let mut kept = None;
        let committed = self.sql.transaction(|sql| {
            let failing = Failing { sql, left: std::cell::Cell::new(left) };
            let mut cx = Cx { now: UnixMillis(now), rng: &mut fill, config: &config };
            let outputs = core.commit(&failing, &mut cx, input)?;
            if fails && planted != Plant::Nothing {
                kept = Some(outputs);
                return Err(Fault::from(SqlError("rolled back at the end".to_owned())));
            }
            Ok(outputs)
        });
        match committed {
            Ok(outputs) => {
                self.core = Some(core);
                Ok(Some(outputs))
            }
            Err(fault) if fails => {
                self.note(format!("fault: {fault}"));
                if planted == Plant::CoreKeptAfterFault {
                    self.core = Some(core);
                    return Ok(None);
                }
                self.core = Some(SessionCore::new());
                if planted == Plant::OutputsOfRolledBack {
                    if let Some(outputs) = kept {
                        self.carry_out(outputs);
                    }
                }
                self.wake()?;
                Ok(None)
            }
            Err(fault) => Err(format!("a fault that nobody planted: {fault}")),
        }
    }

    fn wake(&mut self) -> Result<(), String> {
        let was_faulty = std::mem::replace(&mut self.faulty, false);
        let sockets = self.attachments.iter().map(|(id, text)| (*id, text.clone())).collect();
        let outputs = self.feed(Input::Woken { sockets })?;
        if let Some(outputs) = outputs {
            self.carry_out(outputs);
        }
        self.faulty = was_faulty;
        Ok(())
    }

    fn carry_out(&mut self, outputs: Outputs) {
        for (socket, attachment) in outputs.attachments {
            if self.attachments.contains_key(&socket) {
                self.attachments.insert(socket, Some(attachment));
            }
        }
        for frame in outputs.frames {
            let value: Value = serde_json::from_str(&frame.text).unwrap_or(Value::Null);
            for socket in frame.to {
                if let Some(queue) = self.to_socket.get_mut(&socket) {
                    queue.push_back(value.clone());
                }
            }
        }
        for (socket, ..) in outputs.closes {
            self.lose(socket);
        }
        for claimed in outputs.jobs {
            let ends = self.now + claimed.job.attempt_deadline_ms();
            self.jobs.push((claimed, ends));
        }
        if let Some(at) = outputs.alarm {
            self.alarm = Some(self.alarm.map_or(at.0, |armed| armed.min(at.0)));
        }
        if let Some(after) = outputs.tick_in_ms {
            self.tick_at.get_or_insert(self.now + after);
        }
    }

    /// A socket is gone on both sides, with what was on its way.
    fn lose(&mut self, socket: SocketId) {
        self.attachments.remove(&socket);
        self.to_socket.remove(&socket);
        for client in &mut self.clients {
            if client.socket == Some(socket) {
                client.disconnect();
            }
        }
        for sandbox in &mut self.sandboxes {
            if sandbox.socket == Some(socket) {
                sandbox.disconnect();
            }
        }
    }

    fn input(&mut self, input: Input<'_>) -> Result<(), String> {
        if let Some(outputs) = self.feed(input)? {
            self.carry_out(outputs);
        }
        Ok(())
    }

    fn call(&mut self, principal: Principal, call: SessionCall) -> Result<Option<Value>, String> {
        let reply = ReplyId(1);
        let envelope = Box::new(CallEnvelope { principal, call });
        let Some(outputs) = self.feed(Input::Call { reply, envelope })? else { return Ok(None) };
        let answer = outputs.replies.first().map(|(_, r)| serde_json::from_str(&r.body).unwrap_or(Value::Null));
        self.carry_out(outputs);
        Ok(answer)
    }

    fn open_socket(&mut self) -> SocketId {
        self.next_socket += 1;
        SocketId(self.next_socket)
    }

    fn connect_client(&mut self, index: usize) -> Result<(), String> {
        let mint = SessionCall::MintClientToken { person: Box::new(person(index)) };
        let Some(minted) = self.call(Principal::Platform, mint)? else { return Ok(()) };
        let socket = self.open_socket();
        self.attachments.insert(socket, None);
        self.to_socket.insert(socket, VecDeque::new());
        self.clients[index].disconnect();
        self.clients[index].socket = Some(socket);
        self.input(Input::ClientOpened { socket })?;
        let mut frame = json!({"type": "subscribe", "token": minted["token"], "clientId": "sim", "dialect": 2});
        if self.clients[index].revision > 0 {
            frame["afterRevision"] = json!(self.clients[index].revision);
        }
        if self.clients[index].socket == Some(socket) {
            self.input(Input::ClientFrame { socket, text: &frame.to_string() })?;
        }
        Ok(())
    }

    fn connect_bridge(&mut self, index: usize) -> Result<(), String> {
        let socket = self.open_socket();
        let sandbox = &self.sandboxes[index];
        let upgrade =
            SandboxUpgrade { token: sandbox.token.clone(), sandbox_id: sandbox.sandbox_id.clone(), dialect: 2 };
        let Some(outputs) = self.feed(Input::SandboxUpgrade { socket, upgrade })? else { return Ok(()) };
        match &outputs.upgrade {
            Some(UpgradeAnswer::Accept) => {
                let newest = self.sandboxes.iter().map(|s| s.generation).max().unwrap_or(0);
                if self.sandboxes[index].generation != newest {
                    return Err("a sandbox of an old generation was let in".to_owned());
                }
                self.attachments.insert(socket, None);
                self.to_socket.insert(socket, VecDeque::new());
                self.sandboxes[index].disconnect();
                self.sandboxes[index].socket = Some(socket);
            }
            Some(UpgradeAnswer::Reject { .. }) => self.sandboxes[index].locked_out = true,
            None => return Err("an upgrade got no answer".to_owned()),
        }
        self.carry_out(outputs);
        Ok(())
    }

    fn run_job(&mut self, index: usize) -> Result<(), String> {
        let (claimed, ends) = self.jobs.swap_remove(index);
        if self.now >= ends {
            // The host has cut it off.
            return Ok(());
        }
        if claimed.attempt > claimed.job.attempt_budget() {
            return Err(format!("attempt {} of {}", claimed.attempt, claimed.job.kind()));
        }
        let fate = if self.faulty { self.rng.random_range(0..10) } else { 9 };
        if fate == 0 {
            self.note(format!("job {} never began", claimed.job.kind()));
            return Ok(());
        }
        let result = if fate == 1 {
            JobResult::Failed { error: "the vendor is ill".to_owned(), transient: true }
        } else {
            self.effect(&claimed)
        };
        if fate == 2 {
            self.note(format!("the result of {} was lost", claimed.job.kind()));
            return Ok(());
        }
        let times = if fate == 3 { 2 } else { 1 };
        for _ in 0..times {
            self.input(Input::JobResult { job: claimed.id, attempt: claimed.attempt, result: result.clone() })?;
        }
        Ok(())
    }

    fn effect(&mut self, claimed: &ClaimedJob) -> JobResult {
        match &claimed.job {
            Job::IndexSession(index) => {
                self.indexed = self.indexed.max(index.counter);
                JobResult::Done
            }
            Job::StartSandbox(start) => {
                if !self.sandboxes.iter().any(|s| s.sandbox_id == start.sandbox_id) {
                    let key = &self.config.sandbox_token_key;
                    let token = token::sandbox_token(key, &self.session, start.generation, &start.nonce);
                    self.sandboxes.push(Sandbox::new(start.sandbox_id.clone(), start.generation, token));
                }
                JobResult::SandboxStarted { provider_object_id: start.sandbox_id.clone() }
            }
            Job::StopSandbox(stop) => {
                if self.plant != Plant::StopsNothing {
                    let gone: Vec<SocketId> = self
                        .sandboxes
                        .iter_mut()
                        .filter(|s| s.sandbox_id == stop.sandbox_id)
                        .filter_map(|s| {
                            s.stopped = true;
                            s.socket
                        })
                        .collect();
                    for socket in gone {
                        self.lose(socket);
                    }
                }
                JobResult::Done
            }
            Job::OpenPullRequest(open) => {
                let updated = !self.pulls.insert(open.head.clone());
                JobResult::PullRequestOpened {
                    number: 1,
                    url: "https://forge.example/1".to_owned(),
                    state: "open".to_owned(),
                    head: open.head.clone(),
                    base: open.base.clone(),
                    title: open.title.clone(),
                    updated,
                }
            }
        }
    }

    /// Delivers one frame from the session.
    fn deliver(&mut self, socket: SocketId) -> Result<(), String> {
        let Some(frame) = self.to_socket.get_mut(&socket).and_then(VecDeque::pop_front) else { return Ok(()) };
        if std::env::var_os("OI_SIM_SEED").is_some() {
            self.trace.push(format!("-> {socket:?} {frame}"));
        }
        if let Some(client) = self.clients.iter_mut().find(|c| c.socket == Some(socket)) {
            return client.take(&frame);
        }
        if let Some(sandbox) = self.sandboxes.iter_mut().find(|s| s.socket == Some(socket)) {
            sandbox.take(&frame, &mut self.rng);
        }
        Ok(())
    }

    /// Delivers one frame of a bridge to the session, sometimes twice.
    fn receive(&mut self, index: usize) -> Result<(), String> {
        let (Some(socket), Some(frame)) = (self.sandboxes[index].socket, self.sandboxes[index].outgoing.pop_front())
        else {
            return Ok(());
        };
        let times = if self.faulty && self.rng.random_bool(0.05) { 2 } else { 1 };
        if std::env::var_os("OI_SIM_SEED").is_some() {
            self.trace.push(format!("<- {socket:?} x{times} {frame}"));
        }
        for _ in 0..times {
            let frame = SandboxFrame::parse(&frame.to_string()).map_err(|error| error.to_string())?;
            let Some(core) = self.core.as_mut() else { return Err("no core".to_owned()) };
            match core.stream(UnixMillis(self.now), socket, frame) {
                Streamed::Done(outputs) => self.carry_out(outputs),
                Streamed::NeedsCommit(frame) => self.input(Input::SandboxEvent { socket, frame })?,
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), String> {
        self.tick_at = None;
        let Some(core) = self.core.as_mut() else { return Err("no core".to_owned()) };
        let tick = core.tick(UnixMillis(self.now));
        self.carry_out(tick.outputs);
        if tick.flush { self.input(Input::FlushText) } else { Ok(()) }
    }

    fn fire_alarm(&mut self) -> Result<(), String> {
        self.alarm = None;
        if self.plant == Plant::NoAlarm {
            return Ok(());
        }
        self.input(Input::Alarm)?;
        if self.faulty && self.rng.random_bool(0.1) {
            self.input(Input::Alarm)?;
        }
        Ok(())
    }

    fn advance(&mut self, by: i64) -> Result<(), String> {
        self.now += by;
        if self.tick_at.is_some_and(|at| at <= self.now) {
            self.tick()?;
        }
        if self.alarm.is_some_and(|at| at <= self.now) {
            let late = self.faulty && self.rng.random_bool(0.3);
            if !late {
                self.fire_alarm()?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, index: usize, frame: &Value) -> Result<(), String> {
        let Some(socket) = self.clients[index].socket.filter(|_| self.clients[index].subscribed) else { return Ok(()) };
        self.input(Input::ClientFrame { socket, text: &frame.to_string() })
    }

    fn prompt(&mut self, index: usize) -> Result<(), String> {
        let again = self.clients[index].asked.iter().next().map(|(id, content)| (id.clone(), content.clone()));
        let (id, content) = again.unwrap_or_else(|| {
            self.requests += 1;
            (format!("request-{}", self.requests), format!("do {}", self.requests))
        });
        if !self.clients[index].subscribed {
            return Ok(());
        }
        self.clients[index].asked.insert(id.clone(), content.clone());
        self.ask(index, &json!({"type": "prompt", "clientRequestId": id, "content": content}))
    }

    /// The object is gone; its sockets outlive an eviction but no crash.
    fn crash(&mut self, with_sockets: bool) -> Result<(), String> {
        self.note(if with_sockets { "crash" } else { "eviction" });
        self.core = Some(SessionCore::new());
        self.tick_at = None;
        if with_sockets {
            let all: Vec<SocketId> = self.attachments.keys().copied().collect();
            for socket in all {
                self.lose(socket);
            }
            self.jobs.clear();
        }
        self.wake()
    }

    /// Something happens.
    pub fn step(&mut self) -> Result<(), String> {
        let client = self.rng.random_range(0..self.clients.len());
        match self.rng.random_range(0..100) {
            0..=4 if self.clients[client].socket.is_none() || self.clients[client].must_resubscribe => {
                self.connect_client(client)
            }
            0..=9 => self.prompt(client),
            10 => self.ask(client, &json!({"type": "stop"})),
            11 => {
                let id = self.clients[client].accepted.last().cloned().unwrap_or_default();
                self.ask(client, &json!({"type": "cancel_prompt", "messageId": id, "clientRequestId": "c"}))
            }
            12 => self.ask(client, &json!({"type": "typing"})),
            13 => self.ask(client, &json!({"type": "presence", "status": "idle"})),
            14 => {
                let all: Vec<SocketId> = self.attachments.keys().copied().collect();
                if let Some(socket) = all.get(self.rng.random_range(0..all.len().max(1))).copied() {
                    self.lose(socket);
                    return self.input(Input::SocketClosed { socket });
                }
                Ok(())
            }
            15 => self.crash(true),
            16 => self.crash(false),
            17..=24 if !self.jobs.is_empty() => {
                let index = self.rng.random_range(0..self.jobs.len());
                self.run_job(index)
            }
            25..=44 => self.work_somewhere(),
            45..=64 => self.deliver_somewhere(),
            65..=84 => self.receive_somewhere(),
            85..=96 => {
                let by = self.rng.random_range(1..200);
                self.advance(by)
            }
            97 => {
                let by = self.rng.random_range(1_000..200_000);
                self.advance(by)
            }
            98 => self.pull_request(),
            _ => Ok(()),
        }
    }

    fn pull_request(&mut self) -> Result<(), String> {
        let Some(sandbox) = self.sandboxes.iter().find(|s| s.alive() && s.socket.is_some()) else { return Ok(()) };
        let request = serde_json::from_value(json!({"title": "T", "body": "B"})).map_err(|e| e.to_string())?;
        let token = sandbox.token.clone();
        let idempotency_key = Some(format!("key-{}", self.rng.random_range(0..3)));
        self.call(Principal::Sandbox { token }, SessionCall::CreatePullRequest { request, idempotency_key })?;
        Ok(())
    }

    fn somewhere(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.sandboxes.len()).filter(|i| self.sandboxes[*i].alive()).collect();
        (!alive.is_empty()).then(|| alive[self.rng.random_range(0..alive.len())])
    }

    fn work_somewhere(&mut self) -> Result<(), String> {
        let Some(index) = self.somewhere() else { return Ok(()) };
        if self.sandboxes[index].socket.is_none() {
            return if self.rng.random_bool(0.3) { self.connect_bridge(index) } else { Ok(()) };
        }
        self.sandboxes[index].work();
        Ok(())
    }

    fn deliver_somewhere(&mut self) -> Result<(), String> {
        let waiting: Vec<SocketId> =
            self.to_socket.iter().filter(|(_, queue)| !queue.is_empty()).map(|(id, _)| *id).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let socket = waiting[self.rng.random_range(0..waiting.len())];
        self.deliver(socket)
    }

    fn receive_somewhere(&mut self) -> Result<(), String> {
        match self.somewhere() {
            Some(index) => self.receive(index),
            None => Ok(()),
        }
    }

    fn quiet(&self) -> bool {
        self.jobs.is_empty()
            && self.to_socket.values().all(VecDeque::is_empty)
            && self.sandboxes.iter().filter(|s| s.alive()).all(|s| !s.is_busy() && s.outgoing.is_empty())
            && self
                .clients
                .iter()
                .all(|c| c.subscribed && !c.must_resubscribe && c.asked.is_empty() && c.open.is_empty())
    }

    /// Everything goes right from here, until nothing is left to do.
    pub fn heal(&mut self) -> Result<(), String> {
        self.faulty = false;
        for round in 0..4_000 {
            for index in 0..self.clients.len() {
                if self.clients[index].socket.is_none() || self.clients[index].must_resubscribe {
                    self.connect_client(index)?;
                }
                if !self.clients[index].asked.is_empty() && round % 5 == 0 {
                    self.prompt(index)?;
                }
            }
            while !self.jobs.is_empty() {
                self.run_job(0)?;
            }
            for index in 0..self.sandboxes.len() {
                if self.sandboxes[index].alive() && self.sandboxes[index].socket.is_none() {
                    self.connect_bridge(index)?;
                }
                self.sandboxes[index].work();
                while !self.sandboxes[index].outgoing.is_empty() {
                    self.receive(index)?;
                }
            }
            let sockets: Vec<SocketId> = self.to_socket.keys().copied().collect();
            for socket in sockets {
                while self.to_socket.get(&socket).is_some_and(|queue| !queue.is_empty()) {
                    self.deliver(socket)?;
                }
            }
            self.advance(300)?;
            if self.alarm.is_some_and(|at| at <= self.now) {
                self.fire_alarm()?;
            }
            if self.quiet() && self.unfinished()? == 0 && self.open_jobs()? == 0 {
                return Ok(());
            }
            if round > 200 {
                self.advance(5_000)?;
            }
        }
        Err(format!(
            "it does not come to rest: {} prompts unfinished, {} jobs open, quiet {}",
            self.unfinished()?,
            self.open_jobs()?,
            self.quiet()
        ))
    }

    fn count(&self, sql: &str) -> Result<i64, String> {
        let rows = self.sql.run(sql, &[]).map_err(|error| error.to_string())?;
        match rows.first().and_then(|row| row.first()) {
            Some(SqlValue::Int(count)) => Ok(*count),
            other => Err(format!("not a count: {other:?}")),
        }
    }

    fn unfinished(&self) -> Result<i64, String> {
        self.count("SELECT COUNT(*) FROM messages WHERE status IN ('pending', 'processing')")
    }

    fn open_jobs(&self) -> Result<i64, String> {
        self.count("SELECT COUNT(*) FROM outbox WHERE state IN ('waiting', 'running')")
    }

    fn texts(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let rows = self.sql.run(sql, &[]).map_err(|error| error.to_string())?;
        Ok(rows
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .map(|value| match value {
                        SqlValue::Text(text) => text,
                        SqlValue::Int(int) => int.to_string(),
                        other => format!("{other:?}"),
                    })
                    .collect()
            })
            .collect())
    }

    /// The promises, once it has come to rest.
    pub fn check(&self) -> Result<(), String> {
        let ends = self.texts("SELECT message_id FROM events WHERE type = 'execution_complete' ORDER BY seq")?;
        let messages = self.texts("SELECT id, status FROM messages ORDER BY number")?;
        for row in &messages {
            let count = ends.iter().filter(|end| end[0] == row[0]).count();
            if count != 1 || !matches!(row[1].as_str(), "completed" | "failed") {
                return Err(format!("prompt {} is {} with {count} ends", row[0], row[1]));
            }
        }
        for client in &self.clients {
            for id in &client.accepted {
                let cancelled = self.texts("SELECT message_id FROM cancelled_requests")?;
                if !messages.iter().any(|row| row[0] == *id) && !cancelled.iter().any(|row| row[0] == *id) {
                    return Err(format!("prompt {id} was acknowledged and is lost"));
                }
            }
        }
        let dispatched = self.texts("SELECT message_id FROM events WHERE type = 'user_message' ORDER BY seq")?;
        let order: Vec<&String> = messages.iter().map(|row| &row[0]).collect();
        let places: Vec<Option<usize>> =
            dispatched.iter().map(|row| order.iter().position(|id| **id == row[0])).collect();
        if !places.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(format!("prompts were not dispatched in their order: {places:?}"));
        }
        self.check_work()?;
        self.check_views()?;
        let current = self.sandboxes.iter().map(|s| s.generation).max().unwrap_or(0);
        let status = self.texts("SELECT status FROM sandbox")?;
        let live = status.first().is_some_and(|row| row[0] == "ready" || row[0] == "connecting");
        for sandbox in &self.sandboxes {
            if !sandbox.stopped && !(live && sandbox.generation == current) {
                return Err(format!("{} is a stray", sandbox.sandbox_id));
            }
        }
        let counter = self.count("SELECT index_counter FROM session")?;
        let given_up = self.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up'")?;
        if self.indexed != counter && given_up == 0 {
            return Err(format!("the index holds {} of {counter}", self.indexed));
        }
        Ok(())
    }

    /// What a sandbox did for a prompt that succeeded is stored whole and once.
    fn check_work(&self) -> Result<(), String> {
        let done = self.texts("SELECT id FROM messages WHERE outcome = 'done'")?;
        for sandbox in &self.sandboxes {
            for id in sandbox.succeeded.iter().filter(|id| done.iter().any(|row| row[0] == **id)) {
                let bodies = self.texts(&format!(
                    "SELECT body FROM events WHERE message_id = '{id}' AND type IN ('part', 'tool_call') ORDER BY seq"
                ))?;
                let (mut calls, mut parts) = (Vec::new(), Vec::new());
                for body in bodies {
                    let event: Value = serde_json::from_str(&body[0]).map_err(|error| error.to_string())?;
                    if event["type"] == "part" {
                        parts.push(text(&event["text"]));
                    } else {
                        calls.push(text(&event["callId"]));
                    }
                }
                let made = sandbox.made.get(id).cloned().unwrap_or_default();
                if (calls.clone(), parts.clone()) != made {
                    return Err(format!("prompt {id}: stored {calls:?} {parts:?}, made {made:?}"));
                }
            }
        }
        Ok(())
    }

    /// Every client's view equals what is stored.
    fn check_views(&self) -> Result<(), String> {
        let mut stored = BTreeMap::new();
        for row in self.texts("SELECT id, body FROM events WHERE revision IS NOT NULL")? {
            let event: Value = serde_json::from_str(&row[1]).map_err(|error| error.to_string())?;
            stored.insert(row[0].clone(), essence(&event));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let view: BTreeMap<String, Value> =
                client.events.iter().map(|(id, event)| (id.clone(), essence(event))).collect();
            if view != stored {
                let wrong = stored.iter().find(|(id, event)| view.get(*id) != Some(event));
                return Err(format!(
                    "client {index} sees {} events of {}; first that differs: {wrong:?}",
                    view.len(),
                    stored.len()
                ));
            }
        }
        Ok(())
    }
}

/// What `part_done` says of a part is less than what is stored; the rest is compared whole.
fn essence(event: &Value) -> Value {
    if event["type"] == "part" {
        json!([event["messageId"], event["partId"], event["kind"], event["text"]])
    } else {
        event.clone()
    }
}

fn person(index: usize) -> Person {
    Person {
        user_id: format!("user-{index}"),
        scm_user_id: Some(index.to_string()),
        scm_login: Some(format!("person{index}")),
        name: Some(format!("Person {index}")),
        ..Person::default()
    }
}
