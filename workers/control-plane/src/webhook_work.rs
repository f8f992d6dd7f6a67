//! Work on stored webhooks: the queue names them, the row decides. Each is processed once, or is visible as failed.

use oi_protocol::UnixMillis;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Fault, clock};
use serde::Serialize;
use worker::{Env, MessageBatch, MessageExt};

use crate::pull_request_webhooks;
use crate::repository_webhooks;
use crate::store::webhook_deliveries::{self, Claimed, Processed};
use crate::store::{D1, Database};

/// Rows that one sweep queues again.
const SWEEP_ROWS: i64 = 100;
/// A delivery is kept for this long, in ms.
const KEPT_MS: i64 = 30 * 86_400_000;
/// Rows that one hour forgets.
const FORGET_ROWS: i64 = 200;

/// A message of the queue `WEBHOOK_QUEUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct QueuedDelivery {
    /// The row.
    id: String,
}

/// Puts a delivery's id on the queue. When that fails, the sweep does it.
pub async fn enqueue(env: &Env, id: &str) -> Result<(), Failure> {
    let queue = env.queue("WEBHOOK_QUEUE").map_err(|error| Fault::new("finding WEBHOOK_QUEUE", error))?;
    let message = QueuedDelivery { id: id.to_owned() };
    queue.send(message).await.map_err(|error| Fault::new("queueing a delivery", error).into())
}

/// Works through a batch. What could not be worked on stays in its row; the queue tries again.
pub async fn consume(batch: &MessageBatch<serde_json::Value>, env: &Env) {
    for message in batch.iter() {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                Line::error("control-plane", "queue.unreadable").with("error", error.to_string()).write();
                continue;
            }
        };
        // Only deliveries have this shape; image builds have a queue of their own.
        let id = message.body().get("id").and_then(serde_json::Value::as_str);
        let Some(id) = id.map(str::to_owned) else {
            Line::warn("control-plane", "queue.unknown_message").with("queue", batch.queue()).write();
            message.ack();
            continue;
        };
        match work(env, &id).await {
            Ok(()) => message.ack(),
            Err(failure) => {
                let line = Line::error("control-plane", "webhook.work_failed").with("delivery", &id);
                line.with("error", failure.to_string()).write();
                message.retry();
            }
        }
    }
}

async fn work(env: &Env, id: &str) -> Result<(), Failure> {
    let db = D1::of(env)?;
    let Some(claimed) = webhook_deliveries::claim(&db, id, clock::now()).await? else { return Ok(()) };
    let outcome = handle(env, &claimed).await?;
    let current = webhook_deliveries::finish(&db, &claimed, &outcome, clock::now()).await?;
    Line::info("control-plane", "webhook.handled")
        .with("delivery", &claimed.id)
        .with("source", &claimed.source)
        .with("webhook_event", &claimed.event)
        .with("attempt", claimed.attempts)
        .with("outcome", format!("{outcome:?}"))
        .with("current", current)
        .write();
    Ok(())
}

/// What a delivery leads to. The integrations' own issues put their handlers here.
async fn handle(env: &Env, claimed: &Claimed) -> Result<Processed, Failure> {
    if pull_request_webhooks::is_about_pull_requests(claimed) {
        return pull_request_webhooks::handle(env, claimed).await;
    }
    if repository_webhooks::is_about_repositories(claimed) {
        return repository_webhooks::handle(env, claimed).await;
    }
    Ok(Processed::Ignored(format!("nothing here handles `{}` from {}", claimed.event, claimed.source)))
}

/// Queues again what was left behind, and gives up what used up its attempts.
pub async fn sweep(env: &Env) -> Result<(), Failure> {
    let (db, now) = (D1::of(env)?, clock::now());
    let given_up = webhook_deliveries::give_up(&db, now).await?;
    let left_behind = webhook_deliveries::left_behind(&db, SWEEP_ROWS, now).await?;
    if given_up > 0 || !left_behind.is_empty() {
        Line::warn("control-plane", "webhook.swept")
            .with("given_up", given_up)
            .with("queued_again", left_behind.len())
            .write();
    }
    for id in left_behind {
        enqueue(env, &id).await?;
    }
    Ok(())
}

/// Forgets deliveries that are old.
pub async fn forget_old(env: &Env) -> Result<(), Failure> {
    let db = D1::of(env)?;
    let before: UnixMillis = clock::now().plus(-KEPT_MS);
    for old in webhook_deliveries::old(&db, before, FORGET_ROWS).await? {
        forget(env, &db, &old).await?;
    }
    Ok(())
}

async fn forget(env: &Env, db: &impl Database, old: &webhook_deliveries::Old) -> Result<(), Failure> {
    if let Some(key) = &old.body_key {
        let bucket = env.bucket("MEDIA_BUCKET").map_err(|error| Fault::new("finding MEDIA_BUCKET", error))?;
        bucket.delete(key.as_str()).await.map_err(|error| Fault::new("deleting a delivery's body", error))?;
    }
    Ok(webhook_deliveries::delete(db, &old.id).await?)
}
