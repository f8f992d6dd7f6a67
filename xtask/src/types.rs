//! What is generated from the Rust types: the TypeScript of the wire, and the OpenAPI document of the routes.

use std::time::Duration;

use crate::cargo;
use crate::failure::Result;
use crate::places::Places;
use crate::program::Program;

const GENERATED: &str = "web/src/protocol.generated.ts";

/// Writes the files, or with `check` fails when one is not what would be written.
pub fn run(places: &Places, check: bool) -> Result<()> {
    generator(places, check).run()?;
    openapi(places, check).run()
}

/// A test of the control plane compares `docs/openapi.json`, or writes it.
fn openapi(places: &Places, check: bool) -> Program {
    cargo::native(places, "generating `docs/openapi.json`", Duration::from_secs(15 * 60))
        .args(["test", "-q", "-p", "oi-control-plane", "--lib", "openapi::the_checked_in_document"])
        .envs((!check).then_some(("OI_WRITE_OPENAPI", "1")))
}

pub fn generator(places: &Places, check: bool) -> Program {
    cargo::native(places, "generating TypeScript from `protocol`", Duration::from_secs(15 * 60))
        .args(["run", "-q", "-p", "oi-protocol", "--features", "typescript", "--example", "generate_types", "--"])
        .args(check.then_some("--check"))
        .args([GENERATED])
}
