//! `cargo xtask`: every chore of this repository.

mod bench;
mod build;
mod cargo;
mod check;
mod deploy;
mod dev;
mod failure;
mod fuzz;
mod guard;
mod images;
mod interrupt;
mod places;
mod program;
mod progress;
mod schemathesis;
mod setup;
mod simulate;
mod stamps;
mod tests_run;
mod types;
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
    /// Run every test: units, generated types, page, dry deployments, and the whole system from outside.
    Test(tests_run::Options),
    /// Check formatting, lints of the native crates and the Workers, and the page's lints and types.
    Check,
    /// Write the TypeScript of the wire and `docs/openapi.json` from the Rust types and the table of routes.
    Types {
        /// Write nothing; fail when a file differs.
        #[arg(long)]
        check: bool,
    },
    /// Measure the running system, for docs/PERFORMANCE.md.
    Bench {
        /// Passed on to the measurements.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    Simulate(simulate::Options),
    Fuzz(fuzz::Options),
    Schemathesis(schemathesis::Options),
    Images(images::Options),
    /// Deploy the Workers to Cloudflare, after a build. Needs `CLOUDFLARE_API_TOKEN` and `CLOUDFLARE_ACCOUNT_ID`, the
    /// resources of each `wrangler.toml`, and the secrets set with `wrangler secret put`; see docs/DEPLOY.md.
    Deploy {
        /// Those to deploy; all when none is named.
        workers: Vec<Worker>,
        /// Do everything but the upload.
        #[arg(long)]
        dry_run: bool,
    },
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
        Chore::Test(options) => tests_run::run(&setup::prepare(&places, Wants::ALL)?, &options)?,
        Chore::Check => check::run(&setup::prepare(&places, Wants { web: true, ..Wants::default() })?)?,
        Chore::Types { check } => types::run(&places, check)?,
        Chore::Bench { arguments } if arguments == ["bridge"] => {
            build::sandbox_bridge(&places)?;
            bench::bridge(&places)?;
        }
        Chore::Bench { arguments } => {
            let ready = setup::prepare(&places, Wants::ALL)?;
            build::everything(&ready)?;
            workers::build_for_tests(&ready, workers::TestWorker::Bare)?;
            bench::run(&ready, &arguments)?;
        }
        Chore::Simulate(options) => simulate::run(&places, &options)?,
        Chore::Images(options) => images::run(&places, &options)?,
        Chore::Fuzz(options) => fuzz::run(&places, &options)?,
        Chore::Schemathesis(options) => {
            let binary = setup::schemathesis(&places)?;
            let ready = setup::prepare(&places, Wants::ALL)?;
            build::everything(&ready)?;
            schemathesis::run(&ready, &binary, &options)?;
        }
        Chore::Deploy { workers, dry_run } => {
            let ready = setup::prepare(&places, Wants { web: true, ..Wants::default() })?;
            build::everything(&ready)?;
            let workers = if workers.is_empty() { Worker::ALL.to_vec() } else { workers };
            if dry_run {
                for worker in workers {
                    progress::step(&format!("Trying the deployment of {}", worker.name()), || {
                        deploy::dry_run(&ready, worker).map(|()| progress::Outcome::Done)
                    })?;
                }
            } else {
                deploy::run(&ready, &workers)?;
            }
        }
        Chore::Guard { .. } => {}
    }
    Ok(())
}
