//! A page: it reconnects, resumes, and keeps its own timeline by the rules of the wire.

use std::collections::{BTreeMap, BTreeSet};

use oi_session::input::SocketId;
use serde_json::{Value, json};

/// A row as the page has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: String,
    pub revision: i64,
    pub event: Value,
}

/// A prompt that the page sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: String,
    pub content: String,
    /// The prompt, once it is accepted.
    pub message_id: Option<String>,
    pub refused: bool,
}

#[derive(Debug)]
pub struct Client {
    pub name: String,
    /// Whose page it is.
    pub person: String,
    pub dialect: u32,
    pub token: Option<String>,
    pub socket: Option<SocketId>,
    pub subscribed: bool,
    /// By place.
    pub timeline: BTreeMap<i64, Row>,
    pub revision: Option<i64>,
    /// Text that is being written, by prompt and part.
    pub open: BTreeMap<(String, String), Vec<u16>>,
    pub queue: Vec<String>,
    pub requests: Vec<Request>,
    /// Dialect 1: the newest form of each event that it was shown.
    pub shown: BTreeMap<String, Value>,
    pub tokens: BTreeSet<String>,
    /// Questions that its answers are to, by request.
    pub answers: BTreeMap<String, String>,
    /// Where history goes on, when there is more.
    pub cursor: Option<Value>,
    /// Revision and queue at which its view was last compared.
    pub checked: Option<(i64, Vec<String>)>,
}

/// What names an event in dialect 1.
pub fn key_of(event: &Value) -> String {
    let id = event["messageId"].as_str().unwrap_or_default();
    match event["type"].as_str() {
        Some("tool_call") => format!("tool_call {id} {}", event["callId"]),
        Some(kind @ ("user_message" | "execution_complete")) => format!("{kind} {id}"),
        Some(kind) => format!("{kind} {} {}", event["sandboxId"], event["timestamp"]),
        None => String::new(),
    }
}

impl Client {
    pub fn new(name: String, person: String, dialect: u32) -> Self {
        Self {
            name,
            person,
            dialect,
            token: None,
            socket: None,
            subscribed: false,
            timeline: BTreeMap::new(),
            revision: None,
            open: BTreeMap::new(),
            queue: Vec::new(),
            requests: Vec::new(),
            shown: BTreeMap::new(),
            tokens: BTreeSet::new(),
            answers: BTreeMap::new(),
            cursor: None,
            checked: None,
        }
    }

    pub fn disconnected(&mut self) {
        self.socket = None;
        self.subscribed = false;
    }

    /// The first frame of a connection. `forget` asks for everything anew.
    pub fn subscribe(&self, token: &str, forget: bool) -> Value {
        let mut frame = json!({"type": "subscribe", "token": token, "clientId": self.name});
        if self.dialect == 2 {
            frame["dialect"] = json!(2);
            if let (Some(revision), false) = (self.revision, forget) {
                frame["afterRevision"] = json!(revision);
            }
        }
        frame
    }

    fn put(&mut self, envelope: &Value) -> Result<(), String> {
        let text = |key: &str| envelope[key].as_str().map(str::to_owned).ok_or(format!("no {key}"));
        let number = |key: &str| envelope[key].as_i64().ok_or(format!("no {key} in {envelope}"));
        let row = Row { id: text("eventId")?, revision: number("revision")?, event: envelope["event"].clone() };
        self.timeline.insert(number("timelineSequence")?, row);
        Ok(())
    }

    fn next_revision(&mut self, frame: &Value) -> Result<(), String> {
        let (had, next) = (self.revision, frame["revision"].as_i64());
        if next != had.map(|revision| revision + 1) {
            return Err(format!("revision: {}: {next:?} follows {had:?}", self.name));
        }
        self.revision = next;
        Ok(())
    }

    /// Takes a message; an error is a broken promise.
    pub fn take(&mut self, frame: &Value) -> Result<(), String> {
        let part = || {
            let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
            (text("messageId"), text("partId"))
        };
        match frame["type"].as_str().unwrap_or_default() {
            "subscribed" => self.take_subscribed(frame)?,
            "prompt_queue_updated" => self.queue = queue_of(&frame["promptQueue"]),
            "sandbox_event" if self.dialect == 1 => self.show(&frame["event"]),
            "sandbox_event" if frame.get("eventId").is_some() => {
                self.next_revision(frame)?;
                self.put(frame)?;
            }
            "part_delta" => {
                let (held, offset) =
                    (self.open.entry(part()).or_default(), frame["offset"].as_u64().unwrap_or(0) as usize);
                if offset > held.len() {
                    return Err(format!("delta: {}: a delta at {offset} of {}", self.name, held.len()));
                }
                held.truncate(offset);
                held.extend(frame["text"].as_str().unwrap_or_default().encode_utf16());
            }
            "part_done" => {
                self.next_revision(frame)?;
                let held = self.open.remove(&part()).unwrap_or_default();
                let held = String::from_utf16(&held).map_err(|error| error.to_string())?;
                let text = frame["text"].as_str().map_or(held, str::to_owned);
                if frame["length"] != text.encode_utf16().count() {
                    return Err(format!("delta: {}: a part of {} units is told as {frame}", self.name, text.len()));
                }
                let event = json!({"type": "part", "messageId": frame["messageId"], "partId": frame["partId"],
                    "kind": frame["kind"], "text": text, "timestamp": frame["timestamp"]});
                let mut envelope = frame.clone();
                envelope["event"] = event;
                self.put(&envelope)?;
            }
            "prompt_queued" => {
                let id = frame["messageId"].as_str().map(str::to_owned);
                for request in self.requests.iter_mut().filter(|r| frame["clientRequestId"] == *r.id) {
                    if request.message_id.is_some() && request.message_id != id {
                        return Err(format!("once: {}: one request became two prompts", self.name));
                    }
                    request.message_id.clone_from(&id);
                }
            }
            "error" => {
                for request in self.requests.iter_mut().filter(|r| frame["clientRequestId"] == *r.id) {
                    request.refused |= request.message_id.is_none();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_subscribed(&mut self, frame: &Value) -> Result<(), String> {
        self.subscribed = true;
        self.queue = queue_of(&frame["promptQueue"]);
        let cursor = &frame["timeline"]["cursor"];
        if !cursor.is_null() {
            self.cursor = Some(cursor.clone());
        }
        let events = frame["timeline"]["events"].as_array().cloned().unwrap_or_default();
        if self.dialect == 1 {
            self.shown.clear();
            self.tokens.clear();
            for envelope in &events {
                self.show(&envelope["event"]);
            }
            return Ok(());
        }
        if frame["timeline"]["mode"] == "snapshot" {
            self.timeline.clear();
        }
        for envelope in &events {
            if envelope["removed"] == true {
                self.timeline.retain(|_, row| envelope["eventId"] != *row.id);
            } else {
                self.put(envelope)?;
            }
        }
        self.revision = frame["revision"].as_i64();
        self.open.clear();
        for part in frame["openParts"].as_array().into_iter().flatten() {
            let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
            self.open.insert((text("messageId"), text("partId")), text("text").encode_utf16().collect());
        }
        Ok(())
    }

    fn show(&mut self, event: &Value) {
        if event["type"] == "token" {
            self.tokens.insert(event["content"].as_str().unwrap_or_default().to_owned());
        } else {
            self.shown.insert(key_of(event), event.clone());
        }
    }
}

fn queue_of(queue: &Value) -> Vec<String> {
    queue
        .as_array()
        .into_iter()
        .flatten()
        .map(|prompt| prompt["messageId"].as_str().unwrap_or_default().to_owned())
        .collect()
}
