//! The socket to the session: dialled at once, for ever, until the session is gone.

mod dial;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use oi_protocol::sandbox_socket::{Heartbeat, SandboxCommand, SandboxEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use dial::connect;
pub use dial::{ConnectionConfig, socket_url};

use super::dialect1::Projector;
use super::journal::JournalError;
use super::outbox::{Outbox, numbered};
use crate::backoff::Backoff;
use crate::random;
use crate::stop_signal::raised;
use crate::upgrade::Socket;

/// Frames that are handed to the socket before it is looked at again.
const FRAMES_AT_ONCE: usize = 64;
/// Why the bridge stopped trying.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It was asked to.
    #[error("shut down")]
    Shutdown,
    /// The session does not want this sandbox any more.
    #[error("the session refused this sandbox with status {0}")]
    Refused(StatusCode),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

enum Lost {
    Socket(String),
    Refused(StatusCode),
    Shutdown,
    Journal(JournalError),
}

impl From<JournalError> for Lost {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<WsError> for Lost {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Http(response) if matches!(response.status().as_u16(), 401 | 403 | 404 | 410) => {
                Self::Refused(response.status())
            }
            other => Self::Socket(other.to_string()),
        }
    }
}

/// Keeps the bridge connected. `ready` is what a dialect 1 session is told on each connect.
pub async fn run(
    config: ConnectionConfig,
    outbox: Arc<Outbox>,
    commands: mpsc::Sender<SandboxCommand>,
    ready: watch::Receiver<SandboxEvent>,
    mut shutdown: watch::Receiver<bool>,
) -> Ended {
    let mut backoff = Backoff::new(config.retry_first, config.retry_cap);
    let mut refusals = 0;
    loop {
        if *shutdown.borrow() {
            return Ended::Shutdown;
        }
        let mut connection = None;
        let lost = match connect(&config).await {
            Err(lost) => lost,
            Ok(socket) => {
                tracing::info!(event = "bridge.connect");
                refusals = 0;
                let (sink, stream) = socket.split();
                let connection = connection.insert(Connection {
                    config: &config,
                    outbox: &outbox,
                    commands: &commands,
                    ready: &ready,
                    sink,
                    dialect: Dialect::Unknown,
                    next: outbox.window().0,
                    spoken_to: false,
                });
                connection.serve(stream, shutdown.clone()).await
            }
        };
        if connection.is_some_and(|connection| connection.spoken_to) {
            backoff.reset();
        }
        match lost {
            Lost::Shutdown => return Ended::Shutdown,
            Lost::Journal(error) => return Ended::Journal(error),
            Lost::Refused(status) => {
                // One refusal may come from a control plane that is being replaced; two in a row are meant.
                refusals += 1;
                if refusals >= 2 {
                    return Ended::Refused(status);
                }
            }
            Lost::Socket(reason) => tracing::warn!(event = "bridge.disconnect", reason),
        }
        let wait = backoff.next(random::unit());
        tracing::debug!(event = "bridge.reconnect", attempt = backoff.failures(), wait_ms = wait.as_millis());
        tokio::select! {
            () = sleep(wait) => {}
            () = raised(&mut shutdown) => return Ended::Shutdown,
        }
    }
}

enum Dialect {
    /// The session has not spoken.
    Unknown,
    /// The session has been silent: it was told `ready` and heartbeats, and nothing else yet.
    Presumed1,
    One(Box<Projector>),
    Two,
}

struct Connection<'a> {
    config: &'a ConnectionConfig,
    outbox: &'a Outbox,
    commands: &'a mpsc::Sender<SandboxCommand>,
    ready: &'a watch::Receiver<SandboxEvent>,
    sink: SplitSink<Socket, Message>,
    dialect: Dialect,
    /// Number of the next frame to send.
    next: i64,
    /// Whether the session has sent anything.
    spoken_to: bool,
}

