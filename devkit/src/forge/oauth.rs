//! Signing in with the forge: GitHub's web application flow with PKCE, and refresh tokens. There are no passwords:
//! whoever reaches the page picks one of the configured people.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json};
use base64::Engine as _;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::api::error::ApiError;
use super::store::oauth_codes::{self, Code};
use super::store::tokens::{self, REFRESH_TOKEN_SECONDS, USER_TOKEN_SECONDS, UserTokens};
use super::{Forge, Shared, pages};

/// Longest `state` and `redirect_uri`, in bytes.
const MAX_PARAMETER_BYTES: usize = 2_048;

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/login/oauth/authorize", get(show).post(consent))
        .route("/login/oauth/access_token", post(exchange))
}

/// What an authorization request carries.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Authorize {
    pub client_id: String,
    pub redirect_uri: String,
    pub state: String,
    pub code_challenge: String,
    pub code_challenge_method: String,
    /// On the page: who to suggest. In the form: who was picked.
    pub login: String,
}

/// The page on which a person picks who to be.
async fn show(State(forge): State<Shared>, Query(query): Query<Authorize>) -> Response {
    match check(&forge, &query) {
        Ok(redirect) => pages::sign_in::page(&forge, &query, &redirect),
        Err(refusal) => refusal.page(),
    }
}

/// The form's answer: back to the client with a code.
async fn consent(State(forge): State<Shared>, headers: HeaderMap, Form(form): Form<Authorize>) -> Response {
    if !same_origin(&headers) {
        return Refusal::new(StatusCode::FORBIDDEN, "This form was sent from another site.").page();
    }
    let mut redirect = match check(&forge, &form) {
        Ok(redirect) => redirect,
        Err(refusal) => return refusal.page(),
    };
    if form.login == "-" {
        redirect
            .query_pairs_mut()
            .append_pair("error", "access_denied")
            .append_pair("error_description", "The user has denied your application access.");
    } else {
        let Some(user) = forge.directory.user(&form.login) else {
            return Refusal::new(StatusCode::BAD_REQUEST, "There is no such person.").page();
        };
        let code = Code {
            user: user.id,
            redirect_uri: form.redirect_uri.clone(),
            challenge: (!form.code_challenge.is_empty()).then(|| form.code_challenge.clone()),
        };
        match forge.store.write(|db| oauth_codes::issue(db, &code)) {
            Ok(code) => {
                redirect.query_pairs_mut().append_pair("code", &code);
            }
            Err(error) => return ApiError::from(error).into_response(),
        }
    }
    if !form.state.is_empty() {
        redirect.query_pairs_mut().append_pair("state", &form.state);
    }
    (StatusCode::FOUND, [(header::LOCATION, redirect.to_string()), (header::CACHE_CONTROL, "no-store".to_owned())])
        .into_response()
}

/// A request that must not be answered by a redirect.
struct Refusal {
    status: StatusCode,
    message: &'static str,
}

impl Refusal {
    fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message }
    }

    fn page(self) -> Response {
        pages::message(self.status, "Sign-in is not possible", self.message)
    }
}

/// Checks an authorization request; answers where to go back to.
fn check(forge: &Forge, request: &Authorize) -> Result<Url, Refusal> {
    let bad = |message| Refusal::new(StatusCode::BAD_REQUEST, message);
    if request.client_id != forge.config.oauth.client_id {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "The client_id is not known here."));
    }
    if request.state.len() > MAX_PARAMETER_BYTES || request.redirect_uri.len() > MAX_PARAMETER_BYTES {
        return Err(bad("A parameter is too long."));
    }
    let redirect = Url::parse(&request.redirect_uri)
        .ok()
        .filter(|uri| redirect_allowed(forge, uri))
        .ok_or_else(|| bad("The redirect_uri is not associated with this application."))?;
    let challenge = &request.code_challenge;
    if !challenge.is_empty() {
        if request.code_challenge_method != "S256" {
            return Err(bad("The code_challenge_method must be S256."));
        }
        let fits =
            challenge.len() == 43 && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !fits {
            return Err(bad("The code_challenge is malformed."));
        }
    }
    Ok(redirect)
}

