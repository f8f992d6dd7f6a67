//! Text and reasoning that is being written: held in memory, sent on in gathers, written at intervals.

use oi_protocol::event::{Event, Part, PartKind};
use oi_protocol::sandbox_socket::{KnownPart, PartDelta, PartDone};
use oi_protocol::session_state::OpenPart;
use oi_protocol::text::{byte_index_of_utf16, utf16_len};
use oi_protocol::{MessageId, UnixMillis, limits};

use crate::core::Turn;
use crate::projection::{Dialect, token_json};
use crate::sql::{Columns, Sql, SqlError, params};
use crate::timeline::{Stored, body_of, json_text};

/// Deltas are gathered for at most this long before they are sent on.
pub(crate) const GATHER_MS: i64 = 50;
/// Open text is written at most this often.
pub(crate) const WRITE_MS: i64 = 250;
/// A `token` of dialect 1 is sent at most this often for a part.
const TOKEN_INTERVAL_MS: i64 = 100;
/// A part's id is at most this long.
const PART_ID_MAX: usize = 128;
/// Parts that are written at a time, at most.
const OPEN_PARTS_MAX: usize = 256;
/// With less room than this a character may not fit: the bound on open text is reached.
const LEAST_ROOM: usize = 4;

pub(crate) struct Open {
    pub message_id: MessageId,
    pub part_id: String,
    pub kind: PartKind,
    pub text: String,
    /// Length of `text` in UTF-16 units.
    pub units: usize,
    /// Whether its row exists.
    stored: bool,
    /// Whether `text` differs from its row.
    dirty: bool,
    /// First unit that watchers of dialect 2 lack.
    unsent_from: Option<usize>,
    /// Whether watchers of dialect 1 lack something, and when they got the last.
    token_due: bool,
    token_sent_at: UnixMillis,
}

/// Why a delta cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeltaRefusal {
    /// It begins beyond what is held: the bridge must go on from what the session has.
    Gap,
    /// It would split a character, or the part's name is out of bounds.
    Invalid,
}

/// Every part of the running prompt that is still being written.
#[derive(Default)]
pub(crate) struct OpenParts {
    parts: Vec<Open>,
    /// When the oldest gathered text arrived.
    pub gather_since: Option<UnixMillis>,
    /// When the oldest unwritten text arrived.
    pub dirty_since: Option<UnixMillis>,
}

impl OpenParts {
    pub fn load(sql: &dyn Sql, now: UnixMillis) -> Result<Self, SqlError> {
        let rows = sql.run("SELECT body FROM events WHERE revision IS NULL ORDER BY seq", &[])?;
        let mut parts = Vec::new();
        for row in rows {
            let body = Columns::of(row).text()?;
            let Ok(part) = serde_json::from_str::<Part>(&body) else {
                return Err(SqlError("an open row is not a part".to_owned()));
            };
            parts.push(Open {
                units: utf16_len(&part.text),
                message_id: part.message_id,
                part_id: part.part_id,
                kind: part.kind,
                text: part.text,
                stored: true,
                dirty: false,
                // Watchers may have seen text that was lost with the memory before: they get the whole anew.
                unsent_from: Some(0),
                token_due: part.kind == PartKind::Text,
                token_sent_at: UnixMillis(0),
            });
        }
        let gather_since = (!parts.is_empty()).then_some(now);
        Ok(Self { parts, gather_since, dirty_since: None })
    }

    pub fn known(&self) -> Vec<KnownPart> {
        self.parts.iter().map(|p| KnownPart { part_id: p.part_id.clone(), length: p.units as u32 }).collect()
    }

    pub fn open(&self) -> Vec<OpenPart> {
        self.parts
            .iter()
            .map(|p| OpenPart {
                message_id: p.message_id.clone(),
                part_id: p.part_id.clone(),
                kind: p.kind,
                text: p.text.clone(),
            })
            .collect()
    }

    fn position(&self, message_id: &MessageId, part_id: &str) -> Option<usize> {
        self.parts.iter().position(|p| p.part_id == part_id && p.message_id == *message_id)
    }

    pub fn holds(&self, message_id: &MessageId, part_id: &str) -> bool {
        self.position(message_id, part_id).is_some()
    }

