//! Google as a sign-in provider: OpenID Connect's code flow. Who it is, the ID token says; nothing else is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use oi_worker_kit::http_client::Call;
use oi_worker_kit::log::Line;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::admission::{AllowList, Candidate, Verdict};
use super::id_token::{self, Expected, Identity, Rejected, TokenError};
use super::sign_in::{Answered, Asked, NotSignedIn, Proven};
use crate::source_control::github::user_account::UserTokens;

const DEADLINE: Duration = Duration::from_secs(10);

/// The OAuth client at Google, and where Google is.
pub struct GoogleClient {
    issuer: String,
    authorize_url: String,
    token_url: String,
    keys_url: String,
    id: String,
    secret: String,
}

/// What the token endpoint gave.
pub struct Given {
    /// Who it is.
    pub identity: Identity,
    /// When there was consent to be asked about later.
    pub tokens: Option<UserTokens>,
}

/// Why nobody is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoogleError {
    /// The code or refresh token is wrong, used or revoked, or the ID token proves nothing.
    Refused(String),
    /// The account has no verified e-mail.
    NoEmail,
    /// Google could not be asked.
    Failed(Failure),
}

impl From<Failure> for GoogleError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<i64>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

fn unreachable() -> Failure {
    Refusal::upstream("Google could not be reached. Try again in a moment.").into()
}

fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish().into_bytes()
}

impl GoogleClient {
    /// From `GOOGLE_CLIENT_ID` and `GOOGLE_CLIENT_SECRET`. `GOOGLE_ISSUER` and the URLs are Google's own unless set.
    pub fn of(vars: &impl Vars) -> Result<Self, Failure> {
        let (Some(id), Some(secret)) = (vars.get("GOOGLE_CLIENT_ID"), vars.get("GOOGLE_CLIENT_SECRET")) else {
            return Err(Refusal::not_configured("Sign-in providers are not configured").into());
        };
        Ok(Self {
            issuer: vars.get_or("GOOGLE_ISSUER", "https://accounts.google.com"),
            authorize_url: vars.get_or("GOOGLE_AUTHORIZE_URL", "https://accounts.google.com/o/oauth2/v2/auth"),
            token_url: vars.get_or("GOOGLE_TOKEN_URL", "https://oauth2.googleapis.com/token"),
            keys_url: vars.get_or("GOOGLE_KEYS_URL", "https://www.googleapis.com/oauth2/v3/certs"),
            id,
            secret,
        })
    }

    fn page(&self, asked: &Asked<'_>) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs([
            ("client_id", self.id.as_str()),
            ("redirect_uri", asked.redirect_uri),
            ("response_type", "code"),
            ("scope", "openid email profile"),
            ("state", asked.state),
            ("nonce", asked.nonce),
            ("code_challenge", asked.challenge),
            ("code_challenge_method", "S256"),
            // Gives a refresh token at the first consent: by it we hear later whether the account still is.
            ("access_type", "offline"),
            ("prompt", "select_account"),
        ]);
        format!("{}?{}", self.authorize_url, query.finish())
    }

    async fn token(&self, fields: &[(&str, &str)], nonce: Option<&str>) -> Result<Given, GoogleError> {
        let client = [("client_id", self.id.as_str()), ("client_secret", self.secret.as_str())];
        let body = form(&[fields, &client].concat());
        let call = Call::post(&self.token_url).body(body, "application/x-www-form-urlencoded").within(DEADLINE);
        let answer = call.header("Accept", "application/json").send().await.map_err(|error| {
            Line::warn("control-plane", "google.unreachable").with("error", error.to_string()).write();
            unreachable()
        })?;
        if answer.is_transient() {
            return Err(unreachable().into());
        }
        let given: TokenAnswer =
            answer.json().map_err(|error| Fault::new("reading Google's answer", error)).map_err(Failure::from)?;
        if let Some(error) = given.error {
            let error = oi_protocol::text::truncate_bytes(&error, 100).to_owned();
            // Our own client is wrong: that says nothing of the person.
            if matches!(error.as_str(), "invalid_client" | "unauthorized_client") {
                return Err(Failure::from(Fault::new("asking Google for a token", error)).into());
            }
            return Err(GoogleError::Refused(error));
        }
        let id_token = given.id_token.ok_or_else(|| GoogleError::Refused("no ID token".to_owned()))?;
        let expected = Expected { issuer: &self.issuer, audience: &self.id, nonce, now: clock::now() };
        let identity = match id_token::verify(&id_token, &expected, &self.keys_url).await {
            Ok(identity) => identity,
            Err(TokenError::Rejected(Rejected::Email)) => return Err(GoogleError::NoEmail),
            Err(TokenError::Rejected(reason)) => return Err(GoogleError::Refused(reason.to_string())),
            Err(TokenError::Keys(error)) => {
                Line::warn("control-plane", "google.keys_unavailable").with("error", error).write();
                return Err(unreachable().into());
            }
        };
        let tokens = given.refresh_token.map(|refresh_token| UserTokens {
            access_token: given.access_token.unwrap_or_default(),
            expires_in: given.expires_in,
            refresh_token: Some(refresh_token),
        });
        Ok(Given { identity, tokens })
    }

    /// Who a code stands for.
    async fn exchange(&self, answered: &Answered<'_>) -> Result<Given, GoogleError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", answered.code),
            ("redirect_uri", answered.redirect_uri),
            ("code_verifier", answered.verifier),
        ];
        self.token(&fields, Some(answered.nonce)).await
    }

    /// Who a refresh token stands for, as of now.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Given, GoogleError> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)], None).await
    }
}

