//! `cargo xtask`: every chore of this repository.

mod build;
mod cargo;
mod dev;
mod failure;
mod guard;
mod interrupt;
mod places;
mod program;
mod progress;
mod setup;
mod stamps;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Failure, Result};
use places::Places;
use setup::Wants;
use workers::Worker;

/// Every chore of this repository. Each one first sets up what the machine lacks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install toolchains, tools and packages into the user's cache. The other chores do this by themselves.
    Setup,
    /// Build one Worker for wasm; each `wrangler.toml` calls this.
    Worker {
        worker: Worker,
        /// Build even when nothing changed.
        #[arg(long)]
        force: bool,
    },
    /// Build everything: the native programs, the page and the Workers, and print the Workers' sizes.
    Build,
    Dev(dev::Options),
    /// Become a program that ends when we do. For `dev` alone.
    #[command(hide = true)]
    Guard {
        parent: u32,
        #[arg(last = true, required = true)]
        words: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::listen()
        .map_err(|source| Failure::Start { what: "listening for Ctrl-C".into(), program: "xtask".into(), source })
        .and_then(|()| run(cli.chore));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(130),
        Err(failure) => {
            progress::say(format_args!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    if let Chore::Guard { parent, words } = &chore {
        return guard::become_program(*parent, words);
    }
    let places = Places::find()?;
    match chore {
        Chore::Setup => {
            setup::prepare(&places, Wants::ALL)?;
            progress::say("All set up.");
        }
        Chore::Worker { worker, force } => {
            // `dev` and `test` built it before they started wrangler.
            if std::env::var_os("OI_WORKERS_PREBUILT").is_some_and(|value| value == "1") {
                return Ok(());
            }
            let ready = setup::prepare(&places, Wants::default())?;
            workers::build(&ready, worker, force)?;
        }
        Chore::Build => {
            let ready = setup::prepare(&places, Wants { web: true, ..Wants::default() })?;
            build::everything(&ready)?;
            workers::report_sizes(&places)?;
        }
        Chore::Dev(options) => dev::run(&places, &options)?,
        Chore::Guard { .. } => {}
    }
    Ok(())
}
