//! The token endpoints of the two providers, and how a device is authorised there. Nothing of an answer is logged.

use std::time::Duration;

use oi_protocol::UnixMillis;
use oi_worker_kit::clock;
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::vars::Vars;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Provider;
use super::tokens::Tokens;

const WITHIN: Duration = Duration::from_secs(10);
const OPENAI_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
const XAI_CLIENT: &str = "b1a00492-073a-47ea-816f-4c329264a828";
const XAI_SCOPE: &str = "openid profile email offline_access grok-cli:access api:access";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// A transaction lives this long, in seconds, unless the provider ends it before.
const DEVICE_LIFE_SECONDS: i64 = 600;
/// Between two questions whether a device is authorised, in seconds.
const INTERVAL_SECONDS: std::ops::RangeInclusive<i64> = 1..=60;
const DEFAULT_INTERVAL_SECONDS: i64 = 5;

/// Why there are no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The provider takes what was shown no more.
    #[error("the provider refused the credential")]
    Unauthorized,
    /// It did not look at it: the same can be shown again.
    #[error("the provider cannot answer now")]
    RetrySafe,
    /// Nobody knows whether it did. The same is shown again; if it was used up, the provider says so then.
    #[error("the provider's answer was lost")]
    Ambiguous,
}

/// A device that was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_url: String,
    /// How often to ask.
    pub interval_ms: i64,
    /// When it is over.
    pub expires_at: UnixMillis,
    /// What is kept for the questions; a secret.
    pub kept: DeviceKept,
}

/// What asking takes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum DeviceKept {
    /// OpenAI's.
    Openai { device_auth_id: String, user_code: String },
    /// xAI's.
    Xai { device_code: String },
}

/// What a question gave.
pub enum Polled {
    /// The person has not answered; ask after this.
    Pending { interval_ms: i64 },
    /// The person said no.
    Denied,
    /// It is over.
    Expired,
    /// It came to nothing.
    Failed,
    /// Tokens.
    Authorized(Tokens),
}

/// What is asked of providers.
pub trait Exchange {
    /// New tokens for a refresh token.
    async fn refresh(&self, provider: Provider, refresh_token: &str) -> Result<Tokens, ExchangeError>;
    /// Whose an access token is, by the provider's own word.
    async fn identity(&self, provider: Provider, tokens: &Tokens) -> Result<Option<String>, ExchangeError>;
    /// Asks for a device.
    async fn begin_device(&self, provider: Provider) -> Result<Device, ExchangeError>;
    /// Asks whether it is authorised.
    async fn poll_device(&self, kept: &DeviceKept, interval_ms: i64) -> Result<Polled, ExchangeError>;
}

/// The providers as the deployment reaches them.
pub struct Providers {
    openai: String,
    xai: String,
}

impl Providers {
    /// `OPENAI_AUTH_URL` and `XAI_AUTH_URL` stand for others in tests.
    pub fn of(vars: &impl Vars) -> Self {
        let base = |name, default| vars.get_or(name, default).trim_end_matches('/').to_owned();
        Self {
            openai: base("OPENAI_AUTH_URL", "https://auth.openai.com"),
            xai: base("XAI_AUTH_URL", "https://auth.x.ai"),
        }
    }

    fn token_url(&self, provider: Provider) -> String {
        match provider {
            Provider::Openai => format!("{}/oauth/token", self.openai),
            Provider::Xai => format!("{}/oauth2/token", self.xai),
        }
    }

    async fn token_call(&self, provider: Provider, fields: &[(&str, &str)]) -> Result<Answer, ExchangeError> {
        form(self.token_url(provider), fields).await
    }
}

/// A form. What never left is told from what may have arrived only where the platform knows it: it does not, so that
/// every missing answer is ambiguous.
async fn form(url: String, fields: &[(&str, &str)]) -> Result<Answer, ExchangeError> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let call = Call::post(url).header("Accept", "application/json");
    let call = call.body(body.into_bytes(), "application/x-www-form-urlencoded").within(WITHIN);
    call.send().await.map_err(|_| ExchangeError::Ambiguous)
}

