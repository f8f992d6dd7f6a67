//! Calls from the control plane to one session: one enum, carried as JSON, never a path.

use oi_protocol::callback::CallbackContext;
use oi_protocol::client_socket::AttachmentRef;
use oi_protocol::diff::DiffBundle;
use oi_protocol::rest::CreatePullRequestRequest;
use oi_protocol::session_state::{ArtifactType, PromptSource, SessionRepository, SessionStatus, SpawnSource};
use oi_protocol::{ArtifactId, EnvironmentId, ErrorBody, ErrorCode, MessageId, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::allowed_models::AllowedModels;
use crate::child_summary::SummaryQuery;
use crate::family::{ChildOf, ForkOf};
use crate::file_type::FileType;
use crate::media::NewMedia;
use crate::pull_request_snapshots::PullRequestSnapshot;

/// Somebody who acts in a session, as the control plane knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// Participant identity: a bare user id for people, `slack:...` for bot actors.
    pub user_id: String,
    /// The platform's user, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical_user_id: Option<String>,
    /// Numeric id at the forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scm_user_id: Option<String>,
    /// Login at the forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scm_login: Option<String>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail, when the platform gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// URL of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
}

/// A repository of the session, as the forge answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitRepository {
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// The forge's number for it.
    pub repo_id: i64,
    /// Branch that the work starts from.
    pub base_branch: String,
    /// Commit that the work began with, once a sandbox has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_sha: Option<String>,
}

impl InitRepository {
    /// `owner/name` in lower case, as settings name it.
    pub fn path(&self) -> String {
        format!("{}/{}", self.repo_owner, self.repo_name).to_ascii_lowercase()
    }
}

impl From<SessionRepository> for InitRepository {
    fn from(repository: SessionRepository) -> Self {
        Self {
            repo_owner: repository.repo_owner,
            repo_name: repository.repo_name,
            repo_id: repository.repo_id.unwrap_or(0),
            base_branch: repository.base_branch,
            base_sha: repository.base_sha,
        }
    }
}

/// The environment that a session was made of, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitEnvironment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its name.
    pub name: String,
}

/// What a session is created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitSession {
    /// Public id, minted by the control plane.
    pub session_id: SessionId,
    /// Title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Position 0 is the primary; empty for a session without a repository.
    pub repositories: Vec<InitRepository>,
    /// Where the repositories were taken from, if from there: it gives the secrets then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<InitEnvironment>,
    /// `provider/model`
    pub model: String,
    /// Default reasoning effort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Who created it.
    pub owner: Person,
    /// What started it.
    pub spawn_source: SpawnSource,
    /// Whether to start a sandbox at once.
    pub warm: bool,
    /// How long its sandbox lives and a prompt of it may run, in ms, where people set it; a child has its parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_timeout_ms: Option<i64>,
    /// For a session that another one's agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_of: Option<ChildOf>,
    /// For a session that continues another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork_of: Option<ForkOf>,
}

/// A prompt by REST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnqueuePrompt {
    /// Who sends it.
    pub author: Person,
    /// Its text.
    pub content: String,
    /// Where it comes from.
    pub source: PromptSource,
    /// `provider/model`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How hard to think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Files.
    #[serde(default)]
    pub attachments: Vec<AttachmentRef>,
    /// Header `Idempotency-Key`: a repetition answers the first prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// From a bot that asks to be told of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_context: Option<CallbackContext>,
}

/// Somebody who is added to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewParticipant {
    /// Their identity.
    pub user_id: String,
    /// Login at the forge.
    #[serde(default)]
    pub scm_login: Option<String>,
    /// The name to show.
    #[serde(default)]
    pub scm_name: Option<String>,
    /// E-mail.
    #[serde(default)]
    pub scm_email: Option<String>,
    /// `member` when absent; only an owner adds an `owner`.
    #[serde(default)]
    pub role: Option<String>,
}

/// Who calls, as the Worker authenticated them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Principal {
    /// A person or a service that acts for one.
    User {
        /// Their identity.
        user_id: String,
    },
    /// The platform itself.
    Platform,
    /// A sandbox; the session checks the token against its current generation.
    Sandbox {
        /// The bearer.
        token: String,
    },
}

