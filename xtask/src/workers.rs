//! The four Workers: which crates each is made of, its build, its size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use crate::cargo;
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::Program;
use crate::progress::{self, Outcome};
use crate::setup::Ready;
use crate::stamps::{Inputs, Stamp};

/// A first build on two cores takes minutes; one that takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(25 * 60);

/// Bump when the build command changes what comes out of the same sources.
const RECIPE: &str = "3";

/// The control plane's databases: binding, and folder of migrations.
pub const DATABASES: [(&str, &str); 2] = [("DB", "d1-migrations"), ("SEARCH_DB", "d1-search-migrations")];

/// A deployable Worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Worker {
    ControlPlane,
    Slack,
    Github,
    Linear,
}

impl Worker {
    pub const ALL: [Self; 4] = [Self::ControlPlane, Self::Slack, Self::Github, Self::Linear];
    pub const BOTS: [Self; 3] = [Self::Slack, Self::Github, Self::Linear];

    /// Its folder below `workers/`, and its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Slack => "slack",
            Self::Github => "github",
            Self::Linear => "linear",
        }
    }

    const fn source(self) -> Source {
        let (package, folder) = match self {
            Self::ControlPlane => ("oi-control-plane", "workers/control-plane"),
            Self::Slack => ("oi-slack", "workers/slack"),
            Self::Github => ("oi-github", "workers/github"),
            Self::Linear => ("oi-linear", "workers/linear"),
        };
        Source { name: self.name(), package, folder }
    }

    pub fn folder(self, places: &Places) -> PathBuf {
        places.root.join(self.source().folder)
    }

    /// Its wrangler configuration. The control plane's is at the root, where people look for it.
    pub fn config(self, places: &Places) -> PathBuf {
        match self {
            Self::ControlPlane => places.root.join("wrangler.toml"),
            Self::Slack | Self::Github | Self::Linear => self.folder(places).join("wrangler.toml"),
        }
    }

    /// Aims for its size, in bytes: raw and gzip.
    fn budget(self) -> Option<(u64, u64)> {
        (self == Self::ControlPlane).then_some((1_500_000, 500_000))
    }
}

/// A Worker that tests and the benchmark run under workerd, built as the deployed ones are, and never deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestWorker {
    /// Runs the session's store checks in a Durable Object.
    StoreProbe,
    /// Does nothing: what a cold start is compared with.
    Bare,
}

impl TestWorker {
    const fn source(self) -> Source {
        match self {
            Self::StoreProbe => {
                Source { name: "store-probe", package: "oi-store-probe", folder: "e2e/workers/store-probe" }
            }
            Self::Bare => Source { name: "bare", package: "oi-bare-worker", folder: "e2e/workers/bare" },
        }
    }

    pub fn folder(self, places: &Places) -> PathBuf {
        places.root.join(self.source().folder)
    }
}

/// Where a Worker is made from.
#[derive(Clone, Copy)]
struct Source {
    name: &'static str,
    package: &'static str,
    /// Below the repository's root.
    folder: &'static str,
}

/// Builds one Worker into its `build` folder, unless its inputs are those of the last build.
pub fn build(ready: &Ready, worker: Worker, force: bool) -> Result<Outcome> {
    build_source(ready, worker.source(), force)
}

/// The same for one of the tests.
pub fn build_for_tests(ready: &Ready, worker: TestWorker) -> Result<Outcome> {
    build_source(ready, worker.source(), false)
}

fn build_source(ready: &Ready, source: Source, force: bool) -> Result<Outcome> {
    let places = &ready.places;
    progress::step(&format!("Building the {} Worker", source.name), || {
        let stamp = Stamp::new(&places.stamps(), &format!("worker-{}", source.name));
        let inputs = inputs(ready, source.package)?;
        let out = places.root.join(source.folder).join("build");
        let there = out.join("index.js").is_file() && out.join("index_bg.wasm").is_file();
        if there && !force && stamp.matches(&inputs) {
            return Ok(Outcome::Cached);
        }
        stamp.forget();
        let wasm_opt = deep_wasm_opt(ready)?;
        worker_build(ready, source, &wasm_opt).run()?;
        stamp.write(&inputs)?;
        Ok(Outcome::Done)
    })
}

/// `wasm-opt` with a deep stack. It walks nested blocks by recursion, and one function of the control plane, the
/// choice between all handlers, is nested deeper than node's usual stack.
fn deep_wasm_opt(ready: &Ready) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = ready.places.target().join("xtask/wasm-opt");
    let quoted = |path: PathBuf| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    let (node, script) = (quoted(ready.node.node()), quoted(ready.node.wasm_opt()));
    // Node's own limit, in KiB, must stay below the system's, or it ends by a signal.
    let text = format!(
        "#!/bin/sh\nif ulimit -s 262144 2>/dev/null; then exec {node} --stack-size=250000 {script} \"$@\"; fi\n\
        exec {node} {script} \"$@\"\n"
    );
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(Failure::file("write", &path))?;
    Ok(path)
}

