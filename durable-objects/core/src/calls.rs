//! Calls of the control plane: what they answer, and what they change.

use oi_protocol::client_socket::TimelineMode;
use oi_protocol::event::Outcome;
use oi_protocol::rest::{PromptResponse, WsTokenResponse};
use oi_protocol::session_state::{
    ArtifactType, MessageStatus, SandboxStatus, SessionInfo, SessionRepository, SessionStatus,
};
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, UnixMillis, limits};
use serde::Serialize;
use serde_json::json;

use crate::call::{CallEnvelope, CallReply, InitSession, Principal, SessionCall};
use crate::core::{Hot, Turn};
use crate::input::ReplyId;
use crate::participants::{Participant, mint_token};
use crate::parts::OpenParts;
use crate::projection::Dialect;
use crate::prompts::{self, NewPrompt, is_model_name};
use crate::session_row::{SessionRow, load_repositories, save_repository};
use crate::sql::{Columns, Sql, SqlError, params};
use crate::{artifacts, schema, timeline};

fn not_found() -> CallReply {
    CallReply::refuse(404, ErrorCode::NotFound, "Session not found")
}

fn session_info(sql: &dyn Sql, hot: &Hot, session: &SessionRow) -> Result<SessionInfo, SqlError> {
    let mut repositories = load_repositories(sql)?;
    let pull_requests: Vec<_> =
        artifacts::list(sql)?.into_iter().filter(|a| a.artifact_type == ArtifactType::Pr).collect();
    for repository in &mut repositories {
        repository.pr_url = pull_requests
            .iter()
            .find(|a| artifacts::is_pull_request_of(a, &repository.repo_owner, &repository.repo_name))
            .and_then(|a| a.url.clone());
    }
    let primary: Option<&SessionRepository> = repositories.first();
    Ok(SessionInfo {
        id: session.session_id.clone(),
        title: session.title.clone(),
        repo_owner: primary.map(|r| r.repo_owner.clone()),
        repo_name: primary.map(|r| r.repo_name.clone()),
        base_branch: primary.map(|r| r.base_branch.clone()),
        branch_name: primary.and_then(|r| r.branch_name.clone()),
        status: session.status,
        sandbox_status: hot.sandbox.status,
        message_count: session.message_count as u32,
        created_at: session.created_at,
        model: session.model.clone(),
        reasoning_effort: session.reasoning_effort.clone(),
        is_processing: hot.running.is_some(),
        parent_session_id: session.parent_session_id.clone(),
        total_cost: session.total_cost,
        code_server_url: None,
        vnc_url: None,
        tunnel_urls: None,
        ttyd_url: None,
        sandbox_dashboard_url: None,
        repositories,
        environment_id: None,
        environment_name: None,
    })
}

fn to_json(value: &impl Serialize) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|error| SqlError(error.to_string()))
}

