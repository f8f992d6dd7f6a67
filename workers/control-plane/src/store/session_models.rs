//! Which list of enabled models a session was told last.

use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;

use super::{Database, DbError, params};

/// Sessions that are told at a time.
const LISTED: i64 = 200;

/// The fingerprint of the list that a session knows.
pub async fn told(db: &impl Database, id: &SessionId) -> Result<Option<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        fingerprint: String,
    }
    let row: Option<Row> =
        db.row("SELECT fingerprint FROM session_models WHERE session_id = ?", params![id.as_str()]).await?;
    Ok(row.map(|row| row.fingerprint))
}

/// A session was told.
pub async fn note(db: &impl Database, id: &SessionId, fingerprint: &str) -> Result<(), DbError> {
    db.change(
        "INSERT INTO session_models (session_id, fingerprint) SELECT id, ?2 FROM sessions WHERE id = ?1
         ON CONFLICT (session_id) DO UPDATE SET fingerprint = excluded.fingerprint",
        params![id.as_str(), fingerprint],
    )
    .await
    .map(|_| ())
}

/// Sessions that may have pages open and know another list.
pub async fn behind(db: &impl Database, fingerprint: &str, now: UnixMillis) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        session_id: String,
    }
    let rows: Vec<Row> = db
        .rows(
            "SELECT DISTINCT pages.session_id FROM session_pages pages
                JOIN session_models known ON known.session_id = pages.session_id
             WHERE pages.token_ends_at > ?1 AND known.fingerprint <> ?2 LIMIT ?3",
            params![now.0, fingerprint, LISTED],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.session_id).collect())
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::store::native::Native;
    use crate::store::session_pages;
    use crate::store::sessions::{self, NewSession};

    #[test]
    fn sessions_with_open_pages_that_know_another_list_are_behind() {
        block_on(async {
            let db = Native::new();
            let now = UnixMillis(1_800_000_000_000);
            let id = |byte: u8| SessionId::from_bytes([byte; 16]);
            for byte in 1..=3 {
                let new = NewSession::plain(id(byte));
                sessions::insert(&db, &new, now).await.expect("SQL");
                note(&db, &id(byte), "one").await.expect("SQL");
            }
            session_pages::note(&db, "ada", &id(1), now).await.expect("SQL");
            session_pages::note(&db, "grace", &id(1), now).await.expect("SQL");
            session_pages::note(&db, "ada", &id(2), now).await.expect("SQL");
            let behind = async |list: &str, at| behind(&db, list, at).await.expect("SQL");
            assert_eq!(behind("one", now).await, Vec::<String>::new());
            note(&db, &id(2), "two").await.expect("SQL");
            assert_eq!(told(&db, &id(2)).await, Ok(Some("two".to_owned())));
            assert_eq!(
                behind("two", now).await,
                [id(1).to_string()],
                "one that has no pages is told with its next page"
            );
            assert_eq!(behind("two", now.plus(86_400_001)).await, Vec::<String>::new());
            note(&db, &id(9), "two").await.expect("a session that is gone is nothing to note");
            assert_eq!(told(&db, &id(9)).await, Ok(None));
        });
    }
}
