//! Faults on request, in deployments that are for tests.

use oi_protocol::SessionId;
use oi_session::call::{Principal, SessionCall};
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal, reply};
use worker::Response;

use crate::request::Cx;
use crate::session_client;

pub(super) async fn provoke(cx: &Cx<'_>) -> Result<Response, Failure> {
    if !cx.env.is_true("FAULT_INJECTION") {
        return Err(Refusal::not_found("Not found").into());
    }
    match cx.head.query_value("where").as_deref() {
        None | Some("worker") => panic!("a fault was asked for"),
        Some("session") => session_client::relay(cx.env, &session(cx)?, Principal::Platform, SessionCall::Fault).await,
        Some(_) => Err(Refusal::invalid_parameter("where must be worker or session").into()),
    }
}

fn session(cx: &Cx<'_>) -> Result<SessionId, Failure> {
    let id = cx.head.query_value("sessionId").unwrap_or_default();
    SessionId::parse(&id).map_err(|_| Refusal::invalid_parameter("sessionId must be a session's id").into())
}

/// What a session's statements have cost since its object is in memory, where `COUNT_COSTS` makes objects count.
pub(super) async fn session_costs(cx: &Cx<'_>) -> Result<Response, Failure> {
    if !cx.env.is_true("FAULT_INJECTION") {
        return Err(Refusal::not_found("Not found").into());
    }
    let answer = session_client::costs(cx.env, &session(cx)?).await?;
    if answer.is_success() { reply::json_text(answer.status, answer.body) } else { Err(answer.refusal()) }
}
