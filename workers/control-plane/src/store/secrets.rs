//! `secrets` and `secret_scopes`: values that sandboxes get, each sealed for its scope and name.
//!
//! A scope has a version. What it may hold is counted from what was read at one version, and written only while the scope
//! is still at it, so that two who write at once neither pass a limit together nor lose what the other wrote.

use std::collections::BTreeMap;

use oi_protocol::secrets::{SCOPE_MAX_BYTES, SCOPE_MAX_COUNT, SecretName};
use oi_protocol::{EnvironmentId, UnixMillis};
use oi_worker_kit::key_ring::{KeyRing, Sealed};
use oi_worker_kit::sealed::SealError;
use serde::Deserialize;

use super::audit_log::Entry;
use super::{Database, DbError, Param, Statement, params};

/// Attempts of a change that names no version and meets others.
const ATTEMPTS: u32 = 4;

/// Whose secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretScope {
    /// The deployment's: every sandbox gets them.
    Global,
    /// A repository's, by the forge's number.
    Repository(i64),
    /// An environment's.
    Environment(EnvironmentId),
}

impl SecretScope {
    /// The kind, as it is stored.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Repository(_) => "repository",
            Self::Environment(_) => "environment",
        }
    }

    /// Which of its kind, as it is stored.
    pub fn id(&self) -> String {
        match self {
            Self::Global => String::new(),
            Self::Repository(id) => id.to_string(),
            Self::Environment(id) => id.as_str().to_owned(),
        }
    }
}

/// What a value is sealed for. As JSON, so that no two places are written alike.
fn place(kind: &str, scope_id: &str, name: &str) -> String {
    serde_json::json!(["secret", kind, scope_id, name]).to_string()
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredSecret {
    /// The scope's kind.
    pub scope_kind: String,
    /// The scope.
    pub scope_id: String,
    /// Name.
    pub name: String,
    /// Its sealed value.
    pub sealed_value: String,
    /// The key that seals it.
    pub key_id: String,
}

impl StoredSecret {
    const COLUMNS: &str = "scope_kind, scope_id, name, sealed_value, key_id";

    /// Whether it is of this scope.
    pub fn is_of(&self, scope: &SecretScope) -> bool {
        self.scope_kind == scope.kind() && self.scope_id == scope.id()
    }

    /// The value.
    pub fn open(&self, keys: &KeyRing) -> Result<String, SealError> {
        let sealed = Sealed { key_id: self.key_id.clone(), value: self.sealed_value.clone() };
        keys.open(&sealed, &place(&self.scope_kind, &self.scope_id, &self.name))
    }
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedSecret {
    /// Name.
    pub name: String,
    /// Length of the value.
    pub value_bytes: i64,
    /// When it was first set.
    pub created_at: i64,
    /// When it was last set.
    pub updated_at: i64,
}

#[derive(Deserialize)]
struct Version {
    version: i64,
}

/// The version of a scope; 0 before its first change.
pub async fn version(db: &impl Database, scope: &SecretScope) -> Result<i64, DbError> {
    let row: Option<Version> = db
        .row(
            "SELECT version FROM secret_scopes WHERE scope_kind = ? AND scope_id = ?",
            params![scope.kind(), scope.id()],
        )
        .await?;
    Ok(row.map_or(0, |row| row.version))
}

/// A scope's secrets by name, without values.
pub async fn list(db: &impl Database, scope: &SecretScope) -> Result<Vec<ListedSecret>, DbError> {
    db.rows(
        "SELECT name, value_bytes, created_at, updated_at FROM secrets WHERE scope_kind = ? AND scope_id = ?
            ORDER BY name",
        params![scope.kind(), scope.id()],
    )
    .await
}

/// Which of these names a scope has.
pub async fn names_of(db: &impl Database, scope: &SecretScope, names: &[&str]) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let rows: Vec<Named> = db
        .rows(
            "SELECT name FROM secrets WHERE scope_kind = ? AND scope_id = ? AND name IN (SELECT value FROM json_each(?))",
            params![scope.kind(), scope.id(), serde_json::json!(names).to_string()],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// A secret with a token of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LegacyToken {
    /// `global`, `repository` or `environment`.
    pub scope_kind: String,
    /// The repository's number or the environment.
    pub scope_id: String,
    /// Its name.
    pub name: String,
}

/// Secrets that hold refresh tokens of subscriptions, as Open-Inspect kept them; 200 at most. The names are reserved, so
/// that only an import leaves such.
pub async fn with_legacy_tokens(db: &impl Database) -> Result<Vec<LegacyToken>, DbError> {
    db.rows(
        "SELECT scope_kind, scope_id, name FROM secrets WHERE name IN ('OPENAI_OAUTH_REFRESH_TOKEN',
            'XAI_OAUTH_REFRESH_TOKEN') ORDER BY scope_kind, scope_id, name LIMIT 200",
        params![],
    )
    .await
}

/// Everything in these scopes, sealed.
pub async fn read(db: &impl Database, scopes: &[SecretScope]) -> Result<Vec<StoredSecret>, DbError> {
    let these = vec!["(scope_kind = ? AND scope_id = ?)"; scopes.len()].join(" OR ");
    let values: Vec<Param> = scopes.iter().flat_map(|scope| params![scope.kind(), scope.id()]).collect();
    if values.is_empty() {
        return Ok(Vec::new());
    }
    db.rows(&format!("SELECT {} FROM secrets WHERE {these} ORDER BY name", StoredSecret::COLUMNS), values).await
}

/// Why a scope's secrets were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The scope is at another version.
    #[error("the secrets were changed meanwhile")]
    Conflict,
    /// The environment is not there.
    #[error("there is no such scope")]
    NoScope,
    /// No secret has the name.
    #[error("there is no such secret")]
    NoSecret,
    /// More than a scope holds.
    #[error("a scope holds {SCOPE_MAX_COUNT} secrets at most, and would hold {0}")]
    TooMany(usize),
    /// More than a scope holds.
    #[error("a scope holds {SCOPE_MAX_BYTES} bytes of values at most, and would hold {0}")]
    TooLarge(usize),
    /// A value was not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// New names.
    pub created: usize,
    /// Names that were there.
    pub updated: usize,
    /// The version that it made.
    pub version: i64,
}

