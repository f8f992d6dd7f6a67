//! Tokens of an account: what a provider answers, whose they are, how they are stored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oi_protocol::UnixMillis;
use oi_worker_kit::sealed::{SealError, SealingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Provider;
use crate::store::provider_credentials::SCHEMA;

/// When a provider says nothing of it, in seconds.
const DEFAULT_LIFE_SECONDS: i64 = 3_600;
/// Nothing is believed to live longer, in seconds.
const LONGEST_LIFE_SECONDS: i64 = 7 * 86_400;

/// Tokens as a provider gave them.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// What requests carry.
    pub access_token: String,
    /// What new ones are got with; the old one stays when there is none.
    pub refresh_token: Option<String>,
    /// How long the access token lives.
    pub life_seconds: i64,
    /// Whose they are, as far as the tokens themselves say it.
    pub external_id: Option<String>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("external_id", &self.external_id).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
    #[serde(default)]
    expires_in: Value,
}

/// What a JWT claims. It came from the issuer itself, over TLS: nobody else's word is in it.
fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| (1..=512).contains(&text.len())).map(str::to_owned)
}

fn external_id(provider: Provider, claims: &Value) -> Option<String> {
    match provider {
        Provider::Openai => text(&claims["chatgpt_account_id"])
            .or_else(|| text(&claims["https://api.openai.com/auth"]["chatgpt_account_id"]))
            .or_else(|| text(&claims["organizations"][0]["id"])),
        Provider::Xai => text(&claims["sub"]),
    }
}

/// A positive whole number, or its digits.
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).filter(|seconds| *seconds > 0)
}

impl Tokens {
    /// From the body of a token endpoint's answer.
    pub fn read(provider: Provider, body: &[u8], now: UnixMillis) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let access_token = answer.access_token.filter(|token| !token.is_empty())?;
        let of_access = claims(&access_token);
        let of_id = answer.id_token.as_deref().and_then(claims);
        let until = of_access.as_ref().and_then(|claims| claims["exp"].as_i64()).map(|exp| exp - now.0 / 1_000);
        let life = seconds(&answer.expires_in).or(until.filter(|seconds| *seconds > 0));
        Some(Self {
            external_id: [&of_id, &of_access].into_iter().flatten().find_map(|claims| external_id(provider, claims)),
            life_seconds: life.unwrap_or(DEFAULT_LIFE_SECONDS).min(LONGEST_LIFE_SECONDS),
            refresh_token: answer.refresh_token.filter(|token| !token.is_empty()),
            access_token,
        })
    }

    /// When the access token ends.
    pub fn end(&self, now: UnixMillis) -> UnixMillis {
        now.plus(self.life_seconds * 1_000)
    }
}

/// Tokens as they are stored, before they are sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub access_token: String,
    pub refresh_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account_id: Option<String>,
}

/// What is sealed opens for this account only.
fn place(account: &str, provider: Provider) -> String {
    serde_json::json!(["v1", account, provider.as_str(), SCHEMA]).to_string()
}

impl Kept {
    /// Sealed for an account.
    pub fn seal(&self, key: &SealingKey, account: &str, provider: Provider) -> Result<String, SealError> {
        key.seal(&serde_json::to_string(self).map_err(|_| SealError::Seal)?, &place(account, provider))
    }

    /// Of an account, opened.
    pub fn open(key: &SealingKey, sealed: &str, account: &str, provider: Provider) -> Result<Self, SealError> {
        serde_json::from_str(&key.open(sealed, &place(account, provider))?).map_err(|_| SealError::Open)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    pub fn jwt(claims: &Value) -> String {
        format!("{}.{}.sig", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn read(provider: Provider, body: &Value) -> Option<Tokens> {
        Tokens::read(provider, body.to_string().as_bytes(), NOW)
    }

    #[test]
    fn whose_tokens_are_is_read_from_the_id_token_first() {
        let id = jwt(&json!({"https://api.openai.com/auth": {"chatgpt_account_id": "acc-1"}}));
        let access = jwt(&json!({"chatgpt_account_id": "acc-2", "exp": NOW.0 / 1000 + 120}));
        let both = read(Provider::Openai, &json!({"access_token": access, "id_token": id, "refresh_token": "r"}));
        let both = both.expect("tokens");
        assert_eq!((both.external_id.as_deref(), both.life_seconds), (Some("acc-1"), 120));
        let organisation = jwt(&json!({"organizations": [{"id": "org-1"}]}));
        for (body, expected) in [
            (json!({"access_token": access}), Some("acc-2")),
            (json!({"access_token": "opaque", "id_token": organisation}), Some("org-1")),
            (json!({"access_token": "opaque"}), None),
            (json!({"access_token": "a.b.c", "id_token": "x..y"}), None),
        ] {
            assert_eq!(read(Provider::Openai, &body).expect("tokens").external_id.as_deref(), expected, "{body}");
        }
        let subject = jwt(&json!({"sub": "user-1"}));
        let xai = read(Provider::Xai, &json!({"access_token": "o", "id_token": subject})).expect("tokens");
        assert_eq!(xai.external_id.as_deref(), Some("user-1"));
        assert_eq!(read(Provider::Xai, &json!({"access_token": ""})), None);
        assert_eq!(read(Provider::Xai, &json!([])), None);
        assert!(!format!("{xai:?}").contains('o') || !format!("{xai:?}").contains("access_token"));
    }

    #[test]
    fn a_life_is_a_positive_number_and_no_longer_than_a_week() {
        for (said, expected) in [
            (json!(600), 600),
            (json!("600"), 600),
            (json!(0), 3_600),
            (json!(-5), 3_600),
            (json!("soon"), 3_600),
            (json!(null), 3_600),
            (json!(9_999_999), 604_800),
        ] {
            let tokens = read(Provider::Xai, &json!({"access_token": "a", "expires_in": said})).expect("tokens");
            assert_eq!(tokens.life_seconds, expected, "{said}");
        }
    }

    #[test]
    fn tokens_that_are_moved_to_another_account_do_not_open() {
        let key = SealingKey::from_base64("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=").expect("32 bytes");
        let kept = Kept {
            access_token: "at".to_owned(),
            refresh_token: "rt".to_owned(),
            external_account_id: Some("x".to_owned()),
        };
        let sealed = kept.seal(&key, "one", Provider::Openai).expect("seals");
        assert!(Kept::open(&key, &sealed, "one", Provider::Openai).is_ok_and(|opened| opened == kept));
        assert!(Kept::open(&key, &sealed, "two", Provider::Openai).is_err());
        assert!(Kept::open(&key, &sealed, "one", Provider::Xai).is_err());
        assert_eq!(place("one", Provider::Openai), r#"["v1","one","openai",1]"#);
    }
}
