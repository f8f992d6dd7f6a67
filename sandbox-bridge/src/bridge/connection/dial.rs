//! Where the session is, and the upgrade.

use std::time::Duration;

use http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::Lost;
use crate::enclosed;
use crate::secret::Secret;
use crate::upgrade::{Socket, upgrade};

/// Largest frame that the session may send: a prompt with room to spare.
const FRAME_MAX_BYTES: usize = 16 << 20;

/// Where and as whom to connect, and how patiently.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// `ws(s)://…/sessions/{id}/ws?type=sandbox`
    pub url: String,
    /// The sandbox's bearer.
    pub token: Secret,
    /// The sandbox's logical id.
    pub sandbox_id: String,
    /// Model of a dialect 1 prompt that names none.
    pub default_model: String,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Between two pings; without any sign of life for half as long again the socket is given up.
    pub ping: Duration,
    /// The first wait after a failure.
    pub retry_first: Duration,
    /// The longest wait.
    pub retry_cap: Duration,
    /// How long a session may be silent before the bridge says `ready` in the way of dialect 1.
    pub hello_within: Duration,
    /// Between two deltas of text.
    pub flush_every: Duration,
}

impl ConnectionConfig {
    /// The usual patience.
    pub fn new(url: String, token: Secret, sandbox_id: String, default_model: String) -> Self {
        Self {
            url,
            token,
            sandbox_id,
            default_model,
            heartbeat: Duration::from_secs(30),
            ping: Duration::from_secs(20),
            retry_first: Duration::from_millis(250),
            retry_cap: Duration::from_secs(10),
            hello_within: Duration::from_secs(10),
            flush_every: Duration::from_millis(25),
        }
    }
}

/// The socket's URL for a session.
pub fn socket_url(control_plane_url: &str, session_id: &str) -> Option<String> {
    let base = control_plane_url.trim_end_matches('/');
    let base = match base.split_once("://")? {
        ("http", rest) => format!("ws://{rest}"),
        ("https", rest) => format!("wss://{rest}"),
        _ => return None,
    };
    Some(format!("{base}/sessions/{session_id}/ws?type=sandbox"))
}

pub(super) async fn connect(config: &ConnectionConfig) -> Result<Socket, Lost> {
    let mut request = config.url.as_str().into_client_request()?;
    let invalid = || Lost::Socket("the token or the sandbox id cannot be a header".to_owned());
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, config.token.bearer().ok_or_else(invalid)?);
    headers.insert("X-Sandbox-ID", config.sandbox_id.parse().map_err(|_| invalid())?);
    headers.insert("X-Bridge-Dialect", http::HeaderValue::from_static("2"));
    Ok(upgrade(enclosed::route(), request, FRAME_MAX_BYTES).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_url_follows_the_control_plane_url() {
        let cases = [
            ("http://127.0.0.1:8787", Some("ws://127.0.0.1:8787/sessions/s/ws?type=sandbox")),
            ("https://oi.example/", Some("wss://oi.example/sessions/s/ws?type=sandbox")),
            ("ftp://oi.example", None),
            ("", None),
        ];
        for (base, expected) in cases {
            assert_eq!(socket_url(base, "s").as_deref(), expected, "{base}");
        }
    }
}
