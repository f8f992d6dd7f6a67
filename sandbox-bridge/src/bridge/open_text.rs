//! Text that the agent is still writing, and how much of it is in the journal.

use oi_protocol::MessageId;
use oi_protocol::event::PartKind;
use oi_protocol::limits;
use oi_protocol::sandbox_socket::{KnownPart, PartDelta, PartDone};
use oi_protocol::text::{byte_index_of_utf16, head_and_tail, truncate_bytes, utf16_len};

/// Most text of one delta, in bytes: a frame stays far below the wire's limit.
const DELTA_MAX_BYTES: usize = 64 * 1024;
/// Most text that is held of one open part, in bytes. What is beyond comes with `part_done`, cut.
const HELD_MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
struct OpenPart {
    message_id: MessageId,
    part_id: String,
    kind: PartKind,
    text: String,
    /// How much of `text` is in frames, in bytes and in UTF-16 units.
    written_bytes: usize,
    written_units: usize,
}

impl OpenPart {
    fn take_delta(&mut self) -> Option<PartDelta> {
        let text = truncate_bytes(&self.text[self.written_bytes..], DELTA_MAX_BYTES);
        if text.is_empty() {
            return None;
        }
        let delta = PartDelta {
            message_id: self.message_id.clone(),
            part_id: self.part_id.clone(),
            kind: self.kind,
            offset: self.written_units as u32,
            text: text.to_owned(),
        };
        self.written_bytes += delta.text.len();
        self.written_units += utf16_len(&delta.text);
        Some(delta)
    }

    /// Goes on from an offset at or before what is written.
    fn rewind(&mut self, units: usize) {
        if units < self.written_units
            && let Some(bytes) = byte_index_of_utf16(&self.text, units)
        {
            (self.written_bytes, self.written_units) = (bytes, units);
        }
    }
}

/// The open parts of the prompt that runs.
#[derive(Debug, Default)]
pub struct OpenText {
    parts: Vec<OpenPart>,
}

impl OpenText {
    /// Appends to a part, which begins with its first text.
    pub fn append(&mut self, message_id: &MessageId, part_id: &str, kind: PartKind, text: &str) {
        let known = self.parts.iter().position(|p| p.part_id == part_id && p.message_id == *message_id);
        let index = known.unwrap_or_else(|| {
            self.parts.push(OpenPart {
                message_id: message_id.clone(),
                part_id: part_id.to_owned(),
                kind,
                text: String::new(),
                written_bytes: 0,
                written_units: 0,
            });
            self.parts.len() - 1
        });
        let part = &mut self.parts[index];
        let room = HELD_MAX_BYTES.saturating_sub(part.text.len());
        part.text.push_str(truncate_bytes(text, room));
    }

    /// Deltas of all text that is in no frame yet.
    pub fn take_deltas(&mut self) -> Vec<PartDelta> {
        let mut deltas = Vec::new();
        for part in &mut self.parts {
            while let Some(delta) = part.take_delta() {
                deltas.push(delta);
            }
        }
        deltas
    }

    /// Whether there is text that is in no frame yet.
    pub fn is_dirty(&self) -> bool {
        self.parts.iter().any(|part| part.written_bytes < part.text.len())
    }

    /// Ends a part. Its whole text always goes with it, so that whatever was lost on the way is mended here; a
    /// text beyond the wire's bound keeps head and tail.
    pub fn close(&mut self, message_id: &MessageId, part_id: &str, kind: PartKind, text: Option<String>) -> PartDone {
        let held = self.parts.iter().position(|p| p.part_id == part_id && p.message_id == *message_id);
        let held = held.map(|index| self.parts.remove(index).text);
        let text = text.or(held).unwrap_or_default();
        let text = head_and_tail(&text, limits::OPEN_TEXT_MAX_BYTES).unwrap_or(text);
        PartDone {
            message_id: message_id.clone(),
            part_id: part_id.to_owned(),
            kind,
            length: utf16_len(&text) as u32,
            text: Some(text),
        }
    }

    /// Ends every part of a prompt.
    pub fn close_all(&mut self, message_id: &MessageId) -> Vec<PartDone> {
        let open: Vec<_> = self
            .parts
            .iter()
            .filter(|part| part.message_id == *message_id)
            .map(|part| (part.part_id.clone(), part.kind))
            .collect();
        open.into_iter().map(|(part_id, kind)| self.close(message_id, &part_id, kind, None)).collect()
    }

