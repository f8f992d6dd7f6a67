//! A bridge: of dialect 2 with a journal, or of dialect 1 without.

use std::collections::{BTreeMap, VecDeque};

use oi_session::input::{ReplyId, SocketId};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::support::session::{Sandbox, complete};

/// A pull request that the agent asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub key: String,
    /// The call that waits, and in which life of the object.
    pub waits: Option<(ReplyId, u64)>,
}

#[derive(Debug, Default)]
pub struct Run {
    pub id: String,
    /// Open parts and their text; those that begin with `think` are reasoning.
    pub parts: Vec<(String, String)>,
    /// Dialect 1: the text so far.
    pub token: String,
    pub asked: Option<Asked>,
    pub steps: u32,
}

/// A sandbox at the backend, with its bridge.
#[derive(Debug)]
pub struct Bridge {
    pub sandbox: Sandbox,
    pub dialect: u32,
    pub alive: bool,
    /// The backend has it running.
    pub machine: bool,
    /// It came of an attempt of which nobody heard, after its end was asked for: nobody can know of it.
    pub unknowable: bool,
    pub socket: Option<SocketId>,
    /// When it dials, or beats, next.
    pub dial_at: i64,
    pub beat_at: i64,
    /// Dialect 2: all frames ever, by their number less one; the disk survives the bridge.
    pub journal: Vec<Value>,
    pub acked: usize,
    /// Next to send; `None` before `hello`.
    pub next: Option<usize>,
    /// Dialect 1: frames that were not sent, and critical ones that were not acknowledged.
    waiting: VecDeque<Value>,
    critical: Vec<Value>,
    pub run: Option<Run>,
    /// Prompts that it knows, and how they ended.
    known: BTreeMap<String, Option<bool>>,
    pushes: VecDeque<Value>,
    /// What it was told of its questions.
    answers: BTreeMap<String, Value>,
    counter: u64,
    /// Numbers of frames that are bad on purpose.
    pub bad: Vec<usize>,
    /// Frames of its inbox that were looked at.
    pub seen: usize,
    said_ready: bool,
    /// The end of its connection has not reached it before this.
    pub deaf_until: Option<i64>,
}

const WORDS: [&str; 8] = ["so ", "ähm ", "😀", "let x = 1;\n", "\"quoted\" ", "𝄞 ", "done. ", "\u{1}"];

fn kind_of(part: &str) -> &'static str {
    if part.contains("think") { "reasoning" } else { "text" }
}

impl Bridge {
    pub fn new(sandbox: Sandbox, dialect: u32, now: i64) -> Self {
        Self {
            sandbox,
            dialect,
            alive: true,
            machine: true,
            unknowable: false,
            socket: None,
            dial_at: now,
            beat_at: now,
            journal: Vec::new(),
            acked: 0,
            next: None,
            waiting: VecDeque::new(),
            critical: Vec::new(),
            run: None,
            known: BTreeMap::new(),
            pushes: VecDeque::new(),
            answers: BTreeMap::new(),
            counter: 0,
            bad: Vec::new(),
            seen: 0,
            said_ready: false,
            deaf_until: None,
        }
    }

    pub fn disconnected(&mut self, dial_at: i64) {
        self.socket = None;
        self.next = None;
        self.seen = 0;
        self.dial_at = dial_at;
        self.waiting.clear();
    }

    /// It was stopped, and starts again on the same disk.
    pub fn reborn(&mut self, generation: i64, dial_at: i64) {
        self.disconnected(dial_at);
        self.sandbox.generation = generation;
        self.critical.clear();
        self.pushes.clear();
        self.deaf_until = None;
        // What ran when it was stopped was ended there and then.
        self.run = None;
    }

    pub fn connected(&mut self, socket: SocketId) {
        self.socket = Some(socket);
        self.deaf_until = None;
        self.seen = 0;
        self.next = None;
        let mut ready = crate::support::session::ready();
        ready["sandboxId"] = json!(self.sandbox.id);
        if self.dialect == 1 {
            self.waiting.clear();
            self.waiting.push_back(ready);
            self.waiting.extend(self.critical.iter().cloned());
        } else if !std::mem::replace(&mut self.said_ready, true) {
            self.journal.push(ready);
        }
    }

    /// Takes an event into the journal, or onto the way.
    fn emit(&mut self, mut event: Value) {
        event["sandboxId"] = json!(self.sandbox.id);
        self.counter += 1;
        event["timestamp"] = json!(self.counter as f64);
        if self.dialect == 2 {
            self.journal.push(event);
            return;
        }
        if matches!(event["type"].as_str(), Some("execution_complete" | "error" | "push_complete" | "push_error")) {
            event["ackId"] = json!(format!("{}:{}", event["type"].as_str().unwrap_or_default(), self.counter));
            self.critical.push(event.clone());
        }
        if self.socket.is_some() {
            self.waiting.push_back(event);
        }
    }

