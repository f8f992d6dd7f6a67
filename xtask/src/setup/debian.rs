//! Programs of the operating system: installed with apt where we may, asked for where we may not.

use std::time::Duration;

use super::Wants;
use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::{Program, find_on_path};
use crate::progress::{self, Outcome};

const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// A program, and the package that brings it with what belongs to it.
struct Needed {
    program: &'static str,
    package: &'static str,
    /// What is lost without it, when one can do without.
    optional: Option<&'static str>,
}

const NO_DESKTOP: &str = "local sandboxes have no desktop without it";
const SANDBOX: &[Needed] = &[
    Needed { program: "git", package: "git", optional: None },
    // Git verifies signatures of commits with it.
    Needed { program: "ssh-keygen", package: "openssh-client", optional: None },
    Needed {
        program: "bwrap",
        package: "bubblewrap",
        optional: Some("local sandboxes run without it, as plain processes of yours"),
    },
    Needed { program: "rg", package: "ripgrep", optional: Some("the agent searches more slowly without it") },
    Needed {
        program: "chromium",
        package: "chromium",
        optional: Some("the agent has no browser to look at pages with"),
    },
    Needed { program: "Xvfb", package: "xvfb", optional: Some(NO_DESKTOP) },
    Needed { program: "fluxbox", package: "fluxbox", optional: Some(NO_DESKTOP) },
    Needed { program: "x11vnc", package: "x11vnc", optional: Some(NO_DESKTOP) },
    Needed { program: "websockify", package: "websockify novnc", optional: Some(NO_DESKTOP) },
];
const BROWSER: &[Needed] = &[Needed { program: "chromium", package: "chromium", optional: None }];

pub fn programs(places: &Places, wants: Wants) -> Result<()> {
    let needed = wants.sandbox.then_some(SANDBOX).into_iter().chain(wants.browser.then_some(BROWSER)).flatten();
    let missing = needed.filter(|needed| find_on_path(needed.program).is_none());
    let (optional, required): (Vec<&Needed>, Vec<&Needed>) = missing.partition(|needed| needed.optional.is_some());
    // What one cannot do without does not wait for a package that this system may not have.
    for (of, needed) in [(&required, true), (&optional, false)] {
        let packages: Vec<&str> = of.iter().flat_map(|needed| needed.package.split(' ')).collect();
        if packages.is_empty() {
            continue;
        }
        match install(places, &packages) {
            Ok(()) => {}
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) if needed => return Err(failure),
            Err(_) => {
                for Needed { program, optional, .. } in of {
                    progress::say(format_args!("! `{program}` is missing: {}", optional.unwrap_or_default()));
                }
            }
        }
    }
    Ok(())
}

/// `apt-get install`, as root or through a `sudo` that asks nothing.
pub fn install(places: &Places, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = || {
        Failure::Missing(format!("missing on this machine: {list}. Run `sudo apt-get install {list}`, then try again"))
    };
    if find_on_path("apt-get").is_none() {
        return Err(Failure::Missing(format!("missing on this machine: {list}. Install them, then try again")));
    }
    let prefix = root_prefix().ok_or_else(by_hand)?;
    let apt = |what: &str, args: &[&str]| {
        let mut words = prefix.iter().copied().chain(["apt-get"]);
        let program = words.next().unwrap_or("apt-get");
        Program::new(what, program, DEADLINE)
            .args(words)
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .log(places.log("install-debian"))
    };
    progress::step(&format!("Installing {list}"), || {
        let install = ["install", "-y", "--no-install-recommends"].iter().chain(packages).copied().collect::<Vec<_>>();
        // The package lists of a fresh machine are empty or old, but a working one should not wait for them.
        if apt("installing Debian packages", &install).run().is_err() {
            apt("reading Debian's package lists", &["update"]).run()?;
            apt("installing Debian packages", &install).run()?;
        }
        Ok(Outcome::Done)
    })?;
    Ok(())
}

/// The words before a command that needs root: none as root, `sudo -n` where that works.
pub fn root_prefix() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    let sudo = find_on_path("sudo")?;
    Program::new("asking sudo", sudo, Duration::from_secs(10))
        .args(["-n", "true"])
        .succeeds()
        .then_some(&["sudo", "-n"])
}
