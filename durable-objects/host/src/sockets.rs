//! Hibernating WebSockets: their ids, their attachments, frames in and out.

use std::collections::BTreeMap;
use std::rc::Rc;

use oi_protocol::limits;
use oi_protocol::sandbox_socket::SandboxFrame;
use oi_session::input::{Input, Outputs, SocketId};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use worker::{State, WebSocket, WebSocketIncomingMessage};

use crate::hibernation::{mark, marked};
use crate::{Effects, Inner};

#[wasm_bindgen]
extern "C" {
    type RawSocket;

    #[wasm_bindgen(method, catch, js_name = send)]
    fn send_value(this: &RawSocket, data: &JsValue) -> Result<(), JsValue>;
}

/// What outlives the object in a socket: its id, its side, and the core's own text.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: u64,
    sandbox: bool,
    core: Option<String>,
}

pub(crate) struct Known {
    pub socket: WebSocket,
    pub sandbox: bool,
}

/// Live sockets by id.
#[derive(Default)]
pub(crate) struct SocketTable {
    known: BTreeMap<SocketId, Known>,
    next: u64,
    /// Outputs of an accepted upgrade, until its socket is accepted by the platform.
    pub held: Vec<Outputs>,
}

impl SocketTable {
    /// Takes the platform's list; gives each socket's attachment to the core.
    pub fn rebuild(&mut self, state: &State) -> Vec<(SocketId, Option<String>)> {
        self.known.clear();
        self.held.clear();
        let mut list = Vec::new();
        for socket in state.get_websockets() {
            let Ok(Some(kept)) = socket.deserialize_attachment::<Kept>() else {
                let _ = socket.close(Some(4002), Some("Session expired, please reconnect"));
                continue;
            };
            let id = SocketId(kept.id);
            self.next = self.next.max(kept.id);
            mark(&socket, id.0);
            self.known.insert(id, Known { socket, sandbox: kept.sandbox });
            list.push((id, kept.core));
        }
        list
    }

    /// An id for a socket that is about to be.
    pub fn mint(&mut self) -> SocketId {
        self.next += 1;
        SocketId(self.next)
    }

    pub fn add(&mut self, id: SocketId, socket: WebSocket, sandbox: bool) {
        mark(&socket, id.0);
        let _ = socket.serialize_attachment(Kept { id: id.0, sandbox, core: None });
        self.known.insert(id, Known { socket, sandbox });
    }

    pub fn forget(&mut self, ids: impl Iterator<Item = SocketId>) {
        for id in ids {
            self.known.remove(&id);
        }
    }
}

fn id_of(socket: &WebSocket) -> Option<SocketId> {
    let attached = || Some(socket.deserialize_attachment::<Kept>().ok()??.id);
    marked(socket).or_else(attached).map(SocketId)
}

/// Attachments, frames and closes, in this order. A frame's JavaScript string is made once for all its receivers.
pub(crate) fn carry_out(table: &SocketTable, outputs: &Outputs) {
    for (id, text) in &outputs.attachments {
        if let Some(known) = table.known.get(id) {
            let kept = Kept { id: id.0, sandbox: known.sandbox, core: Some(text.clone()) };
            let _ = known.socket.serialize_attachment(kept);
        }
    }
    for frame in &outputs.frames {
        let value = JsValue::from_str(&frame.text);
        for id in &frame.to {
            if let Some(known) = table.known.get(id) {
                let raw: &worker::web_sys::WebSocket = known.socket.as_ref();
                // A socket that cannot be written to is about to report its end.
                let _ = raw.unchecked_ref::<RawSocket>().send_value(&value);
            }
        }
    }
    for (id, code, reason) in &outputs.closes {
        if let Some(known) = table.known.get(id) {
            let _ = known.socket.close(Some(*code), Some(reason.as_str()));
        }
    }
}

pub(crate) fn message<E: Effects>(inner: &Rc<Inner<E>>, socket: &WebSocket, message: WebSocketIncomingMessage) {
    if inner.wake().is_err() {
        crate::alarm::retry_soon(inner);
        return;
    }
    let Some(id) = id_of(socket) else { return };
    let Some(sandbox) = inner.sockets.borrow().known.get(&id).map(|known| known.sandbox) else {
        // Closed by us already; what it still sends is nobody's.
        return;
    };
    let text = match message {
        WebSocketIncomingMessage::String(text) => text,
        WebSocketIncomingMessage::Binary(_) => {
            inner.commit_or_rebuild(Input::BinaryFrame { socket: id });
            return;
        }
    };
    if !sandbox {
        inner.commit_or_rebuild(Input::ClientFrame { socket: id, text: &text });
    } else if text.len() > limits::SANDBOX_FRAME_MAX_BYTES {
        inner.commit_or_rebuild(Input::SandboxFrame { socket: id, text: &text });
    } else {
        match SandboxFrame::parse(&text) {
            Ok(frame) => inner.sandbox_frame(id, frame, text),
            // The core says why, and counts it.
            Err(_) => {
                inner.commit_or_rebuild(Input::SandboxFrame { socket: id, text: &text });
            }
        }
    }
}

pub(crate) fn closed<E: Effects>(inner: &Rc<Inner<E>>, socket: &WebSocket) {
    if inner.wake().is_err() {
        crate::alarm::retry_soon(inner);
        return;
    }
    let Some(id) = id_of(socket) else { return };
    inner.sockets.borrow_mut().forget(std::iter::once(id));
    inner.commit_or_rebuild(Input::SocketClosed { socket: id });
}
