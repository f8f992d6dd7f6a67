//! What search finds of a session: of each turn that ended its prompt, what the agent said and the files that it
//! touched; and the titles of its pull requests.
//!
//! A turn's document is put together once, in the commit that ends the turn, and kept with its prompt: the events that
//! it is made of may leave for the bucket right after. The job that tells the index only names the turn.

use oi_protocol::text::truncate_bytes;
use oi_protocol::{ArtifactId, MessageId, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifacts;
use crate::call::CallReply;
use crate::core::Turn;
use crate::job::Job;
use crate::sql::{Columns, Row, Sql, SqlError, params};

/// Of a prompt this much is searched, in bytes.
const PROMPT_MAX_BYTES: usize = 8 * 1024;
/// And this much of what the agent said, the last words first.
const ANSWER_MAX_BYTES: usize = 16 * 1024;
/// And so many bytes of paths.
const PATHS_MAX_BYTES: usize = 4 * 1024;
/// Parts and tool calls of a turn that are looked at, the newest.
const PARTS_MAX: i64 = 64;
const CALLS_MAX: i64 = 256;
/// Longest path.
const PATH_MAX_BYTES: usize = 512;
/// Documents of one page.
const PAGE: i64 = 20;

/// Tell the index of a turn that ended. Idempotent: the session's answer to [`crate::call::SessionCall::SearchTurns`] is
/// always the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexTurn {
    /// The session.
    pub session_id: SessionId,
    /// The prompt that ended.
    pub message_id: MessageId,
}

/// A turn as search knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnDocument {
    /// The prompt.
    pub message_id: MessageId,
    /// Who sent it, on the platform.
    pub user_id: Option<String>,
    /// When it ended.
    pub at: UnixMillis,
    /// Its text.
    pub prompt: String,
    /// What the agent said.
    pub answer: String,
    /// Files that it touched, a path a line.
    pub paths: String,
}

/// A pull request as search knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullRequestDocument {
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// When the session changed it last.
    pub at: UnixMillis,
    /// Its title.
    pub title: String,
}

/// A page of what search knows of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchPage {
    /// Turns, oldest first.
    pub turns: Vec<TurnDocument>,
    /// Pull requests, with the first page.
    pub pull_requests: Vec<PullRequestDocument>,
    /// Where the next page begins.
    pub next: Option<i64>,
}

/// What is kept with a prompt.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    answer: String,
    paths: String,
}

/// Rows of a turn whose ids begin with `prefix`: places by the index of ids, and of the newest of those `what`.
fn newest(sql: &dyn Sql, what: &str, prefix: &str, condition: &str, most: i64) -> Result<Vec<Row>, SqlError> {
    let statement = format!(
        "SELECT {what} FROM events WHERE seq IN (SELECT seq FROM events WHERE id >= ?1 AND id < ?2
            ORDER BY seq DESC LIMIT ?3) AND {condition} ORDER BY seq DESC"
    );
    // Past every text that begins so: no id holds the last code point.
    sql.run(&statement, params![prefix, format!("{prefix}\u{10FFFF}"), most])
}

/// Words as they are searched: no control characters, which have a meaning of their own in the index.
fn words(text: &str, most: usize) -> String {
    truncate_bytes(text, most).chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn answer_of(sql: &dyn Sql, message_id: &str) -> Result<String, SqlError> {
    let text = "substr(json_extract(body, '$.text'), 1, 16384)";
    let is_text = "json_extract(body, '$.kind') = 'text'";
    let mut said: Vec<String> = Vec::new();
    let mut room = ANSWER_MAX_BYTES;
    for row in newest(sql, text, &format!("part:{message_id}:"), is_text, PARTS_MAX)? {
        let part = words(&Columns::of(row).opt_text()?.unwrap_or_default(), room);
        if part.trim().is_empty() {
            continue;
        }
        room = room.saturating_sub(part.len() + 1);
        said.push(part);
        if room == 0 {
            break;
        }
    }
    said.reverse();
    Ok(said.join("\n"))
}

fn paths_of(sql: &dyn Sql, message_id: &str) -> Result<String, SqlError> {
    let path = "COALESCE(json_extract(body, '$.fileChange.path'), json_extract(body, '$.args.filePath'),
        json_extract(body, '$.args.file_path'), json_extract(body, '$.args.path'))";
    // As [`crate::tool_calls::event_id`] writes them.
    let prefix = format!("tool_call:[\"{message_id}\",");
    let mut paths: Vec<String> = Vec::new();
    let mut room = PATHS_MAX_BYTES;
    for row in newest(sql, path, &prefix, "1", CALLS_MAX)? {
        // A number or a list is no path.
        let Some(crate::sql::Value::Text(path)) = row.into_iter().next() else { continue };
        let path = words(path.trim(), PATH_MAX_BYTES).replace('\n', " ");
        if path.is_empty() || path.len() + 1 > room || paths.contains(&path) {
            continue;
        }
        room -= path.len() + 1;
        paths.push(path);
    }
    paths.reverse();
    Ok(paths.join("\n"))
}

