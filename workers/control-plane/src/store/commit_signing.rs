//! `commit_signing_configuration`: the deployment's key, sealed, and what is public of it.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// What is public.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Configuration {
    pub committer_name: String,
    pub committer_email: String,
    pub public_key: String,
    pub fingerprint: String,
    pub version: i64,
    pub updated_at: i64,
}

/// The key as it is stored, of this fingerprint; `None` when it is another by now.
pub async fn sealed(db: &impl Database, fingerprint: &str) -> Result<Option<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        encrypted_private_key: String,
    }
    let row: Option<Row> = db
        .row(
            "SELECT encrypted_private_key FROM commit_signing_configuration WHERE fingerprint = ?",
            params![fingerprint],
        )
        .await?;
    Ok(row.map(|row| row.encrypted_private_key))
}

/// A key that is about to be the deployment's.
pub struct New<'a> {
    pub sealed: &'a str,
    pub committer_name: &'a str,
    pub committer_email: &'a str,
    pub public_key: &'a str,
    pub fingerprint: &'a str,
}

/// What is public of the key; `None` while commits are not signed.
pub async fn get(db: &impl Database) -> Result<Option<Configuration>, DbError> {
    db.row(
        "SELECT committer_name, committer_email, public_key, fingerprint, version, updated_at
            FROM commit_signing_configuration",
        params![],
    )
    .await
}

/// Takes over a key whole, if the stored one is still of `expected`; 0 stands for none. Changes nothing otherwise.
pub fn put(new: &New<'_>, expected: Option<i64>, by: &str, now: UnixMillis) -> Statement {
    (
        "INSERT INTO commit_signing_configuration (id, encrypted_private_key, committer_name, committer_email,
            public_key, fingerprint, version, updated_by, updated_at)
         SELECT 1, ?1, ?2, ?3, ?4, ?5, 1, ?7, ?8 WHERE ?6 IS NULL
            OR ?6 = COALESCE((SELECT version FROM commit_signing_configuration WHERE id = 1), 0)
         ON CONFLICT (id) DO UPDATE SET encrypted_private_key = excluded.encrypted_private_key,
            committer_name = excluded.committer_name, committer_email = excluded.committer_email,
            public_key = excluded.public_key, fingerprint = excluded.fingerprint,
            version = commit_signing_configuration.version + 1, updated_by = excluded.updated_by,
            updated_at = excluded.updated_at",
        params![
            new.sealed,
            new.committer_name,
            new.committer_email,
            new.public_key,
            new.fingerprint,
            expected,
            by,
            now.0,
        ],
    )
}

/// Commits are signed no more.
pub fn delete() -> Statement {
    ("DELETE FROM commit_signing_configuration WHERE id = 1", params![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[test]
    fn there_is_one_key_and_a_change_that_saw_another_changes_nothing() {
        let db = Native::new();
        let put = |fingerprint: &str, expected| {
            let new = New { sealed: "s", committer_name: "n", committer_email: "e", public_key: "p", fingerprint };
            block_on(db.batch(vec![put(&new, expected, "u", UnixMillis(1))])).expect("runs")[0]
        };
        let stored = || block_on(get(&db)).expect("runs").map(|found| (found.fingerprint, found.version));
        assert_eq!((put("one", Some(2)), put("one", Some(0)), put("two", Some(0)), put("two", Some(1))), (0, 1, 0, 1));
        assert_eq!(stored(), Some(("two".to_owned(), 2)));
        block_on(db.batch(vec![delete()])).expect("runs");
        assert_eq!(stored(), None);
    }
}
