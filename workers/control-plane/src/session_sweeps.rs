//! What of sessions must not be left behind: drafts that nobody used, children whose start was cut off, deletions that
//! are not finished.

use oi_protocol::SessionId;
use oi_protocol::terminal::TerminalEnd;
use oi_session::call::{Principal, SessionCall};
use oi_session::job::{CollectStorage, JobResult};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock};
use worker::Env;

use crate::enabled_models;
use crate::handlers::abandon_child;
use crate::store::session_pages::{self, Pages};
use crate::store::{D1, children, deleted_sessions, sessions};
use crate::terminal::{self, Notice};
use crate::{family_effects, search_index, session_client};

fn log(event: &'static str, id: &str, failure: &Failure) {
    Line::error("control-plane", event).with("session_id", id).with("error", failure.to_string()).write();
}

/// Every minute: what stands in the way of others.
pub async fn every_minute(env: &Env) -> Result<(), Failure> {
    let (db, now) = (D1::of(env)?, clock::now());
    children::sweep_leases(&db, now).await?;
    close_pages(env, None).await?;
    if let Err(failure) = enabled_models::tell_pages(env).await {
        Line::error("control-plane", "models.not_told").with("error", failure.to_string()).write();
    }
    for member in children::half_born(&db, now).await? {
        let Ok(id) = SessionId::parse(&member.id) else { continue };
        if let Err(failure) = abandon_child(env, &id).await {
            log("child.not_abandoned", &member.id, &failure);
        }
    }
    for open in deleted_sessions::due(&db, now).await? {
        match finish_deletion(env, &open.session_id).await {
            Ok(true) => deleted_sessions::finish(&db, &open.session_id, now).await?,
            Ok(false) => {}
            Err(failure) => {
                log("session.not_deleted", &open.session_id, &failure);
                deleted_sessions::note(&db, &open.session_id, "something failed on our side").await?;
            }
        }
    }
    Ok(())
}

/// Whether nothing of a deleted session is left. Its object answers that it knows no session once its storage is gone;
/// what was on its way into the bucket meanwhile goes now.
async fn finish_deletion(env: &Env, id: &str) -> Result<bool, Failure> {
    let Ok(id) = SessionId::parse(id) else { return Ok(true) };
    let answer = session_client::call(env, &id, Principal::Platform, SessionCall::Delete).await?;
    if answer.status != 404 {
        return Ok(false);
    }
    search_index::forget(env, &id).await?;
    let emptied = family_effects::collect_storage(env, &CollectStorage { session_id: id }).await;
    Ok(matches!(emptied, Ok(JobResult::Done)))
}

/// Sessions that are asked side by side.
const ASKED_AT_ONCE: usize = 10;

/// Closes pages of people who signed out everywhere; of one person, or what is left of everybody's.
pub async fn close_pages(env: &Env, user_id: Option<&str>) -> Result<(), Failure> {
    let db = &D1::of(env)?;
    let open = session_pages::revoked(db, user_id, clock::now()).await?;
    for some in open.chunks(ASKED_AT_ONCE) {
        futures_util::future::join_all(some.iter().map(|pages| async move {
            if let Err(failure) = close(env, db, pages).await {
                log("session.pages_not_closed", &pages.session_id, &failure);
            }
        }))
        .await;
    }
    Ok(())
}

async fn close(env: &Env, db: &D1, pages: &Pages) -> Result<(), Failure> {
    if let Ok(id) = SessionId::parse(&pages.session_id) {
        let notice = Notice::Revoked { user_id: pages.user_id.clone(), reason: TerminalEnd::SignedOut };
        terminal::client::tell(env, &id, &notice).await;
        let call = SessionCall::RevokeClientTokens { user_id: pages.user_id.clone() };
        let answer = session_client::call(env, &id, Principal::Platform, call).await?;
        if !answer.is_success() && answer.status != 404 {
            return Err(answer.refusal());
        }
    }
    session_pages::closed(db, pages).await?;
    Ok(())
}

/// Every hour: drafts. Their objects decide; one that has no object is archived in the list.
pub async fn every_hour(env: &Env) -> Result<(), Failure> {
    let (db, now) = (D1::of(env)?, clock::now());
    deleted_sessions::forget_old(&db, now).await?;
    let drafts = sessions::abandoned_drafts(&db, now).await?;
    let found = drafts.len();
    let outcomes = futures_util::future::join_all(drafts.iter().map(|id| expire(env, &db, id))).await;
    let settled = outcomes.iter().filter(|settled| **settled).count();
    let line = if found > 0 && settled == 0 {
        Line::error("control-plane", "drafts.no_progress")
    } else {
        Line::info("control-plane", "drafts.expired")
    };
    line.with("found", found).with("settled", settled).write();
    Ok(())
}

async fn expire(env: &Env, db: &D1, id: &str) -> bool {
    let Ok(session) = SessionId::parse(id) else { return sessions::archive_draft(db, id, clock::now()).await.is_ok() };
    match session_client::call(env, &session, Principal::Platform, SessionCall::ExpireDraft).await {
        Ok(answer) if answer.status == 404 => sessions::archive_draft(db, id, clock::now()).await.is_ok(),
        Ok(answer) => answer.is_success(),
        Err(failure) => {
            log("draft.not_expired", id, &failure);
            false
        }
    }
}
