//! `cargo xtask bench`: the measurements of docs/PERFORMANCE.md, against the running system.

use std::time::Duration;

use crate::failure::Result;
use crate::setup::{self, Ready};
use crate::tests_run::end_to_end;

const DEADLINE: Duration = Duration::from_secs(60 * 60);

pub fn run(ready: &Ready, arguments: &[String]) -> Result<()> {
    let mut program = end_to_end(ready, "the measurements", DEADLINE)?;
    if arguments.first().is_none_or(|part| part == "bridge") {
        program = program.env("OI_WEBSOCKETS_PYTHON", setup::python_with_websockets(&ready.places)?);
    }
    program.args(["run", "-q", "-p", "e2e", "--release", "--bin", "bench", "--"]).args(arguments).run()
}
