//! `.openinspect/setup.sh`: a repository's own preparation, once in a fresh workspace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::git::Checkout;

const DEFAULT_LIMIT_SECONDS: u64 = 300;
/// Between asking a script to end and ending it.
const GRACE: Duration = Duration::from_secs(5);

/// The script of a checkout, when it has one that did not run yet.
pub fn pending(checkout: &Checkout, kept: &Path) -> Option<PathBuf> {
    let script = checkout.path.join(".openinspect/setup.sh");
    (script.is_file() && !mark(checkout, kept).exists()).then_some(script)
}

fn mark(checkout: &Checkout, kept: &Path) -> PathBuf {
    kept.join(format!("setup-{}.done", checkout.name))
}

/// Where the script's output is, for whoever looks for the reason of a failure.
pub fn log_path(checkout: &Checkout, kept: &Path) -> PathBuf {
    kept.join(format!("setup-{}.log", checkout.name))
}

fn limit(environment: &[(OsString, OsString)]) -> Duration {
    let set = environment.iter().find(|(name, _)| name == "SETUP_TIMEOUT_SECONDS");
    let seconds = set.and_then(|(_, value)| value.to_str()?.parse().ok()).filter(|seconds| *seconds > 0);
    Duration::from_secs(seconds.unwrap_or(DEFAULT_LIMIT_SECONDS))
}

/// Runs the script. Its output goes to a file, never into logs or events: it may hold the users' secrets.
pub async fn run_setup(
    checkout: &Checkout,
    script: &Path,
    kept: &Path,
    environment: &[(OsString, OsString)],
) -> Result<(), String> {
    let failed = |what: String| format!("setup.sh of {}/{} {what}", checkout.owner, checkout.name);
    let io = |error: std::io::Error| failed(format!("could not be run: {error}"));
    std::fs::create_dir_all(kept).map_err(io)?;
    let log = std::fs::File::create(log_path(checkout, kept)).map_err(io)?;
    let limit = limit(environment);
    let mut child = Command::new("bash")
        .arg(script)
        .current_dir(&checkout.path)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("OPENINSPECT_BOOT_MODE", "fresh")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io)?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(io)?;
    let group = child.id().and_then(|id| Pid::from_raw(id as i32));
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(Ok(status)) if status.success() => {
            std::fs::write(mark(checkout, kept), "").map_err(io)?;
            Ok(())
        }
        Ok(Ok(status)) => {
            Err(failed(format!("ended with {status}; its output is in {}", log_path(checkout, kept).display())))
        }
        Ok(Err(error)) => Err(io(error)),
        Err(_) => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::TERM);
                drop(tokio::time::timeout(GRACE, child.wait()).await);
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(failed(format!("did not end within {} s and was stopped", limit.as_secs())))
        }
    }
}