/// When a change is made, and by which mark the statements of its batch know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// Never used twice.
    pub mark: &'a str,
    /// The version that the caller has read, when they say so.
    pub expected: Option<i64>,
    /// Now.
    pub now: UnixMillis,
}

/// Takes the next version of a scope, if it is still at `version`. Every further statement of the batch asks for the mark.
fn claim(scope: &SecretScope, version: i64, write: Write<'_>) -> Statement {
    (
        "INSERT INTO secret_scopes (scope_kind, scope_id, version, last_write, updated_at)
         SELECT ?1, ?2, ?3 + 1, ?4, ?5
            WHERE (?3 = 0 OR EXISTS (SELECT 1 FROM secret_scopes WHERE scope_kind = ?1 AND scope_id = ?2))
                AND (?1 <> 'environment' OR EXISTS (SELECT 1 FROM environments WHERE id = ?2))
         ON CONFLICT (scope_kind, scope_id) DO UPDATE SET version = excluded.version, last_write = excluded.last_write,
            updated_at = excluded.updated_at WHERE secret_scopes.version = ?3",
        params![scope.kind(), scope.id(), version, write.mark, write.now.0],
    )
}

/// Makes a change of a scope: `plan` looks at what is there (lengths by name) and says what is to be done.
async fn change<P>(
    db: &impl Database,
    scope: &SecretScope,
    write: Write<'_>,
    plan: impl Fn(&BTreeMap<String, usize>) -> Result<(P, Vec<Statement>), ChangeError>,
) -> Result<(P, i64), ChangeError> {
    for _ in 0..ATTEMPTS {
        let version = version(db, scope).await?;
        if write.expected.is_some_and(|expected| expected != version) {
            return Err(ChangeError::Conflict);
        }
        let there = list(db, scope).await?.into_iter().map(|row| (row.name, row.value_bytes as usize)).collect();
        let (planned, statements) = plan(&there)?;
        let mut batch = vec![claim(scope, version, write)];
        batch.extend(statements);
        batch.push(super::image_builds::scopes::end_with_secrets(scope, write.mark, write.now));
        if db.batch(batch).await?.first() == Some(&1) {
            return Ok((planned, version + 1));
        }
        if let SecretScope::Environment(id) = scope
            && !super::environments::exists(db, id).await?
        {
            return Err(ChangeError::NoScope);
        }
    }
    Err(ChangeError::Conflict)
}

