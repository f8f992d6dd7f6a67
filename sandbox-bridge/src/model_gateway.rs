//! The loopback gateway to model providers: the agent knows a token that opens only this, the supervisor adds the
//! provider's key, or the access token of the session's account there. So neither is in the environment, the files or
//! the arguments of anything in the sandbox.

pub mod account;
pub mod codex;
pub mod mcp_proxy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStreamExt as _;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use oi_protocol::local_backend::ModelProvider;
use serde_json::json;
use tokio::net::TcpListener;

use crate::secret::Secret;
use account::{AccountEndpoints, AccountProvider, AccountTokens};

/// Largest request: a long conversation with pictures.
const REQUEST_MAX_BYTES: usize = 64 << 20;
/// A provider that sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(600);
/// Headers that carry a key, in the forms of the SDKs.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
/// Headers that belong to one connection.
const HOP_HEADERS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

enum Route {
    /// By a key.
    Key { base_url: String, key_header: Option<(HeaderName, HeaderValue)> },
    /// By the session's account.
    Account { provider: AccountProvider, tokens: AccountTokens, url: String },
}

/// Accounts of the session at providers.
#[derive(Default)]
pub struct Accounts {
    /// One a provider.
    pub tokens: Vec<(AccountProvider, AccountTokens)>,
    /// Where they are good.
    pub endpoints: AccountEndpoints,
}

struct Gateway {
    token: Secret,
    routes: HashMap<String, Route>,
    http: reqwest::Client,
}

/// Where the gateway listens, and what opens it.
#[derive(Debug, Clone)]
pub struct GatewayAddress {
    /// `http://127.0.0.1:port`
    pub url: String,
    /// Per boot.
    pub token: Secret,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No port.
    #[error("the model gateway cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// No HTTP client.
    #[error("the model gateway has no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// A key with characters that no header can have.
    #[error("the key of model provider `{0}` cannot be sent")]
    Key(String),
}

fn key_header(provider: &ModelProvider) -> Result<Option<(HeaderName, HeaderValue)>, GatewayError> {
    let Some(key) = provider.api_key.as_deref().filter(|key| !key.is_empty()) else { return Ok(None) };
    let (name, text) = match provider.npm.as_str() {
        "@ai-sdk/anthropic" => (HeaderName::from_static("x-api-key"), key.to_owned()),
        "@ai-sdk/google" => (HeaderName::from_static("x-goog-api-key"), key.to_owned()),
        _ => (header::AUTHORIZATION, format!("Bearer {key}")),
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| GatewayError::Key(provider.id.clone()))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

/// A client that follows no redirect, which would carry a key elsewhere.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(30))
        .read_timeout(SILENCE)
        .build()
}

/// Starts the gateway on a free loopback port. An account takes the place of a key for the same provider.
pub async fn start(providers: &[ModelProvider], accounts: Accounts) -> Result<GatewayAddress, GatewayError> {
    let token = Secret::new(crate::random::hex::<24>());
    let mut routes = HashMap::new();
    for provider in providers {
        let base_url = provider.base_url.trim_end_matches('/').to_owned();
        routes.insert(provider.id.clone(), Route::Key { base_url, key_header: key_header(provider)? });
    }
    for (provider, tokens) in accounts.tokens {
        let url = match provider {
            AccountProvider::OpenAi => accounts.endpoints.codex.clone(),
            AccountProvider::Xai => accounts.endpoints.xai.trim_end_matches('/').to_owned(),
        };
        routes.insert(provider.id().to_owned(), Route::Account { provider, tokens, url });
    }
    let gateway = Arc::new(Gateway { token: token.clone(), routes, http: client()? });
    let router = Router::new().route("/{provider}/{*rest}", axum::routing::any(forward)).with_state(gateway);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(event = "gateway.ended", %error);
        }
    });
    Ok(GatewayAddress { url, token })
}

