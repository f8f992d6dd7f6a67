//! The HTTP way into a sandbox: only to ports that its record allows, without the host's own secret.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::api::{HostState, refuse};
use super::connect_into::{Inside, connect_into};

/// For the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

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
    let Some(inside) = state.registry.inside(&id) else { return refused() };
    match pass(&inside, port, request).await {
        Ok(answer) => {
            let headers = passed(answer.headers());
            let mut response = answer.map(Body::new);
            *response.headers_mut() = headers;
            response
        }
        Err(_) => refuse(StatusCode::BAD_GATEWAY, "unreachable", "Nothing answers on this port of the sandbox."),
    }
}

async fn pass(inside: &Inside, port: u16, request: Request) -> std::io::Result<http::Response<Incoming>> {
    let stream = connect_into(inside, port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    // After `/v1/sandboxes/{id}/ports/{port}`.
    let rest = request.uri().path().splitn(7, '/').nth(6).unwrap_or_default();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut headers = passed(request.headers());
    let host = HeaderValue::try_from(format!("127.0.0.1:{port}")).map_err(std::io::Error::other)?;
    headers.insert(HOST, host);
    let mut inner = http::Request::builder().method(request.method()).uri(format!("/{rest}{query}"));
    if let Some(known) = inner.headers_mut() {
        *known = headers;
    }
    let inner = inner.body(request.into_body()).map_err(std::io::Error::other)?;
    let answer = tokio::time::timeout(ANSWER_WITHIN, sender.send_request(inner)).await;
    answer.map_err(|_| std::io::ErrorKind::TimedOut)?.map_err(std::io::Error::other)
}
