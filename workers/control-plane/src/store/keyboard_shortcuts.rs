//! `keyboard_shortcut_preferences`: a person's shortcuts.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// As they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    pub shortcuts: String,
    pub version: i64,
}

/// A person's.
pub async fn get(db: &impl Database, user: &str) -> Result<Option<Stored>, DbError> {
    db.row("SELECT shortcuts, version FROM keyboard_shortcut_preferences WHERE user_id = ?", params![user]).await
}

/// Takes them over, if the stored ones are still of `expected`; 0 stands for none. Changes nothing otherwise.
pub fn put(user: &str, shortcuts: &str, expected: Option<i64>, now: UnixMillis) -> Statement {
    (
        "INSERT INTO keyboard_shortcut_preferences (user_id, shortcuts, version, updated_at)
         SELECT ?1, ?2, 1, ?4 WHERE ?3 IS NULL
            OR ?3 = COALESCE((SELECT version FROM keyboard_shortcut_preferences WHERE user_id = ?1), 0)
         ON CONFLICT (user_id) DO UPDATE SET shortcuts = excluded.shortcuts,
            version = keyboard_shortcut_preferences.version + 1, updated_at = excluded.updated_at",
        params![user, shortcuts, expected, now.0],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[test]
    fn two_windows_of_a_person_do_not_overwrite_each_other_unseen() {
        let db = Native::new();
        block_on(db.change("INSERT INTO users (id, created_at, updated_at) VALUES ('u', 1, 1)", params![]))
            .expect("runs");
        let put =
            |text: &str, expected| block_on(db.batch(vec![put("u", text, expected, UnixMillis(1))])).expect("runs")[0];
        assert_eq!((put("a", Some(0)), put("b", Some(0)), put("c", Some(1)), put("d", None)), (1, 0, 1, 1));
        let stored = block_on(get(&db, "u")).expect("runs");
        assert_eq!(stored, Some(Stored { shortcuts: "d".to_owned(), version: 3 }));
    }
}
