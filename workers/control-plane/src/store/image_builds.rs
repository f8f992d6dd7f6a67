//! `image_builds`: images of repositories, from their registration to the deletion of what was kept of them.
//!
//! A build is `building` until it is `ready`, `failed` or `superseded`; one that is ready may still become either. Every
//! change is one guarded statement, or a batch whose first statement is.

pub mod cleanup;
pub mod finalization;
pub mod scopes;

use oi_protocol::UnixMillis;
use oi_protocol::image_builds::ImageBuildRow;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// The first time that a scope waits after a failure, in ms; each further failure doubles it.
const BACKOFF_MS: i64 = 30 * 60_000;
/// The longest, in ms.
const BACKOFF_MAX_MS: i64 = 24 * 3_600_000;

/// Which repositories an image is of, as it is stored: `repo` with `owner/name`, or `environment` with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeKey {
    /// `repo` or `environment`.
    pub kind: &'static str,
    /// Which of its kind.
    pub id: String,
}

/// A build that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild<'a> {
    /// Its id.
    pub id: &'a str,
    /// Of what.
    pub scope: &'a ScopeKey,
    /// The code host's number of the repository, of a `repo`.
    pub repo_id: Option<i64>,
    /// The backend.
    pub provider: &'a str,
    /// What the image is of.
    pub fingerprint: &'a str,
    /// Hash of the token that its machine calls back with.
    pub token_hash: &'a str,
    /// When the token ends.
    pub token_expires_at: UnixMillis,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are the columns")]
pub struct Build {
    /// Id.
    pub id: String,
    /// `repo` or `environment`.
    pub scope_kind: String,
    /// Which of its kind.
    pub scope_id: String,
    /// The code host's number of the repository, of a `repo`.
    pub repo_id: Option<i64>,
    /// The backend.
    pub provider: String,
    /// `building`, `ready`, `failed` or `superseded`.
    pub status: String,
    /// What the image is of.
    pub repositories_fingerprint: String,
    /// The machine.
    pub provider_session_id: Option<String>,
    /// Whether the machine may still be there.
    pub provider_session_cleanup_pending: i64,
    /// Hash of the callback's token.
    pub callback_token_hash: String,
    /// When the token ends.
    pub callback_token_expires_at: i64,
    /// When it was used.
    pub callback_token_used_at: Option<i64>,
    /// Hash of what the machine told.
    pub completion_hash: Option<String>,
    /// Commits, as JSON.
    pub repository_shas: String,
    /// Version of the runtime in the image.
    pub runtime_version: String,
    /// How long it took.
    pub build_duration_seconds: Option<f64>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// The image.
    pub provider_image_id: Option<String>,
    /// Who finishes it.
    pub finalization_lease_token: Option<String>,
    /// Until when.
    pub finalization_lease_expires_at: Option<i64>,
    /// When it was registered.
    pub created_at: i64,
}

/// The columns of [`Build`].
const COLUMNS: &str =
    "id, scope_kind, scope_id, repo_id, provider, status, repositories_fingerprint, provider_session_id,
    provider_session_cleanup_pending, callback_token_hash, callback_token_expires_at, callback_token_used_at,
    completion_hash, repository_shas, runtime_version, build_duration_seconds, error_message, provider_image_id,
    finalization_lease_token, finalization_lease_expires_at, created_at";

impl Build {
    /// Whether it goes on.
    pub fn is_building(&self) -> bool {
        self.status == "building"
    }
}

/// Registers a build, unless one of the scope goes on at this backend, or, where `only_if_needed`, an image of the
/// fingerprint is ready. Of two who ask at once one is told `true`.
pub async fn register(
    db: &impl Database,
    new: &NewBuild<'_>,
    only_if_needed: bool,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .change(
            "INSERT INTO image_builds (id, scope_kind, scope_id, repo_id, provider, status, repositories_fingerprint,
                callback_token_hash, callback_token_expires_at, created_at, updated_at)
             SELECT ?1, ?2, ?3, ?4, ?5, 'building', ?6, ?7, ?8, ?9, ?9
                WHERE ?10 = 0 OR NOT EXISTS (SELECT 1 FROM image_builds WHERE scope_kind = ?2 AND scope_id = ?3
                    AND provider = ?5 AND status = 'ready' AND repositories_fingerprint = ?6)
             ON CONFLICT DO NOTHING",
            params![
                new.id,
                new.scope.kind,
                new.scope.id.as_str(),
                new.repo_id,
                new.provider,
                new.fingerprint,
                new.token_hash,
                new.token_expires_at.0,
                now.0,
                only_if_needed,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// One.
pub async fn get(db: &impl Database, id: &str) -> Result<Option<Build>, DbError> {
    db.row(&format!("SELECT {COLUMNS} FROM image_builds WHERE id = ?"), params![id]).await
}

/// The build of a scope that goes on.
pub async fn active(db: &impl Database, scope: &ScopeKey, provider: &str) -> Result<Option<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_builds
            WHERE scope_kind = ? AND scope_id = ? AND provider = ? AND status = 'building'"
    );
    db.row(&sql, params![scope.kind, scope.id.as_str(), provider]).await
}

