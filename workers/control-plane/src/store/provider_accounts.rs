//! `model_provider_accounts` and what new sessions use of them: subscriptions at model providers, without their tokens.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};
use crate::provider_accounts::Provider;

/// Accounts that are listed at most.
const LISTED: i64 = 200;
/// Live accounts that a provider may have.
pub const LIVE_MAX: i64 = 100;

/// An account, with the columns' names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    pub id: String,
    pub provider: String,
    pub display_name: String,
    pub external_account_id: Option<String>,
    pub status: String,
    pub lifecycle_version: i64,
    pub created_by: String,
    pub updated_by: String,
    pub last_verified_at: Option<i64>,
    pub last_used_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
    pub archived_at: Option<i64>,
}

impl Account {
    /// Whether sessions can use it.
    pub fn is_active(&self) -> bool {
        self.status == "active" && self.archived_at.is_none()
    }
}

const COLUMNS: &str =
    "id, provider, display_name, external_account_id, status, lifecycle_version, created_by, updated_by,
    last_verified_at, last_used_at, created_at, updated_at, archived_at";

/// One account, an archived one too.
pub async fn get(db: &impl Database, id: &str) -> Result<Option<Account>, DbError> {
    db.row(&format!("SELECT {COLUMNS} FROM model_provider_accounts WHERE id = ?"), params![id]).await
}

/// The live account of an identity.
pub async fn by_identity(
    db: &impl Database,
    provider: Provider,
    external_id: &str,
) -> Result<Option<Account>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM model_provider_accounts
            WHERE provider = ? AND external_account_id = ? AND archived_at IS NULL"
    );
    db.row(&sql, params![provider.as_str(), external_id]).await
}

/// Accounts, oldest first; of a provider, of a status, and archived ones if they are asked for.
pub async fn list(
    db: &impl Database,
    provider: Option<Provider>,
    status: Option<&str>,
    archived: bool,
) -> Result<Vec<Account>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM model_provider_accounts WHERE (?1 IS NULL OR provider = ?1)
            AND (?2 IS NULL OR status = ?2) AND (?3 = 1 OR archived_at IS NULL)
            ORDER BY provider, created_at, id LIMIT {LISTED}"
    );
    db.rows(&sql, params![provider.map(Provider::as_str), status, archived]).await
}

/// Renames it. Changes nothing when it is archived.
pub fn rename(id: &str, name: &str, by: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE model_provider_accounts SET display_name = ?2, updated_by = ?3, updated_at = ?4
            WHERE id = ?1 AND archived_at IS NULL",
        params![id, name, by, now.0],
    )
}

/// Sessions may use it no more, until it is enabled.
pub fn disable(id: &str, by: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE model_provider_accounts SET status = 'disabled', lifecycle_version = lifecycle_version + 1,
            updated_by = ?2, updated_at = ?3 WHERE id = ?1 AND archived_at IS NULL AND status <> 'disabled'",
        params![id, by, now.0],
    )
}

/// Sessions may use it again.
pub fn enable(id: &str, by: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE model_provider_accounts SET status = 'active', lifecycle_version = lifecycle_version + 1,
            updated_by = ?2, updated_at = ?3 WHERE id = ?1 AND archived_at IS NULL AND status = 'disabled'",
        params![id, by, now.0],
    )
}

/// Puts it away for good, with its tokens.
pub fn archive(id: &str, by: &str, now: UnixMillis) -> Vec<Statement> {
    vec![
        (
            "UPDATE model_provider_accounts SET archived_at = ?3, lifecycle_version = lifecycle_version + 1,
                updated_by = ?2, updated_at = ?3 WHERE id = ?1 AND archived_at IS NULL",
            params![id, by, now.0],
        ),
        ("DELETE FROM model_provider_account_credentials WHERE provider_account_id = ?", params![id]),
    ]
}

/// A session got a token of it: noted every 15 minutes.
pub async fn note_use(db: &impl Database, id: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE model_provider_accounts SET last_used_at = ?2
            WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at <= ?3)",
        params![id, now.0, now.plus(-900_000).0],
    )
    .await
    .map(|_| ())
}

/// What new sessions of a provider use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Default {
    pub provider: String,
    pub provider_account_id: String,
    pub unattended_mode: String,
    pub created_by: String,
    pub updated_by: String,
    pub created_at: i64,
    pub updated_at: i64,
}

/// All of them.
pub async fn defaults(db: &impl Database) -> Result<Vec<Default>, DbError> {
    db.rows(
        "SELECT provider, provider_account_id, unattended_mode, created_by, updated_by, created_at, updated_at
            FROM model_provider_account_defaults ORDER BY provider",
        params![],
    )
    .await
}

/// Providers whose default account can be used.
pub async fn default_providers(db: &impl Database) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        provider: String,
    }
    let rows: Vec<Row> = db
        .rows(
            "SELECT chosen.provider FROM model_provider_account_defaults chosen JOIN model_provider_accounts account
                ON account.id = chosen.provider_account_id WHERE account.status = 'active'",
            params![],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.provider).collect())
}

/// New sessions use this account. Changes nothing unless it is an active one of the provider.
pub fn set_default(provider: Provider, account: &str, unattended_mode: &str, by: &str, now: UnixMillis) -> Statement {
    (
        "INSERT INTO model_provider_account_defaults (provider, provider_account_id, unattended_mode, created_by,
            updated_by, created_at, updated_at)
         SELECT provider, id, ?3, ?4, ?4, ?5, ?5 FROM model_provider_accounts
            WHERE id = ?2 AND provider = ?1 AND status = 'active' AND archived_at IS NULL
         ON CONFLICT (provider) DO UPDATE SET provider_account_id = excluded.provider_account_id,
            unattended_mode = excluded.unattended_mode, updated_by = excluded.updated_by,
            updated_at = excluded.updated_at",
        params![provider.as_str(), account, unattended_mode, by, now.0],
    )
}

/// New sessions use none.
pub fn clear_default(provider: Provider) -> Statement {
    ("DELETE FROM model_provider_account_defaults WHERE provider = ?", params![provider.as_str()])
}

/// Whether the database kept a default account as it is.
pub fn is_default_constraint(error: &DbError) -> bool {
    error.0.contains("provider default account must remain active")
}

/// Whether another account has the same identity.
pub fn is_identity_constraint(error: &DbError) -> bool {
    error.0.contains("UNIQUE constraint failed")
}
