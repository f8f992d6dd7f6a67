//! The edge of a bot: ids for the logs, one line a request, an answer whatever happens.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use oi_protocol::ErrorCode;
use serde_json::json;
use worker::{Env, Request, Response};

use crate::failure::{Failure, Fault, Refusal};
use crate::log::Line;
use crate::service_signature::Service;
use crate::trace::{REQUEST_HEADER, TRACE_HEADER, Trace};
use crate::vars::Vars;
use crate::webhook_inbox::{self, StoredDelivery, WEBHOOK_MAX_BYTES, WebhookDelivery};
use crate::{callback_inbox, clock, reply, request_body};

/// A request to a bot.
pub struct BotRequest {
    request: Request,
    /// Upper case.
    pub method: String,
    /// As a WHATWG URL parser writes it.
    pub path: String,
    /// Ids for the logs.
    pub trace: Trace,
}

impl BotRequest {
    /// A header's value; `None` when it is absent, blank or not text.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.request.headers().get(name).ok().flatten()?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The raw bytes, which signatures cover: at most 1 MiB.
    pub async fn body(&mut self) -> Result<Vec<u8>, Failure> {
        request_body::read(&mut self.request, WEBHOOK_MAX_BYTES).await
    }

    /// The refusal of a path or method that the bot does not have.
    pub fn unknown(&self, paths: &[(&str, &str)]) -> Failure {
        match paths.iter().find(|(_, path)| *path == self.path) {
            Some((method, _)) => {
                Refusal::new(405, ErrorCode::MethodNotAllowed, format!("This path takes {method}")).into()
            }
            None => Refusal::not_found("Not found").into(),
        }
    }

    /// Stores a webhook whose signature was verified. `body` must be text.
    pub async fn store(
        &self,
        env: &Env,
        service: Service,
        (delivery_id, event): (&str, &str),
        body: Vec<u8>,
    ) -> Result<StoredDelivery, Failure> {
        let body = String::from_utf8(body).map_err(|_| Refusal::invalid_body("Invalid payload"))?;
        let delivery = WebhookDelivery {
            source: service.namespace().unwrap_or_default().to_owned(),
            delivery_id: delivery_id.to_owned(),
            event: event.to_owned(),
            body,
        };
        let secret = required(env, "SERVICE_AUTH_SECRET")?;
        let stored = webhook_inbox::store(env, (service, &secret), &delivery, &self.trace).await;
        let stored = stored.map_err(|failure| not_stored(failure, service, &self.trace))?;
        Line::info(service.as_str(), "webhook.stored")
            .trace(&self.trace)
            .with("delivery", &stored.id)
            .with("webhook_event", &delivery.event)
            .with("duplicate", stored.duplicate)
            .write();
        Ok(stored)
    }
}

/// Takes a callback of the control plane: verified, stored once, answered. What is done about it is worked on from
/// where it is stored.
pub async fn take_callback(
    mut request: BotRequest,
    env: &Env,
    service: Service,
    kind: callback_inbox::Kind,
) -> Result<Response, Failure> {
    let body = request.body().await?;
    let secret = Vars::get(env, "SERVICE_AUTH_SECRET");
    let callback = callback_inbox::read(service, kind, secret.as_deref(), &body, clock::now())?;
    if callback.is_stale {
        return reply::json(200, &json!({"ok": true, "outcome": "stale_callback"}));
    }
    let stored = request.store(env, service, (&callback.key, &callback.event), body).await;
    let stored = stored.map_err(|_| Refusal::new(503, ErrorCode::Retry, "completion enqueue failed"))?;
    reply::json(200, &json!({"ok": true, "deliveryId": stored.id}))
}

/// A variable that the bot cannot do without; 500 when it is not set.
fn required(vars: &impl Vars, name: &str) -> Result<String, Refusal> {
    let unset = || Refusal::new(500, ErrorCode::NotConfigured, format!("{name} is not set for this Worker"));
    vars.get(name).ok_or_else(unset)
}

/// The secret that a bot's webhooks are signed with. What storing them needs must be set too: its absence should show
/// before the first webhook comes.
pub fn webhook_secret(vars: &impl Vars, name: &str) -> Result<String, Refusal> {
    let secret = required(vars, name)?;
    required(vars, "SERVICE_AUTH_SECRET")?;
    Ok(secret)
}

/// 502, upon which the sender sends again, or shows a failed delivery that can be sent again; why is in the log.
fn not_stored(failure: Failure, service: Service, trace: &Trace) -> Failure {
    let Failure::Faulted(fault) = failure else { return failure };
    let line = Line::error(service.as_str(), "webhook.not_stored").trace(trace);
    line.with("error", fault.to_string()).write();
    Refusal::upstream("The webhook could not be stored; send it again").into()
}

/// Answers a request by `serve`. What it refuses becomes the answer; what fails, or panics, a 500.
pub async fn answer(
    request: Request,
    service: Service,
    serve: impl AsyncFnOnce(BotRequest) -> Result<Response, Failure>,
) -> worker::Result<Response> {
    let began = clock::now();
    let (method, path) = (request.inner().method(), request.path());
    let trace = Trace::begin(request.headers().get(TRACE_HEADER)?.as_deref());
    let incoming = BotRequest { request, method: method.clone(), path: path.clone(), trace: trace.clone() };
    let outcome = AssertUnwindSafe(serve(incoming)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::new("answering a request", "panic").into()));
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            if let Failure::Faulted(fault) = &failure {
                Line::error(service.as_str(), "http.fault").trace(&trace).with("error", fault.to_string()).write();
            }
            reply::failure(&failure, &trace.request_id).map_err(|error| error.to_string())?
        }
    };
    let headers = response.headers_mut();
    headers.set(REQUEST_HEADER, &trace.request_id)?;
    headers.set(TRACE_HEADER, &trace.trace_id)?;
    headers.set("Cache-Control", "no-store")?;
    Line::info(service.as_str(), "http.request")
        .trace(&trace)
        .with("http_method", method)
        .with("http_path", oi_protocol::text::truncate_bytes(&path, 200))
        .with("http_status", response.status_code())
        .with("duration_ms", clock::now().since(began))
        .write();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_secret_that_is_unset_or_blank_is_named() {
        let vars = BTreeMap::from([("GITHUB_WEBHOOK_SECRET", "s"), ("SERVICE_AUTH_SECRET", " ")]);
        assert_eq!(required(&vars, "GITHUB_WEBHOOK_SECRET"), Ok("s".to_owned()));
        for name in ["SERVICE_AUTH_SECRET", "LINEAR_WEBHOOK_SECRET"] {
            let refusal = required(&vars, name).expect_err(name);
            assert_eq!((refusal.status, refusal.code), (500, ErrorCode::NotConfigured));
            assert_eq!(refusal.sentence, format!("{name} is not set for this Worker"));
        }
    }

    #[test]
    fn what_could_not_be_stored_is_sent_again_and_the_sender_learns_no_more() {
        for service in [Service::SlackBot, Service::GithubBot, Service::LinearBot] {
            let trace = Trace::begin(None);
            let answer = not_stored(Fault::new("storing a delivery", "status 401").into(), service, &trace);
            assert_eq!(answer.status(), 502);
            assert!(!answer.body("12345678").error.contains("401"));
            let refusal = Failure::from(Refusal::invalid_body("Invalid payload"));
            assert_eq!(not_stored(refusal.clone(), service, &trace), refusal);
        }
    }
}
