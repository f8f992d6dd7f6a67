//! What builds leave behind: machines, images that nobody uses, old rows.

use oi_protocol::UnixMillis;

use super::super::{Database, DbError, params};
use super::{Build, COLUMNS};

/// What could not be cleaned up is tried again after this, in ms, doubled each time.
const RETRY_MS: i64 = 10 * 60_000;
/// The longest time between two attempts, in ms.
const RETRY_MAX_MS: i64 = 24 * 3_600_000;

/// Builds that go on since before `since`, and of which nothing was told.
pub async fn stale(db: &impl Database, since: UnixMillis, most: i64) -> Result<Vec<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_builds WHERE status = 'building' AND created_at < ?1
            AND callback_token_used_at IS NULL ORDER BY created_at LIMIT ?2"
    );
    db.rows(&sql, params![since.0, most]).await
}

/// Builds that ended and whose machine may still be there.
pub async fn with_machines(db: &impl Database, most: i64, now: UnixMillis) -> Result<Vec<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_builds WHERE provider_session_cleanup_pending = 1 AND status <> 'building'
            AND cleanup_after <= ?1 ORDER BY cleanup_after LIMIT ?2"
    );
    db.rows(&sql, params![now.0, most]).await
}

/// The machine is gone.
pub async fn machine_gone(db: &impl Database, id: &str) -> Result<(), DbError> {
    db.change(
        "UPDATE image_builds SET provider_session_cleanup_pending = 0, cleanup_failures = 0, cleanup_after = 0
            WHERE id = ? AND status <> 'building'",
        params![id],
    )
    .await
    .map(drop)
}

/// Builds whose image nobody uses.
pub async fn with_images(db: &impl Database, most: i64, now: UnixMillis) -> Result<Vec<Build>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_builds WHERE provider_image_id IS NOT NULL AND status IN ('failed', 'superseded')
            AND cleanup_after <= ?1 ORDER BY cleanup_after LIMIT ?2"
    );
    db.rows(&sql, params![now.0, most]).await
}

/// The image is gone.
pub async fn image_gone(db: &impl Database, id: &str, image: &str) -> Result<(), DbError> {
    db.change(
        "UPDATE image_builds SET provider_image_id = NULL, cleanup_failures = 0, cleanup_after = 0
            WHERE id = ?1 AND provider_image_id = ?2 AND status IN ('failed', 'superseded')",
        params![id, image],
    )
    .await
    .map(drop)
}

/// Something of a build could not be cleaned up: what is left stays on its row, and is tried again later.
pub async fn not_yet(db: &impl Database, id: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE image_builds SET cleanup_after = ?2 + MIN(?3 << MIN(cleanup_failures, 16), ?4),
            cleanup_failures = cleanup_failures + 1 WHERE id = ?1",
        params![id, now.0, RETRY_MS, RETRY_MAX_MS],
    )
    .await
    .map(drop)
}

/// Forgets builds that ended before `before` and of which nothing is left; how many.
pub async fn forget(db: &impl Database, before: UnixMillis, most: i64) -> Result<u64, DbError> {
    db.change(
        "DELETE FROM image_builds WHERE id IN (SELECT id FROM image_builds WHERE provider_image_id IS NULL
            AND provider_session_cleanup_pending = 0 AND status IN ('failed', 'superseded') AND updated_at < ?1
            ORDER BY updated_at LIMIT ?2)",
        params![before.0, most],
    )
    .await
}
