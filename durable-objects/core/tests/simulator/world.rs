//! One simulated world: a session's host, the people and sandboxes around it, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use oi_protocol::rest::CreatePullRequestRequest;
use oi_session::call::{Principal, SessionCall};
use oi_session::clock::BackendTraits;
use oi_session::input::{ReplyId, SocketId};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::bridge::Bridge;
use crate::client::{Client, Request};
use crate::outside::Outside;
use crate::support::host::{Bug, Host};
use crate::support::probe::Break;
use crate::support::session::{init, messages, person, value};

/// What happened in all seeds together.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub prompts: u64,
    pub done: u64,
    pub stopped: u64,
    pub failed: u64,
    pub sandboxes: u64,
    pub faults: u64,
    pub kills: u64,
    pub evictions: u64,
    pub resumes: u64,
    pub doubled: u64,
    pub pulls: u64,
    /// Frames of a sandbox that is not the current one, while the current one is connected.
    pub strangers: u64,
    pub marks_checked: u64,
    pub views_checked: u64,
    pub restored: u64,
    pub resumed: u64,
    /// Rows that left SQLite for a file.
    pub archived: u64,
    /// Questions that a page answered.
    pub answered: u64,
}

impl Tally {
    pub fn list(&self) -> [(&'static str, u64); 18] {
        [
            ("prompts", self.prompts),
            ("done", self.done),
            ("stopped", self.stopped),
            ("failed", self.failed),
            ("sandboxes", self.sandboxes),
            ("faults", self.faults),
            ("kills", self.kills),
            ("evictions", self.evictions),
            ("resumes", self.resumes),
            ("doubled frames", self.doubled),
            ("pull requests", self.pulls),
            ("frames of replaced sandboxes", self.strangers),
            ("marks checked", self.marks_checked),
            ("views checked", self.views_checked),
            ("restored sandboxes", self.restored),
            ("sandboxes that went on", self.resumed),
            ("archived rows", self.archived),
            ("answered questions", self.answered),
        ]
    }

    pub fn add(&mut self, other: &Self) {
        self.prompts += other.prompts;
        self.done += other.done;
        self.stopped += other.stopped;
        self.failed += other.failed;
        self.sandboxes += other.sandboxes;
        self.faults += other.faults;
        self.kills += other.kills;
        self.evictions += other.evictions;
        self.resumes += other.resumes;
        self.doubled += other.doubled;
        self.pulls += other.pulls;
        self.strangers += other.strangers;
        self.marks_checked += other.marks_checked;
        self.views_checked += other.views_checked;
        self.restored += other.restored;
        self.resumed += other.resumed;
        self.archived += other.archived;
        self.answered += other.answered;
    }
}

pub struct World {
    pub host: Host,
    pub rng: StdRng,
    pub clients: Vec<Client>,
    pub bridges: Vec<Bridge>,
    pub outside: Outside,
    /// Nothing goes wrong any more.
    pub calm: bool,
    pub share_of_dialect_1: f64,
    /// The backend takes its time to stop what it is asked to stop.
    pub stops_late: bool,
    pub tally: Tally,
    /// Prompts of which a page was told that they were cancelled.
    pub cancelled: BTreeSet<String>,
    /// Answers of which a page was told that they count, by question.
    pub answered: BTreeMap<String, String>,
    /// Lives of the object, so that calls which waited in an earlier one are asked again.
    pub lives: u64,
    /// Bodies of rows by place and revision, read once.
    pub bodies: BTreeMap<(i64, i64), Value>,
    known_accidents: u64,
    requests: u64,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut host = Host::new(seed ^ 0x5eed);
        host.gathers = true;
        host.config.execution_timeout_ms = 600_000;
        host.config.inactivity_timeout_ms = 300_000;
        host.config.connect_hard_timeout_ms = 400_000;
        host.config.sandbox_life_seconds = 3_600;
        host.config.backend = BackendTraits {
            snapshots: rng.random_bool(0.5),
            resumes: rng.random_bool(0.3),
            max_life_seconds: rng.random_bool(0.3).then_some(1_200),
        };
        if rng.random_bool(0.5) {
            host.config.retention_rows = rng.random_range(25..80);
        }
        let clients = (0..rng.random_range(2..4))
            .map(|n| Client::new(format!("Page {n}"), if n == 0 || rng.random_bool(0.5) { 2 } else { 1 }))
            .collect();
        let share_of_dialect_1 = [0.0, 0.0, 0.3, 1.0][rng.random_range(0..4)];
        let call = SessionCall::Init(Box::new(init(rng.random_bool(0.5))));
        host.call(Principal::Platform, call).expect("nothing is planned yet");
        host.bug = bug;
        Self {
            host,
            clients,
            bridges: Vec::new(),
            outside: Outside::default(),
            calm: false,
            share_of_dialect_1,
            stops_late: rng.random_bool(0.3),
            rng,
            tally: Tally::default(),
            cancelled: BTreeSet::new(),
            answered: BTreeMap::new(),
            lives: 0,
            bodies: BTreeMap::new(),
            known_accidents: 0,
            requests: 0,
        }
    }

