//! What a session changed since its start (session.md 7.8): the bundle that a sandbox uploads, and what pages are shown
//! of it. A bundle is checked whole by [`DiffBundle::check`]; the session adds that it is of its own repositories.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::serde_rules::{absent, nullable};
use crate::text::utf16_len;
use crate::time::UnixMillis;

/// The one version of bundles and states.
pub const VERSION: u32 = 1;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DiffFileStatus {
    /// It is new.
    Added,
    /// Its content or mode changed.
    Modified,
    /// It is gone.
    Deleted,
    /// It has another path.
    Renamed,
    /// It became a file of another kind, such as a link.
    TypeChanged,
    /// A merge left it open.
    Unmerged,
    /// It is another repository's commit.
    Submodule,
}

/// Whether a file's change can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DiffRenderState {
    /// It has a patch.
    Renderable,
    /// It is no text.
    Binary,
    /// Its patch was left out.
    TooLarge,
    /// There is nothing to show but its metadata.
    MetadataOnly,
}

/// A file that changed. A bundle's has its patch, a manifest's has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffFile {
    /// Unique in the bundle: 1 to 200 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
    /// From the checkout's root; 1 to 4096 UTF-16 units.
    pub path: String,
    /// Where it was; only of what was renamed.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub old_path: Option<String>,
    /// What happened.
    pub status: DiffFileStatus,
    /// Lines; null when nobody counted.
    #[serde(deserialize_with = "nullable")]
    pub additions: Option<u32>,
    /// Lines; null when nobody counted.
    #[serde(deserialize_with = "nullable")]
    pub deletions: Option<u32>,
    /// Whether it can be shown.
    pub render_state: DiffRenderState,
    /// The patch: exactly of what is renderable. Never in a manifest.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub patch: Option<String>,
    /// Mode before, when it changed.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub old_mode: Option<String>,
    /// Mode now, when it changed.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub new_mode: Option<String>,
    /// Commit of a submodule before.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub old_submodule_sha: Option<String>,
    /// Commit of a submodule now.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub new_submodule_sha: Option<String>,
}

/// What changed in one repository of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DiffRepository {
    /// It was compared.
    Ready {
        /// Place in the session's list.
        position: u32,
        /// Owner.
        repo_owner: String,
        /// Name.
        repo_name: String,
        /// Commit that the session started from.
        base_sha: String,
        /// Commit that is checked out.
        head_sha: String,
        /// Whether patches or files were left out.
        truncated: bool,
        /// Files that were left out.
        omitted_file_count: u32,
        /// Those that were not.
        files: Vec<DiffFile>,
    },
    /// It could not be compared.
    Unavailable {
        /// Place in the session's list.
        position: u32,
        /// Owner.
        repo_owner: String,
        /// Name.
        repo_name: String,
        /// Commit that the session started from, when it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional = nullable))]
        base_sha: Option<String>,
        /// Why; 1 to 2000 UTF-16 units.
        error: String,
        /// None.
        files: Vec<DiffFile>,
    },
}

/// `PUT /sessions/:id/diff`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffBundle {
    /// 1
    pub version: u32,
    /// The prompt after which it was taken; null when somebody asked for it.
    #[serde(deserialize_with = "nullable")]
    pub trigger_message_id: Option<String>,
    /// When it was taken.
    pub captured_at: UnixMillis,
    /// 1 to 10: every repository of the session.
    pub repositories: Vec<DiffRepository>,
}

/// A bundle that was stored, without its patches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffManifest {
    /// Names it; each bundle has another.
    pub revision_id: String,
    /// The prompt after which it was taken; null when somebody asked for it.
    #[serde(deserialize_with = "nullable")]
    pub trigger_message_id: Option<String>,
    /// When it was taken.
    pub captured_at: UnixMillis,
    /// Every repository of the session.
    pub repositories: Vec<DiffRepository>,
}

/// Why the newest attempt gave no bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffError {
    /// The sentence.
    pub message: String,
    /// When it was reported.
    pub occurred_at: UnixMillis,
}

