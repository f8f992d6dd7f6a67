//! The Linear bot: takes the agent's webhooks, stores them, answers at once.

use oi_protocol::ErrorCode;
use oi_worker_kit::bot_edge::{self, BotRequest};
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::webhook_signature::is_from_linear;
use oi_worker_kit::{Failure, Refusal, clock, reply};
use serde::Deserialize;
use serde_json::json;
use worker::{Context, Env, Request, Response, event};

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
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-linear-bot"})),
        ("POST", WEBHOOK_PATH) => webhook(request, env).await,
        _ => Err(request.unknown(&[("GET", "/health"), ("POST", WEBHOOK_PATH)])),
    }
}

/// What of a webhook is needed to store it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Webhook {
    #[serde(rename = "type")]
    kind: String,
}

async fn webhook(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = env
        .get("LINEAR_WEBHOOK_SECRET")
        .ok_or_else(|| Refusal::not_configured("LINEAR_WEBHOOK_SECRET is not set for this Worker"))?;
    let body = request.body().await?;
    if !is_from_linear(&secret, request.header("Linear-Signature").as_deref(), &body, clock::now()) {
        return Err(Refusal::new(401, ErrorCode::Unauthorized, "Invalid signature").into());
    }
    let Webhook { kind } = serde_json::from_slice(&body).map_err(|_| Refusal::invalid_body("Invalid payload"))?;
    // `webhookId` in the body is the same for every delivery.
    let delivery_id = request
        .header("Linear-Delivery")
        .ok_or_else(|| Refusal::invalid_body("The header Linear-Delivery is required"))?;
    let event = oi_protocol::text::truncate_bytes(&kind, 100).to_owned();
    let stored = request.store(env, Service::LinearBot, (&delivery_id, &event), body).await?;
    reply::json(200, &json!({"ok": true, "duplicate": stored.duplicate}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_says_of_what_type_it_is() {
        let webhook: Webhook = serde_json::from_str(r#"{"type":"AgentSessionEvent","action":"created"}"#).expect("one");
        assert_eq!(webhook.kind, "AgentSessionEvent");
        for bad in ["[]", "{}", r#"{"type":null}"#] {
            assert!(serde_json::from_str::<Webhook>(bad).is_err(), "{bad}");
        }
    }
}
