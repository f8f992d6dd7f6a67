//! What the schema forbids is refused, and changes nothing.

use super::{Checked, Store, count, ensure, ensure_eq, one};
use crate::sql::{Columns, Value, params};

pub(super) fn a_second_row_of_a_unique_key_is_refused(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT)", &[])?;
    sql.run("INSERT INTO t VALUES (1, 'a', 'first')", &[])?;
    ensure!(sql.run("INSERT INTO t VALUES (2, 'a', 'second')", &[]).is_err(), "the same id is refused");
    ensure!(sql.run("INSERT INTO t VALUES (1, 'b', 'second')", &[]).is_err(), "the same number is refused");
    sql.run("INSERT INTO t VALUES (2, 'b', NULL)", &[])?;
    ensure!(sql.run("UPDATE t SET id = 'a' WHERE n = 2", &[]).is_err(), "an update to it is refused");
    let several = sql.run("INSERT INTO t VALUES (3, 'c', NULL), (4, 'a', NULL)", &[]);
    ensure!(several.is_err(), "so is a statement one of whose rows it is");
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t")?, 2, "rows: none of a refused statement");
    ensure_eq!(one(sql, "SELECT body FROM t WHERE id = 'a'", &[])?.text()?, "first", "the row that was there");
    Ok(())
}

pub(super) fn a_row_against_a_check_or_without_its_value_is_refused(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (one INTEGER PRIMARY KEY CHECK (one = 1), word TEXT NOT NULL)", &[])?;
    ensure!(sql.run("INSERT INTO t VALUES (2, 'a')", &[]).is_err(), "a second place is refused");
    ensure!(sql.run("INSERT INTO t VALUES (1, ?)", &[Value::Null]).is_err(), "no word is refused");
    ensure!(sql.run("INSERT INTO t (one) VALUES (1)", &[]).is_err(), "and so is a word that is left out");
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t")?, 0, "rows");
    sql.run("INSERT INTO t VALUES (1, 'a')", &[])?;
    ensure!(sql.run("UPDATE t SET one = 2", &[]).is_err(), "an update is checked too");
    ensure_eq!(count(sql, "SELECT one FROM t")?, 1, "the place");
    Ok(())
}

pub(super) fn a_partial_unique_index_is_about_its_rows_only(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, status TEXT NOT NULL)", &[])?;
    sql.run("CREATE UNIQUE INDEX one_runs ON t (status) WHERE status = 'processing'", &[])?;
    for (n, status) in [(1, "pending"), (2, "pending"), (3, "processing"), (4, "completed"), (5, "completed")] {
        sql.run("INSERT INTO t VALUES (?, ?)", params![n, status])?;
    }
    ensure!(sql.run("INSERT INTO t VALUES (6, 'processing')", &[]).is_err(), "a second one that runs is refused");
    ensure!(sql.run("UPDATE t SET status = 'processing' WHERE n = 1", &[]).is_err(), "also by an update");
    sql.run("UPDATE t SET status = 'completed' WHERE n = 3", &[])?;
    sql.run("UPDATE t SET status = 'processing' WHERE n = 1", &[])?;
    ensure_eq!(count(sql, "SELECT n FROM t WHERE status = 'processing'")?, 1, "the one that runs");
    Ok(())
}

pub(super) fn a_row_is_replaced_ignored_or_updated_as_the_statement_says(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL)", &[])?;
    let put = "INSERT INTO t VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING seq";
    ensure_eq!(one(sql, put, params![1, "a", "one"])?.int()?, 1, "the place of a new row");
    ensure_eq!(one(sql, put, params![2, "b", "two"])?.int()?, 2, "and of the next");
    ensure_eq!(one(sql, put, params![3, "a", "three"])?.int()?, 1, "a row that is put again keeps its place");
    ensure_eq!(one(sql, "SELECT body FROM t WHERE seq = 1", &[])?.text()?, "three", "its body");
    sql.run("INSERT OR IGNORE INTO t VALUES (9, 'b', 'ignored')", &[])?;
    ensure_eq!(one(sql, "SELECT body FROM t WHERE id = 'b'", &[])?.text()?, "two", "a row that is left as it was");
    sql.run("INSERT OR REPLACE INTO t VALUES (9, 'b', 'replaced')", &[])?;
    ensure_eq!(one(sql, "SELECT seq FROM t WHERE id = 'b'", &[])?.int()?, 9, "the place of a replaced row");
    sql.run("UPDATE OR REPLACE t SET id = 'a' WHERE seq = 9", &[])?;
    let left = sql.run("SELECT seq, body FROM t", &[])?;
    ensure_eq!(left.len(), 1, "rows: the older of the two gave way ({left:?})");
    let gone = sql.run("DELETE FROM t WHERE seq = 9 RETURNING body", &[])?;
    let gone: Result<Vec<String>, _> = gone.into_iter().map(|row| Columns::of(row).text()).collect();
    ensure_eq!(gone?, vec!["replaced".to_owned()], "what a delete returns");
    Ok(())
}

pub(super) fn an_id_is_never_given_twice(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT)", &[])?;
    let add = || Ok::<i64, super::Failed>(one(sql, "INSERT INTO t (word) VALUES ('x') RETURNING id", &[])?.int()?);
    ensure_eq!((add()?, add()?), (1, 2), "the first ids");
    sql.run("DELETE FROM t", &[])?;
    ensure_eq!(add()?, 3, "the id after all rows were deleted");
    let rolled_back = store.transact(&mut |sql| {
        sql.run("INSERT INTO t (word) VALUES ('never there')", &[]).map_err(|error| error.to_string())?;
        Err("rolled back".to_owned())
    });
    ensure_eq!(rolled_back, Err("rolled back".to_owned()), "the transaction");
    ensure_eq!(add()?, 4, "the id after one that never was");
    Ok(())
}

pub(super) fn a_wrong_statement_is_an_error_and_the_store_goes_on(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY)", &[])?;
    for wrong in ["SELEC 1", "SELECT n FROM nowhere", "INSERT INTO t (m) VALUES (1)", "CREATE TABLE t (n INTEGER)"] {
        let error = sql.run(wrong, &[]).err();
        ensure!(error.as_ref().is_some_and(|error| error.0.len() > 5), "{wrong} gave {error:?}");
    }
    sql.run("INSERT INTO t VALUES (1)", &[])?;
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t")?, 1, "rows");
    Ok(())
}
