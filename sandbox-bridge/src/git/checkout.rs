//! Brings the session's repositories into the workspace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oi_protocol::local_backend::CheckoutRepository;

use super::{Checkout, Git, GitError, Workspace};

const CLONE_LIMIT: Duration = Duration::from_secs(300);
const QUICK_LIMIT: Duration = Duration::from_secs(10);
/// Commits of history; more can be fetched by the agent.
const DEPTH: &str = "--depth=100";

/// Why the workspace could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// A name cannot be a folder, is used twice, or a branch or address cannot be right.
    #[error("invalid repository config: {0}")]
    Invalid(String),
    /// The folder cannot be made.
    #[error("the workspace cannot be written: {0}")]
    Io(#[from] std::io::Error),
    /// A clone failed.
    #[error("git sync failed for {repository}: {source}")]
    Git {
        /// `owner/name`
        repository: String,
        /// What git said.
        source: GitError,
    },
}

fn is_segment(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(plain)
        && text != "."
        && text != ".."
        && !text.starts_with('-')
}

/// Checks names before any of them becomes a path or an argument.
pub fn validate(repositories: &[CheckoutRepository]) -> Result<(), CheckoutError> {
    let mut names = std::collections::HashSet::new();
    for repository in repositories {
        let label = format!("{}/{}", repository.repo_owner, repository.repo_name);
        let invalid = |what: &str| Err(CheckoutError::Invalid(format!("{what} `{label}`")));
        if !repository.repo_owner.split('/').all(is_segment) || !is_segment(&repository.repo_name) {
            return invalid("the name of");
        }
        if !names.insert(repository.repo_name.to_ascii_lowercase()) {
            return invalid("two repositories have the folder name of");
        }
        if repository.branch.is_empty() || repository.branch.starts_with('-') {
            return invalid("the branch of");
        }
        if repository.clone_url.is_empty() || repository.clone_url.starts_with('-') {
            return invalid("the address of");
        }
    }
    Ok(())
}

/// Clones what is missing, all repositories at once. Folders that exist are left as they are: they are an earlier
/// process's work.
pub async fn prepare(git: &Git, root: &Path, repositories: &[CheckoutRepository]) -> Result<Workspace, CheckoutError> {
    validate(repositories)?;
    std::fs::create_dir_all(root)?;
    let clones = repositories.iter().map(|repository| one(git, root, repository));
    let mut checkouts = futures_util::future::try_join_all(clones).await?;
    checkouts.sort_by_key(|checkout| checkout.position);
    let directory = match checkouts.as_slice() {
        [only] => only.path.clone(),
        _ => root.to_owned(),
    };
    Ok(Workspace { directory, checkouts })
}

async fn one(git: &Git, root: &Path, repository: &CheckoutRepository) -> Result<Checkout, CheckoutError> {
    let label = format!("{}/{}", repository.repo_owner, repository.repo_name);
    let path = root.join(&repository.repo_name);
    let failed = |source| CheckoutError::Git { repository: label.clone(), source };
    if !path.join(".git").exists() {
        clone(git, root, &path, repository).await.map_err(failed)?;
    }
    let head = git.run(&path, &["rev-parse", "HEAD"], QUICK_LIMIT).await;
    let base_sha = match (&repository.base_sha, head) {
        (Some(sha), _) => {
            fetch_baseline(git, &path, sha).await;
            Some(sha.clone())
        }
        (None, Ok(head)) => Some(baseline(git, &path, head.trim()).await),
        (None, Err(error)) => {
            tracing::warn!(event = "git.no_head", %error);
            None
        }
    };
    Ok(Checkout {
        position: repository.position,
        owner: repository.repo_owner.clone(),
        name: repository.repo_name.clone(),
        branch: repository.branch.clone(),
        path,
        base_sha,
    })
}

/// The commit that was checked out first: a supervisor that starts again must not take later work for it.
async fn baseline(git: &Git, path: &Path, head: &str) -> String {
    const REF: &str = "refs/open-inspect/baseline";
    if let Ok(known) = git.run(path, &["rev-parse", "--verify", "--quiet", REF], QUICK_LIMIT).await {
        return known.trim().to_owned();
    }
    if let Err(error) = git.run(path, &["update-ref", REF, head], QUICK_LIMIT).await {
        tracing::warn!(event = "git.no_baseline", %error);
    }
    head.to_owned()
}

/// The commit that the session began with may be older than what a later sandbox cloned. What it cannot get is missing
/// for the comparison only.
async fn fetch_baseline(git: &Git, path: &Path, sha: &str) {
    if !oi_protocol::diff::is_sha(sha) {
        return;
    }
    let commit = format!("{sha}^{{commit}}");
    if git.run(path, &["cat-file", "-e", &commit], QUICK_LIMIT).await.is_ok() {
        return;
    }
    let args = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "origin", sha];
    if let Err(error) = git.run(path, &args, CLONE_LIMIT).await {
        tracing::warn!(event = "git.no_baseline_commit", %error);
    }
}

async fn clone(git: &Git, root: &Path, path: &Path, repository: &CheckoutRepository) -> Result<(), GitError> {
    // Into another name first: a clone that is killed must not look like a checkout.
    let partial = partial_path(root, &repository.repo_name);
    remove(&partial)?;
    tracing::info!(event = "git.clone_start", owner = repository.repo_owner, name = repository.repo_name);
    let args = [
        "clone".as_ref(),
        DEPTH.as_ref(),
        "--branch".as_ref(),
        repository.branch.as_ref(),
        "--".as_ref(),
        repository.clone_url.as_ref(),
        partial.as_os_str(),
    ];
    git.run(root, &args, CLONE_LIMIT).await?;
    if path.exists() && std::fs::read_dir(path)?.next().is_none() {
        std::fs::remove_dir(path)?;
    }
    std::fs::rename(&partial, path)?;
    tracing::info!(event = "git.clone_complete", owner = repository.repo_owner, name = repository.repo_name);
    Ok(())
}

fn partial_path(root: &Path, name: &str) -> PathBuf {
    root.join(format!(".{name}.cloning"))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(owner: &str, name: &str, branch: &str) -> CheckoutRepository {
        CheckoutRepository {
            position: 0,
            repo_owner: owner.to_owned(),
            repo_name: name.to_owned(),
            branch: branch.to_owned(),
            clone_url: "https://example.com/x.git".to_owned(),
            base_sha: None,
        }
    }

    #[test]
    fn names_that_could_leave_the_workspace_are_refused() {
        for (owner, name, branch) in [
            ("a", "..", "main"),
            ("a", "b/c", "main"),
            ("..", "b", "main"),
            ("a", "", "main"),
            ("a", "-b", "main"),
            ("a", "b", "-upload-pack=x"),
            ("a", "b", ""),
            ("a b", "c", "main"),
        ] {
            assert!(validate(&[repository(owner, name, branch)]).is_err(), "{owner}/{name} {branch}");
        }
        assert!(validate(&[repository("group/sub", "repo.name", "main")]).is_ok());
    }

    #[test]
    fn two_repositories_never_share_a_folder() {
        assert!(validate(&[repository("a", "Same", "main"), repository("b", "same", "main")]).is_err());
    }
}
