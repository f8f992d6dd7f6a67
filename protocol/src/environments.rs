//! Environments and what is known of repositories: REST shapes (control-plane.md 1.10).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::InvalidId;
use crate::serde_rules::absent;
use crate::time::UnixMillis;

/// Most repositories of an environment or a session.
pub const REPOSITORIES_MAX: usize = 10;
/// Longest name of an environment, in UTF-16 code units.
pub const NAME_MAX_UTF16: usize = 200;
/// Longest description, in UTF-16 code units.
pub const DESCRIPTION_MAX_UTF16: usize = 2_000;
/// Most words of a list, such as channels, aliases and keywords.
pub const WORDS_MAX: usize = 50;
/// Longest of them, in UTF-16 code units.
pub const WORD_MAX_UTF16: usize = 64;

/// The id of an environment: `env_` and more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct EnvironmentId(#[cfg_attr(feature = "schema", schemars(regex(pattern = r"^env_[A-Za-z0-9_-]+$")))] String);

impl EnvironmentId {
    /// A new one.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(format!("env_{}", crate::ids::SessionId::from_bytes(bytes)))
    }

    /// `env_`, then up to 100 letters, digits, `_` and `-`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let rest = text.strip_prefix("env_").ok_or(InvalidId)?;
        let fits = (1..=100).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EnvironmentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A repository that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct WantedRepository {
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// Branch that work starts from; the repository's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub base_branch: Option<String>,
}

/// A repository of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct EnvironmentRepository {
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// The forge's number for it.
    pub repo_id: Option<i64>,
    /// Branch that work starts from.
    pub base_branch: String,
}

/// An environment: repositories that are worked on together, with secrets of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Environment {
    /// Id.
    pub id: EnvironmentId,
    /// One of its kind, whatever its case.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whether images are built ahead.
    pub prebuild_enabled: bool,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// Chat channels whose sessions use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub channel_associations: Option<Vec<String>>,
    /// In order; the first is the primary.
    pub repositories: Vec<EnvironmentRepository>,
    /// Grows with each change; sent with one, it refuses what somebody else has changed since.
    pub version: i64,
}

/// Answer of `GET /environments`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct EnvironmentList {
    /// Newest first.
    pub environments: Vec<Environment>,
    /// How many there are.
    pub total: i64,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub next_cursor: Option<String>,
}

/// Answer of `POST /environments` and of `GET` and `PUT /environments/:id`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct EnvironmentAnswer {
    /// It.
    pub environment: Environment,
}

/// What is known of a repository beyond what the forge says. Absent is unset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct RepositoryMetadata {
    /// What it is.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub description: Option<String>,
    /// Other names that people use for it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub aliases: Option<Vec<String>>,
    /// Chat channels that are about it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub channel_associations: Option<Vec<String>>,
    /// Words that tell that it is meant.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub keywords: Option<Vec<String>>,
    /// Environment of sessions that a bot starts for it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub default_environment_id: Option<EnvironmentId>,
    /// Grows with each change; sent with one, it refuses what somebody else has changed since.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub version: Option<i64>,
}

/// Answer of `GET /repos/:owner/:name/metadata`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct RepositoryMetadataAnswer {
    /// `owner/name`
    pub repo: String,
    /// `null` when nothing was ever set.
    pub metadata: Option<RepositoryMetadata>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environments_id_says_what_it_is() {
        let id = EnvironmentId::from_bytes([0xab; 16]);
        assert_eq!(id.as_str(), format!("env_{}", "ab".repeat(16)));
        assert_eq!(EnvironmentId::parse(id.as_str()), Ok(id));
        assert!(EnvironmentId::parse("env_A-b_1").is_ok());
        for bad in ["", "env_", "env", "Env_a", "env_a b", "env_a/b", "xenv_a", &format!("env_{}", "a".repeat(101))] {
            assert_eq!(EnvironmentId::parse(bad), Err(InvalidId), "{bad}");
        }
    }
}
