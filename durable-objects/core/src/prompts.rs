//! The prompt queue: first in, first out, one at a time, each ending in exactly one terminal state.

use oi_protocol::client_socket::{AttachmentRef, ServerMessage, is_valid_prompt};
use oi_protocol::event::{Event, UserMessage};
use oi_protocol::sandbox_socket::SandboxCommand;
use oi_protocol::session_state::{MessageStatus, PromptSource, QueuedPrompt, SandboxStatus, SessionStatus};
use oi_protocol::text::{truncate_bytes, utf16_len};
use oi_protocol::{ErrorCode, MessageId, UnixMillis, limits};
use serde::Serialize;

use crate::call::CallReply;
use crate::core::{Running, Turn};
use crate::participants::Participant;
use crate::projection::Dialect;
use crate::sql::{Columns, Sql, SqlError, params};
use crate::{allowed_models, attachments, token};

/// Cancelled prompts whose request ids are remembered.
const CANCELLED_KEPT: i64 = 1_000;
/// A dialect 2 bridge must accept a prompt within this, in ms, or it is sent again.
pub(crate) const ACCEPT_WITHIN_MS: i64 = 30_000;

/// A prompt that asks to be queued.
pub(crate) struct NewPrompt<'a> {
    pub author: &'a Participant,
    pub content: &'a str,
    pub source: PromptSource,
    pub model: Option<&'a str>,
    pub reasoning_effort: Option<&'a str>,
    pub attachments: &'a [AttachmentRef],
    pub request_id: Option<&'a str>,
    /// Whether it comes from a page: then nobody has looked at its model yet.
    pub from_page: bool,
    /// What a bot asked to be told with.
    pub callback_context: Option<&'a oi_protocol::callback::CallbackContext>,
}

/// A refusal of a prompt, with its REST status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: ErrorCode,
    pub status: u16,
    pub sentence: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, status: u16, sentence: impl Into<String>) -> Self {
        Self { code, status, sentence: sentence.into() }
    }
}

impl From<Refusal> for CallReply {
    fn from(refusal: Refusal) -> Self {
        Self::refuse(refusal.status, refusal.code, refusal.sentence)
    }
}

/// A prompt that was accepted, now or by an earlier request of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enqueued {
    pub message_id: MessageId,
    /// `None` when it is finished already.
    pub position: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprint<'a> {
    participant_id: &'a str,
    content: &'a str,
    model: Option<&'a str>,
    reasoning_effort: Option<&'a str>,
    attachment_ids: Vec<&'a str>,
}

fn fingerprint(prompt: &NewPrompt<'_>) -> String {
    let text = serde_json::to_string(&Fingerprint {
        participant_id: prompt.author.id.as_str(),
        content: prompt.content,
        model: prompt.model,
        reasoning_effort: prompt.reasoning_effort,
        attachment_ids: prompt.attachments.iter().map(|file| file.attachment_id.as_str()).collect(),
    });
    token::token_hash(&text.unwrap_or_default())
}

pub(crate) fn is_valid_request_id(id: &str) -> bool {
    (1..=limits::CLIENT_REQUEST_ID_MAX_UTF16).contains(&utf16_len(id))
}

/// Whether a model's name has the form `provider/model`.
pub(crate) fn is_model_name(model: &str) -> bool {
    model.len() <= 200
        && model.split_once('/').is_some_and(|(provider, name)| !provider.is_empty() && !name.is_empty())
        && model.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b))
}

/// The model that a prompt asks for, when it is one.
pub(crate) fn asked_model(model: Option<&str>) -> Option<String> {
    model.filter(|model| is_model_name(model)).map(str::to_owned)
}

/// The effort that a prompt asks for, when it may be one.
pub(crate) fn asked_effort(effort: Option<&str>) -> Option<String> {
    effort.filter(|effort| effort.len() <= 32).map(str::to_owned)
}