/// The word of an error, where the two providers write it.
fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = &body["error"];
    let word = error.as_str().or_else(|| error["code"].as_str()).or_else(|| body["code"].as_str())?;
    Some(word.to_ascii_lowercase())
}

/// What an answer of a token endpoint without tokens means.
fn classify(status: u16, body: &[u8]) -> ExchangeError {
    let code = error_code(body);
    let refused = matches!(
        code.as_deref(),
        Some("invalid_grant" | "refresh_token_expired" | "refresh_token_reused" | "refresh_token_invalidated")
    );
    match status {
        401 => ExchangeError::Unauthorized,
        400..=499 if refused => ExchangeError::Unauthorized,
        200..=299 => ExchangeError::Ambiguous,
        _ => ExchangeError::RetrySafe,
    }
}

fn tokens(provider: Provider, answer: &Answer) -> Result<Tokens, ExchangeError> {
    if !answer.is_success() {
        return Err(classify(answer.status, &answer.body));
    }
    Tokens::read(provider, &answer.body, clock::now()).ok_or(ExchangeError::Ambiguous)
}

fn interval_ms(said: &Value) -> i64 {
    let seconds = said.as_i64().or_else(|| said.as_str()?.trim().parse().ok()).unwrap_or(DEFAULT_INTERVAL_SECONDS);
    seconds.clamp(*INTERVAL_SECONDS.start(), *INTERVAL_SECONDS.end()) * 1_000
}

/// A page that people may be sent to: https, or where the provider itself is reached in tests.
fn is_page_of(url: &str, base: &str) -> bool {
    let host =
        |text: &str| url::Url::parse(text).ok().map(|url| (url.scheme().to_owned(), url.host_str().map(str::to_owned)));
    let Some((scheme, Some(name))) = host(url) else { return false };
    let same = host(base) == Some((scheme.clone(), Some(name.clone())));
    url.len() <= 2_048 && (same || (scheme == "https" && (name == "x.ai" || name.ends_with(".x.ai"))))
}

#[derive(Deserialize)]
struct OpenaiDevice {
    device_auth_id: String,
    #[serde(alias = "usercode")]
    user_code: String,
    #[serde(default)]
    interval: Value,
}

#[derive(Deserialize)]
struct XaiDevice {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    interval: Value,
}

#[derive(Deserialize)]
struct OpenaiCode {
    authorization_code: String,
    code_verifier: String,
}

fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
}

/// What xAI's token endpoint says of a device that has no tokens yet.
fn polled(status: u16, body: &[u8], interval_ms: i64) -> Result<Polled, ExchangeError> {
    match error_code(body).as_deref() {
        Some("authorization_pending") => Ok(Polled::Pending { interval_ms }),
        Some("slow_down") => Ok(Polled::Pending { interval_ms: (interval_ms + 5_000).min(60_000) }),
        Some("access_denied") => Ok(Polled::Denied),
        Some("expired_token") => Ok(Polled::Expired),
        _ if status == 429 || status >= 500 => Err(ExchangeError::RetrySafe),
        _ => Ok(Polled::Failed),
    }
}

