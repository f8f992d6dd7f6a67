//! The Durable Object around [`Relay`]: hibernating sockets, and nothing stored.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{RefUnwindSafe, UnwindSafe};

use oi_protocol::terminal::CLOSE_REPLACED;
use oi_session_host::hibernation::{answer_pings, close_back, mark, marked};
use oi_worker_kit::log::Line;
use serde::{Deserialize, Serialize};
use worker::{
    DurableObject, Env, Request, Response, State, WebSocket, WebSocketIncomingMessage, WebSocketPair, durable_object,
};

use super::relay::{Bridge, Output, Payload, Relay, Viewer};
use super::{ADMITTED_HEADER, Admitted, Notice};

/// What outlives the object in a socket.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Bridge(Bridge),
    Viewer(Viewer),
}

impl Kept {
    /// As text, since an attachment's own form has no whole numbers.
    fn write(&self, socket: &WebSocket) {
        if let Ok(text) = serde_json::to_string(self) {
            let _ = socket.serialize_attachment(text);
        }
    }

    fn read(socket: &WebSocket) -> Option<Self> {
        let text = socket.deserialize_attachment::<String>().ok().flatten()?;
        serde_json::from_str(&text).ok()
    }

    const fn id(&self) -> u32 {
        match self {
            Self::Bridge(bridge) => bridge.id,
            Self::Viewer(viewer) => viewer.id,
        }
    }
}

/// A socket's number. Bridges and pages have theirs from one series.
fn id_of(socket: &WebSocket) -> Option<u32> {
    let marked = marked(socket).and_then(|id| u32::try_from(id).ok());
    marked.or_else(|| Kept::read(socket).map(|kept| kept.id()))
}

#[derive(Default)]
struct Sockets {
    relay: Relay,
    bridge: Option<WebSocket>,
    viewers: BTreeMap<u32, WebSocket>,
}

fn send(socket: &WebSocket, payload: Payload) {
    // A socket that cannot be written to is about to report its end.
    let _ = match payload {
        Payload::Text(text) => socket.send_with_str(text),
        Payload::Bytes(bytes) => socket.send_with_bytes(bytes),
    };
}

