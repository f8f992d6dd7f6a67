//! Sockets of the web terminal: of a sandbox's bridge, and of people. Who may, the table of routes says; that the page is
//! ours, the edge has checked.

use oi_protocol::terminal::{INCARNATION_HEADER, TerminalEnd};
use oi_protocol::{ErrorCode, SessionId};
use oi_session::call::SessionCall;
use oi_worker_kit::{Failure, Refusal, clock};
use serde::Deserialize;
use worker::Response;

use super::sandbox_broker::listed_session;
use crate::request::Cx;
use crate::sandbox_services;
use crate::store::{audit_log, session_pages};
use crate::terminal::{Admitted, client};
use crate::{identity, session_client};

#[derive(Deserialize)]
struct Generation {
    generation: i64,
}

/// Both routes without an upgrade.
pub(super) async fn without_upgrade(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = listed_session(cx).await?;
    if matches!(cx.who.caller, crate::policy::Caller::Bearer { .. }) {
        generation_of_sandbox(cx, &id).await?;
    }
    Err(Refusal::new(426, ErrorCode::InvalidParameter, "This path takes WebSocket upgrades only").into())
}

async fn generation_of_sandbox(cx: &Cx<'_>, id: &SessionId) -> Result<i64, Failure> {
    let principal = identity::principal(&cx.who.caller);
    let answer = session_client::ask(cx.env, id, principal, SessionCall::VerifySandbox).await?;
    Ok(answer.read::<Generation>("reading a sandbox's generation")?.generation)
}

fn is_incarnation(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The bridge: the session checks its token, which is of one generation.
pub(crate) async fn connect_bridge(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = listed_session(cx).await?;
    let incarnation = cx.head.header(INCARNATION_HEADER).filter(|text| is_incarnation(text));
    let incarnation = incarnation
        .ok_or_else(|| Refusal::invalid_parameter(format!("{INCARNATION_HEADER} must be 1 to 64 letters")))?;
    let generation = generation_of_sandbox(cx, &id).await?;
    client::upgrade(cx.env, &id, &Admitted::Bridge { generation, incarnation }).await
}

/// A person, in the session's sandbox as it is now. What is in the way is said on the socket.
pub(crate) async fn connect_viewer(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    let person = cx.person().ok_or_else(|| Refusal::forbidden("Human user authentication required"))?;
    let user_id = person.user_id.clone();
    let db = cx.db()?;
    match sandbox_services::has_terminal(&db, &id).await? {
        None => return Err(Refusal::not_found("Session not found").into()),
        Some(false) => return client::ended(TerminalEnd::TurnedOff),
        Some(true) => {}
    }
    let principal = identity::principal(&cx.who.caller);
    let answer = session_client::call(cx.env, &id, principal, SessionCall::SandboxAccess).await?;
    let generation = match answer.status {
        409 => return client::ended(TerminalEnd::NoSandbox),
        _ if !answer.is_success() => return Err(answer.refusal()),
        _ => answer.read::<Generation>("reading a sandbox's generation")?.generation,
    };
    // Noted before there is a socket, so that none is left out when the person signs out everywhere.
    session_pages::note(&db, &user_id, &id, clock::now()).await?;
    audit_log::write(&db, &cx.audit("session.terminal", "session", id.as_str())).await?;
    client::upgrade(cx.env, &id, &Admitted::Viewer { user_id, generation }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisors_name_is_short_and_plain() {
        for (text, expected) in [("0a1b2c", true), ("", false), ("a b", false), ("a\"b", false)] {
            assert_eq!(is_incarnation(text), expected, "{text}");
        }
        assert!(!is_incarnation(&"a".repeat(65)));
    }
}