/// The newest image of a scope that is ready.
pub async fn latest_ready(db: &impl Database, scope: &ScopeKey, provider: &str) -> Result<Option<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_builds WHERE scope_kind = ? AND scope_id = ? AND provider = ? AND status = 'ready'
            AND provider_image_id IS NOT NULL ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    db.row(&sql, params![scope.kind, scope.id.as_str(), provider]).await
}

/// Notes a build's machine, whatever became of the build meanwhile: it must be ended. Whether the build still goes on.
pub async fn bind(db: &impl Database, id: &str, machine: &str, now: UnixMillis) -> Result<bool, DbError> {
    #[derive(Deserialize)]
    struct Bound {
        status: String,
    }
    let bound: Option<Bound> = db
        .row(
            "UPDATE image_builds SET provider_session_id = ?2, provider_session_cleanup_pending = 1, cleanup_after = 0,
                updated_at = ?3 WHERE id = ?1 RETURNING status",
            params![id, machine, now.0],
        )
        .await?;
    Ok(bound.is_some_and(|bound| bound.status == "building"))
}

/// A build that goes on has failed: `error` says why, in words for people. Its scope waits before the next is tried by
/// itself, longer after each failure. Whether it still went on.
pub async fn fail(db: &impl Database, id: &str, error: &str, now: UnixMillis) -> Result<bool, DbError> {
    let statement: Statement = (
        "UPDATE image_builds SET status = 'failed', error_message = ?2, finalization_lease_token = NULL,
            finalization_lease_expires_at = NULL, updated_at = ?3 WHERE id = ?1 AND status = 'building'",
        params![id, error, now.0],
    );
    let [counted, told] = failure_counted(id, now);
    Ok(db.batch(vec![statement, counted, told]).await?.first() == Some(&1))
}

/// Right behind the statement that fails a build: counts it, and tells people on its row when the next is tried.
fn failure_counted(id: &str, now: UnixMillis) -> [Statement; 2] {
    let counted = (
        "INSERT INTO image_build_failures (scope_kind, scope_id, provider, failures, retry_at)
         SELECT scope_kind, scope_id, provider, 1, ?2 + ?3 FROM image_builds WHERE id = ?1 AND changes() > 0
         ON CONFLICT (scope_kind, scope_id, provider) DO UPDATE SET failures = failures + 1,
            retry_at = ?2 + MIN(?3 << MIN(failures, 16), ?4)",
        params![id, now.0, BACKOFF_MS, BACKOFF_MAX_MS],
    );
    let told = (
        "UPDATE image_builds SET error_message = error_message || (SELECT ' (failure ' || noted.failures
                || '; built again by itself after ' || strftime('%Y-%m-%d %H:%M', noted.retry_at / 1000, 'unixepoch')
                || ' UTC)' FROM image_build_failures noted WHERE noted.scope_kind = image_builds.scope_kind
                AND noted.scope_id = image_builds.scope_id AND noted.provider = image_builds.provider)
            WHERE id = ?1 AND changes() > 0",
        params![id],
    );
    [counted, told]
}

/// How a scope's builds failed one after another.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Failures {
    /// How many.
    pub failures: i64,
    /// Until when none is tried by itself.
    pub retry_at: i64,
}

/// Those of a scope, if the last one failed.
#[cfg(test)]
pub async fn failures(db: &impl Database, scope: &ScopeKey, provider: &str) -> Result<Option<Failures>, DbError> {
    db.row(
        "SELECT failures, retry_at FROM image_build_failures WHERE scope_kind = ? AND scope_id = ? AND provider = ?",
        params![scope.kind, scope.id.as_str(), provider],
    )
    .await
}

/// What an image is of, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// What it is of.
    pub repositories_fingerprint: String,
    /// Commits, as JSON.
    pub repository_shas: String,
    /// Version of the runtime in it.
    pub runtime_version: String,
}

/// How a scope stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Whether a build goes on, or is waited with after failures.
    pub waits: bool,
    /// The newest image that is ready.
    pub ready: Option<Ready>,
}

