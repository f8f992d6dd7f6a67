//! Providers that a session reaches by an account: their tokens, kept in memory for minutes, and their models.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use oi_protocol::local_backend::{ModelProvider, ProviderModel};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::control_plane::provider_token::ProviderToken;
use crate::control_plane::{ControlPlane, ControlPlaneError};

/// A token is not used any more this long before its end.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// Of a token that lives shorter than the margin, so much of its life is used.
const SHORT_LIFE_PART: u32 = 2;

/// A provider that can be reached by an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountProvider {
    /// A ChatGPT subscription, at the endpoint of Codex.
    OpenAi,
    /// A Grok subscription.
    Xai,
}

impl AccountProvider {
    /// By the name that the session has for it.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "openai" => Some(Self::OpenAi),
            "xai" => Some(Self::Xai),
            _ => None,
        }
    }

    /// The session's and the agent's name of it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Xai => "xai",
        }
    }

    /// The models that a subscription pays for: id, name, tokens of context and of output. Of xAI the agent's own
    /// catalogue knows the others.
    const fn models(self) -> &'static [(&'static str, &'static str, u32, u32)] {
        match self {
            Self::OpenAi => &[
                ("gpt-5.1-codex", "GPT-5.1 Codex", 400_000, 128_000),
                ("gpt-5.1-codex-max", "GPT-5.1 Codex Max", 400_000, 128_000),
                ("gpt-5.1-codex-mini", "GPT-5.1 Codex Mini", 400_000, 128_000),
                ("gpt-5.3-codex", "GPT-5.3 Codex", 1_000_000, 1_000_000),
                ("gpt-5.3-codex-spark", "GPT-5.3 Codex Spark", 1_000_000, 1_000_000),
                ("gpt-5.4", "GPT-5.4", 1_050_000, 128_000),
                ("gpt-5.5", "GPT-5.5", 1_050_000, 128_000),
                ("gpt-5.6-sol", "GPT-5.6 Sol", 1_050_000, 128_000),
                ("gpt-5.6-terra", "GPT-5.6 Terra", 1_050_000, 128_000),
                ("gpt-5.6-luna", "GPT-5.6 Luna", 1_050_000, 128_000),
            ],
            Self::Xai => &[("grok-build-0.1", "Grok Build 0.1", 256_000, 256_000)],
        }
    }

    /// As the agent is told of it; the address is the gateway's business.
    pub fn described(self) -> ModelProvider {
        let (name, npm) = match self {
            Self::OpenAi => ("OpenAI", "@ai-sdk/openai"),
            Self::Xai => ("xAI", "@ai-sdk/xai"),
        };
        let models = self.models().iter().map(|(id, name, context, output)| ProviderModel {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            context_tokens: Some(*context),
            output_tokens: Some(*output),
        });
        ModelProvider {
            id: self.id().to_owned(),
            name: name.to_owned(),
            npm: npm.to_owned(),
            base_url: String::new(),
            api_key: None,
            models: models.collect(),
        }
    }
}

/// Where accounts are good. Only a test sets another address: no variable and no configuration of a session does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountEndpoints {
    /// The one address of Codex.
    pub codex: String,
    /// xAI's API.
    pub xai: String,
}

impl Default for AccountEndpoints {
    fn default() -> Self {
        Self {
            codex: "https://chatgpt.com/backend-api/codex/responses".to_owned(),
            xai: "https://api.x.ai/v1".to_owned(),
        }
    }
}

struct Cached {
    token: ProviderToken,
    usable_until: Instant,
}

/// Tokens of one provider.
pub struct AccountTokens {
    control_plane: Arc<ControlPlane>,
    provider: AccountProvider,
    /// Held while one is fetched, so that requests at the same time share one answer.
    cached: Mutex<Option<Cached>>,
}

fn usable_for(lives: Duration) -> Duration {
    lives.checked_sub(MARGIN).filter(|rest| !rest.is_zero()).unwrap_or(lives / SHORT_LIFE_PART)
}

impl AccountTokens {
    /// Of the session that `control_plane` knows.
    pub fn new(control_plane: Arc<ControlPlane>, provider: AccountProvider) -> Self {
        Self { control_plane, provider, cached: Mutex::new(None) }
    }

    /// A token that is good for minutes.
    pub async fn get(&self) -> Result<ProviderToken, ControlPlaneError> {
        let mut cached = self.cached.lock().await;
        let now = Instant::now();
        if let Some(known) = cached.as_ref().filter(|known| now < known.usable_until) {
            return Ok(known.token.clone());
        }
        // One that is about to end is never used in place of one that cannot be had.
        *cached = None;
        let token = self.control_plane.provider_token(self.provider.id()).await.inspect_err(|error| {
            tracing::warn!(event = "gateway.no_account_token", provider = self.provider.id(), %error);
        })?;
        *cached = Some(Cached { usable_until: now + usable_for(token.lives), token: token.clone() });
        Ok(token)
    }

    /// The provider refused a token: it is not used again.
    pub async fn forget(&self, token: &ProviderToken) {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|known| known.token.access_token == token.access_token) {
            *cached = None;
        }
    }
}

/// Puts a token and what goes with it into a request's headers. `None` when the token cannot be in a header.
pub fn sign(provider: AccountProvider, token: &ProviderToken, headers: &mut HeaderMap) -> Option<()> {
    headers.insert(AUTHORIZATION, token.access_token.bearer()?);
    if provider == AccountProvider::OpenAi {
        if let Some(account) = &token.account_id {
            headers.insert(HeaderName::from_static("chatgpt-account-id"), HeaderValue::try_from(account).ok()?);
        }
        headers.insert(HeaderName::from_static("originator"), HeaderValue::from_static("opencode"));
        // The agent names its session in a header of its own.
        let session = ["x-session-id", "x-session-affinity"].iter().find_map(|name| headers.get(*name)).cloned();
        if let Some(session) = session {
            headers.insert(HeaderName::from_static("session_id"), session);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_five_minutes_before_its_end_and_a_short_one_for_half_its_life() {
        for (lives, used) in [(3600, 3300), (301, 1), (300, 150), (60, 30)] {
            assert_eq!(usable_for(Duration::from_secs(lives)), Duration::from_secs(used), "{lives}");
        }
    }
}
