//! People at GitHub: the OAuth exchange, and what GitHub says about who signs in.

use std::time::Duration;

use oi_worker_kit::http_client::Call;
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};
use serde::Deserialize;
use serde_json::json;

use super::{GithubUrls, ask, decorated, refused};
use crate::source_control::ForgeError;

const TOKEN_DEADLINE: Duration = Duration::from_secs(10);
/// Life of a token whose life GitHub does not state, in seconds.
const FALLBACK_LIFE_SECONDS: i64 = 28_800;

/// The OAuth client of the App.
pub struct OauthClient {
    urls: GithubUrls,
    id: String,
    secret: String,
    user_agent: String,
}

/// Tokens of a person.
#[derive(Clone, PartialEq, Eq)]
pub struct UserTokens {
    /// Access token.
    pub access_token: String,
    /// Its life in seconds; `None` when it does not end.
    pub expires_in: Option<i64>,
    /// Refresh token, when the access token ends.
    pub refresh_token: Option<String>,
}

/// Why no tokens were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// The code or refresh token is wrong, used or too old.
    #[error("GitHub refused: {0}")]
    Refused(String),
    /// It could not be asked.
    #[error(transparent)]
    Forge(#[from] ForgeError),
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    expires_in: Option<i64>,
    refresh_token: Option<String>,
    error: Option<String>,
}

/// Who signs in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GithubUser {
    /// Never changes.
    pub id: i64,
    /// May change.
    pub login: String,
    /// The name to show.
    pub name: Option<String>,
    /// URL of a picture.
    pub avatar_url: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    #[serde(rename = "email")]
    address: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

impl OauthClient {
    /// From `GITHUB_CLIENT_ID` and `GITHUB_CLIENT_SECRET`.
    pub fn of(vars: &impl Vars) -> Result<Self, Failure> {
        let (Some(id), Some(secret)) = (vars.get("GITHUB_CLIENT_ID"), vars.get("GITHUB_CLIENT_SECRET")) else {
            return Err(Refusal::not_configured("Sign-in providers are not configured").into());
        };
        let user_agent = vars.get_or("APP_NAME", "Open-Inspect");
        Ok(Self { urls: GithubUrls::of(vars), id, secret, user_agent })
    }

    /// Where a browser goes to sign in. `challenge` is that of PKCE, S256.
    pub fn authorize_url(&self, redirect_uri: &str, state: &str, challenge: &str) -> String {
        format!(
            "{}/login/oauth/authorize?client_id={}&redirect_uri={}&state={state}&code_challenge={challenge}\
             &code_challenge_method=S256",
            self.urls.web,
            encode_component(&self.id),
            encode_component(redirect_uri),
        )
    }

    async fn token(&self, fields: serde_json::Value) -> Result<UserTokens, OauthError> {
        let mut body = json!({"client_id": self.id, "client_secret": self.secret});
        if let (Some(body), serde_json::Value::Object(fields)) = (body.as_object_mut(), fields) {
            body.extend(fields);
        }
        let call = Call::post(format!("{}/login/oauth/access_token", self.urls.web))
            .header("Accept", "application/json")
            .header("User-Agent", &self.user_agent)
            .json(&body)
            .within(TOKEN_DEADLINE);
        let answer = call.send().await.map_err(ForgeError::from)?;
        if !answer.is_success() {
            return Err(refused(&answer, "asking for a user's token").into());
        }
        // GitHub answers 200 to refusals, too.
        let token: TokenAnswer = answer.json().map_err(ForgeError::from)?;
        if let Some(error) = token.error {
            return Err(OauthError::Refused(oi_protocol::text::truncate_bytes(&error, 100).to_owned()));
        }
        let Some(access_token) = token.access_token.filter(|token| !token.is_empty()) else {
            return Err(OauthError::Refused("no token in the answer".to_owned()));
        };
        let expires_in = token.expires_in.or(token.refresh_token.as_ref().map(|_| FALLBACK_LIFE_SECONDS));
        Ok(UserTokens { access_token, expires_in, refresh_token: token.refresh_token })
    }

    /// Tokens for a code. `verifier` is that of PKCE.
    pub async fn exchange(&self, code: &str, redirect_uri: &str, verifier: &str) -> Result<UserTokens, OauthError> {
        self.token(json!({"code": code, "redirect_uri": redirect_uri, "code_verifier": verifier})).await
    }

    /// New tokens for a refresh token, which is used up by this.
    pub async fn refresh(&self, refresh_token: &str) -> Result<UserTokens, OauthError> {
        self.token(json!({"grant_type": "refresh_token", "refresh_token": refresh_token})).await
    }

    fn get(&self, path: &str, access_token: &str) -> Call {
        let call = Call::get(format!("{}{path}", self.urls.api)).bearer(access_token);
        decorated(call, &self.user_agent).within(TOKEN_DEADLINE)
    }

    /// Whose token it is.
    pub async fn user(&self, access_token: &str) -> Result<GithubUser, ForgeError> {
        let answer = ask(self.get("/user", access_token)).await?;
        if answer.is_success() { Ok(answer.json()?) } else { Err(refused(&answer, "reading a profile")) }
    }

    /// Their verified e-mails, the primary one first. None when the App may not read them.
    pub async fn verified_emails(&self, access_token: &str) -> Result<Vec<String>, ForgeError> {
        let answer = ask(self.get("/user/emails?per_page=100", access_token)).await?;
        if matches!(answer.status, 403 | 404) {
            return Ok(Vec::new());
        }
        if !answer.is_success() {
            return Err(refused(&answer, "reading e-mails"));
        }
        let mut emails: Vec<Email> = answer.json()?;
        emails.retain(|email| email.verified);
        emails.sort_by_key(|email| !email.primary);
        Ok(emails.into_iter().map(|email| email.address).collect())
    }

    /// Whether they are an active member of an organization.
    pub async fn is_active_member(&self, access_token: &str, organization: &str) -> Result<bool, ForgeError> {
        #[derive(Deserialize)]
        struct Membership {
            state: String,
        }
        let path = format!("/user/memberships/orgs/{}", encode_component(organization));
        let answer = ask(self.get(&path, access_token)).await?;
        match answer.status {
            200 => Ok(answer.json::<Membership>()?.state == "active"),
            404 => Ok(false),
            _ => Err(refused(&answer, "reading a membership")),
        }
    }
}
