//! The way to a session's terminals. Whoever calls has found out who asks.

use std::time::Duration;

use oi_protocol::SessionId;
use oi_protocol::terminal::{TerminalEnd, TerminalEvent};
use oi_worker_kit::Failure;
use oi_worker_kit::deadline::Deadline;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::log::Line;
use worker::durable::Stub;
use worker::{Env, Headers, Method, Request, Response, WebSocketPair};

use super::{ADMITTED_HEADER, Admitted, Notice};
use crate::session_client::post;

const URL: &str = "http://terminal/";
/// A notice is a help: what it tells, the object finds out by itself when somebody comes.
const NOTICE_WITHIN: Duration = Duration::from_secs(5);

fn stub(env: &Env, id: &SessionId) -> Result<Stub, Failure> {
    let namespace = env.durable_object("TERMINAL").map_err(while_doing("finding TERMINAL"))?;
    namespace.get_by_name(id.as_str()).map_err(while_doing("finding a terminal's object"))
}

/// Opens a socket to the object. The request is made anew, so that no header of the caller's reaches it.
pub async fn upgrade(env: &Env, id: &SessionId, admitted: &Admitted) -> Result<Response, Failure> {
    let admitted = serde_json::to_string(admitted).map_err(while_doing("writing who was admitted"))?;
    let headers = Headers::new();
    headers.set("Upgrade", "websocket").map_err(while_doing("writing a header"))?;
    headers.set(ADMITTED_HEADER, &admitted).map_err(while_doing("writing a header"))?;
    let mut init = worker::RequestInit::new();
    init.with_method(Method::Get).with_headers(headers);
    let request = Request::new_with_init(URL, &init).map_err(while_doing("writing an upgrade"))?;
    stub(env, id)?.fetch_with_request(request).await.map_err(while_doing("upgrading to a terminal"))
}

/// A socket that says why there is no terminal and is closed: a browser does not show its page why an upgrade was
/// refused.
pub fn ended(reason: TerminalEnd) -> Result<Response, Failure> {
    let answer = || -> worker::Result<Response> {
        let pair = WebSocketPair::new()?;
        pair.server.accept()?;
        pair.server.send(&TerminalEvent::Ended { reason })?;
        pair.server.close(Some(reason.code()), Some("The terminal is closed"))?;
        Response::from_websocket(pair.client)
    };
    answer().map_err(while_doing("refusing a terminal"))
}

/// Tells the object, as far as it can be reached.
pub async fn tell(env: &Env, id: &SessionId, notice: &Notice) {
    let told = async {
        let deadline = Deadline::after(NOTICE_WITHIN).map_err(while_doing("setting a deadline"))?;
        let body = serde_json::to_string(notice).map_err(while_doing("writing a notice"))?;
        let request = post(URL, &body, &deadline.signal())?;
        stub(env, id)?.fetch_with_request(request).await.map_err(while_doing("telling a terminal"))?;
        Ok::<_, Failure>(())
    };
    if let Err(failure) = told.await {
        Line::warn("control-plane", "terminal.not_told")
            .with("session_id", id.as_str())
            .with("error", failure.to_string())
            .write();
    }
}
