//! `model_provider_account_credentials`: tokens of accounts, sealed, and who refreshes them. One at a time does, in
//! whatever isolate: a claim is one conditional statement, and every write names the claim that it is of.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};
use crate::provider_accounts::Provider;

/// A claim that is older is somebody's that is gone, in ms. A refresh ends well before.
pub const CLAIM_MS: i64 = 15_000;
/// Schema of what is sealed.
pub const SCHEMA: i64 = 1;

/// Tokens of an account, with what decides whether they may be used.
#[expect(clippy::struct_field_names, reason = "they are the columns' names")]
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Credential {
    pub provider: String,
    pub status: String,
    pub archived_at: Option<i64>,
    pub external_account_id: Option<String>,
    pub encrypted_payload: String,
    pub credential_version: i64,
    pub exchange_state: String,
    pub exchange_started_at: Option<i64>,
    pub access_token_expires_at: Option<i64>,
}

/// Those of an account; `None` when it has none.
pub async fn load(db: &impl Database, account: &str) -> Result<Option<Credential>, DbError> {
    db.row(
        "SELECT account.provider, account.status, account.archived_at, account.external_account_id,
            credential.encrypted_payload, credential.credential_version, credential.exchange_state,
            credential.exchange_started_at, credential.access_token_expires_at
         FROM model_provider_account_credentials credential
            JOIN model_provider_accounts account ON account.id = credential.provider_account_id
         WHERE account.id = ?",
        params![account],
    )
    .await
}

/// Takes the refresh of these tokens upon oneself: nobody else has it, or has had it for too long.
pub async fn claim(
    db: &impl Database,
    account: &str,
    version: i64,
    owner: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .change(
            "UPDATE model_provider_account_credentials SET exchange_state = 'in_flight', exchange_owner = ?3,
                exchange_started_at = ?4, exchange_generation = exchange_generation + 1, updated_at = ?4
             WHERE provider_account_id = ?1 AND credential_version = ?2
                AND (exchange_state = 'idle' OR exchange_started_at <= ?5)
                AND EXISTS (SELECT 1 FROM model_provider_accounts
                    WHERE id = ?1 AND status = 'active' AND archived_at IS NULL)",
            params![account, version, owner, now.0, now.plus(-CLAIM_MS).0],
        )
        .await?;
    Ok(changed > 0)
}

/// New tokens, if the claim is still ours.
pub async fn complete(
    db: &impl Database,
    account: &str,
    owner: &str,
    payload: &str,
    expires_at: UnixMillis,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .batch(vec![
            (
                "UPDATE model_provider_accounts SET last_verified_at = ?3 WHERE id = ?1 AND EXISTS
                    (SELECT 1 FROM model_provider_account_credentials WHERE provider_account_id = ?1
                        AND exchange_owner = ?2)",
                params![account, owner, now.0],
            ),
            (
                "UPDATE model_provider_account_credentials SET encrypted_payload = ?3,
                    credential_version = credential_version + 1, exchange_state = 'idle', exchange_owner = NULL,
                    exchange_started_at = NULL, access_token_expires_at = ?4, updated_at = ?5
                 WHERE provider_account_id = ?1 AND exchange_owner = ?2",
                params![account, owner, payload, expires_at.0, now.0],
            ),
        ])
        .await?;
    Ok(changed.last().is_some_and(|changed| *changed > 0))
}

/// Gives a claim back: the tokens are as they were.
pub async fn release(db: &impl Database, account: &str, owner: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE model_provider_account_credentials SET exchange_state = 'idle', exchange_owner = NULL,
            exchange_started_at = NULL, updated_at = ?3 WHERE provider_account_id = ?1 AND exchange_owner = ?2",
        params![account, owner, now.0],
    )
    .await
    .map(|_| ())
}

/// The provider takes these tokens no more: a person must connect the account anew.
pub async fn fence(db: &impl Database, account: &str, owner: &str, now: UnixMillis) -> Result<(), DbError> {
    db.batch(vec![
        (
            "UPDATE model_provider_accounts SET status = 'reconnect_required', lifecycle_version = lifecycle_version + 1,
                updated_at = ?3 WHERE id = ?1 AND status = 'active' AND EXISTS
                (SELECT 1 FROM model_provider_account_credentials WHERE provider_account_id = ?1 AND exchange_owner = ?2)",
            params![account, owner, now.0],
        ),
        (
            "UPDATE model_provider_account_credentials SET exchange_state = 'idle', exchange_owner = NULL,
                exchange_started_at = NULL, updated_at = ?3 WHERE provider_account_id = ?1 AND exchange_owner = ?2",
            params![account, owner, now.0],
        ),
    ])
    .await
    .map(|_| ())
}

