//! Events of the timeline, in the form that is stored (dialect 2).
//!
//! Each struct is one `type` on the wire. `timestamp` is seconds as a float, kept as the sender wrote it; it
//! decides nothing.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::ids::MessageId;
use crate::serde_rules::absent;
use crate::session_state::{Author, InputState, PromptAttachment};
use crate::time::UnixMillis;

/// What a streamed part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PartKind {
    /// The assistant's words.
    Text,
    /// The model's reasoning; not sent to dialect 1.
    Reasoning,
}

/// One stored event of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Event {
    /// A prompt was given to the agent.
    UserMessage(UserMessage),
    /// A finished text or reasoning part (dialect 2; `token` in dialect 1).
    Part(Part),
    /// A tool call, replaced as it proceeds.
    ToolCall(ToolCall),
    /// A model step began. Not stored.
    StepStart(StepStart),
    /// A model step ended, with its cost. Not stored.
    StepFinish(StepFinish),
    /// The agent compacted its context.
    ContextCompacted(ContextCompacted),
    /// Something went wrong within a run.
    Error(ErrorEvent),
    /// A prompt reached its terminal state.
    ExecutionComplete(ExecutionComplete),
    /// The bridge is connected and the agent is there.
    Ready(Ready),
    /// A phase of the sandbox's start (dialect 2).
    BootProgress(BootProgress),
    /// Something people should know that stopped nothing.
    Warning(Warning),
    /// State of the git checkout.
    GitSync(GitSync),
    /// A branch reached the forge.
    PushComplete(PushComplete),
    /// A branch did not reach the forge.
    PushError(PushError),
    /// Something the session produced.
    Artifact(ArtifactEvent),
    /// The agent asks a person (dialect 2).
    InputRequest(InputRequest),
}

/// A prompt as it was given to the agent. Only the control plane writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserMessage {
    /// The prompt.
    pub message_id: MessageId,
    /// Its text.
    pub content: String,
    /// Who sent it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub author: Option<Author>,
    /// Its files; absent when it has none.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub attachments: Option<Vec<PromptAttachment>>,
    /// Seconds.
    pub timestamp: f64,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum InputKind {
    /// Something the agent wants to know.
    Question,
    /// A plan that is shown before the work.
    Plan,
    /// Something that needs leave.
    Approval,
}

const fn waiting() -> InputState {
    InputState::Waiting
}

/// A question of the agent. It waits durably while its prompt runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InputRequest {
    /// The question, as the bridge names it; 1 to 128 bytes, unique in the session.
    pub request_id: String,
    /// The prompt it belongs to.
    pub message_id: MessageId,
    /// What it is about.
    pub kind: InputKind,
    /// The question.
    pub prompt: String,
    /// Answers to choose from; another answer is allowed.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub options: Option<Vec<String>>,
    /// What counts when nobody answers in time.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub default: Option<String>,
    /// Until when it waits; absent: as long as its prompt runs.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub expires_at: Option<UnixMillis>,
    /// Where it stands. Only the control plane writes this and what follows.
    #[serde(default = "waiting")]
    pub state: InputState,
    /// The answer.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub answer: Option<String>,
    /// Who gave it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub answered_by: Option<Author>,
    /// When it ended.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub ended_at: Option<UnixMillis>,
    /// The sandbox that asked.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// A finished part of the assistant's text or reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Part {
    /// The prompt it answers.
    pub message_id: MessageId,
    /// The part, as the agent names it.
    pub part_id: String,
    /// Text or reasoning.
    pub kind: PartKind,
    /// The whole text.
    pub text: String,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// Lines that a tool call added to and removed from a file (dialect 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileChange {
    /// Path relative to the checkout.
    pub path: String,
    /// Lines added.
    pub added: u32,
    /// Lines removed.
    pub removed: u32,
}

/// A tool call and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolCall {
    /// The prompt it belongs to.
    pub message_id: MessageId,
    /// The tool's name.
    pub tool: String,
    /// Its arguments.
    #[cfg_attr(feature = "typescript", ts(type = "Record<string, unknown>"))]
    pub args: Map<String, Value>,
    /// The call, as the agent names it.
    pub call_id: String,
    /// `pending`, `running`, `completed` or `error`.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub status: Option<String>,
    /// What it printed, so far or at the end.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub output: Option<String>,
    /// Whether a sub-agent made the call.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub is_subtask: Option<bool>,
    /// The sub-agent's session, as the agent names it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub child_session_id: Option<String>,
    /// The task call that started the sub-agent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub task_call_id: Option<String>,
    /// Why it failed (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub error: Option<String>,
    /// Exit code of a command (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub exit_code: Option<i32>,
    /// When it began (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub started_at: Option<UnixMillis>,
    /// When it ended (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub ended_at: Option<UnixMillis>,
    /// Whether the output was cut (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub truncated: Option<bool>,
    /// Where the whole output is: `GET /sessions/:id/outputs/:outputRef` (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub output_ref: Option<String>,
    /// What it changed in the checkout (dialect 2).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub file_change: Option<FileChange>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// A model step began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepStart {
    /// The prompt it belongs to.
    pub message_id: MessageId,
    /// Whether a sub-agent made the step.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub is_subtask: Option<bool>,
    /// The sub-agent's session, as the agent names it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub child_session_id: Option<String>,
    /// The task call that started the sub-agent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub task_call_id: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// Whether a value says how many tokens were used: a number, or an object with at least one of the counts `total`,
