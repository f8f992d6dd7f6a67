//! What a session changed since its start: sandboxes upload it, people read it.

use oi_protocol::diff::{DiffBundle, DiffFailure};
use oi_session::call::SessionCall;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, Refusal, reply, request_body};
use serde_json::{Value, json};
use worker::{Response, ResponseBuilder};

use super::sandbox_broker::listed_session;
use crate::identity;
use crate::request::Cx;
use crate::session_client;

const PATCH: &str = "text/x-diff; charset=utf-8";

async fn relay(cx: &Cx<'_>, call: SessionCall) -> Result<Response, Failure> {
    let id = listed_session(cx).await?;
    session_client::relay(cx.env, &id, identity::principal(&cx.who.caller), call).await
}

/// Nothing is read of a body before its sender is known.
async fn verify(cx: &Cx<'_>) -> Result<(), Failure> {
    let id = listed_session(cx).await?;
    let principal = identity::principal(&cx.who.caller);
    session_client::ask(cx.env, &id, principal, SessionCall::VerifySandbox).await.map(drop)
}

pub(super) async fn state(cx: &Cx<'_>) -> Result<Response, Failure> {
    relay(cx, SessionCall::DiffState).await
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Response, Failure> {
    verify(cx).await?;
    let invalid = || Refusal::invalid_body("Invalid session diff bundle");
    let bundle: DiffBundle = request_body::parse(&cx.body, "").map_err(|_| invalid())?;
    bundle.check().map_err(|_| invalid())?;
    relay(cx, SessionCall::StoreDiff(Box::new(bundle))).await
}

pub(super) async fn failure(cx: &Cx<'_>) -> Result<Response, Failure> {
    verify(cx).await?;
    let invalid = |_| Refusal::invalid_body("Invalid session diff failure");
    let DiffFailure { error } = request_body::parse(&cx.body, "").map_err(invalid)?;
    let id = cx.session_id()?;
    let principal = identity::principal(&cx.who.caller);
    session_client::ask(cx.env, &id, principal, SessionCall::DiffFailed { error }).await?;
    Ok(ResponseBuilder::new().with_status(204).empty())
}

/// A patch of the newest revision; what refuses another says which that is.
pub(super) async fn file(cx: &Cx<'_>) -> Result<Response, Failure> {
    let parameter = |at: usize| cx.parameters.get(at).cloned().unwrap_or_default();
    let call = SessionCall::DiffFile { revision_id: parameter(1), file_id: parameter(2) };
    let id = listed_session(cx).await?;
    let answer = session_client::call(cx.env, &id, identity::principal(&cx.who.caller), call).await?;
    if answer.is_success() {
        let builder = ResponseBuilder::new().with_status(answer.status).with_header("Content-Type", PATCH);
        return Ok(builder.map_err(while_doing("writing an answer"))?.fixed(answer.body.into_bytes()));
    }
    match answer.read::<Value>("reading a session's refusal")? {
        mut refusal if refusal.get("currentRevisionId").is_some() => {
            refusal["requestId"] = json!(cx.trace.request_id);
            reply::json(answer.status, &refusal)
        }
        _ => Err(answer.refusal()),
    }
}

pub(super) async fn retry(cx: &Cx<'_>) -> Result<Response, Failure> {
    relay(cx, SessionCall::RetryDiff).await
}
