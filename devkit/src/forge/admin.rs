//! Routes for tests: reset a repository, make calls fail, list all pull requests. They ask for the admin secret.

use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::body::Body;
use super::api::error::ApiError;
use super::api::pulls_json;
use super::store::{pulls, tokens};
use super::{Shared, auth};

/// Most failures that wait at a time.
const MAX_FAULTS: usize = 100;

/// Failures that were asked for and not used up.
#[derive(Default)]
pub struct Faults(Mutex<Vec<Fault>>);

struct Fault {
    path_prefix: String,
    status: StatusCode,
    times: u32,
}

impl Faults {
    /// The status to fail this request with, if a failure waits for it. Admin calls never fail this way.
    pub fn take(&self, path: &str) -> Option<StatusCode> {
        if path.starts_with("/_admin/") {
            return None;
        }
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = faults.iter().position(|f| path.starts_with(&f.path_prefix))?;
        let fault = &mut faults[index];
        let status = fault.status;
        fault.times -= 1;
        if fault.times == 0 {
            faults.remove(index);
        }
        Some(status)
    }
}

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/_admin/reset-repo", post(reset_repo))
        .route("/_admin/fail", post(fail).delete(clear_failures))
        .route("/_admin/pulls", get(list_pulls))
        .route("/_admin/revoke-user-tokens", post(revoke_user_tokens))
        .route("/_admin/user-tokens", post(issue_user_tokens))
}

/// The check that each handler of this file starts with.
fn authorize(forge: &super::Forge, headers: &http::HeaderMap) -> Result<(), ApiError> {
    let given = auth::bearer(headers).unwrap_or_default();
    if forge.config.admin_secret.matches(given) { Ok(()) } else { Err(ApiError::bad_credentials()) }
}

#[derive(Deserialize)]
struct ResetRepo {
    owner: String,
    name: String,
}

async fn reset_repo(
    State(forge): State<Shared>,
    headers: http::HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, ApiError> {
    authorize(&forge, &headers)?;
    let request: ResetRepo = Body::parse(&body)?;
    let repository = forge.directory.repository(&request.owner, &request.name).ok_or_else(ApiError::not_found)?;
    let _guard = forge.lock(repository.id).await;
    forge.plant(repository).await.map_err(ApiError::fault)?;
    forge.store.write(|db| pulls::delete_all(db, repository.id))?;
    Ok(Json(json!({ "status": "reset" })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fail {
    #[serde(alias = "path")]
    path_prefix: String,
    status: u16,
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

async fn fail(
    State(forge): State<Shared>,
    headers: http::HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, ApiError> {
    authorize(&forge, &headers)?;
    let request: Fail = Body::parse(&body)?;
    let status = StatusCode::from_u16(request.status)
        .ok()
        .filter(|s| s.is_client_error() || s.is_server_error())
        .ok_or_else(|| ApiError::unprocessable("`status` must be 400 to 599"))?;
    if !request.path_prefix.starts_with('/') || request.times == 0 {
        return Err(ApiError::unprocessable("`pathPrefix` must start with `/` and `times` must not be 0"));
    }
    let mut faults = forge.faults.0.lock().unwrap_or_else(PoisonError::into_inner);
    if faults.len() >= MAX_FAULTS {
        return Err(ApiError::unprocessable("too many failures wait already"));
    }
    faults.push(Fault { path_prefix: request.path_prefix, status, times: request.times });
    Ok(Json(json!({ "status": "armed" })))
}

async fn clear_failures(State(forge): State<Shared>, headers: http::HeaderMap) -> Result<Json<Value>, ApiError> {
    authorize(&forge, &headers)?;
    forge.faults.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Ok(Json(json!({ "status": "cleared" })))
}

async fn list_pulls(State(forge): State<Shared>, headers: http::HeaderMap) -> Result<Json<Value>, ApiError> {
    authorize(&forge, &headers)?;
    let mut all = Vec::new();
    for repository in forge.directory.repositories() {
        let (pulls, _) =
            forge.store.read(|db| pulls::list(db, repository.id, &pulls::Filter::default(), (0, 1_000)))?;
        for pull in pulls {
            all.push(pulls_json::full(&forge, repository, &pull).await?);
        }
    }
    Ok(Json(json!({ "pulls": all })))
}

#[derive(Deserialize)]
struct Person {
    login: String,
    /// Only the access tokens: what refreshes them goes on working.
    #[serde(default)]
    access_only: bool,
}

fn person(forge: &super::Forge, request: &Person) -> Result<u64, ApiError> {
    forge.directory.user(&request.login).map(|account| account.id).ok_or_else(ApiError::not_found)
}

/// As if the person had taken the App's rights back.
async fn revoke_user_tokens(
    State(forge): State<Shared>,
    headers: http::HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, ApiError> {
    authorize(&forge, &headers)?;
    let request: Person = Body::parse(&body)?;
    let user = person(&forge, &request)?;
    let revoked = forge.store.write(|db| tokens::revoke_user(db, user, request.access_only))?;
    Ok(Json(json!({ "revoked": revoked })))
}

/// Tokens of a person, without a browser.
async fn issue_user_tokens(
    State(forge): State<Shared>,
    headers: http::HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, ApiError> {
    authorize(&forge, &headers)?;
    let user = person(&forge, &Body::parse(&body)?)?;
    let tokens = forge.store.write(|db| tokens::issue_for_user(db, user))?;
    Ok(Json(json!({ "access_token": tokens.access, "refresh_token": tokens.refresh })))
}
