//! What a sandbox with a network of its own is told of its ways out.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::egress;
use super::network::{Policy, Server};
use crate::enclosed::ROUTE_VARIABLE;

/// The folder, in a sandbox's own, that holds the proxy's socket. Inside it is read-only.
pub const NET_FOLDER: &str = "net";
/// Where it is inside.
pub const NET_INSIDE: &str = "/run/oi-net";
/// Port of the proxy inside, or the next that no named server has.
const PROXY_PORT: u16 = 3128;

/// The ways out of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doors {
    /// Port of the proxy on the sandbox's loopback.
    pub port: u16,
    /// Servers of the host's loopback that are found on the sandbox's.
    pub forward: Vec<Server>,
}

impl Doors {
    /// Those that a policy allows.
    pub fn of(policy: &Policy) -> Self {
        let forward: Vec<Server> = policy.loopback().cloned().collect();
        let free = |port: &u16| forward.iter().all(|server| server.port != *port);
        Self { port: (PROXY_PORT..u16::MAX).find(free).unwrap_or(PROXY_PORT), forward }
    }

    /// Options of `supervise`.
    pub fn arguments(&self) -> Vec<OsString> {
        let socket = format!("{NET_INSIDE}/{}", egress::SOCKET);
        let mut arguments: Vec<OsString> =
            ["--egress".into(), socket.into(), "--egress-port".into(), self.port.to_string().into()].into();
        for server in &self.forward {
            arguments.extend(["--forward".into(), server.authority().into()]);
        }
        arguments
    }

    /// Variables by which programs find the proxy. The loopback is the sandbox's own, so it is not asked for that.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let (proxy, direct) = (format!("http://127.0.0.1:{}", self.port), "localhost,127.0.0.1,::1");
        let mut variables = BTreeMap::from([
            (ROUTE_VARIABLE.to_owned(), format!("127.0.0.1:{}", self.port)),
            // Node 22 and later ask it only when they are told to.
            ("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()),
        ]);
        for (name, value) in [("HTTP_PROXY", &*proxy), ("HTTPS_PROXY", &*proxy), ("NO_PROXY", direct)] {
            variables.insert(name.to_owned(), value.to_owned());
            variables.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use oi_protocol::local_backend::CreateSandboxRequest;

    use super::*;
    use crate::host::network::NetworkChoice;

    #[test]
    fn named_servers_of_the_loopback_are_found_inside_and_the_proxy_leaves_them_their_ports() {
        let named = |control_plane_url: &str| {
            let control_plane_url = control_plane_url.to_owned();
            let request = CreateSandboxRequest { control_plane_url, ..CreateSandboxRequest::default() };
            Doors::of(&Policy::new(NetworkChoice::Open, &request, &[]))
        };
        assert_eq!(named("https://control.example"), Doors { port: 3128, forward: Vec::new() });
        let taken = named("http://localhost:3128");
        assert_eq!((taken.port, taken.forward[0].authority()), (3129, "localhost:3128".to_owned()));
        let variables = taken.variables();
        assert_eq!(
            (&*variables["https_proxy"], &*variables[ROUTE_VARIABLE]),
            ("http://127.0.0.1:3129", "127.0.0.1:3129")
        );
    }
}
