//! `model_provider_account_authorizations`: devices that people are authorising. Each change says in which state it finds
//! the transaction, so that of two at a time one counts.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};
use crate::provider_accounts::Provider;

/// Attempts of a person within a minute.
pub const ATTEMPTS_MAX: i64 = 5;
const ATTEMPTS_WITHIN_MS: i64 = 60_000;
/// Transactions of a person that are under way.
pub const LIVE_MAX: i64 = 5;
/// Who works on one for longer is gone, in ms.
pub const PROCESSING_MS: i64 = 30_000;
/// What has ended is kept for this long, in ms.
const KEPT_MS: i64 = 600_000;

/// A transaction.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Authorization {
    pub id: String,
    pub provider: String,
    pub operation: String,
    pub target_account_id: Option<String>,
    pub target_lifecycle_version: Option<i64>,
    pub display_name: Option<String>,
    pub encrypted_provider_data: Option<String>,
    pub interval_ms: i64,
    pub next_poll_at: i64,
    pub expires_at: i64,
    pub state: String,
    pub processing_started_at: Option<i64>,
    pub result_provider_account_id: Option<String>,
    pub reconnected_existing: Option<i64>,
    pub completed_at: Option<i64>,
}

/// Notes an attempt, unless there were too many within a minute.
pub async fn attempt(db: &impl Database, id: &str, user: &str, now: UnixMillis) -> Result<bool, DbError> {
    let changed = db
        .change(
            "INSERT INTO model_provider_account_authorization_attempts (id, user_id, attempted_at)
             SELECT ?1, ?2, ?3 WHERE (SELECT COUNT(*) FROM model_provider_account_authorization_attempts
                WHERE user_id = ?2 AND attempted_at > ?4) < ?5",
            params![id, user, now.0, now.plus(-ATTEMPTS_WITHIN_MS).0, ATTEMPTS_MAX],
        )
        .await?;
    Ok(changed > 0)
}

/// Whether a person has room for another transaction. One that creates takes the place of those before it.
pub async fn has_room(db: &impl Database, user: &str, provider: Provider, creates: bool) -> Result<bool, DbError> {
    #[derive(Deserialize)]
    struct Row {
        live: i64,
    }
    let row: Option<Row> = db
        .row(
            "SELECT COUNT(*) AS live FROM model_provider_account_authorizations WHERE user_id = ?1
                AND state IN ('pending', 'processing') AND NOT (?3 = 1 AND operation = 'create' AND provider = ?2)",
            params![user, provider.as_str(), creates],
        )
        .await?;
    Ok(row.is_none_or(|row| row.live < LIVE_MAX))
}

/// What a transaction is for.
pub enum Operation<'a> {
    /// A new account of this name.
    Create { display_name: &'a str },
    /// New tokens of an account, as it was seen.
    Reconnect { account: &'a str, lifecycle: i64 },
}

/// A transaction that is about to be.
pub struct New<'a> {
    pub id: &'a str,
    pub user: &'a str,
    pub provider: Provider,
    pub operation: Operation<'a>,
    pub sealed: &'a str,
    pub interval_ms: i64,
    pub expires_at: UnixMillis,
    pub now: UnixMillis,
}

/// Begins it, if the person has room for it. A new creation takes the place of the older ones.
pub async fn begin(db: &impl Database, new: &New<'_>) -> Result<bool, DbError> {
    let (word, account, lifecycle, name) = match new.operation {
        Operation::Create { display_name } => ("create", None, None, Some(display_name)),
        Operation::Reconnect { account, lifecycle } => ("reconnect", Some(account), Some(lifecycle), None),
    };
    let changed = db
        .batch(vec![
            (
                "UPDATE model_provider_account_authorizations SET state = 'superseded', encrypted_provider_data = NULL,
                    processing_owner = NULL, processing_started_at = NULL, completed_at = ?4, updated_at = ?4
                 WHERE user_id = ?1 AND provider = ?2 AND operation = 'create' AND ?3 = 'create'
                    AND state IN ('pending', 'processing')",
                params![new.user, new.provider.as_str(), word, new.now.0],
            ),
            (
                "INSERT INTO model_provider_account_authorizations (id, user_id, provider, operation, target_account_id,
                    target_lifecycle_version, display_name, encrypted_provider_data, interval_ms, next_poll_at,
                    expires_at, state, created_at, updated_at)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'pending', ?12, ?12
                    WHERE (SELECT COUNT(*) FROM model_provider_account_authorizations
                        WHERE user_id = ?2 AND state IN ('pending', 'processing')) < ?13",
                params![
                    new.id,
                    new.user,
                    new.provider.as_str(),
                    word,
                    account,
                    lifecycle,
                    name,
                    new.sealed,
                    new.interval_ms,
                    new.now.plus(new.interval_ms).0,
                    new.expires_at.0,
                    new.now.0,
                    LIVE_MAX,
                ],
            ),
        ])
        .await?;
    Ok(changed.last().is_some_and(|changed| *changed > 0))
}

