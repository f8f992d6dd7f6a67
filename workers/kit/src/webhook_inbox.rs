//! How a bot hands a webhook over: the control plane stores it, and only then is the sender told that it arrived.

use std::time::Duration;

use oi_protocol::text;
use serde::{Deserialize, Serialize};
use worker::Env;

use crate::failure::{Failure, Fault};
use crate::http_client::Call;
use crate::service_signature::{SERVICE_HEADER, SIGNATURE_HEADER, Service, Signed};
use crate::trace::{TRACE_HEADER, Trace};
use crate::{clock, random};

/// Where the control plane takes deliveries.
pub const DELIVERIES_PATH: &str = "/internal/webhook-deliveries";
/// Largest webhook that is taken, in bytes.
pub const WEBHOOK_MAX_BYTES: usize = 1024 * 1024;
/// Longest id of a delivery, in bytes.
pub const DELIVERY_ID_MAX_BYTES: usize = 200;
/// Longest name of an event, in bytes.
pub const EVENT_MAX_BYTES: usize = 100;
/// Senders wait 3 to 10 seconds for an answer.
const STORE_WITHIN: Duration = Duration::from_millis(2_500);

/// `POST /internal/webhook-deliveries`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookDelivery {
    /// `slack`, `github` or `linear`; that of the bot that signs.
    pub source: String,
    /// The sender's id of this delivery, 1 to 200 bytes; a second one of the same id is the same delivery.
    pub delivery_id: String,
    /// The sender's word for what happened, at most 100 bytes.
    pub event: String,
    /// The body as it came.
    pub body: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredDelivery {
    /// Our id of it.
    pub id: String,
    /// Whether it was stored before.
    pub duplicate: bool,
}

fn fits(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether a delivery can be stored under this id.
pub fn is_storable_id(id: &str) -> bool {
    fits(id, DELIVERY_ID_MAX_BYTES)
}

/// Whether a delivery can be stored as this event.
pub fn is_storable_event(event: &str) -> bool {
    fits(event, EVENT_MAX_BYTES)
}

/// A name that can be stored, of what happened and, where there is one, the action: `pull_request.opened`, `push`. Both
/// may be anybody's text, and a sender would send again in vain what is refused for it: what is not printable is left
/// out, and what is too long is cut. `None` when nothing is left of the kind.
pub fn event_name(kind: &str, action: Option<&str>) -> Option<String> {
    let printable = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    let kind = printable(kind);
    if kind.is_empty() {
        return None;
    }
    let named = match action.map(printable) {
        Some(action) if !action.is_empty() => format!("{kind}.{action}"),
        _ => kind,
    };
    Some(text::truncate_bytes(&named, EVENT_MAX_BYTES).to_owned())
}

/// Stores a delivery, or fails so that the sender sends it again.
pub async fn store(
    env: &Env,
    (service, secret): (Service, &str),
    delivery: &WebhookDelivery,
    trace: &Trace,
) -> Result<StoredDelivery, Failure> {
    let control_plane = env.service("CONTROL_PLANE").map_err(|error| Fault::new("finding CONTROL_PLANE", error))?;
    let body = serde_json::to_vec(delivery).map_err(|error| Fault::new("writing a delivery", error))?;
    let signed = Signed { service, method: "POST", pathname: DELIVERIES_PATH, query: "", body: &body, actor: "" };
    let signature = signed.sign(secret, clock::now(), &random::hex::<8>());
    let answer = Call::post(format!("https://internal{DELIVERIES_PATH}"))
        .header(SERVICE_HEADER, service.as_str())
        .header(SIGNATURE_HEADER, signature)
        .header(TRACE_HEADER, trace.trace_id.clone())
        .body(body, "application/json")
        .within(STORE_WITHIN)
        .send_to(&control_plane)
        .await
        .map_err(|error| Fault::new("storing a delivery", error))?;
    if !answer.is_success() {
        return Err(Fault::new("storing a delivery", format!("status {}", answer.status)).into());
    }
    answer.json().map_err(|error| Fault::new("reading the answer to a delivery", error).into())
}
