//! Pushes a branch with git and the credential helper: no token is in the address, the arguments or a message.

use std::time::Duration;

use oi_protocol::sandbox_socket::PushSpec;

use super::{Checkout, Git, GitError, Workspace, without_userinfo};

const PUSH_LIMIT: Duration = Duration::from_secs(300);
const LOOK_LIMIT: Duration = Duration::from_secs(60);
const QUICK_LIMIT: Duration = Duration::from_secs(10);

/// Why a branch was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushFailure {
    /// The order is incomplete.
    #[error("Push failed - {0}")]
    Invalid(&'static str),
    /// The repository is not one of the session's.
    #[error("Repository {0} is not part of this session")]
    UnknownRepository(String),
    /// There is no checkout.
    #[error("No repository found: {0}")]
    NoCheckout(String),
    /// The branch on the forge has work that this push would drop.
    #[error(
        "Push failed: `{branch}` on the forge has commits that are not in this checkout. \
         Fetch it, merge or rebase onto it, and push again."
    )]
    WouldDropWork {
        /// The branch.
        branch: String,
    },
    /// Git refused.
    #[error("Push failed: {0}")]
    Git(String),
}

impl PushFailure {
    /// Stable name, for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::UnknownRepository(_) => "unknown_repository",
            Self::NoCheckout(_) => "no_checkout",
            Self::WouldDropWork { .. } => "would_drop_work",
            Self::Git(_) => "git",
        }
    }
}

fn git_failure(error: &GitError, spec: &PushSpec) -> PushFailure {
    let text = error.to_string();
    let text =
        if spec.remote_url.is_empty() { text } else { text.replace(&spec.remote_url, &spec.redacted_remote_url) };
    PushFailure::Git(without_userinfo(&text))
}

/// The order without a credential in its address: an argument is there for everybody in the sandbox to read, and the
/// helper has one anyway.
fn without_credential(spec: &PushSpec) -> PushSpec {
    let mut spec = spec.clone();
    if let Ok(mut url) = url::Url::parse(&spec.remote_url)
        && matches!(url.scheme(), "http" | "https")
        && (!url.username().is_empty() || url.password().is_some())
        && url.set_username("").is_ok()
        && url.set_password(None).is_ok()
    {
        spec.remote_url = url.into();
    }
    spec
}

/// Pushes as ordered.
pub async fn push(git: &Git, workspace: &Workspace, spec: &PushSpec) -> Result<(), PushFailure> {
    let spec = &without_credential(spec);
    let (source, destination) = check(spec)?;
    let checkout = find(workspace, spec)?;
    let lease = if spec.force { Some(lease(git, checkout, spec, source, destination).await?) } else { None };
    let mut args = vec!["push", "--porcelain"];
    args.extend(lease.as_deref());
    args.extend(["--", &spec.remote_url, &spec.refspec]);
    git.run(&checkout.path, &args, PUSH_LIMIT).await.map_err(|error| git_failure(&error, spec))?;
    remember(git, checkout, &spec.target_branch, source).await;
    Ok(())
}

fn check(spec: &PushSpec) -> Result<(&str, &str), PushFailure> {
    if spec.target_branch.is_empty() {
        return Err(PushFailure::Invalid("missing target branch"));
    }
    if spec.repo_owner.is_empty() != spec.repo_name.is_empty() {
        return Err(PushFailure::Invalid("incomplete repository identity"));
    }
    let option_like = |text: &str| text.is_empty() || text.starts_with('-');
    match spec.refspec.split_once(':') {
        Some((source, destination))
            if !option_like(&spec.remote_url)
                && !option_like(source)
                && !source.starts_with('+')
                && destination.strip_prefix("refs/heads/") == Some(spec.target_branch.as_str()) =>
        {
            Ok((source, destination))
        }
        _ => Err(PushFailure::Invalid("invalid push specification")),
    }
}

