//! A sandbox of a real host in which a test runs scripts of its own, as an agent could.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oi_protocol::local_backend::CreateSandboxRequest;
use reqwest::StatusCode;

use super::eventually;
use super::sandbox::config;
use super::session::Session;
use crate::host::Host;

/// In OpenCode's place: runs the scripts that appear in the workspace, one after another.
const RUNS_SCRIPTS: &str = r#"cd "$HOME/.."; if [ -d workspace ]; then cd workspace; else cd /workspace; fi
mkdir -p .asked; while :; do for f in .asked/*.sh; do [ -e "$f" ] || continue
sh "$f" > "${f%.sh}.out" 2>&1 < /dev/null; mv "$f" "${f%.sh}.ran"; done; sleep 0.02; done"#;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A sandbox that runs scripts.
pub struct Inmate {
    pub session: Session,
    pub config: CreateSandboxRequest,
    workspace: PathBuf,
}

/// A host for such sandboxes.
pub async fn host(isolation: &'static str, options: &[&str]) -> Host {
    Host::with_options(isolation, RUNS_SCRIPTS, options).await
}

impl Inmate {
    /// A new sandbox.
    pub async fn start(host: &Host) -> Self {
        let session = Session::start().await;
        let config = config(&session, None, "http://127.0.0.1:9/v1");
        Self::of(host, session, config).await
    }

    /// The sandbox of a configuration.
    pub async fn of(host: &Host, session: Session, config: CreateSandboxRequest) -> Self {
        let (status, answer) = host.create(&config).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        Self::known(host, session, config)
    }

    /// One that was made already.
    pub fn known(host: &Host, session: Session, config: CreateSandboxRequest) -> Self {
        let workspace = host.sandbox_folder(&config.sandbox_id).join("workspace");
        Self { session, config, workspace }
    }

    /// Gives a script to run, without waiting for its end.
    pub async fn begin(&self, script: &str) -> PathBuf {
        let asked = self.workspace.join(".asked");
        eventually("the sandbox's start", Duration::from_secs(20), || asked.is_dir().then_some(())).await;
        let name = format!("{:06}", NEXT.fetch_add(1, Ordering::Relaxed));
        let draft = asked.join(format!("{name}.draft"));
        std::fs::write(&draft, script).expect("written");
        std::fs::rename(draft, asked.join(format!("{name}.sh"))).expect("renamed");
        asked.join(name)
    }

    /// Runs a script and gives what it printed.
    pub async fn sh(&self, script: &str) -> String {
        let asked = self.begin(script).await;
        let ran = asked.with_extension("ran");
        eventually(script, Duration::from_secs(20), || ran.exists().then_some(())).await;
        let printed = std::fs::read(asked.with_extension("out")).expect("its output");
        String::from_utf8_lossy(&printed).trim().to_owned()
    }
}
