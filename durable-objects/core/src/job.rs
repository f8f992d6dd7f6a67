//! What must happen outside of the session. A job is a row of the outbox, written in the commit that asks for it.
//!
//! Jobs hold references, never secrets: the runner derives the sandbox token again ([`crate::token`]) and reads user
//! tokens and model keys when it runs.

use oi_protocol::session_state::SessionStatus;
use oi_protocol::{ArtifactId, EnvironmentId, MessageId, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::access::SandboxAccess;
use crate::call::InitRepository;
use crate::callbacks::{BotCallback, Notice};
use crate::children::{OfferResult, TellParent};
use crate::fork::{CopyTimeline, TimelinePage};
use crate::pull_request_snapshots::{PullRequestSnapshot, RecordPullRequest, RefreshPullRequests};
use crate::search::IndexTurn;

/// Facts of the session for the D1 index. D1 accepts them only when `counter` is greater than the one it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexSession {
    /// The session.
    pub session_id: SessionId,
    /// Grows with every change.
    pub counter: i64,
    /// Status.
    pub status: SessionStatus,
    /// Title.
    pub title: Option<String>,
    /// When it last changed.
    pub updated_at: UnixMillis,
    /// Prompts accepted.
    pub message_count: i64,
    /// Pull requests.
    pub pr_count: i64,
    /// US dollars.
    pub total_cost: f64,
    /// Time that prompts ran, in ms.
    pub active_duration_ms: i64,
    /// The newest prompt that ended and has something to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_output: Option<LatestOutput>,
}

/// A prompt that ended well, or of which the agent said something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatestOutput {
    /// The prompt.
    pub message_id: MessageId,
    /// When it was sent.
    pub created_at: UnixMillis,
    /// When it ended.
    pub completed_at: UnixMillis,
}

/// Start a sandbox. Outcome unknown: look for the sandbox by its id first, adopt it, else repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartSandbox {
    /// The session.
    pub session_id: SessionId,
    /// Logical id.
    pub sandbox_id: String,
    /// Only this generation may act.
    pub generation: i64,
    /// With the generation, what the token is derived from.
    pub nonce: String,
    /// What to check out.
    pub repositories: Vec<InitRepository>,
    /// Whose secrets the sandbox gets, in place of the repositories'. The secrets themselves are read when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// `provider/model` of the session.
    pub model: String,
    /// Limit on the sandbox's life.
    pub timeout_seconds: u32,
    /// What it begins with.
    #[serde(default)]
    pub from: StartFrom,
}

/// What a sandbox begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum StartFrom {
    /// The repositories.
    #[default]
    Fresh,
    /// Files that were kept.
    Snapshot {
        /// The session's number of it.
        number: i64,
        /// The backend's name of it.
        image_id: String,
    },
    /// It was stopped and goes on, with its own id and token.
    Parked {
        /// The backend's handle.
        provider_object_id: String,
    },
}

/// Keep a sandbox's files. Outcome unknown: look for an image labelled with the session and the number, adopt it, else
/// repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeSnapshot {
    /// The session.
    pub session_id: SessionId,
    /// Logical id.
    pub sandbox_id: String,
    /// The backend's handle.
    pub provider_object_id: String,
    /// The session's number of it, never used twice.
    pub number: i64,
    /// Why it is taken.
    pub reason: String,
}

/// Tell D1 what a prompt has used so far; the answer says who may spend no more. Idempotent: the numbers are sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportUsage {
    /// The session.
    pub session_id: SessionId,
    /// The prompt.
    pub message_id: MessageId,
    /// Its author in the session.
    pub participant_id: String,
    /// Its author on the platform.
    pub user_id: String,
    /// US dollars.
    pub usd: f64,
    /// Tokens of all kinds.
    pub tokens: i64,
    /// When it was told.
    pub at: UnixMillis,
}

/// Delete files that were kept. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteSnapshot {
    /// The session.
    pub session_id: SessionId,
    /// The backend's name of it.
    pub image_id: String,
}

