//! How people reach a sandbox, and what a sandbox says that nobody can reach.

use oi_session::access::SandboxAccess;
use oi_session::call::SessionCall;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, Refusal, reply, request_body};
use serde::Deserialize;
use worker::Response;

use super::sandbox_broker::listed_session;
use crate::request::Cx;
use crate::source_control::github::user_tokens;
use crate::store::{audit_log, sandboxes};
use crate::{identity, sandbox_access, session_client};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    sandbox_id: String,
    generation: i64,
    access: SandboxAccess,
}

/// Addresses with their passwords, for one person; no answer is stored anywhere.
pub(super) async fn access(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = listed_session(cx).await?;
    let ask = async || -> Result<Kept, Failure> {
        let principal = identity::principal(&cx.who.caller);
        let answer = session_client::ask(cx.env, &id, principal, SessionCall::SandboxAccess).await?;
        answer.read("reading a sandbox's access")
    };
    let kept = ask().await?;
    let generation = kept.generation;
    let opened = sandbox_access::open(&user_tokens::sealing_key(cx.env)?, &id, &kept.sandbox_id, kept.access)
        .map_err(while_doing("opening a sandbox's access"))?;
    // Nobody is given the password of a sandbox that was replaced meanwhile.
    if ask().await?.generation != generation {
        return Err(Refusal::conflict("Sandbox access changed; retry").into());
    }
    // Told before anybody has them.
    audit_log::write(&cx.db()?, &cx.audit("session.sandbox_access", "session", id.as_str())).await?;
    reply::json(200, &opened)
}

pub(super) async fn tunnel_urls(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = listed_session(cx).await?;
    session_client::relay(cx.env, &id, identity::principal(&cx.who.caller), SessionCall::TunnelUrls).await
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Told {
    error: String,
    #[serde(default = "yes")]
    fatal: bool,
}

const fn yes() -> bool {
    true
}

/// What a sandbox tells of its end. It knows its own name and not its session's; the session checks its token.
pub(super) async fn error(cx: &Cx<'_>) -> Result<Response, Failure> {
    let Told { error, fatal } = told(&cx.body)?;
    let sandbox = cx.parameters.first().map(String::as_str).unwrap_or_default();
    let session = sandboxes::session_of(&cx.db()?, sandbox).await?;
    let session = session.ok_or_else(|| Refusal::not_found("Sandbox not found"))?;
    let principal = identity::principal(&cx.who.caller);
    session_client::relay(cx.env, &session, principal, SessionCall::SandboxError { error, fatal }).await
}

fn told(body: &[u8]) -> Result<Told, Refusal> {
    let told: Told = request_body::parse(body, "error must be a text, and fatal true or false")?;
    if told.error.trim().is_empty() {
        return Err(Refusal::invalid_body("error must not be blank"));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_fatal_unless_it_says_otherwise() {
        for (body, fatal) in [
            (r#"{"error":"no disk","fatal":true}"#, Some(true)),
            (r#"{"error":"no disk"}"#, Some(true)),
            (r#"{"error":"no disk","fatal":false}"#, Some(false)),
            (r#"{"error":" "}"#, None),
            (r#"{"error":7}"#, None),
            (r#"{"error":"x","fatal":"yes"}"#, None),
            ("[]", None),
        ] {
            assert_eq!(told(body.as_bytes()).ok().map(|told| told.fatal), fatal, "{body}");
        }
    }
}
