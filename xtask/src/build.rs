//! Building all that a stack runs: the native programs, the page, the Workers.

use std::time::Duration;

use crate::cargo;
use crate::failure::Result;
use crate::places::Places;
use crate::progress::{self, Outcome};
use crate::setup::Ready;
use crate::setup::npm;
use crate::stamps::{Inputs, Stamp};
use crate::workers::{self, Worker};

const NATIVE_DEADLINE: Duration = Duration::from_secs(30 * 60);
const WEB_DEADLINE: Duration = Duration::from_secs(5 * 60);

pub fn everything(ready: &Ready) -> Result<()> {
    native(ready)?;
    page(ready)?;
    for worker in Worker::ALL {
        workers::build(ready, worker, false)?;
    }
    Ok(())
}

/// The programs that run beside the Workers. cargo knows by itself what changed.
fn native(ready: &Ready) -> Result<()> {
    native_program(&ready.places, "devkit", &[])?;
    sandbox_bridge(&ready.places)
}

/// What sandboxes run, built as it ships: its start-up and memory are measured.
pub fn sandbox_bridge(places: &Places) -> Result<()> {
    native_program(places, "sandbox-bridge", &["--release"])
}

fn native_program(places: &Places, package: &str, profile: &[&str]) -> Result<()> {
    progress::step(&format!("Building {package}"), || {
        cargo::native(places, format!("building {package}"), NATIVE_DEADLINE)
            .args(["build", "--package", package])
            .args(profile)
            .env("CARGO_TERM_COLOR", "never")
            .log(places.log(&format!("build-{package}")))
            .run()
            // Silent when it was quick, so cargo's own "nothing to do" counts as cached.
            .map(|()| Outcome::Cached)
    })?;
    Ok(())
}

/// `web/dist`, which the control plane serves.
fn page(ready: &Ready) -> Result<()> {
    let places = &ready.places;
    let web = places.web();
    progress::step("Building the page", || {
        let inputs = Inputs::default()
            .value("tools", &ready.node.modules().to_string_lossy())
            .path(&places.root, &web)?
            .finish();
        let stamp = Stamp::new(&places.stamps(), "web");
        if web.join("dist/index.html").is_file() && stamp.matches(&inputs) {
            return Ok(Outcome::Cached);
        }
        stamp.forget();
        npm("building the page", WEB_DEADLINE, ready.path())?
            .dir(&web)
            .args(["run", "build"])
            .env("NO_COLOR", "1")
            .log(places.log("build-web"))
            .run()?;
        stamp.write(&inputs)?;
        Ok(Outcome::Done)
    })?;
    Ok(())
}
