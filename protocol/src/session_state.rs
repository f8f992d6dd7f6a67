//! What a session looks like from outside: the shapes of snapshots, lists and presence.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::PartKind;
use crate::ids::{ArtifactId, MessageId, ParticipantId, SessionId};
use crate::serde_rules::absent;
use crate::time::UnixMillis;

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every value, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire and in SQL.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value of a word, or `None`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

wire_enum! {
    /// Status of a session.
    SessionStatus {
        /// No prompt yet.
        Created = "created",
        /// A prompt waits or runs.
        Active = "active",
        /// The latest prompt succeeded and none waits.
        Completed = "completed",
        /// The latest prompt did not succeed and none waits.
        Failed = "failed",
        /// Put away by a participant.
        Archived = "archived",
        /// Ended for good.
        Cancelled = "cancelled",
    }
}

impl SessionStatus {
    /// Whether a prompt can be sent.
    pub const fn is_promptable(self) -> bool {
        !matches!(self, Self::Archived | Self::Cancelled)
    }
}

wire_enum! {
    /// Status of the session's sandbox.
    SandboxStatus {
        /// None was asked for.
        Pending = "pending",
        /// The backend is being asked for one.
        Spawning = "spawning",
        /// The backend answered; the bridge has not connected.
        Connecting = "connecting",
        /// Dialect 1 only; never written.
        Warming = "warming",
        /// Dialect 1 only; never written.
        Syncing = "syncing",
        /// The bridge is connected.
        Ready = "ready",
        /// Dialect 1 only; never written.
        Running = "running",
        /// Its heartbeat ceased.
        Stale = "stale",
        /// Its file system is being kept.
        Snapshotting = "snapshotting",
        /// It was stopped.
        Stopped = "stopped",
        /// It could not be started, or did not connect in time.
        Failed = "failed",
    }
}

impl SandboxStatus {
    /// Whether nothing of it can act any more.
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Stopped | Self::Stale | Self::Failed)
    }
}

wire_enum! {
    /// Where a question stands.
    InputState {
        /// For an answer.
        Waiting = "waiting",
        /// A person answered.
        Answered = "answered",
        /// Nobody did in time; `answer` is the default, when there is one.
        Expired = "expired",
        /// Its prompt ended.
        Withdrawn = "withdrawn",
    }
}

wire_enum! {
    /// Status of a prompt.
    MessageStatus {
        /// It waits.
        Pending = "pending",
        /// The agent has it.
        Processing = "processing",
        /// It succeeded.
        Completed = "completed",
        /// It did not; the outcome tells how.
        Failed = "failed",
    }
}

wire_enum! {
    /// Where a prompt came from.
    PromptSource {
        /// The web UI.
        Web = "web",
        /// Slack.
        Slack = "slack",
        /// Linear.
        Linear = "linear",
        /// A browser extension.
        Extension = "extension",
        /// A GitHub pull request.
        Github = "github",
        /// A schedule or trigger.
        Automation = "automation",
        /// Another session.
        Agent = "agent",
    }
}

wire_enum! {
    /// What started a session.
    SpawnSource {
        /// A person.
        User = "user",
        /// Another session.
        Agent = "agent",
        /// A schedule or trigger.
        Automation = "automation",
        /// The GitHub bot.
        GithubBot = "github-bot",
        /// The Linear bot.
        LinearBot = "linear-bot",
        /// The Slack bot.
        SlackBot = "slack-bot",
    }
}

wire_enum! {
    /// Kinds of artifact.
    ArtifactType {
        /// A pull request.
        Pr = "pr",
        /// A picture.
        Screenshot = "screenshot",
        /// A recording.
        Video = "video",
        /// A running page.
        Preview = "preview",
        /// A branch.
        Branch = "branch",
    }
}

/// Who wrote a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Author {
    /// Within the session.
    pub participant_id: ParticipantId,
    /// Across sessions.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub user_id: Option<String>,
    /// The name to show.
    pub name: String,
    /// A picture's URL.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub avatar: Option<String>,
}

/// Whether somebody looks at the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PresenceStatus {
    /// The page is in front.
    Active,
    /// The page is open.
    Idle,
    /// Never sent by the server.
    Away,
}

/// Somebody who watches the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Presence {
    /// Within the session.
    pub participant_id: ParticipantId,
    /// Across sessions.
    pub user_id: String,
    /// The name to show.
    pub name: String,
    /// A picture's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub avatar: Option<String>,
    /// Active when any of the person's pages is.
    pub status: PresenceStatus,
    /// When the person was last heard of.
    pub last_seen: UnixMillis,
}

