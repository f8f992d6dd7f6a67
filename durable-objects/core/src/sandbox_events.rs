//! What bridges send: checked against the current generation and the current prompt, stored once, acknowledged.

use oi_protocol::client_socket::{ServerMessage, close};
use oi_protocol::event::{BootStatus, Event, Outcome};
use oi_protocol::sandbox_socket::{PartDone, RejectedSandboxFrame, SandboxCommand, SandboxEvent, SandboxFrame};
use oi_protocol::session_state::{ArtifactType, SessionArtifact};
use oi_protocol::text::{head_and_tail, utf16_len};
use oi_protocol::{ArtifactId, MessageId, limits};

use crate::core::Turn;
use crate::input::SocketId;
use crate::parts::DeltaRefusal;
use crate::session_row::{load_repositories, save_repository};
use crate::sockets::Role;
use crate::sql::{SqlError, params};
use crate::timeline::body_of;
use crate::{artifacts, token};

/// What became of a frame.
pub(crate) enum Verdict {
    /// It had its effect, or needs none.
    Taken,
    /// It can never be accepted.
    Never(&'static str),
    /// The bridge must go on from what the session has.
    Behind,
}

/// A sentence of the sandbox is kept up to this.
pub(crate) const SENTENCE_MAX_BYTES: usize = 16 * 1024;
/// An artifact's address is at most this long.
const URL_MAX_BYTES: usize = 4 * 1024;
/// The phase of a boot that says how it ended.
const BOOT_END: &str = "ready";

/// The head and the tail of a long sentence.
pub(crate) fn cut_sentence(text: &str) -> String {
    head_and_tail(text, SENTENCE_MAX_BYTES).unwrap_or_else(|| text.to_owned())
}

/// The number of a frame that is too large to be read: only its top level is looked through, nothing is kept.
fn number_of(text: &str) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        seq: Option<i64>,
    }
    serde_json::from_str::<Numbered>(text).ok().and_then(|numbered| numbered.seq)
}

impl Turn<'_, '_> {
    fn is_current_bridge(&mut self, socket: SocketId) -> bool {
        let current = self.sockets.bridge == Some(socket)
            && matches!(self.sockets.roles.get(&socket),
                Some(Role::Sandbox { generation, .. }) if *generation == self.hot.sandbox.generation);
        if !current {
            self.close(socket, close::NORMAL, "New sandbox connecting");
        }
        current
    }

    /// Reads and takes a frame.
    pub(crate) fn sandbox_text(&mut self, socket: SocketId, text: &str) -> Result<(), SqlError> {
        match SandboxFrame::parse(text) {
            Ok(frame) => self.sandbox_event(socket, frame),
            Err(rejected) => {
                if !self.is_current_bridge(socket) {
                    return Ok(());
                }
                self.out.log.push(format!("sandbox frame rejected: {}", rejected.code()));
                let seq = match rejected {
                    RejectedSandboxFrame::TooLarge => number_of(text),
                    _ => rejected.seq(),
                };
                match seq.filter(|_| self.hot.sandbox.dialect >= 2) {
                    Some(seq) if seq == self.hot.received + 1 => {
                        self.advance(seq);
                        self.command(&SandboxCommand::EventRejected { seq, code: rejected.code().to_owned() });
                    }
                    Some(seq) if seq > self.hot.received => self.hello_again(),
                    _ => {}
                }
                Ok(())
            }
        }
    }

    fn advance(&mut self, seq: i64) {
        self.hot.received = seq;
        self.hot.received_dirty = true;
        self.hot.hello_sent = false;
    }

    /// A frame that faulted whenever it was taken alone: without it the ones behind it can be had.
    pub(crate) fn pass_over(&mut self, socket: SocketId, seq: i64) {
        if self.is_current_bridge(socket) && self.hot.sandbox.dialect >= 2 && seq == self.hot.received + 1 {
            self.out.log.push(format!("sandbox frame {seq} faults and is passed over"));
            self.advance(seq);
            self.command(&SandboxCommand::EventRejected { seq, code: "EVENT_FAULTED".to_owned() });
        }
    }

    fn hello_again(&mut self) {
        if !self.hot.hello_sent && self.hot.sandbox.dialect >= 2 {
            self.say_hello();
        }
    }

    /// Tells the bridge where to go on from. The commit writes the text that the mark covers.
    pub(crate) fn say_hello(&mut self) {
        self.hot.hello_sent = true;
        self.hot.received_dirty = true;
        let hello = SandboxCommand::Hello { dialect: 2, acked_seq: self.hot.received, parts: self.parts.known() };
        self.command(&hello);
    }

