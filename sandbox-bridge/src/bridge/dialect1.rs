//! Speaking dialect 1: to an Open-Inspect control plane that does not know ours.
//!
//! Text goes as `token` with the whole text so far of the current part; only critical events are acknowledged, by
//! `ackId`; what dialect 2 added is left out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use oi_protocol::event::PartKind;
use oi_protocol::sandbox_socket::{PartDelta, PartDone, SandboxEvent, Token};
use oi_protocol::text::byte_index_of_utf16;
use tokio::time::Instant;

use crate::clock;

/// A `token` of a part goes at most this often, its last one always.
const TOKEN_INTERVAL: Duration = Duration::from_millis(100);

struct PartText {
    text: String,
    sent_at: Option<Instant>,
}

/// Turns journalled frames into frames of dialect 1, and remembers which of them wait for an `ack`.
#[derive(Default)]
pub struct Projector {
    parts: HashMap<String, PartText>,
    /// Critical frames that were sent and not acknowledged, by number.
    pending: BTreeMap<i64, String>,
    sandbox_id: String,
}

impl Projector {
    /// A projector for one connection.
    pub fn new(sandbox_id: &str) -> Self {
        Self { sandbox_id: sandbox_id.to_owned(), ..Self::default() }
    }

    /// The frame to send for a journalled one, or `None` when dialect 1 has none.
    pub fn project(&mut self, seq: i64, body: &str, now: Instant) -> Option<String> {
        let event = serde_json::from_str::<SandboxEvent>(body).ok()?;
        let critical = match &event {
            SandboxEvent::ExecutionComplete(done) => Some(format!("execution_complete:{}", done.message_id)),
            // Several errors of one prompt must not share an id: the later would hide the earlier.
            SandboxEvent::Error(error) => Some(format!("error:{}:{seq}", error.message_id)),
            SandboxEvent::PushComplete(_) => Some(format!("push_complete:{seq:016x}")),
            SandboxEvent::PushError(_) => Some(format!("push_error:{seq:016x}")),
            _ => None,
        };
        let projected = match event {
            SandboxEvent::PartDelta(delta) => self.token_of_delta(&delta, now)?,
            SandboxEvent::PartDone(done) => self.token_of_done(done)?,
            SandboxEvent::PromptAccepted(_) | SandboxEvent::BootProgress(_) | SandboxEvent::InputRequest(_) => {
                return None;
            }
            SandboxEvent::ToolCall(mut call) => {
                if call.output.is_none() {
                    call.output.clone_from(&call.error);
                }
                (call.error, call.exit_code, call.truncated, call.file_change) = (None, None, None, None);
                (call.started_at, call.ended_at, call.output_ref) = (None, None, None);
                SandboxEvent::ToolCall(call)
            }
            other => other,
        };
        let mut frame = serde_json::to_value(&projected).ok()?;
        if let Some(ack_id) = critical {
            frame["ackId"] = serde_json::Value::String(ack_id.clone());
            self.pending.insert(seq, ack_id);
        }
        Some(frame.to_string())
    }

    fn token_of_delta(&mut self, delta: &PartDelta, now: Instant) -> Option<SandboxEvent> {
        if delta.kind == PartKind::Reasoning {
            return None;
        }
        let part = self.parts.entry(delta.part_id.clone()).or_insert(PartText { text: String::new(), sent_at: None });
        // A delta whose beginning was sent before this process began: the whole text comes at the part's end.
        let cut = byte_index_of_utf16(&part.text, delta.offset as usize)?;
        part.text.truncate(cut);
        part.text.push_str(&delta.text);
        if part.sent_at.is_some_and(|sent| now.duration_since(sent) < TOKEN_INTERVAL) {
            return None;
        }
        part.sent_at = Some(now);
        Some(self.token(&delta.message_id, part_text(&self.parts, &delta.part_id)))
    }

    fn token_of_done(&mut self, done: PartDone) -> Option<SandboxEvent> {
        let held = self.parts.remove(&done.part_id).map(|part| part.text);
        if done.kind == PartKind::Reasoning {
            return None;
        }
        let text = done.text.or(held).filter(|text| !text.is_empty())?;
        Some(self.token(&done.message_id, text))
    }

