//! Webhooks that the bots hand over: stored first, then queued.

use oi_worker_kit::log::Line;
use oi_worker_kit::webhook_inbox::{self, StoredDelivery, WEBHOOK_MAX_BYTES, WebhookDelivery};
use oi_worker_kit::{Failure, Fault, Refusal, clock, random, reply, request_body};
use serde_json::json;
use worker::Response;

use crate::policy::Caller;
use crate::request::Cx;
use crate::store::webhook_deliveries::{self, StoredBody};
use crate::webhook_work;

/// A longer body is kept in the bucket.
const INLINE_BYTES: usize = 512 * 1024;

fn check(delivery: &WebhookDelivery, namespace: Option<&str>) -> Result<(), Refusal> {
    if namespace != Some(delivery.source.as_str()) {
        return Err(Refusal::forbidden("A bot may hand over the webhooks of its own source only"));
    }
    if !webhook_inbox::is_storable_id(&delivery.delivery_id) {
        return Err(Refusal::invalid_body("deliveryId must be 1 to 200 bytes"));
    }
    if !webhook_inbox::is_storable_event(&delivery.event) {
        return Err(Refusal::invalid_body("event must be 1 to 100 bytes"));
    }
    if delivery.body.len() > WEBHOOK_MAX_BYTES {
        return Err(Refusal::too_large());
    }
    Ok(())
}

pub(super) async fn store(cx: &Cx<'_>) -> Result<Response, Failure> {
    let delivery: WebhookDelivery =
        request_body::parse(&cx.body, "source, deliveryId, event and body are required, as strings")?;
    let namespace = match &cx.who.caller {
        Caller::Bot { service, .. } => service.namespace(),
        _ => None,
    };
    check(&delivery, namespace)?;
    let id = random::hex::<16>();
    let key = format!("webhooks/{}/{id}", delivery.source);
    let body = if delivery.body.len() <= INLINE_BYTES {
        StoredBody::Inline(&delivery.body)
    } else {
        let bucket = cx.env.bucket("MEDIA_BUCKET").map_err(|error| Fault::new("finding MEDIA_BUCKET", error))?;
        let put = bucket.put(key.as_str(), delivery.body.clone().into_bytes()).execute().await;
        put.map_err(|error| Fault::new("keeping a delivery's body", error))?;
        StoredBody::Key(&key)
    };
    let db = cx.db()?;
    let named = (delivery.source.as_str(), delivery.delivery_id.as_str(), delivery.event.as_str());
    if webhook_deliveries::insert(&db, &id, named, body.clone(), clock::now()).await? {
        if let Err(failure) = webhook_work::enqueue(cx.env, &id).await {
            // It is stored, so it is not lost: the sweep queues it.
            Line::warn("control-plane", "webhook.not_queued")
                .trace(cx.trace)
                .with("error", failure.to_string())
                .write();
        }
        return reply::json(201, &StoredDelivery { id, duplicate: false });
    }
    if let StoredBody::Key(key) = body
        && let Ok(bucket) = cx.env.bucket("MEDIA_BUCKET")
    {
        // The first delivery has its own copy.
        let _ = bucket.delete(key).await;
    }
    let known = webhook_deliveries::list(&db, Some(&delivery.source), Some(&delivery.delivery_id), 1).await?;
    let known = known.into_iter().next().ok_or_else(|| Fault::new("finding a delivery", "it is not there"))?;
    reply::json(200, &StoredDelivery { id: known.id, duplicate: true })
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let limit = match cx.head.query_value("limit") {
        None => 50,
        Some(text) => text.parse::<i64>().map_err(|_| Refusal::invalid_parameter("limit must be a whole number"))?,
    };
    let (source, delivery_id) = (cx.head.query_value("source"), cx.head.query_value("deliveryId"));
    let rows =
        webhook_deliveries::list(&cx.db()?, source.as_deref(), delivery_id.as_deref(), limit.clamp(1, 100)).await?;
    reply::json(200, &json!({"deliveries": rows}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> WebhookDelivery {
        WebhookDelivery {
            source: "github".to_owned(),
            delivery_id: "d-1".to_owned(),
            event: "push".to_owned(),
            body: "{}".to_owned(),
        }
    }

    #[test]
    fn a_bot_hands_over_its_own_webhooks_within_limits() {
        assert_eq!(check(&delivery(), Some("github")), Ok(()));
        let status =
            |delivery: WebhookDelivery, namespace| check(&delivery, namespace).map_err(|refusal| refusal.status);
        assert_eq!(status(delivery(), Some("slack")), Err(403));
        assert_eq!(status(delivery(), None), Err(403));
        assert_eq!(status(WebhookDelivery { delivery_id: String::new(), ..delivery() }, Some("github")), Err(400));
        assert_eq!(status(WebhookDelivery { event: "x\n".to_owned(), ..delivery() }, Some("github")), Err(400));
        let long = "x".repeat(WEBHOOK_MAX_BYTES + 1);
        assert_eq!(status(WebhookDelivery { body: long, ..delivery() }, Some("github")), Err(413));
    }
}
