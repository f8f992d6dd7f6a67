//! The TypeScript of the wire, generated from `protocol`.

use std::time::Duration;

use crate::cargo;
use crate::failure::Result;
use crate::places::Places;
use crate::program::Program;

const GENERATED: &str = "web/src/protocol.generated.ts";

/// Writes the file, or with `check` fails when it is not what would be written.
pub fn run(places: &Places, check: bool) -> Result<()> {
    generator(places, check).run()
}

pub fn generator(places: &Places, check: bool) -> Program {
    cargo::native(places, "generating TypeScript from `protocol`", Duration::from_secs(15 * 60))
        .args(["run", "-q", "-p", "oi-protocol", "--features", "typescript", "--example", "generate_types", "--"])
        .args(check.then_some("--check"))
        .args([GENERATED])
}
