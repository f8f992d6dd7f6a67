//! What people reach in a sandbox beside the agent: the terminal, code-server, the desktop. None of them is needed for
//! the work, so none of them ends a sandbox.

pub mod browser;
mod catalogue;
mod child;
mod restarts;
mod skills;
mod stack;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oi_protocol::UnixMillis;
use oi_protocol::event::BootStatus;
use oi_protocol::local_backend::CreateSandboxRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bridge::runner::WorkspaceState;
use crate::clock;
use crate::enclosed;
use crate::launch;
use crate::secret::Secret;
use crate::supervise::environment::Recipient;
use crate::supervise::places::Places;
use crate::terminal::{ShellSettings, TerminalService, terminal_url};
use catalogue::{CodeServer, Desktop};
use stack::{Keeper, Stack};

/// Tells people where a phase of the boot is.
pub type Tell = Arc<dyn Fn(&str, BootStatus, UnixMillis, Option<&str>) + Send + Sync>;

/// What services need of the sandbox.
pub struct Surroundings<'a> {
    /// Its configuration.
    pub config: Arc<CreateSandboxRequest>,
    /// Its folders.
    pub places: Places,
    /// Who gets which environment.
    pub environment: &'a dyn Fn(Recipient) -> Vec<(OsString, OsString)>,
    /// This program, which ties children to it.
    pub program: PathBuf,
    /// Where the work is, once it is checked out.
    pub workspace: watch::Receiver<WorkspaceState>,
    /// The timeline of the boot.
    pub tell: Tell,
}

/// Where services listen: at a vendor, whose network is the sandbox's door, everywhere; else on the loopback alone. Only
/// the variables of a vendor's image name no generation.
const fn bind_address(config: &CreateSandboxRequest) -> &'static str {
    if config.generation == 0 { "0.0.0.0" } else { "127.0.0.1" }
}

/// Ties a child to this program. It is no new session's: whoever starts it makes it the leader of a group, and a leader
/// cannot have one.
fn tie(program: &std::path::Path) -> Vec<OsString> {
    let mut words = vec![program.as_os_str().to_owned()];
    words.extend(launch::arguments(false, Some(std::process::id())));
    words
}

async fn work_directory(mut workspace: watch::Receiver<WorkspaceState>, fallback: PathBuf) -> PathBuf {
    match workspace.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(workspace))) => workspace.directory.clone(),
        _ => fallback,
    }
}

/// Starts what is configured, each in a task of its own, and ends it with `shutdown`. The tasks end then.
pub fn start(around: Surroundings<'_>, shutdown: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let Surroundings { config, places, environment, program, workspace, tell } = around;
    let mut tasks = Vec::new();
    if let Err(error) = skills::install(&places.home.join(".config/opencode")) {
        tracing::warn!(event = "services.no_skills", %error);
    }
    let services = &config.services;
    if let (true, Some(url)) = (services.terminal, terminal_url(&config.control_plane_url, &config.session_id)) {
        let terminal = TerminalService {
            url,
            route: enclosed::route(),
            token: Secret::new(config.auth_token.clone()),
            shells: ShellSettings { launcher: tie(&program), environment: environment(Recipient::Terminal) },
            workspace: workspace.clone(),
            fallback: places.workspace.clone(),
        };
        // On the thread that children are tied to: this program has one.
        tasks.push(tokio::spawn(terminal.run(shutdown.clone())));
    }
    let keeper = |stack: Result<Stack, String>, name: &'static str| {
        let began = clock::now();
        match stack {
            Ok(stack) => {
                Some(Keeper { stack, launcher: tie(&program), tell: Arc::clone(&tell), unit: Duration::from_secs(1) })
            }
            Err(reason) => {
                tracing::warn!(event = "services.absent", service = name, reason);
                tell(name, BootStatus::Failed, began, Some(&reason));
                None
            }
        }
    };
    let bind = bind_address(&config);
    if let Some(password) = &services.code_server_password {
        let code_server = CodeServer { bind, port: services.code_server_port, password: Secret::new(password.clone()) };
        let directory = work_directory(workspace, places.workspace.clone());
        if let Some(keeper) = keeper(code_server.stack(&environment(Recipient::CodeServer)), catalogue::CODE_SERVER) {
            tasks.push(tokio::spawn(keeper.keep_after(directory, shutdown.clone())));
        }
    }
    if let Some(password) = &services.vnc_password {
        let password = Secret::new(password.clone());
        let (runtime_dir, home) = (places.runtime_dir.clone(), places.home.clone());
        let desktop = Desktop { bind, port: services.vnc_port, password, runtime_dir, home };
        if let Some(keeper) = keeper(desktop.stack(&environment(Recipient::Desktop)), catalogue::DESKTOP) {
            let directory = std::future::ready(places.home.clone());
            tasks.push(tokio::spawn(keeper.keep_after(directory, shutdown.clone())));
        }
    }
    tasks
}
