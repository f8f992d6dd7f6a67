//! `cargo xtask fuzz`: bytes that nobody would think of, for both sockets' parsers, for the session, for services'
//! signatures and for bodies of REST.
//!
//! It needs no nightly. What cargo-fuzz asks of the compiler without a sanitizer are `-C` flags, so the stable that
//! builds all else builds the targets too, and `RUSTC_BOOTSTRAP` is not needed. A sanitizer (`-Z`) would need a
//! nightly, and look for misuse of memory in code that has no `unsafe`; assertions and overflow checks are on.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::program::Program;
use crate::progress::{self, Outcome};
use crate::setup;

const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// What a target gets beyond its time, to read its corpus and to end.
const GRACE: Duration = Duration::from_secs(10 * 60);
/// An input that takes longer is a finding.
const INPUT_SECONDS: u32 = 10;

/// Feed mutated frames, signatures and bodies to their parsers and to a session: no panic, no fault, nothing lost.
#[derive(clap::Args)]
pub struct Options {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The one to run; all when none is named.
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Target {
    /// The parser of a client's frame.
    ClientFrame,
    /// The parser of a bridge's frame.
    SandboxFrame,
    /// Frames of both, fed to a session.
    Session,
    /// The parser of a pasted `.env` text.
    Dotenv,
    /// A service's signature, and requests that are signed.
    ServiceSignature,
    /// Bodies of REST, as each type that there is.
    RestBody,
}

const TARGETS: [Target; 6] = [
    Target::ClientFrame,
    Target::SandboxFrame,
    Target::Session,
    Target::Dotenv,
    Target::ServiceSignature,
    Target::RestBody,
];

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::ClientFrame => "client_frame",
            Self::SandboxFrame => "sandbox_frame",
            Self::Session => "session",
            Self::Dotenv => "dotenv",
            Self::ServiceSignature => "service_signature",
            Self::RestBody => "rest_body",
        }
    }
}

pub fn run(places: &Places, options: &Options) -> Result<()> {
    let fuzzer = Fuzzer { places, cargo_fuzz: setup::cargo_fuzz(places)? };
    let chosen = options.target.map_or_else(|| TARGETS.to_vec(), |target| vec![target]);
    progress::step("Building the fuzz targets", || fuzzer.build().map(|()| Outcome::Done))?;
    let mut failed = Vec::new();
    for target in chosen {
        let mut reached = None;
        let result = progress::step(&format!("Fuzzing {}", target.name()), || {
            reached = fuzzer.run(target, options.seconds)?;
            Ok(Outcome::Done)
        });
        match result {
            Ok(_) => {
                if let Some(reached) = reached {
                    progress::say(format_args!("  {reached}"));
                }
            }
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => failed.push(failure.to_string()),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Missing(failed.join("\n"))) }
}

struct Fuzzer<'a> {
    places: &'a Places,
    cargo_fuzz: PathBuf,
}

impl Fuzzer<'_> {
    fn cargo_fuzz(&self, what: String, deadline: Duration, subcommand: &str) -> Program {
        Program::new(what, &self.cargo_fuzz, deadline)
            .dir(&self.places.root)
            .args(["fuzz", subcommand, "--fuzz-dir", "fuzz", "--sanitizer", "none", "--debug-assertions"])
            .args(["--target-dir".as_ref(), self.folder().as_os_str()])
    }

    fn folder(&self) -> PathBuf {
        self.places.target().join("fuzz")
    }

    fn build(&self) -> Result<()> {
        self.cargo_fuzz("building the fuzz targets".to_owned(), BUILD_DEADLINE, "build")
            .log(self.places.log("fuzz-build"))
            .run()
    }

    /// Runs one target from its seeds and from what earlier runs found worth keeping.
    fn run(&self, target: Target, seconds: u64) -> Result<Option<Reached>> {
        let name = target.name();
        let corpus = self.folder().join("corpus").join(name);
        fs::create_dir_all(&corpus).map_err(Failure::file("make the folder", &corpus))?;
        let log = self.places.log(&format!("fuzz-{name}"));
        let result = self
            .cargo_fuzz(format!("fuzzing `{name}`"), Duration::from_secs(seconds) + GRACE, "run")
            // New inputs are written to the first folder.
            .args([name.as_ref(), corpus.as_os_str()])
            .args([format!("fuzz/seeds/{name}"), "--".to_owned()])
            .args([format!("-max_total_time={seconds}"), format!("-timeout={INPUT_SECONDS}")])
            .log(log.clone())
            .run();
        let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        match (result, crashing_input(&text)) {
            (Err(Failure::Command { .. }), Some(input)) => {
                Err(Failure::Fuzz { target: name, input, reason: reason(&text) })
            }
            (result, _) => result.map(|()| Reached::read(&text)),
        }
    }
}

/// Where libFuzzer put what it stopped at.
fn crashing_input(log: &str) -> Option<PathBuf> {
    log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| PathBuf::from(path))
}

/// The panic, or libFuzzer's own word: a timeout, too much memory.
fn reason(log: &str) -> String {
    const LINES: usize = 6;
    let panic = log
        .lines()
        .skip_while(|line| !line.contains(" panicked at "))
        .take_while(|line| !line.starts_with("stack backtrace") && !line.starts_with("note: "))
        .take(LINES);
    let panic = panic.collect::<Vec<_>>().join("\n");
    if !panic.is_empty() {
        return panic;
    }
    log.lines().find(|line| line.starts_with("SUMMARY: ")).unwrap_or("no reason was given").to_owned()
}

/// How far a target came.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    inputs: u64,
    edges: u64,
    corpus: u64,
}

impl Reached {
    /// `#5312832 DONE   cov: 1204 ft: 5420 corp: 1730/60Kb lim: 4096 exec/s: 252992 rss: 31Mb`
    fn read(log: &str) -> Option<Self> {
        let words: Vec<&str> = log.lines().find(|line| line.contains("\tDONE "))?.split_whitespace().collect();
        let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1);
        Some(Self {
            inputs: words.first()?.strip_prefix('#')?.parse().ok()?,
            edges: after("cov:")?.parse().ok()?,
            corpus: after("corp:")?.split('/').next()?.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} inputs, {} edges of the program, {} inputs kept", self.inputs, self.edges, self.corpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_reached_is_read_from_its_last_line() {
        let log = "#2\tINITED cov: 6 ft: 8 corp: 1/1b exec/s: 0 rss: 28Mb\n\
            #5312832\tDONE   cov: 1204 ft: 5420 corp: 1730/60Kb lim: 4096 exec/s: 252992 rss: 31Mb\n\
            Done 5312832 runs in 21 second(s)\n";
        assert_eq!(Reached::read(log), Some(Reached { inputs: 5_312_832, edges: 1204, corpus: 1730 }));
        assert_eq!(Reached::read("error: could not compile"), None);
    }

    #[test]
    fn a_finding_names_its_input_and_its_panic() {
        let log = "thread '<unnamed>' (7) panicked at src/frames.rs:24:13:\na frame is an object: [\"ping\"]\n\
            stack backtrace:\n   0: start\nSUMMARY: libFuzzer: deadly signal\n\
            artifact_prefix='/r/'; Test unit written to /r/crash-1\n";
        assert_eq!(crashing_input(log), Some(PathBuf::from("/r/crash-1")));
        let panic = "thread '<unnamed>' (7) panicked at src/frames.rs:24:13:\na frame is an object: [\"ping\"]";
        assert_eq!(reason(log), panic);
        assert_eq!(reason("SUMMARY: libFuzzer: timeout\n"), "SUMMARY: libFuzzer: timeout");
    }
}
