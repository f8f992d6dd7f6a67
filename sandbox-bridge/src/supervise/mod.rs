//! `sandbox-bridge supervise`: one process that owns everything in a sandbox.
//!
//! The bridge dials out first. Checkouts and the agent come up side by side. The token stays in this process's
//! memory: children get an environment built from nothing, and ask through the broker's socket.

pub mod assembly;
pub mod boot;
pub mod boot_plan;
pub mod build_token;
pub mod env_contract;
pub mod environment;
pub mod failure;
pub mod fatal;
pub mod hook_output;
pub mod hooks;
pub mod image_build;
pub mod last_work;
pub mod life;
pub mod manifest;
pub mod own_programs;
pub mod places;
pub mod skills;
pub mod teller;
pub mod tunnels;
pub mod workspace_boot;
pub mod workspace_file;

use std::io::Read as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oi_protocol::event::{BootStatus, WarningScope};
use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::agent::answers::Answers;
use crate::agent::setup::{self, AgentOptions, Surroundings};
use crate::bridge::Stamp;
use crate::bridge::connection::{self, ConnectionConfig, Ended, socket_url};
use crate::bridge::journal::{Journal, JournalError, JournalLimits};
use crate::bridge::outbox::Outbox;
use crate::bridge::runner::{Runner, RunnerEnded, TurnContext};
use crate::broker::media::MediaBroker;
use crate::broker::peer::AgentPid;
use crate::broker::pull_request::PullRequestBroker;
use crate::broker::scm_credentials::CredentialBroker;
use crate::broker::signatures::SignatureBroker;
use crate::broker::slack::SlackBroker;
use crate::broker::tasks::TaskBroker;
use crate::broker::{self, Broker, SessionBroker};
use crate::clock;
use crate::control_plane::ControlPlane;
use crate::diff::worker::DiffWorker;
use crate::git::Git;
use crate::git::commit_settings::CommitSettings;
use crate::git::sync::{self, Found};
use crate::mcp_servers::packages;
use crate::model_gateway::GatewayError;
use crate::secret::Secret;
use crate::services;
use boot::{Boot, Told, ready_event};
use boot_plan::BootPlan;
use environment::{Recipient, Sources};
use failure::BootError;
use hooks::Hooks;
use last_work::LastWork;
use life::Life;
use places::Places;
use teller::Teller;
use workspace_boot::WorkspaceBoot;

/// Largest configuration.
const CONFIG_MAX_BYTES: u64 = 8 << 20;
/// Commands that wait for the runner.
const COMMANDS_WAITING: usize = 64;
/// Users' values that are shorter are words, which a log may repeat.
const HIDDEN_MIN_BYTES: usize = 6;

/// Why a sandbox could not run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The input is not a configuration.
    #[error("the configuration on standard input is malformed: {0}")]
    Config(String),
    /// A folder, socket or signal.
    #[error("the sandbox cannot be set up: {0}")]
    Io(#[from] std::io::Error),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// No HTTP client.
    #[error("no HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// The boot failed.
    #[error(transparent)]
    Boot(#[from] BootError),
}

impl SuperviseError {
    /// The process's exit code: one for each class, and 1 for faults that another start may not meet.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Boot(error) => error.exit_code(),
            Self::Config(_) => 18,
            Self::Io(_) | Self::Journal(_) | Self::Gateway(_) | Self::Http(_) => 1,
        }
    }
}

/// Reads the configuration from standard input.
pub fn read_config() -> Result<CreateSandboxRequest, SuperviseError> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(CONFIG_MAX_BYTES).read_to_end(&mut text)?;
    // The error names a line and a column, never a value: the input holds the token.
    serde_json::from_slice(&text)
        .map_err(|error| SuperviseError::Config(format!("line {} column {}", error.line(), error.column())))
}

