//! Schemathesis, in a virtual environment of its own in the user's cache. What it needs is pinned in
//! `e2e/schemathesis/requirements.txt`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::{Program, is_executable};
use crate::progress::{self, Outcome};
use crate::stamps::{Inputs, Stamp};

const DEADLINE: Duration = Duration::from_secs(10 * 60);

pub fn schemathesis(places: &Places) -> Result<PathBuf> {
    let requirements = places.root.join("e2e/schemathesis/requirements.txt");
    let folder = places.tools().join("schemathesis");
    let binary = folder.join("bin/schemathesis");
    progress::step("Installing Schemathesis", || {
        let inputs = Inputs::default().path(&places.root, &requirements)?.finish();
        let stamp = Stamp::new(&folder, "installed");
        if is_executable(&binary) && stamp.matches(&inputs) {
            return Ok(Outcome::Cached);
        }
        progress::begins("Installing Schemathesis", "from PyPI, a minute, once");
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Failure::file("remove", &folder))?;
        }
        Program::new("making a virtual environment", "python3", DEADLINE)
            .args(["-m".as_ref(), "venv".as_ref(), folder.as_os_str()])
            .log(places.log("schemathesis-venv"))
            .run()?;
        Program::new("installing Schemathesis", folder.join("bin/pip"), DEADLINE)
            .args(["install", "--disable-pip-version-check", "--no-input", "-r"])
            .args([&requirements])
            .log(places.log("schemathesis-install"))
            .run()?;
        stamp.write(&inputs)?;
        Ok(Outcome::Done)
    })?;
    Ok(binary)
}
