//! Access tokens of model providers that the session reaches by an account.

use std::time::Duration;

use serde::Deserialize;

use super::{ControlPlane, ControlPlaneError, answer, until_answered};
use crate::secret::Secret;

/// It may wait for another sandbox's refresh of the same account.
const TOKEN_WITHIN: Duration = Duration::from_secs(60);
/// What Open-Inspect assumes of a token whose life is not told.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);

/// An access token.
#[derive(Debug, Clone)]
pub struct ProviderToken {
    /// The bearer.
    pub access_token: Secret,
    /// How long it lives yet.
    pub lives: Duration,
    /// The account at the provider, where requests must name it.
    pub account_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    external_account_id: Option<String>,
    #[serde(default)]
    provider_metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    account_id: Option<String>,
}

/// The control plane says so where a repetition is harmless: it was not there, its provider did not answer, or it is
/// refreshing just now. Any other refusal is final: the account is gone, archived or must be connected again.
const fn is_retry_safe(error: &ControlPlaneError, attempt: u32) -> bool {
    let safe = match error {
        ControlPlaneError::Unreachable | ControlPlaneError::Refused { status: 502, .. } => true,
        ControlPlaneError::Refused { status: 503, code, .. } => matches!(code.as_bytes(), b"RETRY"),
        _ => false,
    };
    safe && attempt < 4
}

impl ControlPlane {
    /// A token for `provider`. Asked for again where that is safe.
    pub async fn provider_token(&self, provider: &str) -> Result<ProviderToken, ControlPlaneError> {
        let path = format!("/provider-auth/{provider}/access-token");
        let body: Body = until_answered(TOKEN_WITHIN, Duration::from_millis(500), is_retry_safe, || async {
            answer(self.post(&path).send().await).await
        })
        .await?;
        if body.access_token.is_empty() || body.expires_in == Some(0) {
            return Err(ControlPlaneError::Odd);
        }
        Ok(ProviderToken {
            access_token: Secret::new(body.access_token),
            lives: body.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs),
            account_id: body.provider_metadata.account_id.or(body.external_account_id),
        })
    }
}
