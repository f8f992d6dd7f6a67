//! In place of Google's sign-in: OpenID Connect's code flow with PKCE, refresh tokens, published keys. There are no
//! passwords: whoever reaches the page picks one of the people. For tests it gives ID tokens that are wrong in one way.
//!
//! Everything is in memory and goes with the process.

mod id_token;
mod page;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use url::Url;

pub use id_token::Flaw;
use id_token::Keys;

/// Longest parameter, in bytes.
const MAX_PARAMETER_BYTES: usize = 2_048;
/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Codes and refresh tokens that are held at most.
const MAX_HELD: usize = 10_000;
/// Life of a code, in seconds.
const CODE_SECONDS: i64 = 600;

/// What a run is told.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Origin under which browsers and the control plane reach it; also its `iss`.
    pub public_url: Url,
    pub client_id: String,
    pub client_secret: String,
    /// Callback URLs: a redirect must have the same origin, and the path as its prefix.
    pub redirect_origins: Vec<Url>,
    /// Bearer secret of the `/_admin` routes.
    pub admin_secret: String,
    #[serde(default = "default_people")]
    pub people: Vec<Person>,
}

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// What tests and the page call them.
    pub login: String,
    pub name: String,
    pub email: String,
    #[serde(default = "yes")]
    pub email_verified: bool,
}

impl Person {
    /// The account's number, which stays when everything else changes.
    fn subject(&self) -> String {
        let digest = Sha256::digest(self.login.as_bytes());
        digest.iter().take(10).fold("1".to_owned(), |mut digits, byte| {
            let _ = write!(digits, "{:02}", byte % 100);
            digits
        })
    }
}

fn yes() -> bool {
    true
}

fn default_people() -> Vec<Person> {
    [("ada", "Ada Lovelace"), ("grace", "Grace Hopper"), ("linus", "Linus Pauling")]
        .map(|(login, name)| Person {
            login: login.into(),
            name: name.into(),
            email: format!("{login}@example.com"),
            email_verified: true,
        })
        .into()
}

struct Code {
    login: String,
    redirect_uri: String,
    challenge: String,
    nonce: String,
    offline: bool,
    issued_at: i64,
}

#[derive(Default)]
struct Held {
    people: Vec<Person>,
    codes: HashMap<String, Code>,
    refresh_tokens: HashMap<String, String>,
    flaw: Option<Flaw>,
}

/// The provider, ready to be served.
pub struct Google {
    config: Config,
    keys: Keys,
    held: Mutex<Held>,
}

type Shared = Arc<Google>;

impl Google {
    /// Checks the configuration.
    pub fn new(config: Config) -> Result<Arc<Self>, String> {
        if config.public_url.path() != "/" || config.public_url.query().is_some() {
            return Err("`publicUrl` must be an origin".into());
        }
        if config.client_secret.is_empty() || config.admin_secret.is_empty() {
            return Err("`clientSecret` and `adminSecret` must not be empty".into());
        }
        let held = Held { people: config.people.clone(), ..Held::default() };
        Ok(Arc::new(Self { config, keys: Keys::default(), held: Mutex::new(held) }))
    }

    /// Reads a configuration file.
    pub fn from_file(path: &std::path::Path) -> Result<Arc<Self>, String> {
        let invalid = |reason: String| format!("the configuration `{}` can't be used: {reason}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        Self::new(serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?).map_err(invalid)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `iss`
    fn issuer(&self) -> &str {
        self.config.public_url.as_str().trim_end_matches('/')
    }
}

/// Serves the provider until the listener fails.
pub async fn serve(listener: TcpListener, google: Arc<Google>) -> std::io::Result<()> {
    axum::serve(listener, router(google)).await
}

fn router(google: Shared) -> Router {
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "healthy", "service": "devkit-google"})) }))
        .route("/o/oauth2/v2/auth", get(show).post(consent))
        .route("/token", post(token))
        .route("/oauth2/v3/certs", get(keys))
        .route("/_admin/people", post(change_person))
        .route("/_admin/flaw", post(set_flaw))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(google)
}