/// Sets secrets, each name once; what is not named stays. The audit log gets `entry` of each name.
pub async fn put(
    db: &impl Database,
    keys: &KeyRing,
    scope: &SecretScope,
    values: &[(SecretName, String)],
    write: Write<'_>,
    entry: &Entry,
) -> Result<Changed, ChangeError> {
    let mut sealed = Vec::with_capacity(values.len());
    for (name, value) in values {
        let place = place(scope.kind(), &scope.id(), name.as_str());
        sealed.push((name.as_str(), value.len(), keys.seal(value, &place)?));
    }
    let plan = |there: &BTreeMap<String, usize>| {
        let mut after = there.clone();
        after.extend(sealed.iter().map(|(name, bytes, _)| ((*name).to_owned(), *bytes)));
        if after.len() > SCOPE_MAX_COUNT {
            return Err(ChangeError::TooMany(after.len()));
        }
        let bytes: usize = after.values().sum();
        if bytes > SCOPE_MAX_BYTES {
            return Err(ChangeError::TooLarge(bytes));
        }
        let created = after.len() - there.len();
        let statements = sealed.iter().map(|(name, bytes, sealed)| -> Statement {
            (
                "INSERT INTO secrets (scope_kind, scope_id, name, sealed_value, key_id, value_bytes, created_at,
                    updated_at)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7 FROM secret_scopes
                    WHERE scope_kind = ?1 AND scope_id = ?2 AND last_write = ?8
                 ON CONFLICT (scope_kind, scope_id, name) DO UPDATE SET sealed_value = excluded.sealed_value,
                    key_id = excluded.key_id, value_bytes = excluded.value_bytes, unreadable = 0,
                    updated_at = excluded.updated_at",
                params![
                    scope.kind(),
                    scope.id(),
                    *name,
                    sealed.value.as_str(),
                    sealed.key_id.as_str(),
                    *bytes as i64,
                    write.now.0,
                    write.mark,
                ],
            )
        });
        let entries = entry.statement_of_each_if_changed(sealed.iter().map(|(name, ..)| *name));
        Ok((created, std::iter::once(entries).chain(statements).collect()))
    };
    let (created, version) = change(db, scope, write, plan).await?;
    Ok(Changed { created, updated: values.len() - created, version })
}

/// Deletes a secret; the scope's version after it.
pub async fn delete(
    db: &impl Database,
    scope: &SecretScope,
    name: &SecretName,
    write: Write<'_>,
    entry: &Entry,
) -> Result<i64, ChangeError> {
    let plan = |there: &BTreeMap<String, usize>| {
        if !there.contains_key(name.as_str()) {
            return Err(ChangeError::NoSecret);
        }
        let statement: Statement = (
            "DELETE FROM secrets WHERE scope_kind = ?1 AND scope_id = ?2 AND name = ?3
                AND EXISTS (SELECT 1 FROM secret_scopes WHERE scope_kind = ?1 AND scope_id = ?2 AND last_write = ?4)",
            params![scope.kind(), scope.id(), name.as_str(), write.mark],
        );
        Ok(((), vec![statement, entry.statement_if_changed()]))
    };
    change(db, scope, write, plan).await.map(|((), version)| version)
}

/// With an environment go its secrets.
pub fn delete_with_environment(id: &EnvironmentId) -> [Statement; 2] {
    [
        (
            "DELETE FROM secrets WHERE scope_kind = 'environment' AND scope_id = ?1
                AND NOT EXISTS (SELECT 1 FROM environments WHERE id = ?1)",
            params![id.as_str()],
        ),
        (
            "DELETE FROM secret_scopes WHERE scope_kind = 'environment' AND scope_id = ?1
                AND NOT EXISTS (SELECT 1 FROM environments WHERE id = ?1)",
            params![id.as_str()],
        ),
    ]
}

