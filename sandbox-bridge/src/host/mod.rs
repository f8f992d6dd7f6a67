//! `sandbox-bridge host`: sandboxes on this machine, by a small HTTP API.

pub mod api;
mod build_api;
pub mod build_log;
pub mod builds;
pub mod cgroup;
pub mod connect_into;
pub mod disk_use;
pub mod doors;
pub mod egress;
pub mod isolation;
mod keeper;
pub mod limits;
pub mod network;
pub mod processes;
pub mod record;
pub mod registry;
mod snapshot_api;
pub mod snapshots;
pub mod tree_copy;
mod tunnel_door;
mod tunnels;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::secret::Secret;
use api::HostState;
use cgroup::Cgroups;
use isolation::{Isolation, IsolationChoice, Programs};
use limits::LimitOptions;
use network::{NetworkChoice, Server};
use oi_protocol::local_backend::LocalCapabilities;
use registry::{Registry, Settings};
use snapshots::{SnapshotOptions, Snapshots};
use tunnels::Tunnels;

/// Options of `host`.
#[derive(Debug, Clone, clap::Args)]
pub struct HostOptions {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8790")]
    pub listen: SocketAddr,
    /// Folder of the sandboxes and their records.
    #[arg(long)]
    pub state_dir: PathBuf,
    /// The OpenCode binary; looked for on the PATH when it is a bare name.
    #[arg(long, env = "OPENCODE_BIN", default_value = "opencode")]
    pub opencode: PathBuf,
    /// Folders that sandboxes get, read-only, on their PATH; separated by colons.
    #[arg(long, env = "OI_TOOL_PATH", value_delimiter = ':')]
    pub tool_path: Vec<PathBuf>,
    /// How sandboxes are set apart.
    #[arg(long, env = "OI_ISOLATION", value_enum, default_value_t = IsolationChoice::Auto)]
    pub isolation: IsolationChoice,
    /// What sandboxes may reach. Only bubblewrap can keep it.
    #[arg(long, env = "OI_NETWORK", value_enum, default_value_t = NetworkChoice::Open)]
    pub network: NetworkChoice,
    /// A server, HOST:PORT, that they may reach though the rules forbid it; may be repeated.
    #[arg(long)]
    pub reach: Vec<Server>,
    /// Sandboxes at a time.
    #[arg(long, default_value_t = 16)]
    pub max_sandboxes: usize,
    /// Stopped sandboxes whose files stay.
    #[arg(long, default_value_t = 100)]
    pub max_parked: usize,
    #[command(flatten)]
    pub limits: LimitOptions,
    #[command(flatten)]
    pub snapshots: SnapshotOptions,
    /// Address on which people reach ports of sandboxes, each under a name of its own below `localhost`.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub tunnels: SocketAddr,
    /// Leave sandboxes running when this host ends; the next one stops them.
    #[arg(long)]
    pub keep_on_exit: bool,
}

