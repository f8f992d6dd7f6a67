//! From the agent's updates to what it did in one turn: a state machine with no IO.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use oi_protocol::event::{FileChange, PartKind};
use oi_protocol::text::head_and_tail;
use oi_protocol::{MessageId, UnixMillis};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::agent::opencode::tool::{OUTPUT_MAX_BYTES, bounded_arguments, changed_lines, relative};
use crate::agent::{AgentEvent, ToolUpdate};

/// Output of a running tool is told at most this often.
const RUNNING_INTERVAL: Duration = Duration::from_millis(300);

struct OpenPart {
    id: String,
    kind: PartKind,
    /// The agent's message, where it names one.
    message: Option<String>,
    text: String,
}

#[derive(Default)]
struct Call {
    update: ToolUpdate,
    content: Vec<Content>,
    /// What was told, and when.
    told: Option<(String, usize, Instant)>,
}

/// The title in an update, which may come at any time.
pub fn session_title(update: &Value) -> Option<&str> {
    let title = update["title"].as_str().map(str::trim).filter(|title| !title.is_empty());
    title.filter(|_| update["sessionUpdate"] == "session_info_update")
}

/// `tool_call` and `tool_call_update`: what is absent stays as it was.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    tool_call_id: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    raw_input: Option<Value>,
    #[serde(default)]
    raw_output: Option<Value>,
    #[serde(default)]
    content: Option<Vec<Content>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Content {
    #[serde(rename = "content")]
    Block { content: Value },
    Diff {
        path: String,
        #[serde(default)]
        old_text: Option<String>,
        new_text: String,
    },
    #[serde(other)]
    Other,
}

/// The turn so far.
pub struct Translator {
    prompt: MessageId,
    directory: PathBuf,
    parts: usize,
    open: Option<OpenPart>,
    calls: HashMap<String, Call>,
    /// What the session cost until now, when the agent tells it.
    pub cost: Option<f64>,
    had_output: bool,
    out: Vec<AgentEvent>,
}

/// The protocol's word for a state, as the session has it.
fn status(word: &str) -> &str {
    match word {
        "in_progress" => "running",
        "failed" => "error",
        other => other,
    }
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
}

impl Translator {
    /// A turn of this prompt.
    pub fn new(prompt: MessageId, directory: PathBuf) -> Self {
        Self {
            prompt,
            directory,
            parts: 0,
            open: None,
            calls: HashMap::new(),
            cost: None,
            had_output: false,
            out: Vec::new(),
        }
    }

