//! Work that is nowhere but in a checkout, put on a branch of its own before the sandbox ends.
//!
//! Git's plumbing does it beside the agent: HEAD, the index, the working tree and every branch stay as they are.

use std::path::Path;
use std::time::Duration;

use super::{Checkout, Git, GitError};

/// For one command that waits for no network.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// For the push.
const PUSH_LIMIT: Duration = Duration::from_secs(60);
/// Before every command: nothing that the repository names is run.
const COMMON: [&str; 4] = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
const MESSAGE: &str = "Work in progress\n\nThe sandbox came to its end before this was committed.";
const NAME: &str = "OpenInspect";
const EMAIL: &str = "open-inspect@noreply.github.com";

/// Pushes what is uncommitted or on no branch of the forge to `branch`; `false` when there is nothing. `scratch` is a
/// folder for a passing file.
pub async fn push(
    git: &Git,
    checkout: &Checkout,
    address: &str,
    branch: &str,
    scratch: &Path,
) -> Result<bool, GitError> {
    let index = scratch.join(format!("unfinished-{}-{}", checkout.name, crate::random::hex::<4>()));
    let result = commit(git, checkout, &index).await;
    drop(std::fs::remove_file(&index));
    let Some(commit) = result? else { return Ok(false) };
    let refspec = format!("+{commit}:refs/heads/{branch}");
    let mut args = COMMON.to_vec();
    args.extend(["push", "--quiet", "--no-verify", "--", address, &refspec]);
    git.run(&checkout.path, &args, PUSH_LIMIT).await?;
    Ok(true)
}

