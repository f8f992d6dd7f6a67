//! `cargo xtask check`: formatting, lints of both worlds, and the page's lints and types. Every part runs, so that one
//! run tells all there is to repair.

use std::time::Duration;

use crate::cargo;
use crate::failure::{Failure, Result};
use crate::program::Program;
use crate::progress::{self, Outcome};
use crate::setup::{Ready, npm};

const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Crates that only make sense in a Worker: linted for wasm, with its toolchain.
pub const WASM_PACKAGES: &[&str] = &[
    "oi-worker-kit",
    "oi-session-host",
    "oi-control-plane",
    "oi-slack",
    "oi-github",
    "oi-linear",
    "oi-store-probe",
    "oi-bare-worker",
];

pub fn run(ready: &Ready) -> Result<()> {
    let places = &ready.places;
    let excluded = WASM_PACKAGES.iter().flat_map(|package| ["--exclude", package]);
    let native = cargo::native(places, "clippy of the native crates", DEADLINE)
        .args(["clippy", "--workspace", "--all-targets", "--features", "oi-protocol/typescript"])
        .args(excluded)
        .args(["--", "-D", "warnings"]);
    let wasm = ready
        .wasm
        .clippy(places, "clippy of the Workers for wasm", DEADLINE)
        .args(WASM_PACKAGES.iter().flat_map(|package| ["-p", package]))
        .args(["--", "-D", "warnings"]);
    let format = cargo::native(places, "the format of the Rust code", DEADLINE).args(["fmt", "--all", "--check"]);
    // A workspace of its own, which `--all` does not reach.
    let fuzz_format = cargo::native(places, "the format of the fuzz targets", DEADLINE).args([
        "fmt",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--check",
    ]);
    let web = |what: &str, script: &str| -> Result<Program> {
        Ok(npm(what, DEADLINE, ready.path())?.dir(&places.web()).args(["run", "--silent", script]))
    };
    let parts = [
        ("Checking the format", format),
        ("Checking the format of the fuzz targets", fuzz_format),
        ("Linting the native crates", native),
        ("Linting the Workers", wasm),
        ("Linting the page", web("the page's lints", "lint")?),
        ("Checking the page's types", web("the page's types", "typecheck")?),
    ];
    let mut failed = Vec::new();
    for (name, part) in parts {
        match progress::step(name, || part.run().map(|()| Outcome::Done)) {
            Ok(_) => {}
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => failed.push(failure.to_string()),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Missing(failed.join("\n"))) }
}