/// What an authorization request carries.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Authorize {
    client_id: String,
    redirect_uri: String,
    response_type: String,
    scope: String,
    state: String,
    nonce: String,
    code_challenge: String,
    code_challenge_method: String,
    access_type: String,
    /// In the form: who was picked.
    login: String,
}

fn refused(status: StatusCode, message: &str) -> Response {
    page::message(status, message)
}

/// Checks an authorization request; answers where to go back to, or what it is refused with.
fn check(google: &Google, request: &Authorize) -> Result<Url, (StatusCode, &'static str)> {
    let bad = |message: &'static str| (StatusCode::BAD_REQUEST, message);
    if request.client_id != google.config.client_id {
        return Err((StatusCode::UNAUTHORIZED, "The OAuth client was not found."));
    }
    let texts = [&request.redirect_uri, &request.state, &request.nonce, &request.scope];
    if texts.iter().any(|text| text.len() > MAX_PARAMETER_BYTES) {
        return Err(bad("A parameter is too long."));
    }
    let redirect = Url::parse(&request.redirect_uri).ok().filter(|uri| {
        uri.username().is_empty()
            && uri.fragment().is_none()
            && google.config.redirect_origins.iter().any(|allowed| {
                let rest = uri.path().strip_prefix(allowed.path().trim_end_matches('/'));
                uri.origin() == allowed.origin() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    });
    let redirect = redirect.ok_or_else(|| bad("redirect_uri_mismatch"))?;
    if request.response_type != "code" {
        return Err(bad("The response_type must be code."));
    }
    let scopes: Vec<&str> = request.scope.split(' ').collect();
    if !scopes.contains(&"openid") || !scopes.contains(&"email") {
        return Err(bad("The scope must hold openid and email."));
    }
    if request.code_challenge_method != "S256" || request.code_challenge.len() != 43 {
        return Err(bad("A code_challenge by S256 is needed here."));
    }
    Ok(redirect)
}

async fn show(State(google): State<Shared>, Query(query): Query<Authorize>) -> Response {
    match check(&google, &query) {
        Ok(redirect) => page::choose(&google.held().people, &query, &redirect),
        Err((status, message)) => refused(status, message),
    }
}

/// Browsers name the origin of a form that they post.
fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host)
}

async fn consent(State(google): State<Shared>, headers: HeaderMap, Form(form): Form<Authorize>) -> Response {
    if !same_origin(&headers) {
        return refused(StatusCode::FORBIDDEN, "This form was sent from another site.");
    }
    let mut redirect = match check(&google, &form) {
        Ok(redirect) => redirect,
        Err((status, message)) => return refused(status, message),
    };
    let mut held = google.held();
    if form.login == "-" {
        redirect.query_pairs_mut().append_pair("error", "access_denied");
    } else if held.people.iter().any(|person| person.login == form.login) && held.codes.len() < MAX_HELD {
        let code = format!("4/{}", random());
        redirect.query_pairs_mut().append_pair("code", &code);
        let issued = Code {
            login: form.login,
            redirect_uri: form.redirect_uri,
            challenge: form.code_challenge,
            nonce: form.nonce,
            offline: form.access_type == "offline",
            issued_at: now(),
        };
        held.codes.insert(code, issued);
    } else {
        return refused(StatusCode::BAD_REQUEST, "There is no such person.");
    }
    drop(held);
    if !form.state.is_empty() {
        redirect.query_pairs_mut().append_pair("state", &form.state);
    }
    (StatusCode::FOUND, [(header::LOCATION, redirect.to_string()), (header::CACHE_CONTROL, "no-store".to_owned())])
        .into_response()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    grant_type: String,
    client_id: String,
    client_secret: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    refresh_token: String,
}

