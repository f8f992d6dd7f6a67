//! Whose images are built ahead, and what ends an image: its scope's switch, its repositories, its secrets.

use oi_protocol::{EnvironmentId, UnixMillis};
use serde::Deserialize;

use super::super::audit_log::Entry;
use super::super::secrets::SecretScope;
use super::super::{Database, DbError, Statement, params};
use super::ScopeKey;
use crate::source_control::RepositoryName;

/// A repository whose images are built ahead.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EnabledRepository {
    /// Owner, in lower case.
    pub repo_owner: String,
    /// Name, in lower case.
    pub repo_name: String,
}

/// Up to `most` of them by name, after one.
pub async fn repositories(
    db: &impl Database,
    after: Option<(&str, &str)>,
    most: i64,
) -> Result<Vec<EnabledRepository>, DbError> {
    let (owner, name) = after.unwrap_or_default();
    db.rows(
        "SELECT repo_owner, repo_name FROM image_build_repositories WHERE (repo_owner, repo_name) > (?1, ?2)
            ORDER BY repo_owner, repo_name LIMIT ?3",
        params![owner, name, most],
    )
    .await
}

/// Up to `most` environments whose images are built ahead, by id.
pub async fn environments(db: &impl Database, most: i64) -> Result<Vec<EnvironmentId>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        id: String,
    }
    let sql = "SELECT id FROM environments WHERE prebuild_enabled = 1 ORDER BY id LIMIT ?";
    let rows: Vec<Row> = db.rows(sql, params![most]).await?;
    Ok(rows.iter().filter_map(|row| EnvironmentId::parse(&row.id).ok()).collect())
}

/// Whether a repository's images are built ahead.
pub async fn is_enabled(db: &impl Database, name: &RepositoryName) -> Result<bool, DbError> {
    let row: Option<EnabledRepository> = db
        .row(
            "SELECT repo_owner, repo_name FROM image_build_repositories WHERE repo_owner = ? AND repo_name = ?",
            params![name.owner(), name.name()],
        )
        .await?;
    Ok(row.is_some())
}

/// Switches a repository's images on, or off, which ends those that are there. Repeating it changes nothing.
pub async fn set_enabled(
    db: &impl Database,
    name: &RepositoryName,
    enabled: bool,
    now: UnixMillis,
    entry: &Entry,
) -> Result<(), DbError> {
    let batch: Vec<Statement> = if enabled {
        vec![(
            "INSERT INTO image_build_repositories (repo_owner, repo_name, enabled_at) VALUES (?1, ?2, ?3)
                ON CONFLICT DO NOTHING",
            params![name.owner(), name.name(), now.0],
        )]
    } else {
        vec![
            (
                "DELETE FROM image_build_repositories WHERE repo_owner = ?1 AND repo_name = ?2",
                params![name.owner(), name.name()],
            ),
            superseded(
                &ScopeKey { kind: "repo", id: name.as_path() },
                "Images of the repository were switched off",
                now,
            ),
        ]
    };
    db.batch(entry.behind_the_first(batch)).await.map(drop)
}

/// Ends the images of a scope and the builds of them that go on.
fn superseded(scope: &ScopeKey, why: &'static str, now: UnixMillis) -> Statement {
    (
        "UPDATE image_builds SET status = 'superseded', error_message = ?3, cleanup_after = 0, updated_at = ?4
            WHERE scope_kind = ?1 AND scope_id = ?2 AND status IN ('building', 'ready')",
        params![scope.kind, scope.id.as_str(), why, now.0],
    )
}

/// For the batch that changes or deletes an environment: ends its images when it is gone or they are switched off.
pub fn end_with_environment(id: &EnvironmentId, now: UnixMillis) -> Statement {
    (
        "UPDATE image_builds SET status = 'superseded', cleanup_after = 0, updated_at = ?2,
            error_message = 'The environment was deleted, or its images were switched off'
            WHERE scope_kind = 'environment' AND scope_id = ?1 AND status IN ('building', 'ready')
                AND NOT EXISTS (SELECT 1 FROM environments WHERE id = ?1 AND prebuild_enabled = 1)",
        params![id.as_str(), now.0],
    )
}

/// For the batch that changes secrets, behind the statement that took the scope's next version with `mark`: ends what
/// the old values went into, and what is being built of them.
pub fn end_with_secrets(scope: &SecretScope, mark: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE image_builds SET status = 'superseded', error_message = 'Secrets that went into it were changed',
            cleanup_after = 0, updated_at = ?4
            WHERE status IN ('building', 'ready')
                AND (?1 = 'global' OR (?1 = 'environment' AND scope_kind = 'environment' AND scope_id = ?2)
                    OR (?1 = 'repository' AND scope_kind = 'repo' AND repo_id = CAST(?2 AS INTEGER)))
                AND EXISTS (SELECT 1 FROM secret_scopes WHERE scope_kind = ?1 AND scope_id = ?2 AND last_write = ?3)",
        params![scope.kind(), scope.id(), mark, now.0],
    )
}
