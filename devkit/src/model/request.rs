//! A chat completion request, as far as the script looks at it.

use serde::Deserialize;
use serde_json::Value;

/// Most messages and tools of a request.
const MAX_MESSAGES: usize = 20_000;
const MAX_TOOLS: usize = 1_000;

#[derive(Debug, Deserialize)]
pub struct Request {
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub stream: bool,
    pub messages: Vec<Message>,
    #[serde(default)]
    pub tools: Vec<Tool>,
}

#[derive(Debug, Deserialize)]
pub struct Message {
    pub role: String,
    /// A text, or parts of which the text ones count.
    #[serde(default)]
    pub content: Value,
    #[serde(default)]
    tool_calls: Vec<ToolCall>,
    #[serde(default)]
    tool_call_id: String,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    #[serde(default)]
    id: String,
    function: CalledFunction,
}

#[derive(Debug, Deserialize)]
struct CalledFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Debug, Deserialize)]
pub struct Tool {
    function: ToolFunction,
}

#[derive(Debug, Deserialize)]
struct ToolFunction {
    name: String,
}

/// A tool call that was made since the last user message, with its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub tool: String,
    pub arguments: Value,
    pub result: String,
}

impl Step {
    /// A text argument.
    pub fn argument(&self, name: &str) -> &str {
        self.arguments[name].as_str().unwrap_or_default()
    }
}

impl Request {
    /// Reads a request; an error is a sentence about what is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let request: Self =
            serde_json::from_slice(body).map_err(|error| format!("The request can't be read: {error}"))?;
        if request.messages.is_empty() {
            return Err("`messages` must not be empty.".into());
        }
        if request.messages.len() > MAX_MESSAGES || request.tools.len() > MAX_TOOLS {
            return Err("There are too many messages or tools.".into());
        }
        Ok(request)
    }

    /// The name of the tool that is called this or ends with it (MCP servers prefix their tools).
    pub fn tool(&self, name: &str) -> Option<&str> {
        let names = || self.tools.iter().map(|t| t.function.name.as_str());
        names().find(|n| *n == name).or_else(|| names().find(|n| n.ends_with(name)))
    }

    /// The text of the last user message.
    pub fn prompt(&self) -> String {
        self.last_user().map(|at| self.messages[at].text()).unwrap_or_default()
    }

    /// Where the last user message is.
    pub fn last_user(&self) -> Option<usize> {
        self.messages.iter().rposition(|m| m.role == "user")
    }

    /// The tool calls since the last user message that have a result, in order.
    pub fn steps(&self) -> Vec<Step> {
        let since = &self.messages[self.last_user().map_or(0, |at| at + 1)..];
        since
            .iter()
            .flat_map(|message| &message.tool_calls)
            .filter_map(|call| {
                let result = since.iter().find(|m| m.role == "tool" && m.tool_call_id == call.id)?;
                Some(Step {
                    tool: call.function.name.clone(),
                    arguments: serde_json::from_str(&call.function.arguments).unwrap_or(Value::Null),
                    result: result.text(),
                })
            })
            .collect()
    }

    /// Whether the agent has called a tool at any time in the conversation.
    pub fn has_called(&self, tool: &str) -> bool {
        self.messages.iter().flat_map(|m| &m.tool_calls).any(|call| call.function.name == tool)
    }

    /// The folder that the agent works in, from the environment block of OpenCode's system prompt.
    pub fn working_directory(&self) -> Option<String> {
        self.messages.iter().filter(|m| m.role == "system" || m.role == "developer").find_map(|message| {
            let text = message.text();
            let (_, rest) = text.split_once("Working directory: ")?;
            let path = rest.lines().next()?.trim();
            path.starts_with('/').then(|| path.trim_end_matches('/').to_owned())
        })
    }
}

impl Message {
    pub fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
            _ => String::new(),
        }
    }

    /// About how long the message is, in characters.
    pub fn length(&self) -> usize {
        let calls: usize = self.tool_calls.iter().map(|c| c.function.name.len() + c.function.arguments.len()).sum();
        self.text().len() + calls
    }
}