/// Stop a sandbox. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopSandbox {
    /// The session.
    pub session_id: SessionId,
    /// Logical id.
    pub sandbox_id: String,
    /// The backend's handle, when it is known.
    pub provider_object_id: Option<String>,
    /// Its generation.
    pub generation: i64,
    /// `respawn`, `connecting_timeout`, `heartbeat_timeout`, `inactivity_timeout`, `cancel`, `archive`, ...
    pub reason: String,
}

/// Open a pull request for a branch that was pushed, or find the open one of that head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenPullRequest {
    /// The session.
    pub session_id: SessionId,
    /// The operation.
    pub operation_id: String,
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// Head branch, pushed.
    pub head: String,
    /// Base branch.
    pub base: String,
    /// Title.
    pub title: String,
    /// Body without the footer.
    pub body: String,
    /// Open it as a draft.
    pub draft: bool,
    /// The prompting person on the platform, whose token opens it when there is one.
    pub author_user_id: Option<String>,
    /// Their name, for the body when the App opens it.
    pub author_name: String,
    /// Number of an open pull request of the same head that this session made.
    pub existing_number: Option<i64>,
}

/// Write a range of events to a file: the text is asked of the session by
/// [`crate::call::SessionCall::ArchiveFile`]. Idempotent by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveEvents {
    /// The session.
    pub session_id: SessionId,
    /// First place.
    pub first_seq: i64,
    /// Last place.
    pub last_seq: i64,
    /// The file.
    pub key: String,
}

/// Read a file of archived events for a page that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadArchive {
    /// The session.
    pub session_id: SessionId,
    /// The file.
    pub key: String,
    /// First place in it.
    pub first_seq: i64,
    /// Rows before this place are asked for.
    pub before: i64,
    /// As many of them.
    pub limit: u32,
    /// Who waits.
    pub socket: u64,
}

/// Delete what the session keeps in the bucket, a page at a time. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectStorage {
    /// The session.
    pub session_id: SessionId,
}

/// One thing to do outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Tell D1.
    IndexSession(IndexSession),
    /// Ask the backend for a sandbox.
    StartSandbox(StartSandbox),
    /// Ask the backend to stop one.
    StopSandbox(StopSandbox),
    /// Ask the forge.
    OpenPullRequest(OpenPullRequest),
    /// Write old events to a file.
    ArchiveEvents(ArchiveEvents),
    /// Read them again.
    ReadArchive(ReadArchive),
    /// Tell a bot of its prompt.
    BotCallback(Box<BotCallback>),
    /// Tell the parent's pages.
    TellParent(TellParent),
    /// Prompt the parent's agent with a result.
    OfferResult(Box<OfferResult>),
    /// Copy a page of the timeline that this session continues.
    CopyTimeline(CopyTimeline),
    /// Empty the bucket.
    CollectStorage(CollectStorage),
    /// Keep a sandbox's files.
    TakeSnapshot(TakeSnapshot),
    /// Delete files that were kept.
    DeleteSnapshot(DeleteSnapshot),
    /// Tell D1 of usage.
    ReportUsage(ReportUsage),
    /// Read pull requests from the forge.
    RefreshPullRequests(RefreshPullRequests),
    /// Tell D1 of a pull request.
    RecordPullRequest(Box<RecordPullRequest>),
    /// Tell the search index of a turn.
    IndexTurn(IndexTurn),
}

