//! Git, by its own plumbing. Repositories live in `<owner>/<name>.git`, named by the configuration alone: no name from
//! a request ever becomes a path. Object ids and branch names arrive parsed.

mod diff;
mod history;
mod merge;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::directory::Directory;
use super::names::{BranchName, Sha};

pub use diff::ChangedFile;
pub use history::{Commit, Person};
pub use merge::{MergeOutcome, Signature};

/// Longest that one plumbing command may run.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most plumbing commands at a time.
const MAX_PROCESSES: usize = 8;
/// Most bytes that are read of a command's output unless the caller asks for less.
const MAX_OUTPUT_BYTES: usize = 4 * 1024 * 1024;
/// Most branches that are listed.
pub const MAX_BRANCHES: usize = 5_000;
/// Largest pack that a push may bring, in bytes.
pub const MAX_PUSH_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git could not be started: {0}")]
    Start(std::io::Error),
    #[error("git's output could not be read: {0}")]
    Pipe(std::io::Error),
    #[error("`git {command}` took longer than {} s", DEADLINE.as_secs())]
    Deadline { command: String },
    #[error("`git {command}` failed: {stderr}")]
    Failed { command: String, stderr: String },
    #[error("`git {command}` answered something unexpected")]
    Unexpected { command: String },
}

/// A branch and the commit that it points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub name: BranchName,
    pub sha: Sha,
}

/// What a command wrote and how it ended.
struct Output {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
    /// Whether the output was longer than was read.
    truncated: bool,
}

/// Runs git in the folder of bare repositories, a bounded number of processes at a time.
pub struct Git {
    root: PathBuf,
    /// Where each repository is below the root, by its number.
    places: HashMap<u64, String>,
    processes: Semaphore,
}

