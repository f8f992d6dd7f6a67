//! Values that go in come back.

use super::{Checked, Failed, Store, count, ensure, ensure_eq, one};
use crate::sql::{Columns, Value, params};

/// Whole numbers that a float holds exactly end here.
const EXACT: i64 = 1 << 53;

pub(super) fn whole_numbers_up_to_2_to_the_53_come_back(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, i INTEGER)", &[])?;
    let numbers = [0, 1, -1, 255, 1 << 31, -(1 << 31), 1 << 32, 1_800_000_000_000, EXACT - 1, 1 - EXACT, EXACT, -EXACT];
    for (place, number) in numbers.into_iter().enumerate() {
        sql.run("INSERT INTO t VALUES (?, ?)", params![place as i64, number])?;
        let read = one(sql, "SELECT i FROM t WHERE n = ?", params![place as i64])?.int()?;
        ensure_eq!(read, number, "what was written as {number}");
        let found = one(sql, "SELECT COUNT(*) FROM t WHERE i = ?", params![number])?.int()?;
        ensure_eq!(found, 1, "rows that are found by {number}");
    }
    let kinds = one(sql, "SELECT COUNT(*) FROM t WHERE typeof(i) <> 'integer'", &[])?.int()?;
    ensure_eq!(kinds, 0, "rows that are no integers any more");
    let top = one(sql, "SELECT MAX(i) FROM t", &[])?.int()?;
    ensure_eq!(top, EXACT, "the highest");
    Ok(())
}

pub(super) fn fractions_come_back(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, r REAL)", &[])?;
    let numbers = [0.0, 0.1, -0.1, 1.0, 1.5, 0.000_001, 123_456.789, 1e300, -1e-300, 1e15 + 0.5, f64::MIN_POSITIVE];
    for (place, number) in numbers.into_iter().enumerate() {
        sql.run("INSERT INTO t VALUES (?, ?)", params![place as i64, number])?;
        let read = one(sql, "SELECT r FROM t WHERE n = ?", params![place as i64])?.real()?;
        ensure!(read.to_bits() == number.to_bits(), "{number:?} came back as {read:?}");
    }
    let kinds = one(sql, "SELECT COUNT(*) FROM t WHERE typeof(r) <> 'real'", &[])?.int()?;
    ensure_eq!(kinds, 0, "rows that are no fractions any more");
    Ok(())
}

pub(super) fn null_is_neither_empty_nor_zero(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, i INTEGER, r REAL, s TEXT)", &[])?;
    sql.run("INSERT INTO t VALUES (1, ?, ?, ?)", &[Value::Null, Value::Null, Value::Null])?;
    sql.run("INSERT INTO t VALUES (2, ?, ?, ?)", params![0, 0.0, ""])?;
    let nothing = sql.run("SELECT i, r, s FROM t WHERE n = 1", &[])?;
    ensure_eq!(nothing, vec![vec![Value::Null, Value::Null, Value::Null]], "nothing");
    let mut columns = one(sql, "SELECT i, r, s FROM t WHERE n = 2", &[])?;
    ensure_eq!(columns.opt_int()?, Some(0), "zero");
    ensure_eq!(columns.real()?.to_bits(), 0, "zero");
    ensure_eq!(columns.opt_text()?, Some(String::new()), "the empty text");
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t WHERE s IS NULL")?, 1, "rows without a text");
    let none = one(sql, "SELECT MAX(i), MIN(i) FROM t WHERE n > 2", &[])?.opt_int()?;
    ensure_eq!(none, None, "the highest of nothing");
    let same = one(sql, "SELECT COUNT(*) FROM t WHERE (?1 IS NULL OR s = ?1)", &[Value::Null])?.int()?;
    ensure_eq!(same, 2, "rows without a filter");
    Ok(())
}

pub(super) fn texts_come_back_with_every_character(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (id TEXT PRIMARY KEY, body TEXT NOT NULL)", &[])?;
    let texts = [
        "plain",
        "a\0b",
        "\0",
        "ends with one\0",
        "\u{feff}begins with a mark",
        "astral \u{1F980}\u{1F469}\u{200D}\u{1F4BB} and \u{10FFFF}",
        "combined e\u{301} and \u{e9}",
        "\u{FFFD}\u{FFFE}\u{E000}",
        "right to left \u{202E}abc",
        "'quoted\"; DROP TABLE t; -- \\ %_?1 :a @b $c",
        "lines\r\nand\ttabs\u{2028}\u{2029}\u{7f}\u{1b}[0m",
        r#"{"json":"\u0000 \ud83e\udd80"}"#,
        "12",
        "1.0",
    ];
    for text in texts {
        sql.run("INSERT INTO t VALUES (?, ?)", params![text, text])?;
        let read = one(sql, "SELECT body FROM t WHERE id = ?", params![text])?.text()?;
        ensure_eq!(read, text, "a text");
        let bytes = one(sql, "SELECT LENGTH(CAST(body AS BLOB)) FROM t WHERE id = ?", params![text])?.int()?;
        ensure_eq!(bytes, text.len() as i64, "the bytes of {text:?}");
    }
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t")?, texts.len() as i64, "texts that differ");
    Ok(())
}

