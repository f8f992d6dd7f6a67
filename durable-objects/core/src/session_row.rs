//! The session's own row and its repositories.

use oi_protocol::session_state::{SessionRepository, SessionStatus, SpawnSource};
use oi_protocol::{EnvironmentId, SessionId, UnixMillis};

use crate::call::InitEnvironment;
use crate::sql::{Columns, Sql, SqlError, params};

/// What the session is. Kept in memory as a cache; `save` writes it whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRow {
    pub session_id: SessionId,
    pub title: Option<String>,
    pub model: String,
    pub reasoning_effort: Option<String>,
    pub status: SessionStatus,
    pub spawn_source: SpawnSource,
    pub parent_session_id: Option<SessionId>,
    pub environment: Option<InitEnvironment>,
    pub sandbox_timeout_ms: Option<i64>,
    pub total_cost: f64,
    pub total_tokens: i64,
    pub message_count: i64,
    pub pr_count: i64,
    pub active_duration_ms: i64,
    pub index_counter: i64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl SessionRow {
    pub fn load(sql: &dyn Sql) -> Result<Option<Self>, SqlError> {
        let rows = sql.run(
            "SELECT session_id, title, model, reasoning_effort, status, spawn_source, parent_session_id, total_cost,
                message_count, pr_count, active_duration_ms, index_counter, created_at, updated_at, total_tokens,
                environment_id, environment_name, sandbox_timeout_ms FROM session",
            &[],
        )?;
        rows.into_iter().next().map(Self::from_row).transpose()
    }

    fn from_row(row: Vec<crate::sql::Value>) -> Result<Self, SqlError> {
        let mut c = Columns::of(row);
        Ok(Self {
            session_id: c.word(|text| SessionId::parse(text).ok())?,
            title: c.opt_text()?,
            model: c.text()?,
            reasoning_effort: c.opt_text()?,
            status: c.word(SessionStatus::parse)?,
            spawn_source: c.word(SpawnSource::parse)?,
            parent_session_id: c.opt_text()?.and_then(|text| SessionId::parse(&text).ok()),
            total_cost: c.real()?,
            message_count: c.int()?,
            pr_count: c.int()?,
            active_duration_ms: c.int()?,
            index_counter: c.int()?,
            created_at: UnixMillis(c.int()?),
            updated_at: UnixMillis(c.int()?),
            total_tokens: c.int()?,
            environment: match (c.opt_text()?, c.opt_text()?) {
                (Some(id), Some(name)) => EnvironmentId::parse(&id).ok().map(|id| InitEnvironment { id, name }),
                _ => None,
            },
            sandbox_timeout_ms: c.opt_int()?,
        })
    }

    pub fn save(&self, sql: &dyn Sql) -> Result<(), SqlError> {
        sql.run(
            "INSERT OR REPLACE INTO session (one, session_id, title, model, reasoning_effort, status, spawn_source,
                parent_session_id, total_cost, message_count, pr_count, active_duration_ms, index_counter, created_at,
                updated_at, total_tokens, environment_id, environment_name, sandbox_timeout_ms)
                VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                self.session_id.as_str(),
                self.title.clone(),
                self.model.as_str(),
                self.reasoning_effort.clone(),
                self.status.as_str(),
                self.spawn_source.as_str(),
                self.parent_session_id.as_ref().map(SessionId::as_str),
                self.total_cost,
                self.message_count,
                self.pr_count,
                self.active_duration_ms,
                self.index_counter,
                self.created_at.0,
                self.updated_at.0,
                self.total_tokens,
                self.environment.as_ref().map(|environment| environment.id.as_str()),
                self.environment.as_ref().map(|environment| environment.name.as_str()),
                self.sandbox_timeout_ms,
            ],
        )?;
        Ok(())
    }
}

/// Repositories in order; `pr_url` is filled by the snapshot.
pub(crate) fn load_repositories(sql: &dyn Sql) -> Result<Vec<SessionRepository>, SqlError> {
    sql.run(
        "SELECT position, repo_owner, repo_name, repo_id, base_branch, branch_name, base_sha, current_sha
            FROM repositories ORDER BY position",
        &[],
    )?
    .into_iter()
    .map(|row| {
        let mut c = Columns::of(row);
        Ok(SessionRepository {
            position: c.int()? as u32,
            repo_owner: c.text()?,
            repo_name: c.text()?,
            repo_id: c.opt_int()?,
            base_branch: c.text()?,
            branch_name: c.opt_text()?,
            base_sha: c.opt_text()?,
            current_sha: c.opt_text()?,
            pr_url: None,
        })
    })
    .collect()
}

pub(crate) fn save_repository(sql: &dyn Sql, repository: &SessionRepository) -> Result<(), SqlError> {
    sql.run(
        "INSERT OR REPLACE INTO repositories (position, repo_owner, repo_name, repo_id, base_branch, branch_name,
            base_sha, current_sha) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            i64::from(repository.position),
            repository.repo_owner.as_str(),
            repository.repo_name.as_str(),
            repository.repo_id,
            repository.base_branch.as_str(),
            repository.branch_name.clone(),
            repository.base_sha.clone(),
            repository.current_sha.clone(),
        ],
    )?;
    Ok(())
}
