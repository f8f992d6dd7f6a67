//! Messages of the queue `IMAGE_BUILD_FINALIZATION_QUEUE`. A row decides; a message only names it, and one that is lost
//! or given up is made up for by the cron.

use oi_worker_kit::Failure;
use oi_worker_kit::log::Line;
use serde::{Deserialize, Serialize};
use worker::{Env, MessageBatch, MessageExt, QueueRetryOptionsBuilder};

use super::finishing::{Next, finish};
use super::{Deployment, ImageScope, World, starting, upkeep};

/// The form of messages that this is.
const VERSION: u32 = 1;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// A build was told done: Open-Inspect's own message.
    #[serde(rename_all = "camelCase")]
    Finish {
        /// Of the form.
        version: u32,
        /// The build.
        build_id: String,
        /// Of what was told.
        completion_hash: String,
    },
    /// An image of a scope may be missing.
    #[serde(rename_all = "camelCase")]
    Refresh {
        /// Of the form.
        version: u32,
        /// `repo` or `environment`.
        scope_kind: String,
        /// Which of its kind.
        scope_id: String,
    },
    /// Images of any scope may be missing.
    #[serde(rename_all = "camelCase")]
    RefreshAll {
        /// Of the form.
        version: u32,
        /// Always.
        refresh_all: bool,
    },
}

impl Message {
    /// That a build is to be finished.
    pub fn finish(build_id: &str, completion_hash: &str) -> Self {
        Self::Finish { version: VERSION, build_id: build_id.to_owned(), completion_hash: completion_hash.to_owned() }
    }

    /// That a scope is to be looked at.
    pub fn refresh(scope: &ImageScope) -> Self {
        let key = scope.key();
        Self::Refresh { version: VERSION, scope_kind: key.kind.to_owned(), scope_id: key.id }
    }

    /// That all are.
    pub const fn refresh_all() -> Self {
        Self::RefreshAll { version: VERSION, refresh_all: true }
    }

    const fn version(&self) -> u32 {
        match self {
            Self::Finish { version, .. } | Self::Refresh { version, .. } | Self::RefreshAll { version, .. } => *version,
        }
    }

    /// From a body; `None` when it is none of ours.
    pub fn read(body: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(body.clone()).ok().filter(|message: &Self| message.version() == VERSION)
    }
}

/// Does what a message says.
pub async fn work(world: &impl World, message: &Message) -> Result<Next, Failure> {
    match message {
        Message::Finish { build_id, completion_hash, .. } => finish(world, build_id, completion_hash).await,
        Message::Refresh { scope_kind, scope_id, .. } => {
            // Machines of what was ended by the same change first.
            upkeep::end_machines(world).await?;
            if let Some(scope) = ImageScope::parse(scope_kind, scope_id) {
                starting::refresh(world, &scope).await?;
            }
            Ok(Next::Done)
        }
        Message::RefreshAll { .. } => {
            upkeep::end_machines(world).await?;
            upkeep::build_what_is_missing(world).await?;
            Ok(Next::Done)
        }
    }
}

/// Whether a batch is of this queue.
pub fn is_of(queue: &str) -> bool {
    queue.contains("image-build-finalization")
}

/// Works through a batch. A message that is none, or that fails, is nobody else's trouble.
pub async fn consume(batch: &MessageBatch<serde_json::Value>, env: &Env) {
    for message in batch.iter() {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                Line::error("control-plane", "queue.unreadable").with("error", error.to_string()).write();
                continue;
            }
        };
        let Some(wanted) = Message::read(message.body()) else {
            Line::error("control-plane", "queue.unknown_message").with("queue", batch.queue()).write();
            message.ack();
            continue;
        };
        let outcome = match Deployment::of(env) {
            Ok(world) => work(&world, &wanted).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(Next::Done) => message.ack(),
            Ok(Next::AgainAfter(seconds)) => {
                message.retry_with_options(&QueueRetryOptionsBuilder::new().with_delay_seconds(seconds).build());
            }
            Err(failure) => {
                let line = Line::error("control-plane", "image_build.work_failed");
                line.with("message", format!("{wanted:?}")).with("error", failure.to_string()).write();
                message.retry();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_read_as_they_are_written_and_others_are_none() {
        let written = serde_json::to_value(Message::finish("b", "c")).expect("JSON");
        assert_eq!(written, json!({"version": 1, "buildId": "b", "completionHash": "c"}));
        let scope = ImageScope::parse("repo", "acme/app").expect("a scope");
        for message in [Message::finish("b", "c"), Message::refresh(&scope), Message::refresh_all()] {
            assert_eq!(Message::read(&serde_json::to_value(&message).expect("JSON")), Some(message));
        }
        for bad in [
            json!({"version": 2, "buildId": "b", "completionHash": "c"}),
            json!({"version": 1, "buildId": "b"}),
            json!({"version": 1, "buildId": 5, "completionHash": "c"}),
            json!({"id": "a delivery"}),
            json!("text"),
            json!(null),
        ] {
            assert_eq!(Message::read(&bad), None, "{bad}");
        }
        assert!(is_of("open-inspect-image-build-finalization") && !is_of("open-inspect-webhooks"));
    }
}
