//! Parents and children: what a child starts with, what its parent hears of it, what the parent's agent may ask it.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::event::{Outcome, Part, PartKind};
use oi_protocol::rest::PromptResponse;
use oi_protocol::session_state::{PromptSource, SessionStatus};
use oi_protocol::text::truncate_bytes;
use oi_protocol::{ErrorCode, MessageId, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::call::{CallReply, EnqueuePrompt, InitEnvironment, Person};
use crate::core::{Hot, Turn};
use crate::job::Job;
use crate::participants::Participant;
use crate::prompts::NewPrompt;
use crate::session_row::load_repositories;
use crate::sql::{Columns, Sql, SqlError, params};

/// Of a child's last answer this much is offered to its parent.
const RESULT_MAX_BYTES: usize = 12 * 1024;

/// Tell the parent's pages what became of a child. Repeated as it is; the newest replaces one that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TellParent {
    /// The parent.
    pub parent_session_id: SessionId,
    /// The child.
    pub child_session_id: SessionId,
    /// Its status.
    pub status: SessionStatus,
    /// Its title.
    pub title: Option<String>,
}

/// Offer what a child did to its parent's agent, as a prompt. Repeated as it is: the parent knows the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferResult {
    /// The parent.
    pub parent_session_id: SessionId,
    /// The child.
    pub child_session_id: SessionId,
    /// The child's prompt that ended.
    pub message_id: MessageId,
    /// The child's title.
    pub title: Option<String>,
    /// Whether it did what it should.
    pub success: bool,
    /// Why not.
    pub error: Option<String>,
    /// The agent's last words, cut.
    pub answer: String,
    /// Who prompted the child, and so prompts the parent.
    pub author: Person,
}

impl OfferResult {
    /// The prompt for the parent.
    pub fn prompt(&self) -> EnqueuePrompt {
        let name = self.title.as_deref().unwrap_or("Untitled");
        let outcome = if self.success { "completed" } else { "failed" };
        let error = self.error.as_ref().map_or_else(String::new, |error| format!("\n\nError: {error}"));
        let answer = match self.answer.as_str() {
            "" => String::new(),
            answer => format!("\n\nIts final response:\n\n{answer}"),
        };
        let content = format!("Child session \"{name}\" ({}) {outcome}.{error}{answer}", self.child_session_id);
        EnqueuePrompt {
            author: self.author.clone(),
            content,
            source: PromptSource::Agent,
            model: None,
            reasoning_effort: None,
            attachments: Vec::new(),
            idempotency_key: Some(format!("child:{}:{}", self.child_session_id, self.message_id)),
            callback_context: None,
        }
    }
}

fn person(participant: &Participant) -> Person {
    Person {
        user_id: participant.user_id.clone(),
        canonical_user_id: participant.canonical_user_id.clone(),
        scm_user_id: participant.scm_user_id.clone(),
        scm_login: participant.scm_login.clone(),
        name: participant.name.clone(),
        email: participant.email.clone(),
        avatar: participant.avatar.clone(),
    }
}

/// The agent's last words in a prompt.
pub(crate) fn last_text(sql: &dyn Sql, message_id: &str) -> Result<String, SqlError> {
    let rows = sql.run(
        "SELECT body FROM events WHERE message_id = ? AND type = 'part' ORDER BY seq DESC LIMIT 8",
        params![message_id],
    )?;
    for row in rows {
        let part: Option<Part> = serde_json::from_str(&Columns::of(row).text()?).ok();
        if let Some(part) = part.filter(|part| part.kind == PartKind::Text && !part.text.trim().is_empty()) {
            return Ok(part.text);
        }
    }
    Ok(String::new())
}

/// What a child is created with, of the parent's prompt that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpawnContext {
    /// The primary repository.
    pub repo_owner: Option<String>,
    /// The primary repository.
    pub repo_name: Option<String>,
    /// The primary repository.
    pub repo_id: Option<i64>,
    /// `provider/model`
    pub model: String,
    /// How hard to think.
    pub reasoning_effort: Option<String>,
    /// Where work starts from.
    pub base_branch: Option<String>,
    /// The environment that the parent was made of.
    #[serde(default)]
    pub environment: Option<InitEnvironment>,
    /// How long the parent's sandboxes live, in ms, where people set it.
    #[serde(default)]
    pub sandbox_timeout_ms: Option<i64>,
    /// Who prompted.
    pub prompt_author: Person,
}

pub(crate) fn spawn_context(sql: &dyn Sql, hot: &Hot) -> Result<CallReply, SqlError> {
    let (Some(session), Some(running)) = (&hot.session, &hot.running) else {
        let sentence = "No active prompt found. Child operations must be triggered by an active prompt.";
        return Ok(CallReply::refuse(400, ErrorCode::Conflict, sentence));
    };
    let Some(author) = Participant::by_id(sql, &running.author_id)? else {
        return Ok(CallReply::refuse(401, ErrorCode::Unauthorized, "Prompt author not found"));
    };
    let primary = load_repositories(sql)?.into_iter().next();
    let context = SpawnContext {
        repo_owner: primary.as_ref().map(|repository| repository.repo_owner.clone()),
        repo_name: primary.as_ref().map(|repository| repository.repo_name.clone()),
        repo_id: primary.as_ref().and_then(|repository| repository.repo_id),
        model: session.model.clone(),
        reasoning_effort: session.reasoning_effort.clone(),
        base_branch: primary.map(|repository| repository.base_branch),
        environment: session.environment.clone(),
        sandbox_timeout_ms: session.sandbox_timeout_ms,
        prompt_author: person(&author),
    };
    Ok(CallReply::json(200, &context))
}