    /// What happened since the last call.
    pub fn take(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.out)
    }

    /// Whether there was text or a tool call.
    pub const fn had_output(&self) -> bool {
        self.had_output
    }

    /// Whether it runs a tool, which may take its time.
    pub fn is_occupied(&self) -> bool {
        self.calls.values().any(|call| matches!(call.update.status.as_str(), "pending" | "running"))
    }

    /// The parameters of `session/update`. What is not known is passed over.
    pub fn update(&mut self, mut params: Value, now: Instant) {
        let update = params["update"].take();
        match update["sessionUpdate"].as_str().unwrap_or_default() {
            "agent_message_chunk" => self.text(PartKind::Text, &update),
            "agent_thought_chunk" => self.text(PartKind::Reasoning, &update),
            "tool_call" | "tool_call_update" => match serde_json::from_value::<Update>(update) {
                Ok(update) => self.tool(update, now),
                Err(error) => tracing::debug!(event = "acp.odd_update", %error),
            },
            "plan" => self.plan(&update["entries"]),
            "usage_update" => self.cost = update["cost"]["amount"].as_f64().or(self.cost),
            "session_info_update" => {
                self.out.extend(session_title(&update).map(|title| AgentEvent::Title(title.to_owned())));
            }
            _ => {}
        }
    }

    fn text(&mut self, kind: PartKind, update: &Value) {
        let Some(text) = update["content"]["text"].as_str().filter(|text| !text.is_empty()) else { return };
        let message = update["messageId"].as_str().map(str::to_owned);
        let follows = self.open.as_ref().is_some_and(|open| open.kind == kind && open.message == message);
        if !follows {
            self.close_part();
            self.parts += 1;
            let id = format!("acp_{}_{}", self.prompt, self.parts);
            self.open = Some(OpenPart { id, kind, message, text: String::new() });
        }
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            self.had_output |= kind == PartKind::Text;
            self.out.push(AgentEvent::Text { part_id: open.id.clone(), kind, text: text.to_owned() });
        }
    }

    fn close_part(&mut self) {
        if let Some(OpenPart { id, kind, text, .. }) = self.open.take() {
            self.out.push(AgentEvent::PartDone { part_id: id, kind, text });
        }
    }

    fn tool(&mut self, update: Update, now: Instant) {
        self.close_part();
        let call = self.calls.entry(update.tool_call_id.clone()).or_default();
        let told = &mut call.update;
        told.call_id = update.tool_call_id;
        // The first title is a tool's name at some agents and a sentence at others.
        if told.tool.is_empty() {
            let name = update.title.as_deref().filter(|title| is_name(title)).or(update.kind.as_deref());
            name.unwrap_or("tool").clone_into(&mut told.tool);
        }
        if let Some(Value::Object(input)) = update.raw_input
            && !input.is_empty()
        {
            told.args = bounded_arguments(&input);
        }
        if told.args.is_empty()
            && let Some(title) = update.title.filter(|title| *title != told.tool)
        {
            told.args = Map::from_iter([("title".to_owned(), Value::String(title))]);
        }
        let before = told.status.clone();
        if let Some(word) = update.status.as_deref() {
            status(word).clone_into(&mut told.status);
        } else if told.status.is_empty() {
            "pending".clone_into(&mut told.status);
        }
        if before != "running" && told.status == "running" {
            told.started_at = Some(crate::clock::now());
        }
        if let Some(content) = update.content {
            call.content = content;
        }
        let ended = matches!(told.status.as_str(), "completed" | "error");
        call.settle(update.raw_output.as_ref(), ended, &self.directory);
        let told = &mut call.update;
        if ended && told.ended_at.is_none() {
            let now: UnixMillis = crate::clock::now();
            told.ended_at = Some(now);
            told.started_at = told.started_at.or(Some(now));
        }
        if told.status == "pending" && told.args.is_empty() {
            return;
        }
        let output = told.output.as_ref().map_or(0, String::len);
        if let Some((status, length, at)) = &call.told
            && *status == told.status
            && (*length == output || now.duration_since(*at) < RUNNING_INTERVAL)
        {
            return;
        }
        call.told = Some((told.status.clone(), output, now));
        self.had_output = true;
        self.out.push(AgentEvent::Tool(Box::new(told.clone())));
    }

    /// The agent's plan is shown as the list of things to do that other agents keep by a tool: always the whole list.
    fn plan(&mut self, entries: &Value) {
        self.close_part();
        let update = ToolUpdate {
            tool: "todowrite".to_owned(),
            args: bounded_arguments(&Map::from_iter([("todos".to_owned(), entries.clone())])),
            call_id: format!("plan-{}", self.prompt),
            status: "completed".to_owned(),
            ..ToolUpdate::default()
        };
        self.out.push(AgentEvent::Tool(Box::new(update)));
    }

    /// The turn is over: what is open is told as it stands. Calls that have not ended never will.
    pub fn finish(&mut self, now: Instant) {
        self.close_part();
        let mut open: Vec<String> =
            self.calls.iter().filter(|(_, call)| call.is_open()).map(|(id, _)| id.clone()).collect();
        open.sort();
        for id in open {
            let ended = json!({"update": {"sessionUpdate": "tool_call_update", "toolCallId": id, "status": "failed"}});
            self.update(ended, now);
        }
    }
}

impl Call {
    fn is_open(&self) -> bool {
        self.told.is_some() && !matches!(self.update.status.as_str(), "completed" | "error")
    }

