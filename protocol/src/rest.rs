//! REST shapes that browsers and bots use (control-plane.md 1).

use serde::{Deserialize, Serialize};

use crate::client_socket::AttachmentRef;
use crate::environments::{EnvironmentId, EnvironmentRepository, RepositoryMetadata, WantedRepository};
use crate::ids::{ArtifactId, MessageId, ParticipantId, SessionId};
use crate::serde_rules::absent;
use crate::session_state::{PromptSource, SessionStatus, SpawnSource};
use crate::time::UnixMillis;

/// `POST /sessions`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateSessionRequest {
    /// Owner; together with the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub repo_owner: Option<String>,
    /// Name; together with the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub repo_name: Option<String>,
    /// Base branch; the repository's default when absent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub branch: Option<String>,
    /// 1 to 200 units.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub title: Option<String>,
    /// `provider/model`
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub model: Option<String>,
    /// How hard to think.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub reasoning_effort: Option<String>,
    /// Several repositories, the primary first, in place of the one above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub repositories: Option<Vec<WantedRepository>>,
    /// An environment, in place of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub environment_id: Option<EnvironmentId>,
}

/// A page of a sandbox that asks for a password. It has no `Debug`, so that the password is in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PageWithPassword {
    /// Its address.
    pub url: String,
    /// Its password.
    pub password: String,
}

/// A page of a sandbox that asks for a token. It has no `Debug`, so that the token is in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PageWithToken {
    /// Its address.
    pub url: String,
    /// Its token.
    pub token: String,
}

/// `GET /sessions/:id/sandbox-access`: pages of the sandbox, those that there are, with what they ask for.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SandboxAccess {
    /// code-server.
    pub code_server: Option<PageWithPassword>,
    /// The desktop.
    pub vnc: Option<PageWithPassword>,
    /// A terminal of the vendor's.
    pub ttyd: Option<PageWithToken>,
}

/// Answer of `POST /sessions`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateSessionResponse {
    /// The new session.
    pub session_id: SessionId,
    /// `created`
    pub status: SessionStatus,
}

/// `POST /sessions/:id/prompt`; the header `Idempotency-Key` makes a repetition harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptRequest {
    /// At most 64 000 units.
    pub content: String,
    /// `web` when absent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub source: Option<PromptSource>,
    /// `provider/model`
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub model: Option<String>,
    /// How hard to think.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub reasoning_effort: Option<String>,
    /// At most 6.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub attachments: Option<Vec<AttachmentRef>>,
}

/// Answer of `POST /sessions/:id/prompt`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptResponse {
    /// The prompt.
    pub message_id: MessageId,
    /// `queued`
    pub status: String,
}

/// Answer of `POST /sessions/:id/ws-token`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WsTokenResponse {
    /// 64 hex digits, shown once.
    pub token: String,
    /// Who it stands for.
    pub participant_id: ParticipantId,
}

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionListItem {
    /// Public id.
    pub id: SessionId,
    /// Title.
    pub title: Option<String>,
    /// Repository.
    pub repo_owner: Option<String>,
    /// Repository.
    pub repo_name: Option<String>,
    /// `provider/model`
    pub model: String,
    /// Default reasoning effort.
    pub reasoning_effort: Option<String>,
    /// Base branch.
    pub base_branch: Option<String>,
    /// Status.
    pub status: SessionStatus,
    /// Parent.
    pub parent_session_id: Option<SessionId>,
    /// What started it.
    pub spawn_source: SpawnSource,
    /// 0 for a top-level session.
    pub spawn_depth: u32,
    /// Automation that started it.
    pub automation_id: Option<String>,
    /// Run of that automation.
    pub automation_run_id: Option<String>,
    /// Login of the person who started it.
    pub scm_login: Option<String>,
    /// That person.
    pub user_id: Option<String>,
    /// US dollars.
    pub total_cost: f64,
    /// Time that prompts ran, in ms.
    pub active_duration_ms: i64,
    /// Prompts accepted.
    pub message_count: u32,
    /// Pull requests.
    pub pr_count: u32,
    /// Environment.
    pub environment_id: Option<String>,
    /// Its repositories, the primary first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "typescript", ts(optional, as = "Option<Vec<EnvironmentRepository>>"))]
    pub repositories: Vec<EnvironmentRepository>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
}

