//! How people reach what runs in a sandbox: what the backend's answer to its start says, kept with its generation. It is
//! shown once it is stored and the sandbox is reachable, and gone with the sandbox. Passwords and tokens come sealed and
//! are opaque here; no snapshot and no message carries them.

use std::collections::BTreeMap;

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::session_state::SandboxStatus;
use oi_protocol::{ErrorCode, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::call::CallReply;
use crate::core::{Hot, Turn};

/// An address is at most this long.
const URL_MAX_BYTES: usize = 2_048;
/// Sealed secrets are at most this long.
const SEALED_MAX_BYTES: usize = 8 * 1_024;

/// What a backend says about reaching a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxAccess {
    /// Page of code-server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_server_url: Option<String>,
    /// Page of the desktop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc_url: Option<String>,
    /// Page of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttyd_url: Option<String>,
    /// The vendor's page of the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard_url: Option<String>,
    /// Address of each port that is open to people.
    #[serde(default)]
    pub tunnel_urls: BTreeMap<u16, String>,
    /// Passwords and tokens, sealed by the runner for this session and this sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// Whether an address may be shown as it is: of the web, of bounded length, without a password in it.
fn is_showable(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    matches!(scheme, "https" | "http")
        && !authority.is_empty()
        && !authority.contains('@')
        && url.len() <= URL_MAX_BYTES
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

impl SandboxAccess {
    /// Without what may not be kept or shown.
    fn bounded(mut self) -> Self {
        for url in [&mut self.code_server_url, &mut self.vnc_url, &mut self.ttyd_url, &mut self.dashboard_url] {
            url.take_if(|url| !is_showable(url));
        }
        self.tunnel_urls.retain(|_, url| is_showable(url));
        while self.tunnel_urls.len() > limits::TUNNEL_PORTS_MAX {
            self.tunnel_urls.pop_last();
        }
        self.sealed.take_if(|sealed| sealed.len() > SEALED_MAX_BYTES);
        self
    }

    /// Addresses by port, as the wire has them; `None` without any.
    pub(crate) fn tunnels(&self) -> Option<Map<String, Value>> {
        let urls: Map<String, Value> =
            self.tunnel_urls.iter().map(|(port, url)| (port.to_string(), Value::from(url.as_str()))).collect();
        (!urls.is_empty()).then_some(urls)
    }
}

/// What may be shown now.
pub(crate) fn shown(hot: &Hot) -> Option<&SandboxAccess> {
    hot.sandbox.access.as_ref().filter(|_| hot.sandbox.status == SandboxStatus::Ready)
}

/// For the Worker, which alone can open what is sealed.
pub(crate) fn read(hot: &Hot) -> CallReply {
    if hot.sandbox.status != SandboxStatus::Ready {
        return CallReply::refuse(409, ErrorCode::Conflict, "Sandbox access is unavailable");
    }
    let access = hot.sandbox.access.clone().unwrap_or_default();
    CallReply::json(
        200,
        &json!({"sandboxId": hot.sandbox.sandbox_id, "generation": hot.sandbox.generation, "access": access}),
    )
}

/// Addresses of open ports. The sandbox itself asks while it boots, people see them once it is up.
pub(crate) fn tunnel_urls(hot: &Hot, for_sandbox: bool) -> CallReply {
    if hot.sandbox.sandbox_id.is_none() {
        return CallReply::refuse(404, ErrorCode::NotFound, "No sandbox");
    }
    let access = if for_sandbox { hot.sandbox.access.as_ref() } else { shown(hot) };
    let urls = access.and_then(SandboxAccess::tunnels).unwrap_or_default();
    CallReply::json(200, &json!({"tunnelUrls": urls}))
}

impl Turn<'_, '_> {
    /// The backend's answer: kept, and shown when the sandbox is up already.
    pub(crate) fn keep_access(&mut self, access: Option<SandboxAccess>) {
        let sandbox = &mut self.hot.sandbox;
        let secrets = sandbox.parked_secrets.take();
        let Some(access) = access.map(SandboxAccess::bounded) else { return };
        let sealed = access.sealed.or(secrets);
        sandbox.access = Some(SandboxAccess { sealed, ..access });
        self.hot.sandbox_dirty = true;
        self.publish_access();
    }

    /// Tells everybody how the sandbox is reached, if it is. Called once for each generation: when the second of its
    /// bridge and its backend's answer is there.
    pub(crate) fn publish_access(&mut self) {
        let Some(access) = shown(self.hot) else { return };
        let (tunnels, dashboard) = (access.tunnels(), access.dashboard_url.clone());
        self.broadcast(&ServerMessage::SandboxAccessChanged);
        if let Some(urls) = tunnels {
            self.broadcast(&ServerMessage::TunnelUrls { urls });
        }
        if let Some(url) = dashboard {
            self.broadcast(&ServerMessage::SandboxDashboardUrl { url });
        }
    }

    /// The sandbox is reached no more. Of a stopped one that may go on the secrets are kept, sealed as they are.
    pub(crate) fn clear_access(&mut self) {
        let is_shown = shown(self.hot).is_some();
        let sandbox = &mut self.hot.sandbox;
        let secrets = sandbox.access.take().and_then(|access| access.sealed).or(sandbox.parked_secrets.take());
        sandbox.parked_secrets = secrets.filter(|_| sandbox.parked_token_hash.is_some());
        self.hot.sandbox_dirty = true;
        if is_shown {
            self.broadcast(&ServerMessage::SandboxAccessChanged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_without_a_password_are_shown() {
        for (url, showable) in [
            ("https://box.example/?folder=/work", true),
            ("http://127.0.0.1:8080", true),
            ("https://user:secret@box.example/", false),
            ("javascript:alert(1)", false),
            ("https://", false),
            ("https://box.example/ x", false),
            ("box.example", false),
        ] {
            assert_eq!(is_showable(url), showable, "{url}");
        }
        assert!(!is_showable(&format!("https://box.example/{}", "x".repeat(URL_MAX_BYTES))));
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let access = SandboxAccess {
            vnc_url: Some("vnc://box".to_owned()),
            tunnel_urls: (0..40).map(|port| (port, format!("https://p{port}.example"))).collect(),
            sealed: Some("x".repeat(SEALED_MAX_BYTES + 1)),
            ..SandboxAccess::default()
        };
        let bounded = access.bounded();
        assert_eq!(
            (bounded.vnc_url, bounded.sealed, bounded.tunnel_urls.len()),
            (None, None, limits::TUNNEL_PORTS_MAX)
        );
    }
}
