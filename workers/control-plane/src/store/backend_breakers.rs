//! Backends whose starts fail, for all sessions together. Open, none asks; after the pause one session tries, and what
//! comes of that closes the breaker or opens it again.

use oi_protocol::UnixMillis;
use oi_protocol::text::truncate_bytes;
use serde::Deserialize;

use super::{Database, DbError, params};

/// Lasting failures that open it, each at most this long after the one before, in ms.
const FAILURES: i64 = 3;
const WINDOW_MS: i64 = 300_000;
/// How long nobody asks, in ms.
const PAUSE_MS: i64 = 60_000;
/// The one who tries has this long, in ms: an attempt's deadline and a little.
const TRIAL_MS: i64 = 95_000;
/// The others look again after this, in ms.
const LOOK_AGAIN_MS: i64 = 15_000;
/// Of a reason this much is kept.
const REASON_MAX_BYTES: usize = 300;

/// Whether a start may ask the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go {
        /// There were failures, which a success ends.
        after_failures: bool,
        /// It is the one who tries: its failure counts at once.
        trial: bool,
    },
    /// Not now.
    Held {
        /// When to look again.
        until: UnixMillis,
        /// Why the backend failed last.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Row {
    open_until: Option<i64>,
    reason: String,
}

/// Asks whether a backend may be asked.
pub async fn admit(db: &impl Database, backend: &str, now: UnixMillis) -> Result<Admission, DbError> {
    let row: Option<Row> =
        db.row("SELECT open_until, reason FROM backend_breakers WHERE backend = ?", params![backend]).await?;
    let Some(row) = row else { return Ok(Admission::Go { after_failures: false, trial: false }) };
    let Some(open_until) = row.open_until else { return Ok(Admission::Go { after_failures: true, trial: false }) };
    if open_until > now.0 {
        return Ok(Admission::Held { until: UnixMillis(open_until), reason: row.reason });
    }
    let taken = db
        .change(
            "UPDATE backend_breakers SET trial_until = ?2 WHERE backend = ?1 AND open_until <= ?3
                AND (trial_until IS NULL OR trial_until <= ?3)",
            params![backend, now.plus(TRIAL_MS).0, now.0],
        )
        .await?;
    Ok(match taken {
        0 => Admission::Held { until: now.plus(LOOK_AGAIN_MS), reason: row.reason },
        _ => Admission::Go { after_failures: true, trial: true },
    })
}

/// A start failed for lasting reasons of the backend. Until when nobody asks, when that is enough.
pub async fn failed(
    db: &impl Database,
    backend: &str,
    reason: &str,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, DbError> {
    #[derive(Deserialize)]
    struct Opened {
        open_until: Option<i64>,
    }
    let opened: Option<Opened> = db
        .row(
            "INSERT INTO backend_breakers (backend, failures, last_failure_at, reason) VALUES (?1, 1, ?2, ?3)
             ON CONFLICT (backend) DO UPDATE SET
                failures = CASE WHEN last_failure_at < ?2 - ?4 THEN 1 ELSE failures + 1 END,
                open_until = CASE WHEN open_until IS NOT NULL OR (last_failure_at >= ?2 - ?4 AND failures + 1 >= ?5)
                    THEN ?2 + ?6 END,
                last_failure_at = ?2, trial_until = NULL, reason = excluded.reason
             RETURNING open_until",
            params![backend, now.0, truncate_bytes(reason, REASON_MAX_BYTES), WINDOW_MS, FAILURES, PAUSE_MS],
        )
        .await?;
    Ok(opened.and_then(|opened| opened.open_until).map(UnixMillis))
}

/// The backend did what it should: all is well.
pub async fn succeeded(db: &impl Database, backend: &str) -> Result<(), DbError> {
    db.change("DELETE FROM backend_breakers WHERE backend = ?", params![backend]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::store::native::Native;

    const START: UnixMillis = UnixMillis(1_800_000_000_000);

    fn at(seconds: i64) -> UnixMillis {
        START.plus(seconds * 1_000)
    }

    #[test]
    fn three_lasting_failures_open_it_and_one_session_tries_after_the_pause() {
        block_on(async {
            let db = Native::new();
            let ask = async |seconds| admit(&db, "local", at(seconds)).await.expect("SQL");
            let fail = async |seconds| failed(&db, "local", "it is down", at(seconds)).await.expect("SQL");
            assert_eq!(ask(0).await, Admission::Go { after_failures: false, trial: false });
            assert_eq!((fail(0).await, fail(10).await), (None, None));
            assert_eq!(ask(15).await, Admission::Go { after_failures: true, trial: false });
            assert_eq!(fail(20).await, Some(at(80)));
            let held = |until| Admission::Held { until: at(until), reason: "it is down".to_owned() };
            assert_eq!(ask(30).await, held(80));
            assert_eq!(admit(&db, "other", at(30)).await, Ok(Admission::Go { after_failures: false, trial: false }));
            assert_eq!(ask(80).await, Admission::Go { after_failures: true, trial: true }, "one tries");
            assert_eq!(ask(81).await, held(96), "and the others look again soon");
            assert_eq!(fail(90).await, Some(at(150)), "a trial that fails opens it again");
            assert_eq!(ask(149).await, held(150));
            assert_eq!(ask(150).await, Admission::Go { after_failures: true, trial: true });
            assert_eq!(
                ask(246).await,
                Admission::Go { after_failures: true, trial: true },
                "that one was not heard of"
            );
            succeeded(&db, "local").await.expect("SQL");
            assert_eq!(ask(247).await, Admission::Go { after_failures: false, trial: false });
        });
    }

    #[test]
    fn failures_far_apart_open_nothing() {
        block_on(async {
            let db = Native::new();
            for minutes in [0, 10, 20, 30] {
                assert_eq!(failed(&db, "local", "x", at(60 * minutes)).await, Ok(None));
            }
        });
    }
}
