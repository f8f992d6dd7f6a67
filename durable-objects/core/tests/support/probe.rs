//! SQLite that counts its statements and fails or panics at one of them.

use std::cell::{Cell, RefCell};

use oi_session::sql::{Row, Sql, SqlError, Value};
use oi_session::sql_native::NativeSql;

/// Tables and their rows.
pub type Dump = Vec<(String, Vec<Row>)>;

/// How a statement goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It returns an error.
    Fail,
    /// It unwinds.
    Panic,
}

/// A database whose `n`-th statement from now may break.
pub struct Probe {
    pub inner: NativeSql,
    count: Cell<u64>,
    plan: Cell<Option<(u64, Break)>>,
    poison: RefCell<Option<String>>,
    /// Every statement fails.
    pub refuses: Cell<bool>,
    /// Statements are changed on their way: a text, and what stands in its place.
    pub warp: Cell<Option<(&'static str, &'static str)>>,
}

impl Probe {
    pub fn new() -> Self {
        let inner = NativeSql::in_memory().expect("SQLite opens in memory");
        Self {
            inner,
            count: Cell::new(0),
            plan: Cell::new(None),
            poison: RefCell::new(None),
            refuses: Cell::new(false),
            warp: Cell::new(None),
        }
    }

    /// Breaks the `n`-th statement from now (1 is the next).
    pub fn break_at(&self, n: u64, how: Break) {
        self.plan.set(Some((self.count.get() + n, how)));
    }

    /// Whether the plan has not struck yet; forgets it.
    pub fn disarm(&self) -> bool {
        self.plan.take().is_some()
    }

    /// From now on every statement that is given a text with this in it fails.
    pub fn poison(&self, needle: &str) {
        *self.poison.borrow_mut() = Some(needle.to_owned());
    }

    /// All that is stored, table by table.
    pub fn dump(&self) -> Dump {
        let rows = |sql: &str| self.inner.run(sql, &[]).expect("a test's own query is right");
        rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .into_iter()
            .map(|row| match row.first() {
                Some(Value::Text(name)) => (name.clone(), rows(&format!("SELECT * FROM {name} ORDER BY rowid"))),
                other => panic!("no name: {other:?}"),
            })
            .collect()
    }

    pub fn statements(&self) -> u64 {
        self.count.get()
    }
}

impl Sql for Probe {
    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, SqlError> {
        let number = self.count.get() + 1;
        self.count.set(number);
        if let Some((at, how)) = self.plan.get()
            && at == number
        {
            self.plan.set(None);
            match how {
                Break::Fail => return Err(SqlError("planned".to_owned())),
                // No panic hook runs, so that the test's output stays readable.
                Break::Panic => std::panic::resume_unwind(Box::new("planned")),
            }
        }
        if self.refuses.get() {
            return Err(SqlError("refused".to_owned()));
        }
        if let Some(needle) = self.poison.borrow().as_deref()
            && params.iter().any(|param| matches!(param, Value::Text(text) if text.contains(needle)))
        {
            return Err(SqlError("poisoned".to_owned()));
        }
        match self.warp.get() {
            Some((needle, other)) if sql.contains(needle) => self.inner.run(&sql.replace(needle, other), params),
            _ => self.inner.run(sql, params),
        }
    }
}
