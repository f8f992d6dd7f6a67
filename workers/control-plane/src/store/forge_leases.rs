//! What only one may do at a time at the code host, across all isolates.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, params};

/// A lease that ended this long ago is forgotten with its value, in ms.
const KEPT_MS: i64 = 3_600_000;

/// Takes a lease, when nobody has it.
pub async fn take(
    db: &impl Database,
    name: &str,
    holder: &str,
    until: UnixMillis,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .change(
            "INSERT INTO forge_leases (name, holder, expires_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET holder = ?2, expires_at = ?3 WHERE forge_leases.expires_at <= ?4",
            params![name, holder, until.0, now.0],
        )
        .await?;
    Ok(changed == 1)
}

/// Gives it back. With a value, that is what came of it.
pub async fn give_back(
    db: &impl Database,
    name: &str,
    holder: &str,
    value: Option<&str>,
    now: UnixMillis,
) -> Result<(), DbError> {
    db.change(
        "UPDATE forge_leases SET expires_at = ?3, value = ?4 WHERE name = ?1 AND holder = ?2",
        params![name, holder, now.0, value],
    )
    .await?;
    Ok(())
}

/// What came of it last.
pub async fn value(db: &impl Database, name: &str) -> Result<Option<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        value: Option<String>,
    }
    let row: Option<Row> = db.row("SELECT value FROM forge_leases WHERE name = ?", params![name]).await?;
    Ok(row.and_then(|row| row.value))
}

/// Forgets what came of it.
pub async fn forget_value(db: &impl Database, name: &str) -> Result<(), DbError> {
    db.change("UPDATE forge_leases SET value = NULL WHERE name = ?", params![name]).await?;
    Ok(())
}

/// Forgets what is old.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change("DELETE FROM forge_leases WHERE expires_at < ?", params![now.plus(-KEPT_MS).0]).await
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::store::native::Native;

    #[test]
    fn a_lease_has_one_holder_until_it_ends_or_is_given_back() {
        let db = Native::new();
        let take = |holder: &str, until, now| {
            block_on(take(&db, "token", holder, UnixMillis(until), UnixMillis(now))).expect("runs")
        };
        let kept = || block_on(value(&db, "token")).expect("runs");
        assert!(take("a", 100, 0));
        assert!(!take("b", 150, 50), "it is a's");
        assert!(take("b", 200, 100), "a's has ended");
        block_on(give_back(&db, "token", "a", Some("late"), UnixMillis(101))).expect("runs");
        assert_eq!(kept(), None, "who lost it has no say any more");
        assert!(!take("c", 300, 110));
        block_on(give_back(&db, "token", "b", Some("sealed"), UnixMillis(120))).expect("runs");
        assert_eq!(kept().as_deref(), Some("sealed"));
        assert!(take("c", 300, 120));
        block_on(forget_value(&db, "token")).expect("runs");
        assert_eq!(kept(), None);
        assert_eq!(block_on(sweep(&db, UnixMillis(300 + KEPT_MS))), Ok(0));
        assert_eq!(block_on(sweep(&db, UnixMillis(301 + KEPT_MS))), Ok(1));
    }
}
