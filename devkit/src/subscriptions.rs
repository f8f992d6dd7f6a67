//! The sign-in endpoints of two model vendors, for their subscriptions: OpenAI's device authorisation as its own Codex
//! speaks it, and xAI's, which is RFC 8628. Refresh tokens are good once, as theirs are.
//!
//! Codes are approved on a page, or by whoever holds the [`Subscriptions`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// OpenAI's id of its Codex.
const OPENAI_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// xAI's id of its Grok CLI.
const XAI_CLIENT: &str = "b1a00492-073a-47ea-816f-4c329264a828";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Devices and tokens that are kept; the oldest go first by their names.
const KEPT: usize = 10_000;

/// A vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    /// OpenAI.
    Openai,
    /// xAI.
    Xai,
}

enum Answer {
    Waiting,
    Approved(String),
    Denied,
}

struct Device {
    vendor: Vendor,
    user_code: String,
    answer: Answer,
}

#[derive(Default)]
struct World {
    devices: BTreeMap<String, Device>,
    /// OpenAI's codes that are exchanged for tokens once: verifier and identity.
    codes: BTreeMap<String, (String, String)>,
    refresh: BTreeMap<String, (Vendor, String)>,
    spent: BTreeSet<String>,
    access: BTreeMap<String, String>,
    refreshes: u64,
    polls: u64,
    /// Refreshes are answered with this.
    trouble: Option<u16>,
    pause: Duration,
    life_seconds: i64,
}

/// Both vendors.
#[derive(Clone)]
pub struct Subscriptions {
    base: String,
    world: Arc<Mutex<World>>,
}

fn random(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    // Without randomness nothing works here, and nothing is served.
    getrandom::fill(&mut buffer).unwrap_or_default();
    hex::encode(buffer)
}

fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(claims), random(32))
}

fn forget<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>) {
    while map.len() > KEPT {
        map.pop_first();
    }
}

impl World {
    fn tokens(&mut self, vendor: Vendor, identity: &str) -> Value {
        let refresh = format!("rt_{}", random(24));
        self.refresh.insert(refresh.clone(), (vendor, identity.to_owned()));
        forget(&mut self.refresh);
        let claims = match vendor {
            Vendor::Openai => json!({"https://api.openai.com/auth": {"chatgpt_account_id": identity}}),
            Vendor::Xai => json!({"sub": identity}),
        };
        let access = match vendor {
            Vendor::Openai => jwt(&claims),
            Vendor::Xai => random(24),
        };
        self.access.insert(access.clone(), identity.to_owned());
        forget(&mut self.access);
        json!({
            "access_token": access,
            "refresh_token": refresh,
            "id_token": jwt(&claims),
            "token_type": "Bearer",
            "expires_in": self.life_seconds,
        })
    }
}

impl Subscriptions {
    /// At this base URL, which people are sent to.
    pub fn new(base: &str) -> Self {
        let world = World { life_seconds: 3_600, ..World::default() };
        Self { base: base.trim_end_matches('/').to_owned(), world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, user_code: &str, answer: Answer) -> bool {
        let mut world = self.world();
        let found = world.devices.values_mut().find(|device| device.user_code == user_code);
        found.map(|device| device.answer = answer).is_some()
    }

    /// A person types a code, signed in as somebody.
    pub fn approve(&self, user_code: &str, identity: &str) -> bool {
        self.answer(user_code, Answer::Approved(identity.to_owned()))
    }

    /// A person says no.
    pub fn deny(&self, user_code: &str) -> bool {
        self.answer(user_code, Answer::Denied)
    }

    /// A refresh token as a person has one on their machine.
    pub fn refresh_token(&self, vendor: Vendor, identity: &str) -> String {
        let tokens = self.world().tokens(vendor, identity);
        tokens["refresh_token"].as_str().unwrap_or_default().to_owned()
    }

    /// From now on refreshes are answered with a status, or well again.
    pub fn trouble(&self, status: Option<u16>) {
        self.world().trouble = status;
    }

    /// From now on refreshes take this long.
    pub fn pause(&self, pause: Duration) {
        self.world().pause = pause;
    }

    /// From now on access tokens live this long.
    pub fn life_seconds(&self, seconds: i64) {
        self.world().life_seconds = seconds;
    }

    /// Refreshes so far, and questions whether a device is authorised.
    pub fn counts(&self) -> (u64, u64) {
        let world = self.world();
        (world.refreshes, world.polls)
    }

    /// Serves until the listener fails.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = Router::new()
            .route("/health", get(|| async { Json(json!({"status": "healthy", "service": "devkit-subscriptions"})) }))
            .route("/api/accounts/deviceauth/usercode", post(openai_device))
            .route("/api/accounts/deviceauth/token", post(openai_poll))
            .route("/oauth/token", post(openai_token))
            .route("/codex/device", get(page).post(approve))
            .route("/oauth2/device/code", post(xai_device))
            .route("/oauth2/token", post(xai_token))
            .route("/oauth2/userinfo", get(xai_userinfo))
            .route("/device", get(page).post(approve))
            .with_state(self);
        axum::serve(listener, router).await
    }
}

