//! What happens to every request: an id, a deadline, a log line, injected failures.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tracing::info;

use super::Shared;

/// Longest time to the first byte of an answer. Git has its own deadline for the whole transfer.
const DEADLINE: Duration = Duration::from_secs(60);

pub async fn edge(State(forge): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(300).collect();
    let id = request_id();
    let mut response = if let Some(status) = forge.faults.take(&path) {
        injected(status)
    } else {
        match tokio::time::timeout(DEADLINE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => (
                StatusCode::GATEWAY_TIMEOUT,
                Json(json!({ "message": "The forge took too long to answer.", "status": "504" })),
            )
                .into_response(),
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-github-request-id", value);
    }
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    info!(
        request = %id,
        %method,
        %path,
        status = response.status().as_u16(),
        ms = started.elapsed().as_millis() as u64,
        "answered"
    );
    response
}

fn injected(status: StatusCode) -> Response {
    let mut response = (
        status,
        Json(json!({
            "message": "This failure was asked for.",
            "documentation_url": "https://docs.github.com/rest",
            "status": status.as_u16().to_string(),
        })),
    )
        .into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    response
}

/// Four groups of hex digits, as GitHub's.
fn request_id() -> String {
    let mut bytes = [0_u8; 14];
    // An id made of zeros is worse than a random one and better than a failed request.
    let _ = getrandom::fill(&mut bytes);
    let text = hex::encode_upper(bytes);
    format!("{}:{}:{}:{}", &text[..4], &text[4..12], &text[12..20], &text[20..])
}
