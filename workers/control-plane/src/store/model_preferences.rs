//! `model_preferences`: which models people enabled, one list for all.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// The list as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// In the order in which they were given.
    pub enabled_models: Vec<String>,
    /// Grows with every change.
    pub version: i64,
}

/// What people chose; `None` when they never did.
pub async fn get(db: &impl Database) -> Result<Option<Stored>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        enabled_models: String,
        version: i64,
    }
    let row: Option<Row> =
        db.row("SELECT enabled_models, version FROM model_preferences WHERE id = 'global'", params![]).await?;
    Ok(row.map(|row| Stored {
        // What cannot be read is as if nobody had chosen.
        enabled_models: serde_json::from_str(&row.enabled_models).unwrap_or_default(),
        version: row.version,
    }))
}

/// Takes over a list, if the stored one is still of `expected`; 0 stands for none. Changes nothing otherwise.
pub fn put(enabled: &[String], expected: Option<i64>, by: &str, now: UnixMillis) -> Statement {
    let list = serde_json::Value::from(enabled).to_string();
    (
        "INSERT INTO model_preferences (id, enabled_models, version, updated_by, updated_at)
         SELECT 'global', ?1, 1, ?3, ?4
            WHERE ?2 IS NULL OR ?2 = COALESCE((SELECT version FROM model_preferences WHERE id = 'global'), 0)
         ON CONFLICT (id) DO UPDATE SET enabled_models = excluded.enabled_models,
            version = model_preferences.version + 1, updated_by = excluded.updated_by, updated_at = excluded.updated_at",
        params![list, expected, by, now.0],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[test]
    fn a_change_that_saw_another_version_changes_nothing() {
        let db = Native::new();
        let put = |models: &[&str], expected| {
            let models: Vec<String> = models.iter().map(|id| (*id).to_owned()).collect();
            let change = vec![put(&models, expected, "u", UnixMillis(1))];
            block_on(db.batch(about_a("model_preferences.set").behind_the_first(change))).expect("runs")[0] > 0
        };
        let version = || block_on(get(&db)).expect("runs").map(|stored| (stored.enabled_models, stored.version));
        assert!(!put(&["a/b"], Some(3)), "there is none of version 3");
        assert_eq!(version(), None);
        assert!(put(&["a/b"], Some(0)));
        assert!(!put(&["c/d"], Some(0)));
        assert!(put(&["c/d", "a/b"], Some(1)));
        assert!(put(&["e/f"], None), "who says no version takes what comes");
        assert_eq!(version(), Some((vec!["e/f".to_owned()], 3)));
        assert_eq!(told(&db).len(), 3, "each change has an entry, and nothing else has");
        block_on(db.change("UPDATE model_preferences SET enabled_models = '{'", params![])).expect("runs");
        assert_eq!(version(), Some((vec![], 3)));
    }
}