/// Runs a sandbox until its session or a signal ends it. `Ok` is an orderly end.
pub async fn run(config: CreateSandboxRequest, places: Places, options: AgentOptions) -> Result<(), SuperviseError> {
    let began = clock::now();
    let life = Life::new(config.timeout_seconds);
    // Nobody in the sandbox may read the token from this process's memory.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(event = "supervisor.dumpable", %error);
    }
    let signal = terminated()?;
    let places = places.absolute()?;
    places.create()?;
    tracing::info!(event = "supervisor.start", session_id = config.session_id, boot_mode = config.boot.name());
    if let BootFrom::Build(build) = config.boot.clone() {
        return image_build::run(config, build, places, signal).await;
    }
    let config = Arc::new(config);
    let token = Secret::new(config.auth_token.clone());
    let stamp = Stamp { sandbox_id: config.sandbox_id.clone() };
    let outbox = Arc::new(Outbox::new(Journal::open(&places.journal(), JournalLimits::default())?));
    let (ready, ready_seen) = watch::channel(ready_event(&stamp, None, None));
    let (stop, stopped) = watch::channel(false);
    let (leave, leaving) = watch::channel(false);
    let (commands, orders) = mpsc::channel(COMMANDS_WAITING);
    let url = socket_url(&config.control_plane_url, &config.session_id)
        .ok_or_else(|| SuperviseError::Config("controlPlaneUrl is not an http or https URL".to_owned()))?;
    let connection = ConnectionConfig::new(url, token.clone(), config.sandbox_id.clone(), config.model.clone());
    let mut connection = tokio::spawn(connection::run(connection, Arc::clone(&outbox), commands, ready_seen, leaving));

    let teller = Teller { outbox: Some(Arc::clone(&outbox)), stamp: stamp.clone() };
    teller.phase("workspace", BootStatus::Completed, began, None);
    let program = std::env::current_exe()?;
    own_programs::install(&places, &program)?;
    let socket = places.socket()?;
    let sources = Sources { places: &places, config: &config, socket: &socket, program: &program };
    let git = Git::new(environment::of(Recipient::PlatformGit, &sources));
    let (files, files_seen) = watch::channel(None);
    let (synced, synced_seen) = watch::channel(None);
    let (edits, edits_seen) = watch::channel(false);
    let told =
        Told { files: Arc::new(files), synced: Arc::new(synced), edits: Arc::new(edits), ready: Arc::new(ready) };
    let control_plane =
        Arc::new(ControlPlane::new(&config.control_plane_url, &config.session_id, stamp.sandbox_id.clone(), token)?);
    let signer = own_programs::folder(&places).join(own_programs::SIGNER);
    let commits = Arc::new(CommitSettings::new(Arc::clone(&control_plane), git.clone(), signer));
    tokio::spawn(Arc::clone(&commits).warm(synced_seen.clone()));
    let pid = AgentPid::default();
    let reached = setup::reach(&config, &options, &program, &control_plane).await?;
    let temporary = [places.temporary_dir.as_path()];
    let broker = Broker {
        credentials: CredentialBroker::new(Arc::clone(&control_plane), config.vcs_host.clone()),
        session: Some(SessionBroker {
            pull_requests: PullRequestBroker::new(Arc::clone(&control_plane), git.clone(), synced_seen.clone()),
            signatures: SignatureBroker::new(Arc::clone(&commits)),
            media: MediaBroker::new(Arc::clone(&control_plane), &places.workspace, &temporary),
            tasks: TaskBroker::new(Arc::clone(&control_plane)),
            slack: config.slack_notify.then(|| SlackBroker::new(Arc::clone(&control_plane))),
            has_repository: !config.repositories.is_empty(),
            mcp_servers: reached.servers.local.clone(),
            mcp_packages: packages::prefix(&places.kept()),
            agent: pid.clone(),
        }),
    };
    let broker = Arc::new(broker);
    tokio::spawn(broker::serve(broker::listen(&socket)?, Arc::clone(&broker)));
    if !config.repositories.is_empty() {
        tokio::spawn(async move { broker.credentials.prefetch().await });
    }

    let workspace = workspace_boot(&config, &sources, &git, &teller).await;
    let tell = teller.clone();
    let of_services = services::Surroundings {
        config: Arc::clone(&config),
        places: places.clone(),
        environment: &|recipient| environment::of(recipient, &sources),
        program: program.clone(),
        workspace: files_seen.clone(),
        tell: Arc::new(move |phase, status, began, detail| tell.phase(phase, status, began, detail)),
    };
    let service_tasks = services::start(of_services, &stopped);
    let warn = {
        let teller = teller.clone();
        move |message: String| teller.warn(WarningScope::Start, &message, None)
    };
    let around = Surroundings {
        config: &config,
        places: &places,
        environment: &environment::of(Recipient::Agent, &sources),
        program: &program,
        may_change: workspace.plan.has_files.then_some(edits_seen),
    };
    let (agent, agent_task) = setup::start(reached, options, &around, pid, warn, stopped.clone())?;
    let agent = Arc::new(agent);
    let failure = Arc::new(OnceLock::new());
    let boot =
        Boot { workspace, agent: Arc::clone(&agent), control_plane: Arc::clone(&control_plane), told: told.clone() };
    let mut boot = tokio::spawn(boot_to_its_end(
        boot.run(began),
        Arc::clone(&failure),
        Arc::clone(&outbox),
        Arc::clone(&control_plane),
    ));
    let last_work = LastWork {
        config: Arc::clone(&config),
        life,
        git: git.clone(),
        teller,
        workspace: synced_seen.clone(),
        scratch: places.runtime_dir.clone(),
    };
    let last_work = tokio::spawn(last_work.run());
    let (diffs, diff_requests) = DiffWorker::new(git.clone(), synced_seen.clone(), Arc::clone(&control_plane));
    tokio::spawn(diffs.run());
    let context = TurnContext {
        outbox,
        agent,
        git,
        commits,
        stamp,
        files: files_seen,
        workspace: synced_seen,
        life,
        control_plane,
        title: Arc::default(),
        answers: Answers::default(),
    };
    let mut runner = tokio::spawn(Runner::new(context, diff_requests).run(orders, stopped));

    let ended = tokio::select! {
        () = signal => Ok(()),
        ended = &mut runner => runner_ended(ended),
        ended = &mut connection => connection_ended(ended),
        () = boot_failed(&mut boot) => Ok(()),
    };
    // What a boot is at is cancelled, with all that it started.
    if !boot.is_finished() {
        boot.abort();
        drop((&mut boot).await);
    }
    last_work.abort();
    stop.send_replace(true);
    if !runner.is_finished() {
        drop(tokio::time::timeout(Duration::from_secs(5), &mut runner).await);
    }
    leave.send_replace(true);
    if !connection.is_finished() {
        drop(tokio::time::timeout(Duration::from_secs(3), &mut connection).await);
    }
    drop(tokio::time::timeout(Duration::from_secs(1), futures_util::future::join_all(service_tasks)).await);
    drop(tokio::time::timeout(Duration::from_secs(1), agent_task).await);
    places::remove_socket(&socket);
    let failed = Arc::into_inner(failure).and_then(OnceLock::into_inner);
    let ended = ended.and_then(|()| failed.map_or(Ok(()), |error| Err(SuperviseError::Boot(error))));
    tracing::info!(event = "supervisor.end", orderly = ended.is_ok());
    ended
}

