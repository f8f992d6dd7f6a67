//! The HTTP way into a sandbox: only to ports that its record allows, without the host's own secret.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_util::TryStreamExt as _;
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

use super::api::{HostState, refuse};

/// Headers that belong to one connection, and the host's secret.
const NOT_PASSED: [&str; 10] = [
    "authorization",
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Deserialize)]
pub(super) struct Target {
    id: String,
    port: u16,
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    passed.remove(AUTHORIZATION);
    for name in NOT_PASSED {
        passed.remove(name);
    }
    passed
}

pub(super) async fn forward(
    State(state): State<HostState>,
    target: Result<Path<Target>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Response {
    let refused = || refuse(StatusCode::NOT_FOUND, "not_found", "This sandbox has no such port.");
    let Ok(Path(Target { id, port })) = target else { return refused() };
    if !state.registry.allows_port(&id, port) {
        return refused();
    }
    // After `/v1/sandboxes/{id}/ports/{port}`.
    let rest = request.uri().path().splitn(7, '/').nth(6).unwrap_or_default();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("http://127.0.0.1:{port}/{rest}{query}");
    let (method, headers) = (request.method().clone(), passed(request.headers()));
    let body = reqwest::Body::wrap_stream(request.into_body().into_data_stream());
    match state.http.request(method, url).headers(headers).body(body).send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), passed(answer.headers()));
            let mut response = Response::new(Body::from_stream(answer.bytes_stream().map_err(std::io::Error::other)));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(_) => refuse(StatusCode::BAD_GATEWAY, "unreachable", "Nothing answers on this port of the sandbox."),
    }
}