/// A refusal of the token endpoint.
struct Refused(StatusCode, &'static str);

const INVALID_GRANT: Refused = Refused(StatusCode::BAD_REQUEST, "invalid_grant");

/// Whom a token is for.
struct Granted {
    person: Person,
    nonce: Option<String>,
    refresh_token: Option<String>,
    flaw: Option<Flaw>,
}

fn grant(google: &Google, request: &TokenRequest) -> Result<Granted, Refused> {
    let secret_fits = request.client_secret.as_bytes().ct_eq(google.config.client_secret.as_bytes());
    if request.client_id != google.config.client_id || !bool::from(secret_fits) {
        return Err(Refused(StatusCode::UNAUTHORIZED, "invalid_client"));
    }
    let mut held = google.held();
    let (login, nonce, refresh_token) = match request.grant_type.as_str() {
        "authorization_code" => {
            // Shown once, used once, whatever comes of it.
            let code = held.codes.remove(&request.code).ok_or(INVALID_GRANT)?;
            let made = URL_SAFE_NO_PAD.encode(Sha256::digest(request.code_verifier.as_bytes()));
            let fits = bool::from(made.as_bytes().ct_eq(code.challenge.as_bytes()));
            if !fits || code.redirect_uri != request.redirect_uri || code.issued_at + CODE_SECONDS < now() {
                return Err(INVALID_GRANT);
            }
            let refresh_token = code.offline.then(|| format!("1//{}", random()));
            if let Some(token) = &refresh_token
                && held.refresh_tokens.len() < MAX_HELD
            {
                held.refresh_tokens.insert(token.clone(), code.login.clone());
            }
            (code.login, Some(code.nonce), refresh_token)
        }
        "refresh_token" => {
            let login = held.refresh_tokens.get(&request.refresh_token).cloned().ok_or(INVALID_GRANT)?;
            (login, None, None)
        }
        _ => return Err(Refused(StatusCode::BAD_REQUEST, "unsupported_grant_type")),
    };
    let person = held.people.iter().find(|person| person.login == login).cloned().ok_or(INVALID_GRANT)?;
    Ok(Granted { person, nonce, refresh_token, flaw: held.flaw.take() })
}

async fn token(State(google): State<Shared>, Form(request): Form<TokenRequest>) -> Response {
    let granted = match grant(&google, &request) {
        Ok(granted) => granted,
        Err(Refused(status, error)) => return (status, Json(json!({ "error": error }))).into_response(),
    };
    // Making a key takes a while the first time.
    let made = tokio::task::spawn_blocking(move || {
        let id_token = id_token::make(&google, &granted.person, granted.nonce.as_deref(), granted.flaw);
        (id_token, granted.refresh_token)
    });
    let Ok((id_token, refresh_token)) = made.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut answer = json!({
        "access_token": format!("ya29.{}", random()),
        "expires_in": 3599,
        "scope": "openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/userinfo.profile",
        "token_type": "Bearer",
        "id_token": id_token,
    });
    if let Some(token) = refresh_token {
        answer["refresh_token"] = Value::from(token);
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

async fn keys(State(google): State<Shared>) -> Response {
    match tokio::task::spawn_blocking(move || google.keys.published_as_json()).await {
        Ok(keys) => ([(header::CACHE_CONTROL, "public, max-age=3600")], Json(keys)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn is_admin(google: &Google, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.strip_prefix("Bearer ").unwrap_or_default();
    bool::from(given.as_bytes().ct_eq(google.config.admin_secret.as_bytes()))
}

/// What changes of a person, or that the account is closed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangePerson {
    login: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<bool>,
    #[serde(default)]
    closed: bool,
}

async fn change_person(
    State(google): State<Shared>,
    headers: HeaderMap,
    Json(change): Json<ChangePerson>,
) -> StatusCode {
    if !is_admin(&google, &headers) {
        return StatusCode::UNAUTHORIZED;
    }
    let mut held = google.held();
    let Some(at) = held.people.iter().position(|person| person.login == change.login) else {
        return StatusCode::NOT_FOUND;
    };
    if change.closed {
        held.people.remove(at);
        return StatusCode::NO_CONTENT;
    }
    let person = &mut held.people[at];
    if let Some(email) = change.email {
        person.email = email;
    }
    if let Some(verified) = change.email_verified {
        person.email_verified = verified;
    }
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct SetFlaw {
    flaw: Flaw,
}

/// The next ID token is wrong in this way.
async fn set_flaw(State(google): State<Shared>, headers: HeaderMap, Json(set): Json<SetFlaw>) -> StatusCode {
    if !is_admin(&google, &headers) {
        return StatusCode::UNAUTHORIZED;
    }
    google.held().flaw = Some(set.flaw);
    StatusCode::NO_CONTENT
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn random() -> String {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}
