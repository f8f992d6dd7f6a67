//! Which port each program listens on, chosen once and kept through every restart.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Free ports are taken from here: below the range that the kernel gives to outgoing connections, so that none of
/// those takes one between two starts of the same program.
const FREE_FIRST: u16 = 20_000;
const FREE_LAST: u16 = 31_999;

/// What a person asked for, by flag.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// What listens there, in a message.
    pub what: &'static str,
    /// The flag that moves it.
    pub flag: &'static str,
    /// The port, 0 for any free one, or none to follow the base port.
    pub port: Option<u16>,
    /// Distance from the base port.
    pub offset: u16,
}

/// Ports that are ours until this is dropped: other stacks that choose free ones keep away from them.
pub struct Leases {
    folder: PathBuf,
    held: Vec<File>,
    ports: BTreeSet<u16>,
}

impl Leases {
    /// `folder` is shared by every stack of this machine.
    pub fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(Failure::file("make the folder", &folder))?;
        Ok(Self { folder, held: Vec::new(), ports: BTreeSet::new() })
    }

    /// The port for one program. `base` 0 means that every port is a free one.
    pub fn take(&mut self, base: u16, asked: Asked) -> Result<u16> {
        let taken = |port| Failure::PortTaken { port, what: asked.what, flag: asked.flag };
        let wanted = match (asked.port, base) {
            (Some(0), _) | (None, 0) => return self.free(),
            (Some(port), _) => port,
            (None, base) => base.checked_add(asked.offset).ok_or_else(|| taken(base))?,
        };
        if self.ports.contains(&wanted) || !is_free(wanted) || !self.lease(wanted) {
            return Err(taken(wanted));
        }
        Ok(wanted)
    }

    /// Any free port.
    pub fn free(&mut self) -> Result<u16> {
        let span = u32::from(FREE_LAST - FREE_FIRST) + 1;
        let start = random_u32() % span;
        // Every port once, from a random one on.
        for step in 0..span {
            let port = FREE_FIRST + ((start + step) % span) as u16;
            if !self.ports.contains(&port) && is_free(port) && self.lease(port) {
                return Ok(port);
            }
        }
        Err(Failure::Missing(format!("no free port between {FREE_FIRST} and {FREE_LAST}")))
    }

    fn lease(&mut self, port: u16) -> bool {
        let lock = |path: &Path| File::create(path).ok().filter(|file| file.try_lock().is_ok());
        let Some(file) = lock(&self.folder.join(port.to_string())) else { return false };
        self.held.push(file);
        self.ports.insert(port);
        true
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn random_u32() -> u32 {
    getrandom::u32().expect("the kernel gives random bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(dir: &tempfile::TempDir) -> Leases {
        Leases::new(dir.path().join("ports")).expect("made")
    }

    fn asked(port: Option<u16>) -> Asked {
        Asked { what: "the forge", flag: "--forge-port", port, offset: 1 }
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_port_and_the_flag() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = listener.local_addr().expect("it has one").port();
        let refused = leases(&dir).take(9, asked(Some(port))).expect_err("it is taken");
        let text = refused.to_string();
        assert!(text.contains(&format!("port {port} (the forge)")) && text.contains("`--forge-port`"), "{text}");
    }

    #[test]
    fn ports_follow_the_base_unless_a_flag_moves_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut leases = leases(&dir);
        let base = leases.free().expect("one is free") + 40;
        assert_eq!(leases.take(base, asked(None)).expect("free"), base + 1);
        let other = base + 7;
        assert_eq!(leases.take(base, asked(Some(other))).expect("free"), other);
    }

    #[test]
    fn a_base_past_the_last_port_is_refused_not_wrapped() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(leases(&dir).take(u16::MAX, asked(None)).is_err());
    }

    #[test]
    fn two_stacks_that_choose_free_ports_never_share_one() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (mut one, mut two) = (leases(&dir), leases(&dir));
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            assert!(seen.insert(one.take(0, asked(None)).expect("free")));
            assert!(seen.insert(two.take(8787, asked(Some(0))).expect("free")));
        }
        assert!(seen.iter().all(|port| (FREE_FIRST..=FREE_LAST).contains(port)));
    }

    #[test]
    fn a_port_is_free_again_when_its_stack_is_gone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = leases(&dir).free().expect("free");
        assert_eq!(leases(&dir).take(1, asked(Some(port))).expect("free again"), port);
    }
}
