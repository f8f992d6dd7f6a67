//! Brings the session's repositories into the workspace and up to date, all at the same time: sandbox.md, section 1.4.

use std::path::Path;
use std::time::Duration;

use oi_protocol::local_backend::CheckoutRepository;

use super::checkout::{clone, fetch_baseline, head, mark_baseline, marked_baseline};
use super::{Checkout, Git, GitError, Workspace};

const QUICK_LIMIT: Duration = Duration::from_secs(10);
/// Moving to another commit writes files, and waits for no network.
const MOVE_LIMIT: Duration = Duration::from_secs(60);

/// Longest that git may take.
#[derive(Debug, Clone, Copy)]
pub struct SyncLimits {
    /// For a clone.
    pub clone: Duration,
    /// For a fetch.
    pub fetch: Duration,
}

impl Default for SyncLimits {
    fn default() -> Self {
        Self { clone: Duration::from_secs(300), fetch: Duration::from_secs(120) }
    }
}

/// What a boot does with its checkouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPlan {
    /// Whether the boot ends when a repository cannot be brought up to date.
    pub is_fatal: bool,
    /// Whether a checkout that was there moves to its branch's newest commit. One that a session works in never does.
    pub moves_head: bool,
    /// Whether what is checked out then is what the session begins with, unless it said where it began or the checkout
    /// is marked.
    pub takes_baseline: bool,
    /// Whether that is remembered in the checkout. An image's must not be: its sessions begin later.
    pub marks_baseline: bool,
}

/// What of a repository is in the workspace before the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A checkout that no session worked in.
    Image,
    /// A checkout that a session works in.
    Work,
}

/// Why a repository is not up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Owner.
    pub owner: String,
    /// Name.
    pub name: String,
    /// Whether git was stopped for taking too long.
    pub timed_out: bool,
    /// What git said.
    pub reason: String,
}

impl Stale {
    /// The sentence of a boot that goes on with what there is.
    pub fn warning(&self) -> String {
        let Self { owner, name, timed_out, reason } = self;
        let what = if *timed_out { "The update timed out" } else { "The update failed" };
        format!("{owner}/{name} could not be brought up to date and may be stale. {what}: {reason}")
    }
}

/// The sentence of a boot that ends: who timed out, and who failed for what reason.
pub fn fatal_text(stale: &[Stale]) -> String {
    let label = |stale: &Stale| format!("{}/{}", stale.owner, stale.name);
    let timed_out: Vec<String> = stale.iter().filter(|stale| stale.timed_out).map(label).collect();
    let mut parts = Vec::new();
    if !timed_out.is_empty() {
        parts.push(format!("git sync timed out for {}", timed_out.join(", ")));
    }
    let failed = stale.iter().filter(|stale| !stale.timed_out);
    parts.extend(failed.map(|stale| format!("git sync failed for {}: {}", label(stale), stale.reason)));
    parts.join("; ")
}

/// What became of a repository.
#[derive(Debug)]
pub struct Synced {
    /// Where it is, if it is there.
    pub checkout: Option<Checkout>,
    /// Why it is not what the forge has.
    pub stale: Option<Stale>,
}

/// Looks what is there.
pub async fn look(git: &Git, root: &Path, repositories: &[CheckoutRepository]) -> Vec<Found> {
    let each = repositories.iter().map(|repository| async {
        let path = root.join(&repository.repo_name);
        if !path.join(".git").exists() {
            return Found::Nothing;
        }
        if marked_baseline(git, &path).await.is_some() { Found::Work } else { Found::Image }
    });
    futures_util::future::join_all(each).await
}

/// Gives a checkout that is there its plain address: older snapshots had a token in it.
pub async fn reset_address(git: &Git, root: &Path, repository: &CheckoutRepository) {
    let path = root.join(&repository.repo_name);
    let set = async {
        let known = git.run(&path, &["config", "--local", "--get-all", "remote.origin.url"], QUICK_LIMIT).await;
        if known.is_ok_and(|known| known.trim_end_matches('\n') == repository.clone_url) {
            return Ok(());
        }
        let args = ["config", "--local", "--replace-all", "remote.origin.url", &repository.clone_url];
        git.run(&path, &args, QUICK_LIMIT).await.map(drop)
    };
    if let Err(error) = set.await {
        tracing::warn!(event = "git.set_url_failed", name = repository.repo_name, %error);
    }
}