fn refused(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": "The request was refused."}}))).into_response()
}

/// As RFC 6749 has it.
fn oauth_error(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({"error": code}))).into_response()
}

fn user_code() -> String {
    let text = random(4).to_uppercase();
    format!("{}-{}", &text[..4], &text[4..])
}

#[derive(Deserialize)]
struct OpenaiDevice {
    client_id: String,
}

async fn openai_device(State(all): State<Subscriptions>, Json(body): Json<OpenaiDevice>) -> Response {
    if body.client_id != OPENAI_CLIENT {
        return refused(StatusCode::BAD_REQUEST, "invalid_client");
    }
    let (id, code) = (format!("deviceauth_{}", random(16)), user_code());
    let mut world = all.world();
    let device = Device { vendor: Vendor::Openai, user_code: code.clone(), answer: Answer::Waiting };
    world.devices.insert(id.clone(), device);
    forget(&mut world.devices);
    // The interval is a text there.
    Json(json!({"device_auth_id": id, "user_code": code, "interval": "1"})).into_response()
}

#[derive(Deserialize)]
struct OpenaiPoll {
    device_auth_id: String,
    user_code: String,
}

async fn openai_poll(State(all): State<Subscriptions>, Json(body): Json<OpenaiPoll>) -> Response {
    let mut world = all.world();
    world.polls += 1;
    let found = world.devices.get(&body.device_auth_id);
    let found = found.filter(|device| device.vendor == Vendor::Openai && device.user_code == body.user_code);
    let identity = match found.map(|device| &device.answer) {
        Some(Answer::Approved(identity)) => identity.clone(),
        Some(Answer::Waiting) => return refused(StatusCode::FORBIDDEN, "deviceauth_authorization_pending"),
        Some(Answer::Denied) => return refused(StatusCode::BAD_REQUEST, "deviceauth_authorization_denied"),
        None => return refused(StatusCode::NOT_FOUND, "deviceauth_not_found"),
    };
    world.devices.remove(&body.device_auth_id);
    let (code, verifier) = (format!("ac_{}", random(16)), random(32));
    world.codes.insert(code.clone(), (verifier.clone(), identity));
    forget(&mut world.codes);
    Json(json!({"authorization_code": code, "code_challenge": random(32), "code_verifier": verifier})).into_response()
}

/// A refresh, by either vendor's rules: a token is good once, and one that was used tells.
async fn refresh(all: &Subscriptions, vendor: Vendor, token: &str) -> Result<Value, Option<&'static str>> {
    let pause = all.world().pause;
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let mut world = all.world();
    world.refreshes += 1;
    if world.trouble.is_some() {
        return Err(None);
    }
    if world.spent.contains(token) {
        return Err(Some("refresh_token_reused"));
    }
    let known = world.refresh.get(token).filter(|(of, _)| *of == vendor).map(|(_, identity)| identity.clone());
    let Some(identity) = known else { return Err(Some("refresh_token_invalidated")) };
    world.refresh.remove(token);
    world.spent.insert(token.to_owned());
    Ok(world.tokens(vendor, &identity))
}

fn troubled(all: &Subscriptions) -> Response {
    let status = all.world().trouble.and_then(|status| StatusCode::from_u16(status).ok());
    (status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "try later").into_response()
}

type Fields = BTreeMap<String, String>;

