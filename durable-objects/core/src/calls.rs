//! Calls of the control plane that change something, and what they answer.

use oi_protocol::client_socket::{ServerMessage, close};
use oi_protocol::event::Outcome;
use oi_protocol::rest::{PromptResponse, WsTokenResponse};
use oi_protocol::session_state::{SandboxStatus, SessionRepository, SessionStatus};
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, limits};
use serde_json::json;

use crate::access;
use crate::allowed_models;
use crate::call::{CallEnvelope, CallReply, InitSession, Principal, SessionCall};
use crate::core::Turn;
use crate::input::{ReplyId, SocketId};
use crate::participants::{Participant, mint_token, revoke_tokens};
use crate::prompts::{NewPrompt, is_model_name};
use crate::rates::{Asked, Who, too_often};
use crate::reads::{not_found, read};
use crate::sandbox_events::cut_sentence;
use crate::schema;
use crate::session_row::{SessionRow, load_repositories, save_repository};
use crate::sql::SqlError;

impl Turn<'_, '_> {
    pub(crate) fn call(&mut self, reply: ReplyId, envelope: CallEnvelope) -> Result<(), SqlError> {
        let CallEnvelope { principal, call } = envelope;
        if let Principal::Sandbox { token } = &principal {
            let allowed = matches!(
                call,
                SessionCall::SandboxRepositories
                    | SessionCall::CreatePullRequest { .. }
                    | SessionCall::AuthorizeOutput { .. }
                    | SessionCall::VerifySandbox
                    | SessionCall::SpawnContext
                    | SessionCall::Attachment { .. }
                    | SessionCall::AuthorizeMedia { .. }
                    | SessionCall::CreateMediaArtifact(_)
                    | SessionCall::TunnelUrls
                    | SessionCall::SandboxError { .. }
                    | SessionCall::StoreDiff(_)
                    | SessionCall::DiffFailed { .. }
            );
            if !allowed {
                return self.answer(reply, CallReply::refuse(403, ErrorCode::Forbidden, "Not for sandboxes"));
            }
            if self.hot.session.is_none() {
                return self.answer(reply, not_found());
            }
            if let Err((status, code, sentence)) = self.check_sandbox_token(token) {
                return self.answer(reply, CallReply::refuse(status, code, sentence));
            }
            self.show_life();
            if matches!(call, SessionCall::TunnelUrls) {
                return self.answer(reply, access::tunnel_urls(self.hot, true));
            }
        }
        if let SessionCall::Init(init) = call {
            let answer = self.init(*init)?;
            return self.answer(reply, answer);
        }
        if self.hot.session.is_none() {
            return self.answer(reply, not_found());
        }
        if let Some(answer) = read(self.sql, self.hot, self.parts, &call)? {
            return self.answer(reply, answer);
        }
        if let Some(answer) = self.asks_too_often(&principal, &call) {
            return self.answer(reply, answer);
        }
        let edit = match &call {
            SessionCall::UpdateTitle { .. } => Some("update the session title"),
            SessionCall::Archive => Some("archive this session"),
            SessionCall::Unarchive => Some("unarchive this session"),
            _ => None,
        };
        if let Some(edit) = edit
            && let Some(refusal) = self.refuse_strangers(&principal, edit)?
        {
            return self.answer(reply, refusal);
        }
        let answer = match call {
            SessionCall::CreatePullRequest { request, idempotency_key } => {
                return self.create_pull_request(reply, &request, idempotency_key.as_deref());
            }
            SessionCall::MintClientToken { person } => {
                let participant = Participant::upsert(self.sql, self.cx, &person, "member")?;
                let token = mint_token(self.sql, self.cx, &participant.id)?;
                CallReply::json(200, &WsTokenResponse { token, participant_id: participant.id })
            }
            SessionCall::Prompt(prompt) => {
                let author = Participant::prospect(self.sql, self.cx, &prompt.author, "member")?;
                let new = NewPrompt {
                    author: &author,
                    content: &prompt.content,
                    source: prompt.source,
                    model: prompt.model.as_deref(),
                    reasoning_effort: prompt.reasoning_effort.as_deref(),
                    attachments: &prompt.attachments,
                    request_id: prompt.idempotency_key.as_deref(),
                    from_page: false,
                    callback_context: prompt.callback_context.as_ref(),
                };
                match self.enqueue_prompt(&new)? {
                    Ok(enqueued) => {
                        author.save(self.sql)?;
                        self.broadcast_queue()?;
                        self.dispatch()?;
                        let status = "queued".to_owned();
                        CallReply::json(200, &PromptResponse { message_id: enqueued.message_id, status })
                    }
                    Err(refusal) => refusal.into(),
                }
            }
            SessionCall::AllowModels(allowed) => {
                allowed_models::save(self.sql, &allowed)?;
                CallReply::json(200, &json!({"status": "ok"}))
            }
            SessionCall::Stop => {
                self.stop_running(Outcome::Stopped, "Execution was stopped")?;
                self.dispatch()?;
                CallReply::json(200, &json!({"status": "stopping"}))
            }
            SessionCall::AnswerQuestion { person, request_id, answer } => {
                let by = Participant::prospect(self.sql, self.cx, &person, "member")?;
                match self.answer_question(&request_id, &answer, Some(by.author()))? {
                    Ok(()) => {
                        by.save(self.sql)?;
                        CallReply::json(200, &json!({"status": "answered"}))
                    }
                    Err(refusal) => refusal.into(),
                }
            }
            SessionCall::UpdateTitle { title } => self.update_title(title.trim())?,
            SessionCall::Archive => self.archive()?,
            SessionCall::Unarchive => self.unarchive()?,
            SessionCall::Cancel => self.cancel()?,
            SessionCall::SandboxRepositories => {
                let listed: Vec<_> = load_repositories(self.sql)?
                    .into_iter()
                    .map(|r| json!({"repoOwner": r.repo_owner, "repoName": r.repo_name, "repoId": r.repo_id}))
                    .collect();
                CallReply::json(200, &json!({"repositories": listed}))
            }
            SessionCall::AuthorizeOutput { output_id, bytes } => self.authorize_output(&output_id, bytes)?,
            SessionCall::RecordAttachment { attachment_id, file_type, bytes } => {
                self.record_attachment(&attachment_id, file_type, bytes)?
            }
            SessionCall::CompleteAttachmentCleanup {
                cleanup_claimed_at,
                acknowledged_attachment_ids,
                released_attachment_ids,
            } => self.complete_attachment_cleanup(
                cleanup_claimed_at,
                &acknowledged_attachment_ids,
                &released_attachment_ids,
            )?,
            SessionCall::AuthorizeMedia { artifact_type } => self.authorize_media(artifact_type)?,
            SessionCall::CreateMediaArtifact(new) => self.create_media_artifact(*new)?,
            SessionCall::Fault if self.cx.config.fault_injection => {
                self.sql.run("UPDATE session SET title = 'written before a panic'", &[])?;
                panic!("a fault was asked for");
            }
            SessionCall::Fault => CallReply::refuse(404, ErrorCode::NotFound, "Not found"),
            SessionCall::VerifySandbox => {
                CallReply::json(200, &json!({"valid": true, "generation": self.hot.sandbox.generation}))
            }
            SessionCall::ChildChanged { child_session_id, status, title } => {
                self.child_changed(&child_session_id, status, title)
            }
            SessionCall::ParentPrompt { parent_session_id, content, author } => {
                self.parent_prompt(&parent_session_id, &content, &author)?
            }
            SessionCall::RevokeClientTokens { user_id } => self.revoke_tokens(&user_id)?,
            SessionCall::SandboxError { error, fatal } => {
                let error = cut_sentence(error.trim());
                if fatal {
                    self.sandbox_broke(&error)?;
                } else {
                    self.broadcast(&ServerMessage::SandboxWarning { message: error });
                }
                CallReply::json(200, &json!({"status": "ok"}))
            }
            SessionCall::ExpireDraft => self.expire_draft()?,
            SessionCall::Delete => self.delete()?,
            SessionCall::AddParticipant(new) => self.add_participant(&principal, &new)?,
            SessionCall::StoreDiff(bundle) => self.store_diff(*bundle)?,
            SessionCall::DiffFailed { error } => self.diff_failed(error)?,
            SessionCall::RetryDiff => self.retry_diff(),
            SessionCall::PullRequestSnapshot { artifact_id, snapshot } => {
                self.take_pull_request_snapshot(artifact_id.as_ref(), *snapshot)?
            }
            SessionCall::RefreshPullRequests => {
                self.refresh_pull_requests()?;
                CallReply::json(202, &json!({"status": "refreshing"}))
            }
            SessionCall::Init(_)
            | SessionCall::SpawnContext
            | SessionCall::ChildSummary(_)
            | SessionCall::Deliveries
            | SessionCall::ForkPoint { .. }
            | SessionCall::ForkPage { .. }
            | SessionCall::Snapshot { .. }
            | SessionCall::Events { .. }
            | SessionCall::Messages { .. }
            | SessionCall::Artifacts { .. }
            | SessionCall::SandboxAccess
            | SessionCall::TunnelUrls
            | SessionCall::Participants
            | SessionCall::Attachment { .. }
            | SessionCall::Media { .. }
            | SessionCall::Artifact { .. }
            | SessionCall::DiffState
            | SessionCall::DiffFile { .. }
            | SessionCall::SearchTurns { .. }
            | SessionCall::ArchiveFile { .. } => not_found(),
        };
        self.answer(reply, answer)
    }

