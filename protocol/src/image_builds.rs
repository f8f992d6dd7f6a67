//! Images of repositories that are built ahead: REST shapes (control-plane.md 1.11). Rows are in snake case, as they are
//! stored; the rest is in camel case.

use serde::{Deserialize, Serialize};

/// A build, or the image that it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildRow {
    /// Its id.
    pub id: String,
    /// `repo` or `environment`
    pub scope_kind: String,
    /// `owner/name`, or the environment's id.
    pub scope_id: String,
    /// The sandbox provider.
    pub provider: String,
    /// `building`, `ready`, `failed` or `superseded`
    pub status: String,
    /// What it is of: repositories and branches.
    pub repositories_fingerprint: String,
    /// The commits in it, as JSON: `[{repoOwner, repoName, baseSha}]`.
    pub repository_shas: String,
    /// The runtime in it.
    pub runtime_version: String,
    /// How long it took.
    pub build_duration_seconds: Option<f64>,
    /// Why it failed or ended, and when it is tried again; without secrets.
    pub error_message: Option<String>,
    /// When it was begun, in ms.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub created_at: i64,
}

/// `GET /image-builds/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildList {
    /// Newest first.
    pub images: Vec<ImageBuildRow>,
    /// Pass as `cursor` for the next page.
    #[serde(rename = "nextCursor", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub next_cursor: Option<String>,
}

/// `POST /image-builds/trigger/...`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildTriggered {
    /// The build that goes on.
    pub build_id: String,
    /// `building`
    pub status: String,
    /// Whether it went on before.
    pub already_building: bool,
}

/// What images are built ahead of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildUnit {
    /// `repo` or `environment`
    pub scope_kind: String,
    /// `owner/name`, or the environment's id.
    pub scope_id: String,
    /// What its image would be of now.
    pub repositories_fingerprint: String,
}

/// `GET /image-builds/enabled`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildUnits {
    /// Repositories by name, then environments by id.
    pub units: Vec<ImageBuildUnit>,
    /// Pass as `cursor` for the next page.
    #[serde(rename = "nextCursor", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub next_cursor: Option<String>,
}

/// A repository whose images are built ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildRepository {
    /// Owner, in lower case.
    pub repo_owner: String,
    /// Name, in lower case.
    pub repo_name: String,
}

/// `GET /image-builds/enabled-repos`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ImageBuildRepositories {
    /// By name.
    pub repos: Vec<ImageBuildRepository>,
    /// Pass as `cursor` for the next page.
    #[serde(rename = "nextCursor", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub next_cursor: Option<String>,
}

/// `PUT /image-builds/toggle/repo/:owner/:name`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ToggleImageBuilds {
    /// Whether images are built ahead.
    pub enabled: bool,
}