/// Something the session produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionArtifact {
    /// The artifact.
    pub id: ArtifactId,
    /// Its kind.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,
    /// Where it is.
    pub url: Option<String>,
    /// For a pull request: `number`, `title`, `state`, `lifecycleState`, `isDraft`, `head`, `base`, `repoOwner`,
    /// `repoName`, `draft`, and what the forge told: `headSha`, `repositoryExternalId`, `providerUpdatedAt`.
    #[cfg_attr(feature = "typescript", ts(type = "Record<string, unknown> | null"))]
    pub metadata: Option<Map<String, Value>>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub updated_at: Option<UnixMillis>,
}

/// A file that goes with a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptAttachment {
    /// The upload: `GET /sessions/:id/attachments/:attachmentId`.
    pub attachment_id: String,
    /// The name to show.
    pub name: String,
    /// What it is, as its first bytes told.
    pub mime_type: String,
}

/// A prompt that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueuedPrompt {
    /// The prompt.
    pub message_id: MessageId,
    /// Its text.
    pub content: String,
    /// `pending` or `processing`.
    pub status: MessageStatus,
    /// Who sent it (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub author: Option<Author>,
    /// When it was accepted (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub created_at: Option<UnixMillis>,
    /// Its files (dialect 2); absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub attachments: Option<Vec<PromptAttachment>>,
    /// Only the beginning of its text is here; `GET /sessions/:id/messages` has the whole (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub content_truncated: Option<bool>,
}

/// One repository of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionRepository {
    /// 0 is the primary.
    pub position: u32,
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// The forge's number for it.
    pub repo_id: Option<i64>,
    /// Branch that the work starts from and goes back to.
    pub base_branch: String,
    /// Branch last pushed.
    pub branch_name: Option<String>,
    /// Commit that the work started from.
    pub base_sha: Option<String>,
    /// Commit that is checked out.
    pub current_sha: Option<String>,
    /// Newest pull request.
    pub pr_url: Option<String>,
}

/// The session itself, within a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionInfo {
    /// Public id.
    pub id: SessionId,
    /// Title; null until set.
    pub title: Option<String>,
    /// Primary repository.
    pub repo_owner: Option<String>,
    /// Primary repository.
    pub repo_name: Option<String>,
    /// Its base branch.
    pub base_branch: Option<String>,
    /// Its branch last pushed.
    pub branch_name: Option<String>,
    /// Status.
    pub status: SessionStatus,
    /// Status of the sandbox; `pending` when there was none.
    pub sandbox_status: SandboxStatus,
    /// Prompts ever accepted.
    pub message_count: u32,
    /// When it was created.
    pub created_at: UnixMillis,
    /// `provider/model`.
    pub model: String,
    /// Default reasoning effort.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub reasoning_effort: Option<String>,
    /// Whether a prompt runs.
    pub is_processing: bool,
    /// The parent's id.
    pub parent_session_id: Option<SessionId>,
    /// US dollars so far.
    pub total_cost: f64,
    /// URL of code-server.
    pub code_server_url: Option<String>,
    /// URL of the desktop.
    pub vnc_url: Option<String>,
    /// Tunnels by port.
    #[cfg_attr(feature = "typescript", ts(type = "Record<string, string> | null"))]
    pub tunnel_urls: Option<Map<String, Value>>,
    /// URL of the terminal.
    pub ttyd_url: Option<String>,
    /// The vendor's page of the sandbox.
    pub sandbox_dashboard_url: Option<String>,
    /// Repositories.
    pub repositories: Vec<SessionRepository>,
    /// Environment it was started from.
    pub environment_id: Option<String>,
    /// That environment's name.
    pub environment_name: Option<String>,
}

/// Where a page of history ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryCursor {
    /// `created_at` of the oldest row of the page.
    pub timestamp: UnixMillis,
    /// Its id.
    pub id: String,
    /// Its place; absent from old clients.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub sequence: Option<i64>,
}

/// A text or reasoning part that is still being written (dialect 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpenPart {
    /// The prompt it answers.
    pub message_id: MessageId,
    /// The part.
    pub part_id: String,
    /// Text or reasoning.
    pub kind: PartKind,
    /// The text so far.
    pub text: String,
}
