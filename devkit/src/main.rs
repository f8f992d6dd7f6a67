//! `devkit`: what a development machine has in place of GitHub, of Google and of a model vendor.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use devkit::vendors::edge::{Fake, Vendor};
use devkit::vendors::{daytona::Daytona, e2b::E2b, modal::Modal, opencomputer::OpenComputer, vercel::Vercel};
use tokio::net::TcpListener;
use tracing::{error, info, warn};

/// Local stand-ins for the services that Open-Inspect talks to. Never deployed.
#[derive(Parser)]
#[command(name = "devkit", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a GitHub-compatible forge with real git behind it.
    Forge {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:8788")]
        listen: SocketAddr,
        /// Folder that keeps the database and the repositories.
        #[arg(long)]
        state_dir: PathBuf,
        /// JSON configuration; see `devkit/README.md`.
        #[arg(long)]
        config: PathBuf,
    },
    /// Serve Google's sign-in for people without passwords.
    Google {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:8794")]
        listen: SocketAddr,
        /// JSON configuration; see `devkit/README.md`.
        #[arg(long)]
        config: PathBuf,
    },
    /// Serve the scripted demo model over the OpenAI chat completions API.
    Model {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:8789")]
        listen: SocketAddr,
        /// Pause between two streamed words, in milliseconds.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=5_000))]
        delay_ms: u64,
    },
    /// Serve the sign-in endpoints of model vendors' subscriptions; codes are approved on their page.
    Subscriptions {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:8790")]
        listen: SocketAddr,
    },
    /// Stand in for a cloud that sandboxes run at: nothing runs in its sandboxes.
    Vendor {
        /// Which one.
        vendor: Cloud,
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:8793")]
        listen: SocketAddr,
        /// The one key that is good.
        #[arg(long, env = "DEVKIT_VENDOR_KEY", hide_env_values = true)]
        key: String,
        /// What sandboxes begin with.
        #[arg(long, default_value = "base")]
        base: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Cloud {
    Daytona,
    E2b,
    Vercel,
    Opencomputer,
    Modal,
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("could not listen on `{address}`: {source}. Stop what uses the port, or choose another with `--listen`")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Forge(#[from] devkit::forge::ForgeError),
    #[error("{0}")]
    Google(String),
    #[error("could not serve: {0}")]
    Serve(#[from] std::io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,hyper=warn".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "devkit stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), StartError> {
    match command {
        Command::Forge { listen, state_dir, config } => {
            let config = devkit::forge::Config::from_file(&config)?;
            let listener = bind(listen).await?;
            let forge = devkit::forge::Forge::open(config, &state_dir).await?;
            info!(address = %listener.local_addr()?, "forge is ready");
            until_stopped(devkit::forge::serve(listener, forge)).await
        }
        Command::Google { listen, config } => {
            let google = devkit::google::Google::from_file(&config).map_err(StartError::Google)?;
            let listener = bind(listen).await?;
            info!(address = %listener.local_addr()?, "the stand-in for Google is ready");
            until_stopped(devkit::google::serve(listener, google)).await
        }
        Command::Model { listen, delay_ms } => {
            let listener = bind(listen).await?;
            info!(address = %listener.local_addr()?, "demo model is ready");
            until_stopped(devkit::model::serve(listener, Duration::from_millis(delay_ms))).await
        }
        Command::Subscriptions { listen } => {
            let listener = bind(listen).await?;
            let address = listener.local_addr()?;
            info!(%address, "subscriptions are ready");
            let all = devkit::subscriptions::Subscriptions::new(&format!("http://{address}"));
            until_stopped(all.serve(listener)).await
        }
        Command::Vendor { vendor, listen, key, base } => {
            let listener = bind(listen).await?;
            match vendor {
                Cloud::Daytona => stand_in(listener, Daytona::new(&key, &base)).await,
                Cloud::E2b => stand_in(listener, E2b::new(&key, &base)).await,
                Cloud::Vercel => stand_in(listener, Vercel::new(&key, "prj", &base)).await,
                Cloud::Opencomputer => stand_in(listener, OpenComputer::new(&key, &base)).await,
                Cloud::Modal => stand_in(listener, Modal::new(&key)).await,
            }
        }
    }
}

async fn stand_in<V: Vendor>(listener: TcpListener, vendor: V) -> Result<(), StartError> {
    let fake = Fake::on(listener, vendor)?;
    info!(url = fake.url, "the stand-in is ready");
    until_stopped(std::future::pending()).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    if !address.ip().is_loopback() {
        warn!(%address, "not a loopback address: the pages of the forge ask for no sign-in");
    }
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

/// Serves until SIGINT or SIGTERM. Open streams are cut: what matters is committed before it is answered.
async fn until_stopped(server: impl Future<Output = std::io::Result<()>>) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = server => Ok(result?),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
