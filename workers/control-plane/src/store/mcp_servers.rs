//! `mcp_servers`: tools that agents are given.

use oi_protocol::UnixMillis;
use oi_worker_kit::key_ring::{KeyRing, Sealed};
use serde::Deserialize;

use super::{Database, DbError, Param, Statement, params};

/// Servers that a deployment may have.
pub const SERVERS_MAX: i64 = 100;

/// A server, with the columns' names. `secrets` is sealed for its [`place`]: a text of [`Sealed`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub command: Option<String>,
    pub url: Option<String>,
    pub secrets: Option<String>,
    pub repo_scope: Option<String>,
    pub enabled: i64,
    pub revision: i64,
}

const COLUMNS: &str = "id, name, type, command, url, secrets, repo_scope, enabled, revision";

/// What the secrets of a server are sealed for: they open for this server and this kind of it only.
pub fn place(id: &str, kind: &str) -> String {
    format!("mcp_servers/{id}/{kind}/secrets")
}

/// All of them, by name.
pub async fn list(db: &impl Database) -> Result<Vec<Row>, DbError> {
    db.rows(&format!("SELECT {COLUMNS} FROM mcp_servers ORDER BY name COLLATE NOCASE LIMIT {SERVERS_MAX}"), params![])
        .await
}

/// One.
pub async fn get(db: &impl Database, id: &str) -> Result<Option<Row>, DbError> {
    db.row(&format!("SELECT {COLUMNS} FROM mcp_servers WHERE id = ?"), params![id]).await
}

/// The values that a server is written with: those of the columns, who writes and when, and the last one.
fn values(row: &Row, by: &str, now: UnixMillis, last: i64) -> Vec<Param> {
    params![
        row.id.as_str(),
        row.name.as_str(),
        row.kind.as_str(),
        row.command.clone(),
        row.url.clone(),
        row.secrets.clone(),
        row.repo_scope.clone(),
        row.enabled,
        by,
        now.0,
        last,
    ]
}

/// Adds one, unless there are too many.
pub fn insert(row: &Row, by: &str, now: UnixMillis) -> Statement {
    (
        "INSERT INTO mcp_servers (id, name, type, command, url, secrets, repo_scope, enabled, updated_by, created_at,
            updated_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10 WHERE (SELECT COUNT(*) FROM mcp_servers) < ?11",
        values(row, by, now, SERVERS_MAX),
    )
}

/// Writes one whole, if it is still of the revision that was seen.
pub fn update(row: &Row, by: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE mcp_servers SET name = ?2, type = ?3, command = ?4, url = ?5, secrets = ?6, repo_scope = ?7,
            enabled = ?8, revision = revision + 1, updated_by = ?9, updated_at = ?10 WHERE id = ?1 AND revision = ?11",
        values(row, by, now, row.revision),
    )
}

/// Drops one, if it is still of the revision that was seen, when one was.
pub fn delete(id: &str, revision: Option<i64>) -> Statement {
    ("DELETE FROM mcp_servers WHERE id = ?1 AND (?2 IS NULL OR revision = ?2)", params![id, revision])
}

/// Which keys seal secrets of servers: one id for each server that has some.
pub async fn key_ids(db: &impl Database) -> Result<Vec<String>, DbError> {
    let rows = list(db).await?;
    Ok(rows.iter().filter_map(|row| row.secrets.as_deref()).map(|text| Sealed::from_text(text).key_id).collect())
}

/// Seals anew what older keys seal, each unless somebody changed it meanwhile; how many it was. What does not open stays.
pub async fn reseal(db: &impl Database, keys: &KeyRing) -> Result<usize, DbError> {
    let rows = list(db).await?;
    let statements = rows.iter().filter_map(|row| -> Option<Statement> {
        let text = row.secrets.as_deref()?;
        let renewed = keys.renewed(&Sealed::from_text(text), &place(&row.id, &row.kind))?;
        Some((
            "UPDATE mcp_servers SET secrets = ?3 WHERE id = ?1 AND secrets = ?2",
            params![row.id.as_str(), text, renewed.to_text()],
        ))
    });
    let statements: Vec<Statement> = statements.collect();
    let moved = statements.len();
    if moved > 0 {
        db.batch(statements).await?;
    }
    Ok(moved)
}

