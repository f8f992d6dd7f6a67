//! A client of dialect 2 that keeps its timeline by the rules of the wire.

use std::collections::BTreeMap;

use oi_session::input::SocketId;
use serde_json::{Value, json};

/// A person's page.
#[derive(Default)]
pub struct Client {
    pub socket: Option<SocketId>,
    pub subscribed: bool,
    /// Stored events by id.
    pub events: BTreeMap<String, Value>,
    pub open: BTreeMap<String, String>,
    pub revision: i64,
    /// Whether a frame broke the rules and the page must subscribe anew.
    pub must_resubscribe: bool,
    /// Requests sent and not answered, by id.
    pub asked: BTreeMap<String, String>,
    /// Messages that were accepted, in the order of the answers.
    pub accepted: Vec<String>,
}

impl Client {
    pub fn disconnect(&mut self) {
        self.socket = None;
        self.subscribed = false;
        self.open.clear();
    }

    pub fn take(&mut self, frame: &Value) -> Result<(), String> {
        if self.must_resubscribe && frame["type"] != "subscribed" && frame["type"] != "prompt_queued" {
            return Ok(());
        }
        match frame["type"].as_str().unwrap_or_default() {
            "subscribed" => {
                if frame["timeline"]["mode"] != "delta" {
                    self.events.clear();
                }
                self.open.clear();
                for event in frame["timeline"]["events"].as_array().into_iter().flatten() {
                    self.events.insert(text(&event["eventId"]), event["event"].clone());
                }
                for part in frame["openParts"].as_array().into_iter().flatten() {
                    self.open.insert(text(&part["partId"]), text(&part["text"]));
                }
                self.revision = frame["revision"].as_i64().unwrap_or(0);
                self.subscribed = true;
                self.must_resubscribe = false;
            }
            "batch" => {
                for message in frame["messages"].as_array().into_iter().flatten() {
                    self.take(message)?;
                }
            }
            "part_delta" => {
                let held = self.open.entry(text(&frame["partId"])).or_default();
                let units: Vec<u16> = held.encode_utf16().collect();
                let offset = frame["offset"].as_u64().unwrap_or(0) as usize;
                if offset > units.len() {
                    self.must_resubscribe = true;
                    return Ok(());
                }
                *held = String::from_utf16_lossy(&units[..offset]) + frame["text"].as_str().unwrap_or_default();
            }
            "part_done" => {
                let id = text(&frame["partId"]);
                let held = self.open.remove(&id);
                let whole = frame["text"].as_str().map(str::to_owned).or(held).unwrap_or_default();
                if whole.encode_utf16().count() != frame["length"].as_u64().unwrap_or(0) as usize {
                    return Err(format!("part {id} is {whole:?}, said to have {}", frame["length"]));
                }
                let event = json!({"type": "part", "messageId": frame["messageId"], "partId": id,
                    "kind": frame["kind"], "text": whole});
                self.note(frame, event)?;
            }
            "sandbox_event" if frame["eventId"].is_string() => self.note(frame, frame["event"].clone())?,
            "prompt_queued" => {
                if self.asked.remove(&text(&frame["clientRequestId"])).is_some() {
                    self.accepted.push(text(&frame["messageId"]));
                }
            }
            "prompt_cancelled" => {
                let id = text(&frame["messageId"]);
                self.accepted.retain(|known| *known != id);
            }
            "error" => {
                self.asked.remove(&text(&frame["clientRequestId"]));
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, frame: &Value, event: Value) -> Result<(), String> {
        let revision = frame["revision"].as_i64().unwrap_or(0);
        if revision != self.revision + 1 {
            return Err(format!("revision {revision} came after {}", self.revision));
        }
        self.revision = revision;
        self.events.insert(text(&frame["eventId"]), event);
        Ok(())
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
