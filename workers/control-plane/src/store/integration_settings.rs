//! `integration_settings`: documents by integration, scope and target.

use oi_protocol::UnixMillis;
use serde::Deserialize;
use serde_json::Value;

use super::{Database, DbError, Statement, params};

/// Repositories with settings of their own that are listed at a time.
pub const LISTED: i64 = 200;

/// Of what a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Of all.
    Global,
    /// Of `owner/name`.
    Repository(&'a str),
    /// Of an environment's id.
    Environment(&'a str),
}

impl Scope<'_> {
    const fn columns(&self) -> (&'static str, &str) {
        match self {
            Self::Global => ("global", ""),
            Self::Repository(name) => ("repository", name),
            Self::Environment(id) => ("environment", id),
        }
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub target: String,
    pub settings: Value,
    pub version: i64,
}

#[derive(Deserialize)]
struct Row {
    target: String,
    settings: String,
    version: i64,
}

impl From<Row> for Document {
    fn from(row: Row) -> Self {
        // What cannot be read is as if nothing were set.
        let settings = serde_json::from_str(&row.settings).unwrap_or_else(|_| Value::Object(serde_json::Map::new()));
        Self { target: row.target, settings, version: row.version }
    }
}

/// One document.
pub async fn get(db: &impl Database, integration: &str, scope: Scope<'_>) -> Result<Option<Document>, DbError> {
    let (word, target) = scope.columns();
    let row: Option<Row> = db
        .row(
            "SELECT target, settings, version FROM integration_settings
                WHERE integration_id = ? AND scope = ? AND target = ?",
            params![integration, word, target],
        )
        .await?;
    Ok(row.map(Document::from))
}

/// A document that says something of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfTarget {
    /// `sandbox`, `code-server` or `vnc`.
    pub integration: String,
    /// `global`, `repository` or `environment`.
    pub scope: String,
    /// The document.
    pub settings: Value,
}

#[derive(Deserialize)]
struct OfTargetRow {
    integration_id: String,
    scope: String,
    settings: String,
}

