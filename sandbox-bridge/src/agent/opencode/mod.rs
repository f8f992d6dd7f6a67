//! OpenCode, run as `opencode serve` on loopback with a password, spoken to by HTTP and its event stream.

pub mod client;
pub mod config;
pub mod process;
pub mod questions;
pub mod sse;
pub mod tool;
pub mod translate;
mod turn;
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use oi_protocol::MessageId;
use tokio::sync::watch;

use crate::agent::keeper::Endpoint;
use crate::agent::patience::SILENCE;
use client::OpenCodeClient;

/// OpenCode as an `Agent`.
pub struct OpenCode {
    endpoint: watch::Receiver<Endpoint<OpenCodeClient>>,
    /// File that names OpenCode's session. It lies in the sandbox's home, so that a snapshot keeps both.
    session_file: PathBuf,
    /// A turn in which OpenCode does nothing for so long is given up.
    silence: Duration,
    /// Held while a session is looked for or made, so that two who need one get the same.
    choosing: tokio::sync::Mutex<()>,
    /// What the agent asks to be allowed waits for this.
    edits: watch::Receiver<bool>,
}

impl OpenCode {
    /// The agent at whatever endpoint is current.
    pub fn new(endpoint: watch::Receiver<Endpoint<OpenCodeClient>>, session_file: PathBuf) -> Self {
        let (_, edits) = watch::channel(true);
        Self { endpoint, session_file, silence: SILENCE, choosing: tokio::sync::Mutex::default(), edits }
    }

    /// Holds what the agent asks to be allowed until this is `true`; it asks where its configuration says so (`Parts::asks_leave`).
    #[must_use]
    pub fn holding_changes_until(self, edits: watch::Receiver<bool>) -> Self {
        Self { edits, ..self }
    }

    /// The same with another patience; for tests.
    #[must_use]
    pub const fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// OpenCode's session of this sandbox: the one that it has, or a new one.
    pub async fn session(&self, client: &OpenCodeClient, directory: &Path) -> Result<String, client::OpenCodeError> {
        let _choosing = self.choosing.lock().await;
        if let Some(id) = self.known_session()
            && client.session(&id).await?.is_some()
        {
            return Ok(id);
        }
        let session = client.create_session(directory).await?;
        if let Err(error) = self.remember(&session.id) {
            tracing::warn!(event = "agent.session_not_saved", %error);
        }
        Ok(session.id)
    }

    /// The session that was used last.
    pub fn known_session(&self) -> Option<String> {
        let id = std::fs::read_to_string(&self.session_file).ok()?;
        let id = id.trim();
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (plain && id.starts_with("ses_") && id.len() <= 128).then(|| id.to_owned())
    }

    fn remember(&self, id: &str) -> std::io::Result<()> {
        if let Some(folder) = self.session_file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = self.session_file.with_extension("new");
        std::fs::write(&new, id)?;
        std::fs::rename(new, &self.session_file)
    }
}

/// OpenCode's id of a prompt: derived, so that the same prompt given twice runs once.
pub fn message_id(prompt: &MessageId) -> String {
    format!("msg_oi{prompt}")
}
