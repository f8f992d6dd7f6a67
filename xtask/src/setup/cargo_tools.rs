//! Tools of cargo, built from source: `worker-build` and `wasm-bindgen` at the versions that fit `Cargo.lock`,
//! `cargo-fuzz` at its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::locked_version;
use crate::cargo;
use crate::failure::Result;
use crate::places::Places;
use crate::program::is_executable;
use crate::progress::{self, Outcome};

const DEADLINE: Duration = Duration::from_secs(30 * 60);
const CARGO_FUZZ: &str = "0.13.2";

pub struct CargoTools {
    pub worker_build: PathBuf,
    pub wasm_bindgen: PathBuf,
}

pub fn install(places: &Places) -> Result<CargoTools> {
    // `worker-build` is released together with `worker`, whose glue it writes.
    let worker = locked_version(places, "worker")?;
    let bindgen = locked_version(places, "wasm-bindgen")?;
    Ok(CargoTools {
        worker_build: tool(places, "worker-build", "worker-build", &worker, true)?,
        // Its published lock file does not resolve everywhere; its own version is what matters.
        wasm_bindgen: tool(places, "wasm-bindgen-cli", "wasm-bindgen", &bindgen, false)?,
    })
}

pub fn cargo_fuzz(places: &Places) -> Result<PathBuf> {
    tool(places, "cargo-fuzz", "cargo-fuzz", CARGO_FUZZ, true)
}

fn tool(places: &Places, package: &str, binary: &str, version: &str, locked: bool) -> Result<PathBuf> {
    let root = places.tools().join(format!("{binary}-{version}"));
    let path = root.join("bin").join(binary);
    progress::step(&format!("Installing {binary} {version}"), || {
        if is_executable(&path) && installed(&root, package, version) {
            return Ok(Outcome::Cached);
        }
        progress::begins(&format!("Installing {binary} {version}"), "built from source, a few minutes, once");
        let mut install = cargo::native(places, format!("installing `{package}`"), DEADLINE)
            // Away from the repository's own configuration and toolchain file.
            .dir(&places.cache)
            .args(["install", package, "--version", version, "--force", "--root"])
            .args([&root])
            .log(places.log(&format!("install-{binary}")));
        if locked {
            install = install.args(["--locked"]);
        }
        install.run()?;
        Ok(Outcome::Done)
    })?;
    Ok(path)
}

/// cargo's own note of what it installed there.
fn installed(root: &Path, package: &str, version: &str) -> bool {
    fs::read_to_string(root.join(".crates.toml")).is_ok_and(|text| text.contains(&format!("\"{package} {version} ")))
}
