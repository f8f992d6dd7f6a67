//! Whether what the list names can be had, and whether others read the Dockerfile as it is meant.

use std::path::Path;
use std::time::Duration;

use super::Contents;
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::Program;
use crate::progress::{self, Outcome};
use crate::setup::{self, Wants, prepend_path};

const ASK: Duration = Duration::from_secs(60);
const INSTALL: Duration = Duration::from_secs(20 * 60);

/// Asks Debian's index (that of this machine, which is Debian 12), npm and PyPI.
pub fn ask(contents: &Contents) -> Result<()> {
    let mut missing = Vec::new();
    progress::step("Asking Debian's index", || {
        let wanted: Vec<(&String, &String)> = contents.debian.iter().flat_map(|group| &group.packages).collect();
        let names = wanted.iter().map(|(name, _)| name.as_str());
        let told = Program::new("asking Debian's index", "apt-cache", ASK).args(["policy"]).args(names).output()?;
        for (name, version) in wanted {
            let candidate = candidate(&told, name);
            if !candidate.is_some_and(|there| there.starts_with(version.as_str())) {
                missing.push(format!("{name} {version} of Debian, which has {}", candidate.unwrap_or("none")));
            }
        }
        Ok(Outcome::Done)
    })?;
    progress::step("Asking npm", || {
        for name in contents.npm_names() {
            let there = Program::new("asking npm", "npm", ASK).args(["view", &name, "version"]).output();
            if there.map_or(true, |version| version.trim().is_empty()) {
                missing.push(format!("{name} of npm"));
            }
        }
        Ok(Outcome::Done)
    })?;
    progress::step("Asking PyPI", || {
        for package in &contents.pip {
            let args = ["index", "versions", &package.name];
            let there = Program::new("asking PyPI", "pip", ASK).args(args).output().unwrap_or_default();
            if !there.split([',', ' ', '\n']).any(|word| word == package.version) {
                missing.push(format!("{}=={} of PyPI", package.name, package.version));
            }
        }
        Ok(Outcome::Done)
    })?;
    if missing.is_empty() { Ok(()) } else { Err(Failure::Missing(format!("There is no {}", missing.join("; no ")))) }
}

/// The candidate's version of a package in what `apt-cache policy` says.
fn candidate<'t>(told: &'t str, name: &str) -> Option<&'t str> {
    let start = told.lines().position(|line| line.strip_suffix(':') == Some(name))?;
    let line = told.lines().skip(start + 1).take(2).find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    Some(line).filter(|version| *version != "(none)")
}

/// Reads the Dockerfile with `dockerfile-ast`, which Docker's own tools use, and with E2B's client.
pub fn parse(places: &Places, folder: &Path) -> Result<()> {
    const SCRIPT: &str = r#"
        import { createRequire } from "node:module";
        import { readFileSync } from "node:fs";
        const [dockerfile, clients] = process.argv.slice(1);
        const require = createRequire(clients + "/package.json");
        const { DockerfileParser } = require("dockerfile-ast");
        const known = new Set(["FROM", "ENV", "RUN", "COPY", "WORKDIR", "CMD"]);
        const text = readFileSync(dockerfile, "utf8");
        const all = DockerfileParser.parse(text).getInstructions().map((one) => one.getKeyword());
        const strange = all.filter((keyword) => !known.has(keyword));
        if (strange.length > 0 || all[0] !== "FROM" || all.at(-1) !== "CMD") throw new Error(`not ours: ${strange}`);
        const { Template } = require("e2b");
        const read = JSON.parse(await Template.toJSON(Template().fromDockerfile(text), false));
        const steps = read.steps.filter((step) => step.type === "RUN").length;
        const runs = all.filter((keyword) => keyword === "RUN").length;
        if (steps < runs) throw new Error(`E2B reads ${steps} of ${runs} steps`);
        console.log(`${all.length} instructions`);
    "#;
    let ready = setup::prepare(places, Wants::default())?;
    let clients = setup::vendor_clients(&ready)?;
    progress::step("Reading the Dockerfile as others do", || {
        Program::new("reading the Dockerfile", "node", ASK)
            .args(["--input-type=module", "--eval", SCRIPT])
            .args([folder.join("Dockerfile"), clients.folder.clone()])
            .env("PATH", ready.path())
            .output()
            .map(|_| Outcome::Done)
    })
    .map(drop)
}

/// Installs what is npm's, as the image does, with the Node of the tools.
pub fn install(places: &Places, contents: &Contents) -> Result<()> {
    let ready = setup::prepare(places, Wants::default())?;
    let folder = places.target().join("image-npm");
    let result = progress::step("Installing the image's npm packages", || {
        Program::new("installing the image's npm packages", "npm", INSTALL)
            .args(["install", "--global", "--unsafe-perm", "--no-audit", "--no-fund"])
            .args([contents.allowed_scripts()])
            .args(contents.npm_names())
            .env("npm_config_prefix", &folder)
            .env("PATH", ready.path())
            .log(places.log("image-npm"))
            .run()?;
        for name in ["opencode", "agent-browser", "code-server", "bun", "pnpm"] {
            let path = prepend_path(&[&folder.join("bin")]);
            Program::new(format!("asking `{name}` for its version"), folder.join("bin").join(name), ASK)
                .args(["--version"])
                .env("PATH", path)
                .output()?;
        }
        Ok(Outcome::Done)
    });
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(Failure::file("remove", &folder))?;
    }
    result.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_read_from_what_apt_says() {
        let told = "git:\n  Installed: 1\n  Candidate: 1:2.39.5\n  Version table:\ngone:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(candidate(told, "git"), Some("1:2.39.5"));
        assert_eq!((candidate(told, "gone"), candidate(told, "other")), (None, None));
    }
}
