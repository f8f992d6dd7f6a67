//! The OpenCode process: started in an empty folder before any checkout exists.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::client::OpenCodeClient;
use crate::agent::keeper::{AgentProcess, Endpoint, START_WITHIN};
use crate::broker::peer::AgentPid;
use crate::launch;
use crate::random;
use crate::secret::Secret;

/// Longest line of its output that is looked at.
const LINE_MAX_BYTES: usize = 4096;

/// How to start it.
#[derive(Debug, Clone)]
pub struct OpenCodeProcess {
    /// The binary.
    pub program: PathBuf,
    /// This binary, which ties the child to the supervisor.
    pub launcher: PathBuf,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts: an empty folder, so that it loads no project before it is asked to.
    pub directory: PathBuf,
    /// Where its number is told while it runs.
    pub pid: AgentPid,
}

impl AgentProcess for OpenCodeProcess {
    type Agent = OpenCodeClient;
    const NAME: &'static str = "OpenCode";

    fn pid(&self) -> &AgentPid {
        &self.pid
    }

    async fn run_once(&self, incarnation: u64, endpoint: &watch::Sender<Endpoint<OpenCodeClient>>) -> String {
        let password = Secret::new(random::hex::<16>());
        let mut child = match self.spawn(&password) {
            Ok(child) => child,
            Err(error) => return format!("cannot start `{}`: {error}", self.program.display()),
        };
        self.pid.set(child.id());
        let (lines, mut read) = mpsc::channel(64);
        if let Some(out) = child.stdout.take() {
            tokio::spawn(read_lines(out, lines.clone()));
        }
        if let Some(out) = child.stderr.take() {
            tokio::spawn(read_lines(out, lines));
        }
        let mut last_words = VecDeque::new();
        let mut note = |line: String| {
            if last_words.len() == 5 {
                last_words.pop_front();
            }
            last_words.push_back(line);
        };
        let start = async {
            while let Some(line) = read.recv().await {
                let base = listening_at(&line);
                note(line);
                if base.is_some() {
                    return base;
                }
            }
            None
        };
        let base = match timeout(START_WITHIN, start).await {
            Ok(Some(base)) => base,
            Ok(None) => {
                let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
                return format!("it ended while it started ({status}); {}", join(last_words));
            }
            Err(_) => return format!("it did not start within {} s", START_WITHIN.as_secs()),
        };
        let client = match OpenCodeClient::http() {
            Ok(http) => OpenCodeClient::new(http, base, password),
            Err(error) => return error.to_string(),
        };
        let healthy = async {
            while !client.is_healthy().await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(START_WITHIN, healthy).await.is_err() {
            return "it listens but does not become healthy".to_owned();
        }
        tracing::info!(event = "agent.up", incarnation);
        endpoint.send_replace(Endpoint::Up { agent: client, incarnation });
        let mut open = true;
        loop {
            tokio::select! {
                line = read.recv(), if open => match line {
                    Some(line) => note(line),
                    None => open = false,
                },
                status = child.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    return format!("it ended ({status}); {}", join(last_words));
                }
            }
        }
    }
}

impl OpenCodeProcess {
    fn spawn(&self, password: &Secret) -> std::io::Result<Child> {
        let mut command = Command::new(&self.launcher);
        command
            .args(launch::arguments(true, Some(std::process::id())))
            .arg(&self.program)
            .args(["serve", "--hostname", "127.0.0.1", "--port", "0"])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("OPENCODE_SERVER_PASSWORD", password.reveal())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn()
    }
}

fn join(lines: VecDeque<String>) -> String {
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    format!("it said: {}", Vec::from(lines).join(" | "))
}

/// `opencode server listening on http://127.0.0.1:4096`
fn listening_at(line: &str) -> Option<String> {
    let (_, url) = line.split_once("listening on ")?;
    let url = url.trim();
    url.starts_with("http://").then(|| url.trim_end_matches('/').to_owned())
}

async fn read_lines(out: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(out);
    let mut line = Vec::new();
    loop {
        let Ok(available) = reader.fill_buf().await else { return };
        if available.is_empty() {
            return;
        }
        let (taken, ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (available.len(), false),
        };
        let room = LINE_MAX_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&available[..taken.min(room)]);
        reader.consume(taken);
        if ended {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            // Nobody waits for these lines: what does not fit is dropped, so that the agent never blocks on its log.
            drop(lines.try_send(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_greeting() {
        assert_eq!(
            listening_at("opencode server listening on http://127.0.0.1:41234").as_deref(),
            Some("http://127.0.0.1:41234")
        );
        assert_eq!(listening_at("Warning: OPENCODE_SERVER_PASSWORD is not set"), None);
    }
}