/// Runs the boot. After one that failed this returns when the sandbox may end.
async fn boot_to_its_end(
    boot: impl Future<Output = Result<(), BootError>>,
    failure: Arc<OnceLock<BootError>>,
    outbox: Arc<Outbox>,
    control_plane: Arc<ControlPlane>,
) -> bool {
    let Err(error) = boot.await else { return false };
    fatal::follow(failure.get_or_init(|| error), &outbox, &control_plane).await;
    true
}

/// Returns only after a boot that failed.
async fn boot_failed(boot: &mut tokio::task::JoinHandle<bool>) {
    match boot.await {
        Ok(true) => {}
        Ok(false) => std::future::pending().await,
        Err(fault) => tracing::error!(event = "boot.fault", %fault),
    }
}

async fn workspace_boot(
    config: &Arc<CreateSandboxRequest>,
    sources: &Sources<'_>,
    git: &Git,
    teller: &Teller,
) -> WorkspaceBoot {
    let places = sources.places;
    let mut plan = BootPlan::of(&config.boot);
    let mut found = sync::look(git, &places.workspace, &config.repositories).await;
    if places.has_begun(&config.sandbox_id) {
        // The agent may have cloned a repository anew, which has no mark.
        for found in found.iter_mut().filter(|found| **found == Found::Image) {
            *found = Found::Work;
        }
    }
    if !found.is_empty() && found.iter().all(|found| *found == Found::Work) && plan.sync.takes_baseline {
        plan = plan.again();
    }
    plan.has_files &= !found.is_empty() && found.iter().all(|found| *found != Found::Nothing);
    let hidden = config.env.values().filter(|value| value.len() >= HIDDEN_MIN_BYTES).cloned().collect();
    let environment = environment::of(Recipient::Hook, sources);
    let hooks = Hooks { environment, logs: Some(places.hook_logs()), hidden };
    WorkspaceBoot {
        config: Arc::clone(config),
        places: places.clone(),
        git: git.clone(),
        teller: teller.clone(),
        plan,
        found,
        hooks,
    }
}

fn runner_ended(ended: Result<RunnerEnded, tokio::task::JoinError>) -> Result<(), SuperviseError> {
    match ended {
        Ok(RunnerEnded::Shutdown) => Ok(()),
        Ok(RunnerEnded::Journal(error)) => Err(error.into()),
        Err(fault) => Err(SuperviseError::Io(std::io::Error::other(fault))),
    }
}

fn connection_ended(ended: Result<Ended, tokio::task::JoinError>) -> Result<(), SuperviseError> {
    match ended {
        Ok(Ended::Journal(error)) => Err(error.into()),
        Ok(ended @ (Ended::Shutdown | Ended::Refused(_))) => {
            tracing::info!(event = "bridge.end", reason = %ended);
            Ok(())
        }
        Err(fault) => Err(SuperviseError::Io(std::io::Error::other(fault))),
    }
}

/// A signal that asks to end.
pub fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(event = "supervisor.signal");
    })
}