/// The session at this moment as a JSON object.
pub(crate) fn snapshot(
    sql: &dyn Sql,
    hot: &Hot,
    parts: &OpenParts,
    now: UnixMillis,
    dialect: Dialect,
    after_revision: Option<i64>,
) -> Result<String, SqlError> {
    let Some(session) = &hot.session else { return Err(SqlError("no session".to_owned())) };
    let info = to_json(&session_info(sql, hot, session)?)?;
    let artifacts = to_json(&artifacts::list(sql)?)?;
    let spawn_error = to_json(&hot.sandbox.spawn_error)?;
    let queue = prompts::queue(sql)?;
    let (timeline, queue, additions) = match dialect {
        Dialect::Two => {
            let page = timeline::page_after_revision(sql, hot, after_revision)?;
            let mode = if page.mode == Some(TimelineMode::Delta) { "delta" } else { "snapshot" };
            let timeline = format!(
                r#"{{"mode":"{mode}","events":{},"hasMore":{},"cursor":{}}}"#,
                page.events,
                page.has_more,
                to_json(&page.cursor)?
            );
            let open = to_json(&parts.open())?;
            (timeline, queue, format!(r#","openParts":{open},"revision":{}"#, hot.revision))
        }
        Dialect::One => {
            let page = timeline::page_before(sql, None, limits::REPLAY_MAX_EVENTS, dialect)?;
            let mut events = page.events;
            for (index, token) in parts.unwritten_tokens(now).into_iter().enumerate() {
                // Text that has no row yet follows all that has.
                events.pop();
                let comma = if events.len() > 1 { "," } else { "" };
                let seq = hot.seq + 1 + index as i64;
                let envelope = format!(r#"{{"eventId":"open:{seq}","timelineSequence":{seq},"event":{token}}}]"#);
                events += comma;
                events += &envelope;
            }
            let timeline =
                format!(r#"{{"events":{events},"hasMore":{},"cursor":{}}}"#, page.has_more, to_json(&page.cursor)?);
            (timeline, prompts::without_additions(queue), String::new())
        }
    };
    let queue = to_json(&queue)?;
    Ok(format!(
        r#"{{"session":{info},"artifacts":{artifacts},"timeline":{timeline},"promptQueue":{queue},"spawnError":{spawn_error}{additions}}}"#
    ))
}

/// Answers a call that writes nothing; `None` when it is one that writes.
pub(crate) fn read(
    sql: &dyn Sql,
    hot: &Hot,
    parts: &OpenParts,
    now: UnixMillis,
    call: &SessionCall,
) -> Result<Option<CallReply>, SqlError> {
    let reads = matches!(
        call,
        SessionCall::Snapshot { .. }
            | SessionCall::Events { .. }
            | SessionCall::Messages { .. }
            | SessionCall::Artifacts
            | SessionCall::Participants
    );
    if !reads {
        return Ok(None);
    }
    if hot.session.is_none() {
        return Ok(Some(not_found()));
    }
    Ok(Some(match call {
        SessionCall::Snapshot { dialect } => {
            let body = snapshot(sql, hot, parts, now, Dialect::granted(Some(*dialect)), None)?;
            CallReply { status: 200, body }
        }
        SessionCall::Events { cursor, limit, event_type, message_id } => {
            events(sql, cursor.as_deref(), *limit, event_type.as_deref(), message_id.as_deref())?
        }
        SessionCall::Messages { cursor, limit, status } => messages(sql, cursor.as_deref(), *limit, status.as_deref())?,
        SessionCall::Artifacts => CallReply::json(200, &json!({"artifacts": artifacts::list(sql)?})),
        SessionCall::Participants => participants(sql)?,
        _ => return Ok(None),
    }))
}

fn bad_parameter(sentence: String) -> CallReply {
    CallReply::refuse(400, ErrorCode::InvalidParameter, sentence)
}

/// The place that a REST cursor names: `<createdAt>:<sequence>:<id>`.
fn parse_cursor(cursor: Option<&str>) -> Result<Option<i64>, CallReply> {
    let Some(cursor) = cursor else { return Ok(None) };
    let place = cursor.split(':').nth(1).and_then(|seq| seq.parse::<i64>().ok()).filter(|seq| *seq >= 0);
    place.map(Some).ok_or_else(|| bad_parameter("Invalid cursor".to_owned()))
}

fn page_size(limit: Option<u32>, default: u32, max: u32) -> Result<u32, CallReply> {
    match limit {
        None => Ok(default),
        Some(0) => Err(bad_parameter("limit must be at least 1".to_owned())),
        Some(limit) => Ok(limit.min(max)),
    }
}

const EVENT_TYPES: [&str; 18] = [
    "user_message",
    "token",
    "part",
    "tool_call",
    "tool_result",
    "step_start",
    "step_finish",
    "context_compacted",
    "error",
    "execution_complete",
    "ready",
    "boot_progress",
    "warning",
    "git_sync",
    "push_complete",
    "push_error",
    "artifact",
    "heartbeat",
];

fn events(
    sql: &dyn Sql,
    cursor: Option<&str>,
    limit: Option<u32>,
    event_type: Option<&str>,
    message_id: Option<&str>,
) -> Result<CallReply, SqlError> {
    if let Some(kind) = event_type.filter(|kind| !EVENT_TYPES.contains(kind)) {
        let kind = oi_protocol::text::truncate_bytes(kind, 64);
        return Ok(bad_parameter(format!("Invalid event type: {kind}")));
    }
    let (before, limit) = match (parse_cursor(cursor), page_size(limit, 50, 200)) {
        (Ok(before), Ok(limit)) => (before, limit),
        (Err(reply), _) | (_, Err(reply)) => return Ok(reply),
    };
    let query = timeline::EventQuery { before, limit, event_type, message_id };
    Ok(CallReply::json(200, &timeline::list(sql, &query)?))
}

fn messages(
    sql: &dyn Sql,
    cursor: Option<&str>,
    limit: Option<u32>,
    status: Option<&str>,
) -> Result<CallReply, SqlError> {
    if let Some(word) = status.filter(|word| MessageStatus::parse(word).is_none()) {
        let word = oi_protocol::text::truncate_bytes(word, 64);
        return Ok(bad_parameter(format!("Invalid message status: {word}")));
    }
    let (before, limit) = match (parse_cursor(cursor), page_size(limit, 50, 100)) {
        (Ok(before), Ok(limit)) => (before, limit),
        (Err(reply), _) | (_, Err(reply)) => return Ok(reply),
    };
    let rows = sql.run(
        "SELECT number, id, author_id, content, source, status, outcome, error_message, created_at, started_at,
            completed_at FROM messages WHERE number < ?1 AND (?2 IS NULL OR status = ?2)
            ORDER BY number DESC LIMIT ?3",
        params![before.unwrap_or(i64::from(u32::MAX) * 1024), status.map(str::to_owned), i64::from(limit) + 1],
    )?;
    let mut has_more = rows.len() > limit as usize;
    let (mut listed, mut next, mut bytes) = (Vec::new(), None, 0);
    for row in rows.into_iter().take(limit as usize) {
        let mut c = Columns::of(row);
        let (number, id, author, content) = (c.int()?, c.text()?, c.text()?, c.text()?);
        if bytes + content.len() > limits::PAGE_MAX_BYTES && bytes > 0 {
            has_more = true;
            break;
        }
        bytes += content.len();
        let (source, status, outcome, error) = (c.text()?, c.text()?, c.opt_text()?, c.opt_text()?);
        let (created, started, completed) = (c.int()?, c.opt_int()?, c.opt_int()?);
        next = Some(format!("{created}:{number}:{id}"));
        listed.push(json!({
            "id": id, "authorId": author, "content": content, "source": source, "attachments": null,
            "status": status, "outcome": outcome, "errorMessage": error,
            "createdAt": created, "startedAt": started, "completedAt": completed,
        }));
    }
    let cursor = next.filter(|_| has_more);
    let mut body = json!({"messages": listed, "hasMore": has_more});
    if let Some(cursor) = cursor {
        body["cursor"] = json!(cursor);
    }
    Ok(CallReply::json(200, &body))
}

fn participants(sql: &dyn Sql) -> Result<CallReply, SqlError> {
    let listed: Vec<_> = Participant::all(sql)?
        .into_iter()
        .map(|p| {
            json!({
                "id": p.id, "userId": p.user_id, "canonicalUserId": p.canonical_user_id, "scmLogin": p.scm_login,
                "scmName": p.name, "role": p.role, "joinedAt": p.joined_at,
            })
        })
        .collect();
    Ok(CallReply::json(200, &json!({"participants": listed})))
}

impl Turn<'_, '_> {
    pub(crate) fn call(&mut self, reply: ReplyId, envelope: CallEnvelope) -> Result<(), SqlError> {
        let CallEnvelope { principal, call } = envelope;
        if let Principal::Sandbox { token } = &principal {
            let allowed = matches!(call, SessionCall::SandboxRepositories | SessionCall::CreatePullRequest { .. });
            if !allowed {
                return self.answer(reply, CallReply::refuse(403, ErrorCode::Forbidden, "Not for sandboxes"));
            }
            if self.hot.session.is_none() {
                return self.answer(reply, not_found());
            }
            if let Err((status, code, sentence)) = self.check_sandbox_token(token) {
                return self.answer(reply, CallReply::refuse(status, code, sentence));
            }
        }
        if let SessionCall::Init(init) = call {
            let answer = self.init(*init)?;
            return self.answer(reply, answer);
        }
        if self.hot.session.is_none() {
            return self.answer(reply, not_found());
        }
        if let Some(answer) = read(self.sql, self.hot, self.parts, self.cx.now, &call)? {
            return self.answer(reply, answer);
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
                let author = Participant::upsert(self.sql, self.cx, &prompt.author, "member")?;
                let new = NewPrompt {
                    author: &author,
                    content: &prompt.content,
                    source: prompt.source,
                    model: prompt.model.as_deref(),
                    reasoning_effort: prompt.reasoning_effort.as_deref(),
                    attachment_ids: prompt.attachments.iter().map(|a| a.attachment_id.as_str()).collect(),
                    request_id: prompt.idempotency_key.as_deref(),
                };
                match self.enqueue_prompt(&new)? {
                    Ok(enqueued) => {
                        self.broadcast_queue()?;
                        self.dispatch()?;
                        let status = "queued".to_owned();
                        CallReply::json(200, &PromptResponse { message_id: enqueued.message_id, status })
                    }
                    Err(refusal) => CallReply::refuse(refusal.status, refusal.code, refusal.sentence),
                }
            }
            SessionCall::Stop => {
                self.stop_running(Outcome::Stopped, "Execution was stopped")?;
                self.dispatch()?;
                CallReply::json(200, &json!({"status": "stopping"}))
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
            SessionCall::Fault if self.cx.config.fault_injection => {
                self.sql.run("UPDATE session SET title = 'written before a panic'", &[])?;
                panic!("a fault was asked for");
            }
            SessionCall::Fault => CallReply::refuse(404, ErrorCode::NotFound, "Not found"),
            SessionCall::Init(_)
            | SessionCall::Snapshot { .. }
            | SessionCall::Events { .. }
            | SessionCall::Messages { .. }
            | SessionCall::Artifacts
            | SessionCall::Participants => not_found(),
        };
        self.answer(reply, answer)
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
            parent_session_id: None,
            total_cost: 0.0,
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

    fn archive(&mut self) -> Result<CallReply, SqlError> {
        let conflict = |sentence: &str| Ok(CallReply::refuse(409, ErrorCode::Conflict, sentence));
        match self.hot.session.as_ref().map(|session| session.status) {
            Some(SessionStatus::Cancelled) => return conflict("Cancelled sessions cannot be archived"),
            _ if self.hot.running.is_some() || self.hot.pending > 0 => {
                return conflict("Cannot archive a session with queued work");
            }
            _ => {}
        }
        self.touch_session(Some(SessionStatus::Archived))?;
        self.retire_live_sandbox("archive")?;
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
        Ok(CallReply::json(200, &json!({"status": "cancelled"})))
    }

    fn retire_live_sandbox(&mut self, reason: &str) -> Result<(), SqlError> {
        if self.hot.sandbox.status == SandboxStatus::Pending || self.hot.sandbox.status.is_dead() {
            return Ok(());
        }
        self.retire_sandbox(SandboxStatus::Stopped, reason)
    }
}
