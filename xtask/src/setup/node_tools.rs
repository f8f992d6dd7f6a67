//! Node 22, wrangler, OpenCode and the rest of `tools/package.json`, installed by `npm ci` into a folder of the cache
//! that is named after the lock file. Nothing runs at installation: the programs come in packages per platform.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{prepend_path, put_in_place, staging_beside};
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::{Program, find_on_path, is_executable};
use crate::progress::{self, Outcome};
use crate::stamps::file_hash;

const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// The programs, by path.
#[derive(Debug, Clone)]
pub struct NodeTools {
    /// `node_modules`.
    modules: PathBuf,
    /// Holds `node`.
    bin_dir: PathBuf,
}

impl NodeTools {
    fn in_folder(folder: &Path) -> Self {
        let modules = folder.join("node_modules");
        let bin_dir = modules.join(format!("node-{}", platform("linux-x64", "linux-arm64"))).join("bin");
        Self { modules, bin_dir }
    }

    /// For the front of `PATH`.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    pub fn node(&self) -> PathBuf {
        self.bin_dir.join("node")
    }

    pub fn modules(&self) -> &Path {
        &self.modules
    }

    /// A script: run it with `node`.
    pub fn wrangler(&self) -> PathBuf {
        self.modules.join("wrangler/bin/wrangler.js")
    }

    pub fn esbuild(&self) -> PathBuf {
        self.modules.join("@esbuild").join(platform("linux-x64", "linux-arm64")).join("bin/esbuild")
    }

    /// A script with a `node` line: needs `node` on `PATH`.
    pub fn wasm_opt(&self) -> PathBuf {
        self.modules.join("binaryen/bin/wasm-opt")
    }

    /// The agent. `OPENCODE_BIN` names another, for a platform that `tools/package.json` has none for.
    pub fn opencode(&self) -> PathBuf {
        std::env::var_os("OPENCODE_BIN").filter(|value| !value.is_empty()).map_or_else(
            || self.modules.join(format!("opencode-{}", platform("linux-x64", "linux-arm64"))).join("bin/opencode"),
            PathBuf::from,
        )
    }

    pub fn playwright_core(&self) -> PathBuf {
        self.modules.join("playwright-core")
    }

    fn check(&self) -> Result<()> {
        for (name, path) in [("Node", self.node()), ("esbuild", self.esbuild())] {
            if !is_executable(&path) {
                return Err(Failure::Missing(format!(
                    "{name} has no program for this machine: `{}` is missing",
                    path.display()
                )));
            }
        }
        if !is_executable(&self.opencode()) {
            return Err(Failure::Missing(format!(
                "OpenCode has no program for this machine at `{}`: install it yourself and set `OPENCODE_BIN`",
                self.opencode().display()
            )));
        }
        Ok(())
    }
}

pub fn install(places: &Places) -> Result<NodeTools> {
    let source = places.root.join("tools");
    let lock = file_hash(&source.join("package-lock.json"))?;
    let folder = places.tools().join(format!("node-{}", &lock[..16]));
    let tools = NodeTools::in_folder(&folder);
    let complete = folder.join("complete");
    progress::step("Installing Node, wrangler, OpenCode", || {
        if complete.is_file() {
            return Ok(Outcome::Cached);
        }
        progress::begins("Installing Node, wrangler, OpenCode", "about 250 MB to download, once");
        let staging = staging_beside(&folder)?;
        copy_manifests(&source, &staging)?;
        npm_ci("installing the Node tools", &staging, prepend_path(&[]))?
            .log(places.log("install-node-tools"))
            .run()?;
        NodeTools::in_folder(&staging).check()?;
        fs::write(staging.join("complete"), "").map_err(Failure::file("write", &staging))?;
        put_in_place(&staging, &folder)?;
        Ok(Outcome::Done)
    })?;
    tools.check()?;
    Ok(tools)
}

/// What `npm ci` reads, copied to where it shall install.
pub fn copy_manifests(source: &Path, folder: &Path) -> Result<()> {
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        let from = source.join(name);
        fs::copy(&from, folder.join(name)).map_err(Failure::file("copy", &from))?;
    }
    Ok(())
}

/// `npm ci` without install scripts, in a folder that holds the lock file.
pub fn npm_ci(what: &str, folder: &Path, path: OsString) -> Result<Program> {
    Ok(npm(what, DEADLINE, path)?.dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))
}

/// The npm of this machine.
pub fn npm(what: &str, deadline: Duration, path: OsString) -> Result<Program> {
    let npm = find_on_path("npm").ok_or_else(|| {
        Failure::Missing("`npm` is missing: install Node with npm (on Debian: `apt-get install nodejs npm`)".into())
    })?;
    Ok(Program::new(what, npm, deadline).env("PATH", path).env("npm_config_update_notifier", "false"))
}

fn platform(x64: &'static str, arm64: &'static str) -> &'static str {
    if cfg!(target_arch = "aarch64") { arm64 } else { x64 }
}
