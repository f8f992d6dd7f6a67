//! What a build's machine told of its end, and who makes an image of it: one at a time, once.

use oi_protocol::UnixMillis;

use super::super::{Database, DbError, Statement, params};
use super::{Build, COLUMNS, failure_counted};

/// How long who finishes a build has it for themselves, in ms.
pub const LEASE_MS: i64 = 6 * 60_000;

/// What a machine told when it was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion<'a> {
    /// The build.
    pub id: &'a str,
    /// Hash of all of it.
    pub hash: &'a str,
    /// Commits, as JSON.
    pub repository_shas: &'a str,
    /// Version of the runtime in the image.
    pub runtime_version: &'a str,
    /// How long it took.
    pub duration_seconds: f64,
}

/// Stores what the machine told, once. Who asks has checked its token.
pub async fn accept(db: &impl Database, told: &Completion<'_>, now: UnixMillis) -> Result<bool, DbError> {
    let changed = db
        .change(
            "UPDATE image_builds SET completion_hash = ?2, repository_shas = ?3, runtime_version = ?4,
                build_duration_seconds = ?5, callback_token_used_at = ?6, updated_at = ?6
                WHERE id = ?1 AND status = 'building' AND callback_token_used_at IS NULL
                    AND callback_token_expires_at > ?6",
            params![told.id, told.hash, told.repository_shas, told.runtime_version, told.duration_seconds, now.0],
        )
        .await?;
    Ok(changed == 1)
}

/// Stores that the machine failed, once.
pub async fn accept_failure(
    db: &impl Database,
    id: &str,
    hash: &str,
    error: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let statement: Statement = (
        "UPDATE image_builds SET status = 'failed', completion_hash = ?2, error_message = ?3,
            callback_token_used_at = ?4, updated_at = ?4
            WHERE id = ?1 AND status = 'building' AND callback_token_used_at IS NULL
                AND callback_token_expires_at > ?4",
        params![id, hash, error, now.0],
    );
    let [counted, told] = failure_counted(id, now);
    Ok(db.batch(vec![statement, counted, told]).await?.first() == Some(&1))
}

/// Takes a build that was told done, if nobody has it, and it is not one whose former holder may have made an image.
pub async fn claim(db: &impl Database, id: &str, lease: &str, now: UnixMillis) -> Result<Option<Build>, DbError> {
    let sql = format!(
        "UPDATE image_builds SET finalization_lease_token = ?2, finalization_lease_expires_at = ?3, updated_at = ?4
            WHERE id = ?1 AND status = 'building' AND callback_token_used_at IS NOT NULL
                AND (finalization_lease_token IS NULL
                    OR (finalization_lease_expires_at <= ?4 AND provider_image_id IS NOT NULL))
            RETURNING {COLUMNS}"
    );
    db.row(&sql, params![id, lease, now.plus(LEASE_MS).0, now.0]).await
}

/// Gives it back: nothing was made.
pub async fn release(db: &impl Database, id: &str, lease: &str) -> Result<(), DbError> {
    db.change(
        "UPDATE image_builds SET finalization_lease_token = NULL, finalization_lease_expires_at = NULL
            WHERE id = ?1 AND finalization_lease_token = ?2 AND provider_image_id IS NULL",
        params![id, lease],
    )
    .await
    .map(drop)
}

/// Notes the image that was made, while the lease is ours.
pub async fn record_image(
    db: &impl Database,
    id: &str,
    lease: &str,
    image: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .change(
            "UPDATE image_builds SET provider_image_id = ?3, updated_at = ?4
                WHERE id = ?1 AND status = 'building' AND finalization_lease_token = ?2 AND provider_image_id IS NULL",
            params![id, lease, image, now.0],
        )
        .await?;
    Ok(changed == 1)
}

/// Notes an image that nobody wants and that could not be deleted, so that it is tried again.
pub async fn quarantine(db: &impl Database, id: &str, image: &str, now: UnixMillis) -> Result<bool, DbError> {
    let changed = db
        .change(
            "UPDATE image_builds SET provider_image_id = ?2, cleanup_after = 0, updated_at = ?3
                WHERE id = ?1 AND status <> 'ready' AND provider_image_id IS NULL",
            params![id, image, now.0],
        )
        .await?;
    Ok(changed == 1)
}

/// Makes a build with an image ready and those before it superseded; or itself, when a newer one is ready. Its scope's
/// failures are forgotten. Whether it still went on.
pub async fn ready(db: &impl Database, id: &str, lease: &str, now: UnixMillis) -> Result<bool, DbError> {
    let batch: Vec<Statement> = vec![
        (
            "UPDATE image_builds SET status = CASE WHEN EXISTS (SELECT 1 FROM image_builds newer
                    WHERE newer.scope_kind = image_builds.scope_kind AND newer.scope_id = image_builds.scope_id
                        AND newer.provider = image_builds.provider AND newer.status = 'ready'
                        AND newer.created_at > image_builds.created_at) THEN 'superseded' ELSE 'ready' END,
                finalization_lease_token = NULL, finalization_lease_expires_at = NULL, error_message = NULL,
                updated_at = ?3
                WHERE id = ?1 AND status = 'building' AND finalization_lease_token = ?2
                    AND provider_image_id IS NOT NULL",
            params![id, lease, now.0],
        ),
        (
            "DELETE FROM image_build_failures WHERE changes() > 0 AND (scope_kind, scope_id, provider) IN
                (SELECT scope_kind, scope_id, provider FROM image_builds WHERE id = ?1)",
            params![id],
        ),
        (
            "UPDATE image_builds SET status = 'superseded', cleanup_after = 0, updated_at = ?2
                WHERE status = 'ready' AND id <> ?1 AND EXISTS (SELECT 1 FROM image_builds mine WHERE mine.id = ?1
                    AND mine.status = 'ready' AND mine.scope_kind = image_builds.scope_kind
                    AND mine.scope_id = image_builds.scope_id AND mine.provider = image_builds.provider
                    AND mine.created_at >= image_builds.created_at)
                AND (scope_kind, scope_id) IN (SELECT scope_kind, scope_id FROM image_builds WHERE id = ?1)",
            params![id, now.0],
        ),
    ];
    Ok(db.batch(batch).await?.first() == Some(&1))
}

/// Builds that were told done and that nobody finishes: the message was lost, or given up.
pub async fn left_behind(db: &impl Database, most: i64, now: UnixMillis) -> Result<Vec<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_builds WHERE status = 'building' AND callback_token_used_at IS NOT NULL
            AND (finalization_lease_expires_at IS NULL OR finalization_lease_expires_at <= ?1)
            ORDER BY created_at LIMIT ?2"
    );
    db.rows(&sql, params![now.0, most]).await
}
