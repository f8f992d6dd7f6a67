//! The Slack bot: takes Slack's events and the control plane's callbacks, stores them, answers at once.

mod delivery;

use oi_worker_kit::bot_edge::{self, BotRequest, webhook_secret};
use oi_worker_kit::callback_inbox::Kind;
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::{Failure, clock, reply};
use serde_json::json;
use worker::{Context, Env, Request, Response, event};

use crate::delivery::Incoming;

const HEALTH_PATH: &str = "/health";
const EVENTS_PATH: &str = "/events";

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    bot_edge::answer(request, Service::SlackBot, async |request| serve(request, &env).await).await
}

async fn serve(request: BotRequest, env: &Env) -> Result<Response, Failure> {
    if request.method == "POST"
        && let Some(kind) = Kind::of_path(&request.path, Service::SlackBot)
    {
        return bot_edge::take_callback(request, env, Service::SlackBot, kind).await;
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", HEALTH_PATH) => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-slack-bot"})),
        ("POST", EVENTS_PATH) => events(request, env).await,
        _ => Err(request.unknown(&[
            ("GET", HEALTH_PATH),
            ("POST", EVENTS_PATH),
            ("POST", "/callbacks/complete"),
            ("POST", "/callbacks/tool_call"),
        ])),
    }
}

async fn events(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = webhook_secret(env, "SLACK_SIGNING_SECRET")?;
    let body = request.body().await?;
    let (signature, timestamp) = (request.header("X-Slack-Signature"), request.header("X-Slack-Request-Timestamp"));
    match delivery::read(&secret, (signature.as_deref(), timestamp.as_deref()), &body, clock::now())? {
        Incoming::Challenge(challenge) => reply::json(200, &json!({"challenge": challenge})),
        Incoming::Event { delivery_id, event } => {
            request.store(env, Service::SlackBot, (&delivery_id, &event), body).await?;
            reply::json(200, &json!({"ok": true}))
        }
    }
}