/// Some secrets that older keys of the ring seal, without those that were found not to open.
pub async fn under_old_keys(db: &impl Database, keys: &KeyRing, most: i64) -> Result<Vec<StoredSecret>, DbError> {
    let mut values: Vec<Param> = keys.old_ids().map(Param::from).collect();
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let these = vec!["?"; values.len()].join(", ");
    values.push(most.into());
    let sql =
        format!("SELECT {} FROM secrets WHERE key_id IN ({these}) AND unreadable = 0 LIMIT ?", StoredSecret::COLUMNS);
    db.rows(&sql, values).await
}

/// What became of secrets whose key is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resealed {
    /// Now under the current key.
    pub moved: usize,
    /// They do not open.
    pub unreadable: usize,
}

/// Seals secrets anew with the current key, each unless somebody set it meanwhile. One that does not open is marked.
pub async fn reseal(db: &impl Database, keys: &KeyRing, secrets: &[StoredSecret]) -> Result<Resealed, DbError> {
    let mut done = Resealed::default();
    let statements = secrets.iter().map(|secret| -> Statement {
        let place = place(&secret.scope_kind, &secret.scope_id, &secret.name);
        let row = params![
            secret.scope_kind.as_str(),
            secret.scope_id.as_str(),
            secret.name.as_str(),
            secret.sealed_value.as_str(),
        ];
        if let Ok(sealed) = secret.open(keys).and_then(|plain| keys.seal(&plain, &place)) {
            done.moved += 1;
            let sql = "UPDATE secrets SET sealed_value = ?5, key_id = ?6
                WHERE scope_kind = ?1 AND scope_id = ?2 AND name = ?3 AND sealed_value = ?4";
            (sql, [row, params![sealed.value, sealed.key_id]].concat())
        } else {
            done.unreadable += 1;
            let sql = "UPDATE secrets SET unreadable = 1
                WHERE scope_kind = ?1 AND scope_id = ?2 AND name = ?3 AND sealed_value = ?4";
            (sql, row)
        }
    });
    let statements: Vec<Statement> = statements.collect();
    if !statements.is_empty() {
        db.batch(statements).await?;
    }
    Ok(done)
}

/// Secrets under one key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeyUse {
    /// The key.
    pub key_id: String,
    /// How many it seals.
    pub secrets: i64,
    /// How many of them were found not to open.
    pub unreadable: i64,
}

