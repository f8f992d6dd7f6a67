//! [`Sql`] on `rusqlite`, for tests, the simulator and benches.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use crate::sql::{Row, Sql, SqlError, Value};

/// More statements than a session has: SQLite takes longer to read most of them than to run them.
const STATEMENTS_KEPT: usize = 512;

/// A SQLite database in memory or in a file.
pub struct NativeSql {
    connection: Connection,
}

fn fail(error: &rusqlite::Error) -> SqlError {
    SqlError(error.to_string())
}

impl NativeSql {
    /// A database in memory.
    pub fn in_memory() -> Result<Self, SqlError> {
        let connection = Connection::open_in_memory().map_err(|e| fail(&e))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(Self { connection })
    }

    /// Runs `body` in a transaction: committed on `Ok`, rolled back on `Err` or unwinding.
    pub fn transaction<T, E: From<SqlError>>(&self, body: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        let transaction = self.connection.unchecked_transaction().map_err(|e| fail(&e))?;
        let value = body(self)?;
        transaction.commit().map_err(|e| fail(&e))?;
        Ok(value)
    }
}

impl Sql for NativeSql {
    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, SqlError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|e| SqlError(format!("{e} in {sql}")))?;
        let columns = statement.column_count();
        let bound = params.iter().map(|value| match value {
            Value::Null => rusqlite::types::Value::Null,
            Value::Int(value) => rusqlite::types::Value::Integer(*value),
            Value::Real(value) => rusqlite::types::Value::Real(*value),
            Value::Text(value) => rusqlite::types::Value::Text(value.clone()),
        });
        let mut rows = statement.query(params_from_iter(bound)).map_err(|e| SqlError(format!("{e} in {sql}")))?;
        let mut result = Vec::new();
        while let Some(row) = rows.next().map_err(|e| SqlError(format!("{e} in {sql}")))? {
            let mut values = Vec::with_capacity(columns);
            for index in 0..columns {
                values.push(match row.get_ref(index).map_err(|e| fail(&e))? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(value) => Value::Int(value),
                    ValueRef::Real(value) => Value::Real(value),
                    ValueRef::Text(value) => Value::Text(String::from_utf8_lossy(value).into_owned()),
                    ValueRef::Blob(_) => return Err(SqlError("blobs are not used".to_owned())),
                });
            }
            result.push(values);
        }
        Ok(result)
    }
}
