//! The sandbox vendors' own clients, which the end-to-end tests drive against devkit's stand-ins, in a folder of the
//! cache that is named after their lock files: npm packages, and Python packages in an environment of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node_tools::{NodeTools, copy_manifests, npm_ci};
use super::{Lock, debian, prepend_path, put_in_place, staging_beside};
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::{Program, find_on_path};
use crate::progress::{self, Outcome};
use crate::stamps::file_hash;

const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Where they are.
#[derive(Debug, Clone)]
pub struct VendorClients {
    /// Holds `node_modules` and a copy of the script that drives them.
    pub folder: PathBuf,
    /// A Python that has `modal`.
    pub python: PathBuf,
}

impl VendorClients {
    fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), python: folder.join("python/bin/python") }
    }
}

/// Puts them in place.
pub fn install(places: &Places, node: &NodeTools) -> Result<VendorClients> {
    let _lock = Lock::take(places)?;
    let source = places.root.join("e2e/vendor-clients");
    let locks = [file_hash(&source.join("package-lock.json"))?, file_hash(&source.join("requirements.txt"))?];
    let folder = places.tools().join(format!("vendor-clients-{}-{}", &locks[0][..8], &locks[1][..8]));
    let clients = VendorClients::in_folder(&folder);
    progress::step("Installing the sandbox vendors' clients", || {
        // The path of a Python environment is written into it, so that it is made where it stays.
        if folder.join("complete").is_file() {
            return Ok(Outcome::Cached);
        }
        progress::begins("Installing the sandbox vendors' clients", "about 60 MB to download, once");
        let staging = staging_beside(&folder)?;
        copy_manifests(&source, &staging)?;
        npm_ci("installing the vendors' clients", &staging, prepend_path(&[node.bin_dir()]))?
            .log(places.log("install-vendor-clients"))
            .run()?;
        put_in_place(&staging, &folder)?;
        python(places, &folder, &source.join("requirements.txt"))?;
        fs::write(folder.join("complete"), "").map_err(Failure::file("write", &folder))?;
        Ok(Outcome::Done)
    })?;
    Ok(clients)
}

fn python(places: &Places, folder: &Path, requirements: &Path) -> Result<()> {
    let program = |what: &str, program: &Path| {
        Program::new(what, program, DEADLINE)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .log(places.log("install-vendor-clients-python"))
    };
    if find_on_path("python3").is_none() {
        debian::install(places, &["python3", "python3-venv"])?;
    }
    let python = find_on_path("python3")
        .ok_or_else(|| Failure::Missing("`python3` is missing: install Python 3.11 or later".into()))?;
    let environment = folder.join("python");
    let make = || {
        let args = ["-m".as_ref(), "venv".as_ref(), environment.as_os_str()];
        program("making a Python environment", &python).args(args).run()
    };
    if make().is_err() {
        // Debian has it in a package of its own.
        debian::install(places, &["python3-venv"])?;
        make()?;
    }
    let own = environment.join("bin/python");
    program("installing Modal's package", &own)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "-r"])
        .args([requirements])
        .run()
}
