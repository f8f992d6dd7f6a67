//! The GitHub bot: takes the App's webhooks, stores them, answers at once.

use oi_protocol::ErrorCode;
use oi_worker_kit::bot_edge::{self, BotRequest};
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::webhook_signature::is_from_github;
use oi_worker_kit::{Failure, Refusal, reply};
use serde::Deserialize;
use serde_json::json;
use worker::{Context, Env, Request, Response, event};

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
        ("GET", "/health") => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-github-bot"})),
        ("POST", WEBHOOK_PATH) => webhook(request, env).await,
        _ => Err(request.unknown(&[("GET", "/health"), ("POST", WEBHOOK_PATH)])),
    }
}

/// Webhooks are configured as JSON; a form is not taken.
#[derive(Deserialize)]
struct AnyObject {}

fn is_object(body: &[u8]) -> bool {
    serde_json::from_slice::<AnyObject>(body).is_ok() && body.trim_ascii_start().first() == Some(&b'{')
}

async fn webhook(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = env
        .get("GITHUB_WEBHOOK_SECRET")
        .ok_or_else(|| Refusal::not_configured("GITHUB_WEBHOOK_SECRET is not set for this Worker"))?;
    let body = request.body().await?;
    if !is_from_github(&secret, request.header("X-Hub-Signature-256").as_deref(), &body) {
        return Err(Refusal::new(401, ErrorCode::Unauthorized, "invalid signature").into());
    }
    if !is_object(&body) {
        return Err(Refusal::invalid_body("The webhook's body must be a JSON object").into());
    }
    let named = |name: &str| {
        request.header(name).ok_or_else(|| Refusal::invalid_body(format!("The header {name} is required")))
    };
    let (delivery_id, event) = (named("X-GitHub-Delivery")?, named("X-GitHub-Event")?);
    let stored = request.store(env, Service::GithubBot, (&delivery_id, &event), body).await?;
    reply::json(200, &json!({"ok": true, "duplicate": stored.duplicate}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_a_json_object() {
        assert!(is_object(b" {\"zen\":\"x\"}"));
        for bad in [&b""[..], b"[]", b"payload=%7B%7D", b"{", b"null", b"\"x\""] {
            assert!(!is_object(bad));
        }
    }
}
