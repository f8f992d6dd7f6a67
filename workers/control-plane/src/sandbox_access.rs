//! How people reach a sandbox: what a backend says, sealed before the session sees it, and opened for one reader at a
//! time.

use std::collections::BTreeMap;
use std::fmt;

use oi_protocol::SessionId;
use oi_protocol::rest::{self, PageWithPassword, PageWithToken};
use oi_session::access::SandboxAccess;
use oi_worker_kit::sealed::{SealError, SealingKey};
use serde::{Deserialize, Serialize};

/// A page that asks for a password or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Door {
    /// Its address.
    pub url: String,
    /// The password or token.
    pub secret: String,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a backend's answer to a start says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendAccess {
    /// code-server, with its password.
    pub code_server: Option<Door>,
    /// The desktop, with its password.
    pub vnc: Option<Door>,
    /// The terminal, with its token.
    pub ttyd: Option<Door>,
    /// The vendor's page of the sandbox.
    pub dashboard_url: Option<String>,
    /// Ports that are open, with their addresses.
    pub tunnel_urls: BTreeMap<u16, String>,
}

#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Secrets {
    code_server: Option<String>,
    vnc: Option<String>,
    ttyd: Option<String>,
}

/// What is sealed opens for this sandbox only. A stopped one that goes on keeps its name.
fn place(session: &SessionId, sandbox_id: &str) -> String {
    format!("sessions/{session}/sandboxes/{sandbox_id}/access")
}

/// As the session keeps it.
pub fn seal(
    key: &SealingKey,
    session: &SessionId,
    sandbox_id: &str,
    access: BackendAccess,
) -> Result<SandboxAccess, SealError> {
    let split = |door: Option<Door>| door.map_or((None, None), |door| (Some(door.url), Some(door.secret)));
    let (code_server_url, code_server) = split(access.code_server);
    let (vnc_url, vnc) = split(access.vnc);
    let (ttyd_url, ttyd) = split(access.ttyd);
    let secrets = Secrets { code_server, vnc, ttyd };
    let sealed = if secrets == Secrets::default() {
        None
    } else {
        let plain = serde_json::to_string(&secrets).map_err(|_| SealError::Seal)?;
        Some(key.seal(&plain, &place(session, sandbox_id))?)
    };
    let (dashboard_url, tunnel_urls) = (access.dashboard_url, access.tunnel_urls);
    Ok(SandboxAccess { code_server_url, vnc_url, ttyd_url, dashboard_url, tunnel_urls, sealed })
}

/// With the secrets in clear, for a person who may have them. A page whose secret is not known is left out.
pub fn open(
    key: &SealingKey,
    session: &SessionId,
    sandbox_id: &str,
    access: SandboxAccess,
) -> Result<rest::SandboxAccess, SealError> {
    let secrets: Secrets = match &access.sealed {
        Some(sealed) => {
            let plain = key.open(sealed, &place(session, sandbox_id))?;
            serde_json::from_str(&plain).map_err(|_| SealError::Open)?
        }
        None => Secrets::default(),
    };
    let with_password = |url: Option<String>, secret: Option<String>| {
        url.zip(secret).map(|(url, password)| PageWithPassword { url, password })
    };
    Ok(rest::SandboxAccess {
        code_server: with_password(access.code_server_url, secrets.code_server),
        vnc: with_password(access.vnc_url, secrets.vnc),
        ttyd: access.ttyd_url.zip(secrets.ttyd).map(|(url, token)| PageWithToken { url, token }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key() -> SealingKey {
        SealingKey::from_base64("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").expect("32 bytes")
    }

    fn session(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    fn access() -> BackendAccess {
        let door = |url: &str, secret: &str| Some(Door { url: url.to_owned(), secret: secret.to_owned() });
        BackendAccess {
            code_server: door("https://code.example", "pass-1"),
            ttyd: door("https://term.example", "token-1"),
            tunnel_urls: BTreeMap::from([(3000, "https://p.example".to_owned())]),
            ..BackendAccess::default()
        }
    }

    #[test]
    fn secrets_are_sealed_for_their_sandbox_and_opened_as_the_wire_has_them() {
        let kept = seal(&key(), &session(1), "sandbox-1", access()).expect("seals");
        let stored = serde_json::to_string(&kept).expect("JSON");
        assert!(!stored.contains("pass-1") && !stored.contains("token-1"), "{stored}");
        assert!(!format!("{:?}", access()).contains("pass-1"), "nor are they in a log");
        let opened = open(&key(), &session(1), "sandbox-1", kept.clone()).expect("opens");
        assert_eq!(
            serde_json::to_value(&opened).expect("JSON"),
            json!({"codeServer": {"url": "https://code.example", "password": "pass-1"}, "vnc": null,
                "ttyd": {"url": "https://term.example", "token": "token-1"}})
        );
        assert!(open(&key(), &session(2), "sandbox-1", kept.clone()).is_err());
        assert!(open(&key(), &session(1), "sandbox-2", kept).is_err());
    }

    #[test]
    fn without_secrets_nothing_is_sealed_and_no_door_is_shown() {
        let plain = BackendAccess { code_server: None, ttyd: None, ..access() };
        let kept = seal(&key(), &session(1), "s", plain).expect("nothing to seal");
        assert_eq!((kept.sealed.as_ref(), kept.tunnel_urls.len()), (None, 1));
        let opened = open(&key(), &session(1), "s", kept).expect("nothing to open");
        assert_eq!(
            serde_json::to_value(&opened).expect("JSON"),
            json!({"codeServer": null, "vnc": null, "ttyd": null})
        );
    }
}