fn find<'a>(workspace: &'a Workspace, spec: &PushSpec) -> Result<&'a Checkout, PushFailure> {
    if spec.repo_name.is_empty() {
        return workspace.checkouts.first().ok_or_else(|| PushFailure::NoCheckout("the workspace is empty".to_owned()));
    }
    workspace
        .checkout(&spec.repo_owner, &spec.repo_name)
        .ok_or_else(|| PushFailure::UnknownRepository(format!("{}/{}", spec.repo_owner, spec.repo_name)))
}

/// The lease of a push that may rewrite. A push to an address has no remote-tracking branch that git could compare
/// with, so the expected commit is named here: the one that the forge has now, if this sandbox knows it.
async fn lease(
    git: &Git,
    checkout: &Checkout,
    spec: &PushSpec,
    source: &str,
    destination: &str,
) -> Result<String, PushFailure> {
    let listed = git
        .run(&checkout.path, &["ls-remote", "--", &spec.remote_url, destination], LOOK_LIMIT)
        .await
        .map_err(|error| git_failure(&error, spec))?;
    let Some(remote) = listed.split_whitespace().next() else {
        // It must not exist yet: an empty expectation says so.
        return Ok(format!("--force-with-lease={destination}:"));
    };
    let branch = &spec.target_branch;
    let resolve = async |name: String| -> Option<String> {
        let found = git.run(&checkout.path, &["rev-parse", "--verify", "--quiet", &name], QUICK_LIMIT).await.ok()?;
        Some(found.trim().to_owned())
    };
    let ours = resolve(pushed_ref(branch)).await.is_some_and(|sha| sha == remote);
    // The agent's own pushes leave their mark in the remote-tracking branch. That of the base branch comes from the
    // clone, and is others' work.
    let seen = *branch != checkout.branch
        && resolve(format!("refs/remotes/origin/{branch}")).await.is_some_and(|sha| sha == remote);
    let contained = || async {
        let args = ["merge-base", "--is-ancestor", remote, source];
        git.output(&checkout.path, &args, QUICK_LIMIT).await.is_ok_and(|output| output.status.success())
    };
    if ours || seen || contained().await {
        return Ok(format!("--force-with-lease={destination}:{remote}"));
    }
    Err(PushFailure::WouldDropWork { branch: branch.clone() })
}

fn pushed_ref(branch: &str) -> String {
    format!("refs/open-inspect/pushed/{branch}")
}

