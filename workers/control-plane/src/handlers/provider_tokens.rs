//! Tokens of providers for sandboxes, while their session reaches the provider by an account.

use oi_protocol::SessionId;
use oi_session::call::SessionCall;
use oi_worker_kit::{Failure, Refusal, reply};
use serde_json::json;
use worker::Response;

use super::sandbox_broker::listed_session;
use crate::provider_accounts::broker::{Access, Broker, Platform};
use crate::provider_accounts::oauth::Providers;
use crate::provider_accounts::{Provider, sealing_key};
use crate::request::Cx;
use crate::store::session_provider_auth::{self, Mode};
use crate::{identity, session_client};

/// The session whose sandbox asks; its object checks the token.
pub(super) async fn sandbox_session(cx: &Cx<'_>) -> Result<SessionId, Failure> {
    let id = listed_session(cx).await?;
    session_client::ask(cx.env, &id, identity::principal(&cx.who.caller), SessionCall::VerifySandbox).await?;
    Ok(id)
}

/// An Open-Inspect client asks with this.
fn metadata(provider: Provider, access: &Access) -> serde_json::Value {
    match (provider, &access.external_account_id) {
        (Provider::Openai, Some(id)) => json!({"accountId": id}),
        _ => json!({}),
    }
}

pub(super) async fn access_token(cx: &Cx<'_>) -> Result<Response, Failure> {
    let word = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    let provider = Provider::parse(word).ok_or_else(|| Refusal::invalid_parameter("Unsupported provider"))?;
    let id = sandbox_session(cx).await?;
    let db = cx.db()?;
    let account = match session_provider_auth::mode(&db, &id, provider).await? {
        Mode::Account(account) => account,
        Mode::ApiKey => {
            return Err(Refusal::conflict("The session uses an API key for this provider").into());
        }
        Mode::Legacy => return Err(Refusal::not_found("Session provider account is not configured").into()),
    };
    let (key, providers) = (sealing_key(cx.env)?, Providers::of(cx.env));
    let broker = Broker { db: &db, key: &key, exchange: &providers, surroundings: &Platform };
    let access = broker.access_of(&account, provider).await?;
    let mut body = json!({
        "accessToken": access.token,
        "expiresIn": access.expires_in.max(1),
        "providerMetadata": metadata(provider, &access),
    });
    if let Some(id) = access.external_account_id {
        body["externalAccountId"] = id.into();
    }
    reply::json(200, &body)
}

/// Tokens that lie in the secrets, as Open-Inspect kept them before there were accounts.
async fn legacy(cx: &Cx<'_>, provider: Provider) -> Result<Response, Failure> {
    let id = sandbox_session(cx).await?;
    match session_provider_auth::mode(&cx.db()?, &id, provider).await? {
        Mode::Legacy => {
            let name = match provider {
                Provider::Openai => "OPENAI_OAUTH_REFRESH_TOKEN",
                Provider::Xai => "XAI_OAUTH_REFRESH_TOKEN",
            };
            Err(Refusal::not_found(format!("{name} not configured")).into())
        }
        Mode::Account(_) | Mode::ApiKey => {
            Err(Refusal::conflict("Session does not use legacy scoped OAuth for this provider").into())
        }
    }
}

pub(super) async fn openai_refresh(cx: &Cx<'_>) -> Result<Response, Failure> {
    legacy(cx, Provider::Openai).await
}

pub(super) async fn xai_refresh(cx: &Cx<'_>) -> Result<Response, Failure> {
    legacy(cx, Provider::Xai).await
}
