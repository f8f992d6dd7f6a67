//! The agent that does the work, behind a trait: OpenCode by its own API, or any that speaks the Agent Client Protocol.

pub mod acp;
pub mod answers;
pub mod any;
pub mod keeper;
pub mod opencode;
pub mod patience;
pub mod setup;

use std::future::Future;
use std::path::{Path, PathBuf};

pub use oi_protocol::event::InputKind as QuestionKind;
use oi_protocol::event::{FileChange, PartKind};
use oi_protocol::{MessageId, UnixMillis};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use answers::Answers;

/// One prompt for the agent.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The prompt; the agent's own id of it is derived from this, so that giving it twice runs it once.
    pub message_id: MessageId,
    /// Its text.
    pub text: String,
    /// Files that go with it.
    pub files: Vec<TurnFile>,
    /// `provider/model`
    pub model: String,
    /// How hard to think.
    pub effort: Option<String>,
    /// Where the agent works.
    pub directory: PathBuf,
    /// The turn is aborted at this moment.
    pub deadline: Instant,
    /// The agent's session that already has this prompt: look what became of it, and do not give it again if it
    /// arrived.
    pub resume: Option<String>,
    /// Where answers to its questions come.
    pub answers: Answers,
}

/// A file that goes with a prompt.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnFile {
    /// The name to show.
    pub name: String,
    /// What it is.
    pub mime_type: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for TurnFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnFile")
            .field("mime_type", &self.mime_type)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What the agent does, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentEvent {
    /// The turn runs in this session of the agent. Comes before the agent gets the prompt.
    Session(String),
    /// Text of a part, to append.
    Text {
        /// The part.
        part_id: String,
        /// Text or reasoning.
        kind: PartKind,
        /// What to append.
        text: String,
    },
    /// A part is finished.
    PartDone {
        /// The part.
        part_id: String,
        /// Text or reasoning.
        kind: PartKind,
        /// Its whole text.
        text: String,
    },
    /// A tool call began or proceeded.
    Tool(Box<ToolUpdate>),
    /// A model step began.
    StepStart {
        /// Whether a sub-agent made it.
        subtask: bool,
    },
    /// A model step ended.
    StepFinish {
        /// US dollars.
        cost: Option<f64>,
        /// As the agent counts them.
        tokens: Option<Value>,
        /// Why it ended.
        reason: Option<String>,
        /// Whether a sub-agent made it.
        subtask: bool,
    },
    /// The context was compacted.
    Compacted,
    /// Something went wrong; each text comes once.
    Error {
        /// What.
        text: String,
        /// Whether in a sub-agent: then the turn goes on.
        subtask: bool,
    },
    /// The agent named its session.
    Title(String),
    /// Something that people should know and that stops nothing, such as a provider that makes the agent wait.
    Warning(String),
    /// The agent waits for an answer, which comes by `Turn::answers`.
    Question {
        /// Unique in the session.
        request_id: String,
        /// What it is about.
        kind: QuestionKind,
        /// The question.
        text: String,
        /// Answers to choose from; another one is allowed.
        options: Option<Vec<String>>,
    },
}

/// The state of a tool call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolUpdate {
    /// The tool's name.
    pub tool: String,
    /// Its arguments, cut where they are very long.
    pub args: Map<String, Value>,
    /// The call.
    pub call_id: String,
    /// `pending`, `running`, `completed` or `error`.
    pub status: String,
    /// What it printed, cut where it is very long.
    pub output: Option<String>,
    /// Whether the output was cut.
    pub truncated: bool,
    /// The whole output of a call that ended, where it was cut.
    pub whole_output: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Exit code of a command.
    pub exit_code: Option<i32>,
    /// When it began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// What it changed.
    pub file_change: Option<FileChange>,
    /// Whether a sub-agent made the call.
    pub subtask: bool,
    /// The sub-agent's session.
    pub child_session_id: Option<String>,
    /// The task call that started the sub-agent.
    pub task_call_id: Option<String>,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnEnd {
    /// The agent finished; `had_output` says whether it said or did anything.
    Finished {
        /// Whether there was text, a tool call or a finished step.
        had_output: bool,
    },
    /// It was stopped by `StopSignal`.
    Stopped,
    /// The deadline came.
    TimedOut,
    /// The agent reported an error, which an `AgentEvent::Error` told.
    Failed(String),
    /// The agent could not be reached or ended; no event has told it yet.
    Broken(String),
}

/// Asks a turn to stop: becomes `true` once.
pub type StopSignal = watch::Receiver<bool>;

/// An agent that runs turns, one at a time.
pub trait Agent: Send + Sync + 'static {
    /// Waits until it can take a turn; an error says why it never will.
    fn up(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Makes the first turn quick, and gives the agent's session, when there is one. A turn runs as well without.
    fn warm(&self, directory: &Path, model: &str) -> impl Future<Output = Option<String>> + Send;

    /// Runs a turn to its end, which always comes: on success, failure, stop or deadline.
    fn run(
        &self,
        turn: Turn,
        events: mpsc::Sender<AgentEvent>,
        stop: StopSignal,
    ) -> impl Future<Output = TurnEnd> + Send;

    /// The name that the agent gave its session, when it has given one.
    fn title(&self) -> impl Future<Output = Option<String>> + Send;
}