impl Exchange for Providers {
    async fn refresh(&self, provider: Provider, refresh_token: &str) -> Result<Tokens, ExchangeError> {
        let client_id = match provider {
            Provider::Openai => OPENAI_CLIENT,
            Provider::Xai => XAI_CLIENT,
        };
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("client_id", client_id)];
        tokens(provider, &self.token_call(provider, &fields).await?)
    }

    async fn identity(&self, provider: Provider, tokens: &Tokens) -> Result<Option<String>, ExchangeError> {
        if provider == Provider::Openai {
            return Ok(tokens.external_id.clone());
        }
        let call = Call::get(format!("{}/oauth2/userinfo", self.xai)).bearer(&tokens.access_token).within(WITHIN);
        let answer = call.send().await.map_err(|_| ExchangeError::RetrySafe)?;
        if !answer.is_success() {
            return Err(classify(answer.status, &answer.body));
        }
        let info: Value = answer.json().map_err(|_| ExchangeError::RetrySafe)?;
        Ok(info["sub"].as_str().filter(|subject| (1..=512).contains(&subject.len())).map(str::to_owned))
    }

    async fn begin_device(&self, provider: Provider) -> Result<Device, ExchangeError> {
        let ends = |seconds: i64| clock::now().plus(seconds.clamp(1, DEVICE_LIFE_SECONDS) * 1_000);
        match provider {
            Provider::Openai => {
                let url = format!("{}/api/accounts/deviceauth/usercode", self.openai);
                let answer = Call::post(url).json(&json!({"client_id": OPENAI_CLIENT})).within(WITHIN).send().await;
                let answer = answer.map_err(|_| ExchangeError::RetrySafe)?;
                if !answer.is_success() {
                    return Err(classify(answer.status, &answer.body));
                }
                let device: OpenaiDevice = answer.json().map_err(|_| ExchangeError::RetrySafe)?;
                if !is_code(&device.user_code) || device.device_auth_id.is_empty() {
                    return Err(ExchangeError::RetrySafe);
                }
                Ok(Device {
                    user_code: device.user_code.clone(),
                    verification_url: format!("{}/codex/device", self.openai),
                    interval_ms: interval_ms(&device.interval),
                    expires_at: ends(DEVICE_LIFE_SECONDS),
                    kept: DeviceKept::Openai { device_auth_id: device.device_auth_id, user_code: device.user_code },
                })
            }
            Provider::Xai => {
                let url = format!("{}/oauth2/device/code", self.xai);
                let answer = form(url, &[("client_id", XAI_CLIENT), ("scope", XAI_SCOPE)]).await;
                let answer = answer.map_err(|_| ExchangeError::RetrySafe)?;
                if !answer.is_success() {
                    return Err(classify(answer.status, &answer.body));
                }
                let device: XaiDevice = answer.json().map_err(|_| ExchangeError::RetrySafe)?;
                let page = device.verification_uri_complete.filter(|url| is_page_of(url, &self.xai));
                let page = page.unwrap_or(device.verification_uri);
                if !is_code(&device.user_code) || device.device_code.is_empty() || !is_page_of(&page, &self.xai) {
                    return Err(ExchangeError::RetrySafe);
                }
                let life = device.expires_in.as_i64().filter(|life| *life > 0).unwrap_or(DEVICE_LIFE_SECONDS);
                Ok(Device {
                    user_code: device.user_code,
                    verification_url: page,
                    interval_ms: interval_ms(&device.interval),
                    expires_at: ends(life),
                    kept: DeviceKept::Xai { device_code: device.device_code },
                })
            }
        }
    }

    async fn poll_device(&self, kept: &DeviceKept, interval_ms: i64) -> Result<Polled, ExchangeError> {
        match kept {
            DeviceKept::Openai { device_auth_id, user_code } => {
                let url = format!("{}/api/accounts/deviceauth/token", self.openai);
                let body = json!({"device_auth_id": device_auth_id, "user_code": user_code});
                let answer = Call::post(url).json(&body).within(WITHIN).send().await;
                let answer = answer.map_err(|_| ExchangeError::RetrySafe)?;
                match answer.status {
                    200..=299 => {}
                    403 | 404 => return Ok(Polled::Pending { interval_ms }),
                    429 | 500.. => return Err(ExchangeError::RetrySafe),
                    _ => return Ok(Polled::Failed),
                }
                let Ok(code) = answer.json::<OpenaiCode>() else { return Ok(Polled::Failed) };
                let redirect = format!("{}/deviceauth/callback", self.openai);
                let fields = [
                    ("grant_type", "authorization_code"),
                    ("code", code.authorization_code.as_str()),
                    ("redirect_uri", &redirect),
                    ("client_id", OPENAI_CLIENT),
                    ("code_verifier", &code.code_verifier),
                ];
                // The code is good once. Whatever goes wrong, the person begins anew.
                let answer = self.token_call(Provider::Openai, &fields).await;
                Ok(answer
                    .and_then(|answer| tokens(Provider::Openai, &answer))
                    .map_or(Polled::Failed, Polled::Authorized))
            }
            DeviceKept::Xai { device_code } => {
                let fields = [("grant_type", DEVICE_GRANT), ("device_code", device_code), ("client_id", XAI_CLIENT)];
                let answer = self.token_call(Provider::Xai, &fields).await.map_err(|_| ExchangeError::RetrySafe)?;
                if answer.is_success() {
                    return Ok(tokens(Provider::Xai, &answer).map_or(Polled::Failed, Polled::Authorized));
                }
                polled(answer.status, &answer.body, interval_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_provider_refused_for_good_ends_an_account() {
        use ExchangeError::{Ambiguous, RetrySafe, Unauthorized};
        for (status, body, expected) in [
            (401, "", Unauthorized),
            (401, r#"{"error":{"code":"refresh_token_reused"}}"#, Unauthorized),
            (400, r#"{"error":"invalid_grant"}"#, Unauthorized),
            (403, r#"{"error":{"code":"refresh_token_expired"}}"#, Unauthorized),
            (400, r#"{"code":"refresh_token_invalidated"}"#, Unauthorized),
            (400, r#"{"error":"invalid_request"}"#, RetrySafe),
            (403, "<html>", RetrySafe),
            (429, r#"{"error":"rate_limited"}"#, RetrySafe),
            (500, r#"{"error":"invalid_grant"}"#, RetrySafe),
            (503, "", RetrySafe),
            (200, "not JSON", Ambiguous),
        ] {
            assert_eq!(classify(status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_device_waits_slows_down_or_ends_as_rfc_8628_says() {
        let of = |status, body: &str| match polled(status, body.as_bytes(), 5_000) {
            Ok(Polled::Pending { interval_ms }) => format!("pending {interval_ms}"),
            Ok(Polled::Denied) => "denied".to_owned(),
            Ok(Polled::Expired) => "expired".to_owned(),
            Ok(Polled::Failed) => "failed".to_owned(),
            Ok(Polled::Authorized(_)) => "tokens".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        for (status, body, expected) in [
            (400, r#"{"error":"authorization_pending"}"#, "pending 5000"),
            (400, r#"{"error":"slow_down"}"#, "pending 10000"),
            (400, r#"{"error":"access_denied"}"#, "denied"),
            (400, r#"{"error":"expired_token"}"#, "expired"),
            (400, r#"{"error":"invalid_client"}"#, "failed"),
            (502, "", "RetrySafe"),
        ] {
            assert_eq!(of(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn intervals_are_between_a_second_and_a_minute() {
        for (said, expected) in
            [(json!("5"), 5_000), (json!(0), 1_000), (json!(600), 60_000), (json!(null), 5_000), (json!("x"), 5_000)]
        {
            assert_eq!(interval_ms(&said), expected, "{said}");
        }
    }

    #[test]
    fn people_are_sent_to_the_provider_and_nowhere_else() {
        let base = "https://auth.x.ai";
        for (url, fits) in [
            ("https://accounts.x.ai/device?user_code=A", true),
            ("https://auth.x.ai/device", true),
            ("http://accounts.x.ai/device", false),
            ("https://x.ai.example.com/", false),
            ("https://evilx.ai/", false),
            ("javascript:alert(1)", false),
            ("", false),
        ] {
            assert_eq!(is_page_of(url, base), fits, "{url}");
        }
        assert!(is_page_of("http://127.0.0.1:9/device", "http://127.0.0.1:9"));
    }
}
