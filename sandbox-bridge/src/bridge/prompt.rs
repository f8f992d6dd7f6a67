//! A prompt as the session orders it, and what became of it.

use std::collections::VecDeque;

use oi_protocol::MessageId;
use oi_protocol::sandbox_socket::{CommandAttachment, CommandAuthor};
use serde::{Deserialize, Serialize};

/// Finished prompts whose outcome is remembered. A session repeats only its newest prompt, so a few suffice.
const REMEMBERED: usize = 64;

/// The command `prompt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptOrder {
    /// The prompt.
    pub message_id: MessageId,
    /// Its text.
    pub content: String,
    /// `provider/model`
    pub model: String,
    /// How hard to think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Who sent it.
    pub author: CommandAuthor,
    /// Files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<CommandAttachment>>,
}

/// How a prompt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptOutcome {
    /// Whether the agent finished without an error.
    pub success: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a prompt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptState {
    /// It waits for its turn, or for the boot.
    Accepted(Box<PromptOrder>),
    /// The agent has it, in this session of the agent.
    Started(Box<PromptOrder>, String),
    /// It ended.
    Done(PromptOutcome),
}

/// Every prompt that this sandbox knows, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptLedger {
    records: VecDeque<(MessageId, PromptState)>,
}

impl PromptLedger {
    /// What became of a prompt, or `None` when it is new.
    pub fn state(&self, message_id: &MessageId) -> Option<&PromptState> {
        self.records.iter().find(|(id, _)| id == message_id).map(|(_, state)| state)
    }

    /// Prompts that have not ended, in the order in which they came.
    pub fn unfinished(&self) -> impl Iterator<Item = &PromptState> {
        self.records.iter().map(|(_, state)| state).filter(|state| !matches!(state, PromptState::Done(_)))
    }

    /// All records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &(MessageId, PromptState)> {
        self.records.iter()
    }

    /// Records a new prompt; a known one keeps its state.
    pub fn accept(&mut self, order: PromptOrder) {
        if self.state(&order.message_id).is_none() {
            self.records.push_back((order.message_id.clone(), PromptState::Accepted(Box::new(order))));
        }
    }

    /// The agent got the prompt.
    pub fn start(&mut self, message_id: &MessageId, agent_session: &str) {
        if let Some((_, state)) = self.records.iter_mut().find(|(id, _)| id == message_id)
            && let PromptState::Accepted(order) | PromptState::Started(order, _) = state
        {
            *state = PromptState::Started(order.clone(), agent_session.to_owned());
        }
    }

    /// The prompt ended; its text is forgotten.
    pub fn finish(&mut self, message_id: &MessageId, outcome: PromptOutcome) {
        match self.records.iter_mut().find(|(id, _)| id == message_id) {
            Some((_, state)) => *state = PromptState::Done(outcome),
            None => self.records.push_back((message_id.clone(), PromptState::Done(outcome))),
        }
        while self.records.len() > REMEMBERED && matches!(self.records.front(), Some((_, PromptState::Done(_)))) {
            self.records.pop_front();
        }
    }
}