/// All that is set of the sandboxes of a repository and an environment, in one query.
pub async fn of_target(
    db: &impl Database,
    repository: Option<&str>,
    environment: Option<&str>,
) -> Result<Vec<OfTarget>, DbError> {
    let rows: Vec<OfTargetRow> = db
        .rows(
            "SELECT integration_id, scope, settings FROM integration_settings
                WHERE integration_id IN ('sandbox', 'code-server', 'vnc')
                  AND ((scope = 'global' AND target = '') OR (scope = 'repository' AND target = ?1)
                       OR (scope = 'environment' AND target = ?2))",
            params![repository, environment],
        )
        .await?;
    // What cannot be read is as if nothing were set.
    let read = |row: OfTargetRow| {
        let settings = serde_json::from_str(&row.settings).ok()?;
        Some(OfTarget { integration: row.integration_id, scope: row.scope, settings })
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Documents of repositories, by name, after one; and whether more follow.
pub async fn of_repositories(
    db: &impl Database,
    integration: &str,
    after: &str,
) -> Result<(Vec<Document>, bool), DbError> {
    let mut rows: Vec<Row> = db
        .rows(
            "SELECT target, settings, version FROM integration_settings
                WHERE integration_id = ? AND scope = 'repository' AND target > ? ORDER BY target LIMIT ?",
            params![integration, after, LISTED + 1],
        )
        .await?;
    let more = rows.len() as i64 > LISTED;
    rows.truncate(LISTED as usize);
    Ok((rows.into_iter().map(Document::from).collect(), more))
}

/// Takes over a document, if the stored one is still of `expected`; 0 stands for none. Changes nothing otherwise.
pub fn put(
    integration: &str,
    scope: Scope<'_>,
    settings: &Value,
    expected: Option<i64>,
    by: &str,
    now: UnixMillis,
) -> Statement {
    let (word, target) = scope.columns();
    (
        "INSERT INTO integration_settings (integration_id, scope, target, settings, version, updated_by, updated_at)
         SELECT ?1, ?2, ?3, ?4, 1, ?6, ?7 WHERE ?5 IS NULL OR ?5 = COALESCE((SELECT version FROM integration_settings
            WHERE integration_id = ?1 AND scope = ?2 AND target = ?3), 0)
         ON CONFLICT (integration_id, scope, target) DO UPDATE SET settings = excluded.settings,
            version = integration_settings.version + 1, updated_by = excluded.updated_by,
            updated_at = excluded.updated_at",
        params![integration, word, target, settings.to_string(), expected, by, now.0],
    )
}

/// Drops a document, if it is still of `expected`. One that is not there is dropped.
pub fn delete(integration: &str, scope: Scope<'_>, expected: Option<i64>) -> Statement {
    let (word, target) = scope.columns();
    (
        "DELETE FROM integration_settings WHERE integration_id = ?1 AND scope = ?2 AND target = ?3
            AND (?4 IS NULL OR version = ?4)",
        params![integration, word, target, expected],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::native::Native;
    use futures_executor::block_on;
    use serde_json::json;

    #[test]
    fn of_two_that_saw_the_same_version_one_changes_it() {
        let db = Native::new();
        let scope = Scope::Repository("acme/app");
        let put = |value: i64, expected| {
            let change = put("github", scope, &json!({"value": value}), expected, "u", UnixMillis(1));
            block_on(db.batch(about_a("settings.set").behind_the_first(vec![change]))).expect("runs")[0] > 0
        };
        let stored = || block_on(get(&db, "github", scope)).expect("runs").map(|found| (found.settings, found.version));
        assert!(!put(1, Some(1)), "there is none to change");
        assert!(put(1, Some(0)));
        assert!(!put(2, Some(0)), "somebody made one meanwhile");
        assert!(put(2, Some(1)));
        assert!(!put(3, Some(1)));
        assert_eq!(stored(), Some((json!({"value": 2}), 2)));
        let delete = |expected| {
            let change = vec![delete("github", scope, expected)];
            block_on(db.batch(about_a("settings.delete").behind_the_first(change))).expect("runs")[0] > 0
        };
        assert!(!delete(Some(1)));
        assert!(delete(Some(2)));
        assert!(!delete(None));
        assert_eq!(stored(), None);
        assert_eq!(
            told(&db),
            ["settings.set A", "settings.set A", "settings.delete A"],
            "who came late is in no entry"
        );
    }

    #[test]
    fn scopes_and_integrations_do_not_mix_and_a_broken_document_is_unset() {
        let db = Native::new();
        for (integration, scope, value) in [
            ("github", Scope::Global, 1),
            ("github", Scope::Repository("b/b"), 2),
            ("github", Scope::Repository("a/a"), 3),
            ("linear", Scope::Global, 4),
            ("sandbox", Scope::Environment("env_1"), 5),
        ] {
            let change = put(integration, scope, &json!(value), None, "u", UnixMillis(1));
            block_on(db.batch(vec![change])).expect("runs");
        }
        let (listed, more) = block_on(of_repositories(&db, "github", "")).expect("runs");
        assert_eq!(listed.iter().map(|found| found.target.as_str()).collect::<Vec<_>>(), ["a/a", "b/b"]);
        assert!(!more);
        assert_eq!(block_on(of_repositories(&db, "github", "a/a")).expect("runs").0.len(), 1);
        assert_eq!(block_on(get(&db, "sandbox", Scope::Global)).expect("runs"), None);
        block_on(db.change("UPDATE integration_settings SET settings = '{'", params![])).expect("runs");
        let broken = block_on(get(&db, "linear", Scope::Global)).expect("runs").expect("is there");
        assert_eq!(broken.settings, json!({}));
    }
}