impl Job {
    /// The kind's word, in SQL and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::IndexSession(_) => "index_session",
            Self::StartSandbox(_) => "start_sandbox",
            Self::StopSandbox(_) => "stop_sandbox",
            Self::OpenPullRequest(_) => "open_pull_request",
            Self::ArchiveEvents(_) => "archive_events",
            Self::ReadArchive(_) => "read_archive",
            Self::BotCallback(_) => "bot_callback",
            Self::TellParent(_) => "tell_parent",
            Self::OfferResult(_) => "offer_result",
            Self::CopyTimeline(_) => "copy_timeline",
            Self::CollectStorage(_) => "collect_storage",
            Self::TakeSnapshot(_) => "take_snapshot",
            Self::DeleteSnapshot(_) => "delete_snapshot",
            Self::ReportUsage(_) => "report_usage",
            Self::RefreshPullRequests(_) => "refresh_pull_requests",
            Self::RecordPullRequest(_) => "record_pull_request",
            Self::IndexTurn(_) => "index_turn",
        }
    }

    /// Attempts before it is given up, visibly.
    pub const fn attempt_budget(&self) -> i64 {
        match self {
            Self::IndexSession(_) | Self::ReportUsage(_) | Self::IndexTurn(_) => 12,
            Self::StopSandbox(_)
            | Self::ArchiveEvents(_)
            | Self::CopyTimeline(_)
            | Self::DeleteSnapshot(_)
            | Self::RecordPullRequest(_) => 8,
            Self::OpenPullRequest(_) => 4,
            Self::StartSandbox(_) => 3,
            // Prompts wait for it, or somebody looks again soon.
            Self::ReadArchive(_) | Self::TakeSnapshot(_) | Self::RefreshPullRequests(_) => 2,
            // What a tool does is old soon; that a prompt ended is not.
            Self::BotCallback(callback) => match callback.notice {
                Notice::ToolCall { .. } => 1,
                Notice::Start => 4,
                Notice::Complete { .. } => 8,
            },
            Self::TellParent(_) => 6,
            Self::OfferResult(_) | Self::CollectStorage(_) => 10,
        }
    }

    /// Deadline of one attempt, in ms: the lease, and what the runner gives its calls.
    pub const fn attempt_deadline_ms(&self) -> i64 {
        match self {
            Self::IndexSession(_)
            | Self::ReportUsage(_)
            | Self::RecordPullRequest(_)
            | Self::IndexTurn(_)
            | Self::ReadArchive(_)
            | Self::BotCallback(_)
            | Self::TellParent(_)
            | Self::OfferResult(_) => 15_000,
            Self::StopSandbox(_)
            | Self::ArchiveEvents(_)
            | Self::CopyTimeline(_)
            | Self::CollectStorage(_)
            | Self::DeleteSnapshot(_) => 30_000,
            // What vendors take at most (session.md 5.10).
            Self::TakeSnapshot(_) => 320_000,
            Self::OpenPullRequest(_) | Self::StartSandbox(_) | Self::RefreshPullRequests(_) => 90_000,
        }
    }
}

/// A job that this commit claimed for running.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// The outbox row.
    pub id: i64,
    /// This attempt; a result of another changes nothing.
    pub attempt: i64,
    /// Whether an earlier attempt's outcome is unknown: look first, then repeat.
    pub look_first: bool,
    /// What to do.
    pub job: Job,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// Done, nothing to tell.
    Done,
    /// A page is done and more follow: the same again, with attempts of its own.
    More,
    /// A page of the timeline that this session continues.
    Page(TimelinePage),
    /// The sandbox was started, or found.
    SandboxStarted {
        /// The backend's handle.
        provider_object_id: String,
        /// How people reach what runs in it, where the backend lets them.
        access: Option<Box<SandboxAccess>>,
    },
    /// The backend is down for everybody: the start waits, and costs no attempt.
    Held {
        /// When to try again.
        until: UnixMillis,
        /// A sentence for people; no secrets.
        error: String,
    },
    /// Usage is known. Sentences for those who may spend no more.
    Standing {
        /// The prompt's author.
        person: Option<String>,
        /// Everybody.
        deployment: Option<String>,
    },
    /// The sandbox's files are kept.
    SnapshotTaken {
        /// The backend's name of it.
        image_id: String,
    },
    /// The pull request is open.
    PullRequestOpened {
        /// Number in the repository.
        number: i64,
        /// Its page.
        url: String,
        /// `open`, `closed`, `merged` or `draft`
        state: String,
        /// Head.
        head: String,
        /// Base.
        base: String,
        /// Title as the forge has it.
        title: String,
        /// Whether one that existed was found.
        updated: bool,
    },
    /// What the forge says of pull requests; those that it could not be asked about are left out.
    PullRequestsRead {
        /// By artifact.
        read: Vec<(ArtifactId, PullRequestSnapshot)>,
    },
    /// The file of archived events.
    ArchiveRead {
        /// All of it.
        text: String,
    },
    /// It failed.
    Failed {
        /// A sentence for people; no secrets.
        error: String,
        /// Whether a repetition may help.
        transient: bool,
    },
}