/// A person's transaction.
pub async fn get(
    db: &impl Database,
    id: &str,
    user: &str,
    provider: Provider,
) -> Result<Option<Authorization>, DbError> {
    db.row(
        "SELECT id, provider, operation, target_account_id, target_lifecycle_version, display_name,
            encrypted_provider_data, interval_ms, next_poll_at, expires_at, state, processing_started_at,
            result_provider_account_id, reconnected_existing, completed_at
         FROM model_provider_account_authorizations WHERE id = ? AND user_id = ? AND provider = ?",
        params![id, user, provider.as_str()],
    )
    .await
}

/// Takes a poll upon oneself, when it is due and nobody else has it.
pub async fn claim(db: &impl Database, id: &str, owner: &str, now: UnixMillis) -> Result<bool, DbError> {
    let changed = db
        .change(
            "UPDATE model_provider_account_authorizations SET state = 'processing', processing_owner = ?2,
                processing_started_at = ?3, updated_at = ?3
             WHERE id = ?1 AND state = 'pending' AND next_poll_at <= ?3 AND expires_at > ?3",
            params![id, owner, now.0],
        )
        .await?;
    Ok(changed > 0)
}

/// The person has not answered yet.
pub async fn wait(db: &impl Database, id: &str, owner: &str, interval_ms: i64, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE model_provider_account_authorizations SET state = 'pending', processing_owner = NULL,
            processing_started_at = NULL, interval_ms = ?3, next_poll_at = ?4, updated_at = ?5
         WHERE id = ?1 AND state = 'processing' AND processing_owner = ?2",
        params![id, owner, interval_ms, now.plus(interval_ms).0, now.0],
    )
    .await
    .map(|_| ())
}

/// It ended without an account, by who works on it.
pub async fn end(db: &impl Database, id: &str, owner: &str, state: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE model_provider_account_authorizations SET state = ?3, encrypted_provider_data = NULL,
            processing_owner = NULL, processing_started_at = NULL, completed_at = ?4, updated_at = ?4
         WHERE id = ?1 AND state = 'processing' AND processing_owner = ?2",
        params![id, owner, state, now.0],
    )
    .await
    .map(|_| ())
}

/// It ended with an account: the last statement of the batch that connects it.
pub fn connected(
    id: &str,
    owner: &str,
    (account, connection): (&str, &str),
    existing: bool,
    now: UnixMillis,
) -> Statement {
    (
        "UPDATE model_provider_account_authorizations SET state = 'connected', encrypted_provider_data = NULL,
            processing_owner = NULL, processing_started_at = NULL, result_provider_account_id = ?3,
            reconnected_existing = ?4, completed_at = ?5, updated_at = ?5
         WHERE id = ?1 AND state = 'processing' AND processing_owner = ?2
            AND EXISTS (SELECT 1 FROM model_provider_accounts WHERE id = ?3 AND connection_id = ?6)",
        params![id, owner, account, existing, now.0, connection],
    )
}

/// The person does not want it any more. What has ended stays as it ended.
pub fn cancel(id: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE model_provider_account_authorizations SET state = 'cancelled', encrypted_provider_data = NULL,
            processing_owner = NULL, processing_started_at = NULL, completed_at = ?2, updated_at = ?2
         WHERE id = ?1 AND state IN ('pending', 'processing')",
        params![id, now.0],
    )
}

/// Ends what is over, and forgets what ended a while ago.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<(), DbError> {
    db.batch(vec![
        (
            "UPDATE model_provider_account_authorizations SET
                state = CASE WHEN expires_at <= ?1 THEN 'expired' ELSE 'failed' END, encrypted_provider_data = NULL,
                processing_owner = NULL, processing_started_at = NULL, completed_at = ?1, updated_at = ?1
             WHERE completed_at IS NULL AND ((state = 'pending' AND expires_at <= ?1)
                OR (state = 'processing' AND processing_started_at <= ?2))",
            params![now.0, now.plus(-PROCESSING_MS).0],
        ),
        ("DELETE FROM model_provider_account_authorizations WHERE completed_at <= ?", params![now.plus(-KEPT_MS).0]),
        (
            "DELETE FROM model_provider_account_authorization_attempts WHERE attempted_at <= ?",
            params![now.plus(-ATTEMPTS_WITHIN_MS).0],
        ),
    ])
    .await
    .map(|_| ())
}