pub(super) fn a_text_of_nearly_two_megabytes_comes_back(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (id TEXT PRIMARY KEY, body TEXT NOT NULL)", &[])?;
    // The platform's limit on a row is 2 MB.
    for (id, text) in [("ascii", "0123456789abcdef".repeat(124_000)), ("astral", "\u{1F980}".repeat(496_000))] {
        sql.run("INSERT INTO t VALUES (?, ?)", params![id, text.as_str()])?;
        let read = one(sql, "SELECT body FROM t WHERE id = ?", params![id])?.text()?;
        ensure!(read == text, "{} bytes came back as {}", text.len(), read.len());
        let returned =
            one(sql, "UPDATE t SET body = body || ? WHERE id = ? RETURNING LENGTH(body)", params!["!", id])?.int()?;
        ensure_eq!(returned, text.chars().count() as i64 + 1, "characters");
    }
    Ok(())
}

pub(super) fn a_hundred_values_are_bound(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT NOT NULL)", &[])?;
    let values: Vec<Value> = (0..50).flat_map(|n| [Value::Int(n), Value::Text(format!("the text {n}"))]).collect();
    sql.run(&format!("INSERT INTO t VALUES {}", vec!["(?, ?)"; 50].join(", ")), &values)?;
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t")?, 50, "rows");
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t WHERE s = 'the text ' || n")?, 50, "values in their places");
    let numbers: Vec<Value> = (0..100).map(Value::Int).collect();
    let query = format!("SELECT COUNT(*) FROM t WHERE n IN ({})", vec!["?"; 100].join(", "));
    ensure_eq!(one(sql, &query, &numbers)?.int()?, 50, "rows that are found");
    ensure!(sql.run("INSERT INTO t VALUES (?, ?)", params![77]).is_err(), "a value that is missing is no NULL");
    ensure_eq!(count(sql, "SELECT COUNT(*) FROM t")?, 50, "rows after it");
    Ok(())
}

pub(super) fn a_numbered_value_is_used_twice(store: &dyn Store) -> Checked {
    let mut columns = one(store.sql(), "SELECT ?1 || ?2 || ?1, ?3", params!["a", "b", 7])?;
    ensure_eq!(columns.text()?, "aba", "texts");
    ensure_eq!(columns.int()?, 7, "the third");
    Ok(())
}

pub(super) fn counts_sums_and_lengths_are_numbers(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, r REAL NOT NULL, s TEXT NOT NULL)", &[])?;
    for n in 1..=4 {
        sql.run("INSERT INTO t VALUES (?, ?, ?)", params![n, f64::from(n) / 4.0, "\u{e9}".repeat(n as usize)])?;
    }
    let mut columns =
        one(sql, "SELECT COUNT(*), SUM(n), SUM(r), SUM(LENGTH(s)), SUM(LENGTH(CAST(s AS BLOB))) FROM t", &[])?;
    ensure_eq!(columns.int()?, 4, "rows");
    ensure_eq!(columns.int()?, 10, "the sum of whole numbers");
    ensure_eq!(columns.real()?.to_bits(), 2.5_f64.to_bits(), "the sum of fractions");
    ensure_eq!(columns.int()?, 10, "characters");
    ensure_eq!(columns.int()?, 20, "bytes");
    ensure_eq!(one(sql, "SELECT n > 3 FROM t WHERE n = 4", &[])?.bool()?, true, "a comparison");
    let limited = sql.run("SELECT n FROM t ORDER BY n DESC LIMIT ?", params![2])?;
    let limited: Result<Vec<i64>, _> = limited.into_iter().map(|row| Columns::of(row).int()).collect();
    ensure_eq!(limited?, vec![4, 3], "a limit that is bound");
    Ok(())
}

pub(super) fn rows_come_in_their_order_and_whole(store: &dyn Store) -> Checked {
    let sql = store.sql();
    sql.run("CREATE TABLE t (n INTEGER PRIMARY KEY, a TEXT, b INTEGER, a2 TEXT)", &[])?;
    for n in 0..1_000 {
        sql.run("INSERT INTO t VALUES (?, ?, ?, ?)", params![n, format!("a{n}"), n * 2, Value::Null])?;
    }
    // Two columns of one name stay two.
    let rows = sql.run("SELECT b AS x, a AS x, n, a2 FROM t ORDER BY n DESC", &[])?;
    ensure_eq!(rows.len(), 1_000, "rows");
    for (row, n) in rows.into_iter().zip((0..1_000).rev()) {
        ensure_eq!(row.len(), 4, "columns");
        let mut columns = Columns::of(row);
        let read = (columns.int()?, columns.text()?, columns.int()?, columns.opt_text()?);
        ensure_eq!(read, (n * 2, format!("a{n}"), n, None), "row {n}");
    }
    let none = sql.run("SELECT n FROM t WHERE n < 0", &[])?;
    ensure!(none.is_empty(), "no row: {none:?}");
    let wrong = one(sql, "SELECT n FROM t WHERE n = 1", &[])?.text();
    ensure!(wrong.is_err(), "a number is no text");
    if sql.run("SELECT a FROM t WHERE n = 1", &[])?.into_iter().any(|row| Columns::of(row).int().is_ok()) {
        return Err(Failed("a text is no number".to_owned()));
    }
    Ok(())
}
