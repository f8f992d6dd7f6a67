//! Whichever agent the sandbox has.

use std::path::Path;

use tokio::sync::mpsc;

use super::acp::AcpAgent;
use super::opencode::OpenCode;
use super::{Agent, AgentEvent, StopSignal, Turn, TurnEnd};

/// The agent of a sandbox.
pub enum AnyAgent {
    /// OpenCode, by its own API.
    OpenCode(OpenCode),
    /// One that speaks the Agent Client Protocol.
    Acp(AcpAgent),
}

impl AnyAgent {
    /// The name to show.
    pub fn name(&self) -> &str {
        match self {
            Self::OpenCode(_) => "OpenCode",
            Self::Acp(_) => "the agent",
        }
    }
}

impl Agent for AnyAgent {
    async fn up(&self) -> Result<(), String> {
        match self {
            Self::OpenCode(agent) => agent.up().await,
            Self::Acp(agent) => agent.up().await,
        }
    }

    async fn warm(&self, directory: &Path, model: &str) -> Option<String> {
        match self {
            Self::OpenCode(agent) => agent.warm(directory, model).await,
            Self::Acp(agent) => agent.warm(directory, model).await,
        }
    }

    async fn run(&self, turn: Turn, events: mpsc::Sender<AgentEvent>, stop: StopSignal) -> TurnEnd {
        match self {
            Self::OpenCode(agent) => agent.run(turn, events, stop).await,
            Self::Acp(agent) => agent.run(turn, events, stop).await,
        }
    }

    async fn title(&self) -> Option<String> {
        match self {
            Self::OpenCode(agent) => agent.title().await,
            Self::Acp(agent) => agent.title().await,
        }
    }
}