impl Connection<'_> {
    async fn serve(&mut self, mut stream: SplitStream<Socket>, mut shutdown: watch::Receiver<bool>) -> Lost {
        match self.exchange(&mut stream, &mut shutdown).await {
            Ok(()) => {
                self.leave(&mut stream).await;
                Lost::Shutdown
            }
            Err(lost) => lost,
        }
    }

    async fn exchange(
        &mut self,
        stream: &mut SplitStream<Socket>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        let opened = Instant::now();
        let mut seen = opened;
        let mut heartbeat = tokio::time::interval_at(opened + self.config.heartbeat, self.config.heartbeat);
        let mut ping = tokio::time::interval_at(opened + self.config.ping, self.config.ping);
        let mut flushed = opened;
        loop {
            let more = self.pump().await?;
            let text_due =
                (!self.is_silent() && self.outbox.has_unwritten_text()).then(|| flushed + self.config.flush_every);
            tokio::select! {
                biased;
                () = raised(shutdown) => return Ok(()),
                frame = stream.next() => {
                    seen = Instant::now();
                    match frame {
                        None | Some(Ok(Message::Close(_))) => return Err(Lost::Socket("closed by the session".into())),
                        Some(Err(error)) => return Err(error.into()),
                        Some(Ok(Message::Text(text))) => self.receive(text.as_str()).await?,
                        Some(Ok(_)) => {}
                    }
                }
                () = std::future::ready(()), if more => {}
                () = sleep_until(text_due.unwrap_or(opened)), if text_due.is_some() => {
                    self.outbox.flush_text()?;
                    flushed = Instant::now();
                }
                () = self.outbox.wait() => {}
                () = sleep_until(opened + self.config.hello_within), if matches!(self.dialect, Dialect::Unknown) => {
                    self.dialect = Dialect::Presumed1;
                    self.say_ready().await?;
                }
                _ = heartbeat.tick() => {
                    let beat = SandboxEvent::Heartbeat(Heartbeat { status: "ready".to_owned() });
                    self.send_event(&beat).await?;
                }
                _ = ping.tick() => {
                    if seen.elapsed() > self.config.ping + self.config.ping / 2 {
                        return Err(Lost::Socket("no sign of life".into()));
                    }
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    const fn is_silent(&self) -> bool {
        matches!(self.dialect, Dialect::Unknown | Dialect::Presumed1)
    }

    /// Sends frames that wait; `true` when there are more.
    async fn pump(&mut self) -> Result<bool, Lost> {
        if self.is_silent() {
            return Ok(false);
        }
        let mut sent = false;
        for _ in 0..FRAMES_AT_ONCE {
            let (first, next) = self.outbox.window();
            self.next = self.next.max(first);
            if self.next >= next {
                if sent {
                    self.flush().await?;
                }
                return Ok(false);
            }
            let Some(body) = self.outbox.body(self.next)? else { break };
            let frame = match &mut self.dialect {
                Dialect::One(projector) => projector.project(self.next, &body, Instant::now()),
                _ => Some(numbered(self.next, &body)),
            };
            self.next += 1;
            if let Some(frame) = frame {
                let fed = self.sink.feed(Message::text(frame));
                timeout(Duration::from_secs(30), fed).await.map_err(|_| stuck())??;
                sent = true;
            }
            if let Dialect::One(projector) = &self.dialect {
                // Dialect 1 acknowledges only what is critical: the rest is done with once it was sent.
                self.outbox.ack(projector.settled(self.next))?;
            }
        }
        self.flush().await?;
        Ok(true)
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        timeout(Duration::from_secs(30), self.sink.flush()).await.map_err(|_| stuck())?.map_err(Lost::from)
    }

    async fn send(&mut self, message: Message) -> Result<(), Lost> {
        timeout(Duration::from_secs(30), self.sink.send(message)).await.map_err(|_| stuck())?.map_err(Lost::from)
    }

    /// Sends an event that has no number: dialect 2 heartbeats, and `ready` of dialect 1.
    async fn send_event(&mut self, event: &SandboxEvent) -> Result<(), Lost> {
        let Ok(mut frame) = serde_json::to_value(event) else { return Ok(()) };
        if !matches!(self.dialect, Dialect::Two) && frame.get("timestamp").is_none() {
            frame["sandboxId"] = self.config.sandbox_id.clone().into();
            frame["timestamp"] = crate::clock::now().as_event_timestamp().into();
        }
        self.send(Message::text(frame.to_string())).await
    }

    async fn say_ready(&mut self) -> Result<(), Lost> {
        let ready = self.ready.borrow().clone();
        self.send_event(&ready).await
    }

    async fn receive(&mut self, text: &str) -> Result<(), Lost> {
        self.spoken_to = true;
        let Some(command) = parse(text, &self.config.default_model) else {
            // The type alone is safe to log: the rest may be somebody's words.
            tracing::debug!(event = "bridge.unknown_command", bytes = text.len());
            return Ok(());
        };
        if let SandboxCommand::Hello { acked_seq, parts, .. } = &command {
            self.next = self.outbox.hello(*acked_seq, parts)?;
            self.dialect = Dialect::Two;
            self.outbox.speak_dialect_1(false);
            tracing::info!(event = "bridge.hello", acked = acked_seq);
            return Ok(());
        }
        if self.is_silent() {
            let told = matches!(self.dialect, Dialect::Presumed1);
            self.dialect = Dialect::One(Box::new(Projector::new(&self.config.sandbox_id)));
            self.outbox.speak_dialect_1(true);
            self.next = self.outbox.window().0;
            tracing::info!(event = "bridge.dialect1");
            if !told {
                self.say_ready().await?;
            }
        }
        match command {
            SandboxCommand::Ack { seq: Some(seq), .. } => self.outbox.ack(seq)?,
            SandboxCommand::Ack { ack_id: Some(ack_id), .. } => {
                if let Dialect::One(projector) = &mut self.dialect {
                    projector.acknowledged(&ack_id);
                    self.outbox.ack(projector.settled(self.next))?;
                }
            }
            SandboxCommand::Ack { .. } => {}
            SandboxCommand::EventRejected { seq, code } => {
                tracing::warn!(event = "bridge.event_rejected", seq, code);
                self.outbox.ack(seq)?;
            }
            other => {
                if self.commands.send(other).await.is_err() {
                    return Err(Lost::Shutdown);
                }
            }
        }
        Ok(())
    }

    /// Gives the last frames a moment to arrive, then closes.
    async fn leave(&mut self, stream: &mut SplitStream<Socket>) {
        let goodbye = async {
            while self.pump().await.is_ok_and(|more| more) {}
            loop {
                let (first, next) = self.outbox.window();
                if first >= next || self.is_silent() {
                    break;
                }
                match stream.next().await {
                    Some(Ok(Message::Text(text))) => {
                        if self.receive(text.as_str()).await.is_err() {
                            break;
                        }
                    }
                    Some(Ok(_)) => {}
                    _ => break,
                }
            }
            drop(self.sink.close().await);
        };
        drop(timeout(Duration::from_secs(2), goodbye).await);
    }
}

fn stuck() -> Lost {
    Lost::Socket("a frame could not be sent within 30 s".to_owned())
}

/// Reads a command; a dialect 1 prompt may name no model.
fn parse(text: &str, default_model: &str) -> Option<SandboxCommand> {
    if let Ok(command) = serde_json::from_str(text) {
        return Some(command);
    }
    let mut value: serde_json::Value = serde_json::from_str(text).ok()?;
    let prompt = value.as_object_mut().filter(|object| object.get("type").is_some_and(|kind| kind == "prompt"))?;
    if prompt.get("model").is_none_or(serde_json::Value::is_null) {
        prompt.insert("model".to_owned(), default_model.into());
    }
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_a_model_gets_the_sessions_model() {
        let text = r#"{"type":"prompt","messageId":"00000000000000000000000000000001","content":"x",
            "author":{"userId":"u","gitIdentity":{"mode":"agent-only"}}}"#;
        let Some(SandboxCommand::Prompt { model, .. }) = parse(text, "demo/scripted") else { panic!("a prompt") };
        assert_eq!(model, "demo/scripted");
        assert!(parse(r#"{"type":"git_sync_complete"}"#, "m").is_none());
        assert!(parse("nonsense", "m").is_none());
    }
}
