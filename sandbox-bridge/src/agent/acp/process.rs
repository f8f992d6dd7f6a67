//! The agent's process: started once, started again when it ends, within a budget.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::peer::Peer;
use crate::backoff::Backoff;
use crate::broker::peer::AgentPid;
use crate::stop_signal::raised;
use crate::{launch, random};

/// From exec to its first answer; an adapter may start a runtime and another program.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Starts within `BUDGET_WINDOW` after which it is given up.
const BUDGET: usize = 6;
const BUDGET_WINDOW: Duration = Duration::from_secs(600);
/// What is kept of its last words.
const WORDS_MAX_BYTES: usize = 2048;

/// Where the agent is.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// It starts, or starts again.
    Starting,
    /// It answers.
    Up {
        /// The agent.
        peer: Peer,
        /// What it can do.
        capabilities: Value,
        /// Counts the processes.
        incarnation: u64,
    },
    /// It cannot be started.
    Failed(String),
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

impl AcpProcess {
    /// Keeps the agent running until `shutdown`, and tells where it is.
    pub async fn supervise(self, endpoint: watch::Sender<Endpoint>, mut shutdown: watch::Receiver<bool>) {
        let mut starts = VecDeque::new();
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        for incarnation in 1_u64.. {
            let began = Instant::now();
            starts.push_back(began);
            while starts.front().is_some_and(|first| began.duration_since(*first) > BUDGET_WINDOW) {
                starts.pop_front();
            }
            let reason = tokio::select! {
                reason = self.run_once(incarnation, &endpoint) => reason,
                () = raised(&mut shutdown) => return,
            };
            self.pid.set(None);
            tracing::warn!(event = "agent.exit", incarnation, reason);
            if starts.len() >= BUDGET {
                let text = format!("The agent ended {BUDGET} times and is not started again: {reason}");
                endpoint.send_replace(Endpoint::Failed(text));
                return;
            }
            endpoint.send_replace(Endpoint::Starting);
            if began.elapsed() > Duration::from_secs(60) {
                backoff.reset();
            }
            tokio::select! {
                () = sleep(backoff.next(random::unit())) => {}
                () = raised(&mut shutdown) => return,
            }
        }
    }

    /// Runs one process to its end and says why it ended. Dropping this kills it.
    async fn run_once(&self, incarnation: u64, endpoint: &watch::Sender<Endpoint>) -> String {
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
                endpoint.send_replace(Endpoint::Up { peer: peer.clone(), capabilities, incarnation });
                tokio::select! {
                    _ = &mut reading => "it ended".to_owned(),
                    _ = child.wait() => "it ended".to_owned(),
                    () = peer.abandoned() => "it did not end a prompt that was cancelled".to_owned(),
                }
            }
            Ok(_) => "it speaks another version of the Agent Client Protocol".to_owned(),
            Err(error) => format!("it did not start: {error}"),
        };
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
