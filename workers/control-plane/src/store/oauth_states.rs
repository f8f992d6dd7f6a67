//! `oauth_states`: sign-ins under way.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, params};

/// Records that a sign-in began.
pub async fn begin(
    db: &impl Database,
    state_hash: &str,
    callback_path: &str,
    expires_at: UnixMillis,
) -> Result<(), DbError> {
    db.change(
        "INSERT INTO oauth_states (state_hash, callback_path, expires_at) VALUES (?, ?, ?)",
        params![state_hash, callback_path, expires_at.0],
    )
    .await
    .map(|_| ())
}

#[derive(Deserialize)]
struct Row {
    callback_path: String,
}

/// Takes a sign-in, once: where it goes on. `None` when there is none or it is too old.
pub async fn take(db: &impl Database, state_hash: &str, now: UnixMillis) -> Result<Option<String>, DbError> {
    let row: Option<Row> = db
        .row(
            "DELETE FROM oauth_states WHERE state_hash = ? AND expires_at > ? RETURNING callback_path",
            params![state_hash, now.0],
        )
        .await?;
    Ok(row.map(|row| row.callback_path))
}

/// Forgets what was never finished.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change("DELETE FROM oauth_states WHERE expires_at <= ?", params![now.0]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[test]
    fn a_state_is_taken_once_and_in_time() {
        let db = Native::new();
        block_on(begin(&db, "h1", "/a", UnixMillis(1000))).expect("runs");
        block_on(begin(&db, "h2", "/b", UnixMillis(1000))).expect("runs");
        assert_eq!(block_on(take(&db, "h1", UnixMillis(999))), Ok(Some("/a".to_owned())));
        assert_eq!(block_on(take(&db, "h1", UnixMillis(999))), Ok(None));
        assert_eq!(block_on(take(&db, "h2", UnixMillis(1000))), Ok(None), "too late");
        assert_eq!(block_on(sweep(&db, UnixMillis(1000))), Ok(1));
    }
}