impl Git {
    pub fn new(root: PathBuf, directory: &Directory) -> Self {
        let places = directory.repositories().iter();
        let places = places.map(|r| (r.id, format!("{}.git", r.full_name().to_ascii_lowercase()))).collect();
        Self { root, places, processes: Semaphore::new(MAX_PROCESSES) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The repository's folder, below the root.
    pub fn place(&self, repository: u64) -> &str {
        self.places.get(&repository).map_or("unknown.git", String::as_str)
    }

    pub fn folder(&self, repository: u64) -> PathBuf {
        self.root.join(self.place(repository))
    }

    pub fn exists(&self, repository: u64) -> bool {
        self.folder(repository).join("HEAD").is_file()
    }

    /// Makes a repository from a `git fast-import` stream. It appears whole or not at all.
    pub async fn create(&self, repository: u64, default_branch: &BranchName, history: &[u8]) -> Result<(), GitError> {
        let place = self.folder(repository);
        let fresh = place.with_extension("new");
        let io = GitError::Pipe;
        remove_folder(&fresh).await.map_err(io)?;
        let initial = format!("--initial-branch={default_branch}");
        let path = fresh.to_string_lossy().into_owned();
        self.check(None, &["init", "--quiet", "--bare", &initial, &path], None).await?;
        let limit = MAX_PUSH_BYTES.to_string();
        for (key, value) in [
            ("http.receivepack", "true"),
            ("receive.maxInputSize", &*limit),
            ("receive.autogc", "false"),
            ("receive.hideRefs", "refs/pull"),
            ("gc.auto", "0"),
            ("core.hooksPath", "/dev/null"),
            ("core.logAllRefUpdates", "false"),
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowReachableSHA1InWant", "true"),
        ] {
            self.check(Some(&fresh), &["config", key, value], None).await?;
        }
        self.check(Some(&fresh), &["fast-import", "--quiet", "--done"], Some(history)).await?;
        remove_folder(&place).await.map_err(io)?;
        tokio::fs::rename(&fresh, &place).await.map_err(io)
    }

    /// At most [`MAX_BRANCHES`] branches, by name.
    pub async fn branches(&self, repository: u64) -> Result<Vec<Branch>, GitError> {
        let count = format!("--count={MAX_BRANCHES}");
        let output = self
            .check(
                Some(&self.folder(repository)),
                &["for-each-ref", &count, "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/"],
                None,
            )
            .await?;
        Ok(String::from_utf8_lossy(&output)
            .lines()
            .filter_map(|line| {
                let (sha, name) = line.split_once(' ')?;
                Some(Branch { name: BranchName::parse(name)?, sha: Sha::parse(sha)? })
            })
            .collect())
    }

    /// The commit that a branch points to, if there is such a branch.
    pub async fn branch_head(&self, repository: u64, branch: &BranchName) -> Result<Option<Sha>, GitError> {
        self.resolve(repository, &branch.full_ref()).await
    }

    /// Whether a commit with this id is there.
    pub async fn has_commit(&self, repository: u64, sha: &Sha) -> Result<bool, GitError> {
        Ok(self.resolve(repository, sha.as_str()).await?.is_some())
    }

    async fn resolve(&self, repository: u64, revision: &str) -> Result<Option<Sha>, GitError> {
        let revision = format!("{revision}^{{commit}}");
        let output = self
            .run(
                Some(&self.folder(repository)),
                &["rev-parse", "--quiet", "--verify", "--end-of-options", &revision],
                None,
                MAX_OUTPUT_BYTES,
            )
            .await?;
        Ok(Sha::parse(String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// Points a reference to a commit, if it still points to `old` (when given).
    pub async fn update_ref(
        &self,
        repository: u64,
        reference: &str,
        new: &Sha,
        old: Option<&Sha>,
    ) -> Result<(), GitError> {
        let mut arguments = vec!["update-ref", reference, new.as_str()];
        arguments.extend(old.map(Sha::as_str));
        self.check(Some(&self.folder(repository)), &arguments, None).await?;
        Ok(())
    }

    /// The output of a command that must succeed.
    async fn check(
        &self,
        folder: Option<&Path>,
        arguments: &[&str],
        input: Option<&[u8]>,
    ) -> Result<Vec<u8>, GitError> {
        let output = self.run(folder, arguments, input, MAX_OUTPUT_BYTES).await?;
        if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(GitError::Failed { command: arguments.first().unwrap_or(&"").to_string(), stderr: output.stderr })
        }
    }

    /// Runs one command and reads at most `limit` bytes of its output; what is longer is cut.
    async fn run(
        &self,
        folder: Option<&Path>,
        arguments: &[&str],
        input: Option<&[u8]>,
        limit: usize,
    ) -> Result<Output, GitError> {
        let command = || arguments.first().unwrap_or(&"").to_string();
        let work = async {
            let _permit = self.processes.acquire().await.expect("the semaphore is never closed");
            let mut child = git_command();
            if let Some(folder) = folder {
                child.env("GIT_DIR", folder);
            }
            let mut child = child
                .args(arguments)
                .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(GitError::Start)?;
            let mut stdin = child.stdin.take();
            let mut stdout = child.stdout.take().expect("stdout is piped");
            let mut stderr = child.stderr.take().expect("stderr is piped");
            let feed = async {
                if let (Some(mut pipe), Some(bytes)) = (stdin.take(), input) {
                    // A command that ends early closes its input: its exit code tells the story.
                    let _ = pipe.write_all(bytes).await;
                }
            };
            let read = async {
                let mut bytes = Vec::new();
                let taken = (&mut stdout).take(limit as u64 + 1).read_to_end(&mut bytes).await;
                let truncated = bytes.len() > limit;
                bytes.truncate(limit);
                drop(stdout);
                taken.map(|_| (bytes, truncated))
            };
            let complain = async {
                let mut bytes = Vec::new();
                let taken = (&mut stderr).take(8 * 1024).read_to_end(&mut bytes).await;
                drop(stderr);
                taken.map(|_| String::from_utf8_lossy(&bytes).trim().to_owned())
            };
            let ((), stdout, stderr) = tokio::join!(feed, read, complain);
            let (stdout, truncated) = stdout.map_err(GitError::Pipe)?;
            let status = child.wait().await.map_err(GitError::Pipe)?;
            Ok(Output {
                // A command that we stopped reading dies of SIGPIPE; that is no failure of its own.
                code: status.code().unwrap_or(if truncated { 0 } else { -1 }),
                stdout,
                stderr: stderr.map_err(GitError::Pipe)?,
                truncated,
            })
        };
        tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(GitError::Deadline { command: command() }))
    }
}

/// A git command that sees nothing of this machine's configuration and never asks anybody anything.
pub fn git_command() -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    for (name, value) in [
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_CONFIG_COUNT", "2"),
        // The state folder may belong to another user (a container's volume).
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
        ("GIT_CONFIG_KEY_1", "core.quotePath"),
        ("GIT_CONFIG_VALUE_1", "false"),
    ] {
        command.env(name, value);
    }
    command
}

async fn remove_folder(path: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
