//! `/workspace/.tunnels.env`: where a sandbox's ports are reached from outside, written by its backend: sandbox.md,
//! section 1.6.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oi_protocol::local_backend::{TUNNELS_FILE, tunnels_owner, tunnels_text};
use tokio::time::{Instant, sleep};

use crate::control_plane::{ControlPlane, ControlPlaneError};

/// Longest file that is looked at: ten ports with an address each.
const FILE_MAX_BYTES: u64 = 64 << 10;
const POLL: Duration = Duration::from_millis(200);
/// How often the control plane is asked.
const ASK: Duration = Duration::from_secs(1);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// Longest that a backend may ask for.
const WAIT_MAX_SECONDS: f64 = 600.0;

/// The tunnels of one sandbox.
#[derive(Debug, Clone)]
pub struct Tunnels {
    file: PathBuf,
    sandbox_id: String,
    ports: Vec<u16>,
}

impl Tunnels {
    /// Of a sandbox that expects these ports.
    pub fn new(workspace: &Path, sandbox_id: &str, ports: &[u16]) -> Self {
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        ports.dedup();
        Self { file: workspace.join(TUNNELS_FILE), sandbox_id: sandbox_id.to_owned(), ports }
    }

    /// Ports that are expected.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Removes what another sandbox's backend wrote, which a snapshot brought along, unless nothing is expected and it
    /// need not be.
    pub fn remove_stale(&self, always: bool) {
        if self.ports.is_empty() && !always {
            return;
        }
        let is_ours =
            || self.sandbox_id != "unknown" && self.lines().any(|line| line == tunnels_owner(&self.sandbox_id));
        // A link that leads nowhere is there too, and nobody could write through it.
        if self.file.symlink_metadata().is_ok() && !is_ours() {
            tracing::info!(event = "tunnel.stale_file_removed");
            if let Err(error) = std::fs::remove_file(&self.file) {
                tracing::warn!(event = "tunnel.stale_file_left", %error);
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        use std::io::Read as _;
        let mut text = String::new();
        let read = std::fs::File::open(&self.file)
            .and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text).map(drop));
        if read.is_err() {
            text.clear();
        }
        text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect::<Vec<_>>().into_iter()
    }

    /// Whether every expected port has its address.
    fn are_known(&self) -> bool {
        let lines: Vec<String> = self.lines().collect();
        let has = |prefix: &str| lines.iter().any(|line| line.strip_prefix(prefix).is_some_and(|url| !url.is_empty()));
        self.ports.iter().all(|port| has(&format!("TUNNEL_{port}=")))
    }

    /// Asks the control plane for the addresses until it has all of them, and writes the file: not every backend can. One
    /// that knows no such question is not asked again.
    pub async fn ask(&self, control_plane: &ControlPlane) {
        loop {
            match control_plane.tunnel_urls().await {
                Ok(urls) if self.ports.iter().all(|port| urls.contains_key(port)) => {
                    let urls = self.ports.iter().filter_map(|port| Some((*port, urls.get(port)?.clone()))).collect();
                    if !self.are_known()
                        && let Err(error) = write(&self.file, &self.sandbox_id, &urls)
                    {
                        tracing::warn!(event = "tunnel.env_file_not_written", %error);
                    }
                    return;
                }
                Err(error @ ControlPlaneError::Refused { status: 401 | 403 | 405, .. }) => {
                    tracing::warn!(event = "tunnel.not_told", %error);
                    return;
                }
                // A session whose backend has not answered yet has no sandbox, or no addresses.
                _ => sleep(ASK).await,
            }
        }
    }

    /// Waits until every expected port has its address; `false` when it did not within the limit.
    pub async fn wait(&self, limit: Duration) -> bool {
        let began = Instant::now();
        loop {
            if self.are_known() {
                let wait_ms = began.elapsed().as_millis();
                tracing::info!(event = "tunnel.env_file_ready", ports = ?self.ports, wait_ms);
                return true;
            }
            if began.elapsed() + POLL > limit {
                tracing::warn!(event = "tunnel.env_file_wait_timeout", ports = ?self.ports);
                return false;
            }
            sleep(POLL).await;
        }
    }
}

