//! What objects with hibernating sockets have in common, whatever runs in them.

use wasm_bindgen::JsValue;
use worker::{State, WebSocket, WebSocketRequestResponsePair};

/// Property of the socket's JavaScript object that holds its id, so that a frame costs no attachment read.
const ID_PROPERTY: &str = "openInspectSocketId";

/// Lets the platform answer pings, which then wake nothing.
pub fn answer_pings(state: &State) {
    if let Ok(pair) = WebSocketRequestResponsePair::new(r#"{"type":"ping"}"#, r#"{"type":"pong"}"#) {
        state.set_websocket_auto_response(&pair);
    }
}

/// Notes a socket's id on its JavaScript object, which is gone with the object's sleep.
pub fn mark(socket: &WebSocket, id: u64) {
    let raw: &worker::web_sys::WebSocket = socket.as_ref();
    let _ = js_sys::Reflect::set(raw, &JsValue::from_str(ID_PROPERTY), &JsValue::from_f64(id as f64));
}

/// The id that was noted; without one, the attachment has it.
pub fn marked(socket: &WebSocket) -> Option<u64> {
    let raw: &worker::web_sys::WebSocket = socket.as_ref();
    let property = js_sys::Reflect::get(raw, &JsValue::from_str(ID_PROPERTY)).ok()?;
    property.as_f64().map(|id| id as u64)
}

/// Closes from this side a socket that was closed from the other.
pub fn close_back(socket: &WebSocket, code: usize, reason: &str) {
    // 1005 and 1006 stand for the absence of a code and may not be sent.
    let code = u16::try_from(code).ok().filter(|code| matches!(code, 1000 | 1001 | 1011 | 3000..=4999));
    let _ = socket.close(code.or(Some(1000)), Some(reason));
}
