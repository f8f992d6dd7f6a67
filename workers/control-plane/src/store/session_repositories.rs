//! `session_repositories`: what sessions work on, for the list. The session's own object holds the truth.

use std::collections::BTreeMap;

use oi_protocol::SessionId;
use oi_protocol::environments::EnvironmentRepository;
use oi_session::call::InitRepository;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// Lists them, in the batch that lists the session: without it they are not.
pub fn insert<'a>(id: &'a SessionId, repositories: &'a [InitRepository]) -> impl Iterator<Item = Statement> + 'a {
    repositories.iter().zip(0_i64..).map(|(repository, position)| {
        (
            "INSERT INTO session_repositories (session_id, position, repo_owner, repo_name, repo_id, base_branch)
             SELECT id, ?2, ?3, ?4, ?5, ?6 FROM sessions WHERE id = ?1",
            params![
                id.as_str(),
                position,
                repository.repo_owner.as_str(),
                repository.repo_name.as_str(),
                repository.repo_id,
                repository.base_branch.as_str(),
            ],
        )
    })
}

#[derive(Deserialize)]
struct Row {
    session_id: String,
    repo_owner: String,
    repo_name: String,
    repo_id: Option<i64>,
    base_branch: String,
}

/// Those of a page of sessions, a hundred at most, by session.
pub async fn of(db: &impl Database, ids: &[&str]) -> Result<BTreeMap<String, Vec<EnvironmentRepository>>, DbError> {
    let mut found: BTreeMap<String, Vec<EnvironmentRepository>> = BTreeMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let these = vec!["?"; ids.len()].join(", ");
    let sql = format!(
        "SELECT session_id, repo_owner, repo_name, repo_id, base_branch FROM session_repositories
            WHERE session_id IN ({these}) ORDER BY session_id, position"
    );
    let rows: Vec<Row> = db.rows(&sql, ids.iter().map(|id| (*id).into()).collect()).await?;
    for row in rows {
        found.entry(row.session_id).or_default().push(EnvironmentRepository {
            repo_owner: row.repo_owner,
            repo_name: row.repo_name,
            repo_id: row.repo_id,
            base_branch: row.base_branch,
        });
    }
    Ok(found)
}