impl Sockets {
    fn wake(state: &State) -> Self {
        let (mut bridges, mut viewers) = (Vec::new(), Vec::new());
        let mut found = Self::default();
        let mut bridge_id = 0;
        for socket in state.get_websockets() {
            let kept = Kept::read(&socket);
            if let Some(kept) = &kept {
                mark(&socket, u64::from(kept.id()));
            }
            match kept {
                Some(Kept::Bridge(bridge)) => {
                    if bridge.id > bridge_id {
                        bridge_id = bridge.id;
                        found.bridge = Some(socket);
                    }
                    bridges.push(bridge);
                }
                Some(Kept::Viewer(viewer)) => {
                    found.viewers.insert(viewer.id, socket);
                    viewers.push(viewer);
                }
                None => drop(socket.close(Some(CLOSE_REPLACED), Some("Please reconnect"))),
            }
        }
        found.relay = Relay::wake(bridges, viewers);
        found
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::ToBridge(payload) => {
                    if let Some(bridge) = &self.bridge {
                        send(bridge, payload);
                    }
                }
                Output::ToViewer(id, payload) => {
                    if let Some(socket) = self.viewers.get(&id) {
                        send(socket, payload);
                    }
                }
                Output::KeepBridge(bridge) => {
                    if let Some(socket) = &self.bridge {
                        Kept::Bridge(bridge).write(socket);
                    }
                }
                Output::KeepViewer(viewer) => {
                    if let Some(socket) = self.viewers.get(&viewer.id) {
                        Kept::Viewer(viewer).write(socket);
                    }
                }
                Output::CloseBridge => {
                    if let Some(socket) = self.bridge.take() {
                        let _ = socket.close(Some(CLOSE_REPLACED), Some("Another sandbox has taken this one's place"));
                    }
                }
                Output::CloseViewer(id, reason) => {
                    if let Some(socket) = self.viewers.remove(&id) {
                        let _ = socket.close(Some(reason.code()), Some("The terminal is closed"));
                    }
                }
            }
        }
    }

    fn admit(&mut self, admitted: Admitted, socket: WebSocket) {
        let id = self.relay.mint();
        mark(&socket, u64::from(id));
        let outputs = match admitted {
            Admitted::Bridge { generation, incarnation } => {
                if let Some(before) = self.bridge.replace(socket) {
                    let _ = before.close(Some(CLOSE_REPLACED), Some("Another bridge has taken this one's place"));
                }
                self.relay.bridge_connected(Bridge { id, generation, incarnation, running: Vec::new() })
            }
            Admitted::Viewer { user_id, generation } => {
                self.viewers.insert(id, socket);
                self.relay.viewer_connected(id, user_id, generation)
            }
        };
        self.carry_out(outputs);
    }

    /// What is no page's that is known is the bridge's, or of a socket that was closed already and whom nobody hears.
    fn message(&mut self, socket: &WebSocket, message: WebSocketIncomingMessage) {
        let Some(id) = id_of(socket) else { return };
        let outputs = match (self.viewers.contains_key(&id), message) {
            (false, WebSocketIncomingMessage::String(text)) => self.relay.bridge_text(id, &text),
            (false, WebSocketIncomingMessage::Binary(bytes)) => self.relay.bridge_bytes(id, &bytes),
            (true, WebSocketIncomingMessage::String(text)) => self.relay.viewer_text(id, &text),
            (true, WebSocketIncomingMessage::Binary(bytes)) => self.relay.viewer_bytes(id, &bytes),
        };
        self.carry_out(outputs);
    }

    fn closed(&mut self, socket: &WebSocket) {
        let Some(id) = id_of(socket) else { return };
        let outputs = if self.viewers.remove(&id).is_some() {
            self.relay.viewer_closed(id)
        } else {
            let outputs = self.relay.bridge_closed(id);
            // One that was replaced ends later than its successor begins.
            if self.relay.has_no_bridge() {
                self.bridge = None;
            }
            outputs
        };
        self.carry_out(outputs);
    }
}

/// The terminals of one session's sandboxes. The name is that of the deployed class and never changes.
#[durable_object]
pub struct TerminalDO {
    state: State,
    sockets: RefCell<Sockets>,
}

// A panic leaves nothing behind that a socket's attachment does not correct: viewers ask for a new picture.
impl UnwindSafe for TerminalDO {}
impl RefUnwindSafe for TerminalDO {}

impl DurableObject for TerminalDO {
    fn new(state: State, _env: Env) -> Self {
        answer_pings(&state);
        let sockets = RefCell::new(Sockets::wake(&state));
        Self { state, sockets }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        if let Some(admitted) = request.headers().get(ADMITTED_HEADER)? {
            let Ok(admitted) = serde_json::from_str::<Admitted>(&admitted) else {
                return Response::error("Not a terminal's socket", 400);
            };
            let pair = WebSocketPair::new()?;
            self.state.accept_web_socket(&pair.server);
            Line::info("terminal", "terminal.socket")
                .with("side", if matches!(admitted, Admitted::Bridge { .. }) { "bridge" } else { "viewer" })
                .write();
            self.sockets.borrow_mut().admit(admitted, pair.server);
            return Response::from_websocket(pair.client);
        }
        let notice: Notice = request.json().await?;
        let mut sockets = self.sockets.borrow_mut();
        let outputs = sockets.relay.notice(&notice);
        sockets.carry_out(outputs);
        Response::empty()
    }

    async fn websocket_message(&self, socket: WebSocket, message: WebSocketIncomingMessage) -> worker::Result<()> {
        self.sockets.borrow_mut().message(&socket, message);
        Ok(())
    }

    async fn websocket_close(
        &self,
        socket: WebSocket,
        code: usize,
        reason: String,
        _was_clean: bool,
    ) -> worker::Result<()> {
        self.sockets.borrow_mut().closed(&socket);
        close_back(&socket, code, &reason);
        Ok(())
    }

    async fn websocket_error(&self, socket: WebSocket, _error: worker::Error) -> worker::Result<()> {
        self.sockets.borrow_mut().closed(&socket);
        Ok(())
    }
}
