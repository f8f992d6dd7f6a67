//! The boot: folders, then checkouts and the agent side by side, each phase told as it goes.

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use oi_protocol::UnixMillis;
use oi_protocol::event::{
    BootProgress, BootStatus, GitSync, GitSyncStatus, Ready, RepositoryBaseline, Warning, WarningScope,
};
use oi_protocol::local_backend::CreateSandboxRequest;
use oi_protocol::sandbox_socket::SandboxEvent;
use oi_protocol::text::truncate_bytes;
use tokio::sync::watch;

use super::places::Places;
use super::{hooks, workspace_file};
use crate::agent::Agent as _;
use crate::agent::any::AnyAgent;
use crate::agent::opencode::config;
use crate::bridge::Stamp;
use crate::bridge::outbox::Outbox;
use crate::bridge::runner::WorkspaceState;
use crate::clock;
use crate::diff::OWN_FILES;
use crate::git::{Git, Workspace, checkout};

/// Version of this runtime, as sessions record it.
pub const RUNTIME_VERSION: &str = concat!("v100-rust-", env!("CARGO_PKG_VERSION"));

/// Tells how the boot goes.
#[derive(Clone)]
pub struct Teller {
    /// Where to.
    pub outbox: Arc<Outbox>,
    /// As whom.
    pub stamp: Stamp,
}

impl Teller {
    fn tell(&self, event: &SandboxEvent) {
        if let Err(error) = self.outbox.emit(event) {
            tracing::warn!(event = "boot.not_told", %error);
        }
    }

    /// Tells where a phase is.
    pub fn phase(&self, phase: &str, status: BootStatus, started_at: UnixMillis, detail: Option<&str>) {
        let duration = clock::now().since(started_at);
        let duration_ms = (status != BootStatus::Started).then_some(duration);
        tracing::info!(event = "boot.phase", phase, ?status, duration_ms = duration);
        self.tell(&SandboxEvent::BootProgress(BootProgress {
            phase: phase.to_owned(),
            status,
            started_at,
            duration_ms,
            detail: detail.map(|text| truncate_bytes(text, 2000).to_owned()),
            sandbox_id: self.stamp.sandbox_id.clone(),
            timestamp: Stamp::timestamp(),
        }));
    }

    /// Tells something that stops nothing.
    pub fn warn(&self, message: String) {
        self.tell(&SandboxEvent::Warning(Warning {
            scope: WarningScope::Start,
            message,
            repo_owner: None,
            repo_name: None,
            sandbox_id: self.stamp.sandbox_id.clone(),
            timestamp: Stamp::timestamp(),
        }));
    }

    async fn during<T>(
        &self,
        phase: &str,
        detail: &str,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let started = clock::now();
        self.phase(phase, BootStatus::Started, started, Some(detail));
        let result = work.await;
        match &result {
            Ok(_) => self.phase(phase, BootStatus::Completed, started, Some(detail)),
            Err(reason) => self.phase(phase, BootStatus::Failed, started, Some(reason)),
        }
        result
    }
}

/// Everything that the boot needs and makes.
pub struct Boot {
    pub config: Arc<CreateSandboxRequest>,
    pub places: Places,
    pub environment: Vec<(OsString, OsString)>,
    pub git: Git,
    pub teller: Teller,
    pub agent: Arc<AnyAgent>,
    pub workspace: watch::Sender<WorkspaceState>,
    pub ready: watch::Sender<SandboxEvent>,
}

/// What `ready` says, as far as it is known.
pub fn ready_event(stamp: &Stamp, session: Option<String>, workspace: Option<&Workspace>) -> SandboxEvent {
    let baselines = |workspace: &Workspace| {
        let baseline = |checkout: &crate::git::Checkout| {
            Some(RepositoryBaseline {
                position: checkout.position,
                repo_owner: checkout.owner.clone(),
                repo_name: checkout.name.clone(),
                base_sha: checkout.base_sha.clone()?,
            })
        };
        workspace.checkouts.iter().filter_map(baseline).collect()
    };
    SandboxEvent::Ready(Ready {
        opencode_session_id: session,
        runtime_version: Some(RUNTIME_VERSION.to_owned()),
        repositories: workspace.map(baselines),
        sandbox_id: stamp.sandbox_id.clone(),
        timestamp: Stamp::timestamp(),
    })
}

