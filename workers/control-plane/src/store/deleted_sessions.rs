//! Sessions that were deleted, until nothing of them is left.

use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;

use super::audit_log::Entry;
use super::{Database, DbError, params};

/// After this the first look whether everything is gone, in ms.
const FIRST_LOOK_MS: i64 = 60_000;
/// Longest pause between two looks, in ms.
const LONGEST_PAUSE_MS: i64 = 3_600_000;
/// What is gone is remembered this long when no parent counts it, in ms.
const REMEMBERED_MS: i64 = 90 * 86_400_000;

/// Takes a session off the list and remembers that it must go. Its children stay, without a parent. `false` when there
/// is no such session, and none was deleted. The entry is that of who deletes it.
pub async fn delete(db: &impl Database, id: &SessionId, now: UnixMillis, entry: &Entry) -> Result<bool, DbError> {
    db.batch(vec![
        (
            "INSERT OR IGNORE INTO deleted_sessions (session_id, parent_session_id, deleted_at, due_at)
                SELECT id, parent_session_id, ?2, ?3 FROM sessions WHERE id = ?1",
            params![id.as_str(), now.0, now.plus(FIRST_LOOK_MS).0],
        ),
        ("UPDATE sessions SET parent_session_id = NULL WHERE parent_session_id = ?", params![id.as_str()]),
        ("DELETE FROM sessions WHERE id = ?", params![id.as_str()]),
        entry.statement_if_changed(),
    ])
    .await?;
    is_deleted(db, id).await
}

/// Whether a session was deleted.
pub async fn is_deleted(db: &impl Database, id: &SessionId) -> Result<bool, DbError> {
    #[derive(Deserialize)]
    struct One {}
    let row: Option<One> =
        db.row("SELECT 1 AS one FROM deleted_sessions WHERE session_id = ?", params![id.as_str()]).await?;
    Ok(row.is_some())
}

/// A deletion that is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Open {
    /// The session.
    pub session_id: String,
    /// Looks so far.
    pub attempts: i64,
}

/// Deletions that are due for a look; each is put off by it.
pub async fn due(db: &impl Database, now: UnixMillis) -> Result<Vec<Open>, DbError> {
    db.rows(
        "UPDATE deleted_sessions SET attempts = attempts + 1, due_at = ?1 + MIN(?2, ?3 << MIN(attempts, 6))
         WHERE session_id IN (SELECT session_id FROM deleted_sessions WHERE finished_at IS NULL AND due_at <= ?1
            ORDER BY due_at LIMIT 20) RETURNING session_id, attempts",
        params![now.0, LONGEST_PAUSE_MS, FIRST_LOOK_MS],
    )
    .await
}

/// Nothing of it is left.
pub async fn finish(db: &impl Database, id: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE deleted_sessions SET finished_at = ?2, last_error = NULL WHERE session_id = ?1",
        params![id, now.0],
    )
    .await
    .map(|_| ())
}

/// Why a look did not finish it.
pub async fn note(db: &impl Database, id: &str, error: &str) -> Result<(), DbError> {
    db.change("UPDATE deleted_sessions SET last_error = ?2 WHERE session_id = ?1", params![id, error]).await.map(|_| ())
}

/// Forgets what is gone for long and counted by no parent.
pub async fn forget_old(db: &impl Database, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "DELETE FROM deleted_sessions WHERE finished_at < ? AND (parent_session_id IS NULL
            OR parent_session_id NOT IN (SELECT id FROM sessions))",
        params![now.0 - REMEMBERED_MS],
    )
    .await
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::{self, Author};
    use crate::store::native::Native;
    use crate::store::sessions::{self, ListQuery, NewSession};
    use futures_executor::block_on;

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    fn listed(db: &Native) -> usize {
        block_on(sessions::list(db, &ListQuery { limit: 10, ..ListQuery::default() })).expect("runs").0.len()
    }

    fn insert(db: &Native, byte: u8) {
        let new = NewSession::plain(id(byte));
        block_on(sessions::insert(db, &new, UnixMillis(1))).expect("runs");
    }

    #[test]
    fn a_deletion_stays_open_until_it_is_finished_and_may_be_repeated() {
        let db = Native::new();
        let now = UnixMillis(1_000);
        insert(&db, 1);
        let entry = |byte| Entry::new(Author::system(), "session.delete", "session", id(byte).as_str(), now);
        assert!(!block_on(delete(&db, &id(2), now, &entry(2))).expect("runs"), "unknown");
        for _ in 0..2 {
            assert!(block_on(delete(&db, &id(1), now, &entry(1))).expect("runs"));
        }
        let log = block_on(audit_log::list(&db, &audit_log::Filter::default(), 10)).expect("runs");
        let deleted: Vec<_> = log.iter().map(|entry| entry.subject_id.as_str()).collect();
        assert_eq!(deleted, [id(1).as_str()], "told once, and of what was there");
        assert_eq!(listed(&db), 0);
        assert!(block_on(due(&db, now)).expect("runs").is_empty(), "its own object has the first minute");
        let later = now.plus(FIRST_LOOK_MS);
        assert_eq!(block_on(due(&db, later)).expect("runs").len(), 1);
        assert!(block_on(due(&db, later)).expect("runs").is_empty(), "put off");
        block_on(note(&db, id(1).as_str(), "the bucket is down")).expect("runs");
        assert_eq!(block_on(due(&db, later.plus(LONGEST_PAUSE_MS))).expect("runs")[0].attempts, 2);
        block_on(finish(&db, id(1).as_str(), later)).expect("runs");
        assert!(block_on(due(&db, later.plus(10 * LONGEST_PAUSE_MS))).expect("runs").is_empty());
        block_on(forget_old(&db, later)).expect("runs");
        assert!(block_on(is_deleted(&db, &id(1))).expect("runs"));
        block_on(forget_old(&db, later.plus(REMEMBERED_MS + 1))).expect("runs");
        assert!(!block_on(is_deleted(&db, &id(1))).expect("runs"));
    }
}
