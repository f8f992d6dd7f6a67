//! `cargo xtask test`: everything that must hold, in one run that ends with one line of totals.

use std::fs;
use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::build;
use crate::cargo;
use crate::deploy;
use crate::dev::MODEL_VARIABLES;
use crate::failure::{Failure, Result};
use crate::program::{Program, find_on_path};
use crate::progress::{self, Outcome, human};
use crate::setup::{self, Ready, npm};
use crate::types;
use crate::workers::{self, TestWorker, Worker};

const NATIVE_DEADLINE: Duration = Duration::from_secs(40 * 60);
const WEB_DEADLINE: Duration = Duration::from_secs(10 * 60);
const E2E_DEADLINE: Duration = Duration::from_secs(45 * 60);

#[derive(Args)]
pub struct Options {
    /// Run only this part; may be repeated.
    #[arg(long)]
    only: Vec<Part>,
    /// Start the end-to-end tests with what was built last.
    #[arg(long)]
    no_build: bool,
    /// Words that choose end-to-end tests by name.
    #[arg(last = true)]
    filters: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Unit, property and simulator tests of every crate.
    Native,
    /// The generated TypeScript is that of the Rust types.
    Types,
    /// Unit tests of the page.
    Web,
    /// `wrangler deploy --dry-run` of every Worker.
    Deploy,
    /// Black-box tests against the whole running system.
    E2e,
}

const PARTS: [Part; 5] = [Part::Native, Part::Types, Part::Web, Part::Deploy, Part::E2e];

/// What passed and what failed, summed over test runners of several kinds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

pub fn run(ready: &Ready, options: &Options) -> Result<()> {
    let chosen = |part: Part| options.only.is_empty() || options.only.contains(&part);
    if !options.no_build && (chosen(Part::Deploy) || chosen(Part::E2e)) {
        build::everything(ready)?;
        if chosen(Part::E2e) {
            workers::build_for_tests(ready, TestWorker::StoreProbe)?;
        }
    }
    let started = std::time::Instant::now();
    let mut total = Tally::default();
    for part in PARTS.into_iter().filter(|part| chosen(*part)) {
        match run_part(ready, part, &options.filters) {
            Ok(tally) => total.add(tally),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => {
                progress::say(format_args!("error: {failure}"));
                total.failed += 1;
            }
        }
    }
    progress::say(format_args!("All parts took {}.", human(started.elapsed())));
    print_totals(total);
    if total.failed == 0 { Ok(()) } else { Err(Failure::Tests(total.failed)) }
}

/// On standard output, last: programs that run the tests read it.
fn print_totals(total: Tally) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{} passed, {} failed", total.passed, total.failed);
    let _ = out.flush();
}

fn run_part(ready: &Ready, part: Part, filters: &[String]) -> Result<Tally> {
    let places = &ready.places;
    match part {
        Part::Native => watched(
            cargo::native(places, "the native tests", NATIVE_DEADLINE)
                .args(["test", "--workspace", "--exclude", "e2e", "--no-fail-fast"])
                .env("PATH", ready.path())
                // What others wrote, that tests hold ours against: GitHub's example webhooks.
                .env("OI_NODE_MODULES", ready.node.modules()),
            cargo_line,
        ),
        Part::Types => {
            one("The generated TypeScript is that of the Rust types", || types::generator(places, true).run())
        }
        Part::Web => web(ready),
        Part::Deploy => {
            let mut tally = Tally::default();
            for worker in Worker::ALL {
                let name = format!("The {} Worker can be deployed", worker.name());
                tally.add(one(&name, || deploy::dry_run(ready, worker))?);
            }
            Ok(tally)
        }
        Part::E2e => {
            let clients = setup::vendor_clients(ready)?;
            let mut program = end_to_end(ready, "the end-to-end tests", E2E_DEADLINE)?
                .env("OI_VENDOR_CLIENTS", &clients.folder)
                .env("OI_VENDOR_PYTHON", &clients.python)
                .args(["test", "-p", "e2e", "--no-fail-fast"]);
            if !filters.is_empty() {
                program = program.args(["--"]).args(filters);
            }
            watched(program, cargo_line)
        }
    }
}

/// A step that counts as one test.
fn one(name: &str, work: impl FnOnce() -> Result<()>) -> Result<Tally> {
    match progress::step(name, || work().map(|()| Outcome::Done)) {
        Ok(_) => Ok(Tally { passed: 1, failed: 0 }),
        Err(Failure::Interrupted) => Err(Failure::Interrupted),
        Err(failure) => {
            progress::say(format_args!("error: {failure}"));
            Ok(Tally { passed: 0, failed: 1 })
        }
    }
}

