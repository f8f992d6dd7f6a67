//! The forge's database: one SQLite file, one module per table. Tokens and codes are stored as hashes only.

pub mod comments;
pub mod labels;
pub mod oauth_codes;
pub mod pulls;
pub mod tokens;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use sha2::{Digest as _, Sha256};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the database was written by a newer devkit (schema {found})")]
    Newer { found: i64 },
    #[error("the random source failed")]
    Random,
}

/// Steps of the schema; a step is never edited after it was released.
const STEPS: &[&str] = &["
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY,
        kind TEXT NOT NULL,
        user_id INTEGER,
        permissions TEXT,
        repositories TEXT,
        pair BLOB,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX tokens_by_expiry ON tokens (expires_at);
    CREATE INDEX tokens_by_pair ON tokens (pair);
    CREATE TABLE oauth_codes (
        hash BLOB PRIMARY KEY,
        user_id INTEGER NOT NULL,
        redirect_uri TEXT NOT NULL,
        challenge TEXT,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE pulls (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        repository INTEGER NOT NULL,
        number INTEGER NOT NULL,
        title TEXT NOT NULL,
        body TEXT,
        author INTEGER NOT NULL,
        head_ref TEXT NOT NULL,
        base_ref TEXT NOT NULL,
        head_sha TEXT NOT NULL,
        base_sha TEXT NOT NULL,
        open INTEGER NOT NULL,
        draft INTEGER NOT NULL,
        merge_commit TEXT,
        merged_by INTEGER,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        closed_at INTEGER,
        merged_at INTEGER,
        UNIQUE (repository, number)
    );
    CREATE UNIQUE INDEX pulls_open ON pulls (repository, head_ref, base_ref) WHERE open;
    CREATE TABLE labels (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        repository INTEGER NOT NULL,
        name TEXT NOT NULL COLLATE NOCASE,
        color TEXT NOT NULL,
        description TEXT,
        UNIQUE (repository, name)
    );
    CREATE TABLE pull_labels (
        pull INTEGER NOT NULL,
        label INTEGER NOT NULL,
        PRIMARY KEY (pull, label)
    ) WITHOUT ROWID;
    CREATE TABLE comments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        pull INTEGER NOT NULL,
        author INTEGER NOT NULL,
        body TEXT NOT NULL,
        created_at INTEGER NOT NULL
    );
    CREATE INDEX comments_by_pull ON comments (pull, id);
"];

/// The open database.
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let done =
            usize::try_from(found).ok().filter(|done| *done <= STEPS.len()).ok_or(StoreError::Newer { found })?;
        for step in &STEPS[done..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
        transaction.commit()?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Runs one transaction. An error rolls it back.
    pub fn write<T, E: From<StoreError>>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        // A panic in a transaction rolled it back: the connection is sound.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::from)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(value)
    }

    /// Reads without a transaction.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes a secret of 144 random bits under a prefix such as `ghs_`, in the 36 letters that GitHub's have.
pub fn mint(prefix: &str) -> Result<String, StoreError> {
    let mut bytes = [0_u8; 18];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(format!("{prefix}{}", hex::encode(bytes)))
}

/// What is stored in place of a secret.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
