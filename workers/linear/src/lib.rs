//! The Linear bot: takes the agent's webhooks and the control plane's callbacks, stores them, answers at once.

mod delivery;

use oi_worker_kit::bot_edge::{self, BotRequest, webhook_secret};
use oi_worker_kit::callback_inbox::Kind;
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::{Failure, clock, reply};
use serde_json::json;
use worker::{Context, Env, Request, Response, event};

use crate::delivery::Delivery;

const HEALTH_PATH: &str = "/health";
const WEBHOOK_PATH: &str = "/webhook";

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    bot_edge::answer(request, Service::LinearBot, async |request| serve(request, &env).await).await
}

async fn serve(request: BotRequest, env: &Env) -> Result<Response, Failure> {
    if request.method == "POST"
        && let Some(kind) = Kind::of_path(&request.path, Service::LinearBot)
    {
        return bot_edge::take_callback(request, env, Service::LinearBot, kind).await;
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", HEALTH_PATH) => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-linear-bot"})),
        ("POST", WEBHOOK_PATH) => webhook(request, env).await,
        _ => Err(request.unknown(&[
            ("GET", HEALTH_PATH),
            ("POST", WEBHOOK_PATH),
            ("POST", "/callbacks/start"),
            ("POST", "/callbacks/complete"),
            ("POST", "/callbacks/tool_call"),
        ])),
    }
}

async fn webhook(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = webhook_secret(env, "LINEAR_WEBHOOK_SECRET")?;
    let body = request.body().await?;
    let (signature, delivery) = (request.header("Linear-Signature"), request.header("Linear-Delivery"));
    let Delivery { delivery_id, event } =
        delivery::read(&secret, (signature.as_deref(), delivery.as_deref()), &body, clock::now())?;
    let stored = request.store(env, Service::LinearBot, (&delivery_id, &event), body).await?;
    reply::json(200, &json!({"ok": true, "duplicate": stored.duplicate}))
}
