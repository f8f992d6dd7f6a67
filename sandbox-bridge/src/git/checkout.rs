//! One repository's way into the workspace: its name, its clone, and the commit that the session began with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oi_protocol::local_backend::CheckoutRepository;

use super::{Git, GitError};

/// For the commit that the diff is made against.
const BASELINE_LIMIT: Duration = Duration::from_secs(120);
const QUICK_LIMIT: Duration = Duration::from_secs(10);
/// Commits of history; more can be fetched by the agent.
pub const DEPTH: &str = "--depth=100";

/// Why the workspace could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// A name cannot be a folder, is used twice, or a branch or address cannot be right.
    #[error("invalid repository config: {0}")]
    Invalid(String),
    /// The folder cannot be made.
    #[error("the workspace cannot be written: {0}")]
    Io(#[from] std::io::Error),
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

/// What the platform puts beside the checkouts of a workspace with several.
const OWN_NAMES: [&str; 3] = [".opencode", "AGENTS.md", ".tunnels.env"];

/// Whether a text can be a branch's name within a refspec and among arguments: git's own rules.
fn is_branch(text: &str) -> bool {
    let is_part = |part: &str| {
        let ends_badly = std::path::Path::new(part).extension().is_some_and(|extension| extension == "lock");
        !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !ends_badly
    };
    let is_odd = |letter: char| letter.is_control() || " ~^:?*[\\".contains(letter);
    text != "@"
        && text.len() <= 255
        && !text.starts_with('-')
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains(is_odd)
        && text.split('/').all(is_part)
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
        if repositories.len() > 1 && OWN_NAMES.iter().any(|own| repository.repo_name.eq_ignore_ascii_case(own)) {
            return invalid("the workspace has a file of its own of the name of");
        }
        if !is_branch(&repository.branch) {
            return invalid("the branch of");
        }
        let base_sha = repository.base_sha.as_deref().unwrap_or_default();
        if !base_sha.is_empty() && !oi_protocol::diff::is_sha(base_sha) {
            return invalid("the commit that the session began with of");
        }
        if repository.clone_url.is_empty() || repository.clone_url.starts_with('-') {
            return invalid("the address of");
        }
    }
    Ok(())
}

/// The mark of a checkout that a session works in: the commit that it began with. An image has none.
const BASELINE_REF: &str = "refs/open-inspect/baseline";

/// The commit that a session's checkout began with, where it is one.
pub async fn marked_baseline(git: &Git, path: &Path) -> Option<String> {
    let known = git.run(path, &["rev-parse", "--verify", "--quiet", BASELINE_REF], QUICK_LIMIT).await.ok()?;
    Some(known.trim().to_owned())
}

/// Marks what is checked out as what the session begins with: a supervisor that starts again must not take later work
/// for it, nor move it.
pub async fn mark_baseline(git: &Git, path: &Path, head: &str) {
    if let Err(error) = git.run(path, &["update-ref", BASELINE_REF, head], QUICK_LIMIT).await {
        tracing::warn!(event = "git.no_baseline", %error);
    }
}

/// The commit that is checked out.
pub async fn head(git: &Git, path: &Path) -> Option<String> {
    match git.run(path, &["rev-parse", "HEAD"], QUICK_LIMIT).await {
        Ok(head) => Some(head.trim().to_owned()),
        Err(error) => {
            tracing::warn!(event = "git.no_head", %error);
            None
        }
    }
}

/// The commit that the session began with may be older than what a later sandbox cloned. What it cannot get is missing
/// for the comparison only.
pub async fn fetch_baseline(git: &Git, path: &Path, sha: &str) {
    if !oi_protocol::diff::is_sha(sha) {
        return;
    }
    let commit = format!("{sha}^{{commit}}");
    if git.run(path, &["cat-file", "-e", &commit], QUICK_LIMIT).await.is_ok() {
        return;
    }
    let args = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "origin", sha];
    if let Err(error) = git.run(path, &args, BASELINE_LIMIT).await {
        tracing::warn!(event = "git.no_baseline_commit", %error);
    }
}

/// Clones a repository that is not there.
pub async fn clone(git: &Git, root: &Path, repository: &CheckoutRepository, limit: Duration) -> Result<(), GitError> {
    let path = &root.join(&repository.repo_name);
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
    git.run(root, &args, limit).await?;
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
            ("a", "b", "main:refs/heads/x"),
            ("a", "b", "feature/*"),
            ("a", "b", "a..b"),
            ("a", "b", "a b"),
            ("a", "b", "a/.b"),
            ("a", "b", "a/"),
            ("a", "b", "/a"),
            ("a", "b", "a.lock"),
            ("a", "b", "a@{1}"),
            ("a", "b", "@"),
            ("a", "b", "a\nb"),
            ("a b", "c", "main"),
        ] {
            assert!(validate(&[repository(owner, name, branch)]).is_err(), "{owner}/{name} {branch}");
        }
        for branch in ["main", "feature/x-1", "release/1.2", "användare/ö", "a@b"] {
            assert!(validate(&[repository("group/sub", "repo.name", branch)]).is_ok(), "{branch}");
        }
        let at = |sha: &str| CheckoutRepository { base_sha: Some(sha.to_owned()), ..repository("a", "b", "main") };
        assert!(validate(&[at("")]).is_ok() && validate(&[at(&"a".repeat(40))]).is_ok());
        assert!(validate(&[at("HEAD")]).is_err() && validate(&[at("--upload-pack=x")]).is_err());
    }

    #[test]
    fn two_repositories_never_share_a_folder() {
        assert!(validate(&[repository("a", "Same", "main"), repository("b", "same", "main")]).is_err());
        assert!(validate(&[repository("a", ".opencode", "main")]).is_ok());
        assert!(validate(&[repository("a", ".opencode", "main"), repository("b", "c", "main")]).is_err());
    }
}