    /// Calls that people could repeat as fast as they like.
    fn asks_too_often(&mut self, principal: &Principal, call: &SessionCall) -> Option<CallReply> {
        let (person, asked) = match (call, principal) {
            (SessionCall::Prompt(prompt), _) => (&prompt.author.user_id, Asked::Prompt),
            (SessionCall::MintClientToken { person }, _) => (&person.user_id, Asked::Token),
            (SessionCall::AnswerQuestion { person, .. }, _) => (&person.user_id, Asked::Change),
            (SessionCall::Stop, Principal::User { user_id }) => (user_id, Asked::Stop),
            _ => return None,
        };
        self.sockets.rates.take(self.cx.now, Who::Person(person.clone()), asked).err().map(too_often)
    }

    /// A person signed out everywhere, or is let in no more: their pages must show a new token.
    fn revoke_tokens(&mut self, user_id: &str) -> Result<CallReply, SqlError> {
        let revoked = revoke_tokens(self.sql, user_id)?;
        let sockets: Vec<SocketId> = self
            .sockets
            .subscribers()
            .filter(|(_, subscriber)| revoked.contains(&subscriber.participant_id))
            .map(|(id, _)| id)
            .collect();
        let closed = sockets.len();
        for socket in sockets {
            self.close(socket, close::EXPIRED, "Session expired, please reconnect");
        }
        Ok(CallReply::json(200, &json!({"closed": closed})))
    }

