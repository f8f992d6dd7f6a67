//! A bridge of dialect 2 with a journal that outlives its process, and the agent behind it.

use std::collections::{BTreeMap, VecDeque};

use oi_session::input::SocketId;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::client::text;

/// A sandbox at the backend.
pub struct Sandbox {
    pub sandbox_id: String,
    pub generation: i64,
    pub token: String,
    pub stopped: bool,
    /// Whether its bridge was told for good to go away.
    pub locked_out: bool,
    pub socket: Option<SocketId>,
    journal: BTreeMap<i64, Value>,
    next: i64,
    /// Numbered frames on their way to the session, oldest first.
    pub outgoing: VecDeque<Value>,
    /// What the agent will do for the prompt that it has.
    script: VecDeque<Value>,
    current: Option<String>,
    /// Prompts that it was given, once each.
    pub known: Vec<String>,
    /// Of each prompt: the tool calls that it made and its texts, whole.
    pub made: BTreeMap<String, (Vec<String>, Vec<String>)>,
    /// Prompts whose end it reported as a success.
    pub succeeded: Vec<String>,
}

impl Sandbox {
    pub fn new(sandbox_id: String, generation: i64, token: String) -> Self {
        Self {
            sandbox_id,
            generation,
            token,
            stopped: false,
            locked_out: false,
            socket: None,
            journal: BTreeMap::new(),
            next: 1,
            outgoing: VecDeque::new(),
            script: VecDeque::new(),
            current: None,
            known: Vec::new(),
            made: BTreeMap::new(),
            succeeded: Vec::new(),
        }
    }

    pub fn alive(&self) -> bool {
        !self.stopped && !self.locked_out
    }

    pub fn is_busy(&self) -> bool {
        self.current.is_some() || !self.journal.is_empty()
    }

    pub fn disconnect(&mut self) {
        self.socket = None;
        self.outgoing.clear();
    }

    fn emit(&mut self, mut event: Value) {
        event["seq"] = json!(self.next);
        event["sandboxId"] = json!(self.sandbox_id);
        event["timestamp"] = json!(1.0);
        self.journal.insert(self.next, event.clone());
        self.next += 1;
        if self.socket.is_some() {
            self.outgoing.push_back(event);
        }
    }

    pub fn take(&mut self, frame: &Value, rng: &mut StdRng) {
        match frame["type"].as_str().unwrap_or_default() {
            "hello" => {
                self.acknowledge(frame["ackedSeq"].as_i64().unwrap_or(0));
                self.outgoing = self.journal.values().cloned().collect();
            }
            "ack" => self.acknowledge(frame["seq"].as_i64().unwrap_or(0)),
            "prompt" => {
                let id = text(&frame["messageId"]);
                if !self.known.contains(&id) {
                    self.known.push(id.clone());
                    self.emit(json!({"type": "prompt_accepted", "messageId": id}));
                    self.script = script(&id, rng);
                    self.current = Some(id);
                }
            }
            "stop" => {
                if let Some(id) = self.current.take() {
                    self.script.clear();
                    self.emit(json!({"type": "execution_complete", "messageId": id, "success": false,
                        "error": "Task was cancelled"}));
                }
            }
            "push" => {
                let spec = &frame["pushSpec"];
                self.emit(json!({"type": "push_complete", "branchName": spec["targetBranch"],
                    "repoOwner": spec["repoOwner"], "repoName": spec["repoName"]}));
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, seq: i64) {
        self.journal = self.journal.split_off(&(seq + 1));
    }

    /// The agent does its next step.
    pub fn work(&mut self) {
        let (Some(id), Some(event)) = (self.current.clone(), self.script.pop_front()) else { return };
        let made = self.made.entry(id.clone()).or_default();
        match event["type"].as_str().unwrap_or_default() {
            "tool_call" => made.0.push(text(&event["callId"])),
            "part_done" => made.1.push(text(&event["whole"])),
            "execution_complete" => {
                self.current = None;
                if event["success"] == true {
                    self.succeeded.push(id);
                }
            }
            _ => {}
        }
        let mut event = event;
        if let Some(object) = event.as_object_mut() {
            object.remove("whole");
        }
        self.emit(event);
    }
}

/// Parts in pieces, tool calls between them, an end.
fn script(id: &str, rng: &mut StdRng) -> VecDeque<Value> {
    let mut script = VecDeque::new();
    for part in 0..rng.random_range(0..3) {
        let (part_id, mut whole) = (format!("{id}-{part}"), String::new());
        for _ in 0..rng.random_range(1..6) {
            let piece = ["word ", "ünï ", "😀", "\n", "long piece of text "][rng.random_range(0..5)];
            script.push_back(json!({"type": "part_delta", "messageId": id, "partId": part_id, "kind": "text",
                "offset": whole.encode_utf16().count(), "text": piece}));
            whole.push_str(piece);
        }
        let length = whole.encode_utf16().count();
        script.push_back(json!({"type": "part_done", "messageId": id, "partId": part_id, "kind": "text",
            "length": length, "whole": whole}));
        let call = format!("{id}-call-{part}");
        script.push_back(json!({"type": "tool_call", "messageId": id, "tool": "bash", "args": {}, "callId": call,
            "status": "completed", "output": "done"}));
        script.push_back(json!({"type": "step_finish", "messageId": id, "cost": 0.01}));
    }
    let success = rng.random_bool(0.8);
    script.push_back(json!({"type": "execution_complete", "messageId": id, "success": success}));
    script
}
