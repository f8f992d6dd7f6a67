//! A compiler for `wasm32-unknown-unknown` that can rebuild the standard library with unwinding panics.
//!
//! Where rustup can download, that is its nightly with `rust-src`. Where it can't, Debian's packages do it: a stable
//! compiler allowed nightly flags, the library's source, rustup's own linker, and three stand-ins on `PATH` that make
//! `worker-build` see the toolchain that it asks for.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::debian;
use super::prepend_path;
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::{Program, find_on_path, is_executable};
use crate::progress::{self, Outcome};

const TARGET: &str = "wasm32-unknown-unknown";
/// Long enough for a slow line, short enough to notice that there is none.
const RUSTUP_TARGET_DEADLINE: Duration = Duration::from_secs(60);
const RUSTUP_NIGHTLY_DEADLINE: Duration = Duration::from_secs(300);
const SEED_BUILD_DEADLINE: Duration = Duration::from_secs(15 * 60);
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
/// Where Debian's compiler lives, beside rustup's and never instead of it.
const DEBIAN_BIN: &str = "/usr/bin";

/// Which toolchain builds the Workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WasmToolchain {
    /// rustup's nightly, and its stable target for checks.
    Rustup { version: String },
    /// Debian's packages behind the stand-ins.
    Debian { version: String, stand_ins: PathBuf },
}

impl WasmToolchain {
    /// Changes whenever outputs may.
    pub fn id(&self) -> &str {
        match self {
            Self::Rustup { version } | Self::Debian { version, .. } => version,
        }
    }

    /// `PATH` for `worker-build`.
    pub fn path(&self, node_bin: &Path) -> OsString {
        match self {
            Self::Rustup { .. } => prepend_path(&[node_bin]),
            Self::Debian { stand_ins, .. } => prepend_path(&[stand_ins, node_bin]),
        }
    }

    /// Clippy for the wasm target, up to its own arguments.
    pub fn clippy(&self, places: &Places, what: &str, deadline: Duration) -> Program {
        match self {
            Self::Rustup { .. } => crate::cargo::native(places, what, deadline).args(["clippy"]),
            // Called by path: through `cargo clippy`, rustup's proxy would be found first.
            Self::Debian { stand_ins, .. } => Program::new(what, Path::new(DEBIAN_BIN).join("cargo-clippy"), deadline)
                .dir(&places.root)
                .without_env("RUSTUP_TOOLCHAIN")
                .env("PATH", prepend_path(&[stand_ins, Path::new(DEBIAN_BIN)]))
                .env("CARGO", Path::new(DEBIAN_BIN).join("cargo"))
                .args(["clippy"]),
        }
        .env("CARGO_TARGET_DIR", places.target_wasm())
        .args(["--target", TARGET])
    }

    fn works(&self, places: &Places) -> bool {
        match self {
            Self::Rustup { version } => {
                nightly_version().is_some_and(|now| now == *version)
                    && nightly_is_complete()
                    && stable_has_target(places)
            }
            Self::Debian { version, stand_ins } => {
                ["cargo", "rustc", "rustup"].iter().all(|name| is_executable(&stand_ins.join(name)))
                    && debian_version().is_ok_and(|now| now == *version)
                    && seeded(version).unwrap_or(false)
            }
        }
    }
}

/// Finds or makes one. The choice is remembered, so that a machine whose rustup can't download is asked once.
pub fn install(places: &Places) -> Result<WasmToolchain> {
    let memory = places.cache.join("wasm-toolchain.json");
    let mut chosen = None;
    progress::step("Preparing the wasm toolchain", || {
        if let Some(known) =
            fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice::<WasmToolchain>(&bytes).ok())
            && known.works(places)
        {
            chosen = Some(known);
            return Ok(Outcome::Cached);
        }
        progress::begins("Preparing the wasm toolchain", "asking rustup first");
        let found = match rustup(places)? {
            Some(found) => found,
            None => debian_toolchain(places)?,
        };
        let bytes = serde_json::to_vec(&found).map_err(|error| Failure::content(&memory, error))?;
        fs::write(&memory, bytes).map_err(Failure::file("write", &memory))?;
        chosen = Some(found);
        Ok(Outcome::Done)
    })?;
    chosen.ok_or_else(|| Failure::Missing("no wasm toolchain".into()))
}