    fn answer(&mut self, reply: ReplyId, answer: CallReply) -> Result<(), SqlError> {
        self.out.replies.push((reply, answer));
        Ok(())
    }

    fn init(&mut self, init: InitSession) -> Result<CallReply, SqlError> {
        if let Some(session) = &self.hot.session {
            return Ok(CallReply::json(200, &json!({"sessionId": session.session_id, "status": session.status})));
        }
        if !is_model_name(&init.model) {
            return Ok(CallReply::refuse(400, ErrorCode::InvalidBody, "model must be provider/model"));
        }
        schema::migrate(self.sql)?;
        let session = SessionRow {
            session_id: init.session_id.clone(),
            title: init.title,
            model: init.model,
            reasoning_effort: init.reasoning_effort,
            status: SessionStatus::Created,
            spawn_source: init.spawn_source,
            parent_session_id: init.child_of.as_ref().map(|child| child.parent_session_id.clone()),
            environment: init.environment,
            // A time that nothing can be done in would end each prompt at once.
            sandbox_timeout_ms: init.sandbox_timeout_ms.filter(|timeout| *timeout >= 1_000),
            total_cost: 0.0,
            total_tokens: 0,
            message_count: 0,
            pr_count: 0,
            active_duration_ms: 0,
            index_counter: 0,
            created_at: self.cx.now,
            updated_at: self.cx.now,
        };
        session.save(self.sql)?;
        for (position, repository) in init.repositories.into_iter().enumerate() {
            let repository = SessionRepository {
                position: position as u32,
                repo_owner: repository.repo_owner,
                repo_name: repository.repo_name,
                repo_id: Some(repository.repo_id),
                base_branch: repository.base_branch,
                branch_name: None,
                base_sha: None,
                current_sha: None,
                pr_url: None,
            };
            save_repository(self.sql, &repository)?;
        }
        Participant::upsert(self.sql, self.cx, &init.owner, "owner")?;
        self.hot.session = Some(session);
        self.join_family(init.child_of, init.fork_of)?;
        self.hot.sandbox_dirty = true;
        if init.warm {
            self.warm()?;
        }
        Ok(CallReply::json(200, &json!({"sessionId": init.session_id, "status": "created"})))
    }

