//! One shape for every refusal.

use serde::{Deserialize, Serialize};

/// Stable codes of refusals, on the sockets and in REST bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ErrorCode {
    /// Not JSON, an unknown type, a wrong field, a binary frame or too large.
    InvalidMessage,
    /// A prompt whose content, model or attachments are out of bounds.
    InvalidPrompt,
    /// Attachments that are missing, used, doubled or of a wrong kind.
    InvalidAttachments,
    /// The session is archived or cancelled.
    SessionNotPromptable,
    /// Ten prompts wait or run already.
    PromptQueueFull,
    /// The request id was used for a different prompt.
    PromptRequestConflict,
    /// The prompt is not waiting any more.
    PromptNotCancellable,
    /// The prompt is not waiting any more and can be changed no longer (dialect 2).
    PromptNotWaiting,
    /// The question has an answer, has expired, or its prompt ended (dialect 2).
    InputNotWaiting,
    /// Nothing is left of a budget: the prompt's, the session's, the person's or the deployment's.
    BudgetExceeded,
    /// A history cursor that is missing or malformed.
    InvalidCursor,
    /// Too many requests in a short time.
    RateLimited,
    /// The caller's rights do not cover the message (dialect 2).
    Forbidden,
    /// REST: the body is not JSON, or not of the expected shape.
    InvalidBody,
    /// REST: a path or query parameter is malformed.
    InvalidParameter,
    /// REST: no credential, or a wrong one.
    Unauthorized,
    /// REST: nothing has this name.
    NotFound,
    /// REST: the state does not allow the request.
    Conflict,
    /// REST: the body is larger than the route allows.
    TooLarge,
    /// REST: the method is not one of the route's.
    MethodNotAllowed,
    /// REST: the sandbox that asks has been stopped or replaced.
    SandboxGone,
    /// A vendor refused or failed; the sentence says which.
    UpstreamFailed,
    /// Try again: the work goes on and a repetition meets it.
    Retry,
    /// The deployment lacks a setting.
    NotConfigured,
    /// The deployment does not do this.
    NotImplemented,
    /// Our fault; the request id finds it in the logs.
    Internal,
    /// REST: the revision of the diff that is asked for is not the newest; `currentRevisionId` is.
    #[serde(rename = "diff_revision_stale")]
    DiffRevisionStale,
    /// REST: the newest revision of the diff has no such patch.
    #[serde(rename = "diff_file_not_found")]
    DiffFileNotFound,
}

/// The body of every REST refusal. `error` is the sentence for people; `code` is stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// What happened and what to do, in a sentence.
    pub error: String,
    /// The stable code.
    pub code: ErrorCode,
    /// Finds the request in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub request_id: Option<String>,
}
