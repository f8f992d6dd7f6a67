//! `cargo xtask deploy`: the Workers to Cloudflare, with wrangler.

use std::time::Duration;

use crate::failure::Result;
use crate::program::Program;
use crate::progress::{self, Outcome};
use crate::setup::Ready;
use crate::workers::{DATABASES, Worker};

const DEADLINE: Duration = Duration::from_secs(10 * 60);
const DRY_RUN_DEADLINE: Duration = Duration::from_secs(3 * 60);

/// Migrates the databases, then deploys the control plane, then the bots that reach it.
pub fn run(ready: &Ready, workers: &[Worker]) -> Result<()> {
    for worker in workers {
        if *worker == Worker::ControlPlane {
            for (binding, _) in DATABASES {
                progress::step(&format!("Migrating the database {binding}"), || {
                    wrangler(ready, "the migration", DEADLINE)
                        .args(["d1", "migrations", "apply", binding, "--remote", "-c"])
                        .args([worker.config(&ready.places)])
                        .env("CI", "true")
                        .run()
                        .map(|()| Outcome::Done)
                })?;
            }
        }
        progress::step(&format!("Deploying the {} Worker", worker.name()), || {
            wrangler(ready, &format!("deploying the {} Worker", worker.name()), DEADLINE)
                .args(["deploy", "-c"])
                .args([worker.config(&ready.places)])
                .run()
                .map(|()| Outcome::Done)
        })?;
    }
    Ok(())
}

/// Everything but the upload, from the very configuration that is deployed.
pub fn dry_run(ready: &Ready, worker: Worker) -> Result<()> {
    let places = &ready.places;
    wrangler(ready, &format!("the dry run of the {} Worker", worker.name()), DRY_RUN_DEADLINE)
        .args(["deploy", "--dry-run", "-c"])
        .args([worker.config(places)])
        .args(["--outdir".as_ref(), places.target().join("xtask/dry-run").join(worker.name()).as_os_str()])
        .env("CI", "true")
        .log(places.log(&format!("dry-run-{}", worker.name())))
        .run()
}

fn wrangler(ready: &Ready, what: &str, deadline: Duration) -> Program {
    Program::new(what, ready.node.node(), deadline)
        .args([ready.node.wrangler()])
        .dir(&ready.places.root)
        .env("PATH", ready.path())
        .env("OI_WORKERS_PREBUILT", "1")
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_HIDE_BANNER", "true")
        .env("NO_COLOR", "1")
}
