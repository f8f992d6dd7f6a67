//! What a turn waits for: leave, people, a provider.

use super::Translator;
use crate::agent::AgentEvent;
use crate::agent::opencode::questions::Asked as Question;

/// Reasons of a provider that are told in one turn.
const REASONS_TOLD: usize = 10;

/// Something that OpenCode waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A permission, by its id.
    Permission(String),
    /// A question for a person.
    Question(Question),
}

impl Translator {
    pub(super) fn permission(&mut self, properties: &serde_json::Value) {
        let text = |key: &str| properties.get(key).and_then(serde_json::Value::as_str);
        if let (Some(id), Some(session)) = (text("id"), text("sessionID"))
            && (session == self.session || self.children.contains_key(session))
        {
            self.asked.push(Asked::Permission(id.to_owned()));
        }
    }

    /// A question of the turn, from the stream or from a look at what waits. Each is asked once.
    pub fn question(&mut self, asked: Question) {
        let ours = asked.session_id == self.session || self.children.contains_key(&asked.session_id);
        if ours && self.questions.insert(asked.id.clone()) {
            self.out.extend(asked.events());
            self.asked.push(Asked::Question(asked));
        }
    }

    /// The provider makes OpenCode wait: people are told once for each reason.
    pub(super) fn tell_retry(&mut self, message: Option<&str>) {
        let reason = message.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("it did not say why");
        if self.retries.len() < REASONS_TOLD && self.retries.insert(reason.to_owned()) {
            let reason = oi_protocol::text::truncate_bytes(reason, 1000);
            self.out
                .push(AgentEvent::Warning(format!("The model provider does not answer, and is asked again: {reason}")));
        }
    }

    /// Whether the agent may be silent: it runs a tool.
    pub fn is_occupied(&self) -> bool {
        self.tools.values().any(|seen| !matches!(seen.status.as_str(), "completed" | "error"))
    }
}