    /// The session will hold `known` once it has all frames: goes on from there where that is less than written.
    pub fn rewind_to(&mut self, known: &KnownLengths) {
        for part in &mut self.parts {
            part.rewind(known.of(&part.part_id));
        }
    }
}

/// How much the session holds of each open part, in UTF-16 units.
#[derive(Debug, Default)]
pub struct KnownLengths {
    parts: Vec<(String, usize)>,
}

impl KnownLengths {
    /// As `hello` says it.
    pub fn from_hello(parts: &[KnownPart]) -> Self {
        Self { parts: parts.iter().map(|part| (part.part_id.clone(), part.length as usize)).collect() }
    }

    /// What it holds of a part.
    pub fn of(&self, part_id: &str) -> usize {
        self.parts.iter().find(|(id, _)| id == part_id).map_or(0, |(_, length)| *length)
    }

    /// Takes a delta that is sent again. One that begins beyond what the session then holds is emptied: it
    /// would be refused, and the text comes again later.
    pub fn apply(&mut self, mut delta: PartDelta) -> Result<(), PartDelta> {
        let known = self.of(&delta.part_id);
        if delta.offset as usize > known {
            delta.offset = known as u32;
            delta.text.clear();
            return Err(delta);
        }
        let length = delta.offset as usize + utf16_len(&delta.text);
        match self.parts.iter_mut().find(|(id, _)| *id == delta.part_id) {
            Some((_, known)) => *known = length,
            None => self.parts.push((delta.part_id, length)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> MessageId {
        MessageId::from_bytes([7; 16])
    }

    fn append(open: &mut OpenText, text: &str) {
        open.append(&id(), "prt_1", PartKind::Text, text);
    }

    #[test]
    fn offsets_count_utf16_units() {
        let mut open = OpenText::default();
        append(&mut open, "a😀");
        let first = open.take_deltas();
        append(&mut open, "ß");
        append(&mut open, "😀😀");
        let second = open.take_deltas();
        assert_eq!((first[0].offset, first[0].text.as_str()), (0, "a😀"));
        assert_eq!((second[0].offset, second[0].text.as_str()), (3, "ß😀😀"));
        assert!(open.take_deltas().is_empty() && !open.is_dirty());
        let done = open.close(&id(), "prt_1", PartKind::Text, None);
        assert_eq!((done.length, done.text.as_deref()), (8, Some("a😀ß😀😀")));
    }

    #[test]
    fn a_long_text_is_cut_into_deltas_that_join_without_a_gap() {
        let mut open = OpenText::default();
        let text = "😀ä".repeat(60_000);
        append(&mut open, &text);
        let deltas = open.take_deltas();
        assert!(deltas.len() > 1);
        let mut joined = String::new();
        for delta in deltas {
            assert_eq!(delta.offset as usize, utf16_len(&joined));
            joined.push_str(&delta.text);
        }
        assert_eq!(joined, text);
    }

    #[test]
    fn a_part_goes_on_from_what_the_session_holds() {
        let mut open = OpenText::default();
        append(&mut open, "one 😀 two");
        open.take_deltas();
        open.rewind_to(&KnownLengths::from_hello(&[KnownPart { part_id: "prt_1".to_owned(), length: 6 }]));
        let again = open.take_deltas();
        assert_eq!((again[0].offset, again[0].text.as_str()), (6, " two"));
        open.rewind_to(&KnownLengths::default());
        assert_eq!(open.take_deltas()[0].text, "one 😀 two");
    }

    #[test]
    fn a_delta_beyond_what_is_known_is_emptied() {
        let mut known = KnownLengths::default();
        let delta = |offset, text: &str| PartDelta {
            message_id: id(),
            part_id: "p".to_owned(),
            kind: PartKind::Text,
            offset,
            text: text.to_owned(),
        };
        known.apply(delta(0, "ab😀")).expect("follows");
        let emptied = known.apply(delta(9, "late")).expect_err("a gap");
        assert_eq!((emptied.offset, emptied.text.as_str()), (4, ""));
        known.apply(delta(4, "c")).expect("follows");
        assert_eq!(known.of("p"), 5);
    }

    #[test]
    fn an_endless_part_stays_bounded() {
        let mut open = OpenText::default();
        for _ in 0..64 {
            append(&mut open, &"x".repeat(64 * 1024));
        }
        open.take_deltas();
        let done = open.close(&id(), "prt_1", PartKind::Text, Some("y".repeat(2 << 20)));
        assert!(done.text.is_some_and(|text| text.len() < limits::OPEN_TEXT_MAX_BYTES + 100));
    }
}
