//! The agent's tools: what it is told of each, and what a call asks the supervisor.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::broker::wire::{MediaKind, Question};

/// Which tools a session has beyond those that every session has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offered {
    /// It has a repository.
    pub repository: bool,
    /// It may send notices to Slack.
    pub slack: bool,
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn tool(name: &str, description: &str, required: &[&str], properties: &Value) -> Value {
    json!({"name": name, "description": description, "inputSchema": {
        "type": "object", "properties": properties, "required": required, "additionalProperties": false}})
}

const TASK_ID: &str = "The task, as `spawn-task` or `get-task-status` named it";

/// The tool list.
pub fn list(offered: Offered) -> Value {
    let mut tools = vec![
        tool(
            "spawn-task",
            "Start a task: another session of the platform, with a sandbox, a branch and a timeline of its own, which \
             people see beside this one. Use it only when the user explicitly asks for a task, a child session or \
             work in a separate session. It is not a way to get sub-agents: for help within your own work use the \
             sub-agent tool that you have, or do it yourself. The task knows nothing of this conversation, so its \
             prompt must say all that it needs. Its result comes to you as a message when it is done: do not ask for \
             its status again and again.",
            &["title", "prompt"],
            &json!({
                "title": text("A short title, at most 200 characters"),
                "prompt": text("The whole order: goal, context, what to deliver"),
                "model": text("provider/model; this session's own when left out. Set it only if the user names one"),
                "reasoning": text("Reasoning effort, such as low, medium or high; the model's default when left out"),
            }),
        ),
        tool(
            "get-task-status",
            "Tell how the tasks of this session are, or one of them in detail: its status, branch, pull request, \
             newest events and, when asked for, its last answer and everything that it did. Call it when the user \
             asks, or when you need a result; results come by themselves, so do not poll.",
            &[],
            &json!({
                "taskId": text("The task; all tasks when left out"),
                "includeResponse": flag("With its last answer"),
                "includeTrajectory": flag("With what it did, page by page"),
                "trajectoryLimit": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "Events of a page"},
                "trajectoryCursor": text("From the page before"),
                "includeEventData": flag("With all that the events hold; implies includeTrajectory"),
            }),
        ),
        tool(
            "send-task-prompt",
            "Give a task of this session another prompt: it runs after those that the task has. Use it to correct or \
             continue a task when the user wants that.",
            &["taskId", "prompt"],
            &json!({"taskId": text(TASK_ID), "prompt": text("What it shall do now")}),
        ),
        tool(
            "cancel-task",
            "End a task of this session for good. Use it when the user asks for it, or when the task's work is of no \
             use any more. A task that is slow is not a reason: tasks take their time.",
            &["taskId"],
            &json!({"taskId": text(TASK_ID), "cancelNested": flag("Also end the tasks that it started; true when left out")}),
        ),
        tool(
            "upload-screenshot",
            "Show people a picture in the session, such as a page that you changed. PNG, JPEG or WebP of at most \
             10 MiB, in the workspace or the temporary folder.",
            &["path"],
            &json!({
                "path": text("The file"),
                "caption": text("What it shows"),
                "sourceUrl": text("The page's http or https address"),
                "fullPage": flag("The whole page, not only what was in view"),
                "annotated": flag("Something was drawn on it"),
                "viewport": {"type": "object", "description": "Size of the view in pixels", "properties": {
                    "width": {"type": "number"}, "height": {"type": "number"}}, "required": ["width", "height"]},
            }),
        ),
        tool(
            "upload-video",
            "Show people a recording in the session. MP4 without sound, at most 100 MiB and 90 seconds, in the \
             workspace or the temporary folder.",
            &["path", "caption", "durationMs", "recordingStartedAt", "recordingEndedAt", "dimensions", "truncated"],
            &json!({
                "path": text("The file"),
                "caption": text("What it shows"),
                "durationMs": {"type": "integer", "minimum": 1, "maximum": 90_000, "description": "Its length"},
                "recordingStartedAt": text("When it began: ISO 8601, or ms since 1970"),
                "recordingEndedAt": text("When it ended"),
                "dimensions": {"type": "object", "description": "Size in pixels", "properties": {
                    "width": {"type": "integer"}, "height": {"type": "integer"}}, "required": ["width", "height"]},
                "truncated": flag("The recording was cut at its limit"),
                "sourceUrl": text("The address at its beginning"),
                "endUrl": text("The address at its end"),
            }),
        ),
    ];
    if offered.repository {
        tools.push(tool(
            "create-pull-request",
            "Push the current branch and open a pull request for it, or update the pull request that is already open \
             for it. Commit your work first. The platform pushes with its own credentials and links the pull request \
             from the session. In a session with several repositories call it once for each repository that you \
             changed. For a pull request on top of another one, set baseBranch to the other's branch.",
            &["title", "body"],
            &json!({
                "title": text("Title of the pull request"),
                "body": text("What changed and why, in Markdown"),
                "baseBranch": text("Branch to merge into; the session's base branch when left out"),
                "repo": text("owner/name; needed only when the session has several repositories"),
                "draft": flag("Open it as a draft"),
            }),
        ));
    }
    if offered.slack {
        tools.push(tool(
            "slack-notify",
            "Send a notice to a Slack channel. Use it only when the user, or the instructions of an automation, ask \
             for it, once for each thing that is worth telling. Mentions of whole channels and groups are removed. \
             The answer is JSON; a failure has a `reason` and says whether another attempt makes sense.",
            &["channel", "text"],
            &json!({
                "channel": text("Name or id of the channel, at most 80 characters"),
                "text": text("The notice, at most 12000 characters"),
                "thread_ts": text("Timestamp of the message to answer in its thread"),
                "reason": text("Why you send it; only logged"),
            }),
        ));
    }
    Value::Array(tools)
}

