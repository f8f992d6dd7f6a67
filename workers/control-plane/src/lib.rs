//! The control plane: everything outside of a session. HTTP API, sign-in, D1, the code host, sandbox backends, crons
//! and queues, and the shell of the session's Durable Object.
//!
//! A request goes through [`edge`]: the table in `routes` names its policy and handler, `policy` admits its caller,
//! `handlers` answer.

mod assets;
mod auth;
mod commit_signing;
mod edge;
mod effects;
mod enabled_models;
mod family_effects;
mod handlers;
mod identity;
mod image_builds;
mod integration_settings;
mod media_fields;
mod media_store;
mod models;
mod multipart;
#[cfg(test)]
mod openapi;
mod policy;
mod provider_accounts;
mod pull_request_effects;
mod pull_request_opening;
mod pull_request_webhooks;
mod repository_webhooks;
mod request;
mod router;
mod routes;
mod sandbox_access;
mod sandbox_backend;
mod sandbox_services;
mod sandbox_start;
mod schedule;
mod search_index;
mod search_query;
mod secret_injection;
mod secret_rotation;
mod session_client;
mod session_object;
mod session_sweeps;
mod session_target;
mod skills;
mod slack_channels;
mod source_control;
mod store;
mod terminal;
mod upgrade;
mod upload_form;
mod web_origin;
mod webhook_work;

use worker::{Context, Env, MessageBatch, Request, Response, ScheduleContext, ScheduledEvent, event};

pub use session_object::SessionDO;
pub use terminal::object::TerminalDO;

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    edge::answer(request, &env, &context).await
}

#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    schedule::run(&event.cron(), &env).await;
}

#[event(queue)]
async fn queue(batch: MessageBatch<serde_json::Value>, env: Env, _context: Context) -> worker::Result<()> {
    if image_builds::queue::is_of(&batch.queue()) {
        image_builds::queue::consume(&batch, &env).await;
    } else {
        webhook_work::consume(&batch, &env).await;
    }
    Ok(())
}
