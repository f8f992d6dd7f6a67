//! D1: what all sessions and people share. One module a table holds all SQL of that table.

pub mod admissions;
pub mod analytics;
pub mod audit_log;
pub mod backend_breakers;
pub mod browser_sessions;
pub mod children;
pub mod commit_signing;
pub mod deleted_sessions;
pub mod environments;
pub mod forge_leases;
pub mod image_builds;
pub mod inbox;
pub mod integration_settings;
pub mod keyboard_shortcuts;
pub mod mcp_servers;
pub mod model_preferences;
pub mod oauth_states;
pub mod personal_tokens;
pub mod provider_accounts;
pub mod provider_authorizations;
pub mod provider_credentials;
pub mod repo_metadata;
pub mod sandboxes;
pub mod search;
pub mod secrets;
pub mod service_nonces;
pub mod session_models;
pub mod session_pages;
pub mod session_provider_auth;
pub mod session_pull_requests;
pub mod session_repositories;
pub mod sessions;
pub mod skills;
pub mod usage;
pub mod user_identities;
pub mod users;
pub mod webhook_deliveries;

mod d1;
#[cfg(test)]
pub(crate) mod native;

pub use d1::D1;

use serde::de::DeserializeOwned;

/// A value bound to a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// NULL
    Null,
    /// INTEGER, below 2^53.
    Int(i64),
    /// REAL
    Real(f64),
    /// TEXT
    Text(String),
}

impl From<i64> for Param {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<f64> for Param {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}
impl From<bool> for Param {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<&str> for Param {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Param {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl<T: Into<Self>> From<Option<T>> for Param {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Values for a statement, each by `Into<Param>`.
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::Param::from($value)),*] };
}
pub(crate) use params;

/// A statement failed. The text is the database's and holds no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("D1: {0}")]
pub struct DbError(pub String);

impl From<DbError> for oi_worker_kit::Failure {
    fn from(error: DbError) -> Self {
        oi_worker_kit::Fault::new("asking the database", error).into()
    }
}

/// One statement of a batch.
pub type Statement = (&'static str, Vec<Param>);

/// The database. A batch is its only transaction, so every change of state is one guarded statement or one batch.
pub trait Database {
    /// The rows of a query, each from an object of its columns.
    async fn rows<T: DeserializeOwned>(&self, sql: &str, params: Vec<Param>) -> Result<Vec<T>, DbError>;

    /// Runs a statement; how many rows it changed.
    async fn change(&self, sql: &str, params: Vec<Param>) -> Result<u64, DbError>;

    /// Runs statements in one transaction; how many rows each changed.
    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError>;

    /// The first row of a query.
    async fn row<T: DeserializeOwned>(&self, sql: &str, params: Vec<Param>) -> Result<Option<T>, DbError> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }
}

/// So that two clients of a test share one.
#[cfg(test)]
impl<D: Database> Database for &D {
    async fn rows<T: DeserializeOwned>(&self, sql: &str, params: Vec<Param>) -> Result<Vec<T>, DbError> {
        (*self).rows(sql, params).await
    }

    async fn change(&self, sql: &str, params: Vec<Param>) -> Result<u64, DbError> {
        (*self).change(sql, params).await
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        (*self).batch(statements).await
    }
}
