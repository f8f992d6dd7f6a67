//! The bridge's memory on disk: numbered frames until the session acknowledges them, and what became of prompts.
//!
//! One append-only file of lines in the sandbox's runtime folder, which no snapshot keeps:
//!
//! | line | meaning |
//! | --- | --- |
//! | `H <next> <acked>` | first line after a compaction: the next number, and the mark |
//! | `F <seq> <json>` | a frame, without its number |
//! | `C <seq> <json>` | the same, and it ends its prompt |
//! | `A <seq>` | the session has dealt with all up to this one |
//! | `P <json>` | a prompt was accepted |
//! | `S <json>` | the agent got a prompt |
//! | `D <json>` | a prompt ended (after a compaction, when its `C` line is gone) |
//!
//! A line counts once its line feed is there, and a frame is sent only after its line was written. So a process
//! that is killed at any instant finds every frame that anybody may have seen, and a torn last line is one that
//! nobody saw: its number is free. `write` without `fsync` is enough: the page cache survives the process, and a
//! machine that loses power loses the sandbox with it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oi_protocol::MessageId;
use serde::{Deserialize, Serialize};

use super::prompt::{PromptLedger, PromptOrder, PromptOutcome, PromptState};

/// Bounds of the journal, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct JournalLimits {
    /// Unacknowledged frames; more are refused.
    pub unacked: u64,
    /// What frames that end a prompt may take beyond `unacked`, so that a prompt can always end.
    pub reserve: u64,
    /// The file is rewritten when it is larger than this and mostly acknowledged.
    pub compact_at: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { unacked: 64 << 20, reserve: 4 << 20, compact_at: 1 << 20 }
    }
}

/// Why the journal could not take something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The session has not acknowledged for so long that no room is left.
    #[error("too much is waiting for the session to acknowledge it")]
    Full,
    /// The disk refused.
    #[error("the journal cannot be used: {0}")]
    Io(#[from] std::io::Error),
}

