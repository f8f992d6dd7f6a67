//! Calls and upgrades from the Worker.

use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use oi_protocol::ErrorCode;
use oi_session::call::{CallEnvelope, CallReply, Principal};
use oi_session::core::SessionCore;
use oi_session::input::{Input, ReplyId, SandboxUpgrade, UpgradeAnswer};
use worker::{Delay, Method, Request, Response, ResponseBuilder, WebSocketPair};

use crate::{Effects, Inner};

/// A call is answered within this; then the caller repeats it and meets the same operation.
const CALL_DEADLINE: Duration = Duration::from_secs(380);
const BEARER: &str = "Bearer ";

pub(crate) async fn fetch<E: Effects>(inner: &Rc<Inner<E>>, request: Request) -> worker::Result<Response> {
    let is_upgrade = request.headers().get("Upgrade")?.is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    if is_upgrade {
        return upgrade(inner, &request);
    }
    call(inner, request).await
}

fn respond(reply: CallReply) -> worker::Result<Response> {
    Ok(ResponseBuilder::new()
        .with_status(reply.status)
        .with_header("Content-Type", "application/json; charset=utf-8")?
        .with_header("Cache-Control", "private, no-store")?
        .fixed(reply.body.into_bytes()))
}

fn internal() -> worker::Result<Response> {
    respond(CallReply::refuse(500, ErrorCode::Internal, "The request failed on our side."))
}

/// What the object's statements have cost. It wakes nothing: an object that was asleep has cost nothing yet.
fn costs<E: Effects>(inner: &Inner<E>) -> worker::Result<Response> {
    match inner.sql.costs() {
        Some(costs) => respond(CallReply::json(200, &costs)),
        None => respond(CallReply::refuse(404, ErrorCode::NotFound, "Not Found")),
    }
}

async fn call<E: Effects>(inner: &Rc<Inner<E>>, mut request: Request) -> worker::Result<Response> {
    if request.method() == Method::Get && request.path() == "/costs" {
        return costs(inner);
    }
    if request.method() != Method::Post || request.path() != "/call" {
        return respond(CallReply::refuse(404, ErrorCode::NotFound, "Not Found"));
    }
    let body = request.text().await?;
    let Ok(envelope) = serde_json::from_str::<CallEnvelope>(&body) else {
        return respond(CallReply::refuse(400, ErrorCode::InvalidBody, "Invalid request body"));
    };
    if !matches!(envelope.principal, Principal::Sandbox { .. }) {
        match inner.read(&envelope.call) {
            Ok(Some(reply)) => return respond(reply),
            Ok(None) => {}
            Err(_) => return internal(),
        }
    }
    let reply = ReplyId(inner.next_reply.get());
    inner.next_reply.set(reply.0 + 1);
    let (sender, receiver) = oneshot::channel();
    inner.waiters.borrow_mut().insert(reply, sender);
    if inner.commit(Input::Call { reply, envelope: Box::new(envelope) }).is_err() {
        inner.waiters.borrow_mut().remove(&reply);
        if inner.wake().is_err() {
            crate::alarm::retry_soon(inner);
        }
        return internal();
    }
    let answer = select(receiver, Delay::from(CALL_DEADLINE)).await;
    inner.waiters.borrow_mut().remove(&reply);
    match answer {
        Either::Left((Ok(answer), _)) => respond(answer),
        Either::Left((Err(_), _)) | Either::Right(_) => {
            respond(CallReply::refuse(503, ErrorCode::Retry, "The work goes on. Ask again with the same key."))
        }
    }
}

fn upgrade<E: Effects>(inner: &Rc<Inner<E>>, request: &Request) -> worker::Result<Response> {
    // Not by the `url` crate, which would bring its tables of international names: a tenth of the Worker's size.
    let url = request.inner().url();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let sandbox = query.split('&').any(|pair| pair == "type=sandbox");
    if inner.wake().is_err() {
        return Response::error("WebSocket upgrade failed", 500);
    }
    if !inner.core.borrow().as_ref().is_some_and(SessionCore::has_session) {
        return Response::error("Session not found", 404);
    }
    let id = inner.sockets.borrow_mut().mint();
    if sandbox {
        let header = |name: &str| request.headers().get(name).map(Option::unwrap_or_default);
        let bearer = header("Authorization")?;
        let upgrade = SandboxUpgrade {
            token: bearer.strip_prefix(BEARER).unwrap_or_default().to_owned(),
            sandbox_id: header("X-Sandbox-ID")?,
            dialect: header("X-Bridge-Dialect")?.parse().unwrap_or(1),
        };
        match inner.commit(Input::SandboxUpgrade { socket: id, upgrade }) {
            Ok(Some(UpgradeAnswer::Accept)) => {}
            Ok(Some(UpgradeAnswer::Reject { status, body })) => return Response::error(body, status),
            Ok(None) | Err(_) => return Response::error("WebSocket upgrade failed", 500),
        }
    }
    let pair = WebSocketPair::new()?;
    let tag = if sandbox { "sandbox" } else { "client" };
    inner.state.accept_websocket_with_tags(&pair.server, &[tag]);
    inner.sockets.borrow_mut().add(id, pair.server, sandbox);
    if sandbox {
        // Nothing awaits between the commit and here, so these are this upgrade's.
        let held = std::mem::take(&mut inner.sockets.borrow_mut().held);
        for outputs in held {
            inner.carry_out(outputs);
        }
    } else if inner.commit(Input::ClientOpened { socket: id }).is_err() {
        return Response::error("WebSocket upgrade failed", 500);
    }
    Response::from_websocket(pair.client)
}
