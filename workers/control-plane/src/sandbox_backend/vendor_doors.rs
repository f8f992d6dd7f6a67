//! How people reach what runs in a vendor's sandbox: which ports are open, and the passwords of the pages on them.

use std::collections::BTreeMap;

use oi_protocol::local_backend::{SandboxServices, TUNNELS_FILE, tunnels_text};
use oi_worker_kit::mac;

use super::vendor_environment::quoted;
use crate::sandbox_access::{BackendAccess, Door};

/// What is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doors {
    /// code-server's port, where it runs.
    pub code_server: Option<u16>,
    /// The port of the desktop's page, where that runs.
    pub desktop: Option<u16>,
    /// Ports of the users' own programs, in order.
    pub tunnels: Vec<u16>,
}

impl Doors {
    /// By the settings of a sandbox, whose ports do not clash.
    pub fn of(services: &SandboxServices) -> Self {
        Self {
            code_server: services.code_server_at(),
            desktop: services.desktop_at(),
            tunnels: services.tunnel_ports.clone(),
        }
    }

    /// All ports, ours first.
    pub fn ports(&self) -> Vec<u16> {
        self.code_server.into_iter().chain(self.desktop).chain(self.tunnels.iter().copied()).collect()
    }

    /// A shell script that tells a sandbox the addresses of its tunnels; nothing where it has none.
    pub fn tunnels_script(&self, sandbox_id: &str, urls: &BTreeMap<u16, String>) -> String {
        if self.tunnels.is_empty() {
            return String::new();
        }
        let known = self.tunnels.iter().filter_map(|port| Some((port, urls.get(port)?)));
        let (text, file) = (quoted(&tunnels_text(sandbox_id, known)), format!("/workspace/{TUNNELS_FILE}"));
        // Moved to its place whole: the boot reads it as soon as it is there.
        format!("{{ mkdir -p /workspace && printf %s {text} >{file}.new && mv {file}.new {file}; }} || exit 1\n")
    }

    /// With the addresses that the vendor has for the ports. One without an address is left out.
    pub fn access(&self, urls: &BTreeMap<u16, String>, passwords: &Passwords) -> Option<Box<BackendAccess>> {
        let door = |port: Option<u16>, secret: &str| {
            let url = urls.get(&port?)?;
            Some(Door { url: url.clone(), secret: secret.to_owned() })
        };
        let access = BackendAccess {
            code_server: door(self.code_server, &passwords.code_server),
            vnc: door(self.desktop, &passwords.desktop),
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

    fn services() -> SandboxServices {
        SandboxServices {
            code_server_password: Some("theirs".to_owned()),
            code_server_port: Some(9000),
            vnc_password: Some("theirs".to_owned()),
            tunnel_ports: vec![3000, 5173],
            ..SandboxServices::default()
        }
    }

    #[test]
    fn what_the_settings_turn_on_is_open_at_the_ports_that_they_name() {
        assert!(Doors::of(&SandboxServices::default()).ports().is_empty());
        assert_eq!(Doors::of(&services()).ports(), [9000, 6080, 3000, 5173]);
        let off = SandboxServices { code_server_password: None, ..services() };
        assert_eq!(Doors::of(&off).ports(), [6080, 3000, 5173]);
    }

    #[test]
    fn a_shell_writes_the_tunnels_file_whatever_is_in_it() {
        let doors = Doors::of(&services());
        let urls = BTreeMap::from([(3000, "https://it's/$(id)".to_owned()), (9000, "https://c".to_owned())]);
        let folder = std::env::temp_dir().join(format!("oi-tunnels-{}", std::process::id()));
        let script = doors.tunnels_script("sandbox-1", &urls).replace("/workspace", &folder.display().to_string());
        let ran = std::process::Command::new("sh").args(["-c", &script]).status().expect("a shell");
        assert!(ran.success(), "{script}");
        let written = std::fs::read_to_string(folder.join(".tunnels.env")).expect("it is there");
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(written, "TUNNEL_SANDBOX_ID=sandbox-1\nTUNNEL_3000=https://it's/$(id)\n");
        assert_eq!(Doors::default().tunnels_script("sandbox-1", &urls), "");
    }

    #[test]
    fn a_page_without_an_address_is_not_shown() {
        let doors = Doors { code_server: Some(8080), desktop: Some(6080), tunnels: vec![3000, 3001] };
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
