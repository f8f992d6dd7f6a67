//! People's tokens at GitLab.

use std::time::Duration;

use oi_worker_kit::http_client::Call;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};
use serde::Deserialize;
use serde_json::json;

use super::{GitlabUrls, refused};
use crate::source_control::ForgeError;
use crate::source_control::github::user_account::{OauthError, UserTokens};

const DEADLINE: Duration = Duration::from_secs(10);
/// Life of a token whose life GitLab does not state, in seconds.
const FALLBACK_LIFE_SECONDS: i64 = 7_200;

/// The OAuth application of the deployment.
pub struct GitlabOauth {
    urls: GitlabUrls,
    id: String,
    secret: String,
    user_agent: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    expires_in: Option<i64>,
    refresh_token: Option<String>,
}

#[derive(Deserialize, Default)]
struct Problem {
    error: Option<String>,
}

impl GitlabOauth {
    /// From `GITLAB_CLIENT_ID` and `GITLAB_CLIENT_SECRET`.
    pub fn of(vars: &impl Vars) -> Result<Self, Failure> {
        let (Some(id), Some(secret)) = (vars.get("GITLAB_CLIENT_ID"), vars.get("GITLAB_CLIENT_SECRET")) else {
            return Err(Refusal::not_configured("GITLAB_CLIENT_ID and GITLAB_CLIENT_SECRET are not set").into());
        };
        Ok(Self { urls: GitlabUrls::of(vars), id, secret, user_agent: vars.get_or("APP_NAME", "Open-Inspect") })
    }

    /// New tokens for a refresh token, which is used up by this.
    pub async fn refresh(&self, refresh_token: &str) -> Result<UserTokens, OauthError> {
        let body = json!({
            "client_id": self.id,
            "client_secret": self.secret,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
        });
        let call = Call::post(format!("{}/oauth/token", self.urls.web))
            .header("Accept", "application/json")
            .header("User-Agent", &self.user_agent)
            .json(&body)
            .within(DEADLINE);
        let answer = call.send().await.map_err(ForgeError::from)?;
        if !answer.is_success() {
            let problem: Problem = answer.json().unwrap_or_default();
            // The token's fault, and not that of our own name and secret.
            return Err(match problem.error.as_deref() {
                Some(error @ ("invalid_grant" | "invalid_request")) => OauthError::Refused(error.to_owned()),
                _ => refused(&answer, "asking for a user's token").into(),
            });
        }
        let token: TokenAnswer = answer.json().map_err(ForgeError::from)?;
        let Some(access_token) = token.access_token.filter(|token| !token.is_empty()) else {
            return Err(OauthError::Refused("no token in the answer".to_owned()));
        };
        let expires_in = token.expires_in.or(token.refresh_token.as_ref().map(|_| FALLBACK_LIFE_SECONDS));
        Ok(UserTokens { access_token, expires_in, refresh_token: token.refresh_token })
    }
}