/// Waiting and running prompts, in order, with what dialect 2 adds.
pub(crate) fn queue(sql: &dyn Sql) -> Result<Vec<QueuedPrompt>, SqlError> {
    let rows = sql.run(
        "SELECT id, content, status, author_id, created_at, attachments FROM messages WHERE status = 'processing'
         UNION ALL
         SELECT id, content, status, author_id, created_at, attachments FROM
            (SELECT * FROM messages WHERE status = 'pending' ORDER BY COALESCE(place, number))",
        &[],
    )?;
    let queue: Result<Vec<QueuedPrompt>, SqlError> = rows
        .into_iter()
        .map(|row| {
            let mut c = Columns::of(row);
            let (message_id, content, status) =
                (c.word(|t| MessageId::parse(t).ok())?, c.text()?, c.word(MessageStatus::parse)?);
            let author = Participant::by_id(sql, &c.text()?)?.map(|participant| participant.author());
            let created_at = Some(UnixMillis(c.int()?));
            let attachments = attachments::read_column(c.opt_text()?);
            Ok(QueuedPrompt { message_id, content, status, author, created_at, attachments, content_truncated: None })
        })
        .collect();
    queue.map(bounded)
}

/// Cuts long prompts of a queue that would be too large.
fn bounded(mut queue: Vec<QueuedPrompt>) -> Vec<QueuedPrompt> {
    let mut left = limits::QUEUE_TEXT_MAX_BYTES;
    let mut behind = queue.len();
    for prompt in &mut queue {
        behind -= 1;
        // The ones behind it have room for their beginnings.
        if prompt.content.len() > left.saturating_sub(behind * limits::QUEUE_CUT_BYTES) {
            prompt.content = truncate_bytes(&prompt.content, limits::QUEUE_CUT_BYTES).to_owned();
            prompt.content_truncated = Some(true);
        }
        left = left.saturating_sub(prompt.content.len());
    }
    queue
}

/// The queue as dialect 1 knows it.
pub(crate) fn without_additions(mut queue: Vec<QueuedPrompt>) -> Vec<QueuedPrompt> {
    for prompt in &mut queue {
        prompt.author = None;
        prompt.created_at = None;
        prompt.attachments = None;
        prompt.content_truncated = None;
    }
    queue
}

/// Pending prompts; the running one not counted.
pub(crate) fn count_pending(sql: &dyn Sql) -> Result<i64, SqlError> {
    let rows = sql.run("SELECT COUNT(*) FROM messages WHERE status = 'pending'", &[])?;
    rows.into_iter().next().map_or(Ok(0), |row| Columns::of(row).int())
}

/// The prompt that runs, read when the object wakes.
pub(crate) fn load_running(sql: &dyn Sql) -> Result<Option<Running>, SqlError> {
    let rows = sql.run(
        "SELECT id, author_id, started_at, sent, accepted, asking_since, asked_ms FROM messages
                WHERE status = 'processing'",
        &[],
    )?;
    rows.into_iter()
        .next()
        .map(|row| {
            let mut c = Columns::of(row);
            Ok(Running {
                message_id: c.word(|t| MessageId::parse(t).ok())?,
                author_id: c.text()?,
                started_at: UnixMillis(c.int()?),
                sent: c.bool()?,
                accepted: c.bool()?,
                asking_since: c.opt_int()?.map(UnixMillis),
                asked_ms: c.int()?,
                repeat_at: None,
            })
        })
        .transpose()
}

/// A stopped prompt whose end the bridge has not confirmed.
pub(crate) fn load_stopping(sql: &dyn Sql) -> Result<Option<(MessageId, UnixMillis)>, SqlError> {
    let rows = sql.run("SELECT id, stop_deadline FROM messages WHERE stop_deadline IS NOT NULL LIMIT 1", &[])?;
    rows.into_iter()
        .next()
        .map(|row| {
            let mut c = Columns::of(row);
            Ok((c.word(|t| MessageId::parse(t).ok())?, UnixMillis(c.int()?)))
        })
        .transpose()
}

