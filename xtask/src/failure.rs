//! Why a chore stopped, told to the person who ran it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program said no.
    #[error("{what} failed: {status}{}", tail_of(.tail))]
    Command { what: String, status: String, tail: String },
    /// A program took longer than it may.
    #[error("{what} took longer than {} s and was stopped{}", .deadline.as_secs(), tail_of(.tail))]
    Deadline { what: String, deadline: Duration, tail: String },
    /// A program could not be started.
    #[error("could not start `{program}` for {what}: {source}")]
    Start { what: String, program: String, source: io::Error },
    #[error("could not {doing} `{}`: {source}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` is not what it should be: {reason}", .path.display())]
    Content { path: PathBuf, reason: String },
    /// What is missing, and what the person can do.
    #[error("{0}")]
    Missing(String),
    #[error("port {port} ({what}) is taken: stop what listens there, or choose another with `{flag}`")]
    PortTaken { port: u16, what: &'static str, flag: &'static str },
    /// An input for which what must hold does not.
    #[error(
        "fuzzing `{target}` found an input: `{}`\n{reason}\nMove it to `fuzz/seeds/{target}/`: every test run takes it from there",
        .input.display()
    )]
    Fuzz { target: &'static str, input: PathBuf, reason: String },
    #[error("{0} of the tests failed")]
    Tests(u64),
    #[error("stopped")]
    Interrupted,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// For `map_err` of a file operation: `.map_err(Failure::file("read", &path))`.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { doing, path, source }
    }

    pub fn content(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Content { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

fn tail_of(tail: &str) -> String {
    if tail.trim().is_empty() { String::new() } else { format!("\n{}", tail.trim_end()) }
}
