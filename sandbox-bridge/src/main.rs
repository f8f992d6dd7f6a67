//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sandbox_bridge::agent::setup::AgentOptions;
use sandbox_bridge::enclosed::{self, EnclosedOptions};
use sandbox_bridge::host::{self, HostOptions};
use sandbox_bridge::launch::{self, LaunchOptions};
use sandbox_bridge::small_programs::SmallProgram;
use sandbox_bridge::supervise::build_token::{self, LaunchError};
use sandbox_bridge::supervise::places::Places;
use sandbox_bridge::supervise::{self, env_contract};
use sandbox_bridge::{logging, mcp, mcp_servers};

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
        /// The same for the build of an image whose token comes as one line of standard input.
        #[arg(long)]
        await_modal_image_build_token_stdin_v1: bool,
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        agent: AgentOptions,
        #[command(flatten)]
        enclosed: EnclosedOptions,
    },
    /// Git's credential helper within a sandbox: `get`, `store`, `erase`, or `gh-token`.
    GitCredential(Arguments),
    /// Git's signer within a sandbox, as ssh-keygen is called by git.
    GitSign(Arguments),
    /// GitHub's own program, with a token where the user gave none.
    Gh(Arguments),
    /// Show people a picture or a recording.
    UploadMedia(Arguments),
    /// The agent's tools, as an MCP server on standard input and output.
    Mcp,
    /// Become a local MCP server of the session.
    #[command(hide = true)]
    McpLaunch {
        /// The server.
        id: String,
    },
    /// Run sandboxes on this machine. Reads its secret from LOCAL_SANDBOX_SECRET.
    Host(HostOptions),
    /// Become another program, in order.
    #[command(hide = true)]
    Launch(LaunchOptions),
}

/// Arguments of a program that reads them itself.
#[derive(clap::Args)]
struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    if let Some((program, arguments)) = SmallProgram::choose(&line) {
        return program.run(arguments);
    }
    match CommandLine::parse_from(line).command {
        Program::Launch(options) => complain(&launch::launch(&options)),
        Program::GitCredential(given) => SmallProgram::Credential.run(&given.arguments),
        Program::GitSign(given) => SmallProgram::Sign.run(&given.arguments),
        Program::Gh(given) => SmallProgram::Gh.run(&given.arguments),
        Program::UploadMedia(given) => SmallProgram::UploadMedia.run(&given.arguments),
        Program::McpLaunch { id } => complain(&mcp_servers::launch::run(&id)),
        Program::Mcp => mcp::run().map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS),
        Program::Host(options) => {
            logging::start();
            // Children get environments built from nothing, so the secret goes no further than this process.
            let secret = std::env::var("LOCAL_SANDBOX_SECRET").ok();
            finish_with(run_to_end(host::run(options, secret)), |_| ExitCode::FAILURE)
        }
        Program::Supervise { await_modal_image_build_token_stdin_v1: true, places, agent, .. } => {
            logging::start();
            let variables: BTreeMap<String, String> = std::env::vars().collect();
            match run_to_end(await_token(&variables)) {
                Ok(Some(Ok(token))) => start_from(&build_token::complete(variables, token), places, &agent),
                // A signal came first.
                Ok(None) => ExitCode::SUCCESS,
                Ok(Some(Err(error))) => {
                    tracing::error!(event = "image_build.launch_failed", reason = error.reason());
                    complain(&error)
                }
                Err(error) => complain(&error),
            }
        }
        Program::Supervise { config_env: true, places, agent, .. } => {
            start_from(&std::env::vars().collect(), places, &agent)
        }
        Program::Supervise { places, agent, enclosed, .. } => {
            logging::start();
            let code = |error: &supervise::SuperviseError| ExitCode::from(error.exit_code());
            match supervise::read_config() {
                Ok(config) => {
                    let work = async {
                        enclosed::open(&enclosed, &places.runtime_dir).await?;
                        supervise::run(config, places, agent).await
                    };
                    finish_with(run_to_end(work), code)
                }
                Err(error) => finish_with(Ok(Err(error)), code),
            }
        }
    }
}

/// The token of a build, or `None` when a signal asked to end first.
async fn await_token(variables: &BTreeMap<String, String>) -> Option<Result<String, LaunchError>> {
    if let Err(error) = build_token::check(variables) {
        return Some(Err(error));
    }
    let Ok(signal) = supervise::terminated() else { return Some(Err(LaunchError::Partial)) };
    tracing::info!(event = "image_build.awaiting_start");
    tokio::select! {
        biased;
        () = signal => None,
        read = tokio::task::spawn_blocking(|| build_token::read(std::io::stdin().lock())) => {
            Some(read.unwrap_or(Err(LaunchError::Partial)))
        }
    }
}

/// Starts again with the configuration that the variables describe.
fn start_from(variables: &BTreeMap<String, String>, mut places: Places, agent: &AgentOptions) -> ExitCode {
    if places.tool_path.is_empty() {
        // The image's own programs.
        let path = std::env::var_os("PATH").unwrap_or_default();
        places.tool_path = std::env::split_paths(&path).collect();
    }
    match env_contract::read(variables) {
        Ok(config) => {
            let arguments = [places.arguments(), agent.arguments()].concat();
            complain(&env_contract::restart_with_input(&config, &arguments))
        }
        Err(error) => complain(&error),
    }
}

/// One thread is enough for what these programs do, and it is the thread that children are tied to.
fn run_to_end<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}

fn finish_with<E: std::error::Error>(
    ended: std::io::Result<Result<(), E>>,
    code: impl FnOnce(&E) -> ExitCode,
) -> ExitCode {
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            complain(&error);
            code(&error)
        }
        Err(error) => complain(&error),
    }
}

fn complain(error: &dyn std::error::Error) -> ExitCode {
    // The last words of a program whose logging may not have started.
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "sandbox-bridge: {error}"));
    ExitCode::FAILURE
}
