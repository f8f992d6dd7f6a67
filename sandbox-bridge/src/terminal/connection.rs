//! The socket to the terminal's object.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::AUTHORIZATION;
use oi_protocol::terminal::{Frame, INCARNATION_HEADER, TerminalCommand};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::shell::{ShellEvent, ShellSettings};
use super::terminals::{Sent, Terminals};
use crate::backoff::Backoff;
use crate::bridge::runner::WorkspaceState;
use crate::random;
use crate::secret::Secret;
use crate::stop_signal::raised;
use crate::upgrade::{Socket, upgrade};

/// For one frame to leave; then the socket is given up.
const SEND_WITHIN: Duration = Duration::from_secs(20);
/// Between two pings; the platform answers them without waking the object.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Without any sign of life for this long the socket is given up.
const SILENCE: Duration = Duration::from_secs(50);
/// Largest frame from the object.
const FRAME_MAX_BYTES: usize = 256 * 1024;
/// What of shells' output may wait; then they wait.
const EVENTS_WAITING: usize = 8;
/// Output that is put into one frame when it is there at once.
const TOGETHER_BYTES: usize = 32 * 1024;
/// Refusals in a row after which the object is not asked again.
const REFUSALS: u32 = 5;

/// `ws(s)://…/sessions/{id}/terminal?type=sandbox`
pub fn terminal_url(control_plane_url: &str, session_id: &str) -> Option<String> {
    let socket = crate::bridge::connection::socket_url(control_plane_url, session_id)?;
    Some(socket.replace("/ws?type=sandbox", "/terminal?type=sandbox"))
}

/// All that the terminals need.
pub struct TerminalService {
    /// Where the object is.
    pub url: String,
    /// The sandbox's proxy, if that is the way to it.
    pub route: Option<SocketAddr>,
    /// The sandbox's bearer.
    pub token: Secret,
    /// How shells are started.
    pub shells: ShellSettings,
    /// Where they start, once it is checked out.
    pub workspace: watch::Receiver<WorkspaceState>,
    /// Where they start before.
    pub fallback: PathBuf,
}

enum Lost {
    /// It may be tried again.
    Socket(String),
    /// The session does not want this sandbox's terminals.
    Refused(u16),
}

impl From<WsError> for Lost {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Http(response) if matches!(response.status().as_u16(), 401 | 403 | 404 | 410) => {
                Self::Refused(response.status().as_u16())
            }
            other => Self::Socket(other.to_string()),
        }
    }
}

impl TerminalService {
    fn directory(&self) -> PathBuf {
        match self.workspace.borrow().as_ref() {
            Some(Ok(workspace)) => workspace.directory.clone(),
            _ => self.fallback.clone(),
        }
    }