/// rustup's nightly. None when rustup is missing or can't download.
fn rustup(places: &Places) -> Result<Option<WasmToolchain>> {
    if find_on_path("rustup").is_none() {
        return Ok(None);
    }
    let run = |what: &str, deadline: Duration, args: &[&str]| {
        let result =
            Program::new(what, "rustup", deadline).args(args).dir(&places.root).log(places.log("rustup")).run();
        match result {
            Ok(()) => Ok(true),
            Err(Failure::Interrupted) => Err(Failure::Interrupted),
            Err(_) => Ok(false),
        }
    };
    // What is there is taken as it is: nobody's nightly is updated without need.
    let there = (stable_has_target(places)
        || run("adding the wasm target", RUSTUP_TARGET_DEADLINE, &["target", "add", TARGET])?)
        && (nightly_is_complete()
            || run(
                "installing the nightly toolchain",
                RUSTUP_NIGHTLY_DEADLINE,
                &[
                    "toolchain",
                    "install",
                    "nightly",
                    "--profile",
                    "minimal",
                    "--component",
                    "rust-src",
                    "--target",
                    TARGET,
                ],
            )?);
    if !there {
        progress::begins("Preparing the wasm toolchain", "rustup could not download, so Debian's packages");
        return Ok(None);
    }
    Ok(nightly_version().map(|version| WasmToolchain::Rustup { version }))
}

fn rustc(args: &[&str]) -> Program {
    Program::new("asking the compiler", "rustc", Duration::from_secs(30))
        .args(args)
        // Asking for a toolchain must not download it.
        .env("RUSTUP_AUTO_INSTALL", "0")
}

fn stable_has_target(places: &Places) -> bool {
    rustc(&["--target", TARGET, "--print", "target-libdir"])
        .dir(&places.root)
        .output()
        .is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

fn nightly_version() -> Option<String> {
    rustc(&["+nightly", "-vV"]).output().ok()
}

/// Whether nightly has the library's source, and what `worker-build` looks for: the target's folder.
fn nightly_is_complete() -> bool {
    rustc(&["+nightly", "--print", "sysroot"]).output().is_ok_and(|root| {
        let libraries = Path::new(root.trim()).join("lib/rustlib");
        libraries.join("src/rust/library/Cargo.lock").is_file() && libraries.join(TARGET).join("lib").is_dir()
    })
}

fn debian_toolchain(places: &Places) -> Result<WasmToolchain> {
    let missing: Vec<&str> = DEBIAN_PACKAGES.iter().copied().filter(|package| !debian_has(package)).collect();
    if !missing.is_empty() {
        debian::install(places, &missing)?;
    }
    let version = debian_version()?;
    let linker = rust_lld_folder(places)?;
    let stand_ins = write_stand_ins(places, &linker)?;
    if !seeded(&version)? {
        seed_library(places, &linker, &version)?;
    }
    Ok(WasmToolchain::Debian { version, stand_ins })
}

fn debian_has(package: &str) -> bool {
    Program::new("asking dpkg", "dpkg-query", Duration::from_secs(10))
        .args(["-W", "-f", "${db:Status-Abbrev}", package])
        .output()
        .is_ok_and(|status| status.starts_with("ii"))
}

fn debian_rustc() -> Program {
    Program::new("asking Debian's compiler", Path::new(DEBIAN_BIN).join("rustc"), Duration::from_secs(30))
}

fn debian_version() -> Result<String> {
    debian_rustc().args(["-vV"]).output()
}

/// The library folder of the wasm target in Debian's sysroot.
fn library_folder() -> Result<PathBuf> {
    let sysroot = debian_rustc().args(["--print", "sysroot"]).output()?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib"))
}

const SEED_STAMP: &str = "open-inspect-compiler";

/// Whether the library there is ours and of this very compiler: an upgrade makes it unusable.
fn seeded(version: &str) -> Result<bool> {
    Ok(fs::read_to_string(library_folder()?.join(SEED_STAMP)).is_ok_and(|built_by| built_by == version))
}

/// rustup's linker serves Debian's compiler too.
fn rust_lld_folder(places: &Places) -> Result<PathBuf> {
    let ask = |flag: &[&str]| rustc(flag).dir(&places.root).output();
    let host =
        ask(&["-vV"])?.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned)).unwrap_or_default();
    let folder = Path::new(ask(&["--print", "sysroot"])?.trim()).join("lib/rustlib").join(host).join("bin");
    if is_executable(&folder.join("rust-lld")) {
        return Ok(folder);
    }
    let found = find_on_path("rust-lld").and_then(|path| path.parent().map(Path::to_path_buf));
    found.ok_or_else(|| Failure::Missing(format!("no `rust-lld` in `{}`: install Rust with rustup", folder.display())))
}

