//! What the agent asks of its client during a turn.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{AcpAgent, Permissions, files};
use crate::agent::answers::Answers;
use crate::agent::{AgentEvent, QuestionKind};

/// `session/request_permission`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    tool_call: Value,
    options: Vec<Choice>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Choice {
    option_id: String,
    name: String,
    kind: String,
}

/// Leave that a person is asked for.
pub struct Waiting {
    /// The agent's call, to answer it.
    pub id: Value,
    /// The session's question.
    request_id: String,
    asked: Permission,
}

/// What to do with a call.
pub enum Reaction {
    /// Answer it.
    Answer(Value),
    /// Refuse it.
    Refuse(i32, String),
    /// Wait for a person.
    Wait(Permission),
}

fn selected(option: &Choice) -> Value {
    json!({"outcome": {"outcome": "selected", "optionId": option.option_id}})
}

/// Nobody decided.
pub fn cancelled() -> Value {
    json!({"outcome": {"outcome": "cancelled"}})
}

impl Permission {
    /// Leave for this once, or for ever where the agent offers nothing less.
    fn allowed(&self) -> Value {
        let of = |kind: &str| self.options.iter().find(|option| option.kind == kind);
        of("allow_once").or_else(|| of("allow_always")).map_or_else(cancelled, selected)
    }

    fn text(&self) -> String {
        let title = self.tool_call["title"].as_str().filter(|title| !title.is_empty()).unwrap_or("use a tool");
        let title = oi_protocol::text::head_and_tail(title, 4000).unwrap_or_else(|| title.to_owned());
        format!("The agent asks for leave: {title}")
    }
}

impl Waiting {
    /// Something to ask a person, and what to tell the session.
    pub fn new(id: Value, request_id: String, asked: Permission) -> (Self, AgentEvent) {
        let event = AgentEvent::Question {
            request_id: request_id.clone(),
            kind: QuestionKind::Approval,
            text: asked.text(),
            options: Some(asked.options.iter().map(|option| option.name.clone()).take(20).collect()),
        };
        (Self { id, request_id, asked }, event)
    }

    /// What to answer, once the question ended. An answer that is no option is no leave.
    pub fn answer(&self, answers: &Answers) -> Option<Value> {
        let answer = answers.of(&self.request_id)?;
        let options = &self.asked.options;
        let chosen = answer.and_then(|answer| options.iter().find(|option| option.name == answer.trim()));
        let refused = || options.iter().find(|option| option.kind == "reject_once");
        Some(chosen.or_else(refused).map_or_else(cancelled, selected))
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Reaction> {
    serde_json::from_value(params).map_err(|error| Reaction::Refuse(-32602, error.to_string()))
}

impl AcpAgent {
    /// Decides about a call.
    pub(super) fn react(&self, method: &str, params: Value) -> Reaction {
        self.reaction(method, params).unwrap_or_else(|refusal| refusal)
    }

    fn reaction(&self, method: &str, params: Value) -> Result<Reaction, Reaction> {
        let failed = |text: String| Reaction::Refuse(-32603, text);
        Ok(match method {
            "session/request_permission" => {
                let asked: Permission = read(params)?;
                match self.permissions {
                    Permissions::Allow => Reaction::Answer(asked.allowed()),
                    Permissions::Ask => Reaction::Wait(asked),
                }
            }
            "fs/read_text_file" => {
                let text = files::read(&read(params)?, &self.workspace).map_err(failed)?;
                Reaction::Answer(json!({"content": text}))
            }
            "fs/write_text_file" => {
                files::write(&read(params)?, &self.workspace).map_err(failed)?;
                Reaction::Answer(json!({}))
            }
            other => Reaction::Refuse(-32601, format!("Method not found: {other}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Permission {
        serde_json::from_value(
            json!({"sessionId": "s", "toolCall": {"toolCallId": "c", "title": "rm -r x"}, "options": [
            {"optionId": "a", "kind": "allow_always", "name": "Always allow"},
            {"optionId": "o", "kind": "allow_once", "name": "Allow once"},
            {"optionId": "r", "kind": "reject_once", "name": "Reject"}]}),
        )
        .expect("a call of the protocol")
    }

    #[test]
    fn leave_is_given_for_once() {
        assert_eq!(asked().allowed()["outcome"]["optionId"], "o");
    }

    #[test]
    fn a_person_decides_and_anything_but_an_option_is_no_leave() {
        for (answer, option) in [(Some("Allow once"), "o"), (Some("hm"), "r"), (None, "r")] {
            let (waiting, event) = Waiting::new(json!(1), "q".to_owned(), asked());
            assert!(matches!(event, AgentEvent::Question { text, .. } if text.ends_with("rm -r x")));
            let answers = Answers::default();
            assert_eq!(waiting.answer(&answers), None);
            answers.put("q", answer.map(str::to_owned));
            let told = waiting.answer(&answers).expect("it ended");
            assert_eq!(told["outcome"]["optionId"], option, "{answer:?}");
        }
    }
}