    fn settle(&mut self, raw_output: Option<&Value>, ended: bool, directory: &std::path::Path) {
        let texts: Vec<&str> = self
            .content
            .iter()
            .filter_map(|content| match content {
                Content::Block { content } => content["text"].as_str(),
                Content::Diff { .. } | Content::Other => None,
            })
            .collect();
        let mut output = texts.join("\n");
        if output.is_empty()
            && let Some(raw) = raw_output.filter(|_| ended)
        {
            raw["output"].as_str().or_else(|| raw.as_str()).unwrap_or_default().clone_into(&mut output);
        }
        let told = &mut self.update;
        if !output.is_empty() {
            let cut = head_and_tail(&output, OUTPUT_MAX_BYTES);
            told.truncated = cut.is_some();
            told.whole_output = cut.is_some().then(|| output.clone()).filter(|_| ended);
            told.output = Some(cut.unwrap_or(output));
        }
        if told.status == "error" {
            told.error = told.output.clone().or_else(|| Some("The tool failed.".to_owned()));
        }
        if let Some(raw) = raw_output {
            let code =
                [&raw["metadata"]["exit"], &raw["exitCode"], &raw["exit_code"]].into_iter().find_map(Value::as_i64);
            told.exit_code = code.and_then(|code| code.try_into().ok()).or(told.exit_code);
        }
        if told.status == "completed" {
            told.file_change = self.content.iter().find_map(|content| match content {
                Content::Diff { path, old_text, new_text } => {
                    let (added, removed) = changed_lines(old_text.as_deref().unwrap_or_default(), new_text);
                    Some(FileChange { path: relative(path, directory), added, removed })
                }
                Content::Block { .. } | Content::Other => None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(updates: &[Value]) -> Vec<AgentEvent> {
        let mut translator = Translator::new(MessageId::from_bytes([1; 16]), "/w".into());
        let mut now = Instant::now();
        for update in updates {
            translator.update(json!({"sessionId": "s", "update": update}), now);
            now += Duration::from_millis(500);
        }
        translator.finish(now);
        translator.take()
    }

    fn chunk(kind: &str, message: &str, text: &str) -> Value {
        json!({"sessionUpdate": kind, "messageId": message, "content": {"type": "text", "text": text}})
    }

    fn tools(events: &[AgentEvent]) -> Vec<&ToolUpdate> {
        let tools = events.iter().filter_map(|event| match event {
            AgentEvent::Tool(update) => Some(update.as_ref()),
            _ => None,
        });
        tools.collect()
    }

    #[test]
    fn each_run_of_words_between_other_things_is_a_part_of_its_own() {
        let events = play(&[
            chunk("agent_thought_chunk", "t", "Hm. "),
            chunk("agent_message_chunk", "m", "One "),
            chunk("agent_message_chunk", "m", "two."),
            json!({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "bash", "kind": "execute",
                "status": "completed", "rawInput": {"command": "ls"}}),
            chunk("agent_message_chunk", "m", "Three."),
            json!({"sessionUpdate": "something_new", "x": 1}),
        ]);
        let done: Vec<(PartKind, &str)> = events
            .iter()
            .filter_map(|event| match event {
                AgentEvent::PartDone { kind, text, .. } => Some((*kind, text.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(done, [(PartKind::Reasoning, "Hm. "), (PartKind::Text, "One two."), (PartKind::Text, "Three.")]);
    }

    #[test]
    fn a_call_keeps_its_name_and_gathers_what_updates_say() {
        let diff = json!([{"type": "diff", "path": "/w/a.txt", "oldText": "a\nb\n", "newText": "a\nc\nd\n"},
            {"type": "terminal", "terminalId": "t"}]);
        let events = play(&[
            json!({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "edit", "kind": "edit", "rawInput": {}}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "in_progress",
                "title": "Edit a.txt", "rawInput": {"path": "a.txt"}}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "completed", "content": diff,
                "rawOutput": {"output": "fine", "metadata": {"exit": 0}}}),
        ]);
        let told = tools(&events);
        let states: Vec<&str> = told.iter().map(|update| update.status.as_str()).collect();
        assert_eq!(states, ["running", "completed"], "one without arguments is not told yet");
        let last = told[1];
        assert_eq!((last.tool.as_str(), last.output.as_deref(), last.exit_code), ("edit", Some("fine"), Some(0)));
        assert_eq!(last.args["path"], "a.txt");
        let change = last.file_change.as_ref().expect("it changed a file");
        assert_eq!((change.path.as_str(), change.added, change.removed), ("a.txt", 2, 1));
    }

    #[test]
    fn a_plan_is_the_whole_list_and_a_call_that_never_ended_is_told_as_failed() {
        let entries = json!([{"content": "one", "priority": "high", "status": "in_progress"}]);
        let events = play(&[
            json!({"sessionUpdate": "plan", "entries": entries}),
            json!({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "Run the tests of it", "kind": "execute",
                "status": "in_progress"}),
        ]);
        let told = tools(&events);
        assert_eq!((told[0].tool.as_str(), &told[0].args["todos"]), ("todowrite", &entries));
        assert_eq!((told[1].tool.as_str(), &told[1].args["title"]), ("execute", &json!("Run the tests of it")));
        assert_eq!(told[2].status, "error");
    }
}
