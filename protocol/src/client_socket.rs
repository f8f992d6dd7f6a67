//! The socket between a client and the session (session.md 1, wire-additions.md).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ErrorCode;
use crate::event::{Event, InputRequest, PartKind};
use crate::ids::{MessageId, ParticipantId};
use crate::limits;
use crate::serde_rules::{absent, opens_object};
use crate::session_state::{
    Author, HistoryCursor, OpenPart, Presence, PresenceStatus, QueuedPrompt, SandboxStatus, SessionArtifact,
    SessionInfo, SessionStatus,
};
use crate::text::utf16_len;
use crate::time::UnixMillis;

/// A file that was uploaded before, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttachmentRef {
    /// The upload.
    pub attachment_id: String,
    /// The name to show, 1 to 255 units.
    pub name: String,
}

/// What a client may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ClientMessage {
    /// Asks for `pong`. Allowed before `subscribe`.
    Ping,
    /// Identifies the client and asks for the snapshot.
    Subscribe {
        /// Token of `POST /sessions/:id/ws-token`.
        token: String,
        /// The client's own name for this page.
        client_id: String,
        /// 2 asks for dialect 2.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        dialect: Option<u32>,
        /// Resume after this revision (dialect 2).
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        after_revision: Option<i64>,
    },
    /// Queues a prompt.
    Prompt {
        /// Makes a repetition harmless; 1 to 128 units.
        client_request_id: String,
        /// At most 64 000 units.
        content: String,
        /// `provider/model`.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        model: Option<String>,
        /// How hard to think.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        reasoning_effort: Option<String>,
        /// At most 6.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        attachments: Option<Vec<AttachmentRef>>,
    },
    /// Removes a prompt that still waits.
    CancelPrompt {
        /// The prompt.
        message_id: String,
        /// Echoed in the answer.
        client_request_id: String,
    },
    /// Changes a prompt that still waits (dialect 2). Only its author may: commits carry their name.
    EditPrompt {
        /// The prompt.
        message_id: String,
        /// Makes a repetition harmless; 1 to 128 units.
        client_request_id: String,
        /// The new text, at most 64 000 units.
        content: String,
        /// `provider/model`; absent: as it was.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        model: Option<String>,
        /// How hard to think; absent: as it was.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        reasoning_effort: Option<String>,
    },
    /// Puts the waiting prompts in this order (dialect 2). Those that no longer wait are passed over; those that are
    /// not named follow as they were.
    ReorderPrompts {
        /// Each once, 1 to 10.
        message_ids: Vec<String>,
        /// Makes a repetition harmless; 1 to 128 units.
        client_request_id: String,
    },
    /// Puts a waiting prompt first and stops the one that runs (dialect 2).
    SendNow {
        /// The prompt.
        message_id: String,
        /// Makes a repetition harmless; 1 to 128 units.
        client_request_id: String,
    },
    /// Answers a question of the agent (dialect 2). The first answer counts.
    InputResponse {
        /// The question.
        request_id: String,
        /// The answer, 1 to 16 000 units.
        answer: String,
        /// Makes a repetition harmless; 1 to 128 units.
        client_request_id: String,
    },
    /// Stops the prompt that runs.
    Stop,
    /// The person types: warms a sandbox.
    Typing,
    /// The page came to the front or left it.
    Presence {
        /// `active` or `idle`.
        status: PresenceStatus,
    },
    /// Asks for an older page.
    FetchHistory {
        /// Oldest row that the client has.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        cursor: Option<HistoryCursor>,
        /// 1 to 500; 200 by default.
        #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        limit: Option<i64>,
    },
}

/// Why a client's frame was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}")]
pub struct RejectedClientFrame {
    /// `INVALID_MESSAGE` or `INVALID_PROMPT`.
    pub code: ErrorCode,
    /// Echoed when the frame carried a valid one.
    pub client_request_id: Option<String>,
}