impl Boot {
    /// Runs the boot to its end. Prompts do not wait for all of it: each waits for what it needs.
    pub async fn run(self, began: UnixMillis) {
        let (workspace, agent) = tokio::join!(self.prepare_workspace(), self.wait_for_agent());
        let told = &self.teller;
        match (workspace, agent) {
            (Ok(workspace), Ok(())) => {
                let session = self.agent.warm(&workspace.directory, &self.config.model).await;
                let ready = ready_event(&told.stamp, session, Some(&workspace));
                self.ready.send_replace(ready.clone());
                told.tell(&ready);
                told.phase("ready", BootStatus::Completed, began, None);
            }
            (Err(reason), _) | (_, Err(reason)) => told.phase("ready", BootStatus::Failed, began, Some(&reason)),
        }
    }

    async fn prepare_workspace(&self) -> Result<Arc<Workspace>, String> {
        let prepared = self.checkouts().await.map(Arc::new);
        if let Ok(workspace) = &prepared {
            self.run_setup(workspace).await;
        }
        self.workspace.send_replace(Some(prepared.clone()));
        prepared
    }

    async fn checkouts(&self) -> Result<Workspace, String> {
        let repositories = &self.config.repositories;
        let clone = async {
            let prepared = checkout::prepare(&self.git, &self.places.workspace, repositories).await;
            let workspace = prepared.map_err(|error| error.to_string())?;
            for checkout in &workspace.checkouts {
                tidy_opencode_folder(&checkout.path);
            }
            if let Err(error) = workspace_file::write(&self.places.workspace, &workspace) {
                tracing::warn!(event = "boot.no_workspace_file", %error);
            }
            Ok(workspace)
        };
        if repositories.is_empty() {
            return clone.await;
        }
        let names: Vec<String> = repositories.iter().map(|r| format!("{}/{}", r.repo_owner, r.repo_name)).collect();
        let cloned = self.teller.during("clone", &names.join(", "), clone).await;
        let sha = cloned.as_ref().ok().and_then(|workspace| workspace.checkouts.first()?.base_sha.clone());
        self.teller.tell(&SandboxEvent::GitSync(GitSync {
            status: if cloned.is_ok() { GitSyncStatus::Completed } else { GitSyncStatus::Failed },
            sha,
            sandbox_id: self.teller.stamp.sandbox_id.clone(),
            timestamp: Stamp::timestamp(),
        }));
        cloned
    }

    async fn run_setup(&self, workspace: &Workspace) {
        let kept = self.places.kept();
        let due: Vec<_> = workspace
            .checkouts
            .iter()
            .filter_map(|checkout| Some((checkout, hooks::pending(checkout, &kept)?)))
            .collect();
        if due.is_empty() {
            return;
        }
        let work = async {
            // One after another: a script may rely on what the one before it did.
            let mut failures = Vec::new();
            for (checkout, script) in due {
                if let Err(message) = hooks::run_setup(checkout, &script, &kept, &self.environment).await {
                    self.teller.tell(&SandboxEvent::Warning(Warning {
                        scope: WarningScope::Setup,
                        message: message.clone(),
                        repo_owner: Some(checkout.owner.clone()),
                        repo_name: Some(checkout.name.clone()),
                        sandbox_id: self.teller.stamp.sandbox_id.clone(),
                        timestamp: Stamp::timestamp(),
                    }));
                    failures.push(message);
                }
            }
            if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
        };
        drop(self.teller.during("setup", ".openinspect/setup.sh", work).await);
    }

    async fn wait_for_agent(&self) -> Result<(), String> {
        self.teller.during("agent", self.agent.name(), self.agent.up()).await
    }
}

/// A repository with a `.opencode` folder would make OpenCode run `npm install` there: the stub prevents it, and is
/// hidden from git.
fn tidy_opencode_folder(checkout: &Path) {
    let folder = checkout.join(".opencode");
    if !folder.is_dir() || folder.join("package.json").exists() {
        return;
    }
    let hidden = OWN_FILES.map(|path| format!("/{path}\n")).concat();
    let exclude = checkout.join(".git/info/exclude");
    let known = std::fs::read_to_string(&exclude).unwrap_or_default();
    let written = config::stub_npm(&folder).and_then(|()| {
        if known.contains(&hidden) {
            return Ok(());
        }
        if let Some(parent) = exclude.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&exclude, format!("{known}\n{hidden}"))
    });
    if let Err(error) = written {
        tracing::warn!(event = "boot.npm_stub_failed", %error);
    }
}
