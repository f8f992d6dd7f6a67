//! Which session a sandbox is of.

use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;

use super::{Database, DbError, params};

/// Longer than any sandbox lives, in ms.
const REMEMBERED_MS: i64 = 7 * 86_400_000;

/// Before a sandbox is asked for. A repetition changes nothing.
pub async fn remember(db: &impl Database, sandbox: &str, session: &SessionId, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "INSERT OR IGNORE INTO sandboxes (sandbox_id, session_id, started_at) VALUES (?, ?, ?)",
        params![sandbox, session.as_str(), now.0],
    )
    .await?;
    Ok(())
}

/// The session of a sandbox.
pub async fn session_of(db: &impl Database, sandbox: &str) -> Result<Option<SessionId>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        session_id: String,
    }
    let row: Option<Row> = db.row("SELECT session_id FROM sandboxes WHERE sandbox_id = ?", params![sandbox]).await?;
    Ok(row.and_then(|row| SessionId::parse(&row.session_id).ok()))
}

/// Forgets those that are long gone.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change(
        "DELETE FROM sandboxes WHERE sandbox_id IN
            (SELECT sandbox_id FROM sandboxes WHERE started_at < ? ORDER BY started_at LIMIT 1000)",
        params![now.plus(-REMEMBERED_MS).0],
    )
    .await
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::store::native::Native;

    #[test]
    fn a_sandbox_leads_to_its_session_until_it_is_long_gone() {
        block_on(async {
            let db = Native::new();
            let (session, now) = (SessionId::from_bytes([1; 16]), UnixMillis(1_800_000_000_000));
            remember(&db, "sandbox-1", &session, now).await.expect("SQL");
            remember(&db, "sandbox-1", &SessionId::from_bytes([2; 16]), now).await.expect("SQL");
            assert_eq!(session_of(&db, "sandbox-1").await.expect("SQL"), Some(session), "nobody takes it over");
            assert_eq!(session_of(&db, "sandbox-2").await.expect("SQL"), None);
            assert_eq!(sweep(&db, now.plus(86_400_000)).await.expect("SQL"), 0);
            assert_eq!(sweep(&db, now.plus(8 * 86_400_000)).await.expect("SQL"), 1);
        });
    }
}