/// Messages that carry a request id, which a refusal echoes.
const REQUESTS: [&str; 6] = ["prompt", "cancel_prompt", "edit_prompt", "reorder_prompts", "send_now", "input_response"];

fn valid_request_id(id: &str) -> bool {
    (1..=limits::CLIENT_REQUEST_ID_MAX_UTF16).contains(&utf16_len(id))
}

/// Whether a prompt of this text and this number of attachments may be queued.
pub fn is_valid_prompt(content: &str, attachments: &[AttachmentRef]) -> bool {
    utf16_len(content) <= limits::PROMPT_MAX_UTF16
        && attachments.len() <= limits::PROMPT_MAX_ATTACHMENTS
        && (!attachments.is_empty() || !content.trim().is_empty())
        && attachments
            .iter()
            .all(|attachment| is_file_id(&attachment.attachment_id) && (1..=255).contains(&utf16_len(&attachment.name)))
}

/// Whether this can be the id of an attachment or an artifact: 1 to 128 letters, digits and `-`.
pub fn is_file_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl ClientMessage {
    /// Reads one text frame.
    pub fn parse(text: &str) -> Result<Self, RejectedClientFrame> {
        if text.len() > limits::CLIENT_FRAME_MAX_BYTES {
            return Err(RejectedClientFrame { code: ErrorCode::InvalidMessage, client_request_id: None });
        }
        if !opens_object(text) {
            return Err(Self::rejection(text));
        }
        match serde_json::from_str::<Self>(text) {
            Ok(message) if message.is_within_limits() => Ok(message),
            _ => Err(Self::rejection(text)),
        }
    }

    fn is_within_limits(&self) -> bool {
        match self {
            Self::Prompt { client_request_id, content, attachments, .. } => {
                valid_request_id(client_request_id)
                    && is_valid_prompt(content, attachments.as_deref().unwrap_or_default())
            }
            Self::CancelPrompt { message_id, client_request_id } | Self::SendNow { message_id, client_request_id } => {
                !message_id.is_empty() && valid_request_id(client_request_id)
            }
            // Whether it may be blank depends on the prompt's files, which the session knows.
            Self::EditPrompt { message_id, client_request_id, content, .. } => {
                !message_id.is_empty()
                    && valid_request_id(client_request_id)
                    && utf16_len(content) <= limits::PROMPT_MAX_UTF16
            }
            Self::ReorderPrompts { message_ids, client_request_id } => {
                let mut ids: Vec<_> = message_ids.iter().collect();
                ids.sort_unstable();
                ids.dedup();
                valid_request_id(client_request_id)
                    && ids.len() == message_ids.len()
                    && (1..=limits::MAX_UNFINISHED_PROMPTS).contains(&ids.len())
            }
            Self::InputResponse { request_id, answer, client_request_id } => {
                !request_id.is_empty()
                    && valid_request_id(client_request_id)
                    && !answer.trim().is_empty()
                    && utf16_len(answer) <= limits::ANSWER_MAX_UTF16
            }
            Self::Subscribe { client_id, after_revision, .. } => {
                utf16_len(client_id) <= limits::CLIENT_ID_MAX_UTF16 && after_revision.is_none_or(|r| r >= 0)
            }
            Self::Presence { status } => *status != PresenceStatus::Away,
            Self::FetchHistory { cursor, .. } => {
                cursor.as_ref().is_none_or(|cursor| cursor.sequence.is_none_or(|sequence| sequence >= 0))
            }
            Self::Ping | Self::Stop | Self::Typing => true,
        }
    }

    /// The request id that a refusal echoes.
    pub fn client_request_id(&self) -> Option<&str> {
        match self {
            Self::Prompt { client_request_id, .. }
            | Self::CancelPrompt { client_request_id, .. }
            | Self::EditPrompt { client_request_id, .. }
            | Self::ReorderPrompts { client_request_id, .. }
            | Self::SendNow { client_request_id, .. }
            | Self::InputResponse { client_request_id, .. } => Some(client_request_id),
            Self::Ping
            | Self::Subscribe { .. }
            | Self::Stop
            | Self::Typing
            | Self::Presence { .. }
            | Self::FetchHistory { .. } => None,
        }
    }

    fn rejection(text: &str) -> RejectedClientFrame {
        let raw: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let kind = raw.get("type").and_then(Value::as_str).unwrap_or_default();
        let client_request_id = raw
            .get("clientRequestId")
            .and_then(Value::as_str)
            .filter(|id| valid_request_id(id) && REQUESTS.contains(&kind))
            .map(str::to_owned);
        let code =
            if matches!(kind, "prompt" | "edit_prompt") { ErrorCode::InvalidPrompt } else { ErrorCode::InvalidMessage };
        RejectedClientFrame { code, client_request_id }
    }
}

