//! `webhook_deliveries`: each is stored before its sender is answered, then processed once or visibly failed.

use oi_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{Database, DbError, params};

/// Attempts before a delivery is given up, visibly.
pub const MAX_ATTEMPTS: i64 = 8;
/// One attempt's lease, in ms.
pub const LEASE_MS: i64 = 120_000;
/// A stored delivery whose queue message did not arrive is queued again after this, in ms.
const REQUEUE_AFTER_MS: i64 = 60_000;

/// Where a body is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredBody<'a> {
    /// In the row.
    Inline(&'a str),
    /// In the bucket.
    Key(&'a str),
}

/// Stores a delivery; `false` when its sender's id was stored before.
pub async fn insert(
    db: &impl Database,
    id: &str,
    (source, delivery_id, event): (&str, &str, &str),
    body: StoredBody<'_>,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let (inline, key) = match body {
        StoredBody::Inline(text) => (Some(text), None),
        StoredBody::Key(key) => (None, Some(key)),
    };
    let changed = db
        .change(
            "INSERT INTO webhook_deliveries (id, source, delivery_id, event, status, due_at, body, body_key, received_at,
                updated_at) VALUES (?1, ?2, ?3, ?4, 'stored', ?7, ?5, ?6, ?8, ?8)
             ON CONFLICT (source, delivery_id) DO NOTHING",
            params![id, source, delivery_id, event, inline, key, now.plus(REQUEUE_AFTER_MS).0, now.0],
        )
        .await?;
    Ok(changed == 1)
}

/// A delivery as it is listed: all but its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
#[expect(clippy::struct_field_names, reason = "`delivery_id` is the sender's word and the column's name")]
pub struct Delivery {
    /// Our id.
    pub id: String,
    /// `slack`, `github` or `linear`
    pub source: String,
    /// The sender's id.
    pub delivery_id: String,
    /// The sender's word for what happened.
    pub event: String,
    /// `stored`, `processing`, `processed`, `ignored` or `failed`
    pub status: String,
    /// Why it was ignored or failed.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempts: i64,
    /// When it arrived.
    pub received_at: i64,
    /// When its status changed.
    pub updated_at: i64,
}

const LISTED: &str = "id, source, delivery_id, event, status, reason, attempts, received_at, updated_at";

/// The newest deliveries of a source, or the one of a sender's id.
pub async fn list(
    db: &impl Database,
    source: Option<&str>,
    delivery_id: Option<&str>,
    limit: i64,
) -> Result<Vec<Delivery>, DbError> {
    let sql = format!(
        "SELECT {LISTED} FROM webhook_deliveries WHERE (?1 IS NULL OR source = ?1)
            AND (?2 IS NULL OR delivery_id = ?2) ORDER BY received_at DESC, id LIMIT ?3"
    );
    db.rows(&sql, params![source, delivery_id, limit]).await
}

/// A delivery that is claimed for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claimed {
    /// Our id.
    pub id: String,
    /// `slack`, `github` or `linear`
    pub source: String,
    /// The sender's word for what happened.
    pub event: String,
    /// This attempt, from 1; a result of another changes nothing.
    pub attempts: i64,
}

/// Claims a delivery that waits, or whose attempt's lease has ended.
pub async fn claim(db: &impl Database, id: &str, now: UnixMillis) -> Result<Option<Claimed>, DbError> {
    db.row(
        "UPDATE webhook_deliveries SET status = 'processing', attempts = attempts + 1, due_at = ?3, updated_at = ?2
         WHERE id = ?1 AND attempts < ?4 AND (status = 'stored' OR (status = 'processing' AND due_at <= ?2))
         RETURNING id, source, event, attempts",
        params![id, now.0, now.plus(LEASE_MS).0, MAX_ATTEMPTS],
    )
    .await
}

/// A delivery's body, where it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeptBody {
    /// In the row.
    pub body: Option<String>,
    /// In the bucket.
    pub body_key: Option<String>,
}

