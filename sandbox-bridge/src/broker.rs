//! The supervisor's socket in the sandbox: git's credential helper and the agent's tools ask here, so that the
//! sandbox's token stays in the supervisor's memory.

pub mod media;
pub mod peer;
pub mod pull_request;
pub mod scm_credentials;
pub mod signatures;
pub mod slack;
pub mod tasks;
mod trajectory;
pub mod wire;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::mcp_servers::LocalServers;
use scm_credentials::CredentialBroker;
use wire::{Answer, Question};

/// Names the socket in the environment of everything in the sandbox.
pub const SOCKET_VARIABLE: &str = "OI_SOCKET";
/// Longest question or answer: a commit's payload of 1 MiB in base64.
const LINE_MAX_BYTES: u64 = 1536 * 1024;
/// Questions at a time.
const AT_ONCE: usize = 32;
/// A pull request waits for a push; no answer takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(420);

/// Answers questions.
pub struct Broker {
    /// Credentials for git.
    pub credentials: CredentialBroker,
    /// What a session's sandbox may ask beyond; the build of an image has no session.
    pub session: Option<SessionBroker>,
}

/// Answers what only a session's sandbox asks.
pub struct SessionBroker {
    /// Signatures of commits.
    pub signatures: signatures::SignatureBroker,
    /// Pull requests.
    pub pull_requests: pull_request::PullRequestBroker,
    /// Screenshots and recordings.
    pub media: media::MediaBroker,
    /// Sessions that this one's agent starts.
    pub tasks: tasks::TaskBroker,
    /// Notices, where they are allowed.
    pub slack: Option<slack::SlackBroker>,
    /// Whether the session has a repository.
    pub has_repository: bool,
    /// The session's local MCP servers.
    pub mcp_servers: LocalServers,
    /// Where their packages are.
    pub mcp_packages: PathBuf,
    /// The agent's process, which alone is told their secrets.
    pub agent: peer::AgentPid,
}

impl Broker {
    async fn answer(&self, question: Question, asked_by: Option<i32>) -> Answer {
        match (question, &self.session) {
            (Question::CredentialGet { protocol, host }, _) => self.credentials.get(&protocol, &host).await,
            (Question::CredentialErase { protocol, host, password }, _) => {
                self.credentials.erase(&protocol, &host, password.as_deref()).await;
                Answer::Nothing
            }
            (question, Some(session)) => session.answer(question, asked_by).await,
            (_, None) => Answer::Refused { text: "the build of an image has no session".to_owned() },
        }
    }
}

impl SessionBroker {
    async fn answer(&self, question: Question, asked_by: Option<i32>) -> Answer {
        match question {
            Question::SignCommit { fingerprint, payload } => self.signatures.sign(&fingerprint, &payload).await,
            Question::AgentTools => Answer::Tools { repository: self.has_repository, slack: self.slack.is_some() },
            Question::SpawnTask(task) => self.tasks.spawn(task).await,
            Question::TaskStatus(asked) => self.tasks.status(asked).await,
            Question::SendTaskPrompt(asked) => self.tasks.send_prompt(asked).await,
            Question::CancelTask(asked) => self.tasks.cancel(asked).await,
            Question::SlackNotify(notice) => match &self.slack {
                Some(slack) => slack.notify(notice).await,
                None => slack::not_allowed(),
            },
            Question::UploadMedia { path, kind, fields } => self.media.upload(&path, kind, &fields).await,
            Question::McpServer { id } => {
                if asked_by.is_some_and(|pid| self.agent.started(pid)) {
                    self.mcp_servers.program(&id, &self.mcp_packages).await
                } else {
                    Answer::Refused { text: "only the agent starts MCP servers".to_owned() }
                }
            }
            Question::CreatePullRequest(asked) => self.pull_requests.create(asked).await,
            // These need no session.
            Question::CredentialGet { .. } | Question::CredentialErase { .. } => Answer::Nothing,
        }
    }
}

/// Opens the socket, which only this user may use.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket for ever.
pub async fn serve(listener: UnixListener, broker: Arc<Broker>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let broker = Arc::clone(&broker);
                tokio::spawn(async move {
                    let _place = place;
                    drop(tokio::time::timeout(ANSWER_WITHIN, converse(stream, &broker)).await);
                });
            }
            Err(error) => {
                tracing::warn!(event = "broker.accept_failed", %error);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, broker: &Broker) -> std::io::Result<()> {
    let asked_by = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_MAX_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(question) => broker.answer(question, asked_by).await,
        Err(_) => Answer::Refused { text: "the question is not understood".to_owned() },
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

/// The socket that the environment names.
fn socket() -> std::io::Result<PathBuf> {
    let missing = || std::io::Error::other(format!("{SOCKET_VARIABLE} is not set: this is not a sandbox"));
    std::env::var_os(SOCKET_VARIABLE).filter(|path: &OsString| !path.is_empty()).map(PathBuf::from).ok_or_else(missing)
}

/// Asks at the socket that the environment names and waits for the answer. For the small programs: they need no runtime
/// for one line.
pub fn ask(question: &Question) -> std::io::Result<Answer> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket()?)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN + Duration::from_secs(5)))?;
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_MAX_BYTES)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