/// How `subscribed` fills the client's timeline (dialect 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TimelineMode {
    /// Rows changed since `afterRevision`; keep the rest.
    Delta,
    /// Drop what you have.
    Snapshot,
}

/// One stored event with its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimelineEvent {
    /// The event.
    pub event_id: String,
    /// Its place, never changed.
    pub timeline_sequence: i64,
    /// Taken anew whenever the row changes (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub revision: Option<i64>,
    /// What happened.
    pub event: Event,
}

/// The newest page of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timeline {
    /// How to fill (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub mode: Option<TimelineMode>,
    /// Oldest first.
    pub events: Vec<TimelineEvent>,
    /// Whether older ones exist.
    pub has_more: bool,
    /// The oldest of the page; null when it is empty.
    pub cursor: Option<HistoryCursor>,
}

/// The whole of a session at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The session.
    pub session: SessionInfo,
    /// Newest first.
    pub artifacts: Vec<SessionArtifact>,
    /// Newest page.
    pub timeline: Timeline,
    /// Waiting and running prompts, in order.
    pub prompt_queue: Vec<QueuedPrompt>,
    /// Why the sandbox did not start.
    pub spawn_error: Option<String>,
    /// Parts that are being written (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub open_parts: Option<Vec<OpenPart>>,
    /// The newest revision (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub revision: Option<i64>,
    /// Questions that wait for an answer; they may be older than the page (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub input_requests: Option<Vec<InputRequest>>,
    /// There are older artifacts: `GET /sessions/:id/artifacts` goes on from here (dialect 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub artifacts_cursor: Option<String>,
}

