//! Commits, trees and files.

use jiff::Timestamp;

use super::{Git, GitError, MAX_OUTPUT_BYTES, Sha};

/// Most bytes of a file that is shown.
pub const MAX_FILE_BYTES: usize = 512 * 1024;
/// Most files of a tree that are listed.
pub const MAX_FILES: usize = 1_000;

const FORMAT: &str = "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%at%x00%cn%x00%ce%x00%ct%x00%B%x00%x01";

/// Who wrote or committed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub sha: Sha,
    pub tree: Sha,
    pub parents: Vec<Sha>,
    pub author: Person,
    pub committer: Person,
    pub message: String,
}

impl Commit {
    /// The message's first line.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or("")
    }
}

impl Git {
    /// One commit.
    pub async fn commit(&self, repository: u64, sha: &Sha) -> Result<Option<Commit>, GitError> {
        if !self.has_commit(repository, sha).await? {
            return Ok(None);
        }
        let commits = self.log(repository, &["-1", sha.as_str()]).await?;
        Ok(commits.into_iter().next())
    }

    /// What `head` has that `base` has not, oldest first, the newest `limit` of them.
    pub async fn commits_between(
        &self,
        repository: u64,
        base: &Sha,
        head: &Sha,
        limit: usize,
    ) -> Result<Vec<Commit>, GitError> {
        let count = format!("--max-count={limit}");
        let range = format!("{base}..{head}");
        let mut commits = self.log(repository, &["--topo-order", &count, &range]).await?;
        commits.reverse();
        Ok(commits)
    }

    /// The newest commits that lead to `head`, newest first.
    pub async fn recent_commits(&self, repository: u64, head: &Sha, limit: usize) -> Result<Vec<Commit>, GitError> {
        let count = format!("--max-count={limit}");
        self.log(repository, &[&count, head.as_str()]).await
    }

    /// How many commits `head` has that `base` has not.
    pub async fn count_between(&self, repository: u64, base: &Sha, head: &Sha) -> Result<u64, GitError> {
        let range = format!("{base}..{head}");
        let output = self.check(Some(&self.folder(repository)), &["rev-list", "--count", &range], None).await?;
        String::from_utf8_lossy(&output).trim().parse().map_err(|_| GitError::Unexpected { command: "rev-list".into() })
    }

    /// The best common ancestor, if the histories meet.
    pub async fn merge_base(&self, repository: u64, one: &Sha, other: &Sha) -> Result<Option<Sha>, GitError> {
        let output = self
            .run(Some(&self.folder(repository)), &["merge-base", one.as_str(), other.as_str()], None, MAX_OUTPUT_BYTES)
            .await?;
        Ok(Sha::parse(String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// Paths of the files of a commit, at most [`MAX_FILES`].
    pub async fn files(&self, repository: u64, commit: &Sha) -> Result<Vec<String>, GitError> {
        let output = self
            .check(
                Some(&self.folder(repository)),
                &["ls-tree", "-r", "-z", "--name-only", "--full-tree", commit.as_str()],
                None,
            )
            .await?;
        Ok(output
            .split(|b| *b == 0)
            .filter(|path| !path.is_empty())
            .take(MAX_FILES)
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect())
    }

    /// A file's bytes at a commit, cut at [`MAX_FILE_BYTES`]; `None` when there is no such file.
    pub async fn file(&self, repository: u64, commit: &Sha, path: &str) -> Result<Option<Vec<u8>>, GitError> {
        if path.is_empty() || path.contains('\0') {
            return Ok(None);
        }
        let object = format!("{commit}:{path}");
        let output =
            self.run(Some(&self.folder(repository)), &["cat-file", "blob", &object], None, MAX_FILE_BYTES).await?;
        Ok((output.code == 0).then_some(output.stdout))
    }

    async fn log(&self, repository: u64, arguments: &[&str]) -> Result<Vec<Commit>, GitError> {
        let mut all = vec!["log", "--no-color", "--no-show-signature", FORMAT];
        all.extend(arguments);
        all.push("--");
        let output = self.check(Some(&self.folder(repository)), &all, None).await?;
        String::from_utf8_lossy(&output)
            .split("\0\u{1}")
            .map(|record| record.trim_start_matches('\n'))
            .filter(|record| !record.is_empty())
            .map(|record| parse_commit(record).ok_or_else(|| GitError::Unexpected { command: "log".into() }))
            .collect()
    }
}

fn parse_commit(record: &str) -> Option<Commit> {
    let mut fields = record.splitn(10, '\0');
    let mut next = || fields.next();
    let sha = Sha::parse(next()?)?;
    let tree = Sha::parse(next()?)?;
    let parents = next()?.split_whitespace().map(Sha::parse).collect::<Option<_>>()?;
    let mut person = || {
        Some(Person {
            name: next()?.to_owned(),
            email: next()?.to_owned(),
            at: Timestamp::from_second(next()?.parse().ok()?).ok()?,
        })
    };
    let author = person()?;
    let committer = person()?;
    let message = fields.next()?.trim_end().to_owned();
    Some(Commit { sha, tree, parents, author, committer, message })
}