/// Builds the standard library for wasm from Debian's source and puts it where an ordinary build looks.
fn seed_library(places: &Places, linker: &Path, version: &str) -> Result<()> {
    progress::begins("Building the standard library for wasm", "half a minute, once");
    let seed = places.cache.join("wasm-library");
    // A clean target folder: two generations of one library break later builds.
    if seed.exists() {
        fs::remove_dir_all(&seed).map_err(Failure::file("remove", &seed))?;
    }
    let sources = seed.join("src");
    fs::create_dir_all(&sources).map_err(Failure::file("make the folder", &sources))?;
    let manifest = seed.join("Cargo.toml");
    fs::write(&manifest, "[package]\nname = \"seed\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n")
        .and_then(|()| fs::write(sources.join("lib.rs"), ""))
        .map_err(Failure::file("write", &manifest))?;
    Program::new("building the standard library for wasm", Path::new(DEBIAN_BIN).join("cargo"), SEED_BUILD_DEADLINE)
        .args(["build", "--release", "-Zbuild-std=std,panic_abort,proc_macro,test", "--target", TARGET])
        .dir(&seed)
        .without_env("RUSTUP_TOOLCHAIN")
        .env("PATH", prepend_path(&[Path::new(DEBIAN_BIN), linker]))
        .env("CARGO_TARGET_DIR", seed.join("target"))
        .env("RUSTC_BOOTSTRAP", "1")
        // Without the bitcode, link-time optimisation fails later.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .log(places.log("wasm-library"))
        .run()?;
    let staging = seed.join("lib");
    fs::create_dir_all(&staging).map_err(Failure::file("make the folder", &staging))?;
    let built = seed.join("target").join(TARGET).join("release/deps");
    for entry in fs::read_dir(&built).map_err(Failure::file("list", &built))? {
        let entry = entry.map_err(Failure::file("list", &built))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".rlib") && !name.starts_with("libseed-") {
            fs::copy(entry.path(), staging.join(&*name)).map_err(Failure::file("copy", &entry.path()))?;
        }
    }
    fs::write(staging.join(SEED_STAMP), version).map_err(Failure::file("write", &staging))?;
    place_library(places, &staging)
}

/// The sysroot belongs to root, so this may go through sudo.
fn place_library(places: &Places, staging: &Path) -> Result<()> {
    let folder = library_folder()?;
    let by_hand = || {
        Failure::Missing(format!(
            "root has to put the wasm library in place: run `sudo rm -rf {folder} && sudo mkdir -p {folder} && sudo cp {from}/* {folder}/`, then try again",
            folder = folder.display(),
            from = staging.display()
        ))
    };
    let prefix = debian::root_prefix().ok_or_else(by_hand)?;
    let script = "rm -rf \"$1\" && mkdir -p \"$1\" && cp \"$2\"/* \"$1\"/";
    let mut words = prefix.iter().copied().chain(["sh", "-c", script, "sh"]);
    let program = words.next().unwrap_or("sh");
    Program::new("placing the wasm library", program, Duration::from_secs(60))
        .args(words)
        .args([folder.as_path(), staging])
        .log(places.log("wasm-library-placing"))
        .run()
}

/// `worker-build` calls `cargo +nightly` and `rustc +nightly` and asks rustup for `rust-src`.
fn write_stand_ins(places: &Places, linker: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let folder = places.cache.join("stand-ins");
    fs::create_dir_all(&folder).map_err(Failure::file("make the folder", &folder))?;
    let compiler = |name: &str| {
        format!(
            "#!/bin/sh\n# Written by `cargo xtask`: {name} of Debian in place of rustup's nightly.\n\
             if [ \"$1\" = \"+nightly\" ]; then shift; export RUSTC_BOOTSTRAP=1; fi\n\
             unset RUSTUP_TOOLCHAIN RUSTC\nexport PATH=\"$PATH:{linker}\"\nexec {DEBIAN_BIN}/{name} \"$@\"\n",
            linker = linker.display()
        )
    };
    let rustup = "#!/bin/sh\n# Written by `cargo xtask`: the source is there, in Debian's package.\n\
                  case \"$1\" in component) echo 'rust-src (installed)';; esac\n";
    for (name, text) in [("cargo", compiler("cargo")), ("rustc", compiler("rustc")), ("rustup", rustup.to_owned())] {
        let path = folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|now| now == text) && is_executable(&path) {
            continue;
        }
        // Renamed into place: another build may be running the old one.
        let new = folder.join(format!("{name}.new"));
        fs::write(&new, text)
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(Failure::file("write", &path))?;
    }
    Ok(folder)
}
