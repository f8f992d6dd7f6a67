//! The workspace's part of a boot: checkouts, hooks, and what the agent finds in the folders. A session's sandbox and an
//! image's build share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oi_protocol::event::{GitSyncStatus, WarningScope};
use oi_protocol::local_backend::{CheckoutRepository, CreateSandboxRequest};

use super::boot_plan::{BootPlan, OnFailure, on_start_failure};
use super::failure::BootError;
use super::hooks::{Hook, Hooks, setup_mark};
use super::places::Places;
use super::teller::Teller;
use super::tunnels::{Tunnels, wait_limit};
use super::{assembly, manifest, workspace_file};
use crate::agent::opencode::config;
use crate::control_plane::ControlPlane;
use crate::diff::OWN_FILES;
use crate::git::sync::{self, Found, Stale, SyncLimits, Synced};
use crate::git::{Checkout, Git, Workspace, checkout};

/// What brings the workspace up.
pub struct WorkspaceBoot {
    pub config: Arc<CreateSandboxRequest>,
    pub places: Places,
    pub git: Git,
    pub teller: Teller,
    pub plan: BootPlan,
    /// What was there of each repository.
    pub found: Vec<Found>,
    pub hooks: Hooks,
}

impl WorkspaceBoot {
    fn root(&self) -> &Path {
        &self.places.workspace
    }

    fn repositories(&self) -> &[CheckoutRepository] {
        &self.config.repositories
    }

    fn tunnels(&self) -> Tunnels {
        Tunnels::new(self.root(), &self.config.sandbox_id, &self.config.services.tunnel_ports)
    }

    /// What comes before git talks to anybody: names are checked, leftovers of other sandboxes go.
    pub async fn arrange(&self) -> Result<(), BootError> {
        checkout::validate(self.repositories())?;
        self.tunnels().remove_stale(self.plan.always_removes_tunnels);
        manifest::write(&self.places.temporary_dir, self.root(), self.repositories(), None);
        let there = self.repositories().iter().zip(&self.found).filter(|(_, found)| **found != Found::Nothing);
        let resets = there.map(|(repository, _)| sync::reset_address(&self.git, self.root(), repository));
        futures_util::future::join_all(resets).await;
        Ok(())
    }

    /// The workspace as it was found, for an agent that may read already.
    pub fn as_found(&self) -> Workspace {
        let workspace = sync::as_found(self.root(), self.repositories());
        self.furnish(&workspace, !self.plan.sync.moves_head);
        workspace
    }

    /// Clones what is missing and brings the rest up to date, all at the same time.
    pub async fn sync(&self) -> Result<Workspace, BootError> {
        if self.repositories().is_empty() {
            return Ok(sync::assemble(self.root(), &[], []));
        }
        let (cloned, fetched) = tokio::join!(
            self.phase("clone", |found| found == Found::Nothing),
            self.phase("fetch", |found| found != Found::Nothing)
        );
        let mut stale = Vec::new();
        let mut checkouts = Vec::new();
        for synced in cloned.into_iter().chain(fetched) {
            stale.extend(synced.stale);
            checkouts.extend(synced.checkout);
        }
        let workspace = sync::assemble(self.root(), self.repositories(), checkouts);
        manifest::write(&self.places.temporary_dir, self.root(), self.repositories(), Some(&workspace));
        let sha = workspace.checkouts.first().and_then(|checkout| checkout.base_sha.clone());
        if !stale.is_empty() {
            self.teller.git_sync(GitSyncStatus::Failed, sha.clone());
            if self.plan.sync.is_fatal {
                return Err(BootError::Sync(sync::fatal_text(&stale)));
            }
        }
        if self.plan.sync.marks_baseline {
            self.places.begin(&self.config.sandbox_id);
        }
        for stale in &stale {
            self.teller.warn(WarningScope::Sync, &stale.warning(), Some((&stale.owner, &stale.name)));
        }
        if stale.is_empty() {
            self.teller.git_sync(GitSyncStatus::Completed, sha);
        }
        // What the agent reads already and nobody moved stays as it is.
        if self.plan.sync.moves_head || !self.plan.has_files {
            self.furnish(&workspace, true);
        }
        Ok(workspace)
    }

    async fn phase(&self, phase: &str, is_part: impl Fn(Found) -> bool) -> Vec<Synced> {
        let part: Vec<_> = self.repositories().iter().zip(&self.found).filter(|(_, found)| is_part(**found)).collect();
        if part.is_empty() {
            return Vec::new();
        }
        let names: Vec<String> = part.iter().map(|(r, _)| format!("{}/{}", r.repo_owner, r.repo_name)).collect();
        let limits = SyncLimits::default();
        let each = part
            .iter()
            .map(|(repository, found)| sync::one(&self.git, self.root(), repository, **found, self.plan.sync, limits));
        let work = async {
            let all = futures_util::future::join_all(each).await;
            let stale: Vec<Stale> = all.iter().filter_map(|synced| synced.stale.clone()).collect();
            if stale.is_empty() { Ok(all) } else { Err(PhaseFailed { all, text: sync::fatal_text(&stale) }) }
        };
        match self.teller.during(phase, &names.join(", "), work).await {
            Ok(all) => all,
            Err(failed) => failed.all,
        }
    }

