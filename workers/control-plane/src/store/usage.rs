//! What prompts used, and the sums of a month.

use oi_protocol::UnixMillis;
use oi_session::job::ReportUsage;
use serde::Deserialize;

use super::{Database, DbError, params};

/// A sum.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Used {
    /// US dollars.
    pub usd: f64,
    /// Tokens of all kinds.
    pub tokens: i64,
}

/// Takes what a prompt has used so far; a repetition, or a report that comes after a later one, adds nothing. A
/// prompt counts for the month in which it was told of first.
pub async fn report(db: &impl Database, report: &ReportUsage) -> Result<(), DbError> {
    let (session, message) = (report.session_id.as_str(), report.message_id.as_str());
    let grow = |who: &str| {
        (
            "INSERT INTO month_usage (month, user_id, usd, tokens)
                SELECT COALESCE(was.month, strftime('%Y-%m', ?6 / 1000, 'unixepoch')), ?3,
                    MAX(?4 - COALESCE(was.usd, 0), 0), MAX(?5 - COALESCE(was.tokens, 0), 0)
                FROM (SELECT 1) LEFT JOIN prompt_usage AS was ON was.session_id = ?1 AND was.message_id = ?2
             WHERE true ON CONFLICT (month, user_id)
                DO UPDATE SET usd = usd + excluded.usd, tokens = tokens + excluded.tokens",
            params![session, message, who, report.usd, report.tokens, report.at.0],
        )
    };
    db.batch(vec![
        grow(&report.user_id),
        grow(""),
        (
            "INSERT INTO prompt_usage (session_id, message_id, user_id, month, usd, tokens)
                VALUES (?1, ?2, ?3, strftime('%Y-%m', ?6 / 1000, 'unixepoch'), ?4, ?5)
             ON CONFLICT (session_id, message_id)
                DO UPDATE SET usd = MAX(usd, excluded.usd), tokens = MAX(tokens, excluded.tokens)",
            params![session, message, report.user_id.as_str(), report.usd, report.tokens, report.at.0],
        ),
    ])
    .await?;
    Ok(())
}

/// What a person has used in the month of `at`; everybody together for `""`.
pub async fn of_month(db: &impl Database, user_id: &str, at: UnixMillis) -> Result<Used, DbError> {
    let used: Option<Used> = db
        .row(
            "SELECT usd, tokens FROM month_usage
                WHERE month = strftime('%Y-%m', ?1 / 1000, 'unixepoch') AND user_id = ?2",
            params![at.0, user_id],
        )
        .await?;
    Ok(used.unwrap_or(Used { usd: 0.0, tokens: 0 }))
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use oi_protocol::{MessageId, SessionId};

    use super::*;
    use crate::store::native::Native;

    fn told(message: u8, user: &str, usd: f64, tokens: i64, at: i64) -> ReportUsage {
        ReportUsage {
            session_id: SessionId::from_bytes([1; 16]),
            message_id: MessageId::from_bytes([message; 16]),
            participant_id: "p".to_owned(),
            user_id: user.to_owned(),
            usd,
            tokens,
            at: UnixMillis(at),
        }
    }

    #[test]
    fn a_repeated_or_late_report_adds_nothing() {
        block_on(async {
            let db = Native::new();
            let now = 1_800_000_000_000;
            for (usd, tokens) in [(1.0, 100), (2.5, 300), (2.5, 300), (1.0, 100)] {
                report(&db, &told(1, "ada", usd, tokens, now)).await.expect("SQL");
            }
            report(&db, &told(2, "grace", 1.0, 7, now)).await.expect("SQL");
            let of = async |who: &str, at: i64| of_month(&db, who, UnixMillis(at)).await.expect("SQL");
            assert_eq!(of("ada", now).await, Used { usd: 2.5, tokens: 300 });
            assert_eq!(of("grace", now).await, Used { usd: 1.0, tokens: 7 });
            assert_eq!(of("", now).await, Used { usd: 3.5, tokens: 307 });
            let next_month = now + 40 * 86_400_000;
            assert_eq!(of("", next_month).await, Used { usd: 0.0, tokens: 0 });
            // A prompt that goes on into the next month counts for the one in which it began.
            report(&db, &told(1, "ada", 4.0, 300, next_month)).await.expect("SQL");
            assert_eq!(of("ada", now).await, Used { usd: 4.0, tokens: 300 });
            assert_eq!(of("ada", next_month).await, Used { usd: 0.0, tokens: 0 });
        });
    }
}