/// A test runner whose summary lines are counted. One that fails without counting a failure counts as one.
fn watched(program: Program, count: fn(&str) -> Option<Tally>) -> Result<Tally> {
    tallied(program, std::io::stdout(), count)
}

fn tallied(program: Program, echo: impl Write + Send, count: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let mut tally = Tally::default();
    let fine = program.run_watched(echo, |line| {
        if let Some(found) = count(line) {
            tally.add(found);
        }
    })?;
    if !fine && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// `test result: ok. 35 passed; 0 failed; 0 ignored; ...`
fn cargo_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| {
        counts.split(';').find_map(|part| part.trim().strip_suffix(word)).and_then(|number| number.trim().parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

/// `      Tests  1 failed | 11 passed (12)`, of vitest.
fn vitest_line(line: &str) -> Option<Tally> {
    let counts = line.trim_start().strip_prefix("Tests ")?.split('(').next()?;
    let count = |word: &str| {
        counts
            .split('|')
            .find_map(|part| part.trim().strip_suffix(word))
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(Tally { passed: count("passed"), failed: count("failed") })
}

fn web(ready: &Ready) -> Result<Tally> {
    let folder = ready.places.web();
    let manifest = folder.join("package.json");
    let text = fs::read_to_string(&manifest).map_err(Failure::file("read", &manifest))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| Failure::content(&manifest, error))?;
    if json["scripts"]["test"].is_null() {
        return Ok(Tally::default());
    }
    let program = npm("the page's tests", WEB_DEADLINE, ready.path())?
        .dir(&folder)
        .args(["run", "--silent", "test"])
        .env("NO_COLOR", "1")
        .env("CI", "true");
    watched(program, vitest_line)
}

/// cargo with all that tests against the running system need to know.
pub fn end_to_end(ready: &Ready, what: &str, deadline: Duration) -> Result<Program> {
    let places = &ready.places;
    let node = &ready.node;
    let chromium = find_on_path("chromium")
        .ok_or_else(|| Failure::Missing("`chromium` is missing: run `sudo apt-get install chromium`".into()))?;
    let own = std::env::current_exe().map_err(Failure::file("find", &places.target()))?;
    // cargo may have replaced the file while we run.
    let own = own.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let tools = json!({
        "node": node.node(),
        "nodeModules": node.modules(),
        "wrangler": node.wrangler(),
        "opencode": node.opencode(),
        "playwrightCore": node.playwright_core(),
        "chromium": chromium,
        "sandboxBridge": places.target().join("release/sandbox-bridge"),
        "devkit": places.target().join("debug/devkit"),
        "controlPlane": Worker::ControlPlane.folder(places).join("build"),
        "storeProbe": TestWorker::StoreProbe.folder(places).join("build"),
        "bareWorker": TestWorker::Bare.folder(places).join("build"),
    });
    let mut program = cargo::native(places, what, deadline)
        .env("OI_XTASK", own)
        .env("OI_TOOLS", tools.to_string())
        .env("PATH", ready.path());
    // The tests are about the demo model, whatever this machine has keys for.
    for name in MODEL_VARIABLES {
        program = program.without_env(name);
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use std::io::sink;

    use super::*;

    #[test]
    fn cargos_summary_is_counted() {
        let line = "test result: FAILED. 33 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.75s";
        assert_eq!(cargo_line(line), Some(Tally { passed: 33, failed: 2 }));
        assert_eq!(cargo_line("test result: ok. 0 passed; 0 failed; 0 ignored"), Some(Tally::default()));
        assert_eq!(cargo_line("test some::thing ... ok"), None);
    }

    #[test]
    fn vitests_summary_is_counted() {
        assert_eq!(vitest_line("      Tests  12 passed (12)"), Some(Tally { passed: 12, failed: 0 }));
        assert_eq!(vitest_line("      Tests  1 failed | 11 passed (12)"), Some(Tally { passed: 11, failed: 1 }));
        assert_eq!(vitest_line(" Test Files  3 passed (3)"), None);
    }

    // What these runners say must not be shown: the run that runs this test would count it as its own.
    #[test]
    fn a_runner_that_dies_without_a_summary_counts_as_a_failure() {
        let sh = |script: &str| Program::new("a runner", "sh", Duration::from_secs(10)).args(["-c", script]);
        assert_eq!(tallied(sh("exit 101"), sink(), cargo_line).expect("it ran"), Tally { passed: 0, failed: 1 });
        let script = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; echo 'test result: FAILED. 1 passed; 2 failed;'; exit 1";
        assert_eq!(tallied(sh(script), sink(), cargo_line).expect("it ran"), Tally { passed: 4, failed: 2 });
    }
}
