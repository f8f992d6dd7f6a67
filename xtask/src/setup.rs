//! Everything a fresh machine lacks, put into the user's cache once. Every chore calls this first; when all is there
//! it takes milliseconds.

mod cargo_tools;
mod debian;
mod development_tools;
mod node_tools;
mod python_tools;
mod vendor_clients;
mod wasm;
mod web;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use node_tools::{NodeTools, npm};
pub use wasm::WasmToolchain;

use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::find_on_path;
use crate::progress;

/// What a chore needs beyond the compilers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants {
    /// What a sandbox runs with: git, ssh-keygen, bubblewrap, ripgrep, and what people and the agent use in it.
    pub sandbox: bool,
    /// A browser, for the tests.
    pub browser: bool,
    /// The packages of the page.
    pub web: bool,
}

impl Wants {
    pub const ALL: Self = Self { sandbox: true, browser: true, web: true };
}

/// A machine that is set up.
#[derive(Debug, Clone)]
pub struct Ready {
    pub places: Places,
    pub node: NodeTools,
    /// A folder with code-server and agent-browser, where sandboxes are wanted.
    pub development: Option<PathBuf>,
    pub wasm: WasmToolchain,
    pub worker_build: PathBuf,
    pub wasm_bindgen: PathBuf,
}

impl Ready {
    /// `PATH` with Node 22 first.
    pub fn path(&self) -> OsString {
        prepend_path(&[self.node.bin_dir()])
    }
}

/// Puts everything in place.
pub fn prepare(places: &Places, wants: Wants) -> Result<Ready> {
    let _lock = Lock::take(places)?;
    debian::programs(places, wants)?;
    let node = node_tools::install(places)?;
    let development = wants.sandbox.then(|| development_tools::install(places, &node)).transpose()?;
    let cargo = cargo_tools::install(places)?;
    let wasm = wasm::install(places)?;
    if wants.web {
        web::dependencies(places, &node)?;
    }
    Ok(Ready {
        places: places.clone(),
        node,
        development,
        wasm,
        worker_build: cargo.worker_build,
        wasm_bindgen: cargo.wasm_bindgen,
    })
}

/// `cargo-fuzz`, and the C++ compiler that libFuzzer is built with. Only `cargo xtask fuzz` needs them.
pub fn cargo_fuzz(places: &Places) -> Result<PathBuf> {
    let _lock = Lock::take(places)?;
    if find_on_path("c++").is_none() && std::env::var_os("CXX").is_none() {
        debian::install(places, &["g++"])?;
    }
    cargo_tools::cargo_fuzz(places)
}

/// Schemathesis. Only `cargo xtask schemathesis` needs it.
pub fn schemathesis(places: &Places) -> Result<PathBuf> {
    let _lock = Lock::take(places)?;
    python_tools::schemathesis(places)
}

/// A Python with `websockets`. Only `cargo xtask bench` needs it.
pub fn python_with_websockets(places: &Places) -> Result<PathBuf> {
    let _lock = Lock::take(places)?;
    python_tools::websockets(places)
}

/// The sandbox vendors' own clients. Only the end-to-end tests need them.
pub fn vendor_clients(ready: &Ready) -> Result<vendor_clients::VendorClients> {
    vendor_clients::install(&ready.places, &ready.node)
}

/// One set-up at a time for all clones that share the cache. The lock goes with the process.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(places: &Places) -> Result<Self> {
        fs::create_dir_all(&places.cache).map_err(Failure::file("make the folder", &places.cache))?;
        let path = places.cache.join("setup.lock");
        let file = File::create(&path).map_err(Failure::file("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                progress::begins("Waiting for another set-up to finish", &path.display().to_string());
                file.lock().map_err(Failure::file("lock", &path))?;
            }
            Err(fs::TryLockError::Error(source)) => return Err(Failure::file("lock", &path)(source)),
        }
        Ok(Self { _file: file })
    }
}

/// The version that `Cargo.lock` has of a crate.
fn locked_version(places: &Places, name: &str) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct LockFile {
        package: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let path = places.root.join("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
    let lock: LockFile = toml::from_str(&text).map_err(|error| Failure::content(&path, error))?;
    let mut found = lock.package.into_iter().filter(|package| package.name == name);
    match (found.next(), found.next()) {
        (Some(package), None) => Ok(package.version),
        (Some(_), Some(_)) => Err(Failure::content(&path, format_args!("more than one version of `{name}`"))),
        (None, _) => Err(Failure::content(&path, format_args!("no `{name}`"))),
    }
}

/// A new folder beside its final place. A rename makes it visible whole or not at all.
fn staging_beside(path: &Path) -> Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let staging = path.with_file_name(name);
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(Failure::file("remove", &staging))?;
    }
    fs::create_dir_all(&staging).map_err(Failure::file("make the folder", &staging))?;
    Ok(staging)
}

/// Makes a staged folder the one, in place of what was there.
fn put_in_place(staging: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Failure::file("remove", folder))?;
    }
    fs::rename(staging, folder).map_err(Failure::file("rename", staging))
}

/// `PATH` with these folders first.
pub fn prepend_path(first: &[&Path]) -> OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = first.iter().map(|dir| dir.to_path_buf()).chain(std::env::split_paths(&rest));
    // A folder with a colon in its name can't be on `PATH`; the rest still can.
    std::env::join_paths(all).unwrap_or(rest)
}
