//! What is read of a session: snapshots, and the lists of REST. Nothing is written.

use oi_protocol::client_socket::TimelineMode;
use oi_protocol::session_state::{MessageStatus, SandboxStatus, SessionInfo, SessionRepository};
use oi_protocol::{ArtifactId, ErrorCode, limits};
use serde::Serialize;
use serde_json::json;

use crate::access::{self, SandboxAccess};
use crate::archive_file::ELSEWHERE;
use crate::call::{CallReply, SessionCall};
use crate::core::Hot;
use crate::participants::Participant;
use crate::parts::OpenParts;
use crate::projection::Dialect;
use crate::session_row::{SessionRow, load_repositories};
use crate::sql::{Columns, Sql, SqlError, params};
use crate::{archive, artifacts, attachments, diffs, media, prompts, questions, timeline};

pub(crate) fn not_found() -> CallReply {
    CallReply::refuse(404, ErrorCode::NotFound, "Session not found")
}

fn session_info(sql: &dyn Sql, hot: &Hot, session: &SessionRow) -> Result<SessionInfo, SqlError> {
    let mut repositories = load_repositories(sql)?;
    let pull_requests = artifacts::pull_requests(sql)?;
    for repository in &mut repositories {
        repository.pr_url = pull_requests
            .iter()
            .find(|a| artifacts::is_pull_request_of(a, &repository.repo_owner, &repository.repo_name))
            .and_then(|a| a.url.clone());
    }
    let primary: Option<&SessionRepository> = repositories.first();
    let access = access::shown(hot);
    Ok(SessionInfo {
        id: session.session_id.clone(),
        title: session.title.clone(),
        repo_owner: primary.map(|r| r.repo_owner.clone()),
        repo_name: primary.map(|r| r.repo_name.clone()),
        base_branch: primary.map(|r| r.base_branch.clone()),
        branch_name: primary.and_then(|r| r.branch_name.clone()),
        status: session.status,
        sandbox_status: match &hot.snapshots.taking {
            Some(_) => SandboxStatus::Snapshotting,
            None => hot.sandbox.status,
        },
        message_count: session.message_count as u32,
        created_at: session.created_at,
        model: session.model.clone(),
        reasoning_effort: session.reasoning_effort.clone(),
        is_processing: hot.running.is_some(),
        parent_session_id: session.parent_session_id.clone(),
        total_cost: session.total_cost,
        code_server_url: access.and_then(|access| access.code_server_url.clone()),
        vnc_url: access.and_then(|access| access.vnc_url.clone()),
        tunnel_urls: access.and_then(SandboxAccess::tunnels),
        ttyd_url: access.and_then(|access| access.ttyd_url.clone()),
        sandbox_dashboard_url: access.and_then(|access| access.dashboard_url.clone()),
        repositories,
        environment_id: session.environment.as_ref().map(|environment| environment.id.as_str().to_owned()),
        environment_name: session.environment.as_ref().map(|environment| environment.name.clone()),
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
    dialect: Dialect,
    after_revision: Option<i64>,
) -> Result<String, SqlError> {
    let Some(session) = &hot.session else { return Err(SqlError("no session".to_owned())) };
    let info = to_json(&session_info(sql, hot, session)?)?;
    let page = artifacts::page(sql, None, limits::ARTIFACTS_MAX)?;
    let artifacts = to_json(&page.artifacts)?;
    let older_artifacts = match &page.cursor {
        Some(cursor) => format!(r#","artifactsCursor":{}"#, to_json(cursor)?),
        None => String::new(),
    };
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
            let questions = match hot.questions.waiting {
                0 => String::new(),
                _ => format!(r#","inputRequests":{}"#, to_json(&questions::waiting(sql)?)?),
            };
            let additions = format!(r#","openParts":{open},"revision":{}{questions}{older_artifacts}"#, hot.revision);
            (timeline, queue, additions)
        }
        Dialect::One => {
            let page = timeline::page_before(sql, hot.archived, None, limits::REPLAY_MAX_EVENTS, dialect)?;
            let timeline = format!(
                r#"{{"events":{},"hasMore":{},"cursor":{}}}"#,
                page.events,
                page.has_more,
                to_json(&page.cursor)?
            );
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
    call: &SessionCall,
) -> Result<Option<CallReply>, SqlError> {
    let reads = matches!(
        call,
        SessionCall::Snapshot { .. }
            | SessionCall::Events { .. }
            | SessionCall::Messages { .. }
            | SessionCall::Artifacts { .. }
            | SessionCall::Artifact { .. }
            | SessionCall::SandboxAccess
            | SessionCall::TunnelUrls
            | SessionCall::Participants
            | SessionCall::DiffState
            | SessionCall::DiffFile { .. }
            | SessionCall::ArchiveFile { .. }
            | SessionCall::SearchTurns { .. }
            | SessionCall::SpawnContext
            | SessionCall::ChildSummary(_)
            | SessionCall::Deliveries
            | SessionCall::ForkPoint { .. }
            | SessionCall::ForkPage { .. }
            | SessionCall::Attachment { .. }
            | SessionCall::Media { .. }
    );
    if !reads {
        return Ok(None);
    }
    if hot.session.is_none() || crate::deletion::is_deleting(hot) {
        return Ok(Some(not_found()));
    }
    Ok(Some(match call {
        SessionCall::Snapshot { dialect } => {
            let body = snapshot(sql, hot, parts, Dialect::granted(Some(*dialect)), None)?;
            CallReply { status: 200, body }
        }
        SessionCall::Events { cursor, limit, event_type, message_id } => {
            events(sql, hot, cursor.as_deref(), *limit, event_type.as_deref(), message_id.as_deref())?
        }
        SessionCall::Messages { cursor, limit, status } => messages(sql, cursor.as_deref(), *limit, status.as_deref())?,
        SessionCall::Artifacts { cursor, limit } => artifact_page(sql, cursor.as_deref(), *limit)?,
        SessionCall::SandboxAccess => access::read(hot),
        SessionCall::TunnelUrls => access::tunnel_urls(hot, false),
        SessionCall::Artifact { artifact_id } => {
            let artifact = match ArtifactId::parse(artifact_id) {
                Ok(id) => artifacts::by_id(sql, &id)?,
                Err(_) => None,
            };
            CallReply::json(200, &json!({"artifact": artifact}))
        }
        SessionCall::Participants => participants(sql)?,
        SessionCall::DiffState => diffs::state(sql)?,
        SessionCall::DiffFile { revision_id, file_id } => diffs::file(sql, revision_id, file_id)?,
        SessionCall::ArchiveFile { first_seq, last_seq } => archive::file(sql, *first_seq, *last_seq)?,
        SessionCall::SearchTurns { message_id, after } => crate::search::turns(sql, message_id.as_ref(), *after)?,
        SessionCall::SpawnContext => crate::children::spawn_context(sql, hot)?,
        SessionCall::ChildSummary(query) => crate::child_summary::summary(sql, hot, query)?,
        SessionCall::Deliveries => crate::outbox::deliveries(sql)?,
        SessionCall::ForkPoint { event_id, sequence } => crate::fork::point(sql, hot, event_id.as_deref(), *sequence)?,
        SessionCall::ForkPage { from_sequence, through_sequence } => {
            crate::fork::page(sql, hot, *from_sequence, *through_sequence)?
        }
        SessionCall::Attachment { attachment_id } => attachments::find(sql, attachment_id)?,
        SessionCall::Media { artifact_id } => media::find(sql, hot, artifact_id)?,
        _ => return Ok(None),
    }))
}

fn bad_parameter(sentence: String) -> CallReply {
    CallReply::refuse(400, ErrorCode::InvalidParameter, sentence)
}

/// The place that a REST cursor names: `<createdAt>:<sequence>:<id>`.
pub(crate) fn parse_cursor(cursor: Option<&str>) -> Result<Option<i64>, CallReply> {
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

/// Types of dialect 1 that no row has: those are told as others, or not stored.
const UNSTORED_TYPES: [&str; 3] = ["token", "tool_result", "heartbeat"];

fn events(
    sql: &dyn Sql,
    hot: &Hot,
    cursor: Option<&str>,
    limit: Option<u32>,
    event_type: Option<&str>,
    message_id: Option<&str>,
) -> Result<CallReply, SqlError> {
    let is_known = |kind: &str| timeline::known_type(kind).is_some() || UNSTORED_TYPES.contains(&kind);
    if let Some(kind) = event_type.filter(|kind| !is_known(kind)) {
        let kind = oi_protocol::text::truncate_bytes(kind, 64);
        return Ok(bad_parameter(format!("Invalid event type: {kind}")));
    }
    let (before, limit) = match (parse_cursor(cursor), page_size(limit, 50, 200)) {
        (Ok(before), Ok(limit)) => (before, limit),
        (Err(reply), _) | (_, Err(reply)) => return Ok(reply),
    };
    if let Some(pointer) = archive::pointer(sql, hot, before, limit)? {
        return Ok(CallReply::json(ELSEWHERE, &pointer));
    }
    let query = timeline::EventQuery { before, limit, event_type, message_id };
    Ok(CallReply::json(200, &timeline::list(sql, hot.archived, &query)?))
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
            completed_at, attachments FROM messages WHERE number < ?1 AND (?2 IS NULL OR status = ?2)
            ORDER BY number DESC LIMIT ?3",
        params![before.unwrap_or(1 << 42), status.map(str::to_owned), i64::from(limit) + 1],
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
        let files = attachments::read_column(c.opt_text()?);
        next = Some(format!("{created}:{number}:{id}"));
        listed.push(json!({
            "id": id, "authorId": author, "content": content, "source": source, "attachments": files,
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

fn artifact_page(sql: &dyn Sql, cursor: Option<&str>, limit: Option<u32>) -> Result<CallReply, SqlError> {
    let limit = match page_size(limit, limits::ARTIFACTS_MAX as u32, limits::ARTIFACTS_MAX as u32) {
        Ok(limit) => limit as usize,
        Err(reply) => return Ok(reply),
    };
    let before = match cursor.map(artifacts::parse_cursor) {
        Some(None) => return Ok(bad_parameter("Invalid cursor".to_owned())),
        before => before.flatten(),
    };
    let page = artifacts::page(sql, before.as_ref(), limit)?;
    let mut body = json!({"artifacts": page.artifacts, "hasMore": page.cursor.is_some()});
    if let Some(cursor) = page.cursor {
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