    /// Takes a frame of the current bridge, once.
    pub(crate) fn sandbox_event(&mut self, socket: SocketId, frame: SandboxFrame) -> Result<(), SqlError> {
        if !self.is_current_bridge(socket) {
            return Ok(());
        }
        (self.hot.sandbox.last_heartbeat, self.hot.heard) = (Some(self.cx.now), true);
        let two = self.hot.sandbox.dialect >= 2;
        if let Some(seq) = frame.seq.filter(|_| two) {
            if seq <= self.hot.received {
                return Ok(());
            }
            if seq != self.hot.received + 1 {
                // Frames before it were lost with the memory that held them: the bridge sends them again.
                self.hello_again();
                return Ok(());
            }
        }
        if !matches!(frame.event, SandboxEvent::PartDelta(_) | SandboxEvent::Token(_) | SandboxEvent::Heartbeat(_)) {
            // A part's place precedes what follows it; its text is written once, at the end of the commit.
            self.flush_gathered();
            self.place_open_text()?;
            self.hot.text_due = true;
        }
        let ack_id = frame.ack_id.clone();
        let critical = matches!(
            frame.event,
            SandboxEvent::ExecutionComplete(_)
                | SandboxEvent::Error(_)
                | SandboxEvent::PushComplete(_)
                | SandboxEvent::PushError(_)
        );
        let generation = self.hot.sandbox.generation;
        let verdict = self.apply(frame.event, ack_id.as_deref())?;
        if self.hot.sandbox.generation != generation {
            // It ended its own sandbox: the mark is the next one's.
            return Ok(());
        }
        match (verdict, frame.seq.filter(|_| two)) {
            // It was told already and says the same: that text is nowhere.
            (Verdict::Behind, Some(seq)) if self.hot.hello_sent => {
                self.advance(seq);
                self.command(&SandboxCommand::EventRejected { seq, code: "OFFSET_GAP".to_owned() });
            }
            (Verdict::Behind, _) => self.hello_again(),
            (Verdict::Taken, Some(seq)) => self.advance(seq),
            (Verdict::Never(code), Some(seq)) => {
                self.advance(seq);
                self.command(&SandboxCommand::EventRejected { seq, code: code.to_owned() });
            }
            (Verdict::Taken | Verdict::Never(_), None) => {}
        }
        if let (true, Some(ack_id)) = (critical && !two, ack_id) {
            self.command(&SandboxCommand::Ack { ack_id: Some(ack_id), seq: None });
        }
        Ok(())
    }

    fn is_running(&self, message_id: &MessageId) -> bool {
        self.hot.running.as_ref().is_some_and(|running| running.message_id == *message_id)
    }