/// The body of a delivery.
pub async fn body(db: &impl Database, id: &str) -> Result<Option<KeptBody>, DbError> {
    db.row("SELECT body, body_key FROM webhook_deliveries WHERE id = ?", params![id]).await
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processed {
    /// Done.
    Done,
    /// Nothing is done with it, for this reason.
    Ignored(String),
    /// It did not work, for this reason; tried again after so many ms while attempts are left.
    Retry(String, i64),
}

/// Ends an attempt; `false` when the attempt is not the current one.
pub async fn finish(
    db: &impl Database,
    claimed: &Claimed,
    outcome: &Processed,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let (status, reason, due_at) = match outcome {
        Processed::Done => ("processed", None, now),
        Processed::Ignored(reason) => ("ignored", Some(reason.as_str()), now),
        Processed::Retry(reason, _) if claimed.attempts >= MAX_ATTEMPTS => ("failed", Some(reason.as_str()), now),
        Processed::Retry(reason, after) => ("stored", Some(reason.as_str()), now.plus(*after)),
    };
    let changed = db
        .change(
            "UPDATE webhook_deliveries SET status = ?3, reason = ?4, due_at = ?5, updated_at = ?6
             WHERE id = ?1 AND attempts = ?2 AND status = 'processing'",
            params![claimed.id.as_str(), claimed.attempts, status, reason, due_at.0, now.0],
        )
        .await?;
    Ok(changed == 1)
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

/// Takes deliveries that were left behind, to be queued again: at most `limit`. Each is left alone for a while after.
pub async fn left_behind(db: &impl Database, limit: i64, now: UnixMillis) -> Result<Vec<String>, DbError> {
    let rows: Vec<Id> = db
        .rows(
            "UPDATE webhook_deliveries SET due_at = CASE status WHEN 'stored' THEN ?2 ELSE due_at END
             WHERE id IN (SELECT id FROM webhook_deliveries WHERE status IN ('stored', 'processing') AND due_at <= ?1
                AND attempts < ?4 ORDER BY due_at LIMIT ?3) RETURNING id",
            params![now.0, now.plus(REQUEUE_AFTER_MS).0, limit, MAX_ATTEMPTS],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Gives up deliveries whose last attempt never ended.
pub async fn give_up(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change(
        "UPDATE webhook_deliveries SET status = 'failed', reason = 'no attempt ended in time', updated_at = ?1
         WHERE status IN ('stored', 'processing') AND due_at <= ?1 AND attempts >= ?2",
        params![now.0, MAX_ATTEMPTS],
    )
    .await
}

/// A delivery that is old enough to be forgotten, and its object in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Old {
    /// Our id.
    pub id: String,
    /// The object to delete first.
    pub body_key: Option<String>,
}

/// Deliveries that arrived before `before` and have ended: at most `limit`.
pub async fn old(db: &impl Database, before: UnixMillis, limit: i64) -> Result<Vec<Old>, DbError> {
    db.rows(
        "SELECT id, body_key FROM webhook_deliveries WHERE received_at < ?
            AND status NOT IN ('stored', 'processing') ORDER BY received_at LIMIT ?",
        params![before.0, limit],
    )
    .await
}

/// Forgets a delivery.
pub async fn delete(db: &impl Database, id: &str) -> Result<(), DbError> {
    db.change("DELETE FROM webhook_deliveries WHERE id = ?", params![id]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    fn stored() -> Native {
        let db = Native::new();
        let first = insert(&db, "d1", ("github", "g-1", "push"), StoredBody::Inline("{}"), UnixMillis(0));
        assert_eq!(block_on(first), Ok(true));
        db
    }

    fn status(db: &Native) -> (String, i64) {
        let found = block_on(list(db, Some("github"), Some("g-1"), 5)).expect("runs").remove(0);
        (found.status, found.attempts)
    }

    #[test]
    fn a_delivery_is_stored_once() {
        let db = stored();
        let again = insert(&db, "d2", ("github", "g-1", "push"), StoredBody::Inline("{}"), UnixMillis(0));
        assert_eq!(block_on(again), Ok(false));
        let other = insert(&db, "d3", ("slack", "g-1", "push"), StoredBody::Key("webhooks/x"), UnixMillis(0));
        assert_eq!(block_on(other), Ok(true));
        assert_eq!(block_on(list(&db, None, None, 5)).map(|rows| rows.len()), Ok(2));
        let kept = |id: &str| block_on(body(&db, id)).expect("runs").map(|kept| (kept.body, kept.body_key));
        assert_eq!(kept("d1"), Some((Some("{}".to_owned()), None)));
        assert_eq!(kept("d3"), Some((None, Some("webhooks/x".to_owned()))));
        assert_eq!(kept("d2"), None);
    }

    #[test]
    fn a_delivery_is_processed_once_or_visible_as_failed() {
        let db = stored();
        let claim_at = |now| block_on(claim(&db, "d1", UnixMillis(now))).expect("runs");
        let finish_at =
            |claimed: &Claimed, outcome, now| block_on(finish(&db, claimed, &outcome, UnixMillis(now))).expect("runs");
        let first = claim_at(1).expect("waits");
        assert_eq!(claim_at(2), None, "it is being processed");
        let second = claim_at(1 + LEASE_MS).expect("the lease has ended");
        assert!(!finish_at(&first, Processed::Done, 3), "a result of an attempt that lost its lease");
        assert!(finish_at(&second, Processed::Retry("down".to_owned(), 10), 3));
        for attempt in 3..=MAX_ATTEMPTS {
            let claimed = claim_at(10 * attempt).expect("waits");
            assert!(finish_at(&claimed, Processed::Retry("down".to_owned(), 1), 10 * attempt));
        }
        assert_eq!(status(&db), ("failed".to_owned(), MAX_ATTEMPTS));
        assert_eq!(claim_at(i64::from(u32::MAX)), None);
    }

    #[test]
    fn what_was_left_behind_is_queued_again_but_not_every_minute_anew() {
        let db = stored();
        let swept = |now| block_on(left_behind(&db, 10, UnixMillis(now))).expect("runs");
        assert!(swept(REQUEUE_AFTER_MS - 1).is_empty());
        assert_eq!(swept(REQUEUE_AFTER_MS), ["d1"]);
        assert!(swept(REQUEUE_AFTER_MS + 1).is_empty());
        block_on(db.change("UPDATE webhook_deliveries SET status = 'processing', attempts = 8, due_at = 5", vec![]))
            .expect("runs");
        assert!(swept(6).is_empty(), "its attempts are used up");
        assert_eq!(block_on(give_up(&db, UnixMillis(6))), Ok(1));
        assert_eq!(status(&db).0, "failed");
        assert_eq!(block_on(old(&db, UnixMillis(1), 5)).map(|rows| rows.len()), Ok(1));
    }
}
