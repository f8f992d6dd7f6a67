//! The bridge: what the session orders goes to the agent and git, what they do goes to the session.

mod attachments;
pub mod connection;
pub mod dialect1;
pub mod journal;
pub mod open_text;
pub mod outbox;
pub mod prompt;
pub mod runner;
mod turn;

use oi_protocol::MessageId;
use oi_protocol::event::{ErrorEvent, ExecutionComplete, Warning, WarningScope};
use oi_protocol::sandbox_socket::SandboxEvent;

use crate::clock;

/// What every event of this sandbox carries.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The sandbox's logical id.
    pub sandbox_id: String,
}

impl Stamp {
    /// Seconds since the epoch.
    pub fn timestamp() -> f64 {
        clock::now().as_event_timestamp()
    }

    /// Something went wrong within a run.
    pub fn error(&self, message_id: &MessageId, text: &str) -> SandboxEvent {
        SandboxEvent::Error(ErrorEvent {
            message_id: message_id.clone(),
            error: text.to_owned(),
            is_subtask: None,
            child_session_id: None,
            task_call_id: None,
            sandbox_id: self.sandbox_id.clone(),
            timestamp: Self::timestamp(),
        })
    }

    /// Something that people should know and that stops nothing.
    pub fn warning(&self, scope: WarningScope, message: String) -> Warning {
        Warning {
            scope,
            message,
            repo_owner: None,
            repo_name: None,
            sandbox_id: self.sandbox_id.clone(),
            timestamp: Self::timestamp(),
        }
    }

    /// A prompt reached its end.
    pub fn complete(&self, message_id: &MessageId, error: Option<String>) -> SandboxEvent {
        SandboxEvent::ExecutionComplete(ExecutionComplete {
            message_id: message_id.clone(),
            success: error.is_none(),
            error,
            outcome: None,
            sandbox_id: self.sandbox_id.clone(),
            timestamp: Self::timestamp(),
        })
    }
}