/// What the session may send to a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(clippy::large_enum_variant, reason = "built and serialised at once; boxing would cost more than it saves")]
pub enum ServerMessage {
    /// Answers `ping`.
    Pong {
        /// Absent when the platform answers for a sleeping session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        timestamp: Option<UnixMillis>,
    },
    /// Answers `subscribe`.
    Subscribed {
        /// The session at this moment.
        #[serde(flatten)]
        snapshot: Box<Snapshot>,
        /// Granted dialect (dialect 2).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        dialect: Option<u32>,
        /// Who you are.
        participant_id: ParticipantId,
        /// Who you are, to show.
        participant: Author,
    },
    /// A prompt was accepted.
    PromptQueued {
        /// Echo.
        client_request_id: String,
        /// The prompt.
        message_id: MessageId,
        /// 1 is the one that runs or will run first; null when it is finished already.
        position: Option<u32>,
    },
    /// A waiting prompt was removed.
    PromptCancelled {
        /// Echo.
        client_request_id: String,
        /// The prompt.
        message_id: MessageId,
    },
    /// A waiting prompt was changed (dialect 2).
    PromptEdited {
        /// Echo.
        client_request_id: String,
        /// The prompt.
        message_id: MessageId,
    },
    /// The waiting prompts were put in order (dialect 2).
    PromptsReordered {
        /// Echo.
        client_request_id: String,
    },
    /// A prompt goes first (dialect 2).
    PromptSentNow {
        /// Echo.
        client_request_id: String,
        /// The prompt.
        message_id: MessageId,
    },
    /// An answer was taken (dialect 2).
    InputAccepted {
        /// Echo.
        client_request_id: String,
        /// The question.
        request_id: String,
    },
    /// The queue changed.
    PromptQueueUpdated {
        /// Waiting and running prompts, in order.
        prompt_queue: Vec<QueuedPrompt>,
    },
    /// An event was stored (or, for steps, happened).
    SandboxEvent {
        /// The event.
        event: Event,
        /// Dialect 2, stored events only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        event_id: Option<String>,
        /// Dialect 2, stored events only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        timeline_sequence: Option<i64>,
        /// Dialect 2, stored events only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        revision: Option<i64>,
    },
    /// More text of an open part (dialect 2).
    PartDelta {
        /// The prompt it answers.
        message_id: MessageId,
        /// The part.
        part_id: String,
        /// Text or reasoning.
        kind: PartKind,
        /// UTF-16 units from the part's start: cut there and append.
        offset: u32,
        /// What to append.
        text: String,
    },
    /// A part took its place in the timeline (dialect 2).
    PartDone {
        /// The prompt it answers.
        message_id: MessageId,
        /// The part.
        part_id: String,
        /// Text or reasoning.
        kind: PartKind,
        /// UTF-16 units.
        length: u32,
        /// The whole text, when the client may lack some.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        text: Option<String>,
        /// Its row.
        event_id: String,
        /// Its place.
        timeline_sequence: i64,
        /// Its revision.
        revision: i64,
        /// Seconds, of the stored event.
        timestamp: f64,
    },
    /// Several messages in one frame (dialect 2).
    Batch {
        /// In order.
        messages: Vec<ServerMessage>,
    },
    /// Everybody who is here; to a new subscriber.
    PresenceSync {
        /// One entry a person.
        participants: Vec<Presence>,
    },
    /// Everybody who is here.
    PresenceUpdate {
        /// One entry a person.
        participants: Vec<Presence>,
    },
    /// A person's last page closed.
    PresenceLeave {
        /// The person.
        user_id: String,
    },
    /// Somebody types (dialect 2).
    Typing {
        /// Who.
        participant_id: ParticipantId,
        /// The name to show.
        name: String,
    },
    /// A sandbox is being warmed.
    SandboxWarming,
    /// A prompt waits for a sandbox.
    SandboxSpawning,
    /// The sandbox's status changed.
    SandboxStatus {
        /// Its status.
        status: SandboxStatus,
    },
    /// The sandbox did not start.
    SandboxError {
        /// Why.
        error: String,
    },
    /// Something about the sandbox people should know.
    SandboxWarning {
        /// What.
        message: String,
    },
    /// A new sandbox has the files of an earlier one.
    SandboxRestored {
        /// The sentence.
        message: String,
    },
    /// The sandbox's files were kept.
    SnapshotSaved {
        /// The backend's name of it.
        image_id: String,
        /// `execution_complete`, `inactivity_timeout`, `heartbeat_timeout`, `time_limit`, `archive`, ...
        reason: String,
    },
    /// Refetch `GET /sessions/:id/sandbox-access`.
    SandboxAccessChanged,
    /// Ports of the sandbox that can be reached.
    TunnelUrls {
        /// Address by port.
        #[cfg_attr(feature = "typescript", ts(type = "Record<string, string>"))]
        urls: Map<String, Value>,
    },
    /// The vendor's page of the sandbox.
    SandboxDashboardUrl {
        /// Its address.
        url: String,
    },
    /// A new artifact.
    ArtifactCreated {
        /// The artifact.
        artifact: SessionArtifact,
    },
    /// An artifact changed.
    ArtifactUpdated {
        /// The artifact.
        artifact: SessionArtifact,
    },
    /// A branch was pushed.
    SessionBranch {
        /// The branch.
        branch_name: String,
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        repo_owner: Option<String>,
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        repo_name: Option<String>,
    },
    /// The session's status changed.
    SessionStatus {
        /// Its status.
        status: SessionStatus,
    },
    /// The title changed.
    SessionTitle {
        /// The title.
        title: String,
    },
    /// Whether a prompt runs.
    ProcessingStatus {
        /// Whether one does.
        is_processing: bool,
    },
    /// Answers `fetch_history`.
    HistoryPage {
        /// Oldest first.
        items: Vec<TimelineEvent>,
        /// Whether older ones exist.
        has_more: bool,
        /// The oldest of the page; null when it is empty.
        cursor: Option<HistoryCursor>,
    },
    /// A child session changed.
    ChildSessionUpdate {
        /// The child.
        child_session_id: String,
        /// Its status.
        status: SessionStatus,
        /// Its title.
        title: Option<String>,
    },
    /// Refetch `GET /sessions/:id/diff`: a bundle was stored, or none could be taken.
    DiffStateChanged {
        /// The newest bundle; null when there is none.
        revision_id: Option<String>,
        /// When.
        updated_at: UnixMillis,
    },
    /// A message was refused; the socket stays open.
    Error {
        /// Stable.
        code: ErrorCode,
        /// The sentence.
        message: String,
        /// Echo, when the message carried one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "typescript", ts(optional))]
        client_request_id: Option<String>,
    },
}