    fn room(&self) -> usize {
        let held: usize = self.parts.iter().map(|p| p.text.len()).sum();
        limits::OPEN_TEXT_MAX_BYTES.saturating_sub(held)
    }

    /// Cuts the part at the delta's offset and appends. Memory only.
    pub fn apply(&mut self, now: UnixMillis, delta: &PartDelta) -> Result<(), DeltaRefusal> {
        if delta.part_id.is_empty() || delta.part_id.len() > PART_ID_MAX {
            return Err(DeltaRefusal::Invalid);
        }
        let offset = delta.offset as usize;
        let room = self.room();
        let index = match self.position(&delta.message_id, &delta.part_id) {
            Some(index) => index,
            None if self.parts.len() >= OPEN_PARTS_MAX => return Err(DeltaRefusal::Invalid),
            None if offset == 0 => {
                self.parts.push(Open {
                    message_id: delta.message_id.clone(),
                    part_id: delta.part_id.clone(),
                    kind: delta.kind,
                    text: String::new(),
                    units: 0,
                    stored: false,
                    dirty: false,
                    unsent_from: None,
                    token_due: false,
                    token_sent_at: UnixMillis(0),
                });
                self.parts.len() - 1
            }
            None => return Err(DeltaRefusal::Gap),
        };
        let part = &mut self.parts[index];
        if offset > part.units {
            // What came before was left out for want of room; asking for it again would not make room.
            return if room < LEAST_ROOM { Ok(()) } else { Err(DeltaRefusal::Gap) };
        }
        if offset < part.units {
            let cut = byte_index_of_utf16(&part.text, offset).ok_or(DeltaRefusal::Invalid)?;
            part.text.truncate(cut);
            part.units = offset;
        }
        // Beyond the bound the rest stays out of memory; `part_done` brings the whole text or its head.
        let added = oi_protocol::text::truncate_bytes(&delta.text, room);
        part.text.push_str(added);
        part.units += utf16_len(added);
        part.dirty = true;
        part.unsent_from = Some(part.unsent_from.map_or(offset, |from| from.min(offset)));
        part.token_due = part.kind == PartKind::Text;
        self.gather_since.get_or_insert(now);
        self.dirty_since.get_or_insert(now);
        Ok(())
    }

