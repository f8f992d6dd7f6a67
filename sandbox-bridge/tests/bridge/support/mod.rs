//! What the tests play: the session, OpenCode, a model and a forge. The bridge itself is the real program.

pub mod forge;
pub mod inmate;
pub mod model;
pub mod opencode;
pub mod responses;
pub mod sandbox;
pub mod scan;
pub mod session;
pub mod session_calls;
pub mod signing_key;

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Polls until `look` finds something.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", within.as_secs());
        sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a script and gives what it printed.
pub fn sh(directory: &Path, script: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-euc", script])
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Seed")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "seed@example.com")))
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