    /// A whole life: trouble, then healing, then the final account.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(80..400) {
            self.trouble()?;
        }
        self.heal()?;
        self.check_the_end()?;
        self.tally.faults += self.host.faults;
        self.tally.answered += self.answered.len() as u64;
        Ok(())
    }

    /// After every input: who lost a connection, which promises were just made.
    pub fn after_input(&mut self) -> Result<(), String> {
        let accidents = self.host.faults + self.host.deaths;
        if accidents != self.known_accidents {
            self.known_accidents = accidents;
            self.lives += 1;
        }
        self.begin_attempts()?;
        self.check_promises()
    }

    fn trouble(&mut self) -> Result<(), String> {
        if self.rng.random_bool(0.05) {
            let how = if self.rng.random_bool(0.5) { Break::Fail } else { Break::Panic };
            self.host.sql.break_at(self.rng.random_range(1..14), how);
        }
        if self.rng.random_bool(0.015) {
            self.host.die_after_commit = true;
        }
        match self.rng.random_range(0..100) {
            0..32 => self.a_person_acts()?,
            32..72 => self.a_bridge_acts()?,
            72..92 => {}
            92..94 => self.a_socket_breaks()?,
            94..96 => self.evict(),
            96 => self.die()?,
            97 => {
                // An alarm is lost with the instance that armed it.
                self.host.alarm = None;
                self.evict();
            }
            98 => {
                let index = self.rng.random_range(0..self.bridges.len().max(1));
                if index < self.bridges.len() && self.rng.random_bool(0.3) {
                    self.kill_sandbox(index);
                }
            }
            _ => {
                let jump = if self.rng.random_bool(0.5) { 700_000 } else { -60_000 };
                self.host.now = self.host.now.plus(if self.rng.random_bool(0.4) { jump } else { 0 });
            }
        }
        let pass = match self.rng.random_range(0..100) {
            0..85 => self.rng.random_range(0..200),
            85..98 => self.rng.random_range(200..10_000),
            _ => self.rng.random_range(10_000..100_000),
        };
        self.pass(pass)
    }

    /// Time passes in steps, in which what is due happens, if it does.
    pub fn pass(&mut self, ms: i64) -> Result<(), String> {
        let mut left = ms;
        loop {
            let step = left.min(10_000);
            self.host.now = self.host.now.plus(step);
            left -= step;
            if self.host.tick_at.is_some_and(|at| at <= self.host.now) {
                self.host.tick();
                self.after_input()?;
            }
            let lets_it = self.calm || self.rng.random_bool(0.9);
            if lets_it && self.host.alarm.is_some_and(|at| at <= self.host.now) {
                self.host.fire_alarm();
                self.after_input()?;
                if !self.calm && self.rng.random_bool(0.1) {
                    self.host.fire_alarm();
                    self.after_input()?;
                }
            }
            self.end_attempts()?;
            for index in 0..self.bridges.len() {
                self.beat_or_dial(index)?;
            }
            if left <= 0 {
                return Ok(());
            }
        }
    }

    pub fn is_open(&self, socket: Option<SocketId>) -> bool {
        socket.and_then(|id| self.host.sockets.get(&id)).is_some_and(|socket| socket.closed.is_none())
    }

    // People.

    fn a_person_acts(&mut self) -> Result<(), String> {
        let index = self.rng.random_range(0..self.clients.len());
        self.client_reads(index)?;
        if !self.clients[index].subscribed {
            return self.client_connects(index);
        }
        let Some(socket) = self.clients[index].socket else { return Ok(()) };
        let frame = match self.rng.random_range(0..100) {
            0..40 => {
                self.requests += 1;
                let (id, content) = (format!("r{}", self.requests), format!("prompt {} 😀", self.requests));
                self.clients[index].requests.push(Request {
                    id: id.clone(),
                    content: content.clone(),
                    message_id: None,
                    refused: false,
                });
                json!({"type": "prompt", "clientRequestId": id, "content": content})
            }
            40..55 => {
                let count = self.clients[index].requests.len();
                let Some(request) = (count > 0).then(|| self.rng.random_range(0..count)) else { return Ok(()) };
                let request = &self.clients[index].requests[request];
                json!({"type": "prompt", "clientRequestId": request.id, "content": request.content})
            }
            55..63 => json!({"type": "stop"}),
            63..70 => {
                let count = self.clients[index].queue.len();
                let Some(pick) = (count > 0).then(|| self.rng.random_range(0..count)) else { return Ok(()) };
                json!({"type": "cancel_prompt", "messageId": self.clients[index].queue[pick], "clientRequestId": "c"})
            }
            70..80 if self.clients[index].dialect == 2 => match self.a_change(index) {
                Some(frame) => frame,
                None => return Ok(()),
            },
            70..84 => json!({"type": "typing"}),
            84..88 => json!({"type": "presence", "status": "idle"}),
            88..93 => {
                self.rest_call()?;
                return Ok(());
            }
            _ => {
                self.host.disconnect(socket);
                self.clients[index].disconnected();
                return self.after_input();
            }
        };
        self.host.client_sends(socket, &frame.to_string());
        self.after_input()
    }

    /// A change of the queue, or an answer to a question.
    fn a_change(&mut self, index: usize) -> Option<Value> {
        self.requests += 1;
        let id = format!("c{}", self.requests);
        let client = &mut self.clients[index];
        let mut queue = client.queue.clone();
        match self.rng.random_range(0..12) {
            0..2 => {
                let prompt = queue.choose(&mut self.rng)?;
                Some(json!({"type": "edit_prompt", "messageId": prompt, "clientRequestId": id, "content": "edited"}))
            }
            2..4 if !queue.is_empty() => {
                queue.shuffle(&mut self.rng);
                queue.truncate(self.rng.random_range(1..=queue.len()));
                Some(json!({"type": "reorder_prompts", "messageIds": queue, "clientRequestId": id}))
            }
            4 => {
                let prompt = queue.choose(&mut self.rng)?;
                Some(json!({"type": "send_now", "messageId": prompt, "clientRequestId": id}))
            }
            _ => {
                let waits = |row: &&crate::client::Row| row.event["state"] == "waiting";
                let question = client.timeline.values().rev().take(40).find(waits)?.event["requestId"].clone();
                client.answers.insert(id.clone(), question.as_str().unwrap_or_default().to_owned());
                Some(json!({"type": "input_response", "requestId": question, "clientRequestId": id, "answer": id}))
            }
        }
    }

    fn rest_call(&mut self) -> Result<(), String> {
        let call = match self.rng.random_range(0..10) {
            0..2 => SessionCall::Archive,
            2..6 => SessionCall::Unarchive,
            6 if self.rng.random_bool(0.1) => SessionCall::Cancel,
            7 => SessionCall::UpdateTitle { title: format!("Title {}", self.requests) },
            8 => SessionCall::Snapshot { dialect: 2 },
            _ => SessionCall::RefreshPullRequests,
        };
        let owner = Principal::User { user_id: init(false).owner.user_id };
        let _ = self.host.call(owner, call);
        self.after_input()
    }

    pub fn client_connects(&mut self, index: usize) -> Result<(), String> {
        if let Some(socket) = self.clients[index].socket {
            if self.is_open(Some(socket)) {
                // It waits for its `subscribed`, which a fault may have taken.
                self.host.disconnect(socket);
            }
            self.clients[index].disconnected();
        }
        if self.clients[index].token.is_none() {
            let person = Box::new(person(&self.clients[index].name));
            let Ok(reply) = self.host.call(Principal::Platform, SessionCall::MintClientToken { person }) else {
                return self.after_input();
            };
            let Some(reply) = self.host.replies.remove(&reply) else { return self.after_input() };
            self.clients[index].token = value(&reply.body)["token"].as_str().map(str::to_owned);
        }
        let Some(socket) = self.host.open_client() else { return self.after_input() };
        self.after_input()?;
        self.clients[index].socket = Some(socket);
        let forget = !self.calm && self.rng.random_bool(0.1);
        let token = self.clients[index].token.clone().unwrap_or_default();
        let frame = self.clients[index].subscribe(&token, forget);
        if frame.get("afterRevision").is_some() {
            self.tally.resumes += 1;
        }
        self.host.client_sends(socket, &frame.to_string());
        self.after_input()?;
        self.client_reads(index)
    }

    /// A page takes all that is on its way to it.
    pub fn client_reads(&mut self, index: usize) -> Result<(), String> {
        let Some(socket) = self.clients[index].socket else { return Ok(()) };
        let Some(inbox) = self.host.sockets.get_mut(&socket).map(|socket| std::mem::take(&mut socket.inbox)) else {
            self.clients[index].disconnected();
            return Ok(());
        };
        for message in inbox.iter().flat_map(|text| messages(text)) {
            if message["type"] == "input_accepted" {
                let by = message["clientRequestId"].as_str().unwrap_or_default();
                let question = self.clients[index].answers.get(by).cloned().unwrap_or_default();
                if let Some(other) = self.answered.insert(question.clone(), by.to_owned())
                    && other != by
                {
                    return Err(format!("{question} was answered by {other} and by {by}"));
                }
            }
            if message["type"] == "prompt_cancelled" {
                self.cancelled.insert(message["messageId"].as_str().unwrap_or_default().to_owned());
            }
            self.clients[index].take(&message)?;
        }
        if !self.is_open(Some(socket)) {
            let expired = self.host.sockets[&socket].closed.as_ref().is_some_and(|(code, _)| *code == 4001);
            self.host.disconnect(socket);
            self.clients[index].disconnected();
            if expired {
                self.clients[index].token = None;
            }
            return self.after_input();
        }
        if self.clients[index].subscribed {
            self.check_view(index)?;
        }
        Ok(())
    }

    // Sandboxes.

    fn a_bridge_acts(&mut self) -> Result<(), String> {
        // An old one may still be there beside the newest.
        let alive: Vec<usize> = (0..self.bridges.len()).filter(|index| self.bridges[*index].alive).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let index = alive[self.rng.random_range(0..alive.len())];
        self.bridge_reads(index)?;
        for _ in 0..self.rng.random_range(1..5) {
            let (bridge, rng) = (&mut self.bridges[index], &mut self.rng);
            bridge.work(rng, false);
            self.agent_asks(index)?;
        }
        let frames = self.rng.random_range(0..8);
        self.bridge_sends(index, frames)
    }

    pub fn bridge_reads(&mut self, index: usize) -> Result<(), String> {
        let Some(socket) = self.bridges[index].socket else { return Ok(()) };
        if !self.calm && !self.is_open(Some(socket)) {
            // A connection that ended on the session's side may look alive from the other one for a while.
            let now = self.host.now.0;
            let late = if self.rng.random_bool(0.4) { self.rng.random_range(1..250_000) } else { 0 };
            if *self.bridges[index].deaf_until.get_or_insert(now + late) > now {
                return Ok(());
            }
        }
        let Some(inbox) = self.host.sockets.get_mut(&socket).map(|socket| std::mem::take(&mut socket.inbox)) else {
            let at = self.redial();
            self.bridges[index].disconnected(at);
            return Ok(());
        };
        self.bridges[index].seen = 0;
        for text in inbox {
            self.bridges[index].take(&value(&text))?;
        }
        if !self.bridges[index].alive {
            self.kill_sandbox(index);
        } else if !self.is_open(Some(socket)) {
            self.host.disconnect(socket);
            let at = self.redial();
            self.bridges[index].disconnected(at);
        }
        Ok(())
    }

    fn redial(&mut self) -> i64 {
        let late = if self.calm { 100 } else { self.rng.random_range(1..30_000) };
        self.host.now.0 + late
    }

    pub fn bridge_sends(&mut self, index: usize, frames: usize) -> Result<(), String> {
        for _ in 0..frames {
            let Some(socket) = self.bridges[index].socket else { break };
            if !self.calm
                && self.rng.random_bool(0.05)
                && let Some(frame) = self.bridges[index].doubled_frame()
            {
                self.tally.doubled += 1;
                self.send_checked(index, socket, &frame)?;
            }
            let Some(frame) = self.bridges[index].next_frame() else { break };
            self.send_checked(index, socket, &frame)?;
        }
        Ok(())
    }

    fn send_checked(&mut self, index: usize, socket: SocketId, frame: &str) -> Result<(), String> {
        let current = self.generation() == self.bridges[index].sandbox.generation;
        if !current {
            // What waits is the current one's.
            self.host.flush_gather();
        }
        let before = (!current).then(|| self.stored());
        if !current && self.bridges.iter().any(|other| self.is_open(other.socket)) {
            self.tally.strangers += 1;
        }
        self.host.bridge_sends(socket, frame);
        if !current {
            self.host.flush_gather();
        }
        self.after_input()?;
        if let Some(before) = before
            && before != self.stored()
        {
            return Err(format!(
                "sandbox {} acted, which is not the current one: {frame}",
                self.bridges[index].sandbox.id
            ));
        }
        Ok(())
    }

    fn beat_or_dial(&mut self, index: usize) -> Result<(), String> {
        let now = self.host.now.0;
        let bridge = &mut self.bridges[index];
        if !bridge.alive {
            return Ok(());
        }
        if let Some(socket) = bridge.socket {
            // After the clock was set back, too.
            if now >= bridge.beat_at || bridge.beat_at - now > 30_000 {
                bridge.beat_at = now + 30_000;
                self.host.bridge_sends(socket, r#"{"type":"heartbeat","status":"ready"}"#);
                self.after_input()?;
                self.bridge_reads(index)?;
            }
            return Ok(());
        }
        if now < bridge.dial_at && bridge.dial_at - now < 40_000 {
            return Ok(());
        }
        let (sandbox, dialect) = (bridge.sandbox.clone(), bridge.dialect);
        let generation = self.generation();
        match self.host.upgrade(&sandbox.token, &sandbox.id, dialect) {
            Ok(socket) => {
                if self.current_sandbox().as_deref() != Some(sandbox.id.as_str()) {
                    return Err(format!("generation {} was let in beside {generation}", sandbox.generation));
                }
                // One that goes on may be heard before it is known to have been stopped.
                self.bridges[index].sandbox.generation = generation;
                self.bridges[index].connected(socket);
            }
            Err((401 | 403 | 404 | 410, _)) => self.kill_sandbox(index),
            Err(_) => {
                let at = self.redial();
                self.bridges[index].dial_at = at;
            }
        }
        self.after_input()
    }

    /// The agent asks for a pull request, and asks again when the answer was lost.
    pub fn agent_asks(&mut self, index: usize) -> Result<(), String> {
        let lives = self.lives;
        let bridge = &mut self.bridges[index];
        let token = bridge.sandbox.token.clone();
        let Some(asked) = bridge.run.as_mut().and_then(|run| run.asked.as_mut()) else { return Ok(()) };
        if let Some((reply, life)) = asked.waits
            && life == lives
        {
            let Some(answer) = self.host.replies.remove(&reply) else { return Ok(()) };
            self.tally.pulls += u64::from(answer.status == 200);
            if let Some(run) = bridge.run.as_mut() {
                run.asked = None;
            }
            return Ok(());
        }
        let request = CreatePullRequestRequest {
            title: "Mend it".to_owned(),
            body: "It was broken.".to_owned(),
            base_branch: None,
            head_branch: None,
            repo_owner: None,
            repo_name: None,
            draft: None,
        };
        let call = SessionCall::CreatePullRequest { request, idempotency_key: Some(asked.key.clone()) };
        let reply: Option<ReplyId> = self.host.call(Principal::Sandbox { token }, call).ok();
        self.after_input()?;
        let life = self.lives;
        if let Some(asked) = self.bridges[index].run.as_mut().and_then(|run| run.asked.as_mut()) {
            asked.waits = reply.map(|reply| (reply, life));
        }
        Ok(())
    }

    pub fn kill_sandbox(&mut self, index: usize) {
        let bridge = &mut self.bridges[index];
        bridge.alive = false;
        bridge.run = None;
        if let Some(socket) = bridge.socket.take() {
            self.host.disconnect(socket);
        }
    }

    // Accidents.

    fn a_socket_breaks(&mut self) -> Result<(), String> {
        let of_bridge = self.rng.random_bool(0.5);
        let open: Vec<SocketId> =
            self.host.sockets.iter().filter(|(_, socket)| socket.sandbox == of_bridge).map(|(id, _)| *id).collect();
        if open.is_empty() {
            return Ok(());
        }
        let socket = open[self.rng.random_range(0..open.len())];
        self.host.disconnect(socket);
        self.after_input()
    }

    fn evict(&mut self) {
        self.tally.evictions += 1;
        self.lives += 1;
        self.host.evict();
    }

    /// The process dies; what it had asked for outside goes on unheard.
    fn die(&mut self) -> Result<(), String> {
        self.tally.kills += 1;
        self.lives += 1;
        self.host.kill();
        for attempt in &mut self.outside.attempts {
            attempt.orphaned = true;
        }
        self.after_input()
    }

    // Healing.

    /// Everybody does what they should until nothing is left to do.
    fn heal(&mut self) -> Result<(), String> {
        self.calm = true;
        self.host.sql.disarm();
        self.host.die_after_commit = false;
        let mut quiet = 0;
        // Something always wakes an object that died: here it is the pages that come back.
        for _ in 0..3_000 {
            for index in 0..self.clients.len() {
                self.client_reads(index)?;
                if !self.clients[index].subscribed {
                    self.client_connects(index)?;
                }
                self.repeat_unanswered(index)?;
            }
            for index in 0..self.bridges.len() {
                if self.bridges[index].alive {
                    self.bridge_reads(index)?;
                    self.bridges[index].work(&mut self.rng, true);
                    self.agent_asks(index)?;
                    self.bridge_sends(index, 50)?;
                    self.bridge_reads(index)?;
                }
            }
            let busy = self.outside.attempts.len() + self.bridges.iter().filter(|bridge| bridge.has_work()).count();
            let step = if busy > 0 { 200 } else { 5_000 };
            self.pass(step)?;
            quiet = if busy == 0 && self.is_settled() { quiet + 1 } else { 0 };
            if quiet > 8 {
                return Ok(());
            }
        }
        Err(format!("it does not come to rest: {}", self.unsettled()))
    }

    fn repeat_unanswered(&mut self, index: usize) -> Result<(), String> {
        let Some(socket) = self.clients[index].socket else { return Ok(()) };
        let open: Vec<Value> = self.clients[index]
            .requests
            .iter()
            .filter(|request| request.message_id.is_none() && !request.refused)
            .map(|request| json!({"type": "prompt", "clientRequestId": request.id, "content": request.content}))
            .collect();
        for frame in open {
            self.host.client_sends(socket, &frame.to_string());
            self.after_input()?;
        }
        self.client_reads(index)
    }
}
