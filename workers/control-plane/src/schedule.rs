//! What the crons start.

use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock};
use worker::Env;

use crate::auth::recheck;
use crate::image_builds::{Deployment, upkeep};
use crate::store::{
    D1, browser_sessions, forge_leases, oauth_states, personal_tokens, provider_authorizations, sandboxes,
    service_nonces, session_pages,
};
use crate::{search_index, secret_rotation, session_sweeps, webhook_work};

/// Automations that are due, and what must not be left behind.
const EVERY_MINUTE: &str = "* * * * *";
/// Images.
const TWICE_AN_HOUR: &str = "7,37 * * * *";
/// Abandoned drafts, and what is old.
const EVERY_HOUR: &str = "23 * * * *";

/// Runs what a cron stands for.
pub async fn run(cron: &str, env: &Env) {
    let outcome = match cron {
        EVERY_MINUTE => every_minute(env).await,
        TWICE_AN_HOUR => twice_an_hour(env).await,
        EVERY_HOUR => every_hour(env).await,
        _ => {
            Line::warn("control-plane", "cron.unknown").with("cron", cron).write();
            return;
        }
    };
    match outcome {
        Ok(()) => Line::info("control-plane", "cron.done").with("cron", cron).write(),
        Err(failure) => {
            Line::error("control-plane", "cron.failed").with("cron", cron).with("error", failure.to_string()).write();
        }
    }
}

async fn every_minute(env: &Env) -> Result<(), Failure> {
    webhook_work::sweep(env).await?;
    let (db, now) = (D1::of(env)?, clock::now());
    service_nonces::sweep(&db, now).await?;
    oauth_states::sweep(&db, now).await?;
    provider_authorizations::sweep(&db, now).await?;
    if let Err(failure) = secret_rotation::run(env).await {
        // Nobody waits for it, and the rest must not.
        Line::error("control-plane", "secrets.not_resealed").with("error", failure.to_string()).write();
    }
    search_index::every_minute(env).await?;
    session_sweeps::every_minute(env).await?;
    recheck::every_minute(env).await
}

async fn twice_an_hour(env: &Env) -> Result<(), Failure> {
    if Deployment::is_set_up(env) {
        upkeep::run(&Deployment::of(env)?).await;
    }
    Ok(())
}

async fn every_hour(env: &Env) -> Result<(), Failure> {
    let (db, now) = (D1::of(env)?, clock::now());
    browser_sessions::sweep(&db, now).await?;
    personal_tokens::sweep(&db, now).await?;
    sandboxes::sweep(&db, now).await?;
    session_pages::sweep(&db, now).await?;
    forge_leases::sweep(&db, now).await?;
    webhook_work::forget_old(env).await?;
    session_sweeps::every_hour(env).await
}
