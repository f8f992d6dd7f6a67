//! Shapes of OpenCode's HTTP API and event stream, as far as they are used. Unknown fields and types are ignored.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One frame of `GET /event`.
#[derive(Debug, Clone, Deserialize)]
pub struct SseFrame {
    /// `message.part.updated`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// By type.
    #[serde(default)]
    pub properties: Value,
}

/// An entry of `GET /session/{id}/message`.
#[derive(Debug, Clone, Deserialize)]
pub struct StoredMessage {
    /// The message.
    pub info: MessageInfo,
    /// Its parts.
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// `properties` of `message.updated`.
#[derive(Debug, Clone, Deserialize)]
pub struct MessageUpdated {
    /// The message.
    pub info: MessageInfo,
}

/// A user or assistant message.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageInfo {
    /// `msg_…`
    pub id: String,
    /// Its session.
    #[serde(rename = "sessionID")]
    pub session_id: String,
    /// `user` or `assistant`.
    pub role: String,
    /// The user message that it answers.
    #[serde(default, rename = "parentID")]
    pub parent_id: Option<String>,
    /// When.
    #[serde(default)]
    pub time: Times,
    /// `true` on the summary of a compaction; an object on user messages.
    #[serde(default)]
    pub summary: Option<Value>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<NamedError>,
    /// Why the step ended.
    #[serde(default)]
    pub finish: Option<String>,
}

impl MessageInfo {
    /// Whether it is the summary of a compaction.
    pub fn is_summary(&self) -> bool {
        self.summary == Some(Value::Bool(true))
    }
}

/// Moments in ms since the epoch.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Times {
    #[serde(default)]
    pub created: Option<f64>,
    #[serde(default)]
    pub completed: Option<f64>,
    #[serde(default)]
    pub start: Option<f64>,
    #[serde(default)]
    pub end: Option<f64>,
}

/// An error as OpenCode writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct NamedError {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub data: Option<Value>,
}

impl NamedError {
    /// The sentence to show.
    pub fn text(&self) -> String {
        let data = self.data.as_ref().and_then(|data| data.get("message")).and_then(Value::as_str);
        data.or(self.message.as_deref())
            .filter(|text| !text.is_empty())
            .or(self.name.as_deref())
            .unwrap_or("The agent failed without a reason.")
            .to_owned()
    }

    /// Whether it has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

/// `properties` of `message.part.updated`.
#[derive(Debug, Clone, Deserialize)]
pub struct PartUpdated {
    /// The part.
    pub part: Part,
}

/// `properties` of `message.part.delta`.
#[derive(Debug, Clone, Deserialize)]
pub struct PartDelta {
    #[serde(rename = "sessionID")]
    pub session_id: String,
    #[serde(rename = "messageID")]
    pub message_id: String,
    #[serde(rename = "partID")]
    pub part_id: String,
    #[serde(default)]
    pub field: String,
    #[serde(default)]
    pub delta: String,
}

/// A part of a message.
#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    /// `prt_…`
    pub id: String,
    #[serde(default, rename = "sessionID")]
    pub session_id: String,
    #[serde(default, rename = "messageID")]
    pub message_id: String,
    #[serde(flatten)]
    pub body: PartBody,
}

/// What the part is.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PartBody {
    Text {
        #[serde(default)]
        text: String,
        #[serde(default)]
        time: Option<Times>,
        #[serde(default)]
        synthetic: Option<bool>,
        #[serde(default)]
        ignored: Option<bool>,
    },
    Reasoning {
        #[serde(default)]
        text: String,
        #[serde(default)]
        time: Option<Times>,
    },
    Tool {
        tool: String,
        #[serde(rename = "callID")]
        call_id: String,
        state: ToolState,
    },
    StepStart,
    StepFinish {
        #[serde(default)]
        cost: Option<f64>,
        #[serde(default)]
        tokens: Option<Value>,
        #[serde(default)]
        reason: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// State of a tool part.
#[derive(Debug, Clone, Deserialize)]
pub struct ToolState {
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub input: Map<String, Value>,
    #[serde(default)]
    pub output: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub time: Option<Times>,
}

/// `properties` of `session.created` and `session.updated`, and the answer of `GET /session/{id}` as `info`.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionUpdated {
    pub info: SessionInfo,
}

/// A session of OpenCode.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionInfo {
    pub id: String,
    #[serde(default, rename = "parentID")]
    pub parent_id: Option<String>,
    #[serde(default)]
    pub title: String,
}

impl SessionInfo {
    /// The title, unless it is the one that OpenCode gives before it has named the session.
    pub fn given_title(&self) -> Option<&str> {
        let title = self.title.trim();
        let lower = title.to_ascii_lowercase();
        let default = lower.starts_with("new session - ") || lower.starts_with("child session - ");
        (!title.is_empty() && !default).then_some(title)
    }
}

/// `properties` of `session.status`.
#[derive(Debug, Clone, Deserialize)]
pub struct StatusChanged {
    #[serde(rename = "sessionID")]
    pub session_id: String,
    pub status: Status,
}

/// `busy`, `idle` or `retry`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub attempt: Option<u32>,
    /// Why OpenCode tries again.
    #[serde(default)]
    pub message: Option<String>,
}

/// `properties` of `session.error`.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionError {
    #[serde(default, rename = "sessionID")]
    pub session_id: Option<String>,
    #[serde(default)]
    pub error: Option<NamedError>,
}

/// `properties` that name only a session.
#[derive(Debug, Clone, Deserialize)]
pub struct OfSession {
    #[serde(rename = "sessionID")]
    pub session_id: String,
}
