//! `cargo xtask bench`: the measurements of docs/PERFORMANCE.md, against the running system.

use std::time::Duration;

use serde_json::json;

use crate::cargo;
use crate::failure::Result;
use crate::places::Places;
use crate::setup::{self, Ready};
use crate::tests_run::end_to_end;

const DEADLINE: Duration = Duration::from_secs(60 * 60);
/// Names the interpreter that the programs of a sandbox are set beside.
const PYTHON: &str = "OI_WEBSOCKETS_PYTHON";

pub fn run(ready: &Ready, arguments: &[String]) -> Result<()> {
    let mut program = end_to_end(ready, "the measurements", DEADLINE)?;
    if arguments.is_empty() {
        program = program.env(PYTHON, setup::python_with_websockets(&ready.places)?);
    }
    program.args(["run", "-q", "-p", "e2e", "--release", "--bin", "bench", "--"]).args(arguments).run()
}

/// The part about a sandbox's programs alone, for which nothing else is built. They are measured as they ship; what
/// measures them need not be.
pub fn bridge(places: &Places) -> Result<()> {
    let tools = json!({"sandboxBridge": places.target().join("release/sandbox-bridge")});
    cargo::native(places, "the measurements", DEADLINE)
        .env("OI_TOOLS", tools.to_string())
        .env(PYTHON, setup::python_with_websockets(places)?)
        .args(["run", "-q", "-p", "e2e", "--bin", "bench", "--", "bridge"])
        .run()
}
