//! The same SQL on a real SQLite, with the migrations as they are deployed.

use std::cell::RefCell;

use rusqlite::Connection;
use rusqlite::limits::Limit;
use rusqlite::types::{Value, ValueRef};
use serde::de::DeserializeOwned;
use serde_json::Map;

use super::{Database, DbError, Param, Statement};

const MIGRATIONS: &[&str] = &[
    include_str!("../../../../d1-migrations/0001_people_sessions_deliveries.sql"),
    include_str!("../../../../d1-migrations/0002_usage.sql"),
    include_str!("../../../../d1-migrations/0004_children_callbacks.sql"),
    include_str!("../../../../d1-migrations/0006_sandbox_lifecycle.sql"),
    include_str!("../../../../d1-migrations/0007_session_pull_requests.sql"),
    include_str!("../../../../d1-migrations/0010_identity.sql"),
    include_str!("../../../../d1-migrations/0020_secrets.sql"),
    include_str!("../../../../d1-migrations/0021_repositories_environments.sql"),
    include_str!("../../../../d1-migrations/0030_settings.sql"),
    include_str!("../../../../d1-migrations/0031_provider_accounts.sql"),
    include_str!("../../../../d1-migrations/0032_inbox.sql"),
    include_str!("../../../../d1-migrations/0040_source_control.sql"),
    include_str!("../../../../d1-migrations/0050_image_builds.sql"),
];

/// What D1 takes, by its documentation and by workerd's own configuration of SQLite.
const LIMITS: [(Limit, i32); 7] = [
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
];

fn opened(migrations: &[&str]) -> Connection {
    let connection = Connection::open_in_memory().expect("SQLite opens in memory");
    for migration in migrations {
        connection.execute_batch(migration).expect("a migration applies");
    }
    for (limit, most) in LIMITS {
        connection.set_limit(limit, most).expect("a limit");
    }
    connection
}

/// A new, empty, migrated database in memory.
pub(crate) struct Native(RefCell<Connection>, RefCell<Vec<String>>);

impl Native {
    pub fn new() -> Self {
        let connection = opened(MIGRATIONS);
        connection.execute_batch("PRAGMA foreign_keys = ON").expect("a pragma");
        Self(RefCell::new(connection), RefCell::default())
    }

    /// The same for the database of search.
    pub fn search() -> Self {
        Self(RefCell::new(opened(&SEARCH_MIGRATIONS)), RefCell::default())
    }

    /// How the queries so far were read, step by step as SQLite explains it; forgets them.
    pub fn plans(&self) -> Vec<String> {
        self.1.take()
    }

    fn note_plan(&self, sql: &str, params: &[Param]) -> rusqlite::Result<()> {
        // Who asks for a plan reads it themselves.
        if sql.starts_with("EXPLAIN ") {
            return Ok(());
        }
        let connection = self.0.borrow();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let steps = statement.query_map(bound(params), |row| row.get::<_, String>("detail"))?;
        for step in steps {
            self.1.borrow_mut().push(step?);
        }
        Ok(())
    }
}

const SEARCH_MIGRATIONS: [&str; 1] = [include_str!("../../../../d1-search-migrations/0001_search.sql")];

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn failed(error: rusqlite::Error) -> DbError {
    DbError(error.to_string())
}

fn bound(params: &[Param]) -> impl rusqlite::Params {
    rusqlite::params_from_iter(params.iter().map(|param| match param {
        Param::Null => Value::Null,
        Param::Int(value) => Value::Integer(*value),
        Param::Real(value) => Value::Real(*value),
        Param::Text(text) => Value::Text(text.clone()),
    }))
}

impl Database for Native {
    async fn rows<T: DeserializeOwned>(&self, sql: &str, params: Vec<Param>) -> Result<Vec<T>, DbError> {
        self.note_plan(sql, &params).map_err(failed)?;
        let connection = self.0.borrow();
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let rows = statement
            .query_map(bound(&params), |row| {
                let mut object = Map::new();
                for (index, name) in names.iter().enumerate() {
                    let value = match row.get_ref(index)? {
                        ValueRef::Integer(value) => value.into(),
                        ValueRef::Real(value) => value.into(),
                        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
                        ValueRef::Null | ValueRef::Blob(_) => serde_json::Value::Null,
                    };
                    object.insert(name.clone(), value);
                }
                Ok(serde_json::Value::Object(object))
            })
            .map_err(failed)?;
        rows.map(|row| serde_json::from_value(row.map_err(failed)?).map_err(|error| DbError(error.to_string())))
            .collect()
    }

    async fn change(&self, sql: &str, params: Vec<Param>) -> Result<u64, DbError> {
        self.0.borrow().execute(sql, bound(&params)).map(|changed| changed as u64).map_err(failed)
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        let mut connection = self.0.borrow_mut();
        let transaction = connection.transaction().map_err(failed)?;
        let changed: Result<Vec<u64>, _> = statements
            .iter()
            .map(|(sql, params)| transaction.execute(sql, bound(params)).map(|changed| changed as u64))
            .collect();
        let changed = changed.map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(changed)
    }
}