/// An account that was connected, with its tokens.
pub struct Connected<'a> {
    pub account: &'a str,
    pub provider: Provider,
    pub external_id: &'a str,
    pub payload: &'a str,
    pub expires_at: UnixMillis,
    pub by: &'a str,
    /// Names this connection.
    pub id: &'a str,
    pub now: UnixMillis,
}

/// The authorisation whose work it is, and who does it; what it is no more changes nothing.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    pub transaction: &'a str,
    pub owner: &'a str,
}

/// A new account. With a guard, only while that holds.
pub fn insert(connected: &Connected<'_>, display_name: &str, guard: Option<Guard<'_>>) -> Vec<Statement> {
    let (transaction, owner) = guard.map(|guard| (guard.transaction, guard.owner)).unzip();
    vec![
        (
            "INSERT INTO model_provider_accounts (id, provider, display_name, external_account_id, status, connection_id,
                created_by, updated_by, last_verified_at, created_at, updated_at)
             SELECT ?1, ?2, ?3, ?4, 'active', ?10, ?5, ?5, ?6, ?6, ?6
                WHERE (?7 IS NULL OR EXISTS (SELECT 1 FROM model_provider_account_authorizations
                    WHERE id = ?7 AND state = 'processing' AND processing_owner = ?8))
                AND (SELECT COUNT(*) FROM model_provider_accounts WHERE provider = ?2 AND archived_at IS NULL) < ?9",
            params![
                connected.account,
                connected.provider.as_str(),
                display_name,
                connected.external_id,
                connected.by,
                connected.now.0,
                transaction,
                owner,
                super::provider_accounts::LIVE_MAX,
                connected.id,
            ],
        ),
        (
            "INSERT INTO model_provider_account_credentials (provider_account_id, encrypted_payload,
                credential_schema_version, credential_version, access_token_expires_at, updated_at)
             SELECT id, ?2, ?3, 1, ?4, ?5 FROM model_provider_accounts WHERE id = ?1",
            params![connected.account, connected.payload, SCHEMA, connected.expires_at.0, connected.now.0],
        ),
    ]
}

/// New tokens of an account that is there, in place of the old ones; only while it is what `lifecycle` saw, and of the
/// same identity or of none yet.
pub fn reconnect(connected: &Connected<'_>, lifecycle: i64, guard: Option<Guard<'_>>) -> Vec<Statement> {
    let (transaction, owner) = guard.map(|guard| (guard.transaction, guard.owner)).unzip();
    vec![
        (
            "UPDATE model_provider_accounts SET status = 'active', external_account_id = ?2, updated_by = ?3,
                last_verified_at = ?4, updated_at = ?4, lifecycle_version = lifecycle_version + 1, connection_id = ?8
             WHERE id = ?1 AND archived_at IS NULL AND status <> 'disabled' AND lifecycle_version = ?5
                AND (external_account_id IS NULL OR external_account_id = ?2)
                AND (?6 IS NULL OR EXISTS (SELECT 1 FROM model_provider_account_authorizations
                    WHERE id = ?6 AND state = 'processing' AND processing_owner = ?7))",
            params![
                connected.account,
                connected.external_id,
                connected.by,
                connected.now.0,
                lifecycle,
                transaction,
                owner,
                connected.id,
            ],
        ),
        (
            "INSERT INTO model_provider_account_credentials (provider_account_id, encrypted_payload,
                credential_schema_version, credential_version, access_token_expires_at, updated_at)
             SELECT id, ?2, ?3, 1, ?4, ?5 FROM model_provider_accounts WHERE id = ?1 AND connection_id = ?6
             ON CONFLICT (provider_account_id) DO UPDATE SET encrypted_payload = excluded.encrypted_payload,
                credential_version = model_provider_account_credentials.credential_version + 1,
                exchange_state = 'idle', exchange_owner = NULL, exchange_started_at = NULL,
                access_token_expires_at = excluded.access_token_expires_at, updated_at = excluded.updated_at",
            params![
                connected.account,
                connected.payload,
                SCHEMA,
                connected.expires_at.0,
                connected.now.0,
                connected.id,
            ],
        ),
    ]
}
