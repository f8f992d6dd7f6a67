//! The Slack bot: takes Slack's events, stores them, answers at once.

use oi_protocol::ErrorCode;
use oi_worker_kit::bot_edge::{self, BotRequest};
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::webhook_signature::is_from_slack;
use oi_worker_kit::{Failure, Refusal, clock, mac, reply};
use serde::Deserialize;
use serde_json::json;
use worker::{Context, Env, Request, Response, event};

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    bot_edge::answer(request, Service::SlackBot, async |request| serve(request, &env).await).await
}

async fn serve(request: BotRequest, env: &Env) -> Result<Response, Failure> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-slack-bot"})),
        ("POST", "/events") => events(request, env).await,
        _ => Err(request.unknown(&[("GET", "/health"), ("POST", "/events")])),
    }
}

/// What of an event is needed to store it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    event_id: Option<String>,
    event: Option<Inner>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Inner {
    #[serde(rename = "type")]
    kind: String,
}

async fn events(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = env
        .get("SLACK_SIGNING_SECRET")
        .ok_or_else(|| Refusal::not_configured("SLACK_SIGNING_SECRET is not set for this Worker"))?;
    let body = request.body().await?;
    let (signature, timestamp) = (request.header("X-Slack-Signature"), request.header("X-Slack-Request-Timestamp"));
    if !is_from_slack(&secret, signature.as_deref(), timestamp.as_deref(), &body, clock::now()) {
        return Err(Refusal::new(401, ErrorCode::Unauthorized, "Invalid signature").into());
    }
    let envelope: Envelope = serde_json::from_slice(&body).map_err(|_| Refusal::invalid_body("Invalid payload"))?;
    if envelope.kind == "url_verification" {
        let challenge = envelope.challenge.ok_or_else(|| Refusal::invalid_body("Invalid payload"))?;
        return reply::json(200, &json!({"challenge": challenge}));
    }
    let (delivery_id, event) = naming(&envelope, &body);
    request.store(env, Service::SlackBot, (&delivery_id, &event), body).await?;
    reply::json(200, &json!({"ok": true}))
}

/// The delivery's id and what happened. An event without an id is known by its bytes.
fn naming(envelope: &Envelope, body: &[u8]) -> (String, String) {
    let delivery_id = envelope.event_id.clone().filter(|id| (1..=200).contains(&id.len()));
    let event = envelope.event.as_ref().map_or(&envelope.kind, |inner| &inner.kind);
    let event = oi_protocol::text::truncate_bytes(event, 100).to_owned();
    (delivery_id.unwrap_or_else(|| mac::sha256_hex(body)), event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: &str) -> (String, String) {
        naming(&serde_json::from_str(body).expect("an envelope"), body.as_bytes())
    }

    #[test]
    fn an_event_is_known_by_its_id_else_by_its_bytes() {
        let body = r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention","user":"U1"}}"#;
        assert_eq!(named(body), ("Ev1".to_owned(), "app_mention".to_owned()));
        let body = r#"{"type":"app_rate_limited"}"#;
        assert_eq!(named(body), (mac::sha256_hex(body.as_bytes()), "app_rate_limited".to_owned()));
    }

    #[test]
    fn an_envelope_of_wrong_types_is_none() {
        for bad in ["[]", "{}", r#"{"type":1}"#, r#"{"type":"event_callback","event":[]}"#] {
            assert!(serde_json::from_str::<Envelope>(bad).is_err(), "{bad}");
        }
    }
}
