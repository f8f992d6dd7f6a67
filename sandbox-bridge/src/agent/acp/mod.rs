//! Any agent that speaks the Agent Client Protocol (version 1) on its standard input and output: `opencode acp`, and by
//! adapters Claude Code, Codex and Gemini CLI.
//!
//! The protocol is JSON-RPC on lines, of which a client needs six calls. The official crate (`agent-client-protocol`
//! 5.2) brings its own executor glue, `async-process`, `uuid` and JSON schemas of every type, and its typed enums refuse
//! an update that is newer than they are; a bridge wants to pass over what it does not know. So the lines are written
//! here, as those of MCP are.

mod calls;
mod files;
mod peer;
mod process;
mod translate;
mod turn;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use crate::agent::keeper::Endpoint;
use crate::mcp_servers::{AgentServer, Reach};
pub use process::{AcpConnection, AcpProcess};

/// Whether the agent may do what it asks leave for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Permissions {
    /// The sandbox is the boundary: everything is allowed, once each time.
    #[default]
    Allow,
    /// A person is asked each time.
    Ask,
}

/// What is kept of the agent's session, for the next process and for a restored sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// The agent's id of it.
    session: String,
    /// What it cost until now, in US dollars: the agent counts from its beginning.
    #[serde(default)]
    cost: f64,
}

/// A session that the running process has open.
#[derive(Debug, Clone, Default)]
struct Open {
    incarnation: u64,
    kept: Kept,
    /// What can be set of it, as the agent said last.
    options: Vec<Value>,
}

/// An agent behind the Agent Client Protocol.
pub struct AcpAgent {
    endpoint: watch::Receiver<Endpoint<AcpConnection>>,
    session_file: PathBuf,
    servers: Vec<AgentServer>,
    permissions: Permissions,
    /// Where its file calls may reach.
    workspace: PathBuf,
    /// Held while a session is opened, so that two who need one get the same.
    open: Mutex<Open>,
    /// Turns begin when this is `true`.
    may_change: watch::Receiver<bool>,
}

impl AcpAgent {
    /// The agent at whatever endpoint is current.
    pub fn new(
        endpoint: watch::Receiver<Endpoint<AcpConnection>>,
        session_file: PathBuf,
        servers: Vec<AgentServer>,
        permissions: Permissions,
        workspace: PathBuf,
    ) -> Self {
        let (_, may_change) = watch::channel(true);
        Self { endpoint, session_file, servers, permissions, workspace, open: Mutex::default(), may_change }
    }

    /// Holds turns until this is `true`: not every agent of the protocol asks before it changes a file.
    #[must_use]
    pub fn beginning_when(self, may_change: watch::Receiver<bool>) -> Self {
        Self { may_change, ..self }
    }

    fn known(&self) -> Option<Kept> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(&self.session_file).ok()?).ok()?;
        (1..=256).contains(&kept.session.len()).then_some(kept)
    }

    fn keep(&self, kept: &Kept) {
        let write = || {
            if let Some(folder) = self.session_file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let new = self.session_file.with_extension("new");
            std::fs::write(&new, serde_json::to_vec(kept)?)?;
            std::fs::rename(new, &self.session_file)
        };
        if let Err(error) = write() {
            tracing::warn!(event = "agent.session_not_saved", %error);
        }
    }

    /// The session's MCP servers as the protocol has them; those by HTTP where the agent knows such.
    fn mcp_servers(&self, http: bool) -> Value {
        let entry = |server: &AgentServer| match &server.reach {
            Reach::Command(command) => {
                let (program, arguments) = command.split_first()?;
                Some(json!({"name": server.name, "command": program, "args": arguments, "env": []}))
            }
            Reach::Http { url, token } => http.then(|| {
                let headers = json!([{"name": "Authorization", "value": format!("Bearer {}", token.reveal())}]);
                json!({"type": "http", "name": server.name, "url": url, "headers": headers})
            }),
        };
        self.servers.iter().filter_map(entry).collect()
    }
}