impl Turn<'_, '_> {
    fn position_of(&self, message_id: &str) -> Result<Option<u32>, SqlError> {
        let rows =
            self.sql.run("SELECT COALESCE(place, number), status FROM messages WHERE id = ?", params![message_id])?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let mut c = Columns::of(row);
        let (place, status) = (c.int()?, c.word(MessageStatus::parse)?);
        match status {
            MessageStatus::Processing => Ok(Some(1)),
            MessageStatus::Pending => {
                let rows = self.sql.run(
                    "SELECT COUNT(*) FROM messages WHERE status = 'pending' AND COALESCE(place, number) <= ?",
                    params![place],
                )?;
                let ahead = rows.into_iter().next().map_or(Ok(0), |row| Columns::of(row).int())?;
                Ok(Some(ahead as u32 + u32::from(self.hot.running.is_some())))
            }
            MessageStatus::Completed | MessageStatus::Failed => Ok(None),
        }
    }

    /// Queues a prompt, or answers the one that the same request queued before.
    pub(crate) fn enqueue_prompt(&mut self, prompt: &NewPrompt<'_>) -> Result<Result<Enqueued, Refusal>, SqlError> {
        let Some(session) = &self.hot.session else {
            return Ok(Err(Refusal::new(ErrorCode::NotFound, 404, "Session not found")));
        };
        if !is_valid_prompt(prompt.content, prompt.attachments) {
            return Ok(Err(Refusal::new(ErrorCode::InvalidPrompt, 400, "Invalid prompt")));
        }
        if prompt.request_id.is_some_and(|id| !is_valid_request_id(id)) {
            let sentence = "A request id has 1 to 128 characters";
            return Ok(Err(Refusal::new(ErrorCode::InvalidPrompt, 400, sentence)));
        }
        let print = fingerprint(prompt);
        if let Some(request_id) = prompt.request_id
            && let Some(known) = self.known_request(request_id, &print)?
        {
            return Ok(known);
        }
        if !session.status.is_promptable() {
            let sentence = format!("Cannot prompt a {} session", session.status.as_str());
            return Ok(Err(Refusal::new(ErrorCode::SessionNotPromptable, 409, sentence)));
        }
        let unfinished = self.hot.pending + i64::from(self.hot.running.is_some());
        if unfinished >= limits::MAX_UNFINISHED_PROMPTS as i64 {
            let sentence = "A session may have at most 10 unfinished prompts";
            return Ok(Err(Refusal::new(ErrorCode::PromptQueueFull, 429, sentence)));
        }
        if let Some(refusal) = self.refuse_over_budget(prompt.author.id.as_str()) {
            return Ok(Err(refusal));
        }
        if prompt.from_page
            && let Some(refusal) = allowed_models::refusal(self.sql, prompt.model, prompt.reasoning_effort)?
        {
            return Ok(Err(refusal));
        }
        let files = match attachments::resolve(self.sql, prompt.attachments)? {
            Ok(files) => files,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let message_id = MessageId::from_bytes(self.cx.random_id());
        attachments::claim(self.sql, &message_id, &files)?;
        self.sql.run(
            // Behind all numbers and places that were ever given.
            "INSERT INTO messages (number, id, author_id, content, source, model, reasoning_effort, request_id,
                fingerprint, callback_context, attachments, status, created_at)
             SELECT MAX(COALESCE((SELECT MAX(number) FROM messages), 0),
                COALESCE((SELECT MAX(place) FROM messages WHERE place IS NOT NULL), 0)) + 1,
                ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?",
            params![
                message_id.as_str(),
                prompt.author.id.as_str(),
                prompt.content,
                prompt.source.as_str(),
                asked_model(prompt.model),
                asked_effort(prompt.reasoning_effort),
                prompt.request_id.map(str::to_owned),
                print,
                prompt.callback_context.and_then(|context| serde_json::to_string(context).ok()),
                (!files.is_empty()).then(|| serde_json::to_string(&files).unwrap_or_default()),
                self.cx.now.0,
            ],
        )?;
        self.hot.pending += 1;
        if let Some(session) = &mut self.hot.session {
            session.message_count += 1;
        }
        self.touch_session(Some(SessionStatus::Active))?;
        let position = Some((unfinished + 1) as u32);
        Ok(Ok(Enqueued { message_id, position }))
    }

