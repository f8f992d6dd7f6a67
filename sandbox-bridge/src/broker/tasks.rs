//! The agent's tools for tasks: sessions of their own that work beside it and whose results people see apart.

use std::sync::Arc;

use serde_json::{Value, json};

use super::trajectory::{self, items, word};
use super::wire::{Answer, CancelTask, SendTaskPrompt, SpawnTask, TaskStatus};
use crate::control_plane::{ControlPlane, ControlPlaneError};

/// Most text that a model is told at once.
const TEXT_MAX_BYTES: usize = 96 * 1024;

/// Starts tasks, asks after them, prompts and cancels them.
pub struct TaskBroker {
    control_plane: Arc<ControlPlane>,
}

fn said(text: impl Into<String>) -> Answer {
    let text = text.into();
    Answer::said(oi_protocol::text::head_and_tail(&text, TEXT_MAX_BYTES).unwrap_or(text))
}

/// A status as the tools show it.
fn label(status: &str) -> &str {
    match status {
        "created" => "PENDING",
        "active" => "RUNNING",
        "completed" | "archived" => "DONE",
        "failed" => "FAILED",
        "cancelled" => "CANCELLED",
        other => other,
    }
}

fn repository(session: &Value) -> Option<String> {
    Some(format!("{}/{}", word(session, "repoOwner")?, word(session, "repoName")?))
}

/// How long ago a moment was: a model has no clock to compare it with.
fn age(session: &Value, key: &str) -> Option<String> {
    let at = session.get(key).and_then(Value::as_i64)?;
    let seconds = crate::clock::now().since(oi_protocol::UnixMillis(at)).max(0) / 1000;
    Some(match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    })
}

fn no_such(error: &ControlPlaneError, what: &str) -> String {
    match error {
        ControlPlaneError::Refused { status: 404, .. } => {
            "There is no such task of this session. `get-task-status` without arguments lists them.".to_owned()
        }
        other => format!("{what}: {other}"),
    }
}

impl TaskBroker {
    /// A broker of the session that `control_plane` knows.
    pub fn new(control_plane: Arc<ControlPlane>) -> Self {
        Self { control_plane }
    }

    /// Starts a task.
    pub async fn spawn(&self, task: SpawnTask) -> Answer {
        if task.title.trim().is_empty() || task.prompt.trim().is_empty() {
            return Answer::failed("`title` and `prompt` must not be empty.");
        }
        let mut body = json!({"title": task.title, "prompt": task.prompt});
        if let Some(model) = task.model {
            body["model"] = model.into();
        }
        if let Some(effort) = task.reasoning {
            body["reasoningEffort"] = effort.into();
        }
        match self.control_plane.spawn_child(&body).await {
            Ok(started) => match word(&started, "sessionId") {
                Some(id) => said(format!(
                    "Started task {id} (PENDING). It works by itself in a sandbox of its own, and its result comes back \
                     as a message when it is done. Go on with your own work, or end your turn; do not wait for it in a \
                     loop."
                )),
                None => Answer::failed("The task was started, but the answer does not name it. See `get-task-status`."),
            },
            Err(ControlPlaneError::Refused { status: 403, text, .. }) => Answer::failed(format!(
                "No task was started, and none can be from here: {text}. Do the work in this session instead."
            )),
            Err(ControlPlaneError::Refused { status: 429, text, .. }) => Answer::failed(format!(
                "No task was started: {text}. Do the work in this session, or start it when another task is done."
            )),
            Err(error) => Answer::failed(format!("No task was started: {error}")),
        }
    }

    /// Tells of all tasks, or of one.
    pub async fn status(&self, asked: TaskStatus) -> Answer {
        let Some(id) = asked.task_id.as_deref().map(str::trim).filter(|id| !id.is_empty()) else {
            return match self.control_plane.children(None, &[]).await {
                Ok(list) => said(listed(&list)),
                Err(error) => Answer::failed(format!("The tasks could not be listed: {error}")),
            };
        };
        if asked.trajectory_limit.is_some_and(|limit| !(1..=1000).contains(&limit)) {
            return Answer::failed("`trajectoryLimit` takes 1 to 1000.");
        }
        let mut query = Vec::new();
        let with_trajectory = asked.include_trajectory || asked.include_event_data;
        let include: Vec<&str> = [("result", asked.include_response), ("trajectory", with_trajectory)]
            .into_iter()
            .filter_map(|(name, wanted)| wanted.then_some(name))
            .collect();
        if !include.is_empty() {
            query.push(("include", include.join(",")));
        }
        if with_trajectory {
            query.extend(asked.trajectory_limit.map(|limit| ("trajectoryLimit", limit.to_string())));
            query.extend(asked.trajectory_cursor.clone().map(|cursor| ("trajectoryCursor", cursor)));
        }
        match self.control_plane.children(Some(id), &query).await {
            Ok(detail) => said(told(&detail, asked.include_event_data)),
            Err(error) => Answer::failed(no_such(&error, "The task's status is not known")),
        }
    }

