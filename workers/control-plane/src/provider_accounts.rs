//! Subscriptions at model providers that sessions use in place of a key. The tokens stay here: a sandbox gets one that
//! lives for a while, and asks again.

pub mod broker;
pub mod connect;
pub mod device;
pub mod oauth;
pub mod selection;
pub mod tokens;

use oi_worker_kit::Refusal;
use oi_worker_kit::sealed::SealingKey;
use oi_worker_kit::vars::Vars;

/// A provider whose subscriptions can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// A ChatGPT subscription.
    Openai,
    /// A SuperGrok subscription.
    Xai,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Openai, Self::Xai];

    /// The word of the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Xai => "xai",
        }
    }

    /// From the word of the wire.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == word)
    }
}

/// The key that tokens of accounts are sealed with.
pub fn sealing_key(vars: &impl Vars) -> Result<SealingKey, Refusal> {
    let key = vars.get("PROVIDER_ACCOUNTS_ENCRYPTION_KEY").unwrap_or_default();
    SealingKey::from_base64(&key)
        .map_err(|_| Refusal::not_configured("PROVIDER_ACCOUNTS_ENCRYPTION_KEY must be base64 of 32 bytes"))
}