/// Why a call asks nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum BadCall {
    /// There is no such tool.
    Unknown,
    /// The model can mend this, so it gets it as the tool's answer.
    Arguments(String),
}

fn read<T: DeserializeOwned>(arguments: Value) -> Result<T, BadCall> {
    serde_json::from_value(arguments)
        .map_err(|error| BadCall::Arguments(format!("The arguments are not right: {error}")))
}

/// What a call asks. The names that Open-Inspect's own tools had are understood as well.
pub fn question(name: &str, arguments: Value) -> Result<Question, BadCall> {
    Ok(match name {
        "create-pull-request" => Question::CreatePullRequest(read(arguments)?),
        "spawn-task" | "spawn-child" => Question::SpawnTask(read(arguments)?),
        "get-task-status" | "get-child-status" => Question::TaskStatus(read(arguments)?),
        "send-task-prompt" | "send-child-prompt" => Question::SendTaskPrompt(read(arguments)?),
        "cancel-task" | "cancel-child" => Question::CancelTask(read(arguments)?),
        "slack-notify" => Question::SlackNotify(read(arguments)?),
        "upload-screenshot" => media(MediaKind::Screenshot, arguments)?,
        "upload-video" => media(MediaKind::Video, arguments)?,
        _ => return Err(BadCall::Unknown),
    })
}

/// The fields of the session's form are texts, whatever they say.
fn media(kind: MediaKind, arguments: Value) -> Result<Question, BadCall> {
    let mut arguments: Map<String, Value> = read(arguments)?;
    let Some(Value::String(path)) = arguments.remove("path") else {
        return Err(BadCall::Arguments("The arguments are not right: `path` must be a file's path".to_owned()));
    };
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in arguments {
        match value {
            Value::Null => {}
            Value::String(text) => drop(fields.insert(name, text)),
            other => drop(fields.insert(name, other.to_string())),
        }
    }
    if kind == MediaKind::Video {
        fields.entry("hasAudio".to_owned()).or_insert_with(|| "false".to_owned());
    }
    Ok(Question::UploadMedia { path, kind, fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::wire::{CancelTask, TaskStatus};

    fn names(offered: Offered) -> Vec<String> {
        let list = list(offered);
        let tools = list.as_array().expect("a list").iter();
        tools.filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect()
    }

    #[test]
    fn tools_of_repositories_and_slack_are_there_where_those_are() {
        let always =
            ["spawn-task", "get-task-status", "send-task-prompt", "cancel-task", "upload-screenshot", "upload-video"];
        assert_eq!(names(Offered::default()), always);
        let all = names(Offered { repository: true, slack: true });
        assert_eq!(all[6..], ["create-pull-request", "slack-notify"]);
    }

    #[test]
    fn every_tool_that_is_listed_can_be_called_and_the_older_names_too() {
        for name in names(Offered { repository: true, slack: true }) {
            assert_ne!(question(&name, json!({})).err(), Some(BadCall::Unknown), "{name}");
        }
        let old = question("cancel-child", json!({"childId": "c"}));
        let wanted = CancelTask { task_id: "c".to_owned(), cancel_nested: true };
        assert!(matches!(old, Ok(Question::CancelTask(asked)) if asked == wanted));
        let old = question("get-child-status", json!({"childId": "c", "includeEventData": true}));
        let wanted = TaskStatus { task_id: Some("c".to_owned()), include_event_data: true, ..TaskStatus::default() };
        assert!(matches!(old, Ok(Question::TaskStatus(asked)) if asked == wanted));
        assert!(matches!(question("spawn-child", json!({"title": "t", "prompt": "p"})), Ok(Question::SpawnTask(_))));
        assert!(matches!(question("get-task-status", json!({"child": 1})), Err(BadCall::Arguments(_))));
    }

    #[test]
    fn what_is_said_of_media_becomes_the_forms_texts() {
        let call = json!({"path": "a.mp4", "caption": "c", "durationMs": 1500, "truncated": false,
            "dimensions": {"width": 640, "height": 480}, "endUrl": null});
        let Ok(Question::UploadMedia { kind, fields, .. }) = question("upload-video", call) else { panic!("media") };
        assert_eq!(kind, MediaKind::Video);
        let shown: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let dimensions = r#"dimensions={"height":480,"width":640}"#;
        assert_eq!(shown, ["caption=c", dimensions, "durationMs=1500", "hasAudio=false", "truncated=false"]);
    }
}
