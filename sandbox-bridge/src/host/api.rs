//! The host's HTTP API: a bearer secret on everything but `GET /health`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use http::StatusCode;
use http::header::AUTHORIZATION;
use oi_protocol::local_backend::{CreateSandboxRequest, LocalCapabilities, LocalSandbox};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::registry::{CreateError, Registry};
use super::{build_api, snapshot_api};
use crate::secret::Secret;

const BODY_MAX_BYTES: usize = 8 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Starts and snapshots copy files.
const COPIED_WITHIN: Duration = Duration::from_secs(310);
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

/// What handlers need.
#[derive(Clone)]
pub struct HostState {
    /// The sandboxes.
    pub registry: Arc<Registry>,
    /// What callers show.
    pub secret: Secret,
    /// What this host can.
    pub capabilities: Arc<LocalCapabilities>,
}

/// A refusal: `{"error":{"code","message"}}`.
pub fn refuse(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    let body = json!({"error": {"code": code, "message": message.into()}});
    (status, Json(body)).into_response()
}

/// The routes.
pub fn router(state: HostState) -> Router {
    let quick = Router::new()
        .route("/v1/capabilities", get(capabilities))
        .route("/v1/sandboxes", get(list))
        .route("/v1/sandboxes/{id}", get(show).delete(stop))
        .route("/v1/snapshots", get(snapshot_api::list))
        .route("/v1/builds/{id}", get(build_api::show).delete(build_api::discard))
        .route("/v1/builds/{id}/log", get(build_api::log))
        .route_layer(middleware::from_fn(|request, next| in_time(ANSWER_WITHIN, request, next)));
    let with_copies = Router::new()
        .route("/v1/sandboxes", post(create))
        .route("/v1/sandboxes/{id}/resume", post(resume))
        .route("/v1/sandboxes/{id}/snapshots", post(snapshot_api::take))
        .route("/v1/snapshots/{id}", delete(snapshot_api::remove))
        .route("/v1/builds", post(build_api::create))
        .route("/v1/builds/{id}/snapshot", post(build_api::snapshot))
        .route_layer(middleware::from_fn(|request, next| in_time(COPIED_WITHIN, request, next)));
    let behind_the_secret = quick
        .merge(with_copies)
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

async fn in_time(within: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, "timeout", "The host could not answer in time."),
    }
}

/// A sandbox that a body describes.
pub(super) fn described(body: &Bytes) -> Result<CreateSandboxRequest, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        // Where, and never what: the body holds the sandbox's token.
        let message = format!("The body is not a sandbox: line {}, column {}.", error.line(), error.column());
        Box::new(refuse(StatusCode::BAD_REQUEST, "invalid_body", message))
    })
}

/// Does work to its end, whether or not the caller waits for it: what a start that failed leaves behind is cleared away.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, CreateError>> + Send + 'static,
) -> Result<T, CreateError> {
    tokio::spawn(work).await.unwrap_or_else(|fault| Err(CreateError::Io(std::io::Error::other(fault))))
}

/// What was made, or was there already.
pub(super) fn made<T: Serialize>(made: T, new: bool) -> Response {
    (if new { StatusCode::CREATED } else { StatusCode::OK }, Json(made)).into_response()
}

pub(super) fn not_created(error: &CreateError) -> Response {
    let (status, code) = match error {
        CreateError::InvalidId => (StatusCode::BAD_REQUEST, "invalid_id"),
        CreateError::WrongBoot(_) => (StatusCode::BAD_REQUEST, "invalid_boot"),
        CreateError::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_sandboxes"),
        CreateError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
        CreateError::Unknown => (StatusCode::NOT_FOUND, "not_found"),
        CreateError::CannotGoOn => (StatusCode::GONE, "cannot_go_on"),
        CreateError::Files(error) => return snapshot_api::not_kept(error),
        CreateError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "start_failed"),
    };
    tracing::warn!(event = "host.create_failed", %error);
    refuse(status, code, error.to_string())
}

async fn create(State(state): State<HostState>, body: Bytes) -> Response {
    let request = match described(&body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let registry = Arc::clone(&state.registry);
    match to_its_end(async move { registry.create(request).await }).await {
        Ok((sandbox, new)) => made(with_access(&state, sandbox), new),
        Err(error) => not_created(&error),
    }
}

fn with_access(state: &HostState, sandbox: LocalSandbox) -> LocalSandbox {
    LocalSandbox { access: state.registry.tunnels.access(&sandbox.sandbox_id), ..sandbox }
}

async fn resume(State(state): State<HostState>, Path(id): Path<String>, body: Bytes) -> Response {
    let request = match described(&body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let registry = Arc::clone(&state.registry);
    match to_its_end(async move { registry.resume(&id, request).await }).await {
        Ok((sandbox, _)) => made(with_access(&state, sandbox), false),
        Err(error) => not_created(&error),
    }
}

async fn capabilities(State(state): State<HostState>) -> Response {
    Json(&*state.capabilities).into_response()
}

/// Which part of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub session_id: Option<String>,
    limit: Option<usize>,
    pub cursor: Option<String>,
}

impl Page {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}

/// A query, when it has the expected shape.
pub(super) type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(super) fn bad_parameter(text: &'static str) -> Response {
    refuse(StatusCode::BAD_REQUEST, "invalid_parameter", text)
}

async fn list(State(state): State<HostState>, page: Asked<Page>) -> Response {
    let Ok(Query(page)) = page else { return bad_parameter("`limit` must be a number.") };
    Json(state.registry.list(page.session_id.as_deref(), page.limit(), page.cursor.as_deref())).into_response()
}

fn unknown() -> Response {
    refuse(StatusCode::NOT_FOUND, "not_found", "There is no sandbox of this name.")
}

async fn show(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    let sandbox = state.registry.get(&id);
    sandbox.map_or_else(unknown, |sandbox| Json(with_access(&state, sandbox)).into_response())
}

/// What becomes of a sandbox's files.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// They stay, so that it can go on.
    #[default]
    Parked,
    /// They are deleted.
    Discarded,
}

#[derive(Deserialize)]
struct Stop {
    #[serde(default)]
    fate: Fate,
}

async fn stop(State(state): State<HostState>, Path(id): Path<String>, asked: Asked<Stop>) -> Response {
    let Ok(Query(asked)) = asked else { return bad_parameter("`fate` must be `parked` or `discarded`.") };
    let stopped = match asked.fate {
        Fate::Parked => state.registry.stop(&id).await,
        Fate::Discarded => state.registry.discard(&id).await,
    };
    match stopped {
        Some(_) => Json(json!({"status": "stopped"})).into_response(),
        None => unknown(),
    }
}