/// Answer of `GET /sessions/:id/diff`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffState {
    /// 1
    pub version: u32,
    /// The newest bundle.
    pub current: Option<DiffManifest>,
    /// Why no newer one came.
    pub last_error: Option<DiffError>,
    /// Why there can be none.
    pub unavailable_reason: Option<String>,
}

/// Answer of `PUT /sessions/:id/diff`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffStored {
    /// The new bundle's name.
    pub revision_id: String,
}

/// `POST /sessions/:id/diff/failure`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffFailure {
    /// 1 to 2000 UTF-16 units.
    pub error: String,
}

/// What is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBundle(&'static str);

/// Whether a text can name a revision or a file.
pub fn is_diff_id(text: &str) -> bool {
    (1..=limits::DIFF_ID_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a text is a commit's name: 40 to 64 hex digits.
pub fn is_sha(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a sentence of the sandbox about its diffs can be kept.
pub fn is_error(text: &str) -> bool {
    (1..=limits::DIFF_ERROR_MAX_UTF16).contains(&utf16_len(text))
}

fn ensure(holds: bool, broken: &'static str) -> Result<(), BadBundle> {
    if holds { Ok(()) } else { Err(BadBundle(broken)) }
}

impl DiffFile {
    fn check(&self) -> Result<(), BadBundle> {
        let is_path = |path: &str| (1..=limits::DIFF_PATH_MAX_UTF16).contains(&utf16_len(path)) && !path.contains('\0');
        ensure(is_diff_id(&self.id), "a file's id is malformed")?;
        ensure(is_path(&self.path), "a path is malformed")?;
        ensure(self.old_path.as_deref().is_none_or(is_path), "an old path is malformed")?;
        ensure(
            self.old_path.is_none() || self.status == DiffFileStatus::Renamed,
            "only a file that was renamed has an old path",
        )?;
        let renderable = self.render_state == DiffRenderState::Renderable;
        ensure(self.patch.is_some() == renderable, "exactly what is renderable has a patch")?;
        let bytes = self.patch.as_ref().map_or(0, String::len);
        ensure(bytes <= limits::DIFF_PATCH_MAX_BYTES, "a patch is too long")?;
        let modes = [&self.old_mode, &self.new_mode];
        ensure(modes.into_iter().flatten().all(|mode| mode.len() <= 20), "a mode is malformed")?;
        let shas = [&self.old_submodule_sha, &self.new_submodule_sha];
        ensure(shas.into_iter().flatten().all(|sha| is_sha(sha)), "a submodule's commit is malformed")
    }
}

impl DiffRepository {
    /// Place, owner and name.
    pub fn identity(&self) -> (u32, &str, &str) {
        match self {
            Self::Ready { position, repo_owner, repo_name, .. }
            | Self::Unavailable { position, repo_owner, repo_name, .. } => (*position, repo_owner, repo_name),
        }
    }

    /// The commit that it was compared with.
    pub fn base_sha(&self) -> Option<&str> {
        match self {
            Self::Ready { base_sha, .. } => Some(base_sha),
            Self::Unavailable { base_sha, .. } => base_sha.as_deref(),
        }
    }

    /// Its files.
    pub fn files(&self) -> &[DiffFile] {
        match self {
            Self::Ready { files, .. } | Self::Unavailable { files, .. } => files,
        }
    }

    /// Its files, to take the patches out.
    pub fn files_mut(&mut self) -> &mut [DiffFile] {
        match self {
            Self::Ready { files, .. } | Self::Unavailable { files, .. } => files,
        }
    }

    fn check(&self) -> Result<(), BadBundle> {
        let (_, owner, name) = self.identity();
        ensure((1..=300).contains(&utf16_len(owner)), "an owner is malformed")?;
        ensure((1..=200).contains(&utf16_len(name)) && !name.contains('/'), "a repository's name is malformed")?;
        ensure(self.base_sha().is_none_or(is_sha), "a base commit is malformed")?;
        match self {
            Self::Ready { head_sha, .. } => ensure(is_sha(head_sha), "a head commit is malformed")?,
            Self::Unavailable { error, files, .. } => {
                ensure(is_error(error), "an error is malformed")?;
                ensure(files.is_empty(), "what is unavailable has no files")?;
            }
        }
        let mut paths = HashSet::new();
        for file in self.files() {
            file.check()?;
            ensure(paths.insert(file.path.as_str()), "a path is there twice")?;
        }
        Ok(())
    }
}

impl DiffBundle {
    /// Whether the bundle is of the form and within the limits that every session has. Its bytes as they were sent are
    /// the matter of who receives them.
    pub fn check(&self) -> Result<(), BadBundle> {
        ensure(self.version == VERSION, "the version is unknown")?;
        let trigger = self.trigger_message_id.as_deref().map(utf16_len);
        ensure(trigger.is_none_or(|units| (1..=200).contains(&units)), "the trigger is malformed")?;
        ensure((0..1 << 53).contains(&self.captured_at.0), "the time is out of bounds")?;
        let count = self.repositories.len();
        ensure((1..=limits::DIFF_MAX_REPOSITORIES).contains(&count), "the repositories are too few or too many")?;
        let files: usize = self.repositories.iter().map(|repository| repository.files().len()).sum();
        ensure(files <= limits::DIFF_MAX_FILES, "the files are too many")?;
        let (mut positions, mut names, mut ids) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut patch_bytes = 0;
        for repository in &self.repositories {
            repository.check()?;
            let (position, owner, name) = repository.identity();
            ensure(positions.insert(position), "a position is there twice")?;
            ensure(names.insert((owner.to_lowercase(), name.to_lowercase())), "a repository is there twice")?;
            for file in repository.files() {
                ensure(ids.insert(file.id.as_str()), "a file's id is there twice")?;
                patch_bytes += file.patch.as_ref().map_or(0, String::len);
            }
        }
        ensure(patch_bytes <= limits::DIFF_PATCHES_MAX_BYTES, "the patches are too long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn file(n: usize, patch: &str) -> Value {
        json!({"id": format!("f{n}"), "path": format!("src/{n}.rs"), "status": "modified", "additions": 1,
            "deletions": null, "renderState": "renderable", "patch": patch})
    }

    fn ready(position: u32, name: &str, files: &Value) -> Value {
        json!({"status": "ready", "position": position, "repoOwner": "acme", "repoName": name,
            "baseSha": "a".repeat(40), "headSha": "b".repeat(64), "truncated": false, "omittedFileCount": 0,
            "files": files})
    }

    fn bundle(repositories: &Value) -> Value {
        json!({"version": 1, "triggerMessageId": null, "capturedAt": 1_800_000_000_000_i64,
            "repositories": repositories})
    }

    /// The bundle with one value put elsewhere, as JSON pointers name it.
    fn with(pointer: &str, value: Value) -> Value {
        let mut whole = bundle(&json!([ready(0, "app", &json!([file(0, "@@"), file(1, "@@")]))]));
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        whole.pointer_mut(parent).expect("a place")[key] = value;
        whole
    }

    fn check(whole: &Value) -> Result<(), String> {
        let read: DiffBundle = serde_json::from_value(whole.clone()).map_err(|error| error.to_string())?;
        read.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_bundle_is_within_its_limits() {
        assert_eq!(check(&with("/version", json!(1))), Ok(()));
        let full = |count: usize| bundle(&json!([ready(0, "app", &(0..count).map(|n| file(n, "")).collect())]));
        assert_eq!(check(&full(1_000)), Ok(()));
        assert!(check(&full(1_001)).is_err(), "a file too many");
        let half = "x".repeat(524_288);
        let two = ready(0, "app", &json!([file(0, &half), file(1, &half)]));
        assert_eq!(check(&bundle(&json!([two]))), Ok(()), "a mebibyte of patches");
        let three = ready(0, "app", &json!([file(0, &half), file(1, &half), file(2, "x")]));
        assert!(check(&bundle(&json!([three]))).is_err(), "and a byte more");
        assert!(check(&with("/repositories/0/files/0/patch", json!(format!("{half}x")))).is_err());
        // A character of two bytes counts as two.
        assert!(check(&with("/repositories/0/files/0/patch", json!("é".repeat(262_145)))).is_err());
        let several = |count: u32| bundle(&(0..count).map(|n| ready(n, &format!("r{n}"), &json!([]))).collect());
        assert_eq!(check(&several(10)), Ok(()));
        assert!(check(&several(11)).is_err() && check(&several(0)).is_err());
        let files = json!([{"id": "other", "path": "x", "status": "renamed", "oldPath": "y", "additions": 0,
            "deletions": 0, "renderState": "metadata_only", "oldMode": "100644", "newMode": "100755"}]);
        assert_eq!(check(&bundle(&json!([ready(0, "app", &files)]))), Ok(()));
    }

    #[test]
    fn a_bundle_of_another_form_is_refused() {
        let first = "/repositories/0/files/0";
        for (pointer, value) in [
            ("/version".to_owned(), json!(2)),
            ("/triggerMessageId".to_owned(), json!("")),
            ("/triggerMessageId".to_owned(), json!("x".repeat(201))),
            ("/capturedAt".to_owned(), json!(-1)),
            ("/capturedAt".to_owned(), json!("now")),
            ("/repositories".to_owned(), json!([])),
            ("/repositories/0/status".to_owned(), json!("done")),
            ("/repositories/0/position".to_owned(), json!(-1)),
            ("/repositories/0/repoOwner".to_owned(), json!("")),
            ("/repositories/0/repoName".to_owned(), json!("a/b")),
            ("/repositories/0/baseSha".to_owned(), json!("a".repeat(39))),
            ("/repositories/0/headSha".to_owned(), json!("g".repeat(40))),
            ("/repositories/0/truncated".to_owned(), Value::Null),
            ("/repositories/0/omittedFileCount".to_owned(), json!(-1)),
            (format!("{first}/id"), json!("f1")),
            (format!("{first}/id"), json!("a b")),
            (format!("{first}/id"), json!("x".repeat(201))),
            (format!("{first}/path"), json!("src/1.rs")),
            (format!("{first}/path"), json!("")),
            (format!("{first}/path"), json!("a\0b")),
            (format!("{first}/path"), json!("x".repeat(4_097))),
            (format!("{first}/oldPath"), json!("elsewhere")),
            (format!("{first}/oldPath"), Value::Null),
            (format!("{first}/status"), json!("copied")),
            (format!("{first}/additions"), json!(1.5)),
            (format!("{first}/renderState"), json!("binary")),
            (format!("{first}/patch"), Value::Null),
            (format!("{first}/oldMode"), json!("1".repeat(21))),
            (format!("{first}/newSubmoduleSha"), json!("short")),
        ] {
            assert!(check(&with(&pointer, value.clone())).is_err(), "{pointer}: {value}");
        }
        let mut without = with("/version", json!(1));
        without["repositories"][0]["files"][0].as_object_mut().expect("a file").remove("additions");
        assert!(check(&without).is_err(), "a count may be null and not left out");
        let mut twice = bundle(&json!([ready(0, "app", &json!([])), ready(1, "APP", &json!([]))]));
        assert!(check(&twice).is_err(), "a repository twice");
        twice["repositories"][1] = ready(0, "other", &json!([]));
        assert!(check(&twice).is_err(), "a position twice");
    }

    #[test]
    fn what_is_unavailable_says_why_and_has_no_files() {
        let unavailable = |error: &str, files: Value| {
            bundle(&json!([{"status": "unavailable", "position": 0, "repoOwner": "acme", "repoName": "app",
                "baseSha": "a".repeat(40), "error": error, "files": files}]))
        };
        assert_eq!(check(&unavailable("gone", json!([]))), Ok(()));
        assert!(check(&unavailable("", json!([]))).is_err());
        assert!(check(&unavailable(&"x".repeat(2_001), json!([]))).is_err());
        assert!(check(&unavailable("gone", json!([file(0, "@@")]))).is_err());
    }
}
