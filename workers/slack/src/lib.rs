//! The Slack bot: takes Slack's events, stores them, answers at once.

mod delivery;

use oi_protocol::ErrorCode;
use oi_worker_kit::bot_edge::{self, BotRequest};
use oi_worker_kit::log::Line;
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::trace::Trace;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal, clock, reply};
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
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", HEALTH_PATH) => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-slack-bot"})),
        ("POST", EVENTS_PATH) => events(request, env).await,
        _ => Err(request.unknown(&[("GET", HEALTH_PATH), ("POST", EVENTS_PATH)])),
    }
}

async fn events(mut request: BotRequest, env: &Env) -> Result<Response, Failure> {
    let secret = required(env, "SLACK_SIGNING_SECRET")?;
    // Storing needs it. Its absence should show before the first event comes, too.
    required(env, "SERVICE_AUTH_SECRET")?;
    let body = request.body().await?;
    let (signature, timestamp) = (request.header("X-Slack-Signature"), request.header("X-Slack-Request-Timestamp"));
    match delivery::read(&secret, (signature.as_deref(), timestamp.as_deref()), &body, clock::now())? {
        Incoming::Challenge(challenge) => reply::json(200, &json!({"challenge": challenge})),
        Incoming::Event { delivery_id, event } => {
            let stored = request.store(env, Service::SlackBot, (&delivery_id, &event), body).await;
            stored.map_err(|failure| not_stored(failure, &request.trace))?;
            reply::json(200, &json!({"ok": true}))
        }
    }
}

/// 500 when a secret is not set.
fn required(vars: &impl Vars, name: &str) -> Result<String, Refusal> {
    let unset = || Refusal::new(500, ErrorCode::NotConfigured, format!("{name} is not set for this Worker"));
    vars.get(name).ok_or_else(unset)
}

/// 502, upon which Slack sends the event again; why is in the log.
fn not_stored(failure: Failure, trace: &Trace) -> Failure {
    let Failure::Faulted(fault) = failure else { return failure };
    let line = Line::error(Service::SlackBot.as_str(), "webhook.not_stored").trace(trace);
    line.with("error", fault.to_string()).write();
    Refusal::upstream("The event could not be stored; send it again").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oi_worker_kit::Fault;
    use std::collections::BTreeMap;

    #[test]
    fn a_secret_that_is_unset_or_blank_is_named() {
        let vars = BTreeMap::from([("SLACK_SIGNING_SECRET", "s"), ("SERVICE_AUTH_SECRET", " ")]);
        assert_eq!(required(&vars, "SLACK_SIGNING_SECRET"), Ok("s".to_owned()));
        let refusal = required(&vars, "SERVICE_AUTH_SECRET").expect_err("blank");
        assert_eq!((refusal.status, refusal.code), (500, ErrorCode::NotConfigured));
        assert_eq!(refusal.sentence, "SERVICE_AUTH_SECRET is not set for this Worker");
    }

    #[test]
    fn slack_is_asked_to_send_again_what_could_not_be_stored_and_learns_no_more() {
        let trace = Trace::begin(None);
        let answer = not_stored(Fault::new("storing a delivery", "status 401").into(), &trace);
        assert_eq!(answer.status(), 502);
        assert!(!answer.body("12345678").error.contains("401"));
        let refusal = Failure::from(Refusal::invalid_body("Invalid payload"));
        assert_eq!(not_stored(refusal.clone(), &trace), refusal);
    }
}
