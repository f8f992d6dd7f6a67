//! What leaves the sandbox: every event is in the journal, with its number, before it is sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oi_protocol::MessageId;
use oi_protocol::event::PartKind;
use oi_protocol::sandbox_socket::{KnownPart, PartDelta, PromptAccepted, SandboxEvent};
use tokio::sync::Notify;

use super::journal::{FrameKind, Journal, JournalError};
use super::open_text::{KnownLengths, OpenText};
use super::prompt::{PromptOrder, PromptState};

struct Inner {
    journal: Journal,
    open: OpenText,
    /// Frames to send in place of what the journal has under their numbers, since the last `hello`.
    mended: BTreeMap<i64, String>,
}

/// The shared way out: producers emit, the connection sends.
pub struct Outbox {
    inner: Mutex<Inner>,
    wake: Notify,
    dialect_1: AtomicBool,
}

fn kind_of(event: &SandboxEvent) -> FrameKind {
    match event {
        SandboxEvent::ExecutionComplete(_) => FrameKind::EndsPrompt,
        SandboxEvent::Error(_)
        | SandboxEvent::PushComplete(_)
        | SandboxEvent::PushError(_)
        | SandboxEvent::PromptAccepted(_)
        | SandboxEvent::Ready(_) => FrameKind::Reserved,
        _ => FrameKind::Ordinary,
    }
}

impl Inner {
    fn write(&mut self, event: &SandboxEvent) -> Result<(), JournalError> {
        let body = serde_json::to_string(event).map_err(std::io::Error::other)?;
        self.journal.append(&body, kind_of(event)).map(drop)
    }

    /// Text first, so that it stands before what the agent did next.
    fn write_text(&mut self) -> Result<(), JournalError> {
        for delta in self.open.take_deltas() {
            self.write(&SandboxEvent::PartDelta(delta))?;
        }
        Ok(())
    }
}

impl Outbox {
    /// An outbox over a journal.
    pub fn new(journal: Journal) -> Self {
        let inner = Inner { journal, open: OpenText::default(), mended: BTreeMap::new() };
        Self { inner: Mutex::new(inner), wake: Notify::new(), dialect_1: AtomicBool::new(false) }
    }

    /// Whether the session at the other end knows dialect 1 alone, as far as it is known.
    pub fn speaks_dialect_1(&self) -> bool {
        self.dialect_1.load(Ordering::Relaxed)
    }

