//! Search over all sessions: `GET /search`.

use serde::{Deserialize, Serialize};

use crate::ids::{ArtifactId, MessageId, SessionId};
use crate::serde_rules::absent;
use crate::session_state::SessionStatus;
use crate::time::UnixMillis;

/// Answer of `GET /search`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SearchResults {
    /// The best first; each session once.
    pub results: Vec<SearchResult>,
    /// Whether more follow.
    pub has_more: bool,
    /// For the next page; absent after the last.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub cursor: Option<String>,
}

/// A session in which something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SearchResult {
    /// The session.
    pub session_id: SessionId,
    /// Its title.
    pub title: Option<String>,
    /// Its repository.
    pub repo_owner: Option<String>,
    /// Its repository.
    pub repo_name: Option<String>,
    /// Its status.
    pub status: SessionStatus,
    /// Whose it is.
    pub user_id: Option<String>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
    /// Turns and titles of it that match, of the newest that match at all.
    pub matches: u32,
    /// Where the best of them is.
    pub place: SearchPlace,
    /// When that was.
    pub at: UnixMillis,
    /// What was found there.
    pub snippets: Vec<SearchSnippet>,
}

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SearchPlace {
    /// In the session's title.
    Title,
    /// In a turn: the prompt, what the agent said, or the files that it touched.
    Turn {
        /// The prompt.
        message_id: MessageId,
    },
    /// In the title of a pull request.
    PullRequest {
        /// The artifact.
        artifact_id: ArtifactId,
    },
}

/// The part of a text that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SearchField {
    /// A title.
    Title,
    /// A prompt.
    Prompt,
    /// The agent's words.
    Answer,
    /// Files that a turn touched.
    Paths,
}

/// A piece of a text, and what in it was found. Plain text, never markup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SearchSnippet {
    /// Of which text.
    pub field: SearchField,
    /// The piece.
    pub text: String,
    /// What was found in it, in order.
    pub marks: Vec<SearchMark>,
}

/// A range of a text, in UTF-16 code units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SearchMark {
    /// Its first unit.
    pub start: u32,
    /// After its last.
    pub end: u32,
}
