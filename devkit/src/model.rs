//! The scripted demo model: an OpenAI-compatible server whose answers follow a script, so that the whole system runs
//! and is tested with no model vendor. An answer depends on the request alone; the server keeps nothing.

mod engineer;
mod reply;
mod request;
mod script;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::info;

use reply::{Answer, Failure};
use request::Request;

/// The model's id. Requests may name any model.
pub const MODEL_ID: &str = "demo";
/// Largest request, in bytes: long conversations with tool results.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Most answers at a time.
const MAX_ANSWERS: usize = 256;

#[derive(Clone)]
struct Model {
    /// Pause between two streamed words.
    delay: Duration,
    answers: Arc<Semaphore>,
}

/// Serves the model until the listener fails.
pub async fn serve(listener: TcpListener, delay: Duration) -> std::io::Result<()> {
    let model = Model { delay, answers: Arc::new(Semaphore::new(MAX_ANSWERS)) };
    let router = Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .fallback(|| async {
            error_response(&Failure {
                status: StatusCode::NOT_FOUND,
                code: "not_found",
                message: "There is no such route.".into(),
            })
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(model);
    axum::serve(listener, router).await
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy", "service": "devkit-model" }))
}

async fn models() -> Json<Value> {
    Json(json!({
        "object": "list",
        "data": [{ "id": MODEL_ID, "object": "model", "created": 0, "owned_by": "devkit" }],
    }))
}

async fn complete(State(model): State<Model>, body: Bytes) -> Response {
    let Ok(turn) = model.answers.clone().try_acquire_owned() else {
        return error_response(&Failure {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "rate_limit_exceeded",
            message: "Too many answers at a time.".into(),
        });
    };
    let request = match Request::parse(&body) {
        Ok(request) => request,
        Err(message) => {
            return error_response(&Failure { status: StatusCode::BAD_REQUEST, code: "invalid_request", message });
        }
    };
    let answer = match script::answer(&request) {
        Ok(answer) => answer,
        Err(failure) => {
            info!(status = failure.status.as_u16(), "answered with a failure");
            return error_response(&failure);
        }
    };
    info!(stream = request.stream, messages = request.messages.len(), parts = answer.parts.len(), "answering");
    if request.stream {
        stream(&request, &answer, model.delay, turn)
    } else {
        Json(answer.completion(&request)).into_response()
    }
}

fn stream(request: &Request, answer: &Answer, delay: Duration, turn: tokio::sync::OwnedSemaphorePermit) -> Response {
    let frames = answer.frames(request, delay);
    let body = futures_util::stream::iter(frames).then(move |(pause, frame)| {
        // Held by the stream, so that the turn ends with it.
        let _turn = &turn;
        async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok::<_, std::convert::Infallible>(format!("data: {frame}\n\n"))
        }
    });
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn error_response(failure: &Failure) -> Response {
    let kind = match failure.status.as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    (
        failure.status,
        Json(json!({
            "error": { "message": failure.message, "type": kind, "param": null, "code": failure.code },
        })),
    )
        .into_response()
}
