//! `commit_signing_configuration`: the deployment's key, sealed, and what is public of it.

use oi_protocol::UnixMillis;
use oi_worker_kit::key_ring::{KeyRing, Sealed};
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

/// What the key is sealed for.
pub const PLACE: &str = "commit_signing_configuration/1/encrypted_private_key";

#[derive(Deserialize)]
struct Stored {
    encrypted_private_key: String,
}

/// The key as it is stored, whichever it is.
async fn stored(db: &impl Database) -> Result<Option<String>, DbError> {
    let row: Option<Stored> =
        db.row("SELECT encrypted_private_key FROM commit_signing_configuration WHERE id = 1", params![]).await?;
    Ok(row.map(|row| row.encrypted_private_key))
}

/// Which key seals it.
pub async fn key_id(db: &impl Database) -> Result<Option<String>, DbError> {
    Ok(stored(db).await?.map(|text| Sealed::from_text(&text).key_id))
}

/// Seals it anew when an older key seals it, unless somebody changed it meanwhile; whether it was so.
pub async fn reseal(db: &impl Database, keys: &KeyRing) -> Result<bool, DbError> {
    let Some(text) = stored(db).await? else { return Ok(false) };
    let Some(renewed) = keys.renewed(&Sealed::from_text(&text), PLACE) else { return Ok(false) };
    let sql = "UPDATE commit_signing_configuration SET encrypted_private_key = ?2 WHERE encrypted_private_key = ?1";
    db.change(sql, params![text, renewed.to_text()]).await.map(|changed| changed > 0)
}

/// The key as it is stored, of this fingerprint; `None` when it is another by now.
pub async fn sealed(db: &impl Database, fingerprint: &str) -> Result<Option<Sealed>, DbError> {
    let row: Option<Stored> = db
        .row(
            "SELECT encrypted_private_key FROM commit_signing_configuration WHERE fingerprint = ?",
            params![fingerprint],
        )
        .await?;
    Ok(row.map(|row| Sealed::from_text(&row.encrypted_private_key)))
}

/// A key that is about to be the deployment's.
pub struct New<'a> {
    pub sealed: &'a Sealed,
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
            new.sealed.to_text(),
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
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[test]
    fn there_is_one_key_and_a_change_that_saw_another_changes_nothing() {
        let db = Native::new();
        let (one, two) =
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        let old = KeyRing::from_base64(one, []).expect("a key");
        let put = |fingerprint: &str, expected| {
            let sealed = &old.seal("the key", PLACE).expect("seals");
            let new = New { sealed, committer_name: "n", committer_email: "e", public_key: "p", fingerprint };
            let change = vec![put(&new, expected, "u", UnixMillis(1))];
            block_on(db.batch(about_a("commit_signing.set").behind_the_first(change))).expect("runs")[0]
        };
        let stored = || block_on(get(&db)).expect("runs").map(|found| (found.fingerprint, found.version));
        assert_eq!((put("one", Some(2)), put("one", Some(0)), put("two", Some(0)), put("two", Some(1))), (0, 1, 0, 1));
        assert_eq!(stored(), Some(("two".to_owned(), 2)));
        assert_eq!(told(&db).len(), 2, "what changed nothing is not told");
        let keys = KeyRing::from_base64(two, [one]).expect("keys");
        assert_eq!(block_on(reseal(&db, &keys)), Ok(true));
        assert_eq!(block_on(reseal(&db, &keys)), Ok(false));
        assert_eq!(block_on(key_id(&db)).expect("runs").as_deref(), Some(keys.current_id()));
        let sealed = block_on(sealed(&db, "two")).expect("runs").expect("is there");
        assert_eq!(KeyRing::from_base64(two, []).expect("a key").open(&sealed, PLACE).as_deref(), Ok("the key"));
        assert_eq!(stored(), Some(("two".to_owned(), 2)), "for people nothing changed");
        block_on(db.batch(vec![delete()])).expect("runs");
        assert_eq!(stored(), None);
    }
}
