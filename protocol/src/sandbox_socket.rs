//! The socket between the bridge in a sandbox and the session (session.md 2, wire-additions.md).
//!
//! Headers of the upgrade: `Authorization: Bearer <token>`, `X-Sandbox-ID`, and `X-Bridge-Dialect: 2` for dialect 2.

use serde::{Deserialize, Serialize};

use crate::event::{
    ArtifactEvent, BootProgress, ContextCompacted, ErrorEvent, ExecutionComplete, GitSync, InputRequest, PartKind,
    PushComplete, PushError, Ready, StepFinish, StepStart, ToolCall, Warning,
};
use crate::ids::MessageId;
use crate::limits;
use crate::serde_rules::{absent, opens_object};
use crate::session_state::{InputState, PromptAttachment};

/// Text added to a part, or the mending of it (dialect 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartDelta {
    /// The prompt it answers.
    pub message_id: MessageId,
    /// The part, as the agent names it; at most 128 bytes.
    pub part_id: String,
    /// Text or reasoning.
    pub kind: PartKind,
    /// UTF-16 units from the part's start: cut there and append.
    pub offset: u32,
    /// What to append.
    pub text: String,
}

/// A part is finished (dialect 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartDone {
    /// The prompt it answers.
    pub message_id: MessageId,
    /// The part.
    pub part_id: String,
    /// Text or reasoning.
    pub kind: PartKind,
    /// The whole text, when the session may lack some.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whole length in UTF-16 units.
    pub length: u32,
}

/// The whole text so far of the current text part (dialect 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The prompt it answers.
    pub message_id: MessageId,
    /// The text so far.
    pub content: String,
    /// The sandbox that wrote it.
    #[serde(default)]
    pub sandbox_id: String,
    /// Seconds.
    pub timestamp: f64,
}

/// The bridge lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// `ready`.
    pub status: String,
}

/// The agent named its session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionTitle {
    /// The title.
    pub title: String,
}

/// The bridge has a prompt and will run it, or ran it (dialect 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptAccepted {
    /// The prompt.
    pub message_id: MessageId,
}

/// What a bridge may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SandboxEvent {
    Heartbeat(Heartbeat),
    Ready(Ready),
    /// Dialect 1.
    Token(Token),
    /// Dialect 2.
    PartDelta(PartDelta),
    /// Dialect 2.
    PartDone(PartDone),
    ToolCall(ToolCall),
    StepStart(StepStart),
    StepFinish(StepFinish),
    ContextCompacted(ContextCompacted),
    GitSync(GitSync),
    Error(ErrorEvent),
    ExecutionComplete(ExecutionComplete),
    PushComplete(PushComplete),
    PushError(PushError),
    Artifact(ArtifactEvent),
    Warning(Warning),
    SessionTitle(SessionTitle),
    /// Dialect 2.
    BootProgress(BootProgress),
    /// Dialect 2.
    PromptAccepted(PromptAccepted),
    /// Dialect 2.
    InputRequest(InputRequest),
}

/// A frame from a bridge with its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxFrame {
    /// What happened.
    pub event: SandboxEvent,
    /// Number of the frame (dialect 2). Heartbeats carry none.
    pub seq: Option<i64>,
    /// Asks for `ack {ackId}` (dialect 1).
    pub ack_id: Option<String>,
}

/// Why a bridge's frame was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectedSandboxFrame {
    /// More than 1 MiB.
    #[error("the frame is larger than 1 MiB")]
    TooLarge,
    /// Not JSON, or no envelope.
    #[error("the frame is not a JSON object with a type")]
    NotAnEvent,
    /// A type that we do not know.
    #[error("unknown event type `{kind}`")]
    UnknownType {
        /// The type, cut to 64 bytes.
        kind: String,
        /// Number of the frame, when it had one.
        seq: Option<i64>,
    },
    /// A known type with a wrong field.
    #[error("`{kind}` is malformed: {reason}")]
    Malformed {
        /// The type.
        kind: String,
        /// What serde says of it.
        reason: String,
        /// Number of the frame, when it had one.
        seq: Option<i64>,
    },
}

impl RejectedSandboxFrame {
    /// Stable code for `event_rejected`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "TOO_LARGE",
            Self::NotAnEvent => "INVALID_EVENT",
            Self::UnknownType { .. } => "UNKNOWN_TYPE",
            Self::Malformed { .. } => "MALFORMED_EVENT",
        }
    }

    /// Number of the rejected frame, when it could be read.
    pub const fn seq(&self) -> Option<i64> {
        match self {
            Self::TooLarge | Self::NotAnEvent => None,
            Self::UnknownType { seq, .. } | Self::Malformed { seq, .. } => *seq,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default)]
    seq: Option<i64>,
    /// Anything that was sent, so that a wrong one is told from none.
    #[serde(default, deserialize_with = "absent")]
    ack_id: Option<serde_json::Value>,
}