/// Same origin as a configured callback, and at or below its path.
fn redirect_allowed(forge: &Forge, uri: &Url) -> bool {
    uri.username().is_empty()
        && uri.password().is_none()
        && uri.fragment().is_none()
        && forge.config.oauth.redirect_origins.iter().any(|allowed| {
            let prefix = allowed.path().trim_end_matches('/');
            let rest = uri.path().strip_prefix(prefix);
            uri.origin() == allowed.origin() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// Browsers name the origin of a form that they post. Programs needn't: they hold no one's session to misuse.
fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host)
}

/// The body of a token request: form or JSON.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Exchange {
    client_id: String,
    client_secret: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    grant_type: String,
    refresh_token: String,
}

/// An error of the token endpoint; GitHub answers it with 200.
struct TokenError(&'static str, &'static str);

const BAD_CODE: TokenError = TokenError("bad_verification_code", "The code passed is incorrect or expired.");

async fn exchange(State(forge): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let content = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let parsed: Option<Exchange> = if content(header::CONTENT_TYPE).starts_with("application/json") {
        serde_json::from_slice(&body).ok()
    } else {
        let pairs: Value = url::form_urlencoded::parse(&body)
            .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
            .collect::<serde_json::Map<_, _>>()
            .into();
        serde_json::from_value(pairs).ok()
    };
    let Some(request) = parsed else {
        return ApiError::bad_request("Problems parsing JSON").into_response();
    };
    let answer = match grant(&forge, &request) {
        Ok(Ok(tokens)) => json!({
            "access_token": tokens.access,
            "expires_in": USER_TOKEN_SECONDS,
            "refresh_token": tokens.refresh,
            "refresh_token_expires_in": REFRESH_TOKEN_SECONDS,
            "token_type": "bearer",
            "scope": "",
        }),
        Ok(Err(TokenError(code, description))) => json!({
            "error": code,
            "error_description": description,
            "error_uri": "https://docs.github.com/apps/oauth",
        }),
        Err(fault) => return fault.into_response(),
    };
    let mut response = if content(header::ACCEPT).contains("application/json") {
        Json(answer).into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")], form_encoded(&answer))
            .into_response()
    };
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

fn grant(forge: &Forge, request: &Exchange) -> Result<Result<UserTokens, TokenError>, ApiError> {
    let oauth = &forge.config.oauth;
    if request.client_id != oauth.client_id || !oauth.client_secret.matches(&request.client_secret) {
        return Ok(Err(TokenError(
            "incorrect_client_credentials",
            "The client_id and/or client_secret passed are incorrect.",
        )));
    }
    match request.grant_type.as_str() {
        "" | "authorization_code" => {
            // Taking the code is stored even when the request turns out wrong: it was shown, so it is used.
            let code = forge.store.write(|db| oauth_codes::take(db, &request.code))?;
            let Some(code) = code else {
                return Ok(Err(BAD_CODE));
            };
            if !request.redirect_uri.is_empty() && request.redirect_uri != code.redirect_uri {
                return Ok(Err(TokenError(
                    "redirect_uri_mismatch",
                    "The redirect_uri MUST match the registered callback URL for this application.",
                )));
            }
            if let Some(challenge) = &code.challenge
                && !verifier_fits(&request.code_verifier, challenge)
            {
                return Ok(Err(BAD_CODE));
            }
            Ok(Ok(forge.store.write(|db| tokens::issue_for_user(db, code.user))?))
        }
        "refresh_token" => forge.store.write(|db| {
            Ok(match tokens::take_refresh(db, &request.refresh_token)? {
                Some(user) => Ok(tokens::issue_for_user(db, user)?),
                None => Err(TokenError("bad_refresh_token", "The refresh token passed is incorrect or expired.")),
            })
        }),
        _ => Ok(Err(TokenError("unsupported_grant_type", "The grant_type is not supported."))),
    }
}

/// PKCE, S256.
fn verifier_fits(verifier: &str, challenge: &str) -> bool {
    let made = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    (43..=128).contains(&verifier.len()) && bool::from(made.as_bytes().ct_eq(challenge.as_bytes()))
}

fn form_encoded(answer: &Value) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in answer.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => form.append_pair(name, text),
            other => form.append_pair(name, &other.to_string()),
        };
    }
    form.finish()
}