/// `input`, `output`, `reasoning`, `cache.read` and `cache.write`, and with nothing but numbers in them.
pub fn is_token_usage(value: &Value) -> bool {
    if !value.is_object() {
        return value.is_number();
    }
    let cache = value.get("cache");
    if cache.is_some_and(|cache| !cache.is_object()) {
        return false;
    }
    let counts = ["total", "input", "output", "reasoning"].into_iter().filter_map(|name| value.get(name));
    let cached = ["read", "write"].into_iter().filter_map(|name| cache?.get(name));
    let mut told = counts.chain(cached).peekable();
    told.peek().is_some() && told.all(Value::is_number)
}

fn token_usage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if is_token_usage(&value) { Ok(Some(value)) } else { Err(D::Error::custom("`tokens` has no count")) }
}

/// A model step ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepFinish {
    /// The prompt it belongs to.
    pub message_id: MessageId,
    /// US dollars, as the agent reckons.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub cost: Option<f64>,
    /// A count, or an object with `total`, `input`, `output`, `reasoning` and `cache`: see [`is_token_usage`].
    #[serde(default, deserialize_with = "token_usage", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional, type = "unknown"))]
    pub tokens: Option<Value>,
    /// Why it ended.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub reason: Option<String>,
    /// Whether a sub-agent made the step.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub is_subtask: Option<bool>,
    /// The sub-agent's session, as the agent names it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub child_session_id: Option<String>,
    /// The task call that started the sub-agent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub task_call_id: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// The agent compacted its context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContextCompacted {
    /// The prompt it belongs to.
    pub message_id: MessageId,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// Something went wrong within a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorEvent {
    /// The prompt it belongs to.
    pub message_id: MessageId,
    /// What went wrong.
    pub error: String,
    /// Whether it happened in a sub-agent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub is_subtask: Option<bool>,
    /// The sub-agent's session, as the agent names it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub child_session_id: Option<String>,
    /// The task call that started the sub-agent.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub task_call_id: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// How a prompt ended (dialect 2; dialect 1 knows only `success`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// The agent finished.
    Done,
    /// The agent or the sandbox failed.
    Failed,
    /// A person stopped it.
    Stopped,
    /// It took longer than allowed.
    TimedOut,
    /// The session was cancelled.
    Cancelled,
}

/// A prompt reached its terminal state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecutionComplete {
    /// The prompt.
    pub message_id: MessageId,
    /// Whether the agent finished without an error.
    pub success: bool,
    /// Why not.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub error: Option<String>,
    /// How it ended (dialect 2; set by the session, ignored from a sandbox).
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub outcome: Option<Outcome>,
    /// The sandbox that wrote it; empty when the control plane did.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// Where the checkout of a repository started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RepositoryBaseline {
    /// Place in the session's list.
    pub position: u32,
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// Commit that the session started from.
    pub base_sha: String,
}

/// The bridge is connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ready {
    /// The agent's session; `null` before the first prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub opencode_session_id: Option<String>,
    /// Version of the runtime, `v<N>-<name>`.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub runtime_version: Option<String>,
    /// Baselines of the checkouts.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repositories: Option<Vec<RepositoryBaseline>>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// State of a boot phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BootStatus {
    /// It began.
    Started,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
}

/// A phase of the sandbox's start (dialect 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BootProgress {
    /// `workspace`, `clone`, `setup`, `agent`, ...
    pub phase: String,
    /// Where it is.
    pub status: BootStatus,
    /// When it began.
    pub started_at: UnixMillis,
    /// How long it took, in ms.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub duration_ms: Option<i64>,
    /// A sentence more.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub detail: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// Where a warning comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs)]
pub enum WarningScope {
    Sync,
    Setup,
    Start,
    Assembly,
    Secrets,
    Media,
}

/// Something people should know that stopped nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Warning {
    /// Where it comes from.
    pub scope: WarningScope,
    /// The sentence.
    pub message: String,
    /// The repository it is about.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo_owner: Option<String>,
    /// The repository it is about.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo_name: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// How far the git checkout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum GitSyncStatus {
    /// It has not begun.
    Pending,
    /// It began.
    InProgress,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
}

/// State of the git checkout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GitSync {
    /// How far it is.
    pub status: GitSyncStatus,
    /// The commit that is checked out.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub sha: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// A branch reached the forge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PushComplete {
    /// The branch.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub branch_name: Option<String>,
    /// The repository.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo_owner: Option<String>,
    /// The repository.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo_name: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// A branch did not reach the forge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PushError {
    /// Why.
    pub error: String,
    /// The branch.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub branch_name: Option<String>,
    /// The repository.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo_owner: Option<String>,
    /// The repository.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo_name: Option<String>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// Something the session produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactEvent {
    /// `pr`, `screenshot`, `video`, `preview` or `branch`.
    pub artifact_type: String,
    /// The artifact's row.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub artifact_id: Option<String>,
    /// Where it is.
    pub url: String,
    /// What is known of it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional, type = "Record<string, unknown>"))]
    pub metadata: Option<Map<String, Value>>,
    /// The prompt that made it.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub message_id: Option<MessageId>,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}