/// Where the repositories that are there are, before they are brought up to date.
pub fn as_found(root: &Path, repositories: &[CheckoutRepository]) -> Workspace {
    let there = repositories.iter().filter(|repository| root.join(&repository.repo_name).join(".git").exists());
    assemble(root, repositories, there.map(|repository| checkout_of(root, repository, repository.base_sha.clone())))
}

/// A workspace of these checkouts. The agent works in the only repository, if there is one, or in their folder.
pub fn assemble(
    root: &Path,
    repositories: &[CheckoutRepository],
    checkouts: impl IntoIterator<Item = Checkout>,
) -> Workspace {
    let mut checkouts: Vec<Checkout> = checkouts.into_iter().collect();
    checkouts.sort_by_key(|checkout| checkout.position);
    let directory = match (repositories.len(), checkouts.as_slice()) {
        (1, [only]) => only.path.clone(),
        _ => root.to_owned(),
    };
    Workspace { directory, checkouts }
}

fn checkout_of(root: &Path, repository: &CheckoutRepository, base_sha: Option<String>) -> Checkout {
    Checkout {
        position: repository.position,
        owner: repository.repo_owner.clone(),
        name: repository.repo_name.clone(),
        branch: repository.branch.clone(),
        path: root.join(&repository.repo_name),
        base_sha,
    }
}

/// Brings one repository up to date. A clone is that already, so that a fresh boot asks the forge once.
pub async fn one(
    git: &Git,
    root: &Path,
    repository: &CheckoutRepository,
    found: Found,
    plan: SyncPlan,
    limits: SyncLimits,
) -> Synced {
    let path = root.join(&repository.repo_name);
    let moves = plan.moves_head && found == Found::Image;
    let updated = match found {
        Found::Nothing => clone(git, root, repository, limits.clone).await,
        Found::Image | Found::Work => refresh(git, &path, repository, moves, limits).await,
    };
    let stale = updated.err().map(|error| {
        tracing::warn!(event = "git.sync_failed", owner = repository.repo_owner, name = repository.repo_name, %error);
        Stale {
            owner: repository.repo_owner.clone(),
            name: repository.repo_name.clone(),
            timed_out: matches!(error, GitError::TimedOut { .. }),
            reason: error.to_string(),
        }
    });
    if !path.join(".git").exists() {
        return Synced { checkout: None, stale };
    }
    let base_sha = baseline(git, &path, repository, found, plan).await;
    Synced { checkout: Some(checkout_of(root, repository, base_sha)), stale }
}

/// What the branch is at the forge. A leading `+`, since a base branch may be rewritten.
async fn refresh(
    git: &Git,
    path: &Path,
    repository: &CheckoutRepository,
    moves: bool,
    limits: SyncLimits,
) -> Result<(), GitError> {
    let branch = &repository.branch;
    let tracking = format!("refs/remotes/origin/{branch}");
    let refspec = format!("+refs/heads/{branch}:{tracking}");
    let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
    // An image's history is as long as a clone's. What a session made of it is left alone.
    if moves && path.join(".git/shallow").exists() {
        args.push(super::checkout::DEPTH);
    }
    args.extend(["origin", refspec.as_str()]);
    git.run(path, &args, limits.fetch).await?;
    if moves {
        // The branch follows its remote one since the clone; to say so again would write the configuration while
        // somebody else does.
        git.run(path, &["checkout", "--quiet", "--no-track", "-B", branch, &tracking, "--"], MOVE_LIMIT).await?;
    }
    Ok(())
}

async fn baseline(
    git: &Git,
    path: &Path,
    repository: &CheckoutRepository,
    found: Found,
    plan: SyncPlan,
) -> Option<String> {
    let known = match found {
        // Where a session began is no guess, also where nothing is taken from what is checked out now.
        Found::Work => marked_baseline(git, path).await,
        _ if plan.takes_baseline => {
            let head = head(git, path).await;
            if let (Some(head), true) = (&head, plan.marks_baseline) {
                mark_baseline(git, path, head).await;
            }
            head
        }
        _ => None,
    };
    match &repository.base_sha {
        Some(sha) => {
            fetch_baseline(git, path, sha).await;
            Some(sha.clone())
        }
        None => known,
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