impl Turn<'_, '_> {
    /// Tells the parent what became of this session, when it has one.
    pub(crate) fn tell_parent(&mut self) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let Some(parent) = &session.parent_session_id else { return Ok(()) };
        let job = Job::TellParent(TellParent {
            parent_session_id: parent.clone(),
            child_session_id: session.session_id.clone(),
            status: session.status,
            title: session.title.clone(),
        });
        self.enqueue(&job, Some("tell_parent"))
    }

    /// A prompt of the parent's agent ended here: its result is offered to that agent. What was cancelled is not.
    pub(crate) fn offer_result(
        &mut self,
        message_id: &MessageId,
        outcome: Outcome,
        error: Option<&str>,
    ) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let Some(parent) = session.parent_session_id.clone() else { return Ok(()) };
        if !self.hot.family.notify_parent || outcome == Outcome::Cancelled {
            return Ok(());
        }
        let (child, title) = (session.session_id.clone(), session.title.clone());
        let rows = self
            .sql
            .run("SELECT author_id FROM messages WHERE id = ? AND source = 'agent'", params![message_id.as_str()])?;
        let Some(row) = rows.into_iter().next() else { return Ok(()) };
        let Some(author) = Participant::by_id(self.sql, &Columns::of(row).text()?)? else { return Ok(()) };
        let answer = last_text(self.sql, message_id.as_str())?;
        let offer = OfferResult {
            parent_session_id: parent,
            child_session_id: child,
            message_id: message_id.clone(),
            title,
            success: outcome == Outcome::Done,
            error: error.map(|error| truncate_bytes(error, 2_000).to_owned()),
            answer: truncate_bytes(&answer, RESULT_MAX_BYTES).to_owned(),
            author: person(&author),
        };
        self.enqueue(&Job::OfferResult(Box::new(offer)), Some(&format!("offer:{message_id}")))
    }

    /// A child changed: shown to whoever watches, stored nowhere.
    pub(crate) fn child_changed(
        &mut self,
        child: &SessionId,
        status: SessionStatus,
        title: Option<String>,
    ) -> CallReply {
        self.broadcast(&ServerMessage::ChildSessionUpdate { child_session_id: child.to_string(), status, title });
        CallReply::json(200, &json!({"ok": true}))
    }

    /// The parent's agent prompts this session.
    pub(crate) fn parent_prompt(
        &mut self,
        parent: &SessionId,
        content: &str,
        author: &Person,
    ) -> Result<CallReply, SqlError> {
        if self.hot.session.as_ref().and_then(|session| session.parent_session_id.as_ref()) != Some(parent) {
            return Ok(CallReply::refuse(404, ErrorCode::NotFound, "Child session not found"));
        }
        let author = Participant::prospect(self.sql, self.cx, author, "member")?;
        let prompt = NewPrompt {
            author: &author,
            content,
            source: PromptSource::Agent,
            model: None,
            reasoning_effort: None,
            attachments: &[],
            request_id: None,
            from_page: false,
            callback_context: None,
        };
        Ok(match self.enqueue_prompt(&prompt)? {
            Ok(enqueued) => {
                author.save(self.sql)?;
                self.broadcast_queue()?;
                self.dispatch()?;
                CallReply::json(200, &PromptResponse { message_id: enqueued.message_id, status: "queued".to_owned() })
            }
            Err(refusal) if refusal.code == ErrorCode::PromptQueueFull => {
                CallReply::refuse(429, ErrorCode::PromptQueueFull, "Child prompt queue is full")
            }
            Err(refusal) => refusal.into(),
        })
    }

    /// Nobody ever used it: archived. A draft that is none is put right in the list. Repeated, it changes nothing.
    pub(crate) fn expire_draft(&mut self) -> Result<CallReply, SqlError> {
        let Some(status) = self.hot.session.as_ref().map(|session| session.status) else {
            return Ok(crate::reads::not_found());
        };
        let answer = |outcome: &str, status: SessionStatus| {
            Ok(CallReply::json(200, &json!({"outcome": outcome, "status": status})))
        };
        if status != SessionStatus::Created {
            self.hot.index_dirty = true;
            return answer("not_draft", status);
        }
        let has_work = !self.sql.run("SELECT 1 FROM messages LIMIT 1", &[])?.is_empty();
        if has_work {
            self.reconcile_status()?;
            let status = self.hot.session.as_ref().map_or(status, |session| session.status);
            return answer("has_work", status);
        }
        self.archive()?;
        answer("archived", SessionStatus::Archived)
    }
}
