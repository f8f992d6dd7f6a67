//! The host's HTTP API: a bearer secret on everything but `GET /health`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router, middleware};
use http::StatusCode;
use http::header::AUTHORIZATION;
use oi_protocol::local_backend::{CreateSandboxRequest, LocalSandbox};
use serde::Deserialize;
use serde_json::json;

use super::proxy;
use super::registry::{CreateError, Registry};
use super::tunnels::Tunnels;
use crate::secret::Secret;

const BODY_MAX_BYTES: usize = 8 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

/// What handlers need.
#[derive(Clone)]
pub struct HostState {
    /// The sandboxes.
    pub registry: Arc<Registry>,
    /// What callers show.
    pub secret: Secret,
    /// For the proxy.
    pub http: reqwest::Client,
    /// How people reach sandboxes.
    pub tunnels: Arc<Tunnels>,
}

/// A refusal: `{"error":{"code","message"}}`.
pub fn refuse(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    let body = json!({"error": {"code": code, "message": message.into()}});
    (status, Json(body)).into_response()
}

/// The routes.
pub fn router(state: HostState) -> Router {
    let behind_the_secret = Router::new()
        .route("/v1/sandboxes", get(list).post(create))
        .route("/v1/sandboxes/{id}", get(show).delete(stop))
        .route_layer(middleware::from_fn(in_time))
        .route("/v1/sandboxes/{id}/ports/{port}", any(proxy::forward))
        .route("/v1/sandboxes/{id}/ports/{port}/{*path}", any(proxy::forward))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "not_found", "There is no such route.") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The route does not have this method.")
        })
        .layer(middleware::from_fn_with_state(state.clone(), authorize));
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "healthy"})) }))
        .merge(behind_the_secret)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(state)
}

async fn authorize(State(state): State<HostState>, request: Request, next: Next) -> Response {
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if bearer.is_some_and(|bearer| state.secret.matches(bearer)) {
        return next.run(request).await;
    }
    // A small body is read, so that the connection can serve the caller's next request.
    drop(axum::body::to_bytes(request.into_body(), 64 * 1024).await);
    refuse(StatusCode::UNAUTHORIZED, "unauthorized", "The host's secret is missing or wrong.")
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, "timeout", "The host could not answer in time."),
    }
}

async fn create(State(state): State<HostState>, body: Bytes) -> Response {
    let request: CreateSandboxRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        // Where, and never what: the body holds the sandbox's token.
        Err(error) => {
            let message = format!("The body is not a sandbox: line {}, column {}.", error.line(), error.column());
            return refuse(StatusCode::BAD_REQUEST, "invalid_body", message);
        }
    };
    let services = request.services.clone();
    match state.registry.create(request).await {
        Ok((sandbox, true)) => {
            state.tunnels.open(&sandbox.sandbox_id, &services, &state.registry.workspace_of(&sandbox.sandbox_id));
            (StatusCode::CREATED, Json(with_access(&state, sandbox))).into_response()
        }
        Ok((sandbox, false)) => Json(with_access(&state, sandbox)).into_response(),
        Err(error) => {
            let (status, code) = match &error {
                CreateError::InvalidId => (StatusCode::BAD_REQUEST, "invalid_id"),
                CreateError::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_sandboxes"),
                CreateError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
                CreateError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "start_failed"),
            };
            tracing::warn!(event = "host.create_failed", %error);
            refuse(status, code, error.to_string())
        }
    }
}

fn with_access(state: &HostState, sandbox: LocalSandbox) -> LocalSandbox {
    let is_running = state.registry.is_running(&sandbox.sandbox_id);
    let access = is_running.then(|| state.tunnels.access(&sandbox.sandbox_id)).flatten();
    LocalSandbox { access, ..sandbox }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    session_id: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn list(
    State(state): State<HostState>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(page)) = page else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_parameter", "`limit` must be a number.");
    };
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    Json(state.registry.list(page.session_id.as_deref(), limit, page.cursor.as_deref())).into_response()
}

fn unknown() -> Response {
    refuse(StatusCode::NOT_FOUND, "not_found", "There is no sandbox of this name.")
}

async fn show(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    let sandbox = state.registry.get(&id);
    sandbox.map_or_else(unknown, |sandbox| Json(with_access(&state, sandbox)).into_response())
}

async fn stop(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    match state.registry.stop(&id).await {
        Some(_) => {
            state.tunnels.close(&id);
            Json(json!({"status": "stopped"})).into_response()
        }
        None => unknown(),
    }
}