async fn remember(git: &Git, checkout: &Checkout, branch: &str, source: &str) {
    if let Err(error) = git.run(&checkout.path, &["update-ref", &pushed_ref(branch), source], QUICK_LIMIT).await {
        tracing::warn!(event = "push.not_remembered", %error);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    struct World {
        _folder: tempfile::TempDir,
        remote: PathBuf,
        workspace: Workspace,
        git: Git,
    }

    fn sh(directory: &Path, script: &str) -> String {
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "T")
            .env("GIT_AUTHOR_EMAIL", "t@example.com")
            .env("GIT_COMMITTER_NAME", "T")
            .env("GIT_COMMITTER_EMAIL", "t@example.com")
            .output()
            .expect("sh runs");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn world() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        sh(
            &root,
            "git init -q --bare -b main remote.git; git clone -q remote.git work 2>/dev/null; cd work;
             git checkout -q -b main; echo 1 > a; git add a; git commit -qm one; git push -q origin main",
        );
        let path = root.join("work");
        let checkout = Checkout {
            position: 0,
            owner: "acme".to_owned(),
            name: "work".to_owned(),
            branch: "main".to_owned(),
            path: path.clone(),
            base_sha: None,
        };
        let environment = ["PATH", "HOME"].map(|name| (name.into(), std::env::var_os(name).unwrap_or_default()));
        World {
            remote: root.join("remote.git"),
            _folder: folder,
            workspace: Workspace { directory: path, checkouts: vec![checkout] },
            git: Git::new(environment.to_vec()),
        }
    }

    fn spec(world: &World, branch: &str) -> PushSpec {
        PushSpec {
            remote_url: world.remote.display().to_string(),
            redacted_remote_url: "the forge".to_owned(),
            refspec: format!("HEAD:refs/heads/{branch}"),
            target_branch: branch.to_owned(),
            repo_owner: "ACME".to_owned(),
            repo_name: "Work".to_owned(),
            force: true,
        }
    }

    #[tokio::test]
    async fn a_new_branch_and_its_rewrite_are_pushed() {
        let world = world();
        let spec = spec(&world, "open-inspect/1");
        push(&world.git, &world.workspace, &spec).await.expect("new branch");
        sh(&world.workspace.directory, "git commit -q --amend -m rewritten");
        push(&world.git, &world.workspace, &spec).await.expect("our own branch may be rewritten");
        let subject = sh(&world.remote, "git log -1 --format=%s open-inspect/1");
        assert_eq!(subject, "rewritten");
    }

    #[tokio::test]
    async fn work_of_others_on_the_branch_is_never_dropped() {
        let world = world();
        let spec = spec(&world, "feature");
        push(&world.git, &world.workspace, &spec).await.expect("new branch");
        sh(
            world.remote.parent().expect("has one"),
            "git clone -q -b feature remote.git other 2>/dev/null; cd other; echo 2 > b; git add b;
             git commit -qm theirs; git push -q origin feature",
        );
        sh(&world.workspace.directory, "echo 3 > c; git add c; git commit -qm ours");
        let refused = push(&world.git, &world.workspace, &spec).await.expect_err("it would drop their commit");
        assert!(matches!(refused, PushFailure::WouldDropWork { .. }), "{refused}");
        assert_eq!(sh(&world.remote, "git log -1 --format=%s feature"), "theirs");
        sh(&world.workspace.directory, "git fetch -q origin feature; git rebase -q FETCH_HEAD");
        push(&world.git, &world.workspace, &spec).await.expect("now it contains their commit");
    }

    #[tokio::test]
    async fn the_base_branch_is_not_rewritten() {
        let world = world();
        sh(&world.workspace.directory, "git commit -q --amend -m rewritten");
        let refused = push(&world.git, &world.workspace, &spec(&world, "main")).await.expect_err("others' work");
        assert!(matches!(refused, PushFailure::WouldDropWork { .. }), "{refused}");
    }

    #[test]
    fn no_credential_is_in_the_address_that_git_is_given() {
        let world = world();
        for (given, used) in [
            ("https://x-access-token:ghs_1@github.com/a/b.git", "https://github.com/a/b.git"),
            ("https://oauth2:t@gitlab.example:8443/a/b/c.git", "https://gitlab.example:8443/a/b/c.git"),
            ("http://t@127.0.0.1:1/a.git", "http://127.0.0.1:1/a.git"),
            ("https://github.com/a/b.git", "https://github.com/a/b.git"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
            ("ssh://git@github.com/a/b.git", "ssh://git@github.com/a/b.git"),
            ("/srv/a b.git", "/srv/a b.git"),
        ] {
            let spec = PushSpec { remote_url: given.to_owned(), ..spec(&world, "b") };
            assert_eq!(without_credential(&spec).remote_url, used);
        }
    }

    #[tokio::test]
    async fn a_malformed_order_is_refused_before_git_runs() {
        let world = world();
        let good = spec(&world, "b");
        let bad = [
            PushSpec { target_branch: String::new(), ..good.clone() },
            PushSpec { refspec: "HEAD".to_owned(), ..good.clone() },
            PushSpec { refspec: "+HEAD:refs/heads/b".to_owned(), ..good.clone() },
            PushSpec { refspec: "HEAD:refs/heads/other".to_owned(), ..good.clone() },
            PushSpec { remote_url: "--upload-pack=x".to_owned(), ..good.clone() },
            PushSpec { repo_owner: String::new(), ..good.clone() },
            PushSpec { repo_name: "elsewhere".to_owned(), ..good.clone() },
        ];
        for spec in bad {
            assert!(push(&world.git, &world.workspace, &spec).await.is_err(), "{spec:?}");
        }
    }
}
