//! Sessions know which models their pages may name: they are told before a page is let in, and when that changes.

use oi_protocol::SessionId;
use oi_session::allowed_models::AllowedModels;
use oi_session::call::{Principal, SessionCall};
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock, mac};
use worker::Env;

use crate::models::Models;
use crate::session_client;
use crate::store::{D1, session_models};

/// Sessions that are told side by side.
const TOLD_AT_ONCE: usize = 10;

fn fingerprint(allowed: &AllowedModels) -> Result<String, Failure> {
    let text = serde_json::to_string(allowed).map_err(while_doing("writing a list of models"))?;
    Ok(mac::sha256_hex(text.as_bytes()))
}

async fn tell_one(env: &Env, db: &D1, id: &SessionId, allowed: &AllowedModels) -> Result<(), Failure> {
    let call = SessionCall::AllowModels(Box::new(allowed.clone()));
    session_client::ask(env, id, Principal::Platform, call).await?;
    session_models::note(db, id, &fingerprint(allowed)?).await?;
    Ok(())
}

/// Tells a session, unless it knows.
pub async fn tell(env: &Env, id: &SessionId) -> Result<(), Failure> {
    let db = D1::of(env)?;
    let allowed = Models::enabled(&db, env).await?.allowed();
    if session_models::told(&db, id).await? == Some(fingerprint(&allowed)?) {
        return Ok(());
    }
    tell_one(env, &db, id, &allowed).await
}

/// Tells those sessions that may have pages open and do not know. What is not reached now is told at the next cron.
pub async fn tell_pages(env: &Env) -> Result<(), Failure> {
    let db = &D1::of(env)?;
    let allowed = &Models::enabled(db, env).await?.allowed();
    let behind = session_models::behind(db, &fingerprint(allowed)?, clock::now()).await?;
    for some in behind.chunks(TOLD_AT_ONCE) {
        futures_util::future::join_all(some.iter().map(|session| async move {
            let Ok(id) = SessionId::parse(session) else { return };
            if let Err(failure) = tell_one(env, db, &id, allowed).await {
                Line::warn("control-plane", "models.session_not_told")
                    .with("session_id", session)
                    .with("error", failure.to_string())
                    .write();
            }
        }))
        .await;
    }
    Ok(())
}
