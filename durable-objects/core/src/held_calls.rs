//! Tool calls that begin and go on within one group of frames are written once: by their last word, at the place of their
//! first. Pages are shown every word, with a revision of its own, as if each had been written.

use std::collections::BTreeMap;

use oi_protocol::event::Event;
use oi_protocol::sandbox_socket::{SandboxEvent, SandboxFrame};

use crate::core::Turn;
use crate::sql::{Columns, SqlError, params};
use crate::timeline::{NewRow, Stored, body_of, type_of};
use crate::tool_calls;

/// A word of a call that is shown and not written yet.
#[derive(Debug, Clone)]
struct Held {
    seq: i64,
    revision: i64,
    message_id: String,
    created_at: i64,
    body: String,
}

/// What the group that is being taken has of tool calls. Empty between commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldCalls {
    /// Frames of each call that are still to come.
    ahead: BTreeMap<String, usize>,
    held: BTreeMap<String, Held>,
}

impl HeldCalls {
    /// Looks at a group before it is taken.
    pub fn of(frames: &[SandboxFrame]) -> Self {
        let mut ahead: BTreeMap<String, usize> = BTreeMap::new();
        for frame in frames {
            if let SandboxEvent::ToolCall(call) = &frame.event {
                *ahead.entry(tool_calls::event_id(call)).or_default() += 1;
            }
        }
        ahead.retain(|_, frames| *frames > 1);
        Self { ahead, held: BTreeMap::new() }
    }

    /// Whether an event may come between two words of a call: it reads no row, and ends no run.
    pub fn may_pass(event: &SandboxEvent) -> bool {
        matches!(
            event,
            SandboxEvent::ToolCall(_)
                | SandboxEvent::PartDelta(_)
                | SandboxEvent::PartDone(_)
                | SandboxEvent::StepStart(_)
                | SandboxEvent::Heartbeat(_)
        )
    }
}

impl Turn<'_, '_> {
    /// Stores a word of a tool call, or holds it for the next one, and shows it.
    pub(crate) fn put_call(&mut self, event_id: String, message_id: &str, event: &Event) -> Result<(), SqlError> {
        let calls = &mut self.hot.held_calls;
        let ahead = calls.ahead.get_mut(&event_id);
        let is_last = ahead.is_none_or(|frames| {
            *frames -= 1;
            *frames == 0
        });
        let held = calls.held.remove(&event_id);
        if is_last && held.is_none() {
            return self.put(event_id, Some(message_id), event).map(drop);
        }
        let (seq, created_at) = match held {
            Some(held) => (held.seq, held.created_at),
            None => (self.place_of(&event_id)?, self.cx.now.0),
        };
        self.hot.revision += 1;
        self.hot.seq = self.hot.seq.max(seq);
        let (revision, body) = (self.hot.revision, body_of(event)?);
        let held = Held { seq, revision, message_id: message_id.to_owned(), created_at, body: body.clone() };
        if is_last {
            self.write_call(&event_id, &held)?;
        } else {
            self.hot.held_calls.held.insert(event_id.clone(), held);
        }
        self.broadcast_stored(&Stored { event_id, seq, revision, event_type: type_of(event), body });
        Ok(())
    }

    /// Writes what is held: the word that was waited for did not come, or something else must find the rows.
    pub(crate) fn write_held_calls(&mut self) -> Result<(), SqlError> {
        for (event_id, held) in std::mem::take(&mut self.hot.held_calls.held) {
            self.write_call(&event_id, &held)?;
        }
        Ok(())
    }

    /// The place that a call has already, or the next one.
    fn place_of(&self, event_id: &str) -> Result<i64, SqlError> {
        let rows = self.sql.run("SELECT seq FROM events WHERE id = ?", params![event_id])?;
        rows.into_iter().next().map_or(Ok(self.hot.seq + 1), |row| Columns::of(row).int())
    }

    fn write_call(&self, event_id: &str, held: &Held) -> Result<(), SqlError> {
        let row = NewRow {
            seq: held.seq,
            event_id,
            revision: held.revision,
            message_id: Some(&held.message_id),
            event_type: "tool_call",
            created_at: held.created_at,
            body: &held.body,
        };
        row.write(self.sql).map(drop)
    }
}
