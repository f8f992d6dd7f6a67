//! Which ports of which sandbox people reach, and under what names.
//!
//! Each port has an origin of its own, `http://p3000-<name>.localhost:<port of the host>`: browsers take every name below
//! `localhost` to this machine, and share no cookie and no storage between two of them, nor with the app's own address.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oi_protocol::limits::TUNNEL_PORTS_MAX;
use oi_protocol::local_backend::{LocalAccess, SandboxServices, TUNNELS_FILE};

use crate::random;
use crate::secret::Secret;
use crate::supervise::tunnels;

/// Parameter that carries the token, once.
pub const TOKEN_PARAMETER: &str = "oi_token";

/// Where a name leads.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// The sandbox.
    pub sandbox_id: String,
    /// Its port.
    pub port: u16,
    /// What opens it.
    pub token: Secret,
}

struct OfSandbox {
    access: LocalAccess,
    names: Vec<String>,
}

#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, Tunnel>,
    by_sandbox: BTreeMap<String, OfSandbox>,
}

/// All tunnels of this host. They end with it, as its sandboxes do.
pub struct Tunnels {
    door: u16,
    known: Mutex<Known>,
}

impl Tunnels {
    /// None yet; people come in at this port.
    pub fn new(door: u16) -> Self {
        Self { door, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what a sandbox offers and tells it, in place of what was open of it.
    pub fn open(&self, sandbox_id: &str, services: &SandboxServices, workspace: &Path) {
        self.close(sandbox_id);
        let mut opened = Vec::new();
        let name = random::hex::<8>();
        let mut open = |port: u16| {
            let (label, token) = (format!("p{port}-{name}"), Secret::new(random::hex::<16>()));
            let url = format!("http://{label}.localhost:{}/?{TOKEN_PARAMETER}={}", self.door, token.reveal());
            opened.push((label, Tunnel { sandbox_id: sandbox_id.to_owned(), port, token }));
            url
        };
        let access = LocalAccess {
            code_server_url: services.code_server_at().map(&mut open),
            vnc_url: services.desktop_at().map(&mut open),
            tunnel_urls: services.tunnel_ports.iter().take(TUNNEL_PORTS_MAX).map(|port| (*port, open(*port))).collect(),
        };
        if opened.is_empty() {
            return;
        }
        if !access.tunnel_urls.is_empty()
            && let Err(error) = tunnels::write(&workspace.join(TUNNELS_FILE), sandbox_id, &access.tunnel_urls)
        {
            tracing::warn!(event = "tunnels.not_written", sandbox_id, %error);
        }
        let names = opened.iter().map(|(label, _)| label.clone()).collect();
        let mut known = self.lock();
        known.by_name.extend(opened);
        known.by_sandbox.insert(sandbox_id.to_owned(), OfSandbox { access, names });
    }

    /// Closes what was open of a sandbox.
    pub fn close(&self, sandbox_id: &str) {
        let mut known = self.lock();
        for name in known.by_sandbox.remove(sandbox_id).map(|of| of.names).unwrap_or_default() {
            known.by_name.remove(&name);
        }
    }

    /// Addresses of a sandbox, if it has any.
    pub fn access(&self, sandbox_id: &str) -> Option<LocalAccess> {
        self.lock().by_sandbox.get(sandbox_id).map(|of| of.access.clone())
    }

    /// Where a host name leads: `p3000-<name>.localhost`, with a port or without.
    pub fn find(&self, host: &str) -> Option<Tunnel> {
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let label = host.strip_suffix(".localhost")?.to_ascii_lowercase();
        self.lock().by_name.get(&label).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(tunnel_ports: Vec<u16>) -> SandboxServices {
        let code_server_password = Some("p".to_owned());
        SandboxServices { code_server_password, tunnel_ports, ..SandboxServices::default() }
    }

    #[test]
    fn each_port_has_a_name_and_a_token_of_its_own_and_the_sandbox_is_told() {
        let workspace = tempfile::tempdir().expect("a folder");
        let precious = workspace.path().join("precious");
        std::fs::write(&precious, "mine").expect("written");
        std::os::unix::fs::symlink(&precious, workspace.path().join(TUNNELS_FILE)).expect("linked");
        let tunnels = Tunnels::new(4000);
        tunnels.open("sb-1", &services(vec![5173, 3000]), workspace.path());
        let access = tunnels.access("sb-1").expect("open");
        let text = std::fs::read_to_string(workspace.path().join(TUNNELS_FILE)).expect("there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TUNNEL_SANDBOX_ID=sb-1");
        assert_eq!(lines[1], format!("TUNNEL_3000={}", access.tunnel_urls[&3000]));
        assert_eq!(lines[2], format!("TUNNEL_5173={}", access.tunnel_urls[&5173]));
        assert_eq!(lines.len(), 3, "code-server is for people");
        assert_eq!(std::fs::read_to_string(&precious).expect("there"), "mine", "no link is followed");
        let host =
            |url: &str| url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
        let found = tunnels.find(&host(&access.tunnel_urls[&3000])).expect("leads there");
        assert_eq!((found.sandbox_id.as_str(), found.port), ("sb-1", 3000));
        let editor = tunnels.find(&host(access.code_server_url.as_ref().expect("open"))).expect("leads there");
        assert_eq!(editor.port, 8080);
        assert!(!editor.token.matches(found.token.reveal()));
        for wrong in ["localhost:4000", "127.0.0.1:4000", "p3000-0.localhost", "x.p3000.localhost"] {
            assert!(tunnels.find(wrong).is_none(), "{wrong}");
        }
        tunnels.close("sb-1");
        assert!(tunnels.access("sb-1").is_none() && tunnels.find(&host(&access.tunnel_urls[&3000])).is_none());
    }

    #[test]
    fn ten_ports_are_opened_at_most_and_none_without_being_asked_for() {
        let workspace = tempfile::tempdir().expect("a folder");
        let tunnels = Tunnels::new(4000);
        tunnels.open("a", &services((3000..3020).collect()), workspace.path());
        assert_eq!(tunnels.access("a").map(|access| access.tunnel_urls.len()), Some(10));
        tunnels.open("b", &SandboxServices::default(), workspace.path());
        assert_eq!(tunnels.access("b"), None);
    }
}
