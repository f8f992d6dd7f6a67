//! `session_model_provider_auth`: how a session reaches each provider, pinned when it begins. Children have their
//! parent's, by a trigger.

use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;

use super::{Database, DbError, Statement, params};
use crate::provider_accounts::Provider;

/// How.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// By an account, whose tokens the sandbox asks for.
    Account(String),
    /// By the deployment's or the users' key.
    ApiKey,
    /// By what lies in the secrets: a token or a key.
    Legacy,
}

/// A provider of a session that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub provider: Provider,
    pub mode: Mode,
    /// Why: `explicit`, `installation_default`, `unattended_policy`, `legacy_fallback`, `default_unusable`.
    pub source: &'static str,
}

/// Goes into the batch that lists the session.
pub fn pin(session: &SessionId, pinned: &Pinned, now: UnixMillis) -> Statement {
    let (word, account) = match &pinned.mode {
        Mode::Account(id) => ("provider_account", Some(id.as_str())),
        Mode::ApiKey => ("api_key", None),
        Mode::Legacy => ("legacy_scoped_oauth", None),
    };
    (
        "INSERT INTO session_model_provider_auth (session_id, provider, auth_mode, provider_account_id,
            selection_source, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        params![session.as_str(), pinned.provider.as_str(), word, account, pinned.source, now.0],
    )
}

/// How a session reaches a provider. One that began before this was pinned reaches it by what lies in the secrets.
pub async fn mode(db: &impl Database, session: &SessionId, provider: Provider) -> Result<Mode, DbError> {
    #[derive(Deserialize)]
    struct Row {
        auth_mode: String,
        provider_account_id: Option<String>,
    }
    let row: Option<Row> = db
        .row(
            "SELECT auth_mode, provider_account_id FROM session_model_provider_auth
                WHERE session_id = ? AND provider = ?",
            params![session.as_str(), provider.as_str()],
        )
        .await?;
    Ok(match row {
        Some(Row { provider_account_id: Some(id), .. }) => Mode::Account(id),
        Some(row) if row.auth_mode == "api_key" => Mode::ApiKey,
        _ => Mode::Legacy,
    })
}

/// Providers that a session reaches by an account.
pub async fn by_account(db: &impl Database, session: &SessionId) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        provider: String,
    }
    let rows: Vec<Row> = db
        .rows(
            "SELECT provider FROM session_model_provider_auth
                WHERE session_id = ? AND auth_mode = 'provider_account' ORDER BY provider",
            params![session.as_str()],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.provider).collect())
}
