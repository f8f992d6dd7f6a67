//! The session's own tables.

use super::{Checked, Failed, Store, count, dump, ensure, ensure_eq, one};
use crate::schema::{self, STEPS};
use crate::sql::{Sql, SqlError, params};

/// The schema as it was when `steps` steps had landed.
fn earlier(sql: &dyn Sql, steps: usize) -> Result<(), SqlError> {
    sql.run("CREATE TABLE schema_steps (one INTEGER PRIMARY KEY CHECK (one = 1), done INTEGER NOT NULL)", &[])?;
    for statement in STEPS.iter().take(steps).copied().flatten() {
        sql.run(statement, &[])?;
    }
    sql.run("INSERT INTO schema_steps VALUES (1, ?)", params![steps as i64])?;
    Ok(())
}

/// Rows of tables that were there from the first step on.
fn fill(sql: &dyn Sql) -> Result<(), SqlError> {
    sql.run(
        "INSERT INTO session (one, session_id, title, model, status, spawn_source, created_at, updated_at)
            VALUES (1, 'a', 'A title', 'demo/scripted', 'active', 'user', 1800000000000, 1800000000000)",
        &[],
    )?;
    sql.run(
        "INSERT INTO messages (id, author_id, content, source, status, created_at)
            VALUES ('m', 'p', 'a prompt', 'web', 'pending', 1800000000000)",
        &[],
    )?;
    sql.run("INSERT INTO events VALUES (1, 'e', 1, 'm', 'tool_call', 1800000000000, '{}')", &[])?;
    sql.run("INSERT INTO outbox (payload, state, due_at) VALUES ('{}', 'given_up', 1)", &[])?;
    Ok(())
}

pub(super) fn every_earlier_schema_becomes_the_newest_and_keeps_its_rows(store: &dyn Store) -> Checked {
    // Each in a transaction that is rolled back, so that the next one finds an empty store.
    let mut dumps = Vec::new();
    for steps in 0..=STEPS.len() {
        let mut found = None;
        let rolled_back = store.transact(&mut |sql| {
            let whole = || -> Checked<_> {
                earlier(sql, steps)?;
                if steps > 0 {
                    fill(sql)?;
                }
                schema::migrate(sql)?;
                if steps == 0 {
                    fill(sql)?;
                }
                let done = count(sql, "SELECT done FROM schema_steps")?;
                ensure_eq!(done, STEPS.len() as i64, "steps that are done from {steps} on");
                let title = one(sql, "SELECT title, total_tokens FROM session", &[])?.text()?;
                ensure_eq!(title, "A title", "the title from step {steps} on");
                dump(sql)
            };
            found = Some(whole());
            Err("rolled back".to_owned())
        });
        ensure_eq!(rolled_back, Err("rolled back".to_owned()), "the transaction");
        dumps.push(found.unwrap_or_else(|| Err(Failed("the transaction did not run".to_owned())))?);
        ensure!(!schema::exists(store.sql())?, "what was rolled back is gone");
    }
    for (steps, dump) in dumps.iter().enumerate() {
        ensure!(*dump == dumps[0], "a session of step {steps} does not become what a new one is");
    }
    Ok(())
}

pub(super) fn migrating_twice_changes_nothing(store: &dyn Store) -> Checked {
    let migrate = &mut |sql: &dyn Sql| schema::migrate(sql).map_err(|error| error.to_string());
    store.transact(migrate).map_err(Failed)?;
    ensure!(schema::exists(store.sql())?, "the tables are there");
    let before = dump(store.sql())?;
    store.transact(migrate).map_err(Failed)?;
    ensure_eq!(dump(store.sql())?, before, "what is stored");
    ensure_eq!(count(store.sql(), "SELECT done FROM schema_steps")?, STEPS.len() as i64, "steps");
    Ok(())
}