    /// Frames of the gathered text: one for each dialect 2 part, and `token`s that are due for dialect 1.
    pub fn take_gathered(&mut self, now: UnixMillis, force_tokens: bool) -> (Vec<String>, Vec<String>) {
        let (mut two, mut one) = (Vec::new(), Vec::new());
        for part in &mut self.parts {
            if let Some(from) = part.unsent_from.take() {
                let start = byte_index_of_utf16(&part.text, from).unwrap_or(part.text.len());
                two.push(format!(
                    r#"{{"type":"part_delta","messageId":"{}","partId":{},"kind":"{}","offset":{from},"text":{}}}"#,
                    part.message_id,
                    json_text(&part.part_id),
                    if part.kind == PartKind::Text { "text" } else { "reasoning" },
                    json_text(&part.text[start..]),
                ));
            }
            if part.token_due && (force_tokens || now.since(part.token_sent_at) >= TOKEN_INTERVAL_MS) {
                part.token_due = false;
                part.token_sent_at = now;
                let token = token_json(part.message_id.as_str(), &part.text, "", now.as_event_timestamp());
                one.push(format!(r#"{{"type":"sandbox_event","event":{token}}}"#));
            }
        }
        self.gather_since = if self.parts.iter().any(|p| p.token_due) { Some(now) } else { None };
        (two, one)
    }
}

/// Several frames as one, for dialect 2.
pub(crate) fn batch(mut frames: Vec<String>) -> Option<String> {
    match frames.len() {
        0 => None,
        1 => frames.pop(),
        _ => Some(format!(r#"{{"type":"batch","messages":[{}]}}"#, frames.join(","))),
    }
}

fn event_id(message_id: &MessageId, part_id: &str) -> String {
    format!("part:{message_id}:{part_id}")
}

impl Turn<'_, '_> {
    /// Sends on what was gathered, so that it precedes what follows.
    pub(crate) fn flush_gathered(&mut self) {
        if self.parts.gather_since.is_none() {
            return;
        }
        let (two, one) = self.parts.take_gathered(self.cx.now, true);
        self.broadcast_to(Dialect::Two, || batch(two));
        for frame in one {
            self.broadcast_to(Dialect::One, || Some(frame));
        }
    }

    /// Writes open text that differs from its rows.
    pub(crate) fn write_open_text(&mut self) -> Result<(), SqlError> {
        if self.parts.dirty_since.take().is_none() {
            return Ok(());
        }
        self.write_parts(|_| true)?;
        self.hot.received_dirty = true;
        Ok(())
    }

    /// Gives parts that have no row yet their place in the timeline.
    pub(crate) fn place_open_text(&mut self) -> Result<(), SqlError> {
        if self.parts.dirty_since.is_none() {
            return Ok(());
        }
        self.write_parts(|part| !part.stored)
    }

    fn write_parts(&mut self, wanted: impl Fn(&Open) -> bool) -> Result<(), SqlError> {
        let sandbox_id = self.hot.sandbox.sandbox_id.as_deref().unwrap_or_default();
        for part in &mut self.parts.parts {
            if !part.dirty || !wanted(part) {
                continue;
            }
            let body = body_of(&Event::Part(Part {
                message_id: part.message_id.clone(),
                part_id: part.part_id.clone(),
                kind: part.kind,
                text: part.text.clone(),
                sandbox_id: sandbox_id.to_owned(),
                timestamp: self.cx.now.as_event_timestamp(),
            }))?;
            let id = event_id(&part.message_id, &part.part_id);
            if part.stored {
                self.sql.run("UPDATE events SET body = ? WHERE id = ?", params![body, id])?;
            } else {
                let seq = self.hot.seq + 1;
                self.sql.run(
                    "INSERT INTO events (seq, id, revision, message_id, type, created_at, body)
                        VALUES (?, ?, NULL, ?, 'part', ?, ?)",
                    params![seq, id, part.message_id.as_str(), self.cx.now.0, body],
                )?;
                self.hot.seq = seq;
                part.stored = true;
            }
            part.dirty = false;
        }
        Ok(())
    }

    /// Whether a finished part can be closed with what is held, cut to the length that the bridge tells.
    pub(crate) fn check_finished(&mut self, done: &PartDone) -> Result<(), DeltaRefusal> {
        if done.part_id.is_empty() || done.part_id.len() > PART_ID_MAX {
            return Err(DeltaRefusal::Invalid);
        }
        if done.text.is_some() {
            return Ok(());
        }
        let (room, length) = (self.parts.room(), done.length as usize);
        let held = self.parts.position(&done.message_id, &done.part_id).map(|index| &mut self.parts.parts[index]);
        let held_units = held.as_ref().map_or(0, |part| part.units);
        if held_units < length && room >= LEAST_ROOM {
            return Err(DeltaRefusal::Gap);
        }
        if let Some(part) = held.filter(|part| part.units > length) {
            let cut = byte_index_of_utf16(&part.text, length).ok_or(DeltaRefusal::Invalid)?;
            part.text.truncate(cut);
            part.units = length;
            // Watchers cut too when they are told the offset.
            part.unsent_from = Some(part.unsent_from.map_or(length, |from| from.min(length)));
            part.token_due = part.kind == PartKind::Text;
            self.parts.gather_since.get_or_insert(self.cx.now);
        }
        Ok(())
    }

    /// Whether a part of this name has its final row already.
    pub(crate) fn is_finished_part(&self, message_id: &MessageId, part_id: &str) -> Result<bool, SqlError> {
        let id = event_id(message_id, part_id);
        let rows = self.sql.run("SELECT 1 FROM events WHERE id = ? AND revision IS NOT NULL", params![id])?;
        Ok(!rows.is_empty())
    }

    /// Closes a part with exactly this text, which everybody is told.
    fn close_part_as(
        &mut self,
        message_id: &MessageId,
        part_id: &str,
        kind: PartKind,
        text: String,
    ) -> Result<(), SqlError> {
        self.parts.parts.retain(|part| part.part_id != part_id || part.message_id != *message_id);
        self.close_part(message_id, part_id, kind, Some(text))
    }

    /// Stores a finished part and tells everybody; `text` replaces what was held.
    pub(crate) fn close_part(
        &mut self,
        message_id: &MessageId,
        part_id: &str,
        kind: PartKind,
        text: Option<String>,
    ) -> Result<(), SqlError> {
        self.flush_gathered();
        let held = self.parts.position(message_id, part_id).map(|index| self.parts.parts.remove(index));
        let replaced = match (&text, &held) {
            (Some(new), Some(held)) => *new != held.text,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let Some(text) = text.or_else(|| held.map(|part| part.text)) else { return Ok(()) };
        if text.is_empty() {
            self.sql
                .run("DELETE FROM events WHERE id = ? AND revision IS NULL", params![event_id(message_id, part_id)])?;
            return Ok(());
        }
        let event = Event::Part(Part {
            message_id: message_id.clone(),
            part_id: part_id.to_owned(),
            kind,
            text,
            sandbox_id: self.hot.sandbox.sandbox_id.clone().unwrap_or_default(),
            timestamp: self.cx.now.as_event_timestamp(),
        });
        let stored = self.store(event_id(message_id, part_id), Some(message_id.as_str()), &event)?;
        let Event::Part(part) = event else { return Ok(()) };
        self.announce_part(&part, &stored, replaced);
        Ok(())
    }

    fn announce_part(&mut self, part: &Part, stored: &Stored, with_text: bool) {
        self.broadcast_to(Dialect::Two, || {
            let text = if with_text { format!(r#","text":{}"#, json_text(&part.text)) } else { String::new() };
            Some(format!(
                r#"{{"type":"part_done","messageId":"{}","partId":{},"kind":"{}","length":{}{text},"eventId":{},"timelineSequence":{},"revision":{},"timestamp":{}}}"#,
                part.message_id,
                json_text(&part.part_id),
                if part.kind == PartKind::Text { "text" } else { "reasoning" },
                utf16_len(&part.text),
                json_text(&stored.event_id),
                stored.seq,
                stored.revision,
                serde_json::json!(part.timestamp),
            ))
        });
        if part.kind == PartKind::Text && with_text {
            let token = token_json(part.message_id.as_str(), &part.text, &part.sandbox_id, part.timestamp);
            self.broadcast_to(Dialect::One, || Some(format!(r#"{{"type":"sandbox_event","event":{token}}}"#)));
        }
    }

    /// Closes every part of a prompt: it ended, was stopped, or its sandbox is lost.
    pub(crate) fn close_all_parts(&mut self) -> Result<(), SqlError> {
        while let Some(part) = self.parts.parts.first() {
            let (message_id, part_id, kind) = (part.message_id.clone(), part.part_id.clone(), part.kind);
            // Watchers may hold provisional text that was lost here, and nobody will send it again: they get the whole.
            let held = part.text.clone();
            self.close_part_as(&message_id, &part_id, kind, held)?;
        }
        self.parts.dirty_since = None;
        self.parts.gather_since = None;
        Ok(())
    }

    /// The text so far of a dialect 1 bridge: a text that does not extend the one before starts a new part.
    pub(crate) fn apply_token(&mut self, message_id: &MessageId, content: &str) -> Result<(), SqlError> {
        let current = self.parts.parts.iter().rev().find(|p| p.kind == PartKind::Text && p.message_id == *message_id);
        let delta = match current {
            Some(part) if content.starts_with(part.text.as_str()) => PartDelta {
                message_id: message_id.clone(),
                part_id: part.part_id.clone(),
                kind: PartKind::Text,
                offset: part.units as u32,
                text: content[part.text.len()..].to_owned(),
            },
            current => {
                if let Some(part_id) = current.map(|part| part.part_id.clone()) {
                    self.close_part(message_id, &part_id, PartKind::Text, None)?;
                }
                PartDelta {
                    message_id: message_id.clone(),
                    part_id: format!("d1-{}", self.hot.seq + 1),
                    kind: PartKind::Text,
                    offset: 0,
                    text: content.to_owned(),
                }
            }
        };
        let is_new = delta.offset == 0;
        // Both forms begin at the part's end or at 0, so neither refusal can arise.
        let _ = self.parts.apply(self.cx.now, &delta);
        // A part has its row before anybody sees it, so that none is seen that an eviction makes unheard of.
        if is_new { self.write_open_text() } else { Ok(()) }
    }
}
