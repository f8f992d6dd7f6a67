//! Python programs, each in a virtual environment of its own in the user's cache. What they need is pinned in a file of
//! requirements.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::{Program, is_executable};
use crate::progress::{self, Outcome};
use crate::stamps::{Inputs, Stamp};

const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// The black-box tester of the API.
pub fn schemathesis(places: &Places) -> Result<PathBuf> {
    environment(places, "Schemathesis", "schemathesis", "e2e/schemathesis/requirements.txt", "bin/schemathesis")
}

/// A Python with `websockets`, which the benchmark of a sandbox's programs is set beside.
pub fn websockets(places: &Places) -> Result<PathBuf> {
    environment(places, "websockets", "python-websockets", "e2e/src/bench/requirements.txt", "bin/python")
}

/// Installs the requirements and gives a program of theirs.
fn environment(places: &Places, name: &str, folder: &str, requirements: &str, program: &str) -> Result<PathBuf> {
    let requirements = places.root.join(requirements);
    let log = |step: &str| places.log(&format!("{folder}-{step}"));
    let folder: &Path = &places.tools().join(folder);
    let binary = folder.join(program);
    let title = format!("Installing {name}");
    progress::step(&title, || {
        let inputs = Inputs::default().path(&places.root, &requirements)?.finish();
        let stamp = Stamp::new(folder, "installed");
        if is_executable(&binary) && stamp.matches(&inputs) {
            return Ok(Outcome::Cached);
        }
        progress::begins(&title, "from PyPI, a minute, once");
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(Failure::file("remove", folder))?;
        }
        Program::new("making a virtual environment", "python3", DEADLINE)
            .args(["-m".as_ref(), "venv".as_ref(), folder.as_os_str()])
            .log(log("venv"))
            .run()?;
        Program::new(format!("installing {name}"), folder.join("bin/pip"), DEADLINE)
            .args(["install", "--disable-pip-version-check", "--no-input", "-r"])
            .args([&requirements])
            .log(log("install"))
            .run()?;
        stamp.write(&inputs)?;
        Ok(Outcome::Done)
    })?;
    Ok(binary)
}
