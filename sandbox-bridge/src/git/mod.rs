//! Git, as a program: bounded, with its own environment, never with a credential in its arguments.

pub mod checkout;
pub mod commit_settings;
pub mod credential;
pub mod identity;
pub mod push;
pub mod settings_file;
pub mod sign;
pub mod sync;
pub mod unfinished;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::process_group::GroupGuard;

/// Most output that is kept of each stream.
const OUTPUT_MAX_BYTES: usize = 1 << 20;

/// A repository's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Place in the session's list; 0 is the primary.
    pub position: u32,
    /// Owner.
    pub owner: String,
    /// Name; also the folder's.
    pub name: String,
    /// The branch that the session started from.
    pub branch: String,
    /// Where it is.
    pub path: PathBuf,
    /// The commit that the session started from.
    pub base_sha: Option<String>,
}

/// What the agent works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Where the agent starts: the checkout when there is exactly one, else the folder that holds them.
    pub directory: PathBuf,
    /// By position.
    pub checkouts: Vec<Checkout>,
}

impl Workspace {
    /// The checkout of a repository, whatever its casing.
    pub fn checkout(&self, owner: &str, name: &str) -> Option<&Checkout> {
        self.checkouts.iter().find(|c| c.owner.eq_ignore_ascii_case(owner) && c.name.eq_ignore_ascii_case(name))
    }
}

/// Why git did not do something.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be started or read.
    #[error("git cannot be run: {0}")]
    Unavailable(#[from] std::io::Error),
    /// It took longer than allowed, and was killed.
    #[error("git {what} timed out after {seconds}s")]
    TimedOut {
        /// The subcommand.
        what: String,
        /// The limit.
        seconds: u64,
    },
    /// It ended with an error.
    #[error("{message}")]
    Failed {
        /// What it said, without credentials.
        message: String,
        /// Its exit code.
        code: Option<i32>,
    },
}

/// What git printed.
#[derive(Debug)]
pub struct GitOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, at most 1 MiB.
    pub stdout: String,
    /// Standard error, at most 1 MiB.
    pub stderr: String,
}

/// What git printed, as bytes.
#[derive(Debug)]
pub struct GitBytes {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as much of it as was asked for.
    pub stdout: Vec<u8>,
    /// Whether there was more of it.
    pub cut: bool,
    /// Standard error, at most 1 MiB.
    pub stderr: String,
}

/// Runs git with one environment.
#[derive(Debug, Clone)]
pub struct Git {
    environment: Arc<Vec<(OsString, OsString)>>,
}

impl Git {
    /// Git in this environment and no other.
    pub fn new(environment: Vec<(OsString, OsString)>) -> Self {
        Self { environment: Arc::new(environment) }
    }

    /// The same with more variables.
    #[must_use]
    pub fn with(&self, variables: &[(&str, &str)]) -> Self {
        let more = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Self::new(self.environment.iter().cloned().chain(more).collect())
    }

    /// Runs git and gives what it printed, whatever its exit code; of standard output at most `max` bytes.
    pub async fn bytes<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: &[S],
        limit: Duration,
        max: usize,
    ) -> Result<GitBytes, GitError> {
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        // What git started with it, such as `git-remote-https` and the credential helper.
        let mut group = GroupGuard::of(&child);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let finish = async { tokio::join!(read_bounded(out, max), read_bounded(err, OUTPUT_MAX_BYTES), child.wait()) };
        let Ok(((stdout, cut), (stderr, _), status)) = tokio::time::timeout(limit, finish).await else {
            let what = args.first().map(|arg| arg.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
            return Err(GitError::TimedOut { what, seconds: limit.as_secs() });
        };
        group.let_go();
        Ok(GitBytes { status: status?, stdout, cut, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// The same, as text.
    pub async fn output<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: &[S],
        limit: Duration,
    ) -> Result<GitOutput, GitError> {
        let GitBytes { status, stdout, stderr, .. } = self.bytes(directory, args, limit, OUTPUT_MAX_BYTES).await?;
        Ok(GitOutput { status, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
    }

    /// Runs git; anything but exit code 0 is an error.
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: &[S],
        limit: Duration,
    ) -> Result<String, GitError> {
        let output = self.output(directory, args, limit).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(GitError::Failed { message: telling(&output.stderr), code: output.status.code() })
    }
}

/// At most `max` bytes of a stream, which is read to its end, and whether there were more.
async fn read_bounded(stream: Option<impl AsyncRead + Unpin>, max: usize) -> (Vec<u8>, bool) {
    let (mut kept, mut cut) = (Vec::new(), false);
    if let Some(mut stream) = stream {
        let mut buffer = vec![0; 8192];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let room = max.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..read.min(room)]);
            cut |= read > room;
        }
    }
    (kept, cut)
}

/// The lines of git's complaint that tell something, without user information of URLs.
pub fn telling(stderr: &str) -> String {
    let masked = without_userinfo(stderr);
    let said: Vec<&str> = masked.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let marked = |line: &&str| {
        ["fatal:", "error:", "remote:", " ! ", "hint:"].iter().any(|prefix| line.starts_with(prefix))
            && !line.starts_with("hint:")
    };
    let telling: Vec<&str> = said.iter().copied().filter(marked).collect();
    let lines = if telling.is_empty() { said } else { telling };
    let from = lines.len().saturating_sub(8);
    let text = lines[from..].join("\n");
    if text.is_empty() { "git said nothing".to_owned() } else { text }
}

/// Replaces `scheme://user:password@` by `scheme://***@`.
pub fn without_userinfo(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"')).unwrap_or(after.len());
        let authority = &after[..end];
        match authority.rfind('@') {
            Some(at) => {
                masked.push_str("***");
                masked.push_str(&authority[at..]);
            }
            None => masked.push_str(authority),
        }
        rest = &after[end..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_masked() {
        let cases = [
            ("fatal: https://x:ghs_1@github.com/a/b not found", "fatal: https://***@github.com/a/b not found"),
            ("'https://tok@h/p' and http://h/x@y", "'https://***@h/p' and http://h/x@y"),
            ("https://a@b@c/d", "https://***@c/d"),
            ("no url", "no url"),
            ("ends https://u:p@", "ends https://***@"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_userinfo(text), expected);
        }
    }

    #[test]
    fn the_telling_lines_of_a_complaint_are_kept() {
        let stderr = "Cloning into 'x'...\nremote: Not allowed.\nfatal: unable to access\nhint: try this\n";
        assert_eq!(telling(stderr), "remote: Not allowed.\nfatal: unable to access");
        assert_eq!(telling("something else\n"), "something else");
        assert_eq!(telling(""), "git said nothing");
    }
}
