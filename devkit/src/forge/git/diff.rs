//! What changed between two commits, file by file.

use super::{Git, GitError, Sha};

/// Most bytes of a diff that are read; files after it are listed without their patch.
const MAX_DIFF_BYTES: usize = 1024 * 1024;
/// Most files of a diff that are listed, as GitHub's limit for one pull request.
const MAX_DIFF_FILES: usize = 3_000;
/// Git's empty tree: what a first commit is compared with.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStatus {
    Added,
    Removed,
    Modified,
    Renamed,
    Copied,
    Changed,
}

impl FileStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Modified => "modified",
            Self::Renamed => "renamed",
            Self::Copied => "copied",
            Self::Changed => "changed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    pub path: String,
    /// The path before a rename or copy.
    pub previous_path: Option<String>,
    pub status: FileStatus,
    /// Id of the file's content after the change (before it, when removed).
    pub blob: String,
    pub additions: u64,
    pub deletions: u64,
    /// The hunks, without the `diff --git` header; none for a binary file or beyond the size limit.
    pub patch: Option<String>,
}

impl Git {
    /// What a branch changed since it left the base: from their common ancestor to `head`.
    pub async fn changes_since_fork(
        &self,
        repository: u64,
        base: &Sha,
        head: &Sha,
    ) -> Result<Vec<ChangedFile>, GitError> {
        let fork = self.merge_base(repository, base, head).await?;
        self.diff(repository, fork.as_ref().map_or(EMPTY_TREE, Sha::as_str), head).await
    }

    /// What one commit changed, compared with its first parent.
    pub async fn changes_of(
        &self,
        repository: u64,
        parent: Option<&Sha>,
        commit: &Sha,
    ) -> Result<Vec<ChangedFile>, GitError> {
        self.diff(repository, parent.map_or(EMPTY_TREE, Sha::as_str), commit).await
    }

    async fn diff(&self, repository: u64, from: &str, to: &Sha) -> Result<Vec<ChangedFile>, GitError> {
        let folder = self.folder(repository);
        let common = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "-M"];
        let mut list = common.to_vec();
        list.extend(["--raw", "--numstat", "-z", "--no-abbrev", from, to.as_str(), "--"]);
        let listed = self.check(Some(&folder), &list, None).await?;
        let mut files = parse_list(&listed).ok_or_else(|| GitError::Unexpected { command: "diff".into() })?;
        let mut patch = common.to_vec();
        patch.extend(["--patch", "--full-index", from, to.as_str(), "--"]);
        let patched = self.run(Some(&folder), &patch, None, MAX_DIFF_BYTES).await?;
        let text = String::from_utf8_lossy(&patched.stdout);
        let mut patches = split_patches(&text);
        if patched.truncated {
            patches.pop();
        }
        for (file, patch) in files.iter_mut().zip(patches) {
            file.patch = patch.find("\n@@ ").map(|at| patch[at + 1..].trim_end_matches('\n').to_owned());
        }
        files.truncate(MAX_DIFF_FILES);
        Ok(files)
    }
}

/// Splits a patch by file: only a file's header starts a line with `diff --git `, as content lines start with a
/// space, a sign or a backslash.
fn split_patches(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text
        .match_indices("diff --git ")
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
        .collect();
    starts.push(text.len());
    starts.windows(2).map(|w| &text[w[0]..w[1]]).collect()
}

/// Reads `--raw --numstat -z`: first all raw records, then all counts, in the same order.
fn parse_list(bytes: &[u8]) -> Option<Vec<ChangedFile>> {
    let text = String::from_utf8_lossy(bytes);
    let mut fields = text.split('\0').peekable();
    let mut files = Vec::new();
    while fields.peek().is_some_and(|f| f.starts_with(':')) {
        let head: Vec<&str> = fields.next()?.split(' ').collect();
        let [_, _, before, after, status] = head[..] else {
            return None;
        };
        let first = fields.next()?.to_owned();
        let (status, renamed) = match status.as_bytes().first()? {
            b'A' => (FileStatus::Added, false),
            b'D' => (FileStatus::Removed, false),
            b'M' => (FileStatus::Modified, false),
            b'R' => (FileStatus::Renamed, true),
            b'C' => (FileStatus::Copied, true),
            _ => (FileStatus::Changed, false),
        };
        let (path, previous_path) = if renamed { (fields.next()?.to_owned(), Some(first)) } else { (first, None) };
        let blob = if status == FileStatus::Removed { before } else { after };
        files.push(ChangedFile {
            path,
            previous_path,
            status,
            blob: blob.to_owned(),
            additions: 0,
            deletions: 0,
            patch: None,
        });
    }
    for file in &mut files {
        let mut counts = fields.next()?.splitn(3, '\t');
        // A binary file has `-` for both.
        file.additions = counts.next()?.parse().unwrap_or(0);
        file.deletions = counts.next()?.parse().unwrap_or(0);
        if counts.next()?.is_empty() {
            // A rename's two paths follow as fields of their own.
            fields.next()?;
            fields.next()?;
        }
    }
    Some(files)
}