/// What is asked of a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum SessionCall {
    /// Creates it. Repeated: answers the state that exists. → 200 `{sessionId, status}`
    Init(Box<InitSession>),
    /// → 200 `Snapshot` of dialect 1, or of dialect 2 when asked.
    Snapshot {
        /// 1 or 2.
        dialect: u32,
    },
    /// A client token for a person. → 200 `WsTokenResponse`
    MintClientToken {
        /// For whom.
        person: Box<Person>,
    },
    /// Queues a prompt. → 200 `PromptResponse`
    Prompt(Box<EnqueuePrompt>),
    /// Stops the prompt that runs. → 200 `{status:"stopping"}`
    Stop,
    /// Answers a question of the agent; the first answer counts. → 200 `{status:"answered"}`
    AnswerQuestion {
        /// Who answers.
        person: Box<Person>,
        /// The question.
        request_id: String,
        /// The answer.
        answer: String,
    },
    /// → 200 `{title}`
    UpdateTitle {
        /// 1 to 200 units, trimmed.
        title: String,
    },
    /// → 200 `{status:"archived"}`
    Archive,
    /// → 200 `{status}`
    Unarchive,
    /// Ends the session for good and stops the sandbox. → 200 `{status:"cancelled"}`
    Cancel,
    /// → 200 `{events, cursor?, hasMore}`, newest first; 203 `ArchivePointer` when these rows are in a file.
    Events {
        /// `<createdAt>:<sequence>:<id>`
        #[serde(default)]
        cursor: Option<String>,
        /// 1 to 200; 50 by default.
        #[serde(default)]
        limit: Option<u32>,
        /// Only of this type.
        #[serde(default)]
        event_type: Option<String>,
        /// Only of this prompt.
        #[serde(default)]
        message_id: Option<String>,
    },
    /// → 200 `{messages, cursor?, hasMore}`, newest first.
    Messages {
        /// From the page before.
        #[serde(default)]
        cursor: Option<String>,
        /// 1 to 100; 50 by default.
        #[serde(default)]
        limit: Option<u32>,
        /// Only of this status.
        #[serde(default)]
        status: Option<String>,
    },
    /// Newest first, page by page. → 200 `{artifacts, cursor?, hasMore}`
    Artifacts {
        /// From the page before: `<createdAt>:<id>`.
        #[serde(default)]
        cursor: Option<String>,
        /// 1 to 100; 100 by default.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// → 200 `{participants}`
    Participants,
    /// How people reach the sandbox; secrets are sealed. → 200 `{sandboxId, generation, access}`; 409 unless it is up
    SandboxAccess,
    /// For people, and for a sandbox that boots. → 200 `{tunnelUrls}`; 404 without a sandbox
    TunnelUrls,
    /// For a sandbox: it cannot come up, or cannot go on. → 200 `{status:"ok"}`
    SandboxError {
        /// Why, for people.
        error: String,
        /// Whether it is the end of the sandbox; else people are warned.
        fatal: bool,
    },
    /// Ends all client tokens of a person and closes their pages. → 200 `{closed}`
    RevokeClientTokens {
        /// Participant identity, or the platform's user.
        user_id: String,
    },
    /// For a sandbox: which repositories it may push to. → 200 `{repositories:[{repoOwner,repoName,repoId}]}`
    SandboxRepositories,
    /// For a sandbox: pushes the branch and opens or updates a pull request. Waits for both.
    /// → 200 `CreatePullRequestResponse`; 503 `RETRY` after an eviction: repeat with the same key.
    CreatePullRequest {
        /// What is asked.
        request: CreatePullRequestRequest,
        /// Makes a repetition meet the same operation.
        #[serde(default)]
        idempotency_key: Option<String>,
    },
    /// For a sandbox: may it store this output, and is there room for it? → 200 `{}`
    AuthorizeOutput {
        /// As the sandbox names it.
        output_id: String,
        /// Its length.
        bytes: i64,
    },
    /// A file of a prompt is about to be stored. → 200 [`crate::attachments::Recorded`]
    RecordAttachment {
        /// Minted for it.
        attachment_id: String,
        /// Its kind, as its first bytes told.
        file_type: FileType,
        /// Its length.
        bytes: i64,
    },
    /// What became of files that were to be deleted. → 200 `{status:"ok"}`
    CompleteAttachmentCleanup {
        /// Names the clean-up.
        cleanup_claimed_at: UnixMillis,
        /// Their objects are gone.
        acknowledged_attachment_ids: Vec<String>,
        /// Theirs are not.
        released_attachment_ids: Vec<String>,
    },
    /// A file of a prompt, to be read. → 200 [`crate::attachments::KnownAttachment`]
    Attachment {
        /// Which.
        attachment_id: String,
    },
    /// Whether a screenshot or recording would be taken now. → 200 `{}`
    AuthorizeMedia {
        /// Which of them.
        artifact_type: ArtifactType,
    },
    /// One was stored. → 200 `{status:"ok", artifactId}`
    CreateMediaArtifact(Box<NewMedia>),
    /// A screenshot or recording, to be read. → 200 [`crate::media::KnownMedia`]
    Media {
        /// Which.
        artifact_id: String,
    },
    /// For the runner of [`crate::job::Job::ArchiveEvents`]. → 200 the file's text
    ArchiveFile {
        /// First place.
        first_seq: i64,
        /// Last place.
        last_seq: i64,
    },
    /// For a sandbox: whether its token is the current one. → 200 `{valid:true, generation}`
    VerifySandbox,
    /// For a sandbox: what a child is created with. → 200 `SpawnContext`
    SpawnContext,
    /// What a parent's agent is told of this session. → 200
    ChildSummary(SummaryQuery),
    /// A child of this session changed; its pages are told. → 200 `{ok:true}`
    ChildChanged {
        /// The child.
        child_session_id: SessionId,
        /// Its status.
        status: SessionStatus,
        /// Its title.
        title: Option<String>,
    },
    /// The parent's agent prompts this session. → 200 `PromptResponse`
    ParentPrompt {
        /// The parent; 404 when it is another's.
        parent_session_id: SessionId,
        /// The text.
        content: String,
        /// Who prompted the parent.
        author: Box<Person>,
    },
    /// Archives a session that nobody ever used. → 200 `{outcome, status}`
    ExpireDraft,
    /// Jobs of the outbox that wait, run or were given up, newest first. → 200 `{deliveries}`
    Deliveries,
    /// Where a fork begins and ends: at an event, a place, or the newest event. → 200 `ForkPoint`
    ForkPoint {
        /// The event.
        #[serde(default)]
        event_id: Option<String>,
        /// Or its place.
        #[serde(default)]
        sequence: Option<i64>,
    },
    /// A page of stored events for a fork. → 200 `TimelinePage`
    ForkPage {
        /// First place.
        from_sequence: i64,
        /// Last place.
        through_sequence: i64,
    },
    /// Deletes the session and all that it keeps. → 200 `{status:"deleting", sessionId}`; 404 once it is gone
    Delete,
    /// Test deployments only: panics after a write, inside the transaction.
    Fault,
    /// One artifact. → 200 `{artifact}`, null when there is no such
    Artifact {
        /// Its id.
        artifact_id: String,
    },
    /// Adds somebody, who stays as they are when they are known. → 200 `{id, status:"added"}`
    AddParticipant(NewParticipant),
    /// What changed since the session's start, without patches. → 200 `DiffState`
    DiffState,
    /// For a sandbox: the newest diff. → 200 `DiffStored`
    StoreDiff(Box<DiffBundle>),
    /// For a sandbox: why there is no newer diff. → 200 `{}`
    DiffFailed {
        /// 1 to 2000 units.
        error: String,
    },
    /// A patch of the newest diff. → 200 the patch as text; 409 `diff_revision_stale`, 404 `diff_file_not_found`
    DiffFile {
        /// The revision that the caller knows.
        revision_id: String,
        /// The file.
        file_id: String,
    },
    /// Asks the sandbox for a new diff. → 202 `{accepted:true}`
    RetryDiff,
    /// The forge told of a pull request. → 200 `{applied}`
    PullRequestSnapshot {
        /// The artifact, when it is known.
        #[serde(default)]
        artifact_id: Option<ArtifactId>,
        /// What the forge said.
        snapshot: Box<PullRequestSnapshot>,
    },
    /// Has the pull requests read from the forge, at most once a minute. → 202 `{status:"refreshing"}`
    RefreshPullRequests,
    /// The models that prompts of pages may name; an older list changes nothing. → 200 `{status:"ok"}`
    AllowModels(Box<AllowedModels>),
    /// What search finds: one turn, or a page of all from a place on. → 200 [`crate::search::SearchPage`]
    SearchTurns {
        /// The turn of this prompt alone.
        #[serde(default)]
        message_id: Option<MessageId>,
        /// After this place: 0, or `next` of the page before.
        #[serde(default)]
        after: i64,
    },
}

/// A call with its caller and what finds it in the logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallEnvelope {
    /// Who calls.
    pub principal: Principal,
    /// What.
    pub call: SessionCall,
}

/// Answer of a call: an HTTP status and a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReply {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

impl CallReply {
    /// A success with a body.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        // Wire types have string keys and finite numbers, so serialising cannot fail; an empty object keeps JSON valid.
        Self { status, body: serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned()) }
    }

    /// A refusal.
    pub fn refuse(status: u16, code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self::json(status, &ErrorBody { error: sentence.into(), code, request_id: None })
    }
}