    /// The connection learned it.
    pub fn speak_dialect_1(&self, is: bool) {
        self.dialect_1.store(is, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held leaves at worst an unsent line; the journal's own state is a whole line behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Emits an event.
    pub fn emit(&self, event: &SandboxEvent) -> Result<(), JournalError> {
        let mut inner = self.lock();
        let text = inner.write_text();
        // What must find room does so even when the text before it found none.
        if kind_of(event) == FrameKind::Ordinary {
            text?;
        }
        inner.write(event)?;
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Appends to a part that the agent is writing. It reaches the journal with the next flush or event.
    pub fn append_text(&self, message_id: &MessageId, part_id: &str, kind: PartKind, text: &str) {
        self.lock().open.append(message_id, part_id, kind, text);
        self.wake.notify_one();
    }

    /// Ends a part; `text` is its whole text where the agent gave it.
    pub fn close_part(
        &self,
        message_id: &MessageId,
        part_id: &str,
        kind: PartKind,
        text: Option<String>,
    ) -> Result<(), JournalError> {
        let mut inner = self.lock();
        inner.write_text()?;
        let done = inner.open.close(message_id, part_id, kind, text);
        inner.write(&SandboxEvent::PartDone(done))?;
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Ends every open part of a prompt.
    pub fn close_parts(&self, message_id: &MessageId) -> Result<(), JournalError> {
        let mut inner = self.lock();
        inner.write_text()?;
        for done in inner.open.close_all(message_id) {
            inner.write(&SandboxEvent::PartDone(done))?;
        }
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Whether there is text that no frame has yet.
    pub fn has_unwritten_text(&self) -> bool {
        self.lock().open.is_dirty()
    }

    /// Puts text that no frame has yet into frames. While nobody is connected it is not called: the text waits
    /// in memory and goes as one delta, which keeps the journal small in a long outage.
    pub fn flush_text(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        if inner.journal.is_crowded() {
            return Ok(());
        }
        inner.write_text()
    }

    /// Whether so much waits that running output should be left out.
    pub fn is_crowded(&self) -> bool {
        self.lock().journal.is_crowded()
    }

    /// Waits until there may be something to send.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// The session's mark and what it holds. Gives the number of the next frame to send.
    pub fn hello(&self, acked: i64, parts: &[KnownPart]) -> Result<i64, JournalError> {
        let mut inner = self.lock();
        inner.journal.continue_from(acked)?;
        inner.mended.clear();
        let mut known = KnownLengths::from_hello(parts);
        for seq in inner.journal.acked() + 1..inner.journal.next_seq() {
            let Some(body) = inner.journal.frame(seq)? else { break };
            if !body.starts_with(r#"{"type":"part_delta""#) {
                continue;
            }
            let Ok(delta) = serde_json::from_str::<PartDelta>(&body) else { continue };
            if let Err(emptied) = known.apply(delta) {
                let body = serde_json::to_string(&SandboxEvent::PartDelta(emptied)).map_err(std::io::Error::other)?;
                inner.mended.insert(seq, body);
            }
        }
        inner.open.rewind_to(&known);
        Ok(inner.journal.acked() + 1)
    }

    /// The session has dealt with all frames up to `seq`.
    pub fn ack(&self, seq: i64) -> Result<(), JournalError> {
        let mut inner = self.lock();
        inner.journal.ack(seq)?;
        if !inner.mended.is_empty() {
            let acked = inner.journal.acked();
            inner.mended.retain(|seq, _| *seq > acked);
        }
        Ok(())
    }

    /// Numbers of the first frame that waits and of the next one to be written.
    pub fn window(&self) -> (i64, i64) {
        let inner = self.lock();
        (inner.journal.acked() + 1, inner.journal.next_seq())
    }

    /// The body of a frame that waits, without its number.
    pub fn body(&self, seq: i64) -> Result<Option<String>, JournalError> {
        let inner = self.lock();
        match inner.mended.get(&seq) {
            Some(body) if seq > inner.journal.acked() => Ok(Some(body.clone())),
            _ => inner.journal.frame(seq),
        }
    }

    /// What became of a prompt, or `None` when it is new.
    pub fn prompt_state(&self, message_id: &MessageId) -> Option<PromptState> {
        self.lock().journal.prompts().state(message_id).cloned()
    }

    /// Prompts that have not ended, in the order in which they came.
    pub fn unfinished_prompts(&self) -> Vec<PromptState> {
        self.lock().journal.prompts().unfinished().cloned().collect()
    }

    /// Records a new prompt and tells the session that it is here.
    pub fn accept_prompt(&self, order: &PromptOrder) -> Result<(), JournalError> {
        self.lock().journal.accept_prompt(order)?;
        self.emit(&SandboxEvent::PromptAccepted(PromptAccepted { message_id: order.message_id.clone() }))
    }

    /// Records that the agent got the prompt.
    pub fn start_prompt(&self, message_id: &MessageId, agent_session: &str) -> Result<(), JournalError> {
        self.lock().journal.start_prompt(message_id, agent_session)
    }
}

/// A frame as it goes on the wire: the body with its number.
pub fn numbered(seq: i64, body: &str) -> String {
    format!(r#"{{"seq":{seq},{}"#, &body[1..])
}

#[cfg(test)]
mod tests {
    use oi_protocol::event::{Warning, WarningScope};
    use oi_protocol::sandbox_socket::SandboxFrame;

    use super::*;
    use crate::bridge::journal::JournalLimits;

    fn id() -> MessageId {
        MessageId::from_bytes([1; 16])
    }

    fn outbox(folder: &tempfile::TempDir) -> Outbox {
        let path = folder.path().join("journal");
        Outbox::new(Journal::open(&path, JournalLimits::default()).expect("opens"))
    }

    fn warning(text: &str) -> SandboxEvent {
        SandboxEvent::Warning(Warning {
            scope: WarningScope::Setup,
            message: text.to_owned(),
            repo_owner: None,
            repo_name: None,
            sandbox_id: "s".to_owned(),
            timestamp: 1.0,
        })
    }

    fn frames(outbox: &Outbox) -> Vec<SandboxFrame> {
        let (first, next) = outbox.window();
        (first..next)
            .map(|seq| numbered(seq, &outbox.body(seq).expect("readable").expect("waits")))
            .map(|text| SandboxFrame::parse(&text).expect("a frame of the wire"))
            .collect()
    }

    #[test]
    fn text_stands_before_the_event_that_followed_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = outbox(&folder);
        outbox.append_text(&id(), "p", PartKind::Text, "before");
        outbox.emit(&warning("w")).expect("room");
        outbox.append_text(&id(), "p", PartKind::Text, " after");
        outbox.close_part(&id(), "p", PartKind::Text, None).expect("room");
        let kinds: Vec<_> = frames(&outbox).into_iter().map(|frame| (frame.seq, frame.event)).collect();
        assert!(matches!(&kinds[0], (Some(1), SandboxEvent::PartDelta(d)) if d.text == "before" && d.offset == 0));
        assert!(matches!(&kinds[1], (Some(2), SandboxEvent::Warning(_))));
        assert!(matches!(&kinds[2], (Some(3), SandboxEvent::PartDelta(d)) if d.text == " after" && d.offset == 6));
        assert!(matches!(&kinds[3], (Some(4), SandboxEvent::PartDone(d)) if d.text.as_deref() == Some("before after")));
    }

    #[test]
    fn a_session_that_lost_text_gets_it_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = outbox(&folder);
        for text in ["one ", "two ", "three "] {
            outbox.append_text(&id(), "p", PartKind::Text, text);
            outbox.flush_text().expect("room");
        }
        // It acknowledged two deltas and yet says that it holds nothing of the part.
        assert_eq!(outbox.hello(2, &[]).expect("readable"), 3);
        outbox.flush_text().expect("room");
        let mut held = String::new();
        for frame in frames(&outbox) {
            let SandboxEvent::PartDelta(delta) = frame.event else { panic!("only deltas") };
            assert!(delta.offset as usize <= held.len(), "no gap");
            held.truncate(delta.offset as usize);
            held.push_str(&delta.text);
        }
        assert_eq!(held, "one two three ");
    }

    #[test]
    fn an_acknowledged_frame_is_never_sent_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = outbox(&folder);
        for n in 0..5 {
            outbox.emit(&warning(&n.to_string())).expect("room");
        }
        outbox.ack(2).expect("written");
        assert_eq!(outbox.hello(3, &[]).expect("readable"), 4);
        assert_eq!(frames(&outbox).iter().filter_map(|frame| frame.seq).collect::<Vec<_>>(), [4, 5]);
    }
}
