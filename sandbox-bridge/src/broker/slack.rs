//! The agent's tool `slack-notify`. Its answers are JSON, so that the agent can act on the reason.

use std::sync::Arc;

use serde_json::{Value, json};

use super::wire::{Answer, SlackNotice};
use crate::control_plane::ControlPlane;

/// Sends notices for the agent.
pub struct SlackBroker {
    control_plane: Arc<ControlPlane>,
}

fn refused(reason: &str, message: &str, retry_after: Option<&Value>) -> Answer {
    let mut body = json!({"ok": false, "reason": reason, "agentMessage": message});
    if let Some(seconds) = retry_after {
        body["retryAfterSeconds"] = seconds.clone();
    }
    Answer::failed(body.to_string())
}

/// What a session is told that may not send any.
pub fn not_allowed() -> Answer {
    refused("feature_disabled", advice("feature_disabled"), None)
}

/// What the agent should make of a reason.
fn advice(reason: &str) -> &'static str {
    match reason {
        "feature_unavailable" => "Slack is not connected to this deployment. Do not try again.",
        "feature_disabled" => "Notices of agents are turned off for this session. Do not try again.",
        "channel_not_found_or_forbidden" => {
            "The channel does not exist, or the app is not a member of it. Ask for another channel or an invitation."
        }
        "empty_message_after_sanitization" => "Nothing was left of the text once broadcasts were removed. Rewrite it.",
        "rate_limited" => "Slack asks to wait. Try again once after the time that is named.",
        "invalid_input" => "The arguments are not right. Correct them.",
        "delivery_unknown" => "It is not known whether the notice arrived. Do not send it again.",
        "bridge_error" => {
            "The notice could not be handed over. It may or may not have been sent: do not send it again."
        }
        _ => "Slack did not take the notice.",
    }
}

impl SlackBroker {
    /// A broker of the session that `control_plane` knows.
    pub fn new(control_plane: Arc<ControlPlane>) -> Self {
        Self { control_plane }
    }

    /// Sends a notice and says what became of it.
    pub async fn notify(&self, notice: SlackNotice) -> Answer {
        let channel = notice.channel.trim();
        if !(1..=80).contains(&channel.chars().count()) || !(1..=12_000).contains(&notice.text.chars().count()) {
            return refused("invalid_input", "`channel` takes 1 to 80 characters and `text` 1 to 12000.", None);
        }
        let notice = SlackNotice { channel: channel.to_owned(), ..notice };
        match self.control_plane.slack_notify(&notice).await {
            Ok((200..=299, body)) => Answer::said(body.to_string()),
            Ok((_, body)) => {
                let reason = body.get("error").and_then(Value::as_str).unwrap_or("slack_api_error");
                let message = body.get("message").and_then(Value::as_str);
                let said =
                    message.map_or_else(|| advice(reason).to_owned(), |text| format!("{text} {}", advice(reason)));
                refused(reason, &said, body.get("retryAfter"))
            }
            Err(error) => {
                tracing::warn!(event = "slack_notify.failed", %error);
                refused("bridge_error", advice("bridge_error"), None)
            }
        }
    }
}
