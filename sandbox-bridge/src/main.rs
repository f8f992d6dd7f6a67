//! The command line.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sandbox_bridge::enclosed::{self, EnclosedOptions};
use sandbox_bridge::git::credential;
use sandbox_bridge::host::{self, HostOptions};
use sandbox_bridge::launch::{self, LaunchOptions};
use sandbox_bridge::supervise::places::Places;
use sandbox_bridge::supervise::{self, env_contract};
use sandbox_bridge::{logging, mcp};

#[derive(Parser)]
#[command(version, about = "Runs inside sandboxes, and runs sandboxes on this machine.")]
struct CommandLine {
    #[command(subcommand)]
    command: Program,
}

#[derive(Subcommand)]
enum Program {
    /// Own a sandbox: checkouts, agent, bridge. Reads its configuration as JSON from standard input.
    Supervise {
        /// Take the configuration from the environment, as Open-Inspect's backends give it.
        #[arg(long)]
        config_env: bool,
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        enclosed: EnclosedOptions,
    },
    /// Git's credential helper within a sandbox.
    GitCredential {
        /// What git asks for.
        #[arg(default_value = "get")]
        action: String,
    },
    /// The agent's tools, as an MCP server on standard input and output.
    Mcp,
    /// Run sandboxes on this machine. Reads its secret from LOCAL_SANDBOX_SECRET.
    Host(HostOptions),
    /// Become another program, in order.
    #[command(hide = true)]
    Launch(LaunchOptions),
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Program::Launch(options) => complain(&launch::launch(&options)),
        Program::GitCredential { action } => {
            let input = std::io::stdin().lock();
            ExitCode::from(credential::run(&action, input, &mut std::io::stdout(), &mut std::io::stderr()))
        }
        Program::Mcp => mcp::run().map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS),
        Program::Host(options) => {
            logging::start();
            // Children get environments built from nothing, so the secret goes no further than this process.
            let secret = std::env::var("LOCAL_SANDBOX_SECRET").ok();
            finish(run_to_end(host::run(options, secret)))
        }
        Program::Supervise { config_env: true, mut places, .. } => {
            if places.tool_path.is_empty() {
                // The image's own programs.
                let path = std::env::var_os("PATH").unwrap_or_default();
                places.tool_path = std::env::split_paths(&path).collect();
            }
            let variables: BTreeMap<String, String> = std::env::vars().collect();
            match env_contract::read(&variables) {
                Ok(config) => complain(&env_contract::restart_with_input(&config, &places.arguments())),
                Err(error) => complain(&error),
            }
        }
        Program::Supervise { config_env: false, places, enclosed } => {
            logging::start();
            match supervise::read_config() {
                Ok(config) => finish(run_to_end(async {
                    enclosed::open(&enclosed, &places.runtime_dir).await?;
                    supervise::run(config, places).await
                })),
                Err(error) => complain(&error),
            }
        }
    }
}

/// One thread is enough for what these programs do, and it is the thread that children are tied to.
fn run_to_end<E: std::error::Error + 'static>(
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let result = runtime.block_on(work).map_err(Into::into);
    runtime.shutdown_background();
    result
}

fn finish(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(error.as_ref()),
    }
}

fn complain(error: &dyn std::error::Error) -> ExitCode {
    // The last words of a program whose logging may not have started.
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "sandbox-bridge: {error}"));
    ExitCode::FAILURE
}
