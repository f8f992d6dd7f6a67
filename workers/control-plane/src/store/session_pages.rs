//! In which sessions a person may have pages open.

use oi_protocol::{SessionId, UnixMillis, limits};
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// Sessions that are asked at a time.
const LISTED: i64 = 100;

/// Pages that are to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pages {
    /// Whose.
    pub user_id: String,
    /// In which session.
    pub session_id: String,
}

/// A person is about to get a client token of a session.
pub async fn note(db: &impl Database, user_id: &str, session: &SessionId, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "INSERT INTO session_pages (user_id, session_id, token_ends_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (user_id, session_id) DO UPDATE SET token_ends_at = MAX(token_ends_at, excluded.token_ends_at)",
        params![user_id, session.as_str(), now.plus(limits::CLIENT_TOKEN_LIFE_MS).0],
    )
    .await?;
    Ok(())
}

/// All pages of a person are to be closed.
pub fn revoke(user_id: &str) -> Statement {
    ("UPDATE session_pages SET revoked = 1 WHERE user_id = ?", params![user_id])
}

/// Those that are to be closed and are not yet, the newest first; of one person, or of everybody.
pub async fn revoked(db: &impl Database, user_id: Option<&str>, now: UnixMillis) -> Result<Vec<Pages>, DbError> {
    db.rows(
        "SELECT user_id, session_id FROM session_pages
            WHERE revoked = 1 AND token_ends_at > ?1 AND (?2 IS NULL OR user_id = ?2)
            ORDER BY token_ends_at DESC LIMIT ?3",
        params![now.0, user_id, LISTED],
    )
    .await
}

/// A session has closed them.
pub async fn closed(db: &impl Database, pages: &Pages) -> Result<(), DbError> {
    db.change(
        "DELETE FROM session_pages WHERE user_id = ? AND session_id = ?",
        params![pages.user_id.as_str(), pages.session_id.as_str()],
    )
    .await
    .map(|_| ())
}

/// Forgets those whose tokens have ended.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change(
        "DELETE FROM session_pages WHERE rowid IN
            (SELECT rowid FROM session_pages WHERE token_ends_at <= ? ORDER BY token_ends_at LIMIT 1000)",
        params![now.0],
    )
    .await
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::store::native::Native;

    #[test]
    fn pages_are_to_be_closed_until_their_session_has_closed_them_or_their_tokens_have_ended() {
        block_on(async {
            let db = Native::new();
            let now = UnixMillis(1_800_000_000_000);
            let sessions = [1, 2, 3].map(|byte| SessionId::from_bytes([byte; 16]));
            for (hours, session) in sessions.iter().enumerate() {
                note(&db, "ada", session, now.plus(hours as i64 * 3_600_000)).await.expect("SQL");
            }
            note(&db, "grace", &sessions[0], now).await.expect("SQL");
            // An older request that arrives late takes nothing back.
            note(&db, "ada", &sessions[2], now).await.expect("SQL");
            let open = async |who: Option<&str>, at: UnixMillis| revoked(&db, who, at).await.expect("SQL");
            assert_eq!(open(None, now).await, []);
            db.batch(vec![revoke("ada")]).await.expect("SQL");
            let ids: Vec<String> = open(Some("ada"), now).await.into_iter().map(|pages| pages.session_id).collect();
            assert_eq!(ids, [2, 1, 0].map(|n: usize| sessions[n].to_string()));
            assert_eq!(open(Some("grace"), now).await, []);
            assert_eq!(open(None, now.plus(86_400_001)).await.len(), 2, "tokens that have ended open no page");
            let first = open(None, now).await.remove(0);
            // The person is back meanwhile: they are closed all the same, and come again.
            note(&db, "ada", &sessions[2], now).await.expect("SQL");
            closed(&db, &first).await.expect("SQL");
            assert_eq!(open(None, now).await.len(), 2);
            assert_eq!(sweep(&db, now.plus(86_400_001)).await.expect("SQL"), 2);
        });
    }
}