    /// Keeps the terminals until `shutdown`, and ends their shells then. Must run on the thread that children are tied
    /// to.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let (sender, mut events) = mpsc::channel(EVENTS_WAITING);
        let mut terminals = Terminals::new(self.shells.clone(), sender);
        let incarnation = random::hex::<8>();
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        let mut refusals = 0;
        loop {
            let lost = tokio::select! {
                lost = self.connected(&incarnation, &mut terminals, &mut events, &mut backoff) => lost,
                () = raised(&mut shutdown) => return,
            };
            terminals.disconnected();
            match lost {
                Lost::Refused(status) => {
                    refusals += 1;
                    if refusals >= REFUSALS {
                        tracing::warn!(event = "terminal.refused", status);
                        raised(&mut shutdown).await;
                        return;
                    }
                }
                Lost::Socket(reason) => {
                    refusals = 0;
                    tracing::info!(event = "terminal.disconnect", reason);
                }
            }
            let wait = sleep(backoff.next(random::unit()));
            tokio::select! {
                () = keeping(&mut terminals, &mut events, wait) => {}
                () = raised(&mut shutdown) => return,
            }
        }
    }

    async fn connected(
        &self,
        incarnation: &str,
        terminals: &mut Terminals,
        events: &mut mpsc::Receiver<ShellEvent>,
        backoff: &mut Backoff,
    ) -> Lost {
        let mut socket = match keeping(terminals, events, Box::pin(self.connect(incarnation))).await {
            Ok(socket) => socket,
            Err(lost) => return lost,
        };
        tracing::info!(event = "terminal.connect");
        let lost = self.serve(&mut socket, terminals, events, backoff).await;
        // The other side is gone or told in time.
        drop(timeout(Duration::from_secs(1), socket.close(None)).await);
        lost
    }

    async fn connect(&self, incarnation: &str) -> Result<Socket, Lost> {
        let mut request = self.url.as_str().into_client_request()?;
        let invalid = || Lost::Socket("the token cannot be a header".to_owned());
        request.headers_mut().insert(AUTHORIZATION, self.token.bearer().ok_or_else(invalid)?);
        request.headers_mut().insert(INCARNATION_HEADER, incarnation.parse().map_err(|_| invalid())?);
        Ok(upgrade(self.route, request, FRAME_MAX_BYTES).await?)
    }

    async fn serve(
        &self,
        socket: &mut Socket,
        terminals: &mut Terminals,
        events: &mut mpsc::Receiver<ShellEvent>,
        backoff: &mut Backoff,
    ) -> Lost {
        if let Err(lost) = send(socket, vec![terminals.report()]).await {
            return lost;
        }
        let (mut ping_at, mut heard) = (Instant::now() + PING_EVERY, Instant::now());
        loop {
            let sent = tokio::select! {
                message = socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match serde_json::from_str::<TerminalCommand>(&text) {
                            Ok(command) => {
                                backoff.reset();
                                terminals.command(&command, || self.directory())
                            }
                            // A newer object may say more.
                            Err(_) => Vec::new(),
                        },
                        Some(Ok(Message::Binary(bytes))) => match Frame::decode(&bytes) {
                            Some(Frame::Input { terminal, viewer, bytes }) => terminals.input(viewer, terminal, bytes),
                            _ => Vec::new(),
                        },
                        Some(Ok(Message::Close(frame))) => {
                            return Lost::Socket(frame.map_or_else(|| "closed".to_owned(), |frame| frame.to_string()));
                        }
                        Some(Ok(_)) => Vec::new(),
                        Some(Err(error)) => return error.into(),
                        None => return Lost::Socket("closed".to_owned()),
                    }
                }
                event = events.recv() => match event {
                    Some(event) => together(event, events).into_iter().flat_map(|e| terminals.shell_event(e)).collect(),
                    None => return Lost::Socket("no terminals".to_owned()),
                },
                () = sleep_until(ping_at) => {
                    if heard.elapsed() > SILENCE {
                        return Lost::Socket("silent".to_owned());
                    }
                    ping_at = Instant::now() + PING_EVERY;
                    if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                        return error.into();
                    }
                    Vec::new()
                }
            };
            if let Err(lost) = send(socket, sent).await {
                return lost;
            }
        }
    }
}

/// Takes shells' output into what is kept while something else is waited for.
async fn keeping<T>(
    terminals: &mut Terminals,
    events: &mut mpsc::Receiver<ShellEvent>,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(event) = events.recv() => drop(terminals.shell_event(event)),
        }
    }
}

/// Output of one shell that is there already becomes one frame.
fn together(first: ShellEvent, events: &mut mpsc::Receiver<ShellEvent>) -> Vec<ShellEvent> {
    let mut all = vec![first];
    while let Ok(next) = events.try_recv() {
        match (all.last_mut(), next) {
            (Some(ShellEvent::Output(number, bytes)), ShellEvent::Output(of, more))
                if *number == of && bytes.len() + more.len() <= TOGETHER_BYTES =>
            {
                bytes.extend(more);
            }
            (_, next) => {
                all.push(next);
                break;
            }
        }
    }
    all
}

async fn send(socket: &mut Socket, sent: Vec<Sent>) -> Result<(), Lost> {
    if sent.is_empty() {
        return Ok(());
    }
    let work = async {
        for sent in sent {
            let message = match sent {
                Sent::Report(report) => match serde_json::to_string(&report) {
                    Ok(text) => Message::text(text),
                    Err(error) => return Err(Lost::Socket(error.to_string())),
                },
                Sent::Bytes(bytes) => Message::binary(bytes),
            };
            socket.feed(message).await?;
        }
        socket.flush().await.map_err(Lost::from)
    };
    timeout(SEND_WITHIN, work).await.unwrap_or_else(|_| Err(Lost::Socket("a frame did not leave in time".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_beside_the_sessions_socket() {
        assert_eq!(
            terminal_url("https://oi.example/", "s").as_deref(),
            Some("wss://oi.example/sessions/s/terminal?type=sandbox")
        );
        assert_eq!(terminal_url("ftp://x", "s"), None);
    }

    #[tokio::test]
    async fn output_that_is_there_at_once_is_one_frame_and_keeps_its_order() {
        let (sender, mut events) = mpsc::channel(8);
        for event in
            [ShellEvent::Output(1, b"b".to_vec()), ShellEvent::Output(1, b"c".to_vec()), ShellEvent::Ended(1, None)]
        {
            sender.send(event).await.expect("open");
        }
        let all = together(ShellEvent::Output(1, b"a".to_vec()), &mut events);
        assert!(
            matches!(&all[..], [ShellEvent::Output(1, bytes), ShellEvent::Ended(1, None)] if bytes == b"abc"),
            "{all:?}"
        );
    }
}