fn field<'f>(fields: &'f Fields, name: &str) -> &'f str {
    fields.get(name).map(String::as_str).unwrap_or_default()
}

async fn openai_token(State(all): State<Subscriptions>, Form(fields): Form<Fields>) -> Response {
    if field(&fields, "client_id") != OPENAI_CLIENT {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    match field(&fields, "grant_type") {
        "refresh_token" => match refresh(&all, Vendor::Openai, field(&fields, "refresh_token")).await {
            Ok(tokens) => Json(tokens).into_response(),
            Err(None) => troubled(&all),
            Err(Some(code)) => refused(StatusCode::UNAUTHORIZED, code),
        },
        "authorization_code" => {
            let redirect = format!("{}/deviceauth/callback", all.base);
            let mut world = all.world();
            let known = world.codes.remove(field(&fields, "code"));
            match known {
                Some((verifier, identity))
                    if verifier == field(&fields, "code_verifier") && redirect == field(&fields, "redirect_uri") =>
                {
                    Json(world.tokens(Vendor::Openai, &identity)).into_response()
                }
                _ => oauth_error(StatusCode::BAD_REQUEST, "invalid_grant"),
            }
        }
        _ => oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
}

async fn xai_device(State(all): State<Subscriptions>, Form(fields): Form<Fields>) -> Response {
    if field(&fields, "client_id") != XAI_CLIENT || !field(&fields, "scope").contains("offline_access") {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_client");
    }
    let (id, code) = (random(24), user_code());
    let mut world = all.world();
    world.devices.insert(id.clone(), Device { vendor: Vendor::Xai, user_code: code.clone(), answer: Answer::Waiting });
    forget(&mut world.devices);
    let page = format!("{}/device", all.base);
    Json(json!({
        "device_code": id,
        "user_code": code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={code}"),
        "expires_in": 600,
        "interval": 1,
    }))
    .into_response()
}

async fn xai_token(State(all): State<Subscriptions>, Form(fields): Form<Fields>) -> Response {
    if field(&fields, "client_id") != XAI_CLIENT {
        return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    match field(&fields, "grant_type") {
        "refresh_token" => match refresh(&all, Vendor::Xai, field(&fields, "refresh_token")).await {
            Ok(tokens) => Json(tokens).into_response(),
            Err(None) => troubled(&all),
            Err(Some(_)) => oauth_error(StatusCode::BAD_REQUEST, "invalid_grant"),
        },
        DEVICE_GRANT => {
            let mut world = all.world();
            world.polls += 1;
            let id = field(&fields, "device_code");
            let identity = match world.devices.get(id).filter(|device| device.vendor == Vendor::Xai) {
                None => return oauth_error(StatusCode::BAD_REQUEST, "expired_token"),
                Some(device) => match &device.answer {
                    Answer::Waiting => return oauth_error(StatusCode::BAD_REQUEST, "authorization_pending"),
                    Answer::Denied => return oauth_error(StatusCode::BAD_REQUEST, "access_denied"),
                    Answer::Approved(identity) => identity.clone(),
                },
            };
            world.devices.remove(id);
            Json(world.tokens(Vendor::Xai, &identity)).into_response()
        }
        _ => oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
}

async fn xai_userinfo(State(all): State<Subscriptions>, headers: HeaderMap) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let identity = token.and_then(|token| all.world().access.get(token).cloned());
    match identity {
        Some(identity) => Json(json!({"sub": identity})).into_response(),
        None => oauth_error(StatusCode::UNAUTHORIZED, "invalid_token"),
    }
}

async fn page() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Authorise a device</title><h1>Authorise a device</h1>\
        <form method=post><label>Code <input name=code></label> <label>Account <input name=identity value=demo-account>\
        </label> <button>Approve</button></form>",
    )
}

#[derive(Deserialize)]
struct Approval {
    code: String,
    identity: String,
}

async fn approve(State(all): State<Subscriptions>, Form(approval): Form<Approval>) -> Response {
    if all.approve(approval.code.trim(), &approval.identity) {
        Html("<!doctype html><title>Authorised</title><p>The device is authorised. You can close this page.")
            .into_response()
    } else {
        (StatusCode::NOT_FOUND, Html("<!doctype html><title>Unknown code</title><p>There is no such code."))
            .into_response()
    }
}
