//! How people reach what runs in a vendor's sandbox: which ports are open, and the passwords of the pages on them.

use std::collections::BTreeMap;

use oi_worker_kit::mac;
use oi_worker_kit::vars::Vars;

use super::BackendError;
use crate::sandbox_access::{BackendAccess, Door};

/// code-server.
pub const CODE_SERVER_PORT: u16 = 8080;
/// The desktop's page.
pub const DESKTOP_PORT: u16 = 6080;
/// Ports of ours within the sandbox: the agent, the desktop behind its page, the terminal and its proxy.
const TAKEN: [u16; 6] = [CODE_SERVER_PORT, DESKTOP_PORT, 4096, 5900, 7680, 7681];
/// Ports that may be opened beside those.
const MAX_TUNNELS: usize = 10;

/// What is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doors {
    /// code-server runs.
    pub code_server: bool,
    /// The desktop runs.
    pub desktop: bool,
    /// Ports of the users' own programs, in order.
    pub tunnels: Vec<u16>,
}

impl Doors {
    /// From `SANDBOX_CODE_SERVER`, `SANDBOX_DESKTOP` and `SANDBOX_TUNNEL_PORTS`.
    pub fn of(vars: &impl Vars) -> Result<Self, BackendError> {
        let refused = |what: &str| BackendError::Setup(format!("SANDBOX_TUNNEL_PORTS {what}"));
        let mut tunnels = Vec::new();
        for text in vars.list("SANDBOX_TUNNEL_PORTS") {
            let port = text.parse().ok().filter(|port| *port > 0).ok_or_else(|| refused("names what is no port"))?;
            if TAKEN.contains(&port) || tunnels.contains(&port) {
                return Err(refused(&format!("names {port}, which is taken")));
            }
            tunnels.push(port);
        }
        if tunnels.len() > MAX_TUNNELS {
            return Err(refused("names more than 10 ports"));
        }
        Ok(Self { code_server: vars.is_true("SANDBOX_CODE_SERVER"), desktop: vars.is_true("SANDBOX_DESKTOP"), tunnels })
    }

    /// All ports, ours first.
    pub fn ports(&self) -> Vec<u16> {
        let ours = [(self.code_server, CODE_SERVER_PORT), (self.desktop, DESKTOP_PORT)];
        let ours = ours.into_iter().filter_map(|(open, port)| open.then_some(port));
        ours.chain(self.tunnels.iter().copied()).collect()
    }

    /// With the addresses that the vendor has for the ports. One without an address is left out.
    pub fn access(&self, urls: &BTreeMap<u16, String>, passwords: &Passwords) -> Option<Box<BackendAccess>> {
        let door = |open: bool, port: u16, secret: &str| {
            let url = urls.get(&port).filter(|_| open)?;
            Some(Door { url: url.clone(), secret: secret.to_owned() })
        };
        let access = BackendAccess {
            code_server: door(self.code_server, CODE_SERVER_PORT, &passwords.code_server),
            vnc: door(self.desktop, DESKTOP_PORT, &passwords.desktop),
            ttyd: None,
            dashboard_url: None,
            tunnel_urls: self.tunnels.iter().filter_map(|port| Some((*port, urls.get(port)?.clone()))).collect(),
        };
        (access != BackendAccess::default()).then(|| Box::new(access))
    }
}

/// Passwords of a sandbox's pages: the same each time they are asked for, so that one which goes on, or which is found
/// again, keeps them.
pub struct Passwords {
    /// code-server's.
    pub code_server: String,
    /// The desktop's: eight letters, which is all that VNC takes.
    pub desktop: String,
}

impl Passwords {
    /// From the vendor's key, which never leaves the Worker.
    pub fn of(key: &str, sandbox_id: &str) -> Self {
        const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let code_server = mac::hmac_hex(key.as_bytes(), &[b"code-server:", sandbox_id.as_bytes()]);
        let desktop = mac::hmac_sha256(key.as_bytes(), &[b"vnc:", sandbox_id.as_bytes()]);
        let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
        Self { code_server: code_server[..32].to_owned(), desktop: desktop[..8].iter().map(letter).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(pairs: &[(&'static str, &'static str)]) -> Result<Doors, BackendError> {
        Doors::of(&pairs.iter().copied().collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn doors_are_opened_by_variables_and_bad_ones_are_refused() {
        assert_eq!(doors(&[]), Ok(Doors::default()));
        let open = doors(&[("SANDBOX_CODE_SERVER", "true"), ("SANDBOX_TUNNEL_PORTS", " 3000, 5173 ")]).expect("fine");
        assert_eq!(open.ports(), [8080, 3000, 5173]);
        for bad in ["0", "65536", "http", "3000,3000", "8080", "7681", "1,2,3,4,5,6,7,9,10,11,12"] {
            assert!(doors(&[("SANDBOX_TUNNEL_PORTS", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_without_an_address_is_not_shown() {
        let doors = Doors { code_server: true, desktop: true, tunnels: vec![3000, 3001] };
        let passwords = Passwords::of("key", "sandbox-1");
        let urls = BTreeMap::from([(8080, "https://c".to_owned()), (3001, "https://t".to_owned())]);
        let access = doors.access(&urls, &passwords).expect("two of four");
        assert_eq!(access.code_server.as_ref().map(|door| door.secret.len()), Some(32));
        assert_eq!((access.vnc, access.tunnel_urls), (None, BTreeMap::from([(3001, "https://t".to_owned())])));
        assert_eq!(doors.access(&BTreeMap::new(), &passwords), None);
    }

    #[test]
    fn passwords_stay_and_differ() {
        let of = |key, id| (Passwords::of(key, id).code_server, Passwords::of(key, id).desktop);
        assert_eq!(of("k", "s"), of("k", "s"));
        assert_ne!(of("k", "s").0, of("k", "t").0);
        assert_ne!(of("k", "s").1, of("l", "s").1);
        let desktop = of("k", "s").1;
        assert!(desktop.len() == 8 && desktop.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{desktop}");
    }
}