/// How each of these scopes stands, in their order: one query, however many they are, since an invocation has only so
/// many.
pub async fn outlooks(
    db: &impl Database,
    scopes: &[ScopeKey],
    provider: &str,
    now: UnixMillis,
) -> Result<Vec<Outlook>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        place: i64,
        waits: i64,
        repositories_fingerprint: Option<String>,
        repository_shas: Option<String>,
        runtime_version: Option<String>,
    }
    let wanted: Vec<[&str; 2]> = scopes.iter().map(|scope| [scope.kind, scope.id.as_str()]).collect();
    let mut rows: Vec<Row> = db
        .rows(
            "SELECT wanted.key AS place, ready.repositories_fingerprint, ready.repository_shas, ready.runtime_version,
                EXISTS (SELECT 1 FROM image_builds active
                    WHERE active.scope_kind = json_extract(wanted.value, '$[0]')
                        AND active.scope_id = json_extract(wanted.value, '$[1]')
                        AND active.provider = ?2 AND active.status = 'building')
                OR EXISTS (SELECT 1 FROM image_build_failures failed
                    WHERE failed.scope_kind = json_extract(wanted.value, '$[0]')
                        AND failed.scope_id = json_extract(wanted.value, '$[1]')
                        AND failed.provider = ?2 AND failed.retry_at > ?3) AS waits
             FROM json_each(?1) wanted LEFT JOIN image_builds ready ON ready.id =
                (SELECT id FROM image_builds newest
                    WHERE newest.scope_kind = json_extract(wanted.value, '$[0]')
                        AND newest.scope_id = json_extract(wanted.value, '$[1]')
                        AND newest.provider = ?2 AND newest.status = 'ready' AND newest.provider_image_id IS NOT NULL
                    ORDER BY newest.created_at DESC, newest.id DESC LIMIT 1)",
            params![serde_json::json!(wanted).to_string(), provider, now.0],
        )
        .await?;
    rows.sort_by_key(|row| row.place);
    let ready = |row: Row| {
        Some(Ready {
            repositories_fingerprint: row.repositories_fingerprint?,
            repository_shas: row.repository_shas?,
            runtime_version: row.runtime_version?,
        })
    };
    Ok(rows.into_iter().map(|row| Outlook { waits: row.waits != 0, ready: ready(row) }).collect())
}

/// What made them fail may have been changed: the next build is not waited for.
pub async fn forget_failures(db: &impl Database, scope: &ScopeKey) -> Result<(), DbError> {
    let these = params![scope.kind, scope.id.as_str()];
    db.change("DELETE FROM image_build_failures WHERE scope_kind = ? AND scope_id = ?", these).await.map(drop)
}

/// An image with which no sandbox could be started.
pub async fn restore_failed(db: &impl Database, id: &str, error: &str, now: UnixMillis) -> Result<bool, DbError> {
    let statement: Statement = (
        "UPDATE image_builds SET status = 'failed', error_message = ?2, updated_at = ?3
            WHERE id = ?1 AND status = 'ready'",
        params![id, error, now.0],
    );
    let [counted, told] = failure_counted(id, now);
    Ok(db.batch(vec![statement, counted, told]).await?.first() == Some(&1))
}

/// Builds at a backend, newest first, of a scope or of all, after the one that was made `after.0` with the id `after.1`.
pub async fn page(
    db: &impl Database,
    scope: Option<&ScopeKey>,
    provider: &str,
    after: Option<(i64, &str)>,
    most: i64,
) -> Result<Vec<ImageBuildRow>, DbError> {
    const LISTED: &str = "SELECT id, scope_kind, scope_id, provider, status, repositories_fingerprint, repository_shas,
        runtime_version, build_duration_seconds, error_message, created_at FROM image_builds";
    let (at, id) = after.unwrap_or((i64::MAX >> 11, ""));
    let order = "(created_at < ?2 OR (created_at = ?2 AND id < ?3)) ORDER BY created_at DESC, id DESC LIMIT ?4";
    if let Some(scope) = scope {
        let sql = format!("{LISTED} WHERE scope_kind = ?5 AND scope_id = ?6 AND provider = ?1 AND {order}");
        db.rows(&sql, params![provider, at, id, most, scope.kind, scope.id.as_str()]).await
    } else {
        let sql = format!("{LISTED} WHERE provider = ?1 AND {order}");
        db.rows(&sql, params![provider, at, id, most]).await
    }
}

#[cfg(test)]
pub(crate) mod tests;
