//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sandbox_bridge::host::{self, HostOptions};
use sandbox_bridge::launch::{self, LaunchOptions};
use sandbox_bridge::small_programs::SmallProgram;
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
        Program::Mcp => mcp::run().map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS),
        Program::Host(options) => {
            logging::start();
            // Children get environments built from nothing, so the secret goes no further than this process.
            let secret = std::env::var("LOCAL_SANDBOX_SECRET").ok();
            finish(run_to_end(host::run(options, secret)))
        }
        Program::Supervise { config_env: true, mut places } => {
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
        Program::Supervise { config_env: false, places } => {
            logging::start();
            match supervise::read_config() {
                Ok(config) => finish(run_to_end(supervise::run(config, places))),
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
