//! What people and the agent use in a local sandbox, code-server and agent-browser, in a folder of the cache that is named
//! after the lock file. It is on the sandboxes' `PATH` as one folder, so that all they need is below it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node_tools::{NodeTools, copy_manifests, npm, npm_ci};
use super::{prepend_path, put_in_place, staging_beside};
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::find_on_path;
use crate::progress::{self, Outcome};
use crate::stamps::file_hash;

const DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Below the folder.
const EDITOR: &str = "node_modules/code-server/lib/vscode";
/// Programs of the folder and what they run.
const PROGRAMS: [(&str, &str); 2] = [
    ("code-server", "node \"$here/node_modules/code-server/out/node/entry.js\""),
    ("agent-browser", "\"$here/node_modules/agent-browser/bin/agent-browser-linux-MACHINE\""),
];

/// Puts them in place; the folder that goes on `PATH`.
pub fn install(places: &Places, node: &NodeTools) -> Result<PathBuf> {
    let source = places.root.join("tools/development");
    let lock = file_hash(&source.join("package-lock.json"))?;
    let folder = places.tools().join(format!("development-{}", &lock[..16]));
    progress::step("Installing code-server and agent-browser", || {
        if folder.join("complete").is_file() {
            return Ok(Outcome::Cached);
        }
        progress::begins("Installing code-server and agent-browser", "about 110 MB to download, once");
        let staging = staging_beside(&folder)?;
        copy_manifests(&source, &staging)?;
        let log = places.log("install-development-tools");
        npm_ci("installing the development tools", &staging, prepend_path(&[node.bin_dir()]))?
            .log(log.clone())
            .run()?;
        let editor = staging.join(EDITOR);
        for part in [editor.clone(), editor.join("extensions")] {
            // By its own lock file, which its package does not quite match: `ci` takes none such. Its scripts would compile
            // parts that it does without, and fetch ripgrep.
            npm("installing the editor's packages", DEADLINE, prepend_path(&[node.bin_dir()]))?
                .dir(&part)
                .args(["install", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"])
                .log(log.clone())
                .run()?;
        }
        finish(&staging, &editor)?;
        put_in_place(&staging, &folder)?;
        Ok(Outcome::Done)
    })?;
    Ok(folder)
}

/// What its script would do, as far as it is needed, and the programs.
fn finish(folder: &Path, editor: &Path) -> Result<()> {
    let linked = |to: &Path, at: PathBuf| symlink(to, &at).map_err(Failure::file("link", &at));
    // The editor looks for its packages under this name too.
    linked(Path::new("node_modules"), editor.join("node_modules.asar"))?;
    if let Some(ripgrep) = find_on_path("rg") {
        let bin = editor.join("node_modules/@vscode/ripgrep/bin");
        fs::create_dir_all(&bin).map_err(Failure::file("make the folder", &bin))?;
        linked(&ripgrep, bin.join("rg"))?;
    }
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    for (name, runs) in PROGRAMS {
        let path = folder.join(name);
        let runs = runs.replace("MACHINE", machine);
        let text = format!("#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\nexec {runs} \"$@\"\n");
        fs::write(&path, text).map_err(Failure::file("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Failure::file("change", &path))?;
    }
    let browser = folder.join(format!("node_modules/agent-browser/bin/agent-browser-linux-{machine}"));
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).map_err(Failure::file("change", &browser))?;
    let complete = folder.join("complete");
    fs::write(&complete, "").map_err(Failure::file("write", &complete))
}
