//! Asks git what changed in one checkout. What the agent or the repository configured for git decides nothing here: no
//! external program, no text conversion, no colours.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use oi_protocol::diff::{DiffFile, DiffFileStatus, DiffRenderState, DiffRepository, is_sha};
use oi_protocol::limits;
use oi_protocol::text::utf16_len;

use super::OWN_FILES;
use super::fit::Room;
use super::listing::{self, Changed, Counts, GitPath};
use crate::git::{Checkout, Git, GitBytes};
use crate::random;

/// One git command takes at most this long.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
/// Lists of files.
const LIST_MAX_BYTES: usize = 8_000_000;

/// Git that reads only what it is asked for.
pub fn careful(git: &Git) -> Git {
    git.with(&[
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ])
}

struct Repository<'a> {
    git: &'a Git,
    path: &'a Path,
    base: &'a str,
}

/// Before every command: a program that the repository names would be run by whatever reads the index.
const COMMON: [&str; 3] = ["--no-pager", "-c", "core.fsmonitor=false"];
/// Every comparison.
const COMPARED: [&str; 4] = ["diff", "--no-ext-diff", "--no-textconv", "--no-color"];

impl Repository<'_> {
    async fn list(&self, what: &str, args: &[&str]) -> Result<Vec<u8>, String> {
        let args: Vec<&str> = COMMON.iter().chain(args).copied().collect();
        let output = self.git.bytes(self.path, &args, COMMAND_LIMIT, LIST_MAX_BYTES).await;
        let output = output.map_err(|error| error.to_string())?;
        if output.cut {
            return Err("The list of changes is too long".to_owned());
        }
        if !output.status.success() {
            return Err(format!("git could not {what}: {}", crate::git::telling(&output.stderr)));
        }
        Ok(output.stdout)
    }

    async fn compared(&self, what: &str, args: &[&str]) -> Result<Vec<u8>, String> {
        let args: Vec<&str> = COMPARED.iter().chain(args).copied().chain([self.base, "--"]).collect();
        self.list(what, &args).await
    }

    async fn commit(&self, revision: &str) -> Result<String, String> {
        let name = format!("{revision}^{{commit}}");
        let sha = self.list("find a commit", &["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await?;
        let sha = String::from_utf8_lossy(&sha).trim().to_ascii_lowercase();
        if is_sha(&sha) { Ok(sha) } else { Err("git named no commit".to_owned()) }
    }

    /// A patch with the whole file around the change; `None` when it is too long.
    async fn patch(&self, changed: &Changed, is_untracked: bool) -> Result<Option<String>, String> {
        let mut args: Vec<OsString> = COMMON.iter().chain(&COMPARED).map(OsString::from).collect();
        args.extend(["--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--unified=1000000"].map(OsString::from));
        if is_untracked {
            args.extend(["--no-index", "--", "/dev/null"].map(OsString::from));
        } else {
            args.extend(["--find-renames", self.base, "--"].map(OsString::from));
            args.extend(changed.old_path.iter().map(|path| OsStr::from_bytes(&path.0).to_owned()));
        }
        args.push(OsStr::from_bytes(&changed.path.0).to_owned());
        let output = self.git.bytes(self.path, &args, COMMAND_LIMIT, limits::DIFF_PATCH_MAX_BYTES).await;
        let GitBytes { status, stdout, cut, stderr } = output.map_err(|error| error.to_string())?;
        // Without an index, 1 says that there is a difference.
        let went_well = status.success() || (is_untracked && status.code() == Some(1));
        if cut {
            return Ok(None);
        }
        if !went_well {
            return Err(format!("git could not compare a file: {}", crate::git::telling(&stderr)));
        }
        let text = String::from_utf8_lossy(&stdout).into_owned();
        Ok((text.len() <= limits::DIFF_PATCH_MAX_BYTES).then_some(text))
    }

    /// The commit that a submodule's folder is at.
    async fn submodule_head(&self, path: &GitPath) -> Option<String> {
        let inner = Repository { git: self.git, path: &self.path.join(OsStr::from_bytes(&path.0)), base: self.base };
        // A folder that was never filled belongs to the repository around it.
        inner.path.join(".git").exists().then_some(())?;
        inner.commit("HEAD").await.ok()
    }
}

/// Lists that several commands gave, put together.
struct Found {
    changed: Vec<(Changed, bool)>,
    counts: HashMap<GitPath, Counts>,
}

async fn find(repository: &Repository<'_>) -> Result<Found, String> {
    let malformed = |error: listing::Malformed| error.to_string();
    let raw = repository.compared("list changes", &["--raw", "-z", "--no-abbrev", "--find-renames"]).await?;
    let mut changed = listing::raw(&raw).map_err(malformed)?;
    let counts = repository.compared("count lines", &["--numstat", "-z", "--find-renames"]).await?;
    let mut counts = listing::numstat(&counts).map_err(malformed)?;
    // A comparison with a commit does not say what a merge left open.
    let conflicts: Vec<&str> = COMPARED.iter().copied().chain(["--diff-filter=U", "--name-only", "-z"]).collect();
    let unmerged = repository.list("list conflicts", &conflicts).await?;
    let unmerged: HashSet<GitPath> = listing::paths(&unmerged).into_iter().collect();
    let untracked = repository.list("list new files", &["ls-files", "--others", "--exclude-standard", "-z"]).await?;
    let untracked: HashSet<GitPath> =
        listing::paths(&untracked).into_iter().filter(|path| !is_own(path) && !path.0.ends_with(b"/")).collect();

    for file in changed.iter_mut().filter(|file| unmerged.contains(&file.path)) {
        file.status = DiffFileStatus::Unmerged;
        file.old_path = None;
    }
    let mut seen = HashSet::new();
    changed.retain(|file| seen.insert(file.path.clone()) && !is_own(&file.path));
    for file in &mut changed {
        // Git no longer follows it, but it is there.
        if file.status == DiffFileStatus::Deleted && untracked.contains(&file.path) {
            file.status = DiffFileStatus::Modified;
            file.modes = (None, None);
            counts.remove(&file.path);
        }
    }
    let mut all: Vec<(Changed, bool)> = changed.into_iter().map(|file| (file, false)).collect();
    all.extend(untracked.into_iter().filter(|path| !seen.contains(path)).map(|path| {
        let (modes, submodule) = ((None, None), (None, None));
        (Changed { path, old_path: None, status: DiffFileStatus::Added, modes, submodule }, true)
    }));
    all.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    Ok(Found { changed: all, counts })
}

fn is_own(path: &GitPath) -> bool {
    OWN_FILES
        .iter()
        .any(|own| path.0.strip_prefix(own.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
}

fn lines(patch: &str, sign: char) -> u32 {
    let in_hunks = patch.lines().skip_while(|line| !line.starts_with("@@"));
    u32::try_from(in_hunks.filter(|line| line.starts_with(sign)).count()).unwrap_or(u32::MAX)
}

fn is_path(text: &str) -> bool {
    (1..=limits::DIFF_PATH_MAX_UTF16).contains(&utf16_len(text))
}

/// What changed in a checkout since `base`. The error is a sentence for people.
pub async fn repository(git: &Git, checkout: &Checkout, base: &str, room: &mut Room) -> Result<DiffRepository, String> {
    let repository = Repository { git, path: &checkout.path, base };
    let base_sha = repository.commit(base).await.map_err(|_| "The commit that the session began with is gone")?;
    let head_sha = repository.commit("HEAD").await?;
    let found = find(&repository).await?;
    let (mut files, mut omitted) = (Vec::new(), 0_u32);
    for (mut changed, is_untracked) in found.changed {
        let told = is_path(&changed.path.text()) && changed.old_path.as_ref().is_none_or(|path| is_path(&path.text()));
        if !told || !room.take_file() {
            omitted += 1;
            continue;
        }
        if changed.status == DiffFileStatus::Submodule && changed.submodule.1.is_none() {
            changed.submodule.1 = repository.submodule_head(&changed.path).await;
        }
        let counts = found.counts.get(&changed.path).copied();
        files.push(file(&repository, &changed, is_untracked, counts, room).await?);
    }
    Ok(DiffRepository::Ready {
        position: checkout.position,
        repo_owner: checkout.owner.clone(),
        repo_name: checkout.name.clone(),
        base_sha,
        head_sha,
        truncated: omitted > 0,
        omitted_file_count: omitted,
        files,
    })
}

async fn file(
    repository: &Repository<'_>,
    changed: &Changed,
    is_untracked: bool,
    counts: Option<Counts>,
    room: &mut Room,
) -> Result<DiffFile, String> {
    let id = random::hex::<16>();
    // What git no longer follows but is there has no lines that could be counted.
    let has_none =
        changed.status == DiffFileStatus::Submodule || (changed.status == DiffFileStatus::Modified && counts.is_none());
    let (render_state, patch, counts) = if has_none {
        (DiffRenderState::MetadataOnly, None, counts.flatten())
    } else if counts == Some(None) {
        (DiffRenderState::Binary, None, None)
    } else {
        match repository.patch(changed, is_untracked).await? {
            None => (DiffRenderState::TooLarge, None, counts.flatten()),
            Some(patch) if is_untracked && patch.contains("\nBinary files ") => (DiffRenderState::Binary, None, None),
            Some(patch) if !patch.contains("\n@@") => {
                (DiffRenderState::MetadataOnly, None, counts.flatten().or(Some((0, 0))))
            }
            Some(patch) => {
                let counted = counts.flatten().or_else(|| Some((lines(&patch, '+'), lines(&patch, '-'))));
                room.take_patch(&id, patch.len());
                (DiffRenderState::Renderable, Some(patch), counted)
            }
        }
    };
    Ok(DiffFile {
        id,
        path: changed.path.text(),
        old_path: changed.old_path.as_ref().map(GitPath::text),
        status: changed.status,
        additions: counts.map(|(added, _)| added),
        deletions: counts.map(|(_, deleted)| deleted),
        render_state,
        patch,
        old_mode: changed.modes.0.clone(),
        new_mode: changed.modes.1.clone(),
        old_submodule_sha: changed.submodule.0.clone(),
        new_submodule_sha: changed.submodule.1.clone(),
    })
}
