//! What the session produced.

use oi_protocol::session_state::{ArtifactType, SessionArtifact};
use oi_protocol::{ArtifactId, UnixMillis, limits};
use serde_json::{Map, Value};

use crate::sql::{Columns, Sql, SqlError, params};

/// Artifacts of one query, at most.
const LIST_MAX: usize = 200;

fn select(
    sql: &dyn Sql,
    condition: &str,
    values: &[crate::sql::Value],
    limit: usize,
) -> Result<Vec<SessionArtifact>, SqlError> {
    let statement =
        format!("SELECT id, type, url, metadata, created_at, updated_at FROM artifacts {condition} LIMIT {limit}");
    sql.run(&statement, values)?
        .into_iter()
        .map(|row| {
            let mut c = Columns::of(row);
            Ok(SessionArtifact {
                id: c.word(|text| ArtifactId::parse(text).ok())?,
                artifact_type: c.word(ArtifactType::parse)?,
                url: c.opt_text()?,
                metadata: c.opt_text()?.and_then(|text| serde_json::from_str(&text).ok()),
                created_at: UnixMillis(c.int()?),
                updated_at: c.opt_int()?.map(UnixMillis),
            })
        })
        .collect()
}

/// A page of them.
pub(crate) struct ArtifactPage {
    pub artifacts: Vec<SessionArtifact>,
    /// Where the next page begins, when there is one.
    pub cursor: Option<String>,
}

/// The place that a cursor names: `<createdAt>:<id>`.
pub(crate) fn parse_cursor(cursor: &str) -> Option<(i64, ArtifactId)> {
    let (created_at, id) = cursor.split_once(':')?;
    Some((created_at.parse().ok()?, ArtifactId::parse(id).ok()?))
}

/// Later than any time, and below 2^53.
const AFTER_ALL: i64 = 1 << 52;

fn bytes_of(artifact: &SessionArtifact) -> usize {
    let metadata = artifact.metadata.as_ref().map_or(0, |metadata| Value::Object(metadata.clone()).to_string().len());
    // The names of its fields, its id and its times.
    metadata + artifact.url.as_ref().map_or(0, String::len) + 200
}

/// Older than a place, newest first: bounded in number and in bytes, and never empty while there are any.
pub(crate) fn page(sql: &dyn Sql, before: Option<&(i64, ArtifactId)>, limit: usize) -> Result<ArtifactPage, SqlError> {
    let (created_at, id) = before.map_or((AFTER_ALL, String::new()), |(at, id)| (*at, id.to_string()));
    let older = "WHERE (created_at, id) < (?, ?) ORDER BY created_at DESC, id DESC";
    let mut found = select(sql, older, params![created_at, id], limit + 1)?;
    let mut bytes = 0;
    let fits = found.iter().take(limit).enumerate().take_while(|(index, artifact)| {
        bytes += bytes_of(artifact);
        *index == 0 || bytes <= limits::ARTIFACTS_MAX_BYTES
    });
    let kept = fits.count();
    let has_more = kept < found.len();
    found.truncate(kept);
    let cursor = found.last().filter(|_| has_more).map(|last| format!("{}:{}", last.created_at.0, last.id));
    Ok(ArtifactPage { artifacts: found, cursor })
}

/// The newest artifacts, newest first.
pub(crate) fn list(sql: &dyn Sql) -> Result<Vec<SessionArtifact>, SqlError> {
    select(sql, "ORDER BY created_at DESC, id DESC", &[], LIST_MAX)
}

/// Pull requests, newest first, however many pictures came after them.
pub(crate) fn pull_requests(sql: &dyn Sql) -> Result<Vec<SessionArtifact>, SqlError> {
    select(sql, "WHERE type = 'pr' ORDER BY created_at DESC", &[], LIST_MAX)
}

pub(crate) fn by_id(sql: &dyn Sql, id: &ArtifactId) -> Result<Option<SessionArtifact>, SqlError> {
    Ok(select(sql, "WHERE id = ?", params![id.as_str()], 1)?.pop())
}

pub(crate) fn save(sql: &dyn Sql, artifact: &SessionArtifact) -> Result<(), SqlError> {
    let metadata = artifact.metadata.as_ref().map(|metadata| Value::Object(metadata.clone()).to_string());
    sql.run(
        "INSERT OR REPLACE INTO artifacts (id, type, url, metadata, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
        params![
            artifact.id.as_str(),
            artifact.artifact_type.as_str(),
            artifact.url.clone(),
            metadata,
            artifact.created_at.0,
            artifact.updated_at.unwrap_or(artifact.created_at).0,
        ],
    )?;
    Ok(())
}

fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(Value::as_str)
}

/// Whether a pull request artifact is of this repository, ignoring case.
pub(crate) fn is_pull_request_of(artifact: &SessionArtifact, owner: &str, name: &str) -> bool {
    artifact.artifact_type == ArtifactType::Pr
        && artifact.metadata.as_ref().is_some_and(|metadata| {
            text(metadata, "repoOwner").is_some_and(|o| o.eq_ignore_ascii_case(owner))
                && text(metadata, "repoName").is_some_and(|n| n.eq_ignore_ascii_case(name))
        })
}

/// The head branch of a pull request artifact.
pub(crate) fn head_of(artifact: &SessionArtifact) -> Option<&str> {
    artifact.metadata.as_ref().and_then(|metadata| text(metadata, "head"))
}

/// The base branch of a pull request artifact.
pub(crate) fn base_of(artifact: &SessionArtifact) -> Option<&str> {
    artifact.metadata.as_ref().and_then(|metadata| text(metadata, "base"))
}

/// The number of a pull request artifact.
pub(crate) fn number_of(artifact: &SessionArtifact) -> Option<i64> {
    artifact.metadata.as_ref().and_then(|metadata| metadata.get("number")).and_then(Value::as_i64)
}
