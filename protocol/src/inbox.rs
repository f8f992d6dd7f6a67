//! REST shapes of the inbox and of what a person has read.

use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, SessionId};
use crate::session_state::{SessionStatus, SpawnSource};
use crate::time::UnixMillis;

/// Where a session belongs, for one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum InboxCategory {
    /// Something is there that the person has not read.
    NeedsAttention,
    /// Something runs.
    InProgress,
    /// Neither.
    Finished,
}

/// Pull requests of a session, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PullRequestSummary {
    /// All.
    pub total: u32,
    /// Open, and no drafts.
    pub open: u32,
    /// Drafts.
    pub draft: u32,
    /// Merged.
    pub merged: u32,
    /// Closed and not merged.
    pub closed: u32,
}

/// What a person has read of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ReadState {
    /// The newest prompt that ended and has something to read.
    pub latest_message_id: Option<MessageId>,
    /// Whether the person has not.
    pub unread: bool,
}

/// A repository of a session in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct InboxRepository {
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// Branch that the work starts from.
    pub base_branch: Option<String>,
}

/// A session in the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct InboxSession {
    /// Public id.
    pub id: SessionId,
    /// Title.
    pub title: Option<String>,
    /// Repository.
    pub repo_owner: Option<String>,
    /// Repository.
    pub repo_name: Option<String>,
    /// Base branch.
    pub base_branch: Option<String>,
    /// Status.
    pub status: SessionStatus,
    /// Parent.
    pub parent_session_id: Option<SessionId>,
    /// What started it.
    pub spawn_source: SpawnSource,
    /// Environment.
    pub environment_id: Option<String>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
    /// The primary first.
    pub repositories: Vec<InboxRepository>,
    /// When it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub pull_request_summary: Option<PullRequestSummary>,
    /// What the person has read.
    pub read_state: ReadState,
}

/// A session with those below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct InboxItem {
    /// The topmost that the person is shown.
    pub root_session: InboxSession,
    /// Newest change first.
    pub descendant_sessions: Vec<InboxSession>,
}

/// A page of a category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct InboxPage {
    /// Newest change first.
    pub items: Vec<InboxItem>,
    /// Whether more follow.
    pub has_more: bool,
    /// For the next page: `<ms>:<session>`.
    pub next_cursor: Option<String>,
}

/// Answer of `GET /sessions/inbox` without a category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Inbox {
    /// The first page of each.
    pub categories: InboxCategories,
}

/// The first page of each category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct InboxCategories {
    /// Something is there that the person has not read.
    pub needs_attention: InboxPage,
    /// Something runs.
    pub in_progress: InboxPage,
    /// Neither.
    pub finished: InboxPage,
}

/// What became of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ReadOutcome {
    /// There is nothing to read.
    NoTerminalMessage,
    /// It is read now.
    MarkedRead,
    /// It was read before.
    AlreadyRead,
    /// Something newer is there.
    NotLatest,
}

/// Answer of `PATCH /sessions/:id/read-state`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ReadResult {
    /// The session.
    pub session_id: SessionId,
    /// What became of it.
    pub outcome: ReadOutcome,
    /// Whether something is there that was not read.
    pub unread: bool,
    /// The newest prompt that ended and has something to read.
    pub latest_message_id: Option<MessageId>,
}