    /// What the agent finds beside the repositories' own files. `tells` is false where it is done again before long.
    fn furnish(&self, workspace: &Workspace, tells: bool) {
        for warning in assembly::assemble(self.root(), workspace).into_iter().filter(|_| tells) {
            self.teller.warn(WarningScope::Assembly, &warning, None);
        }
        for checkout in &workspace.checkouts {
            tidy_opencode_folder(&checkout.path);
        }
        let folder = self.root().join(".opencode");
        if workspace.directory == self.root() && folder.is_dir() && !folder.join("package.json").exists() {
            drop(config::stub_npm(&folder).inspect_err(|error| tracing::warn!(event = "boot.npm_stub_failed", %error)));
        }
        let branch = self.config.working_branch_name.as_deref();
        if let Err(error) = workspace_file::write(self.root(), workspace, branch) {
            tracing::warn!(event = "boot.no_workspace_file", %error);
        }
    }

    /// Runs `setup.sh` of each repository that has one and where it did not run yet.
    pub async fn set_up(&self, workspace: &Workspace) -> Result<(), BootError> {
        let Some(on_failure) = self.plan.setup else { return Ok(()) };
        let kept = self.places.kept();
        let is_done = |checkout: &Checkout| self.plan.serves_session && setup_mark(checkout, &kept).exists();
        let due: Vec<(&Checkout, PathBuf)> = workspace
            .checkouts
            .iter()
            .filter(|checkout| !is_done(checkout))
            .filter_map(|checkout| Some((checkout, Hook::Setup.script(checkout)?)))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let work = async {
            // One after another: a script may rely on what the one before it did.
            let mut failures = Vec::new();
            for (checkout, script) in due {
                match self.hooks.run(Hook::Setup, checkout, &script).await {
                    Ok(()) => self.mark_setup(checkout),
                    Err(_) if on_failure == OnFailure::Fatal => {
                        let label = format!("{}/{}", checkout.owner, checkout.name);
                        return Err(BootError::Hook(format!("setup hook failed for {label} in build mode")));
                    }
                    Err(message) => {
                        self.teller.warn(WarningScope::Setup, &message, Some((&checkout.owner, &checkout.name)));
                        failures.push(message);
                    }
                }
            }
            if failures.is_empty() { Ok(()) } else { Err(BootError::Hook(failures.join("; "))) }
        };
        let result = self.teller.during("setup", ".openinspect/setup.sh", work).await;
        if on_failure == OnFailure::Fatal { result } else { Ok(()) }
    }

    fn mark_setup(&self, checkout: &Checkout) {
        let mark = setup_mark(checkout, &self.places.kept());
        let written = std::fs::create_dir_all(self.places.kept()).and_then(|()| std::fs::write(mark, ""));
        if let Err(error) = written {
            tracing::warn!(event = "setup.not_marked", %error);
        }
    }

    /// Waits for the addresses of the ports, which start scripts may read.
    pub async fn wait_for_tunnels(&self, workspace: &Workspace, control_plane: &ControlPlane) {
        let tunnels = self.tunnels();
        if tunnels.ports().is_empty() || workspace.checkouts.is_empty() {
            return;
        }
        let text = self.config.env.get("TUNNEL_WAIT_TIMEOUT_SECONDS");
        let limit = wait_limit(text.map(String::as_str));
        let work = async {
            let asked = async {
                tunnels.ask(control_plane).await;
                std::future::pending().await
            };
            let known = tokio::select! {
                // Nobody is asked for what is there.
                biased;
                known = tunnels.wait(limit) => known,
                never = asked => never,
            };
            if known { Ok(()) } else { Err("Not every port has an address yet. The boot goes on.") }
        };
        // The phase has said it.
        let _ = self.teller.during("tunnels", ".tunnels.env", work).await;
    }

    /// Runs `start.sh` of each repository that has one.
    pub async fn start(&self, workspace: &Workspace) -> Result<(), BootError> {
        let scripts = workspace.checkouts.iter().filter_map(|checkout| Some((checkout, Hook::Start.script(checkout)?)));
        let scripts: Vec<_> = scripts.collect();
        if scripts.is_empty() {
            return Ok(());
        }
        let work = async {
            for (checkout, script) in scripts {
                let Err(message) = self.hooks.run(Hook::Start, checkout, &script).await else { continue };
                if on_start_failure(checkout.position) == OnFailure::Fatal {
                    let label = format!("{}/{}", checkout.owner, checkout.name);
                    return Err(BootError::Hook(format!("start hook failed for {label}: {message}")));
                }
                self.teller.warn(WarningScope::Start, &message, Some((&checkout.owner, &checkout.name)));
            }
            Ok(())
        };
        self.teller.during("start", ".openinspect/start.sh", work).await
    }
}

struct PhaseFailed {
    all: Vec<Synced>,
    text: String,
}

impl std::fmt::Display for PhaseFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
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