/// Which keys seal how many secrets.
pub async fn key_use(db: &impl Database) -> Result<Vec<KeyUse>, DbError> {
    db.rows(
        "SELECT key_id, COUNT(*) AS secrets, SUM(unreadable) AS unreadable FROM secrets GROUP BY key_id
            ORDER BY key_id LIMIT 100",
        vec![],
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::environments::{self, tests::environment};
    use crate::store::native::Native;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use futures_executor::block_on;

    fn text(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn keys(current: u8, old: &[u8]) -> KeyRing {
        let old: Vec<String> = old.iter().map(|byte| text(*byte)).collect();
        KeyRing::from_base64(&text(current), old.iter().map(String::as_str)).expect("keys")
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(SecretName, String)> {
        pairs.iter().map(|(name, value)| (SecretName::parse(name).expect("a name"), (*value).to_owned())).collect()
    }

    fn write(mark: &str) -> Write<'_> {
        Write { mark, expected: None, now: UnixMillis(7) }
    }

    fn set(db: &Native, ring: &KeyRing, scope: &SecretScope, pairs: &[(&str, &str)]) -> Result<Changed, ChangeError> {
        let mark = format!("m{}", block_on(version(db, scope)).expect("runs"));
        block_on(put(db, ring, scope, &named(pairs), write(&mark), &about_a("secret.set")))
    }

    fn opened(db: &Native, ring: &KeyRing, scope: &SecretScope) -> Vec<(String, Result<String, SealError>)> {
        let rows = block_on(read(db, std::slice::from_ref(scope))).expect("runs");
        rows.iter().map(|row| (row.name.clone(), row.open(ring))).collect()
    }

    fn with_environment(db: &Native, byte: u8) -> SecretScope {
        let environment = environment(byte);
        block_on(environments::insert(db, &environment, "mark", &about_a("environment.create"))).expect("runs");
        SecretScope::Environment(environment.id)
    }

    #[test]
    fn values_are_stored_sealed_and_merged_by_name() {
        let db = Native::new();
        let scope = SecretScope::Repository(7);
        let first = set(&db, &keys(1, &[]), &scope, &[("A", "hunter2"), ("B", "")]).expect("fits");
        assert_eq!(first, Changed { created: 2, updated: 0, version: 1 });
        let second = set(&db, &keys(1, &[]), &scope, &[("B", "b"), ("C", "c")]).expect("fits");
        assert_eq!(second, Changed { created: 1, updated: 1, version: 2 });
        let values: Vec<String> = opened(&db, &keys(1, &[]), &scope).into_iter().filter_map(|row| row.1.ok()).collect();
        assert_eq!(values, ["hunter2", "b", "c"]);
        let rows: Vec<serde_json::Value> = block_on(db.rows("SELECT * FROM secrets", vec![])).expect("runs");
        assert!(!format!("{rows:?}").contains("hunter2"), "{rows:?}");
        let entries: Vec<serde_json::Value> = block_on(db.rows("SELECT * FROM audit_log", vec![])).expect("runs");
        assert!(!format!("{entries:?}").contains("hunter2"), "{entries:?}");
        assert_eq!(told(&db), ["secret.set A", "secret.set B", "secret.set B", "secret.set C"]);
        assert_eq!(opened(&db, &keys(1, &[]), &SecretScope::Repository(8)), [], "scopes are apart");
        let lengths: Vec<i64> = block_on(list(&db, &scope)).expect("runs").iter().map(|row| row.value_bytes).collect();
        assert_eq!(lengths, [7, 1, 1]);
    }

    #[test]
    fn a_secret_row_that_is_moved_to_another_scope_or_name_does_not_open() {
        let db = Native::new();
        let ring = keys(1, &[]);
        let environment = with_environment(&db, 1);
        for scope in [&SecretScope::Global, &SecretScope::Repository(7), &SecretScope::Repository(8), &environment] {
            set(&db, &ring, scope, &[("A", "mine"), ("B", "other")]).expect("fits");
        }
        let copied = "UPDATE secrets SET
                sealed_value = (SELECT sealed_value FROM secrets WHERE scope_id = '7' AND name = 'A'),
                key_id = (SELECT key_id FROM secrets WHERE scope_id = '7' AND name = 'A')
            WHERE NOT (scope_id = '7' AND name = 'A')";
        assert_eq!(block_on(db.change(copied, vec![])), Ok(7));
        let seven = SecretScope::Repository(7);
        assert_eq!(
            opened(&db, &ring, &seven),
            [("A".to_owned(), Ok("mine".to_owned())), ("B".to_owned(), Err(SealError::Open))]
        );
        for scope in [&SecretScope::Global, &SecretScope::Repository(8), &environment] {
            for (name, value) in opened(&db, &ring, scope) {
                assert_eq!(value, Err(SealError::Open), "{scope:?} {name}");
            }
        }
        // Moving the row itself is no better.
        block_on(db.change("DELETE FROM secrets WHERE scope_kind = 'global'", vec![])).expect("runs");
        let moved = "UPDATE secrets SET scope_kind = 'global', scope_id = '' WHERE scope_id = '7' AND name = 'A'";
        assert_eq!(block_on(db.change(moved, vec![])), Ok(1));
        assert_eq!(opened(&db, &ring, &SecretScope::Global), [("A".to_owned(), Err(SealError::Open))]);
    }

    #[test]
    fn a_scope_holds_so_many_secrets_and_so_many_bytes_and_a_refused_change_changes_nothing() {
        let db = Native::new();
        let scope = SecretScope::Global;
        let names: Vec<String> = (0..SCOPE_MAX_COUNT).map(|n| format!("N{n}")).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        set(&db, &keys(1, &[]), &scope, &all).expect("fits");
        assert_eq!(set(&db, &keys(1, &[]), &scope, &[("ONE_MORE", "v")]), Err(ChangeError::TooMany(51)));
        let big = "x".repeat(16_384);
        set(&db, &keys(1, &[]), &scope, &[("N0", &big), ("N1", &big), ("N2", &big)]).expect("fits");
        let mixed = [("N3", big.as_str()), ("N4", "changed")];
        let before = told(&db).len();
        assert!(matches!(set(&db, &keys(1, &[]), &scope, &mixed), Err(ChangeError::TooLarge(_))));
        assert_eq!(told(&db).len(), before);
        let unchanged = opened(&db, &keys(1, &[]), &scope).into_iter().find(|row| row.0 == "N4");
        assert_eq!(unchanged.map(|row| row.1), Some(Ok("v".to_owned())));
        assert_eq!(block_on(version(&db, &scope)), Ok(2));
        let room = SCOPE_MAX_BYTES - 3 * 16_384 - (SCOPE_MAX_COUNT - 4);
        set(&db, &keys(1, &[]), &scope, &[("N3", &"y".repeat(room))]).expect("exactly full");
    }

    #[test]
    fn of_two_who_read_the_same_version_one_is_told_of_the_other() {
        let db = Native::new();
        let scope = SecretScope::Global;
        let at = |mark, expected| Write { mark, expected: Some(expected), now: UnixMillis(9) };
        let ring = keys(1, &[]);
        let put =
            |value, write| block_on(put(&db, &ring, &scope, &named(&[("A", value)]), write, &about_a("secret.set")));
        assert!(put("1", at("one", 0)).is_ok());
        assert_eq!(put("2", at("two", 0)), Err(ChangeError::Conflict));
        let name = SecretName::parse("A").expect("a name");
        let delete = |write| block_on(delete(&db, &scope, &name, write, &about_a("secret.delete")));
        assert_eq!(delete(at("three", 0)), Err(ChangeError::Conflict));
        assert_eq!(opened(&db, &ring, &scope), [("A".to_owned(), Ok("1".to_owned()))]);
        assert_eq!(delete(at("four", 1)), Ok(2));
        assert_eq!(delete(at("five", 2)), Err(ChangeError::NoSecret));
        assert_eq!(told(&db), ["secret.set A", "secret.delete A"], "who was refused is in no entry");
    }

    /// As if another request came between the look and the write.
    #[test]
    fn a_batch_that_lost_its_version_writes_nothing() {
        let db = Native::new();
        let scope = SecretScope::Global;
        let ring = keys(1, &[]);
        set(&db, &ring, &scope, &[("A", "1")]).expect("fits");
        let late = write("late");
        let sealed = ring.seal("stale", &place("global", "", "A")).expect("seals");
        let batch = vec![
            claim(&scope, 0, late),
            about_a("secret.set").statement_of_each_if_changed(["A"]),
            (
                "INSERT INTO secrets SELECT ?1, ?2, 'A', ?3, ?4, 5, 0, 1, 1 FROM secret_scopes
                    WHERE scope_kind = ?1 AND scope_id = ?2 AND last_write = ?5
                    ON CONFLICT DO UPDATE SET sealed_value = excluded.sealed_value",
                params!["global", "", sealed.value, sealed.key_id, "late"],
            ),
        ];
        assert_eq!(block_on(db.batch(batch)), Ok(vec![0, 0, 0]));
        assert_eq!(opened(&db, &ring, &scope), [("A".to_owned(), Ok("1".to_owned()))]);
    }

    #[test]
    fn an_environments_secrets_go_with_it_and_cannot_come_after_it() {
        let db = Native::new();
        let ring = keys(1, &[]);
        let scope = with_environment(&db, 1);
        set(&db, &ring, &scope, &[("A", "1")]).expect("fits");
        set(&db, &ring, &SecretScope::Global, &[("G", "1")]).expect("fits");
        let SecretScope::Environment(id) = &scope else { unreachable!("it is one") };
        assert_eq!(
            block_on(environments::delete(&db, id, None, UnixMillis(6), &about_a("environment.delete"))),
            Ok(true)
        );
        assert_eq!(opened(&db, &ring, &scope), []);
        assert_eq!(set(&db, &ring, &scope, &[("A", "1")]), Err(ChangeError::NoScope));
        assert_eq!(opened(&db, &ring, &SecretScope::Global).len(), 1);
    }

    #[test]
    fn keys_change_in_the_background_a_piece_at_a_time_and_what_was_set_meanwhile_stays() {
        let db = Native::new();
        let scope = SecretScope::Global;
        for n in 0..5 {
            set(&db, &keys(1, &[]), &scope, &[(format!("N{n}").as_str(), "old")]).expect("fits");
        }
        set(&db, &keys(9, &[]), &scope, &[("LOST", "of a key that nobody has")]).expect("fits");
        block_on(db.change("UPDATE secrets SET sealed_value = 'AAAA' WHERE name = 'N4'", vec![])).expect("runs");
        let ring = keys(2, &[1]);
        let some = block_on(under_old_keys(&db, &ring, 2)).expect("runs");
        // Somebody sets one of them before it is resealed.
        let name = some[0].name.clone();
        set(&db, &ring, &scope, &[(name.as_str(), "new")]).expect("fits");
        block_on(reseal(&db, &ring, &some)).expect("runs");
        for _ in 0..10 {
            let some = block_on(under_old_keys(&db, &ring, 2)).expect("runs");
            assert!(some.len() <= 2);
            block_on(reseal(&db, &ring, &some)).expect("runs");
        }
        assert_eq!(block_on(under_old_keys(&db, &ring, 2)), Ok(vec![]), "what does not open holds nothing up");
        for (stored, value) in opened(&db, &keys(2, &[]), &scope) {
            let expected = match stored.as_str() {
                "N4" | "LOST" => Err(SealError::Open),
                stored if stored == name => Ok("new".to_owned()),
                _ => Ok("old".to_owned()),
            };
            assert_eq!(value, expected, "{stored}");
        }
        let unreadable: i64 = block_on(key_use(&db)).expect("runs").iter().map(|key| key.unreadable).sum();
        assert_eq!(unreadable, 1);
        set(&db, &ring, &scope, &[("N4", "mended")]).expect("fits");
        let old = keys(1, &[]).current_id().to_owned();
        assert!(!block_on(key_use(&db)).expect("runs").iter().any(|key| key.key_id == old));
    }

    #[test]
    fn tokens_that_an_import_left_are_found_by_name_alone() {
        let db = Native::new();
        let insert = "INSERT INTO secrets (scope_kind, scope_id, name, sealed_value, key_id, value_bytes, created_at,
            updated_at) VALUES (?, ?, ?, 'sealed', 'k', 1, 1, 1)";
        for (kind, id, name) in [
            ("repository", "7", "XAI_OAUTH_REFRESH_TOKEN"),
            ("global", "", "OPENAI_OAUTH_REFRESH_TOKEN"),
            ("global", "", "OPENAI_OAUTH_ACCOUNT_ID"),
            ("global", "", "OTHER"),
        ] {
            block_on(db.change(insert, params![kind, id, name])).expect("stored");
        }
        let found = block_on(with_legacy_tokens(&db)).expect("read");
        let found: Vec<_> = found.iter().map(|token| (token.scope_kind.as_str(), token.name.as_str())).collect();
        assert_eq!(found, [("global", "OPENAI_OAUTH_REFRESH_TOKEN"), ("repository", "XAI_OAUTH_REFRESH_TOKEN")]);
    }

    #[test]
    fn queries_of_starts_and_of_the_rotation_use_an_index() {
        #[derive(Deserialize)]
        struct Plan {
            detail: String,
        }
        let db = Native::new();
        for (sql, count) in [
            (
                "SELECT * FROM secrets WHERE (scope_kind = ? AND scope_id = ?) OR (scope_kind = ? AND scope_id = ?) ORDER BY name",
                4,
            ),
            ("SELECT * FROM secrets WHERE key_id IN (?, ?) AND unreadable = 0 LIMIT ?", 3),
            ("SELECT name FROM secrets WHERE scope_kind = ? AND scope_id = ? ORDER BY name", 2),
        ] {
            let values = vec![Param::from("x"); count];
            let plan: Vec<Plan> = block_on(db.rows(&format!("EXPLAIN QUERY PLAN {sql}"), values)).expect("a plan");
            assert!(plan.iter().all(|step| !step.detail.starts_with("SCAN")), "{sql}");
        }
    }
}
