//! The process of an agent that speaks the Agent Client Protocol.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::watch;

use super::peer::Peer;
use crate::agent::keeper::{AgentProcess, Endpoint, START_WITHIN};
use crate::broker::peer::AgentPid;
use crate::launch;
use crate::process_group::GroupGuard;

/// What is kept of its last words.
const WORDS_MAX_BYTES: usize = 2048;

/// An agent that answers.
#[derive(Debug, Clone)]
pub struct AcpConnection {
    /// To call it.
    pub peer: Peer,
    /// What it can do, as it said.
    pub capabilities: Value,
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct AcpProcess {
    /// Program and arguments.
    pub command: Vec<String>,
    /// This binary, which ties the child to the supervisor.
    pub launcher: PathBuf,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Where its number is told while it runs.
    pub pid: AgentPid,
}

impl AgentProcess for AcpProcess {
    type Agent = AcpConnection;
    const NAME: &'static str = "The agent";

    fn pid(&self) -> &AgentPid {
        &self.pid
    }

    async fn run_once(&self, incarnation: u64, endpoint: &watch::Sender<Endpoint<AcpConnection>>) -> String {
        let Some((program, arguments)) = self.command.split_first() else {
            return "no command is configured for it".to_owned();
        };
        let spawned = Command::new(&self.launcher)
            .args(launch::arguments(true, Some(std::process::id())))
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return format!("cannot start `{program}`: {error}"),
        };
        self.pid.set(child.id());
        // An adapter has the agent proper below it.
        let mut group = GroupGuard::of(&child);
        let (Some(input), Some(output), Some(complaints)) =
            (child.stdout.take(), child.stdin.take(), child.stderr.take())
        else {
            return "it has no pipes".to_owned();
        };
        let words = tokio::spawn(last_words(complaints));
        let (peer, reading) = Peer::new(input, output);
        let mut reading = tokio::spawn(reading);
        let hello = json!({"protocolVersion": 1, "clientInfo": {"name": "open-inspect",
            "version": env!("CARGO_PKG_VERSION")}, "clientCapabilities": {
            "fs": {"readTextFile": true, "writeTextFile": true}, "terminal": false}});
        let greeted = tokio::select! {
            greeted = peer.call_within(START_WITHIN, "initialize", hello) => greeted,
            _ = child.wait() => Err(super::peer::CallError::Gone),
        };
        let failed = match greeted {
            Ok(greeting) if greeting["protocolVersion"] == 1 => {
                tracing::info!(event = "agent.up", incarnation, agent = %greeting["agentInfo"]["name"]);
                let capabilities = greeting["agentCapabilities"].clone();
                let agent = AcpConnection { peer: peer.clone(), capabilities };
                endpoint.send_replace(Endpoint::Up { agent, incarnation });
                let ended = async {
                    tokio::select! {
                        _ = &mut reading => {}
                        _ = child.wait() => {}
                    }
                };
                tokio::select! {
                    () = ended => {
                        group.let_go();
                        "it ended".to_owned()
                    }
                    () = peer.abandoned() => "it did not end a prompt that was cancelled".to_owned(),
                }
            }
            Ok(_) => "it speaks another version of the Agent Client Protocol".to_owned(),
            Err(error) => format!("it did not start: {error}"),
        };
        drop(group);
        drop(child.kill().await);
        drop(reading);
        let said = tokio::time::timeout(Duration::from_secs(1), words).await;
        let said = said.ok().and_then(Result::ok).filter(|said| !said.is_empty());
        said.map_or_else(|| failed.clone(), |said| format!("{failed}; it said: {said}"))
    }
}

/// Reads a stream to its end and keeps the end of it.
async fn last_words(stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut stream = BufReader::new(stream);
    let (mut kept, mut piece) = (Vec::new(), vec![0; 1024]);
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        let over = kept.len().saturating_sub(WORDS_MAX_BYTES);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).trim().replace('\n', " | ")
}
