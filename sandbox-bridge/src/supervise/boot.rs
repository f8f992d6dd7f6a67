//! A session's boot: the workspace, the skills and the agent come up side by side, each phase told as it goes.

use std::sync::Arc;

use oi_protocol::UnixMillis;
use oi_protocol::event::{BootStatus, Ready, RepositoryBaseline};
use oi_protocol::sandbox_socket::SandboxEvent;
use tokio::sync::watch;

use super::failure::BootError;
use super::skills;
use super::skills::install::SkillFolders;
use super::workspace_boot::WorkspaceBoot;
use crate::agent::Agent as _;
use crate::agent::any::AnyAgent;
use crate::bridge::Stamp;
use crate::bridge::runner::WorkspaceState;
use crate::clock;
use crate::control_plane::ControlPlane;
use crate::git::{Checkout, Workspace};

/// Version of this runtime, as sessions record it.
pub const RUNTIME_VERSION: &str = concat!("v100-rust-", env!("CARGO_PKG_VERSION"));

/// Everything that the boot needs and makes.
pub struct Boot {
    pub workspace: WorkspaceBoot,
    pub agent: Arc<AnyAgent>,
    pub control_plane: Arc<ControlPlane>,
    pub told: Told,
}

/// How others hear how far the boot is.
#[derive(Clone)]
pub struct Told {
    /// The workspace that a prompt may begin in. Where `edits` is closed still, it may only be read.
    pub files: Arc<watch::Sender<WorkspaceState>>,
    /// The workspace when git and the hooks are done with it.
    pub synced: Arc<watch::Sender<WorkspaceState>>,
    /// Whether the agent may change files.
    pub edits: Arc<watch::Sender<bool>>,
    /// What is said of the sandbox on each connect.
    pub ready: Arc<watch::Sender<SandboxEvent>>,
}

/// What `ready` says, as far as it is known.
pub fn ready_event(stamp: &Stamp, session: Option<String>, workspace: Option<&Workspace>) -> SandboxEvent {
    let baselines = |workspace: &Workspace| {
        let baseline = |checkout: &Checkout| {
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
    /// Runs the boot to its end. Prompts do not wait for all of it: each waits for what it needs. A failure ends it at
    /// once, and what was under way is cancelled.
    pub async fn run(self, began: UnixMillis) -> Result<(), BootError> {
        let teller = &self.workspace.teller;
        let booted = tokio::try_join!(self.prepare_workspace(), self.prepare_agent());
        let (boot_mode, outcome) = (self.workspace.plan.mode, if booted.is_ok() { "success" } else { "failure" });
        let duration_ms = clock::now().since(began);
        tracing::info!(event = "sandbox.startup", boot_mode, duration_ms, outcome);
        match booted {
            Ok((workspace, session)) => {
                let ready = ready_event(&teller.stamp, session, Some(&workspace));
                self.told.ready.send_replace(ready.clone());
                teller.tell(&ready);
                teller.phase("ready", BootStatus::Completed, began, None);
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(event = "supervisor.fatal", reason);
                teller.phase("ready", BootStatus::Failed, began, Some(&reason));
                for state in [&self.told.files, &self.told.synced] {
                    state.send_replace(Some(Err(reason.clone())));
                }
                Err(error)
            }
        }
    }

    async fn prepare_workspace(&self) -> Result<Arc<Workspace>, BootError> {
        self.workspace.arrange().await?;
        let workspace = if self.workspace.plan.has_files {
            // The agent may read what is there while git looks for what is new.
            let show = async {
                let found = Arc::new(self.workspace.as_found());
                if let Some(skills) = self.download_skills().await? {
                    self.install_skills(&skills, &found)?;
                }
                self.told.files.send_replace(Some(Ok(found)));
                Ok::<(), BootError>(())
            };
            let work = async {
                let workspace = self.workspace.sync().await?;
                self.finish_workspace(&workspace).await?;
                Ok::<Workspace, BootError>(workspace)
            };
            let ((), workspace) = tokio::try_join!(show, work)?;
            Arc::new(workspace)
        } else {
            let (skills, workspace) = tokio::try_join!(self.download_skills(), self.workspace.sync())?;
            if let Some(skills) = skills {
                self.install_skills(&skills, &workspace)?;
            }
            self.finish_workspace(&workspace).await?;
            Arc::new(workspace)
        };
        self.told.edits.send_replace(true);
        for state in [&self.told.files, &self.told.synced] {
            state.send_replace(Some(Ok(Arc::clone(&workspace))));
        }
        Ok(workspace)
    }

    async fn finish_workspace(&self, workspace: &Workspace) -> Result<(), BootError> {
        self.workspace.set_up(workspace).await?;
        self.workspace.wait_for_tunnels(workspace, &self.control_plane).await;
        self.workspace.start(workspace).await
    }

    async fn download_skills(&self) -> Result<Option<SkillFolders>, BootError> {
        if self.workspace.config.skills_manifest_sha256.is_none() {
            return Ok(None);
        }
        let folders = SkillFolders::new(&self.workspace.places.agent_config());
        let work = skills::download(&self.control_plane, &folders);
        let downloaded = self.workspace.teller.during("skills", "Managed skills", work).await;
        let count = downloaded.inspect_err(|error| {
            tracing::error!(event = "managed_skills.failed", code = error.code(), %error);
        })?;
        tracing::info!(event = "managed_skills.fetched", count);
        Ok(Some(folders))
    }

    fn install_skills(&self, folders: &SkillFolders, workspace: &Workspace) -> Result<(), BootError> {
        let mut looked_in = vec![workspace.directory.clone(), self.workspace.places.home.clone()];
        looked_in.extend(workspace.checkouts.iter().map(|checkout| checkout.path.clone()));
        let dropped = skills::put_in_place(folders, &looked_in)?;
        for name in dropped {
            let message = format!(
                "The managed skill `{name}` is left out: the workspace or the sandbox has a skill of that name already."
            );
            self.workspace.teller.warn(oi_protocol::event::WarningScope::Assembly, &message, None);
        }
        Ok(())
    }

    async fn prepare_agent(&self) -> Result<Option<String>, BootError> {
        let work = async { self.agent.up().await.map_err(BootError::Agent) };
        self.workspace.teller.during("agent", self.agent.name(), work).await?;
        let mut files = self.told.files.subscribe();
        let there = files.wait_for(Option::is_some).await.ok().and_then(|state| state.clone());
        match there {
            Some(Ok(workspace)) => Ok(self.agent.warm(&workspace.directory, &self.workspace.config.model).await),
            // Whoever failed says so.
            Some(Err(_)) | None => Ok(None),
        }
    }
}