/// Why the host could not run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No secret, or one that is too short.
    #[error("LOCAL_SANDBOX_SECRET must be set to at least 16 characters")]
    Secret,
    /// A program that sandboxes need is missing.
    #[error("there is no program `{0}`")]
    Program(PathBuf),
    /// `--isolation bwrap` was asked for.
    #[error("bubblewrap does not work here")]
    Isolation,
    /// The address is taken, or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A folder, a record or a signal.
    #[error("the state folder cannot be used: {0}")]
    Io(#[from] std::io::Error),
    /// No HTTP client.
    #[error("no HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

fn find_program(name: &Path) -> Result<PathBuf, HostError> {
    let missing = || HostError::Program(name.to_owned());
    let found = if name.components().count() > 1 {
        Some(name.to_owned())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    };
    found.and_then(|file| std::fs::canonicalize(file).ok()).filter(|file| file.is_file()).ok_or_else(missing)
}

/// A name for this program that stays when a build puts another file in its place.
fn pin_this_program(state_dir: &Path) -> std::io::Result<PathBuf> {
    let folder = state_dir.join("bin");
    std::fs::create_dir_all(&folder)?;
    let (new, pinned) = (folder.join("sandbox-bridge.new"), folder.join("sandbox-bridge"));
    drop(std::fs::remove_file(&new));
    let program = std::env::current_exe()?;
    if std::fs::hard_link(&program, &new).is_err() {
        std::fs::copy(&program, &new)?;
    }
    std::fs::rename(&new, &pinned)?;
    std::fs::canonicalize(pinned)
}

/// Runs the host until a signal ends it. `secret` is what callers must show.
pub async fn run(options: HostOptions, secret: Option<String>) -> Result<(), HostError> {
    // Where sandboxes are only process groups, they run as this user: nobody may read the secret from `/proc`.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(event = "host.dumpable", %error);
    }
    let secret = secret.filter(|secret| secret.len() >= 16).map(Secret::new).ok_or(HostError::Secret)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| HostError::Listen { address: options.listen, source })?;
    if !options.listen.ip().is_loopback() {
        tracing::warn!(event = "host.not_loopback", address = %options.listen);
    }
    std::fs::create_dir_all(&options.state_dir)?;
    let state_dir = std::fs::canonicalize(&options.state_dir)?;
    let isolation = Isolation::probe(options.isolation, options.network).ok_or(HostError::Isolation)?;
    if isolation == Isolation::None {
        tracing::warn!(event = "host.not_isolated", "sandboxes can read what this user can read");
    }
    if !isolation.own_network() && options.network != NetworkChoice::Host {
        tracing::warn!(event = "host.network_shared", "sandboxes reach what this machine reaches, its loopback too");
    }
    let tools = options.tool_path.iter().filter_map(|folder| std::fs::canonicalize(folder).ok()).collect();
    let programs =
        Programs { bridge: pin_this_program(&state_dir)?, opencode: find_program(&options.opencode)?, tools };
    // A sandbox that may not be larger gives no snapshot that is.
    let max_bytes_each = match options.limits.max_disk_mib {
        0 => u64::MAX,
        mib => u64::from(mib) << 20,
    };
    let snapshots = Arc::new(Snapshots::open(&state_dir, options.snapshots, max_bytes_each)?);
    let cgroups = Cgroups::probe(&state_dir);
    let capabilities = LocalCapabilities {
        isolation: if isolation == Isolation::None { "none" } else { "bwrap" }.to_owned(),
        network: if isolation.own_network() { options.network } else { NetworkChoice::Host }.name().to_owned(),
        copy_on_write: snapshots.is_copy_on_write(),
        control_groups: cgroups.is_some(),
    };
    let settings = Settings {
        isolation,
        programs,
        max_running: options.max_sandboxes,
        max_parked: options.max_parked,
        keep_on_exit: options.keep_on_exit,
        network: options.network,
        reach: options.reach,
        limits: options.limits,
        cgroups,
    };
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let door = TcpListener::bind(options.tunnels)
        .await
        .map_err(|source| HostError::Listen { address: options.tunnels, source })?;
    let tunnels = Arc::new(Tunnels::new(door.local_addr()?.port()));
    let registry = Registry::open(settings, &state_dir, snapshots, Arc::clone(&tunnels), http).await?;
    tracing::info!(
        event = "host.capabilities",
        isolation = capabilities.isolation,
        network = capabilities.network,
        copy_on_write = capabilities.copy_on_write,
        control_groups = capabilities.control_groups
    );
    tokio::spawn(tunnel_door::serve(door, tunnels, Arc::clone(&registry)));
    let state = HostState { registry: registry.clone(), secret, capabilities: Arc::new(capabilities) };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tracing::info!(event = "host.listening", address = %listener.local_addr()?);
    let serve = axum::serve(listener, api::router(state)).into_future();
    tokio::select! {
        served = serve => served?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(event = "host.ending");
    registry.close().await;
    Ok(())
}