    fn known_request(&self, request_id: &str, print: &str) -> Result<Option<Result<Enqueued, Refusal>>, SqlError> {
        let conflict = || {
            let sentence = "clientRequestId was already used for a different prompt";
            Ok(Some(Err(Refusal::new(ErrorCode::PromptRequestConflict, 409, sentence))))
        };
        let rows = self.sql.run("SELECT id, fingerprint FROM messages WHERE request_id = ?", params![request_id])?;
        if let Some(row) = rows.into_iter().next() {
            let mut c = Columns::of(row);
            let (id, known) = (c.word(|t| MessageId::parse(t).ok())?, c.opt_text()?);
            if known.as_deref() != Some(print) {
                return conflict();
            }
            let position = self.position_of(id.as_str())?;
            return Ok(Some(Ok(Enqueued { message_id: id, position })));
        }
        if self.is_known_change(request_id)? {
            return conflict();
        }
        // A prompt that was cancelled stays known, so that a late repetition does not bring it back.
        let rows = self
            .sql
            .run("SELECT message_id, fingerprint FROM cancelled_requests WHERE request_id = ?", params![request_id])?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let mut c = Columns::of(row);
        let (message_id, known) = (c.word(|t| MessageId::parse(t).ok())?, c.opt_text()?);
        if known.is_some_and(|known| known != print) {
            return conflict();
        }
        Ok(Some(Ok(Enqueued { message_id, position: None })))
    }

    /// Removes a prompt that still waits; `false` when it does not.
    pub(crate) fn cancel_prompt(&mut self, message_id: &str) -> Result<bool, SqlError> {
        let rows = self.sql.run(
            "DELETE FROM messages WHERE id = ? AND status = 'pending' AND source = 'web'
                RETURNING request_id, fingerprint",
            params![message_id],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(false) };
        attachments::release(self.sql, message_id)?;
        let mut c = Columns::of(row);
        if let (Some(request_id), print) = (c.opt_text()?, c.opt_text()?) {
            self.sql.run(
                "INSERT OR IGNORE INTO cancelled_requests (request_id, message_id, fingerprint) VALUES (?, ?, ?)",
                params![request_id, message_id, print],
            )?;
            self.sql.run(
                "DELETE FROM cancelled_requests WHERE rowid <= (SELECT MAX(rowid) FROM cancelled_requests) - ?",
                params![CANCELLED_KEPT],
            )?;
        }
        self.hot.pending -= 1;
        self.reconcile_status()?;
        Ok(true)
    }

    /// Tells everybody the queue.
    pub(crate) fn broadcast_queue(&mut self) -> Result<(), SqlError> {
        if self.sockets.subscribers().next().is_none() {
            return Ok(());
        }
        let queue = queue(self.sql)?;
        let frame = |queue| serde_json::to_string(&ServerMessage::PromptQueueUpdated { prompt_queue: queue }).ok();
        self.broadcast_to(Dialect::One, || frame(without_additions(queue.clone())));
        self.broadcast_to(Dialect::Two, || frame(queue));
        Ok(())
    }