fn kept_of(sql: &dyn Sql, message_id: &str) -> Result<Kept, SqlError> {
    Ok(Kept { answer: answer_of(sql, message_id)?, paths: paths_of(sql, message_id)? })
}

impl Turn<'_, '_> {
    /// A turn is about to end: what search finds of it, to be kept with its prompt. Its parts are closed.
    pub(crate) fn searchable(&self, message_id: &MessageId) -> Result<String, SqlError> {
        let kept = kept_of(self.sql, message_id.as_str())?;
        serde_json::to_string(&kept).map_err(|error| SqlError(error.to_string()))
    }

    /// A turn ended: the index is told.
    pub(crate) fn index_turn(&mut self, message_id: &MessageId) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let job = Job::IndexTurn(IndexTurn { session_id: session.session_id.clone(), message_id: message_id.clone() });
        self.enqueue(&job, Some(&format!("turn:{message_id}")))
    }
}

fn turn(sql: &dyn Sql, row: Row) -> Result<(i64, TurnDocument), SqlError> {
    let mut c = Columns::of(row);
    let (number, message_id, content) = (c.int()?, c.word(|text| MessageId::parse(text).ok())?, c.text()?);
    let (at, kept, user_id) = (c.int()?, c.opt_text()?, c.opt_text()?);
    let kept = match kept.and_then(|text| serde_json::from_str(&text).ok()) {
        Some(kept) => kept,
        // It ended before documents were kept: what SQLite still has of it.
        None => kept_of(sql, message_id.as_str())?,
    };
    let document = TurnDocument {
        message_id,
        user_id,
        at: UnixMillis(at),
        prompt: words(&content, PROMPT_MAX_BYTES),
        answer: kept.answer,
        paths: kept.paths,
    };
    Ok((number, document))
}

const SELECT: &str = "SELECT m.number, m.id, m.content, m.completed_at, m.searchable, p.canonical_user_id
    FROM messages m LEFT JOIN participants p ON p.id = m.author_id";
/// A prompt that was never begun is no turn.
const ENDED: &str = "m.started_at IS NOT NULL AND m.completed_at IS NOT NULL";

/// One turn, or a page of all turns from a place on; with the first page the pull requests.
pub(crate) fn turns(sql: &dyn Sql, message_id: Option<&MessageId>, after: i64) -> Result<CallReply, SqlError> {
    if let Some(message_id) = message_id {
        let rows = sql.run(&format!("{SELECT} WHERE m.id = ? AND {ENDED}"), params![message_id.as_str()])?;
        let turns: Result<Vec<_>, _> = rows.into_iter().map(|row| Ok(turn(sql, row)?.1)).collect();
        return Ok(CallReply::json(200, &SearchPage { turns: turns?, ..SearchPage::default() }));
    }
    let statement = format!("{SELECT} WHERE m.number > ? AND {ENDED} ORDER BY m.number LIMIT ?");
    let rows = sql.run(&statement, params![after, PAGE + 1])?;
    let has_more = rows.len() as i64 > PAGE;
    let mut page = SearchPage::default();
    let mut last = after;
    for row in rows.into_iter().take(PAGE as usize) {
        let (number, document) = turn(sql, row)?;
        last = number;
        page.turns.push(document);
    }
    page.next = has_more.then_some(last);
    if after == 0 {
        page.pull_requests = pull_requests(sql)?;
    }
    Ok(CallReply::json(200, &page))
}

fn pull_requests(sql: &dyn Sql) -> Result<Vec<PullRequestDocument>, SqlError> {
    let known = artifacts::pull_requests(sql)?.into_iter().filter_map(|artifact| {
        let title = artifact.metadata.as_ref()?.get("title").and_then(Value::as_str)?.to_owned();
        let at = artifact.updated_at.unwrap_or(artifact.created_at);
        Some(PullRequestDocument { artifact_id: artifact.id, at, title })
    });
    Ok(known.collect())
}