    fn apply(&mut self, event: SandboxEvent, ack_id: Option<&str>) -> Result<Verdict, SqlError> {
        match event {
            SandboxEvent::Heartbeat(_) => {
                self.hot.sandbox_dirty = true;
                Ok(Verdict::Taken)
            }
            SandboxEvent::PartDelta(delta) => {
                if !self.is_running(&delta.message_id) {
                    return Ok(Verdict::Taken);
                }
                if !self.parts.holds(&delta.message_id, &delta.part_id)
                    && self.is_finished_part(&delta.message_id, &delta.part_id)?
                {
                    return Ok(Verdict::Never("PART_FINISHED"));
                }
                Ok(match self.parts.apply(self.cx.now, &delta) {
                    Ok(()) => Verdict::Taken,
                    Err(DeltaRefusal::Gap) => Verdict::Behind,
                    Err(DeltaRefusal::Invalid) => Verdict::Never("INVALID_DELTA"),
                })
            }
            SandboxEvent::PartDone(done) => self.part_done(done),
            SandboxEvent::Token(token) => {
                if self.is_running(&token.message_id) {
                    self.apply_token(&token.message_id, &token.content)?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::ToolCall(call) => {
                if self.is_running(&call.message_id) {
                    self.tool_call(call)
                } else {
                    Ok(Verdict::Taken)
                }
            }
            SandboxEvent::StepStart(step) => {
                if self.is_running(&step.message_id) {
                    self.touch_activity();
                    self.broadcast_unstored(&Event::StepStart(step))?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::StepFinish(step) => {
                if self.is_running(&step.message_id) {
                    self.touch_activity();
                    let event = Event::StepFinish(step.clone());
                    self.broadcast_unstored(&event)?;
                    self.spend(&step)?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::ContextCompacted(compacted) => {
                let id = compacted.message_id.clone();
                if self.is_running(&id) {
                    self.append(Some(id.as_str()), &Event::ContextCompacted(compacted))?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::Error(mut error) => {
                error.error = cut_sentence(&error.error);
                let id = error.message_id.clone();
                if self.is_running(&id) {
                    self.put_critical(Some(id.as_str()), &Event::Error(error), ack_id)?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::ExecutionComplete(complete) => {
                if self.is_running(&complete.message_id) {
                    let outcome = if complete.success { Outcome::Done } else { Outcome::Failed };
                    let error = (!complete.success)
                        .then(|| complete.error.as_deref().map(cut_sentence))
                        .map(|error| error.unwrap_or_else(|| "The agent failed without a reason.".to_owned()));
                    self.finish_running(outcome, error, complete.sandbox_id, complete.timestamp)?;
                } else if self.hot.stopping.as_ref().is_some_and(|(id, _)| *id == complete.message_id) {
                    self.clear_stopping()?;
                }
                self.touch_activity();
                self.dispatch()?;
                self.snapshot_after_turn()?;
                Ok(Verdict::Taken)
            }
            SandboxEvent::Ready(ready) => {
                self.boot_finished()?;
                if let Some(baselines) = &ready.repositories {
                    self.pin_baselines(baselines)?;
                }
                if self.hot.sandbox.runtime_version.is_none() {
                    self.hot.sandbox.runtime_version.clone_from(&ready.runtime_version);
                    self.hot.sandbox_dirty = true;
                }
                let id = format!("ready:{}", self.hot.sandbox.generation);
                if !self.is_archived(&id)? {
                    self.put(id, None, &Event::Ready(ready))?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::BootProgress(progress) => {
                if progress.phase.is_empty() || progress.phase.len() > 64 {
                    return Ok(Verdict::Never("MALFORMED_EVENT"));
                }
                let id = format!("boot:{}:{}", self.hot.sandbox.generation, progress.phase);
                let ended = (progress.phase == BOOT_END && progress.status == BootStatus::Failed)
                    .then(|| progress.detail.as_deref().unwrap_or("it did not say why").to_owned());
                if !self.is_archived(&id)? {
                    self.put(id, None, &Event::BootProgress(progress))?;
                }
                // One that is up already says it again after its socket was lost.
                if let Some(error) = ended.filter(|_| self.hot.sandbox.boot_deadline.is_some()) {
                    self.sandbox_broke(&cut_sentence(&error))?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::Warning(mut warning) => {
                warning.message = cut_sentence(&warning.message);
                self.append(None, &Event::Warning(warning))?;
                Ok(Verdict::Taken)
            }
            SandboxEvent::GitSync(sync) => {
                if let (Some(sha), Some(mut primary)) =
                    (sync.sha.clone(), load_repositories(self.sql)?.into_iter().next())
                {
                    primary.current_sha = Some(sha);
                    save_repository(self.sql, &primary)?;
                }
                self.append(None, &Event::GitSync(sync))?;
                Ok(Verdict::Taken)
            }
            SandboxEvent::PushComplete(push) => {
                let (branch, owner, name) = (push.branch_name.clone(), push.repo_owner.clone(), push.repo_name.clone());
                if self.put_critical(None, &Event::PushComplete(push), ack_id)? {
                    self.push_completed(branch.as_deref(), owner.as_deref(), name.as_deref())?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::PushError(mut push) => {
                push.error = cut_sentence(&push.error);
                let (branch, owner, name, error) =
                    (push.branch_name.clone(), push.repo_owner.clone(), push.repo_name.clone(), push.error.clone());
                if self.put_critical(None, &Event::PushError(push), ack_id)? {
                    self.push_failed(branch.as_deref(), owner.as_deref(), name.as_deref(), &error)?;
                }
                Ok(Verdict::Taken)
            }
            SandboxEvent::Artifact(artifact) => self.sandbox_artifact(artifact),
            SandboxEvent::SessionTitle(title) => {
                self.suggest_title(&title.title)?;
                Ok(Verdict::Taken)
            }
            SandboxEvent::InputRequest(request) => {
                if self.hot.sandbox.dialect >= 2 && self.is_running(&request.message_id) {
                    self.ask(request)
                } else {
                    Ok(Verdict::Taken)
                }
            }
            SandboxEvent::PromptAccepted(accepted) => {
                self.mark_accepted(&accepted.message_id)?;
                Ok(Verdict::Taken)
            }
        }
    }

    fn part_done(&mut self, done: PartDone) -> Result<Verdict, SqlError> {
        if !self.is_running(&done.message_id) {
            return Ok(Verdict::Taken);
        }
        match self.check_finished(&done) {
            Err(DeltaRefusal::Gap) => return Ok(Verdict::Behind),
            Err(DeltaRefusal::Invalid) => return Ok(Verdict::Never("INVALID_PART")),
            Ok(()) => {}
        }
        let text = done.text.map(|text| head_and_tail(&text, limits::OPEN_TEXT_MAX_BYTES).unwrap_or(text));
        self.close_part(&done.message_id, &done.part_id, done.kind, text)?;
        Ok(Verdict::Taken)
    }

    /// A critical event of a dialect 1 bridge may come again after a reconnect: its id tells the repetition, which
    /// has no effect (`false`).
    fn put_critical(
        &mut self,
        message_id: Option<&str>,
        event: &Event,
        ack_id: Option<&str>,
    ) -> Result<bool, SqlError> {
        let Some(ack_id) = ack_id else {
            self.append(message_id, event)?;
            return Ok(true);
        };
        let print = token::token_hash(&format!("{ack_id}\n{}", body_of(event)?));
        let id = format!("critical:{}", &print[..32]);
        if !self.sql.run("SELECT 1 FROM events WHERE id = ?", params![id.as_str()])?.is_empty() {
            return Ok(false);
        }
        self.put(id, message_id, event)?;
        Ok(true)
    }

    /// Pictures and pages; pull requests come from the forge alone.
    fn sandbox_artifact(&mut self, event: oi_protocol::event::ArtifactEvent) -> Result<Verdict, SqlError> {
        let kind = ArtifactType::parse(&event.artifact_type).filter(|kind| *kind != ArtifactType::Pr);
        let Some(artifact_type) = kind else { return Ok(Verdict::Never("UNKNOWN_ARTIFACT")) };
        let metadata_bytes =
            event.metadata.as_ref().map_or(0, |metadata| serde_json::json!(metadata).to_string().len());
        if event.url.len() > URL_MAX_BYTES || metadata_bytes > SENTENCE_MAX_BYTES {
            return Ok(Verdict::Never("MALFORMED_EVENT"));
        }
        let id = event
            .artifact_id
            .as_deref()
            .and_then(|id| ArtifactId::parse(id).ok())
            .unwrap_or_else(|| ArtifactId::from_bytes(self.cx.random_id()));
        let known = artifacts::by_id(self.sql, &id)?;
        if known.as_ref().is_some_and(|known| known.artifact_type != artifact_type) {
            // Its id is another's, such as a pull request's.
            return Ok(Verdict::Never("FOREIGN_ARTIFACT"));
        }
        let artifact = SessionArtifact {
            id,
            artifact_type,
            url: Some(event.url.clone()),
            metadata: event.metadata.clone(),
            created_at: known.as_ref().map_or(self.cx.now, |known| known.created_at),
            updated_at: Some(self.cx.now),
        };
        artifacts::save(self.sql, &artifact)?;
        self.broadcast(&match known {
            Some(_) => ServerMessage::ArtifactUpdated { artifact },
            None => ServerMessage::ArtifactCreated { artifact },
        });
        let message_id = self.hot.running.as_ref().map(|running| running.message_id.as_str().to_owned());
        self.touch_activity();
        self.append(message_id.as_deref(), &Event::Artifact(event))?;
        Ok(Verdict::Taken)
    }

    /// The agent's title counts only while nobody gave one.
    fn suggest_title(&mut self, title: &str) -> Result<(), SqlError> {
        let title = title.trim();
        let unset = self.hot.session.as_ref().is_some_and(|session| session.title.is_none());
        if !unset || title.is_empty() || utf16_len(title) > limits::TITLE_MAX_UTF16 {
            return Ok(());
        }
        self.set_title(title)
    }

    pub(crate) fn set_title(&mut self, title: &str) -> Result<(), SqlError> {
        if let Some(session) = &mut self.hot.session {
            session.title = Some(title.to_owned());
            self.hot.parent_dirty = true;
        }
        self.broadcast(&ServerMessage::SessionTitle { title: title.to_owned() });
        self.touch_session(None)
    }
}