    fn update_title(&mut self, title: &str) -> Result<CallReply, SqlError> {
        let refuse = |sentence: &str| Ok(CallReply::refuse(400, ErrorCode::InvalidBody, sentence));
        if title.is_empty() {
            return refuse("title must be a non-empty string");
        }
        if utf16_len(title) > limits::TITLE_MAX_UTF16 {
            return refuse("title must be 200 characters or fewer");
        }
        self.set_title(title)?;
        Ok(CallReply::json(200, &json!({"title": title})))
    }

    pub(crate) fn archive(&mut self) -> Result<CallReply, SqlError> {
        let conflict = |sentence: &str| Ok(CallReply::refuse(409, ErrorCode::Conflict, sentence));
        match self.hot.session.as_ref().map(|session| session.status) {
            Some(SessionStatus::Cancelled) => return conflict("Cancelled sessions cannot be archived"),
            _ if self.hot.running.is_some() || self.hot.pending > 0 => {
                return conflict("Cannot archive a session with queued work");
            }
            _ => {}
        }
        self.touch_session(Some(SessionStatus::Archived))?;
        if self.hot.sandbox.status == SandboxStatus::Ready {
            self.put_away(SandboxStatus::Stopped, "archive")?;
        } else {
            self.retire_live_sandbox("archive")?;
        }
        Ok(CallReply::json(200, &json!({"status": "archived"})))
    }

    fn unarchive(&mut self) -> Result<CallReply, SqlError> {
        if self.hot.session.as_ref().map(|session| session.status) != Some(SessionStatus::Archived) {
            return Ok(CallReply::refuse(409, ErrorCode::Conflict, "Session is not archived"));
        }
        if let Some(session) = &mut self.hot.session {
            session.status = SessionStatus::Created;
        }
        self.reconcile_status()?;
        let status = self.hot.session.as_ref().map(|session| session.status);
        if let Some(status) = status.filter(|status| *status == SessionStatus::Created) {
            self.broadcast(&oi_protocol::client_socket::ServerMessage::SessionStatus { status });
        }
        Ok(CallReply::json(200, &json!({"status": status})))
    }

    fn cancel(&mut self) -> Result<CallReply, SqlError> {
        if let Some(session) = &self.hot.session
            && !matches!(session.status, SessionStatus::Created | SessionStatus::Active)
        {
            let sentence = format!("Session already {}", session.status.as_str());
            return Ok(CallReply::refuse(409, ErrorCode::Conflict, sentence));
        }
        self.touch_session(Some(SessionStatus::Cancelled))?;
        self.end_running(Outcome::Cancelled, "Execution was cancelled")?;
        self.end_pending(Outcome::Cancelled, "Execution was cancelled before it started")?;
        self.retire_live_sandbox("cancel")?;
        self.discard_parked()?;
        Ok(CallReply::json(200, &json!({"status": "cancelled"})))
    }

    pub(crate) fn retire_live_sandbox(&mut self, reason: &str) -> Result<(), SqlError> {
        self.give_up_late(reason)?;
        if self.hot.sandbox.status == SandboxStatus::Pending || self.hot.sandbox.status.is_dead() {
            return Ok(());
        }
        self.retire_sandbox(SandboxStatus::Stopped, reason)
    }
}