/// What a frame means for its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Nothing.
    Ordinary,
    /// It must always find room.
    Reserved,
    /// It ends its prompt, and must always find room.
    EndsPrompt,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u32,
    kind: FrameKind,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartLine {
    message_id: MessageId,
    agent_session: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DoneLine {
    message_id: MessageId,
    #[serde(flatten)]
    outcome: PromptOutcome,
}

/// The journal of one sandbox generation.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    limits: JournalLimits,
    acked: i64,
    /// Where the frames after `acked` are, in order, without gaps.
    frames: VecDeque<Place>,
    unacked_bytes: u64,
    prompts: PromptLedger,
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

impl Journal {
    /// Opens or creates the journal, dropping a torn last line.
    pub fn open(path: &Path, limits: JournalLimits) -> Result<Self, JournalError> {
        let file = open_file(path)?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            length: 0,
            limits,
            acked: 0,
            frames: VecDeque::new(),
            unacked_bytes: 0,
            prompts: PromptLedger::default(),
        };
        let mut reader = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)? as u64;
            if read == 0 || line.pop() != Some(b'\n') || !journal.replay(&line) {
                break;
            }
            journal.length += read;
        }
        journal.file.set_len(journal.length)?;
        Ok(journal)
    }

    /// Takes one whole line; `false` means that the file is damaged from here on.
    fn replay(&mut self, line: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(line) else { return false };
        let Some((tag, rest)) = text.split_once(' ') else { return false };
        match tag {
            "H" => {
                let numbers = rest.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                let Some((next, acked)) = numbers else { return false };
                self.reset_marks(next, acked)
            }
            "F" | "C" => self.replay_frame(tag == "C", rest, line.len()),
            "A" => rest.parse().is_ok_and(|seq| {
                self.drop_through(seq);
                true
            }),
            "P" => serde_json::from_str(rest).is_ok_and(|order| {
                self.prompts.accept(order);
                true
            }),
            "S" => serde_json::from_str::<StartLine>(rest).is_ok_and(|start| {
                self.prompts.start(&start.message_id, &start.agent_session);
                true
            }),
            "D" => serde_json::from_str::<DoneLine>(rest).is_ok_and(|done| {
                self.prompts.finish(&done.message_id, done.outcome);
                true
            }),
            _ => false,
        }
    }

    fn reset_marks(&mut self, next: i64, acked: i64) -> bool {
        self.acked = acked;
        self.frames.clear();
        self.unacked_bytes = 0;
        next == acked + 1
    }

    fn replay_frame(&mut self, ends_prompt: bool, rest: &str, line_length: usize) -> bool {
        let Some((seq, body)) = rest.split_once(' ') else { return false };
        if seq.parse() != Ok(self.next_seq()) || serde_json::from_str::<serde::de::IgnoredAny>(body).is_err() {
            return false;
        }
        let offset = self.length + (line_length - body.len()) as u64;
        let kind = if ends_prompt { FrameKind::EndsPrompt } else { FrameKind::Ordinary };
        if ends_prompt {
            let Ok(done) = serde_json::from_str::<DoneLine>(body) else { return false };
            self.prompts.finish(&done.message_id, done.outcome);
        }
        self.push(offset, body.len(), kind);
        true
    }

    fn push(&mut self, offset: u64, length: usize, kind: FrameKind) {
        self.frames.push_back(Place { offset, length: length as u32, kind });
        self.unacked_bytes += length as u64;
    }

    /// The number that the next frame gets.
    pub fn next_seq(&self) -> i64 {
        self.acked + self.frames.len() as i64 + 1
    }

    /// The session has dealt with all frames up to this one.
    pub const fn acked(&self) -> i64 {
        self.acked
    }

    /// Prompts that this sandbox knows.
    pub const fn prompts(&self) -> &PromptLedger {
        &self.prompts
    }

    /// Whether so much waits that what can be left out should be left out.
    pub const fn is_crowded(&self) -> bool {
        self.unacked_bytes > self.limits.unacked / 2
    }

    /// Writes a frame (one line of JSON, an object, without `seq`) and gives its number.
    pub fn append(&mut self, body: &str, kind: FrameKind) -> Result<i64, JournalError> {
        let room = match kind {
            FrameKind::Ordinary => self.limits.unacked,
            FrameKind::Reserved | FrameKind::EndsPrompt => self.limits.unacked + self.limits.reserve,
        };
        if self.unacked_bytes + body.len() as u64 > room {
            return Err(JournalError::Full);
        }
        let seq = self.next_seq();
        let tag = if kind == FrameKind::EndsPrompt { 'C' } else { 'F' };
        let head = format!("{tag} {seq} ");
        let offset = self.length + head.len() as u64;
        self.write_line(&head, body)?;
        self.push(offset, body.len(), kind);
        if kind == FrameKind::EndsPrompt
            && let Ok(done) = serde_json::from_str::<DoneLine>(body)
        {
            self.prompts.finish(&done.message_id, done.outcome);
        }
        Ok(seq)
    }

    /// The frame with this number, without its number; `None` when it is acknowledged or not written yet.
    pub fn frame(&self, seq: i64) -> Result<Option<String>, JournalError> {
        let Some(place) = usize::try_from(seq - self.acked - 1).ok().and_then(|index| self.frames.get(index)) else {
            return Ok(None);
        };
        self.read(*place).map(Some)
    }

    fn read(&self, place: Place) -> Result<String, JournalError> {
        let mut bytes = vec![0; place.length as usize];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        String::from_utf8(bytes).map_err(|error| JournalError::Io(std::io::Error::other(error)))
    }

    /// The session has dealt with all frames up to `seq`. Frames that do not exist yet are not acknowledged by it.
    pub fn ack(&mut self, seq: i64) -> Result<(), JournalError> {
        let seq = seq.min(self.next_seq() - 1);
        if seq <= self.acked {
            return Ok(());
        }
        self.write_line("A ", &seq.to_string())?;
        self.drop_through(seq);
        if self.length > self.limits.compact_at && self.unacked_bytes < self.length / 2 {
            self.compact(self.acked)?;
        }
        Ok(())
    }

    fn drop_through(&mut self, seq: i64) {
        while self.acked < seq {
            let Some(place) = self.frames.pop_front() else { return };
            self.unacked_bytes -= u64::from(place.length);
            self.acked += 1;
        }
    }

    /// Goes on from the session's mark. A mark that this journal cannot know (one of the two lost its state)
    /// renumbers what waits, so that it follows the mark.
    pub fn continue_from(&mut self, acked: i64) -> Result<(), JournalError> {
        if acked < self.acked || acked >= self.next_seq() { self.compact(acked) } else { self.ack(acked) }
    }

    /// A prompt was accepted.
    pub fn accept_prompt(&mut self, order: &PromptOrder) -> Result<(), JournalError> {
        self.write_record("P ", order)?;
        self.prompts.accept(order.clone());
        Ok(())
    }

    /// The agent got the prompt, in this session of the agent.
    pub fn start_prompt(&mut self, message_id: &MessageId, agent_session: &str) -> Result<(), JournalError> {
        let start = StartLine { message_id: message_id.clone(), agent_session: agent_session.to_owned() };
        self.write_record("S ", &start)?;
        self.prompts.start(message_id, agent_session);
        Ok(())
    }

    fn write_record(&mut self, tag: &str, record: &impl Serialize) -> Result<(), JournalError> {
        let json = serde_json::to_string(record).map_err(std::io::Error::other)?;
        self.write_line(tag, &json)
    }

    fn write_line(&mut self, head: &str, body: &str) -> Result<(), JournalError> {
        debug_assert!(!body.contains('\n'), "compact JSON has no line feed");
        let mut line = Vec::with_capacity(head.len() + body.len() + 1);
        line.extend_from_slice(head.as_bytes());
        line.extend_from_slice(body.as_bytes());
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // A full disk may have taken half of the line: without this cut the next line would continue it.
            self.file.set_len(self.length)?;
            return Err(error.into());
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Writes what still matters to a new file and puts it in the place of the old one.
    fn compact(&mut self, acked: i64) -> Result<(), JournalError> {
        let new_path = self.path.with_extension("new");
        if let Err(error) = std::fs::remove_file(&new_path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        let mut writer = BufWriter::new(open_file(&new_path)?);
        let mut length = 0_u64;
        let mut write = |head: &str, body: &str| -> std::io::Result<u64> {
            writeln!(writer, "{head}{body}")?;
            let offset = length + head.len() as u64;
            length += (head.len() + body.len() + 1) as u64;
            Ok(offset)
        };
        write("H ", &format!("{} {acked}", acked + 1))?;
        for (message_id, state) in self.prompts.records() {
            let json = |record: serde_json::Result<String>| record.map_err(std::io::Error::other);
            match state {
                PromptState::Accepted(order) => {
                    write("P ", &json(serde_json::to_string(order))?)?;
                }
                PromptState::Started(order, agent_session) => {
                    write("P ", &json(serde_json::to_string(order))?)?;
                    let start = StartLine { message_id: message_id.clone(), agent_session: agent_session.clone() };
                    write("S ", &json(serde_json::to_string(&start))?)?;
                }
                PromptState::Done(outcome) => {
                    let done = DoneLine { message_id: message_id.clone(), outcome: outcome.clone() };
                    write("D ", &json(serde_json::to_string(&done))?)?;
                }
            }
        }
        let mut frames = VecDeque::with_capacity(self.frames.len());
        for (index, place) in self.frames.iter().enumerate() {
            let seq = acked + 1 + index as i64;
            let tag = if place.kind == FrameKind::EndsPrompt { 'C' } else { 'F' };
            let offset = write(&format!("{tag} {seq} "), &self.read(*place)?)?;
            frames.push_back(Place { offset, ..*place });
        }
        let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        std::fs::rename(&new_path, &self.path)?;
        (self.file, self.length, self.frames, self.acked) = (file, length, frames, acked);
        Ok(())
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