impl SandboxFrame {
    /// Reads one text frame: first the envelope, then the type's own struct, so that an error names the type.
    pub fn parse(text: &str) -> Result<Self, RejectedSandboxFrame> {
        if text.len() > limits::SANDBOX_FRAME_MAX_BYTES {
            return Err(RejectedSandboxFrame::TooLarge);
        }
        if !opens_object(text) {
            return Err(RejectedSandboxFrame::NotAnEvent);
        }
        let Envelope { kind, seq, ack_id } =
            serde_json::from_str(text).map_err(|_| RejectedSandboxFrame::NotAnEvent)?;
        let ack_id = match ack_id {
            None => None,
            Some(serde_json::Value::String(id)) => Some(id),
            Some(_) => {
                let kind = crate::text::truncate_bytes(&kind, 64).to_owned();
                return Err(RejectedSandboxFrame::Malformed { kind, reason: "ackId is not a string".to_owned(), seq });
            }
        };
        macro_rules! read {
            ($variant:ident) => {
                serde_json::from_str(text).map(SandboxEvent::$variant)
            };
        }
        let event = match kind.as_ref() {
            "part_delta" => read!(PartDelta),
            "token" => read!(Token),
            "part_done" => read!(PartDone),
            "tool_call" => read!(ToolCall),
            "heartbeat" => read!(Heartbeat),
            "ready" => read!(Ready),
            "step_start" => read!(StepStart),
            "step_finish" => read!(StepFinish),
            "context_compacted" => read!(ContextCompacted),
            "git_sync" => read!(GitSync),
            "error" => read!(Error),
            "execution_complete" => read!(ExecutionComplete),
            "push_complete" => read!(PushComplete),
            "push_error" => read!(PushError),
            "artifact" => read!(Artifact),
            "warning" => read!(Warning),
            "session_title" => read!(SessionTitle),
            "boot_progress" => read!(BootProgress),
            "prompt_accepted" => read!(PromptAccepted),
            "input_request" => read!(InputRequest),
            other => {
                let kind = crate::text::truncate_bytes(other, 64).to_owned();
                return Err(RejectedSandboxFrame::UnknownType { kind, seq });
            }
        };
        match event {
            Ok(event) => Ok(Self { event, seq, ack_id }),
            Err(error) => {
                Err(RejectedSandboxFrame::Malformed { kind: kind.into_owned(), reason: error.to_string(), seq })
            }
        }
    }
}

/// Name and address for commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum GitIdentity {
    /// The person who sent the prompt.
    AttributedUser {
        /// `user.name`
        name: String,
        /// `user.email`
        email: String,
    },
    /// Nobody in particular.
    AgentOnly,
}

/// Who sent the prompt, for the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandAuthor {
    /// Participant identity.
    pub user_id: String,
    /// Name and address for commits.
    pub git_identity: GitIdentity,
}

/// An attachment that the bridge fetches.
pub type CommandAttachment = PromptAttachment;

/// What to push, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushSpec {
    /// Dialect 2: without credentials, the bridge's credential helper answers. Dialect 1: with a short-lived token.
    pub remote_url: String,
    /// Without credentials, for messages.
    pub redacted_remote_url: String,
    /// `HEAD:refs/heads/<branch>`
    pub refspec: String,
    /// The branch.
    pub target_branch: String,
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// Whether the branch may be rewritten; the bridge of dialect 2 does it with a lease.
    pub force: bool,
}

/// A part that the session holds open, for the bridge to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownPart {
    /// The part.
    pub part_id: String,
    /// UTF-16 units that the session holds.
    pub length: u32,
}

