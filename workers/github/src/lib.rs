//! The GitHub bot: takes the App's webhooks, stores them, answers at once.

mod delivery;

use oi_worker_kit::bot_edge::{self, BotRequest, webhook_secret};
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::{Failure, reply};
use serde_json::json;
use worker::{Context, Env, Request, Response, event};

use crate::delivery::{Delivery, Headers};

const HEALTH_PATH: &str = "/health";
const WEBHOOK_PATH: &str = "/webhooks/github";

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    bot_edge::answer(request, Service::GithubBot, async |request| serve(request, &env).await).await
}

async fn serve(request: BotRequest, env: &Env) -> Result<Response, Failure> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", HEALTH_PATH) => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-github-bot"})),
        ("POST", WEBHOOK_PATH) => webhook(request, env).await,
        _ => Err(request.unknown(&[("GET", HEALTH_PATH), ("POST", WEBHOOK_PATH)])),
    }
}

async fn webhook(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = webhook_secret(env, "GITHUB_WEBHOOK_SECRET")?;
    let body = request.body().await?;
    let header = |name: &str| request.header(name);
    let (signature, delivery, event) =
        (header("X-Hub-Signature-256"), header("X-GitHub-Delivery"), header("X-GitHub-Event"));
    let headers = Headers { signature: signature.as_deref(), delivery: delivery.as_deref(), event: event.as_deref() };
    let Delivery { delivery_id, event } = delivery::read(&secret, headers, &body)?;
    let stored = request.store(env, Service::GithubBot, (&delivery_id, &event), body).await?;
    reply::json(200, &json!({"ok": true, "duplicate": stored.duplicate}))
}