    fn token(&self, message_id: &oi_protocol::MessageId, content: String) -> SandboxEvent {
        SandboxEvent::Token(Token {
            message_id: message_id.clone(),
            content,
            sandbox_id: self.sandbox_id.clone(),
            timestamp: clock::now().as_event_timestamp(),
        })
    }

    /// An `ack` came.
    pub fn acknowledged(&mut self, ack_id: &str) {
        self.pending.retain(|_, pending| pending != ack_id);
    }

    /// The number up to which nothing is outstanding, when all below `next` was sent.
    pub fn settled(&self, next: i64) -> i64 {
        self.pending.first_key_value().map_or(next - 1, |(seq, _)| seq - 1)
    }
}

fn part_text(parts: &HashMap<String, PartText>, part_id: &str) -> String {
    parts.get(part_id).map(|part| part.text.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use oi_protocol::MessageId;
    use serde_json::{Value, json};

    use super::*;

    fn project(projector: &mut Projector, seq: i64, body: &Value, at: Instant) -> Option<Value> {
        let text = projector.project(seq, &body.to_string(), at)?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    #[tokio::test]
    async fn text_becomes_the_whole_text_so_far_and_at_most_ten_frames_a_second() {
        let id = MessageId::from_bytes([1; 16]);
        let mut projector = Projector::new("sb");
        let start = Instant::now();
        let delta = |offset: u32, text: &str| json!({"type": "part_delta", "messageId": id, "partId": "p", "kind": "text", "offset": offset, "text": text});
        let first = project(&mut projector, 1, &delta(0, "one "), start).expect("the first goes at once");
        assert_eq!((&first["type"], &first["content"]), (&json!("token"), &json!("one ")));
        assert_eq!(project(&mut projector, 2, &delta(4, "two "), start), None);
        let later = start + TOKEN_INTERVAL;
        let third = project(&mut projector, 3, &delta(8, "three"), later).expect("due again");
        assert_eq!(third["content"], json!("one two three"));
        let done =
            json!({"type": "part_done", "messageId": id, "partId": "p", "kind": "text", "length": 4, "text": "done"});
        assert_eq!(project(&mut projector, 4, &done, later).expect("the last always")["content"], json!("done"));
    }

    #[test]
    fn critical_events_hold_the_mark_until_their_ack() {
        let id = MessageId::from_bytes([2; 16]);
        let mut projector = Projector::new("sb");
        let now = Instant::now();
        let error = json!({"type": "error", "messageId": id, "error": "x", "timestamp": 1.0});
        let done = json!({"type": "execution_complete", "messageId": id, "success": false, "timestamp": 1.0});
        let first = project(&mut projector, 1, &error, now).expect("sent");
        let second = project(&mut projector, 2, &error, now).expect("sent");
        assert_ne!(first["ackId"], second["ackId"]);
        let third = project(&mut projector, 3, &done, now).expect("sent");
        assert_eq!(third["ackId"], json!(format!("execution_complete:{id}")));
        assert_eq!(projector.settled(4), 0);
        projector.acknowledged(first["ackId"].as_str().expect("text"));
        assert_eq!(projector.settled(4), 1);
        projector.acknowledged(second["ackId"].as_str().expect("text"));
        projector.acknowledged(third["ackId"].as_str().expect("text"));
        assert_eq!(projector.settled(4), 3);
    }

    #[test]
    fn what_dialect_2_added_is_left_out() {
        let id = MessageId::from_bytes([3; 16]);
        let mut projector = Projector::new("sb");
        let call = json!({"type": "tool_call", "messageId": id, "tool": "bash", "args": {}, "callId": "c",
            "status": "error", "error": "broke", "exitCode": 1, "startedAt": 1, "timestamp": 1.0});
        let sent = project(&mut projector, 1, &call, Instant::now()).expect("sent");
        assert_eq!(sent["output"], json!("broke"));
        assert!(sent.get("error").is_none() && sent.get("exitCode").is_none() && sent.get("startedAt").is_none());
        let accepted = json!({"type": "prompt_accepted", "messageId": id});
        assert_eq!(project(&mut projector, 2, &accepted, Instant::now()), None);
    }
}