/// The commit that has all the work, if there is any.
async fn commit(git: &Git, checkout: &Checkout, index: &Path) -> Result<Option<String>, GitError> {
    let run = async |git: &Git, args: &[&str]| -> Result<String, GitError> {
        let args: Vec<&str> = COMMON.iter().chain(args).copied().collect();
        git.run(&checkout.path, &args, COMMAND_LIMIT).await.map(|text| text.trim_end_matches('\n').to_owned())
    };
    let index_path = index.to_string_lossy().into_owned();
    let identity = [("AUTHOR", NAME, EMAIL), ("COMMITTER", NAME, EMAIL)];
    let mut variables = vec![("GIT_INDEX_FILE".to_owned(), index_path)];
    for (who, name, email) in identity {
        variables.push((format!("GIT_{who}_NAME"), name.to_owned()));
        variables.push((format!("GIT_{who}_EMAIL"), email.to_owned()));
    }
    let pairs: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let apart = git.with(&pairs);
    let head = run(git, &["rev-parse", "--verify", "--quiet", "HEAD"]).await.ok();
    // The agent's index knows which files did not change; a copy of it spares reading them all.
    let own = run(git, &["rev-parse", "--path-format=absolute", "--git-path", "index"]).await?;
    match (std::fs::copy(own, index), &head) {
        (Ok(_), _) => {}
        (Err(_), Some(head)) => drop(run(&apart, &["read-tree", head]).await?),
        (Err(_), None) => drop(run(&apart, &["read-tree", "--empty"]).await?),
    }
    run(&apart, &["add", "--all", "--", "."]).await?;
    let tree = run(&apart, &["write-tree"]).await?;
    let Some(head) = head else {
        let files = run(git, &["ls-tree", &tree]).await?;
        if files.is_empty() {
            return Ok(None);
        }
        return run(&apart, &["commit-tree", &tree, "-m", MESSAGE]).await.map(Some);
    };
    if run(git, &["rev-parse", &format!("{head}^{{tree}}")]).await? != tree {
        return run(&apart, &["commit-tree", &tree, "-p", &head, "-m", MESSAGE]).await.map(Some);
    }
    let unpushed = ["rev-list", "--max-count=1", &head, "--not", "--remotes=origin", "--glob=refs/open-inspect/pushed"];
    let is_known = run(git, &unpushed).await?.is_empty();
    Ok((!is_known).then_some(head))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    fn sh(directory: &Path, script: &str) -> String {
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "T")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "t@example.com")))
            .output()
            .expect("sh runs");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    struct World {
        folder: tempfile::TempDir,
        checkout: Checkout,
        git: Git,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        sh(
            folder.path(),
            "git init -q --bare -b main remote.git; git clone -q remote.git work 2>/dev/null; cd work;
             git checkout -q -b main; echo 1 > a; echo ignored > .gitignore; git add .; git commit -qm one;
             git push -q origin main",
        );
        let checkout = Checkout {
            position: 0,
            owner: "acme".to_owned(),
            name: "work".to_owned(),
            branch: "main".to_owned(),
            path: folder.path().join("work"),
            base_sha: None,
        };
        let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
        World { folder, checkout, git: Git::new(vec![path]) }
    }

    impl World {
        fn remote(&self) -> PathBuf {
            self.folder.path().join("remote.git")
        }

        async fn push(&self) -> bool {
            let address = self.remote().display().to_string();
            push(&self.git, &self.checkout, &address, "wip", self.folder.path()).await.expect("pushed")
        }

        /// Everything that must stay as it is.
        fn state(&self) -> (String, Vec<u8>) {
            let script = "git rev-parse HEAD; git symbolic-ref -q HEAD || true; git for-each-ref; git status --porcelain; \
                ls -l --time-style=full-iso; cat a";
            let said = sh(&self.checkout.path, script);
            (said, std::fs::read(self.checkout.path.join(".git/index")).expect("an index"))
        }
    }

    #[tokio::test]
    async fn nothing_is_pushed_when_there_is_nothing() {
        let world = world();
        assert!(!world.push().await);
        sh(&world.checkout.path, "echo x > ignored");
        assert!(!world.push().await, "what is ignored is no work");
        sh(
            &world.checkout.path,
            "git checkout -q -b done; echo 2 > b; git add b; git commit -qm two; git push -q origin done",
        );
        assert!(!world.push().await, "it is on a branch of the forge");
        assert_eq!(sh(&world.remote(), "git branch --list wip"), "");
    }

    #[tokio::test]
    async fn all_work_is_on_the_branch_and_the_checkout_is_as_it_was() {
        let world = world();
        sh(
            &world.checkout.path,
            "echo committed > c; git add c; git commit -qm ahead; echo staged > a; git add a; echo more >> a;
             echo new > new; mkdir d; echo deep > d/e; rm .gitignore",
        );
        sh(&world.checkout.path, "git status >/dev/null");
        let before = world.state();
        assert!(world.push().await);
        assert_eq!(world.state(), before);
        let files = sh(&world.remote(), "git ls-tree -r --name-only wip");
        assert_eq!(files, "a\nc\nd/e\nnew");
        assert_eq!(sh(&world.remote(), "git show wip:a"), "staged\nmore");
        assert_eq!(sh(&world.remote(), "git log --format=%s wip").lines().nth(1), Some("ahead"));
        sh(&world.checkout.path, "echo again > new");
        assert!(world.push().await, "the branch is the session's own");
        assert_eq!(sh(&world.remote(), "git show wip:new"), "again");
    }

    #[tokio::test]
    async fn commits_that_nobody_pushed_are_work_too_even_in_the_middle_of_a_merge() {
        let world = world();
        sh(&world.checkout.path, "echo 2 > a; git commit -qam ahead");
        assert!(world.push().await);
        let ahead = sh(&world.checkout.path, "git rev-parse HEAD");
        assert_eq!(sh(&world.remote(), "git rev-parse wip"), ahead, "as it is, without a commit on top");
        sh(
            &world.checkout.path,
            "git checkout -q -b other HEAD~1; echo 3 > a; git commit -qam other; git merge main 2>&1 || true",
        );
        let before = world.state();
        assert!(world.push().await);
        assert_eq!(world.state(), before);
        assert!(sh(&world.remote(), "git show wip:a").contains("<<<<<<<"), "as the file is");
    }
}