fn refuse(status: StatusCode, text: &str) -> Response {
    let body = json!({"error": {"type": "gateway_error", "message": text}});
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn is_let_in(headers: &HeaderMap, token: &Secret) -> bool {
    KEY_HEADERS.iter().filter_map(|name| headers.get(*name)?.to_str().ok()).any(|value| {
        let value = value.strip_prefix("Bearer ").unwrap_or(value);
        token.matches(value)
    })
}

/// The headers without those of the connection and, towards the provider, of the local token.
fn passed_on(headers: &HeaderMap, without_keys: bool) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        let text = name.as_str();
        let drop = HOP_HEADERS.contains(&text)
            || named.iter().any(|hop| hop == text)
            || (without_keys && KEY_HEADERS.contains(&text));
        if !drop {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// Whether a path, written plainly or in hex, climbs out of the provider's base.
fn leaves_its_base(path: &str) -> bool {
    let plain = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\']).any(|segment| segment == "..")
}

async fn forward(
    State(gateway): State<Arc<Gateway>>,
    Path((provider, _)): Path<(String, String)>,
    request: Request,
) -> Response {
    if !is_let_in(request.headers(), &gateway.token) {
        return refuse(StatusCode::UNAUTHORIZED, "The gateway's token is missing or wrong.");
    }
    let Some(route) = gateway.routes.get(&provider) else {
        return refuse(StatusCode::NOT_FOUND, "No such model provider.");
    };
    // As it came, undecoded: it is for the provider to read.
    let rest = request.uri().path().splitn(3, '/').nth(2).unwrap_or_default();
    if leaves_its_base(rest) {
        return refuse(StatusCode::BAD_REQUEST, "The path is not allowed.");
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let (method, rest) = (request.method().clone(), rest.to_owned());
    let mut headers = passed_on(request.headers(), true);
    headers.remove(header::CONTENT_LENGTH);
    let Ok(mut body) = axum::body::to_bytes(request.into_body(), REQUEST_MAX_BYTES).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "The request is larger than 64 MiB.");
    };
    let (url, signed) = match route {
        Route::Key { base_url, key_header } => {
            if let Some((name, value)) = key_header {
                headers.insert(name.clone(), value.clone());
            }
            (format!("{base_url}/{rest}{query}"), None)
        }
        Route::Account { provider, tokens, url } => {
            let url = match provider {
                // The subscription is good for this alone, and its token is sent nowhere else.
                AccountProvider::OpenAi if codex::serves(&rest) => {
                    body = codex::body(body);
                    url.clone()
                }
                AccountProvider::OpenAi => {
                    return refuse(StatusCode::NOT_FOUND, "The account has no such endpoint.");
                }
                AccountProvider::Xai => format!("{url}/{rest}{query}"),
            };
            let token = match tokens.get().await {
                Ok(token) => token,
                Err(error) => {
                    let text = format!("The session's account cannot be used: {error}");
                    return refuse(status_of(&error), &text);
                }
            };
            if account::sign(*provider, &token, &mut headers).is_none() {
                return refuse(StatusCode::BAD_GATEWAY, "The account's token is malformed.");
            }
            (url, Some((tokens, token)))
        }
    };
    match gateway.http.request(method, url).headers(headers).body(body).send().await {
        Ok(answer) => {
            if let Some((tokens, token)) = signed
                && answer.status() == StatusCode::UNAUTHORIZED
            {
                tokens.forget(&token).await;
            }
            stream_through(answer)
        }
        Err(error) => {
            tracing::warn!(event = "gateway.unreachable", provider, timeout = error.is_timeout());
            refuse(StatusCode::BAD_GATEWAY, "The model provider cannot be reached.")
        }
    }
}

/// Agents repeat what fails with a status of 500 and more: that helps only where the fault may pass.
const fn status_of(error: &crate::control_plane::ControlPlaneError) -> StatusCode {
    use crate::control_plane::ControlPlaneError::Refused;
    match error {
        Refused { status: 400..=499, .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn stream_through(answer: reqwest::Response) -> Response {
    let status = answer.status();
    let headers = passed_on(answer.headers(), false);
    let mut response = Response::new(Body::from_stream(answer.bytes_stream().map_err(std::io::Error::other)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(npm: &str, base_url: String) -> ModelProvider {
        ModelProvider {
            id: "p".to_owned(),
            name: "P".to_owned(),
            npm: npm.to_owned(),
            base_url,
            api_key: Some("sk-real".to_owned()),
            models: Vec::new(),
        }
    }

    #[test]
    fn a_path_cannot_leave_the_providers_base() {
        for path in ["../x", "a/../../x", "a/%2e%2E/x", "a%2f..%2fx", "..\\x", "a/.%2e"] {
            assert!(leaves_its_base(path), "{path}");
        }
        for path in ["messages", "models/claude-3.5..x", "a/..b/c", "chat/completions"] {
            assert!(!leaves_its_base(path), "{path}");
        }
    }

    async fn vendor() -> String {
        let echo = async |request: Request| {
            let shown: Vec<String> = request
                .headers()
                .iter()
                .filter(|(name, _)| KEY_HEADERS.contains(&name.as_str()))
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
                .collect();
            format!("{} {} {}", request.method(), request.uri(), shown.join(", "))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
        format!("http://{address}/v1")
    }

    #[tokio::test]
    async fn the_key_replaces_the_local_token_in_the_vendors_own_way() {
        let base = vendor().await;
        let http = reqwest::Client::new();
        for (npm, expected) in [
            ("@ai-sdk/anthropic", "POST /v1/messages?beta=1 x-api-key: sk-real"),
            ("@ai-sdk/openai-compatible", "POST /v1/messages?beta=1 authorization: Bearer sk-real"),
        ] {
            let gateway = start(&[provider(npm, base.clone())], Accounts::default()).await.expect("started");
            let url = format!("{}/p/messages?beta=1", gateway.url);
            for local in [
                ("x-api-key", gateway.token.reveal().to_owned()),
                ("authorization", format!("Bearer {}", gateway.token.reveal())),
            ] {
                let request = http.post(&url).header(local.0, local.1).body("{}");
                let text = request.send().await.expect("answered").text().await.expect("text");
                assert_eq!(text, expected);
            }
        }
    }

    #[tokio::test]
    async fn nothing_passes_without_the_local_token() {
        let gateway = start(&[provider("@ai-sdk/openai", vendor().await)], Accounts::default()).await.expect("started");
        let http = reqwest::Client::new();
        let status = async |request: reqwest::RequestBuilder| request.send().await.expect("answered").status().as_u16();
        let url = |path: &str| format!("{}{path}", gateway.url);
        let token = gateway.token.reveal();
        assert_eq!(status(http.post(url("/p/x"))).await, 401);
        assert_eq!(status(http.post(url("/p/x")).bearer_auth("sk-real")).await, 401);
        assert_eq!(status(http.post(url("/other/x")).bearer_auth(token)).await, 404);
        assert_eq!(status(http.post(url("/p/x")).bearer_auth(token)).await, 200);
    }
}
