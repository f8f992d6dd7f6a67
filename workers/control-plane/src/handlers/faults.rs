//! Faults on request, in deployments that are for tests.

use oi_protocol::SessionId;
use oi_session::call::{Principal, SessionCall};
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};
use worker::Response;

use crate::request::Cx;
use crate::session_client;

pub(super) async fn provoke(cx: &Cx<'_>) -> Result<Response, Failure> {
    if !cx.env.is_true("FAULT_INJECTION") {
        return Err(Refusal::not_found("Not found").into());
    }
    match cx.head.query_value("where").as_deref() {
        None | Some("worker") => panic!("a fault was asked for"),
        Some("session") => {
            let id = cx.head.query_value("sessionId").unwrap_or_default();
            let id =
                SessionId::parse(&id).map_err(|_| Refusal::invalid_parameter("sessionId must be a session's id"))?;
            session_client::relay(cx.env, &id, Principal::Platform, SessionCall::Fault).await
        }
        Some(_) => Err(Refusal::invalid_parameter("where must be worker or session").into()),
    }
}