/// Whether another server has the name.
pub fn is_name_constraint(error: &DbError) -> bool {
    error.0.contains("UNIQUE constraint failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::native::Native;
    use futures_executor::block_on;

    fn row(id: &str, name: &str) -> Row {
        Row {
            id: id.to_owned(),
            name: name.to_owned(),
            kind: "local".to_owned(),
            command: Some("[\"x\"]".to_owned()),
            url: None,
            secrets: None,
            repo_scope: None,
            enabled: 1,
            revision: 1,
        }
    }

    #[test]
    fn a_name_is_there_once_and_a_change_is_of_the_revision_that_was_seen() {
        let db = Native::new();
        let run = |statement| {
            block_on(db.batch(about_a("mcp_server.change").behind_the_first(vec![statement]))).map(|changed| changed[0])
        };
        assert_eq!(run(insert(&row("1", "one"), "u", UnixMillis(1))), Ok(1));
        assert!(is_name_constraint(&run(insert(&row("2", "ONE"), "u", UnixMillis(1))).expect_err("the name is taken")));
        let seen = block_on(get(&db, "1")).expect("runs").expect("is there");
        assert_eq!(run(update(&Row { enabled: 0, ..seen.clone() }, "u", UnixMillis(2))), Ok(1));
        assert_eq!(run(update(&seen, "u", UnixMillis(3))), Ok(0));
        assert_eq!(run(delete("1", Some(1))), Ok(0));
        assert_eq!(run(delete("1", Some(2))), Ok(1));
        assert_eq!(told(&db).len(), 3, "one was made, changed and deleted; nothing else is told");
        for number in 0..=SERVERS_MAX {
            let added = run(insert(&row(&format!("id-{number}"), &format!("n{number}")), "u", UnixMillis(1)));
            assert_eq!(added, Ok(u64::from(number < SERVERS_MAX)), "{number}");
        }
        let mixed = Row { url: Some("https://x".to_owned()), ..row("9", "mixed") };
        block_on(db.change("DELETE FROM mcp_servers", params![])).expect("runs");
        assert!(run(insert(&mixed, "u", UnixMillis(1))).is_err(), "a local one has no URL");
    }

    #[test]
    fn secrets_under_an_old_key_are_sealed_anew_and_what_does_not_open_stays() {
        let db = Native::new();
        let ring = |current: &str, old: &[&str]| KeyRing::from_base64(current, old.iter().copied()).expect("keys");
        let (one, two) =
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        let sealed = |id: &str| ring(one, &[]).seal("{}", &place(id, "local")).expect("seals").to_text();
        for (id, secrets) in [("1", Some(sealed("1"))), ("2", Some(sealed("elsewhere"))), ("3", None)] {
            let new = Row { secrets, ..row(id, id) };
            block_on(db.batch(vec![insert(&new, "u", UnixMillis(1))])).expect("runs");
        }
        let both = ring(two, &[one]);
        assert_eq!(block_on(reseal(&db, &both)), Ok(1));
        assert_eq!(block_on(reseal(&db, &both)), Ok(0), "nothing is left to do");
        let ids = [ring(two, &[]).current_id().to_owned(), ring(one, &[]).current_id().to_owned()];
        assert_eq!(block_on(key_ids(&db)), Ok(ids.to_vec()));
        let moved = block_on(get(&db, "1")).expect("runs").expect("is there");
        let opened = ring(two, &[]).open(&Sealed::from_text(&moved.secrets.expect("some")), &place("1", "local"));
        assert_eq!((opened.as_deref(), moved.revision), (Ok("{}"), 1), "for people nothing changed");
    }
}
