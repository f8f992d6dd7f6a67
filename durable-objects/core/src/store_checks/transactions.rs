//! All of a transaction, or nothing.

use super::{Checked, Failed, Store, count, dump, ensure, ensure_eq};
use crate::sql::{Sql, SqlError};

fn text(error: &SqlError) -> String {
    error.to_string()
}

/// Rows, a table and an index: what is written before a transaction goes wrong.
fn write(sql: &dyn Sql) -> Result<(), String> {
    sql.run("INSERT INTO t VALUES (2, 'second')", &[]).map_err(|e| text(&e))?;
    sql.run("UPDATE t SET word = 'changed' WHERE n = 1", &[]).map_err(|e| text(&e))?;
    sql.run("CREATE TABLE more (n INTEGER PRIMARY KEY)", &[]).map_err(|e| text(&e))?;
    sql.run("CREATE INDEX t_by_word ON t (word)", &[]).map_err(|e| text(&e))?;
    sql.run("ALTER TABLE t ADD COLUMN added TEXT", &[]).map_err(|e| text(&e))?;
    sql.run("INSERT INTO more VALUES (1)", &[]).map_err(|e| text(&e))?;
    Ok(())
}

fn prepare(store: &dyn Store) -> Checked {
    store.sql().run("CREATE TABLE t (n INTEGER PRIMARY KEY, word TEXT NOT NULL)", &[])?;
    store.sql().run("INSERT INTO t VALUES (1, 'first')", &[])?;
    Ok(())
}

pub(super) fn what_is_committed_stays(store: &dyn Store) -> Checked {
    prepare(store)?;
    store.transact(&mut write).map_err(Failed)?;
    ensure_eq!(count(store.sql(), "SELECT COUNT(*) FROM t WHERE word = 'changed' OR n = 2")?, 2, "rows");
    ensure_eq!(count(store.sql(), "SELECT COUNT(*) FROM more")?, 1, "rows of the new table");
    Ok(())
}

fn leaves_nothing(store: &dyn Store, end: fn() -> Result<(), String>) -> Checked<String> {
    prepare(store)?;
    let before = dump(store.sql())?;
    let result = store.transact(&mut |sql| {
        write(sql)?;
        end()
    });
    ensure_eq!(dump(store.sql())?, before, "what is stored");
    // And the store takes the next one.
    store.transact(&mut write).map_err(Failed)?;
    ensure_eq!(count(store.sql(), "SELECT COUNT(*) FROM more")?, 1, "rows of the next transaction");
    result.err().ok_or_else(|| Failed("the transaction counts as committed".to_owned()))
}

pub(super) fn a_transaction_that_fails_leaves_nothing(store: &dyn Store) -> Checked {
    let error = leaves_nothing(store, || Err("it fails".to_owned()))?;
    ensure_eq!(error, "it fails", "the reason");
    Ok(())
}

pub(super) fn a_transaction_that_panics_leaves_nothing(store: &dyn Store) -> Checked {
    // No panic hook runs, so that a test's output stays readable.
    leaves_nothing(store, || std::panic::resume_unwind(Box::new("it panics"))).map(drop)
}

pub(super) fn a_refused_statement_does_not_end_its_transaction(store: &dyn Store) -> Checked {
    prepare(store)?;
    store
        .transact(&mut |sql| {
            sql.run("INSERT INTO t VALUES (2, 'second')", &[]).map_err(|e| text(&e))?;
            if sql.run("INSERT INTO t VALUES (1, 'again')", &[]).is_ok() {
                return Err("a second row of one key was taken".to_owned());
            }
            sql.run("INSERT INTO t VALUES (3, 'third')", &[]).map_err(|e| text(&e))?;
            Ok(())
        })
        .map_err(Failed)?;
    ensure_eq!(count(store.sql(), "SELECT COUNT(*) FROM t")?, 3, "rows");
    Ok(())
}

pub(super) fn a_transaction_sees_what_it_wrote(store: &dyn Store) -> Checked {
    prepare(store)?;
    let mut seen = None;
    store
        .transact(&mut |sql| {
            write(sql)?;
            seen = Some(
                sql.run("SELECT COUNT(*) FROM t WHERE word <> 'first' AND added IS NULL", &[]).map_err(|e| text(&e))?,
            );
            Ok(())
        })
        .map_err(Failed)?;
    let seen = seen.map(|rows| rows.into_iter().map(super::plain).collect::<Vec<_>>());
    ensure_eq!(seen, Some(vec![vec![crate::sql::Value::Int(2)]]), "rows seen");
    Ok(())
}

pub(super) fn planted_to_fail(store: &dyn Store) -> Checked {
    prepare(store)?;
    ensure!(count(store.sql(), "SELECT COUNT(*) FROM t")? == 2, "planted");
    Ok(())
}

pub(super) fn planted_to_panic(_store: &dyn Store) -> Checked {
    std::panic::resume_unwind(Box::new("planted"))
}