/// Refuses a deployment that lacks a setting, or whose lists could never admit anybody by their e-mail.
pub fn require_configured(vars: &impl Vars) -> Result<(), Failure> {
    GoogleClient::of(vars)?;
    if AllowList::of(vars).can_admit_by_email() {
        return Ok(());
    }
    let sentence = "Nobody may sign in with Google: set ALLOWED_EMAILS or ALLOWED_EMAIL_DOMAINS";
    Err(Refusal::not_configured(sentence).into())
}

/// Google's page.
pub fn authorize_url(vars: &impl Vars, asked: &Asked<'_>) -> Result<String, Failure> {
    Ok(GoogleClient::of(vars)?.page(asked))
}

/// Exchanges the code, and asks the ID token and the lists who this is.
pub async fn prove(vars: &impl Vars, answered: &Answered<'_>) -> Result<Result<Proven, NotSignedIn>, Failure> {
    let given = match GoogleClient::of(vars)?.exchange(answered).await {
        Ok(given) => given,
        Err(GoogleError::Refused(reason)) => {
            Line::info("control-plane", "google.not_proven").with("reason", reason).write();
            return Ok(Err(NotSignedIn::InvalidCode));
        }
        Err(GoogleError::NoEmail) => return Ok(Err(NotSignedIn::EmailNotVerified)),
        Err(GoogleError::Failed(failure)) => return Err(failure),
    };
    let verified_emails = vec![given.identity.email];
    let candidate = Candidate { login: None, verified_emails: &verified_emails };
    if AllowList::of(vars).ask(candidate) != Verdict::Admitted {
        return Ok(Err(NotSignedIn::NotAllowed));
    }
    Ok(Ok(Proven {
        provider_user_id: given.identity.subject,
        login: None,
        name: given.identity.name,
        avatar_url: given.identity.picture,
        verified_emails,
        organizations: BTreeMap::new(),
        tokens: given.tokens,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap as Map;

    fn vars<'a>(more: &[(&'a str, &'a str)]) -> Map<&'a str, &'a str> {
        let mut vars = Map::from([("GOOGLE_CLIENT_ID", "id"), ("GOOGLE_CLIENT_SECRET", "secret")]);
        vars.extend(more.iter().copied());
        vars
    }

    #[test]
    fn google_is_offered_when_it_is_set_up_and_the_lists_know_emails() {
        assert!(require_configured(&vars(&[("ALLOWED_EMAILS", "a@x.org")])).is_ok());
        assert!(require_configured(&vars(&[("UNSAFE_ALLOW_ALL_USERS", "true")])).is_ok());
        assert!(require_configured(&vars(&[("ALLOWED_USERS", "ada")])).is_err());
        assert!(require_configured(&vars(&[("ALLOWED_GITHUB_ORGS", "acme")])).is_err());
        assert!(require_configured(&Map::from([("GOOGLE_CLIENT_ID", "id"), ("ALLOWED_EMAILS", "a@x.org")])).is_err());
    }

    #[test]
    fn the_page_is_asked_for_an_id_token_of_this_sign_in_alone() {
        let asked = Asked {
            redirect_uri: "https://app.example.com/api/auth/callback/google",
            state: "s&t",
            challenge: "c",
            nonce: "n",
        };
        let page = authorize_url(&vars(&[]), &asked).expect("set up");
        let url = url::Url::parse(&page).expect("a URL");
        assert_eq!((url.host_str(), url.path()), (Some("accounts.google.com"), "/o/oauth2/v2/auth"));
        let query: Map<String, String> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("state", "s&t"),
            ("nonce", "n"),
            ("code_challenge", "c"),
            ("code_challenge_method", "S256"),
            ("response_type", "code"),
            ("redirect_uri", asked.redirect_uri),
        ] {
            assert_eq!(query.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!page.contains("secret"));
    }
}
