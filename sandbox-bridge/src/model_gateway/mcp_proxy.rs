//! A remote MCP server as the agent sees it: an address on loopback, behind which its real address and its headers are.
//!
//! Each server has a port of its own, so that paths which the server names (the older event-stream transport does) are
//! right as they are.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use url::Url;

use super::{client, is_let_in, passed_on, refuse, stream_through};
use crate::secret::Secret;

/// Largest request to a server.
const REQUEST_MAX_BYTES: usize = 16 << 20;
/// How far into an event stream the server's own address for messages is looked for.
const ENDPOINT_WITHIN_BYTES: usize = 8 * 1024;
/// Addresses that are remembered.
const ENDPOINTS_MAX: usize = 64;

/// Why a server cannot be reached through the gateway.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No port, or no HTTP client.
    #[error("it cannot be reached: {0}")]
    Start(String),
    /// The address is none of the web.
    #[error("its address is not an http or https URL")]
    Address,
    /// A header that cannot be sent.
    #[error("its header `{0}` cannot be sent")]
    Header(String),
}

struct Proxy {
    token: Secret,
    http: reqwest::Client,
    remote: Url,
    headers: HeaderMap,
    /// Paths that the server named for messages.
    endpoints: Mutex<HashSet<String>>,
}

/// Starts a proxy to `remote` that `token` opens, and gives the address for the agent: it has the path, and not the
/// query, which may hold a key.
pub async fn start<'h>(
    remote: &str,
    headers: impl IntoIterator<Item = (&'h String, &'h String)>,
    token: &Secret,
) -> Result<String, ProxyError> {
    let remote = Url::parse(remote).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let remote = remote.ok_or(ProxyError::Address)?;
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        let wrong = || ProxyError::Header(name.clone());
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        sent.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
    }
    let failed = |error: &dyn std::fmt::Display| ProxyError::Start(error.to_string());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let local = format!("http://{address}{}", remote.path());
    let http = client().map_err(|error| failed(&error))?;
    let proxy = Proxy { token: token.clone(), http, remote, headers: sent, endpoints: Mutex::default() };
    let router = Router::new().fallback(forward).with_state(Arc::new(proxy));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(event = "mcp_proxy.ended", %error);
        }
    });
    Ok(local)
}

impl Proxy {
    /// Where a request goes: to the server's own address, or to one that it named. Nothing else of its host is reached
    /// with its headers.
    fn target(&self, path: &str, query: Option<&str>) -> Option<Url> {
        if path == self.remote.path() {
            return Some(self.remote.clone());
        }
        let named = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        named.then(|| {
            let mut url = self.remote.clone();
            url.set_path(path);
            url.set_query(query);
            url
        })
    }

    fn note(&self, endpoint: &str) {
        let Some(url) = self.remote.join(endpoint).ok().filter(|url| url.origin() == self.remote.origin()) else {
            return;
        };
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() < ENDPOINTS_MAX {
            endpoints.insert(url.path().to_owned());
        }
    }
}

/// The address of `event: endpoint` in the beginning of a stream.
fn endpoint_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("event: endpoint")?;
    let (data, _) = rest.split_once("data:")?.1.split_once('\n')?;
    Some(data.trim())
}

async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    if !is_let_in(request.headers(), &proxy.token) {
        return refuse(StatusCode::UNAUTHORIZED, "The gateway's token is missing or wrong.");
    }
    let Some(url) = proxy.target(request.uri().path(), request.uri().query()) else {
        return refuse(StatusCode::NOT_FOUND, "This is not the server's address.");
    };
    let method = request.method().clone();
    let mut headers = passed_on(request.headers(), true);
    headers.remove(header::CONTENT_LENGTH);
    for (name, value) in &proxy.headers {
        headers.insert(name.clone(), value.clone());
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), REQUEST_MAX_BYTES).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "The request is larger than 16 MiB.");
    };
    match proxy.http.request(method.clone(), url).headers(headers).body(body).send().await {
        Ok(answer) if answer.status().is_redirection() => {
            refuse(StatusCode::BAD_GATEWAY, "The server redirects, which is not followed: its headers are secret.")
        }
        Ok(answer) => {
            let looks = method == Method::GET;
            let response = stream_through(answer);
            if looks { looked_through(response, proxy) } else { response }
        }
        Err(error) => {
            tracing::warn!(event = "mcp_proxy.unreachable", timeout = error.is_timeout());
            refuse(StatusCode::BAD_GATEWAY, "The server cannot be reached.")
        }
    }
}

/// Passes a stream on and remembers the address that its beginning names.
fn looked_through(response: Response, proxy: Arc<Proxy>) -> Response {
    let (parts, body) = response.into_parts();
    let mut beginning = Some(Vec::new());
    let stream = body.into_data_stream().map(move |chunk: Result<Bytes, axum::Error>| {
        if let (Some(seen), Ok(chunk)) = (&mut beginning, &chunk) {
            seen.extend_from_slice(chunk);
            if let Some(endpoint) = endpoint_in(&String::from_utf8_lossy(seen)) {
                proxy.note(endpoint);
                beginning = None;
            } else if seen.len() > ENDPOINT_WITHIN_BYTES {
                beginning = None;
            }
        }
        chunk
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_reached_at_its_address_and_where_it_says_with_its_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let remote = format!("http://{}", listener.local_addr().expect("bound"));
        let echo = async |request: Request| {
            let (method, uri) = (request.method().clone(), request.uri().to_string());
            let key = request.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
            if method == Method::GET {
                return format!("event: endpoint\ndata: /messages?session=1\n\n: {uri} {key}");
            }
            format!("{method} {uri} {key}")
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
        let headers = [("Authorization".to_owned(), "Bearer of-the-server".to_owned())];
        let token = Secret::new("local");
        let remote = format!("{remote}/sse?key=1");
        let local = start(&remote, headers.iter().map(|(n, v)| (n, v)), &token).await.expect("started");
        assert!(local.ends_with("/sse") && !local.contains("key"), "{local}");
        let http = reqwest::Client::new();
        let ask = async |method: Method, url: &str, token: &str| {
            let answer = http.request(method, url).bearer_auth(token).send().await.expect("answered");
            (answer.status().as_u16(), answer.text().await.expect("text"))
        };
        let named = local.replace("/sse", "/messages?session=1");
        assert_eq!(ask(Method::POST, &local, "wrong").await.0, 401);
        assert_eq!(ask(Method::POST, &named, "local").await.0, 404, "it has not named it yet");
        let (_, text) = ask(Method::GET, &local, "local").await;
        assert!(text.ends_with(": /sse?key=1 Bearer of-the-server"), "{text}");
        assert_eq!(
            ask(Method::POST, &named, "local").await,
            (200, "POST /messages?session=1 Bearer of-the-server".to_owned())
        );
        assert_eq!(ask(Method::POST, &local.replace("/sse", "/admin"), "local").await.0, 404);
    }
}