    /// The next frame to send, if one may be sent.
    pub fn next_frame(&mut self) -> Option<String> {
        self.socket?;
        if self.dialect == 1 {
            return self.waiting.pop_front().map(|frame| frame.to_string());
        }
        let next = self.next?;
        let mut frame = self.journal.get(next)?.clone();
        frame["seq"] = json!(next + 1);
        self.next = Some(next + 1);
        Some(frame.to_string())
    }

    /// A frame that was sent before again, as from a connection that doubles.
    pub fn doubled_frame(&self, back: usize) -> Option<String> {
        let before = self.next?.checked_sub(back)?;
        let mut frame = self.journal.get(before)?.clone();
        frame["seq"] = json!(before + 1);
        Some(frame.to_string())
    }

    pub fn has_work(&self) -> bool {
        self.alive
            && (self.run.is_some()
                || !self.pushes.is_empty()
                || !self.waiting.is_empty()
                || self.next.is_some_and(|next| next < self.journal.len()))
    }

    /// Takes a command of the session; an error is a broken promise.
    pub fn take(&mut self, command: &Value) -> Result<(), String> {
        match command["type"].as_str().unwrap_or_default() {
            "hello" => {
                if self.dialect == 1 {
                    return Err("bridge: one of dialect 1 was greeted in dialect 2".to_owned());
                }
                let acked = command["ackedSeq"].as_u64().unwrap_or(0) as usize;
                if acked > self.journal.len() {
                    return Err(format!("mark: {acked} acknowledged of {}", self.journal.len()));
                }
                self.acked = self.acked.max(acked);
                self.next = Some(acked);
            }
            "ack" => {
                if let Some(seq) = command["seq"].as_u64() {
                    self.acked = self.acked.max(seq as usize);
                }
                self.critical.retain(|event| event["ackId"] != command["ackId"]);
            }
            "event_rejected" => {
                let seq = command["seq"].as_u64().unwrap_or(0) as usize;
                if !self.bad.contains(&seq) {
                    return Err(format!("bridge: a good frame was rejected: {command} {}", self.journal[seq - 1]));
                }
                self.acked = self.acked.max(seq);
            }
            "prompt" => self.take_prompt(command["messageId"].as_str().unwrap_or_default())?,
            "stop" => {
                if let Some(run) = self.run.take() {
                    self.end(&run.id, false);
                }
            }
            "input_response" => {
                let id = command["requestId"].as_str().unwrap_or_default().to_owned();
                let known = self.answers.entry(id).or_insert_with(|| command["answer"].clone());
                if *known != command["answer"] {
                    return Err(format!("answer: {command} after {known}"));
                }
            }
            "push" => self.pushes.push_back(command["pushSpec"].clone()),
            "shutdown" => self.alive = false,
            other => return Err(format!("bridge: an unknown command {other}")),
        }
        Ok(())
    }

    fn take_prompt(&mut self, id: &str) -> Result<(), String> {
        if let Some(ended) = self.known.get(id).copied() {
            if self.dialect == 1 {
                return Err("twice: a prompt was repeated to a bridge of dialect 1".to_owned());
            }
            self.emit(json!({"type": "prompt_accepted", "messageId": id}));
            if let Some(success) = ended {
                self.end(id, success);
            }
            return Ok(());
        }
        if let Some(run) = &self.run {
            return Err(format!("twice: {id} was sent while {} runs", run.id));
        }
        self.known.insert(id.to_owned(), None);
        self.run = Some(Run { id: id.to_owned(), ..Run::default() });
        if self.dialect == 2 {
            self.emit(json!({"type": "prompt_accepted", "messageId": id}));
        }
        Ok(())
    }

    fn end(&mut self, id: &str, success: bool) {
        self.known.insert(id.to_owned(), Some(success));
        let message_id = oi_protocol::MessageId::parse(id).expect("the session minted it");
        self.emit(complete(&message_id, success));
    }

    fn name(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("g{}-{what}{}", self.sandbox.generation, self.counter)
    }

