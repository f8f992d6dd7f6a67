//! SQLite as the core sees it: one method, implemented by the Durable Object's storage and by `rusqlite`.

/// A value bound to a statement or read from a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// INTEGER; below 2^53, since the Durable Object's storage speaks in floats.
    Int(i64),
    /// REAL
    Real(f64),
    /// TEXT
    Text(String),
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}
impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A statement failed, or a row is not what its reader expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SQL: {0}")]
pub struct SqlError(pub String);

/// A database. Rows are lists of values in the order of the columns.
pub trait Sql {
    /// Runs one statement and returns its rows.
    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, SqlError>;

    /// Runs statements that have no values and no rows, in order. A storage that keeps what it prepared does not keep
    /// these.
    fn script(&self, statements: &[String]) -> Result<(), SqlError> {
        statements.iter().try_for_each(|statement| self.run(statement, &[]).map(drop))
    }
}

/// One row.
pub type Row = Vec<Value>;

/// Reads columns in order.
pub(crate) struct Columns {
    values: std::vec::IntoIter<Value>,
}

impl Columns {
    pub(crate) fn of(row: Row) -> Self {
        Self { values: row.into_iter() }
    }

    fn next(&mut self) -> Result<Value, SqlError> {
        self.values.next().ok_or_else(|| SqlError("a row is too short".to_owned()))
    }

    pub(crate) fn int(&mut self) -> Result<i64, SqlError> {
        self.opt_int()?.ok_or_else(|| SqlError("an integer is NULL".to_owned()))
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, SqlError> {
        match self.next()? {
            Value::Int(value) => Ok(Some(value)),
            Value::Real(value) => Ok(Some(value as i64)),
            Value::Null => Ok(None),
            Value::Text(_) => Err(SqlError("text where an integer belongs".to_owned())),
        }
    }

    pub(crate) fn real(&mut self) -> Result<f64, SqlError> {
        match self.next()? {
            Value::Int(value) => Ok(value as f64),
            Value::Real(value) => Ok(value),
            Value::Null | Value::Text(_) => Err(SqlError("not a number".to_owned())),
        }
    }

    pub(crate) fn bool(&mut self) -> Result<bool, SqlError> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn text(&mut self) -> Result<String, SqlError> {
        self.opt_text()?.ok_or_else(|| SqlError("a text is NULL".to_owned()))
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, SqlError> {
        match self.next()? {
            Value::Text(value) => Ok(Some(value)),
            Value::Null => Ok(None),
            Value::Int(_) | Value::Real(_) => Err(SqlError("a number where text belongs".to_owned())),
        }
    }

    /// A text that `parse` must know.
    pub(crate) fn word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, SqlError> {
        let text = self.text()?;
        parse(&text).ok_or_else(|| SqlError(format!("unknown word `{text}`")))
    }
}

/// Values for a statement, each by `Into<Value>`.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::sql::Value::from($value)),*] };
}
pub(crate) use params;