/// Close codes of the client socket (session.md 1.11).
pub mod close {
    /// Replaced or stopped.
    pub const NORMAL: u16 = 1000;
    /// Our fault.
    pub const INTERNAL: u16 = 1011;
    /// Token missing, wrong or expired.
    pub const UNAUTHENTICATED: u16 = 4001;
    /// The session no longer knows the socket.
    pub const EXPIRED: u16 = 4002;
    /// `subscribe` a second time.
    pub const ALREADY_SUBSCRIBED: u16 = 4003;
    /// No `subscribe` within 30 s.
    pub const AUTH_TIMEOUT: u16 = 4008;
    /// The snapshot could not be made.
    pub const SYNC_FAILED: u16 = 4009;
}

/// Unknown keys of a free record, kept for readers.
pub type FreeRecord = Map<String, Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_frames_name_their_code_and_echo_a_valid_request_id() {
        let long = "x".repeat(64_001);
        let cases = [
            ("not json".to_owned(), ErrorCode::InvalidMessage, None),
            ("[]".to_owned(), ErrorCode::InvalidMessage, None),
            (r#"{"type":"nonsense"}"#.to_owned(), ErrorCode::InvalidMessage, None),
            (
                r#"{"type":"prompt","clientRequestId":"a","content":"  "}"#.to_owned(),
                ErrorCode::InvalidPrompt,
                Some("a"),
            ),
            (
                r#"{"type":"prompt","clientRequestId":"a","content":"x","model":null}"#.to_owned(),
                ErrorCode::InvalidPrompt,
                Some("a"),
            ),
            (
                format!(r#"{{"type":"prompt","clientRequestId":"a","content":"{long}"}}"#),
                ErrorCode::InvalidPrompt,
                Some("a"),
            ),
            (
                r#"{"type":"cancel_prompt","clientRequestId":"b","messageId":""}"#.to_owned(),
                ErrorCode::InvalidMessage,
                Some("b"),
            ),
            (r#"{"type":"prompt","clientRequestId":"","content":"x"}"#.to_owned(), ErrorCode::InvalidPrompt, None),
            (r#"{"type":"presence","status":"away"}"#.to_owned(), ErrorCode::InvalidMessage, None),
        ];
        for (frame, code, id) in cases {
            let rejected = ClientMessage::parse(&frame).expect_err(&frame[..frame.len().min(80)]);
            assert_eq!(
                (rejected.code, rejected.client_request_id.as_deref()),
                (code, id),
                "{}",
                &frame[..frame.len().min(80)]
            );
        }
    }

    #[test]
    fn astral_characters_count_as_two() {
        let fits = "😀".repeat(32_000);
        assert!(is_valid_prompt(&fits, &[]));
        assert!(!is_valid_prompt(&format!("{fits}x"), &[]));
    }
}