    /// The agent does one thing. `calm` ends soon and well.
    pub fn work(&mut self, rng: &mut StdRng, calm: bool) {
        if let Some(spec) = self.pushes.pop_front() {
            let failed = !calm && rng.random_bool(0.2);
            let mut event = json!({"type": if failed { "push_error" } else { "push_complete" }, "branchName": spec["targetBranch"],
                "repoOwner": spec["repoOwner"], "repoName": spec["repoName"]});
            if failed {
                event["error"] = json!("rejected");
            }
            self.emit(event);
            return;
        }
        let Some(mut run) = self.run.take() else { return };
        if run.asked.is_some() {
            self.run = Some(run);
            return;
        }
        run.steps += 1;
        let word = WORDS[rng.random_range(0..WORDS.len())];
        let id = run.id.clone();
        match if calm { 99 } else { rng.random_range(0..100) } {
            0..45 => self.write(&mut run, rng, word),
            45..55 => {
                if let Some((part, text)) = run.parts.pop() {
                    let with_text = rng.random_bool(0.5);
                    let mut event = json!({"type": "part_done", "messageId": id, "partId": part, "kind": kind_of(&part),
                        "length": text.encode_utf16().count()});
                    if with_text {
                        event["text"] = json!(text);
                    }
                    self.emit(event);
                } else {
                    run.token.clear();
                }
            }
            55..70 => {
                let call = format!("g{}-{id}-{}", self.sandbox.generation, rng.random_range(0..4));
                let status = ["running", "completed"][rng.random_range(0..2)];
                self.emit(json!({"type": "tool_call", "messageId": id, "tool": "bash", "args": {"n": run.steps},
                    "callId": call, "status": status}));
            }
            76..82 if self.dialect == 2 => {
                let question = self.name("question");
                let mut event = json!({"type": "input_request", "requestId": question, "messageId": id,
                    "kind": "question", "prompt": "Which one?"});
                if rng.random_bool(0.3) {
                    event["default"] = json!("this");
                    event["expiresAt"] = json!(self.beat_at + rng.random_range(1..100_000));
                }
                self.emit(event);
            }
            70..80 => {
                let message = self.name("warning");
                self.emit(json!({"type": "warning", "scope": "setup", "message": message}));
            }
            80..83 => self.emit(json!({"type": "step_finish", "messageId": id, "cost": 0.5})),
            83..85 => {
                let name = self.name("thing");
                self.emit(match rng.random_range(0..5) {
                    0 => json!({"type": "git_sync", "status": "completed", "sha": name}),
                    1 => json!({"type": "artifact", "artifactType": "screenshot", "url": name}),
                    2 => json!({"type": "session_title", "title": name}),
                    3 => json!({"type": "context_compacted", "messageId": id}),
                    _ => json!({"type": "boot_progress", "phase": "setup", "status": "started", "startedAt": 5}),
                });
            }
            85..87 => {
                let error = self.name("error");
                self.emit(json!({"type": "error", "messageId": id, "error": error}));
            }
            87..89 if self.dialect == 2 => {
                self.emit(json!({"type": "nonsense"}));
                self.bad.push(self.journal.len());
            }
            89..93 => run.asked = Some(Asked { key: self.name("pr"), waits: None }),
            _ => {
                if self.dialect == 2 && rng.random_bool(0.7) {
                    for (part, text) in std::mem::take(&mut run.parts) {
                        self.emit(json!({"type": "part_done", "messageId": id, "partId": part, "kind": kind_of(&part),
                            "length": text.encode_utf16().count(), "text": text}));
                    }
                }
                let success = calm || rng.random_bool(0.8);
                self.end(&id, success);
                return;
            }
        }
        self.run = Some(run);
    }

    fn write(&mut self, run: &mut Run, rng: &mut StdRng, word: &str) {
        let id = run.id.clone();
        if self.dialect == 1 {
            run.token.push_str(word);
            let content = run.token.clone();
            self.emit(json!({"type": "token", "messageId": id, "content": content}));
            return;
        }
        if run.parts.is_empty() || (run.parts.len() < 3 && rng.random_bool(0.1)) {
            let kind = if rng.random_bool(0.2) { "think" } else { "part" };
            run.parts.push((self.name(kind), String::new()));
        }
        let index = rng.random_range(0..run.parts.len());
        let (part, text) = &mut run.parts[index];
        if rng.random_bool(0.1) {
            let keep = rng.random_range(0..=text.chars().count());
            *text = text.chars().take(keep).collect();
        }
        let offset = text.encode_utf16().count();
        text.push_str(word);
        let event = json!({"type": "part_delta", "messageId": id, "partId": part, "kind": kind_of(part), "offset": offset, "text": word});
        self.emit(event);
    }

    /// Text of every part of a prompt after the first `mark` frames of the journal.
    pub fn text_at(&self, mark: usize, message_id: &str) -> BTreeMap<String, String> {
        let mut parts: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for frame in self.journal.iter().take(mark).filter(|frame| frame["messageId"] == message_id) {
            let part = frame["partId"].as_str().unwrap_or_default().to_owned();
            match frame["type"].as_str() {
                Some("part_delta") => {
                    let text = parts.entry(part).or_default();
                    text.truncate(frame["offset"].as_u64().unwrap_or(0) as usize);
                    text.extend(frame["text"].as_str().unwrap_or_default().encode_utf16());
                }
                Some("part_done") => {
                    if let Some(text) = frame["text"].as_str() {
                        parts.insert(part, text.encode_utf16().collect());
                    }
                }
                _ => {}
            }
        }
        parts.into_iter().map(|(part, text)| (part, String::from_utf16_lossy(&text))).collect()
    }
}