/// What the session may send to a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum SandboxCommand {
    /// First frame in dialect 2: go on from here. May be repeated.
    Hello {
        /// 2
        dialect: u32,
        /// Frames up to this one are dealt with.
        acked_seq: i64,
        /// Open parts.
        parts: Vec<KnownPart>,
    },
    /// Run a prompt. Dialect 2 answers `prompt_accepted`, and a known `messageId` with its recorded state.
    Prompt {
        /// The prompt.
        message_id: MessageId,
        /// Its text.
        content: String,
        /// `provider/model`
        model: String,
        /// How hard to think.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning_effort: Option<String>,
        /// Who sent it.
        author: CommandAuthor,
        /// Files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attachments: Option<Vec<CommandAttachment>>,
    },
    /// Cancel the prompt that runs; answered by its `execution_complete`.
    Stop,
    /// Push a branch; answered by `push_complete` or `push_error`.
    #[serde(rename_all = "camelCase")]
    Push {
        /// What and where.
        push_spec: PushSpec,
    },
    /// A critical event arrived (dialect 1: `ackId`; dialect 2: `seq`, all up to it).
    Ack {
        /// Dialect 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ack_id: Option<String>,
        /// Dialect 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<i64>,
    },
    /// A frame can never be accepted; it counts as dealt with (dialect 2).
    EventRejected {
        /// The frame.
        seq: i64,
        /// Stable.
        code: String,
    },
    /// A question has ended (dialect 2). Said again after each `hello` while its prompt runs; the first counts.
    InputResponse {
        /// The question.
        request_id: String,
        /// The prompt it belongs to.
        message_id: MessageId,
        /// How it ended: `answered` or `expired`.
        state: InputState,
        /// The answer; absent when it expired without a default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// Leave.
    Shutdown,
    /// Collect the diff again.
    RefreshDiff,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_frame_says_what_is_wrong_and_keeps_its_number() {
        let cases = [
            ("", "INVALID_EVENT", None),
            ("[1]", "INVALID_EVENT", None),
            (r#"["heartbeat"]"#, "INVALID_EVENT", None),
            (r#"{"type":"user_message","seq":3,"content":"forged"}"#, "UNKNOWN_TYPE", Some(3)),
            (r#"{"type":"token","seq":4,"timestamp":1}"#, "MALFORMED_EVENT", Some(4)),
            (
                r#"{"type":"step_finish","seq":5,"timestamp":1,"messageId":"00000000000000000000000000000000","cost":null}"#,
                "MALFORMED_EVENT",
                Some(5),
            ),
        ];
        for (text, code, seq) in cases {
            let rejected = SandboxFrame::parse(text).expect_err(text);
            assert_eq!((rejected.code(), rejected.seq()), (code, seq), "{text}");
        }
        let large = format!(r#"{{"type":"heartbeat","status":"{}"}}"#, "x".repeat(limits::SANDBOX_FRAME_MAX_BYTES));
        assert_eq!(SandboxFrame::parse(&large), Err(RejectedSandboxFrame::TooLarge));
    }

    #[test]
    fn a_step_that_tells_no_count_where_counts_belong_is_refused_whole() {
        let step = |field: &str| {
            SandboxFrame::parse(&format!(
                r#"{{"type":"step_finish","messageId":"00000000000000000000000000000000","timestamp":1,{field}}}"#
            ))
        };
        for field in [
            r#""cost":null"#,
            r#""reason":null"#,
            r#""tokens":null"#,
            r#""tokens":"many""#,
            r#""tokens":[1]"#,
            r#""tokens":true"#,
            r#""tokens":{}"#,
            r#""tokens":{"models":1}"#,
            r#""tokens":{"input":"1"}"#,
            r#""tokens":{"input":1,"output":null}"#,
            r#""tokens":{"input":1,"cache":null}"#,
            r#""tokens":{"cache":{}}"#,
            r#""tokens":{"cache":{"read":"1"}}"#,
        ] {
            assert_eq!(step(field).map_err(|rejected| rejected.code()), Err("MALFORMED_EVENT"), "{field}");
        }
        for field in [
            r#""tokens":0"#,
            r#""tokens":12.5"#,
            r#""tokens":{"total":1}"#,
            r#""tokens":{"reasoning":1,"models":["a"]}"#,
            r#""tokens":{"cache":{"write":0}}"#,
        ] {
            assert!(step(field).is_ok(), "{field}");
        }
    }

    #[test]
    fn a_checkout_is_at_one_of_four_places() {
        let sync = |status: &str| {
            SandboxFrame::parse(&format!(r#"{{"type":"git_sync","seq":2,"timestamp":1,"status":{status}}}"#))
        };
        for status in [r#""pending""#, r#""in_progress""#, r#""completed""#, r#""failed""#] {
            assert!(sync(status).is_ok(), "{status}");
        }
        for status in [r#""done""#, r#""""#, r#""COMPLETED""#, "null", "1"] {
            let rejected = sync(status).expect_err(status);
            assert_eq!((rejected.code(), rejected.seq()), ("MALFORMED_EVENT", Some(2)), "{status}");
        }
    }

    #[test]
    fn an_ack_id_is_a_string_or_is_not_there() {
        for ack_id in ["null", "1", "{}", "[\"x\"]"] {
            let text = format!(r#"{{"type":"heartbeat","status":"ready","seq":3,"ackId":{ack_id}}}"#);
            let rejected = SandboxFrame::parse(&text).expect_err(&text);
            assert_eq!((rejected.code(), rejected.seq()), ("MALFORMED_EVENT", Some(3)), "{text}");
        }
        let frame = SandboxFrame::parse(r#"{"type":"heartbeat","status":"ready"}"#).expect("none is fine");
        assert_eq!(frame.ack_id, None);
    }

    #[test]
    fn ready_alone_may_carry_a_null() {
        let frame = SandboxFrame::parse(
            r#"{"type":"ready","sandboxId":"s","timestamp":1.5,"opencodeSessionId":null,"ackId":"x"}"#,
        );
        let frame = frame.expect("a null session id is allowed");
        assert_eq!(frame.ack_id.as_deref(), Some("x"));
        assert!(matches!(frame.event, SandboxEvent::Ready(Ready { opencode_session_id: None, .. })));
    }
}