    /// Gives a task another prompt.
    pub async fn send_prompt(&self, asked: SendTaskPrompt) -> Answer {
        let SendTaskPrompt { task_id: id, prompt } = asked;
        if prompt.trim().is_empty() {
            return Answer::failed("`prompt` must not be empty.");
        }
        match self.control_plane.prompt_child(&id, &json!({"content": prompt})).await {
            Ok(queued) => said(format!(
                "The prompt is queued for task {id}{}. Its result comes back as a message.",
                word(&queued, "messageId").map(|message| format!(" as {message}")).unwrap_or_default()
            )),
            Err(ControlPlaneError::Refused { status: 409, text, .. }) => {
                Answer::failed(format!("The task takes no prompt: {text}"))
            }
            Err(ControlPlaneError::Refused { status: 429, text, .. }) => {
                Answer::failed(format!("The task takes no further prompt just now: {text}"))
            }
            Err(error) => Answer::failed(no_such(&error, "The prompt was not sent")),
        }
    }

    /// Ends a task.
    pub async fn cancel(&self, asked: CancelTask) -> Answer {
        let CancelTask { task_id: id, cancel_nested } = asked;
        match self.control_plane.cancel_child(&id, &json!({"cancelNested": cancel_nested})).await {
            Ok(done) => {
                let below = done.get("cancelledDescendantIds").and_then(Value::as_array).map_or(0, Vec::len);
                let also = if below == 0 { String::new() } else { format!(", and {below} that it had started") };
                said(format!("Cancelled task {id}{also}."))
            }
            Err(ControlPlaneError::Refused { status: 409, text, .. }) => {
                Answer::failed(format!("There was nothing to cancel: {text}"))
            }
            Err(error) => Answer::failed(no_such(&error, "The task was not cancelled")),
        }
    }
}

fn listed(list: &Value) -> String {
    let tasks = items(&list["children"]);
    if tasks.is_empty() {
        return "This session has started no tasks.".to_owned();
    }
    let label_of = |task| label(word(task, "status").unwrap_or("?"));
    let counts = trajectory::counted(tasks.iter().map(label_of)).into_iter();
    let counts: Vec<String> = counts.map(|(label, count)| format!("{count} {label}")).collect();
    let mut lines = vec![format!("{} tasks: {}", tasks.len(), counts.join(", "))];
    lines.extend(tasks.iter().map(|task| {
        let (id, title) = (word(task, "id").unwrap_or("?"), word(task, "title").unwrap_or("untitled"));
        let changed = age(task, "updatedAt").map(|ago| format!(", changed {ago}")).unwrap_or_default();
        format!("- {id} {} \"{title}\"{changed}", label_of(task))
    }));
    lines.join("\n")
}

fn told(detail: &Value, with_data: bool) -> String {
    let session = &detail["session"];
    let own = |key: &str| word(session, key).map(str::to_owned);
    let unfinished = detail.get("hasUnfinishedPrompt").and_then(Value::as_bool).unwrap_or(false);
    let facts = [
        ("Title", own("title")),
        ("Model", own("model")),
        ("Repository", repository(session)),
        ("Branch", own("branchName")),
        ("Created", age(session, "createdAt")),
        ("Changed", age(session, "updatedAt")),
        ("Sandbox", word(&detail["sandbox"], "status").map(str::to_owned)),
        ("Work", unfinished.then(|| "a prompt is running or waits".to_owned())),
    ];
    let status = label(word(session, "status").unwrap_or("?"));
    let mut lines = vec![format!("Task {}: {status}", word(session, "id").unwrap_or("?"))];
    lines.extend(facts.into_iter().filter_map(|(name, fact)| Some(format!("{name}: {}", fact?))));
    lines.extend(trajectory::artifacts(&detail["artifacts"]));
    lines.extend(detail.get("finalResponse").into_iter().flat_map(|told| trajectory::response(told, unfinished)));
    lines.extend(match detail.get("trajectory") {
        Some(page) => trajectory::page(page, with_data),
        None => trajectory::recent(&detail["recentEvents"]),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_by_label() {
        let list = json!({"children": [
            {"id": "a", "status": "active", "title": "One"}, {"id": "b", "status": "completed", "title": null},
            {"id": "c", "status": "archived", "title": "Three"}]});
        let text = listed(&list);
        assert!(text.starts_with("3 tasks: 1 RUNNING, 2 DONE\n- a RUNNING \"One\"\n- b DONE \"untitled\""), "{text}");
        assert_eq!(listed(&json!({})), "This session has started no tasks.");
    }

    #[test]
    fn a_task_is_told_with_its_answer_and_says_when_that_is_not_the_last() {
        let detail = json!({
            "session": {"id": "a", "status": "active", "title": "One", "repoOwner": "acme", "repoName": "api",
                "branchName": "x", "model": "demo/m"},
            "sandbox": {"status": "ready"}, "hasUnfinishedPrompt": true,
            "artifacts": [{"type": "pr", "url": "https://forge/1"}],
            "finalResponse": {"success": true, "textContent": "It is done.", "toolCalls": [
                {"tool": "bash"}, {"tool": "edit"}, {"tool": "bash"}]},
            "trajectory": {"events": [{"type": "tool_call", "data": {"tool": "bash", "status": "completed",
                "args": {"command": "ls"}}}], "hasMore": true, "cursor": "next"}});
        let text = told(&detail, false);
        for part in
            ["Task a: RUNNING", "acme/api", "https://forge/1", "It is done.", "bash (2)", "next", "earlier prompt"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("\"ls\""), "{text}");
        assert!(told(&detail, true).contains("\"ls\""));
    }
}
