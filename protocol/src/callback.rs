//! What a bot asks to be told about a prompt: where it came from, which comes back with every callback.

use serde::{Deserialize, Serialize};

/// Longest text of a context, in bytes.
const TEXT_MAX_BYTES: usize = 1_024;

/// Where a bot's prompt came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CallbackContext {
    /// A message in Slack.
    Slack(SlackContext),
    /// An issue in Linear.
    Linear(LinearContext),
}

/// A message in Slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlackContext {
    /// The channel.
    pub channel: String,
    /// The thread.
    pub thread_ts: String,
    /// `owner/name`
    pub repo_full_name: String,
    /// `provider/model`
    pub model: String,
    /// How hard to think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// The message that shows progress by a reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction_message_ts: Option<String>,
    /// The automation that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automation_id: Option<String>,
}

/// An issue in Linear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinearContext {
    /// The issue.
    pub issue_id: String,
    /// `ABC-12`
    pub issue_identifier: String,
    /// Its page.
    pub issue_url: String,
    /// `owner/name`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_full_name: Option<String>,
    /// `provider/model`
    pub model: String,
    /// Linear's session of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session_id: Option<String>,
    /// Whether tool calls are shown in Linear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit_tool_progress_activities: Option<bool>,
    /// The workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// Our app's user there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_user_id: Option<String>,
    /// Whether the issue is moved to a started state when the work starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition_issue_on_start: Option<bool>,
}

impl CallbackContext {
    /// Whether every text is there and short, and what a transition needs is known.
    pub fn is_valid(&self) -> bool {
        let fits = |text: &str| !text.trim().is_empty() && text.len() <= TEXT_MAX_BYTES;
        let may = |text: &Option<String>| text.as_deref().is_none_or(fits);
        match self {
            Self::Slack(context) => {
                [&context.channel, &context.thread_ts, &context.repo_full_name, &context.model]
                    .into_iter()
                    .all(|text| fits(text))
                    && may(&context.reasoning_effort)
                    && may(&context.reaction_message_ts)
                    && may(&context.automation_id)
            }
            Self::Linear(context) => {
                let whole = [&context.issue_id, &context.issue_identifier, &context.issue_url, &context.model]
                    .into_iter()
                    .all(|text| fits(text))
                    && may(&context.repo_full_name)
                    && may(&context.agent_session_id)
                    && may(&context.organization_id)
                    && may(&context.app_user_id);
                let transition = context.transition_issue_on_start != Some(true)
                    || (context.organization_id.is_some() && context.app_user_id.is_some());
                whole && transition
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Option<CallbackContext> {
        serde_json::from_value(value).ok().filter(CallbackContext::is_valid)
    }

    #[test]
    fn contexts_are_taken_whole_or_not_at_all() {
        let slack =
            json!({"source": "slack", "channel": "C1", "threadTs": "1.2", "repoFullName": "a/b", "model": "d/s"});
        let linear = json!({"source": "linear", "issueId": "i", "issueIdentifier": "A-1", "issueUrl": "https://l", "model": "d/s"});
        assert!(read(slack.clone()).is_some() && read(linear.clone()).is_some());
        let with = |base: &Value, key: &str, value: Value| {
            let mut changed = base.clone();
            changed[key] = value;
            changed
        };
        for bad in [
            with(&slack, "channel", json!(" ")),
            with(&slack, "channel", json!("x".repeat(1_025))),
            with(&slack, "source", json!("automation")),
            with(&linear, "unknown", json!(1)),
            with(&linear, "transitionIssueOnStart", json!(true)),
            json!({"source": "slack", "channel": "C1"}),
            json!("slack"),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        let mut moves = with(&linear, "transitionIssueOnStart", json!(true));
        moves["organizationId"] = json!("o");
        moves["appUserId"] = json!("u");
        assert!(read(moves).is_some());
        let again = serde_json::to_string(&read(slack).expect("fits")).expect("JSON");
        assert!(again.starts_with(r#"{"source":"slack","channel":"C1","threadTs":"1.2""#), "{again}");
    }
}