    /// Gives the oldest waiting prompt to the agent when nothing runs and nothing is being stopped; asks for a sandbox
    /// when there is none.
    pub(crate) fn dispatch(&mut self) -> Result<(), SqlError> {
        // A fork begins once its past is here.
        if self.hot.family.fork_next.is_some() {
            return Ok(());
        }
        if self.hot.pending == 0 || self.hot.running.is_some() || self.hot.stopping.is_some() {
            return Ok(());
        }
        if !self.hot.session.as_ref().is_some_and(|session| session.status.is_promptable()) {
            return Ok(());
        }
        self.end_unaffordable()?;
        if self.hot.pending == 0 {
            return Ok(());
        }
        if self.life_is_over() {
            self.put_away(SandboxStatus::Stopped, "time_limit")?;
        }
        // Files that are being kept must not change.
        if self.hot.snapshots.taking.is_some() {
            return Ok(());
        }
        if self.sockets.bridge.is_none() {
            return self.ensure_sandbox(true);
        }
        let rows = self.sql.run(
            "UPDATE messages SET status = 'processing', started_at = ?1, sent = 0, accepted = 0 WHERE number =
                (SELECT number FROM messages WHERE status = 'pending' ORDER BY COALESCE(place, number) LIMIT 1)
             RETURNING id, author_id, content, attachments",
            params![self.cx.now.0],
        )?;
        let Some(row) = rows.into_iter().next() else {
            return Err(SqlError("the count of waiting prompts is wrong".to_owned()));
        };
        let mut c = Columns::of(row);
        let (message_id, author_id, content) = (c.word(|t| MessageId::parse(t).ok())?, c.text()?, c.text()?);
        self.hot.pending -= 1;
        let author = Participant::by_id(self.sql, &author_id)?;
        let event = Event::UserMessage(UserMessage {
            message_id: message_id.clone(),
            content,
            author: author.as_ref().map(Participant::author),
            attachments: attachments::read_column(c.opt_text()?),
            timestamp: self.cx.now.as_event_timestamp(),
        });
        self.hot.running = Some(Running {
            message_id: message_id.clone(),
            author_id,
            started_at: self.cx.now,
            sent: false,
            accepted: false,
            asking_since: None,
            asked_ms: 0,
            repeat_at: None,
        });
        self.touch_activity();
        self.hot.sandbox_dirty = true;
        self.send_running_prompt()?;
        self.tell_bot_of_start(&message_id)?;
        self.put(format!("user_message:{message_id}"), Some(message_id.as_str()), &event)?;
        self.broadcast(&ServerMessage::ProcessingStatus { is_processing: true });
        self.broadcast_queue()
    }

    /// Sends the running prompt to the bridge. A repetition goes to a bridge of dialect 2 only, which runs it once.
    pub(crate) fn send_running_prompt(&mut self) -> Result<(), SqlError> {
        let Some(running) = &self.hot.running else { return Ok(()) };
        let rows = self.sql.run(
            "SELECT content, model, reasoning_effort, attachments FROM messages WHERE id = ?",
            params![running.message_id.as_str()],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(()) };
        let mut c = Columns::of(row);
        let (content, model, effort) = (c.text()?, c.opt_text()?, c.opt_text()?);
        let files = attachments::read_column(c.opt_text()?);
        let Some(author) = Participant::by_id(self.sql, &running.author_id)? else { return Ok(()) };
        let content = match self.fork_transcript()? {
            Some(transcript) => transcript + &content,
            None => content,
        };
        let (message_id, repeat_at) = (running.message_id.clone(), self.cx.now.plus(ACCEPT_WITHIN_MS));
        let session = self.hot.session.as_ref();
        let command = SandboxCommand::Prompt {
            message_id: message_id.clone(),
            content,
            model: model.or_else(|| session.map(|s| s.model.clone())).unwrap_or_default(),
            reasoning_effort: effort.or_else(|| session.and_then(|s| s.reasoning_effort.clone())),
            author: author.command_author(),
            attachments: files,
        };
        if !self.command(&command) {
            return Ok(());
        }
        if self.hot.sandbox.dialect >= 2 {
            if let Some(running) = &mut self.hot.running {
                running.repeat_at = Some(repeat_at);
            }
        } else {
            self.out.prompt_sent = Some(message_id);
        }
        Ok(())
    }

    /// The frame of the running prompt left for a dialect 1 bridge.
    pub(crate) fn mark_sent(&mut self, message_id: &MessageId) -> Result<(), SqlError> {
        if let Some(running) = self.hot.running.as_mut().filter(|r| r.message_id == *message_id) {
            running.sent = true;
            self.sql.run("UPDATE messages SET sent = 1 WHERE id = ?", params![message_id.as_str()])?;
        }
        Ok(())
    }

    /// A dialect 2 bridge has the prompt.
    pub(crate) fn mark_accepted(&mut self, message_id: &MessageId) -> Result<(), SqlError> {
        if let Some(running) = self.hot.running.as_mut().filter(|r| r.message_id == *message_id) {
            // A repetition that is answered again is not repeated again.
            running.repeat_at = None;
            if !std::mem::replace(&mut running.accepted, true) {
                self.sql.run("UPDATE messages SET accepted = 1 WHERE id = ?", params![message_id.as_str()])?;
            }
        }
        Ok(())
    }
}