/// Writes the file of a sandbox. Who is in the sandbox owns the folder: what is in the file's place is removed, and no link
/// is followed.
pub fn write(file: &Path, sandbox_id: &str, urls: &BTreeMap<u16, String>) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
    file.write_all(tunnels_text(sandbox_id, urls).as_bytes())
}

/// `TUNNEL_WAIT_TIMEOUT_SECONDS`: seconds with a fraction; what is no such number counts as unset.
pub fn wait_limit(text: Option<&str>) -> Duration {
    let seconds = text.and_then(|text| text.trim().parse::<f64>().ok());
    match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
        Some(seconds) => Duration::from_secs_f64(seconds.min(WAIT_MAX_SECONDS)),
        None => DEFAULT_WAIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnels(folder: &Path, ports: &[u16]) -> Tunnels {
        Tunnels::new(folder, "sb-1", ports)
    }

    #[test]
    fn only_the_own_sandboxs_file_is_kept() {
        let own = "TUNNEL_SANDBOX_ID=sb-1\nTUNNEL_3000=https://a\n";
        let cases: [(&str, &[u16], bool, bool); 7] = [
            (own, &[3000], false, true),
            (own, &[], true, true),
            ("TUNNEL_SANDBOX_ID=sb-10\n", &[3000], false, false),
            ("# TUNNEL_SANDBOX_ID=sb-1\n", &[3000], false, false),
            ("TUNNEL_3000=https://old\n", &[], true, false),
            ("TUNNEL_3000=https://old\n", &[], false, true),
            ("", &[3000], false, false),
        ];
        for (text, ports, always, stays) in cases {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join(".tunnels.env");
            std::fs::write(&file, text).expect("written");
            tunnels(folder.path(), ports).remove_stale(always);
            assert_eq!(file.exists(), stays, "{text:?} {ports:?} {always}");
        }
    }

    #[test]
    fn a_sandbox_without_a_name_owns_no_file_and_a_dangling_link_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(".tunnels.env");
        std::fs::write(&file, "TUNNEL_SANDBOX_ID=unknown\n").expect("written");
        Tunnels::new(folder.path(), "unknown", &[1]).remove_stale(false);
        assert!(!file.exists());
        std::os::unix::fs::symlink("/nowhere/at/all", &file).expect("linked");
        tunnels(folder.path(), &[1]).remove_stale(false);
        assert!(file.symlink_metadata().is_err());
    }

    #[tokio::test]
    async fn every_expected_port_is_waited_for_and_no_longer_than_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(".tunnels.env");
        let tunnels = tunnels(folder.path(), &[3000, 30]);
        std::fs::write(&file, "TUNNEL_SANDBOX_ID=sb-1\nTUNNEL_3000=https://a\nTUNNEL_30=\n").expect("written");
        assert!(!tunnels.wait(Duration::from_millis(50)).await);
        let late = async {
            sleep(Duration::from_millis(50)).await;
            std::fs::write(&file, "TUNNEL_SANDBOX_ID=sb-1\nTUNNEL_30=https://b\nTUNNEL_3000=https://a\n")
        };
        let (known, written) = tokio::join!(tunnels.wait(Duration::from_secs(5)), late);
        assert!(known && written.is_ok());
    }

    #[test]
    fn a_limit_that_is_no_number_counts_as_unset() {
        let cases = [(None, 30.0), (Some("x"), 30.0), (Some("-1"), 30.0), (Some("NaN"), 30.0), (Some("0.5"), 0.5)];
        for (text, seconds) in cases {
            assert!((wait_limit(text).as_secs_f64() - seconds).abs() < 1e-9, "{text:?}");
        }
    }
}