fn worker_build(ready: &Ready, source: Source, wasm_opt: &Path) -> Program {
    let places = &ready.places;
    Program::new(format!("building the {} Worker", source.name), &ready.worker_build, DEADLINE)
        // A panic then answers 500 at once and the object lives on, see docs/ARCHITECTURE.md.
        .args(["--release", "--panic-unwind"])
        .args([source.folder])
        .dir(&places.root)
        .without_env("RUSTUP_TOOLCHAIN")
        .without_env("RUSTFLAGS")
        // Its own backtrace would hide the compiler's message.
        .env("RUST_BACKTRACE", "0")
        .env("PATH", ready.wasm.path(ready.node.bin_dir()))
        .env("CARGO_TARGET_DIR", places.target_wasm())
        // The features section has to live until `wasm-bindgen` has read it; `wasm-opt` drops the names.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .env("WASM_BINDGEN_BIN", &ready.wasm_bindgen)
        .env("WASM_OPT_BIN", wasm_opt)
        .env("ESBUILD_BIN", ready.node.esbuild())
        .log(places.log(&format!("worker-{}", source.name)))
}

/// The hash of everything that decides what a build gives.
fn inputs(ready: &Ready, package: &str) -> Result<String> {
    let places = &ready.places;
    let root = &places.root;
    let mut inputs = Inputs::default()
        .value("recipe", RECIPE)
        .value("compiler", ready.wasm.id())
        .value("worker-build", &ready.worker_build.to_string_lossy())
        .value("wasm-bindgen", &ready.wasm_bindgen.to_string_lossy())
        .value("node tools", &ready.node.modules().to_string_lossy())
        .path(root, &root.join("Cargo.toml"))?
        .path(root, &root.join("Cargo.lock"))?;
    for folder in crates_of(places, package)? {
        inputs = inputs.path(root, &folder)?;
    }
    Ok(inputs.finish())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or null.
    kind: Option<String>,
    /// Only of the workspace's own.
    path: Option<PathBuf>,
}

/// The folders of the workspace's crates that a package is built from.
fn crates_of(places: &Places, package: &str) -> Result<BTreeSet<PathBuf>> {
    let json = cargo::native(places, "reading the workspace", Duration::from_secs(60))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()?;
    let metadata: Metadata =
        serde_json::from_str(&json).map_err(|error| Failure::content(&places.root.join("Cargo.toml"), error))?;
    closure(&metadata, package)
        .ok_or_else(|| Failure::content(&places.root.join("Cargo.toml"), format_args!("no package `{package}`")))
}

fn closure(metadata: &Metadata, package: &str) -> Option<BTreeSet<PathBuf>> {
    let by_name: BTreeMap<&str, &Package> = metadata.packages.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut seen = BTreeSet::new();
    let mut folders = BTreeSet::new();
    let mut next = vec![package];
    while let Some(name) = next.pop() {
        if !seen.insert(name) {
            continue;
        }
        let found = by_name.get(name)?;
        folders.insert(found.manifest_path.parent()?.to_path_buf());
        let normal = |d: &&Dependency| d.path.is_some() && d.kind.as_deref() != Some("dev");
        next.extend(found.dependencies.iter().filter(normal).map(|d| d.name.as_str()));
    }
    Some(folders)
}

/// Size of a built Worker's wasm, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub raw: u64,
    pub gzip: u64,
}

pub fn size(places: &Places, worker: Worker) -> Result<Size> {
    let path = worker.folder(places).join("build/index_bg.wasm");
    let bytes = fs::read(&path).map_err(Failure::file("read", &path))?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zipped = encoder.write_all(&bytes).and_then(|()| encoder.finish()).map_err(Failure::file("compress", &path))?;
    Ok(Size { raw: bytes.len() as u64, gzip: zipped.len() as u64 })
}

/// A line a Worker, and a warning when the budget is passed.
pub fn report_sizes(places: &Places) -> Result<()> {
    progress::say("Worker           wasm raw     gzip");
    for worker in Worker::ALL {
        let size = size(places, worker)?;
        let budget = worker.budget().map_or_else(String::new, |(raw, gzip)| {
            let verdict = if size.raw > raw || size.gzip > gzip { "over" } else { "within" };
            format!("  ({verdict} its budget of {} and {} KB)", raw / 1000, gzip / 1000)
        });
        let (raw, gzip) = (size.raw / 1000, size.gzip / 1000);
        progress::say(format_args!("{:<15} {raw:>7} KB {gzip:>5} KB{budget}", worker.name()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        serde_json::from_value(serde_json::json!({"packages": [
            {"name": "worker", "manifest_path": "/r/worker/Cargo.toml", "dependencies": [
                {"name": "kit", "kind": null, "path": "/r/kit"},
                {"name": "serde", "kind": null, "path": null},
                {"name": "testkit", "kind": "dev", "path": "/r/testkit"}]},
            {"name": "kit", "manifest_path": "/r/kit/Cargo.toml", "dependencies": [
                {"name": "wire", "kind": null, "path": "/r/wire"}]},
            {"name": "wire", "manifest_path": "/r/wire/Cargo.toml", "dependencies": [
                {"name": "kit", "kind": "build", "path": "/r/kit"}]},
            {"name": "testkit", "manifest_path": "/r/testkit/Cargo.toml", "dependencies": []},
            {"name": "other", "manifest_path": "/r/other/Cargo.toml", "dependencies": []}
        ]}))
        .expect("as cargo writes it")
    }

    #[test]
    fn a_worker_depends_on_the_crates_it_is_built_from_and_no_others() {
        let folders = closure(&metadata(), "worker").expect("it is there");
        let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        assert_eq!(names, ["/r/kit", "/r/wire", "/r/worker"]);
    }

    #[test]
    fn an_unknown_package_is_no_empty_set() {
        assert_eq!(closure(&metadata(), "nobody"), None);
    }
}
