//! The object's SQLite, and its synchronous transactions, which the worker crate does not bind.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;

use oi_session::sql::{Row, Sql, SqlError, Value};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use worker::{SqlStorage, SqlStorageValue, State};

#[wasm_bindgen]
extern "C" {
    type JsStorage;

    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &JsStorage,
        callback: &mut dyn FnMut() -> Result<(), JsValue>,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch, js_name = deleteAll)]
    fn delete_all(this: &JsStorage) -> Result<js_sys::Promise, JsValue>;

    #[wasm_bindgen(method, catch, js_name = deleteAlarm)]
    fn delete_alarm(this: &JsStorage) -> Result<js_sys::Promise, JsValue>;

    #[wasm_bindgen(method, catch, js_name = setAlarm)]
    fn set_alarm(this: &JsStorage, at: f64) -> Result<js_sys::Promise, JsValue>;
}

/// The storage of a Durable Object: <https://developers.cloudflare.com/durable-objects/api/sqlite-storage-api/>.
pub struct TransactionalStorage {
    storage: JsStorage,
}

impl TransactionalStorage {
    /// That of an object.
    pub fn of(state: &State) -> Self {
        let storage = js_sys::Reflect::get(state.as_raw(), &JsValue::from_str("storage")).unwrap_or(JsValue::UNDEFINED);
        Self { storage: storage.unchecked_into() }
    }

    /// Runs `body` in one transaction: committed when it gives `Ok`, rolled back when it gives `Err`.
    pub fn run<T, F>(&self, mut body: impl FnMut() -> Result<T, F>) -> Result<T, TransactionError<F>> {
        let mut result = None;
        let mut step = || match body() {
            Ok(value) => {
                result = Some(Ok(value));
                Ok(())
            }
            Err(error) => {
                result = Some(Err(error));
                // An exception is what rolls a transaction back.
                Err(JsValue::from_str("rolled back"))
            }
        };
        // The body catches its own panics, and what it touched is dropped after one.
        let mut guarded = AssertUnwindSafe(&mut step as &mut dyn FnMut() -> Result<(), JsValue>);
        let outcome = self.storage.transaction_sync(&mut move || {
            let whole = &mut guarded;
            (whole.0)()
        });
        match (result, outcome) {
            (Some(Ok(value)), Ok(_)) => Ok(value),
            (Some(Err(error)), _) => Err(TransactionError::Body(error)),
            (_, outcome) => Err(TransactionError::Storage(format!("{:?}", outcome.err()))),
        }
    }

    /// Deletes everything: the alarm, and the database with it. What is left is an object that was never created.
    pub fn erase(&self) -> Result<(), String> {
        let erased = self.storage.delete_alarm().and_then(|_| self.storage.delete_all());
        erased.map(drop).map_err(|error| format!("{error:?}"))
    }

    /// Arms the alarm in this same turn; the platform's output gate waits for it.
    pub fn set_alarm(&self, at_ms: i64) -> Result<(), String> {
        self.storage.set_alarm(at_ms as f64).map(drop).map_err(|error| format!("{error:?}"))
    }
}

/// Why a transaction was rolled back.
pub enum TransactionError<F> {
    /// The body refused; rolled back.
    Body(F),
    /// The storage refused to begin or to commit.
    Storage(String),
}

/// What statements have cost since the object is in memory, in the platform's own count, which is what it bills.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// Statements.
    pub statements: u64,
    /// Rows that were read.
    pub rows_read: u64,
    /// Rows that were written, those of indexes included.
    pub rows_written: u64,
}

/// The object's SQLite.
pub struct StorageSql {
    sql: SqlStorage,
    costs: Option<Cell<Costs>>,
}

impl StorageSql {
    /// That of an object, counted or not.
    pub fn new(sql: SqlStorage, counts: bool) -> Self {
        Self { sql, costs: counts.then(Cell::default) }
    }

    /// What has been counted; `None` when nothing is.
    pub fn costs(&self) -> Option<Costs> {
        self.costs.as_ref().map(Cell::get)
    }
}

impl Sql for StorageSql {
    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, SqlError> {
        let fail = |error: worker::Error| SqlError(error.to_string());
        let bindings: Vec<SqlStorageValue> = params
            .iter()
            .map(|value| match value {
                Value::Null => SqlStorageValue::Null,
                Value::Int(value) => SqlStorageValue::Integer(*value),
                Value::Real(value) => SqlStorageValue::Float(*value),
                Value::Text(value) => SqlStorageValue::String(value.clone()),
            })
            .collect();
        let cursor = self.sql.exec(sql, bindings).map_err(fail)?;
        let mut rows = Vec::new();
        for row in cursor.raw() {
            let mut values = Vec::new();
            for value in row.map_err(fail)? {
                values.push(match value {
                    SqlStorageValue::Null => Value::Null,
                    SqlStorageValue::Boolean(value) => Value::Int(i64::from(value)),
                    SqlStorageValue::Integer(value) => Value::Int(value),
                    SqlStorageValue::Float(value) => Value::Real(value),
                    SqlStorageValue::String(value) => Value::Text(value),
                    SqlStorageValue::Blob(_) => return Err(SqlError("blobs are not used".to_owned())),
                });
            }
            rows.push(values);
        }
        if let Some(costs) = &self.costs {
            let so_far = costs.get();
            costs.set(Costs {
                statements: so_far.statements + 1,
                rows_read: so_far.rows_read + cursor.rows_read() as u64,
                rows_written: so_far.rows_written + cursor.rows_written() as u64,
            });
        }
        Ok(rows)
    }

    /// As one text: the platform keeps the last statement of it prepared, and no other.
    fn script(&self, statements: &[String]) -> Result<(), SqlError> {
        self.run(&statements.join(";\n"), &[]).map(drop)
    }
}
