//! `sandbox-bridge supervise`: one process that owns everything in a sandbox.
//!
//! The bridge dials out first. Checkouts and the agent come up side by side. The token stays in this process's
//! memory: children get an environment built from nothing, and ask through the broker's socket.

pub mod boot;
pub mod env_contract;
pub mod environment;
pub mod hooks;
pub mod own_programs;
pub mod places;
pub mod workspace_file;

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use oi_protocol::event::BootStatus;
use oi_protocol::local_backend::CreateSandboxRequest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::agent::opencode::process::{Endpoint, OpenCodeProcess};
use crate::agent::opencode::{OpenCode, config};
use crate::bridge::Stamp;
use crate::bridge::connection::{self, ConnectionConfig, Ended, socket_url};
use crate::bridge::journal::{Journal, JournalError, JournalLimits};
use crate::bridge::outbox::Outbox;
use crate::bridge::runner::{Runner, RunnerEnded, TurnContext};
use crate::broker::pull_request::PullRequestBroker;
use crate::broker::scm_credentials::CredentialBroker;
use crate::broker::signatures::SignatureBroker;
use crate::broker::upload::MediaBroker;
use crate::broker::{self, Broker};
use crate::clock;
use crate::control_plane::ControlPlane;
use crate::diff::worker::DiffWorker;
use crate::git::Git;
use crate::git::commit_settings::CommitSettings;
use crate::model_gateway::{self, GatewayError};
use crate::secret::Secret;
use boot::{Boot, Teller, ready_event};
use places::Places;

/// Largest configuration.
const CONFIG_MAX_BYTES: u64 = 8 << 20;
/// Commands that wait for the runner.
const COMMANDS_WAITING: usize = 64;

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
}

/// Reads the configuration from standard input.
pub fn read_config() -> Result<CreateSandboxRequest, SuperviseError> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(CONFIG_MAX_BYTES).read_to_end(&mut text)?;
    // The error names a line and a column, never a value: the input holds the token.
    serde_json::from_slice(&text)
        .map_err(|error| SuperviseError::Config(format!("line {} column {}", error.line(), error.column())))
}

/// Longest run of one prompt: the sandbox's life less a reserve for what follows.
pub fn prompt_limit(timeout_seconds: u32) -> Duration {
    let life = u64::from(timeout_seconds.max(4));
    Duration::from_secs(life - 900.min(life / 4))
}

/// Runs a sandbox until its session or a signal ends it. `Ok` is an orderly end.
pub async fn run(config: CreateSandboxRequest, places: Places) -> Result<(), SuperviseError> {
    let began = clock::now();
    // Nobody in the sandbox may read the token from this process's memory.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(event = "supervisor.dumpable", %error);
    }
    let places = places.absolute()?;
    places.create()?;
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
    tracing::info!(event = "supervisor.start", session_id = config.session_id);

    let teller = Teller { outbox: Arc::clone(&outbox), stamp: stamp.clone() };
    teller.phase("workspace", BootStatus::Completed, began, None);
    let program = std::env::current_exe()?;
    own_programs::install(&places, &program)?;
    let socket = places.socket()?;
    let environment = environment::base(&places, &config.sandbox_id, &config.env, &socket, &program);
    let git = Git::new(environment::for_git(&places, &config.sandbox_id, &config.env, &socket, &program));
    let (workspace, workspace_seen) = watch::channel(None);
    let control_plane =
        Arc::new(ControlPlane::new(&config.control_plane_url, &config.session_id, stamp.sandbox_id.clone(), token)?);
    let signer = own_programs::folder(&places).join(own_programs::SIGNER);
    let commits = Arc::new(CommitSettings::new(Arc::clone(&control_plane), git.clone(), signer));
    tokio::spawn(Arc::clone(&commits).warm(workspace_seen.clone()));
    let broker = Broker {
        credentials: CredentialBroker::new(Arc::clone(&control_plane), config.vcs_host.clone()),
        signatures: SignatureBroker::new(Arc::clone(&commits)),
        media: MediaBroker::new(Arc::clone(&control_plane), &[&places.workspace, &places.temporary_dir]),
        pull_requests: PullRequestBroker::new(Arc::clone(&control_plane), git.clone(), workspace_seen.clone()),
    };
    tokio::spawn(broker::serve(broker::listen(&socket)?, Arc::new(broker)));

    let (endpoint, endpoint_seen) = watch::channel(Endpoint::Starting);
    let process = opencode_process(&config, &places, &environment, &program).await?;
    let agent_task = tokio::spawn(process.supervise(endpoint, stopped.clone()));
    let agent = Arc::new(OpenCode::new(endpoint_seen.clone(), places.kept().join("opencode-session")));
    let boot = Boot {
        config: Arc::clone(&config),
        places,
        environment,
        git: git.clone(),
        teller,
        agent: Arc::clone(&agent),
        endpoint: endpoint_seen,
        workspace,
        ready,
    };
    tokio::spawn(boot.run(began));
    let (diffs, diff_requests) = DiffWorker::new(git.clone(), workspace_seen.clone(), Arc::clone(&control_plane));
    tokio::spawn(diffs.run());
    let context = TurnContext {
        outbox,
        agent,
        git,
        commits,
        stamp,
        workspace: workspace_seen,
        limit: prompt_limit(config.timeout_seconds),
        control_plane,
        title: Arc::default(),
    };
    let mut runner = tokio::spawn(Runner::new(context, diff_requests).run(orders, stopped));

    let ended = tokio::select! {
        () = terminated()? => Ok(()),
        ended = &mut runner => runner_ended(ended),
        ended = &mut connection => connection_ended(ended),
    };
    stop.send_replace(true);
    if !runner.is_finished() {
        drop(tokio::time::timeout(Duration::from_secs(5), &mut runner).await);
    }
    leave.send_replace(true);
    if !connection.is_finished() {
        drop(tokio::time::timeout(Duration::from_secs(3), &mut connection).await);
    }
    drop(tokio::time::timeout(Duration::from_secs(1), agent_task).await);
    places::remove_socket(&socket);
    tracing::info!(event = "supervisor.end", orderly = ended.is_ok());
    ended
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

async fn opencode_process(
    config: &CreateSandboxRequest,
    places: &Places,
    environment: &[(std::ffi::OsString, std::ffi::OsString)],
    program: &std::path::Path,
) -> Result<OpenCodeProcess, SuperviseError> {
    let gateway = model_gateway::start(&config.model_providers).await?;
    let mcp = [program.display().to_string(), "mcp".to_owned()];
    let content = config::content(&config.model, &config.model_providers, &gateway.url, gateway.token.reveal(), &mcp);
    config::stub_npm(&places.home.join(".config/opencode"))?;
    let empty_catalogue = if config::needs_no_catalogue(&config.model_providers) {
        let path = places.runtime_dir.join("models.json");
        std::fs::write(&path, "{}")?;
        Some(path)
    } else {
        None
    };
    Ok(OpenCodeProcess {
        program: places.opencode.clone(),
        launcher: program.to_owned(),
        environment: environment::for_opencode(environment, &content, empty_catalogue.as_deref()),
        directory: places.scratch(),
    })
}

fn terminated() -> std::io::Result<impl Future<Output = ()>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_leaves_a_reserve_of_the_sandboxs_life() {
        for (life, seconds) in [(7200, 6300), (2000, 1500), (100, 75), (0, 3)] {
            assert_eq!(prompt_limit(life).as_secs(), seconds, "{life}");
        }
    }
}