/// Answer of `GET /sessions`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionList {
    /// Newest change first.
    pub sessions: Vec<SessionListItem>,
    /// Whether more follow.
    pub has_more: bool,
}

/// A model that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelInfo {
    /// `provider/model`
    pub id: String,
    /// The name to show.
    pub name: String,
    /// The provider's name to show.
    pub provider: String,
    /// Efforts that it knows, weakest first.
    #[serde(default)]
    pub reasoning_efforts: Vec<String>,
    /// What it does when no effort is named, where that is one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub default_reasoning_effort: Option<String>,
    /// Whether its answers are scripted.
    pub demo: bool,
}

/// Answer of `GET /api/models`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelList {
    /// In display order.
    pub models: Vec<ModelInfo>,
    /// Used when a session names none.
    pub default_model: String,
}

/// Answer of `GET /api/config`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppConfig {
    /// The product's name in this deployment.
    pub app_name: String,
    /// `github`, `google`, in that order.
    pub sign_in_providers: Vec<String>,
    /// Whether the only model is the scripted one.
    pub demo_model: bool,
}

/// A repository that a session can work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Repository {
    /// The forge's number for it.
    pub id: i64,
    /// Owner.
    pub owner: String,
    /// Name.
    pub name: String,
    /// `owner/name`
    pub full_name: String,
    /// What it is.
    pub description: Option<String>,
    /// Whether it is private.
    pub private: bool,
    /// Its default branch.
    pub default_branch: String,
    /// Always false: one that is archived is not listed.
    pub archived: bool,
    /// The language that most of it is written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub language: Option<String>,
    /// Its topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub topics: Option<Vec<String>>,
    /// What people noted of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub metadata: Option<RepositoryMetadata>,
}

/// Answer of `GET /api/repos`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RepositoryList {
    /// By full name.
    pub repos: Vec<Repository>,
    /// Whether the list came from the cache.
    pub cached: bool,
    /// When it was read, ISO 8601.
    pub cached_at: String,
}

/// `POST /sessions/:id/pr`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatePullRequestRequest {
    /// Non-blank.
    pub title: String,
    /// Non-blank.
    pub body: String,
    /// Base; the session's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// Head; generated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_branch: Option<String>,
    /// Repository, when the session has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_owner: Option<String>,
    /// Repository, when the session has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_name: Option<String>,
    /// Open it as a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<bool>,
}

/// Answer of `POST /sessions/:id/pr`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatePullRequestResponse {
    /// Number in the repository.
    pub pr_number: i64,
    /// Its page.
    pub pr_url: String,
    /// `open`, `closed`, `merged` or `draft`
    pub state: String,
    /// Head.
    pub head_branch: String,
    /// Base.
    pub base_branch: String,
    /// Whether one that existed was updated.
    pub updated: bool,
}

/// Answer of `POST /sessions/:id/scm-credentials`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScmCredentials {
    /// `x-access-token` on GitHub.
    pub username: String,
    /// Lives minutes.
    pub password: String,
    /// When it ends.
    pub expires_at_epoch_ms: i64,
}

impl std::fmt::Debug for ScmCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScmCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Answer of `POST /sessions/:id/attachments`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttachmentResponse {
    /// For a prompt of this session, within a day.
    pub attachment_id: String,
    /// What it is, as its first bytes told.
    pub mime_type: String,
}

/// Answer of `POST /sessions/:id/media`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MediaResponse {
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// The object behind it.
    pub object_key: String,
}
