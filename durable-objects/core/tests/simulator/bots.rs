//! Callers of the control plane: bots and the parent's agent that prompt, a sandbox that is not the current one, people
//! who archive, cancel and look.

use oi_protocol::callback::{CallbackContext, LinearContext, SlackContext};
use oi_protocol::session_state::{PromptSource, SessionStatus};
use oi_session::call::{CallReply, EnqueuePrompt, Principal, SessionCall};
use rand::Rng;

use crate::support::session::{person, value};
use crate::world::{World, parent_id};

/// A prompt by REST.
#[derive(Debug, Clone)]
pub struct BotPrompt {
    pub key: String,
    pub source: PromptSource,
    pub message_id: Option<String>,
    pub refused: bool,
}

impl BotPrompt {
    /// Whether somebody asked to be told how it ends.
    pub fn is_told(&self) -> bool {
        self.source != PromptSource::Agent
    }

    fn call(&self) -> SessionCall {
        let callback_context = match self.source {
            PromptSource::Slack => Some(CallbackContext::Slack(SlackContext {
                channel: "C1".to_owned(),
                thread_ts: "1.2".to_owned(),
                repo_full_name: "acme/sample".to_owned(),
                model: "demo/scripted".to_owned(),
                reasoning_effort: None,
                reaction_message_ts: None,
                automation_id: None,
            })),
            PromptSource::Linear => Some(CallbackContext::Linear(LinearContext {
                issue_id: "i".to_owned(),
                issue_identifier: "A-1".to_owned(),
                issue_url: "https://linear/A-1".to_owned(),
                repo_full_name: None,
                model: "demo/scripted".to_owned(),
                agent_session_id: None,
                emit_tool_progress_activities: None,
                organization_id: None,
                app_user_id: None,
                transition_issue_on_start: None,
            })),
            _ => None,
        };
        SessionCall::Prompt(Box::new(EnqueuePrompt {
            author: person("Bot"),
            content: format!("prompt {}", self.key),
            source: self.source,
            model: None,
            reasoning_effort: None,
            attachments: Vec::new(),
            idempotency_key: Some(self.key.clone()),
            callback_context,
        }))
    }
}

impl World {
    /// Asks the session; `None` when the answer is lost.
    pub fn ask(&mut self, principal: Principal, call: SessionCall) -> Result<Option<CallReply>, String> {
        let reply = self.host.call(principal, call).ok();
        let answer = reply.and_then(|reply| self.host.replies.remove(&reply));
        self.after_input()?;
        Ok(answer)
    }

    pub fn a_bot_acts(&mut self) -> Result<(), String> {
        let count = self.bot_prompts.len();
        let index = if count > 0 && self.rng.random_bool(0.3) {
            self.rng.random_range(0..count)
        } else {
            let sources = [PromptSource::Slack, PromptSource::Linear, PromptSource::Agent];
            self.bot_prompts.push(BotPrompt {
                key: format!("b{count}"),
                source: sources[self.rng.random_range(0..sources.len())],
                message_id: None,
                refused: false,
            });
            count
        };
        self.bot_prompts(index)
    }

    fn bot_prompts(&mut self, index: usize) -> Result<(), String> {
        // When the answer is lost, nobody knows what it was.
        self.bot_prompts[index].refused = false;
        let call = self.bot_prompts[index].call();
        let Some(answer) = self.ask(Principal::Platform, call)? else { return Ok(()) };
        let prompt = &mut self.bot_prompts[index];
        if answer.status == 200 {
            let id = value(&answer.body)["messageId"].as_str().map(str::to_owned);
            if prompt.message_id.is_some() && prompt.message_id != id {
                return Err(format!("once: {} became two prompts", prompt.key));
            }
            prompt.message_id = id;
        } else {
            prompt.refused |= prompt.message_id.is_none();
        }
        Ok(())
    }

    /// What was not answered is asked again.
    pub fn repeat_bot_prompts(&mut self) -> Result<(), String> {
        for index in 0..self.bot_prompts.len() {
            let prompt = &self.bot_prompts[index];
            if prompt.message_id.is_none() && !prompt.refused {
                self.bot_prompts(index)?;
            }
        }
        Ok(())
    }

    /// A sandbox, current or not, shows its token.
    pub fn a_stranger_calls(&mut self) -> Result<(), String> {
        let count = self.bridges.len();
        if count == 0 {
            return Ok(());
        }
        let index = self.rng.random_range(0..count);
        let sandbox = self.bridges[index].sandbox.clone();
        let call = if self.rng.random_bool(0.5) {
            SessionCall::VerifySandbox
        } else {
            SessionCall::AuthorizeOutput { output_id: "o".to_owned(), bytes: 1 }
        };
        let answer = self.ask(Principal::Sandbox { token: sandbox.token }, call)?;
        let is_retired = self.is_retired(&sandbox.id);
        if is_retired {
            self.tally.one("calls of replaced sandboxes");
        }
        match answer {
            Some(answer) if is_retired && answer.status == 200 => {
                Err(format!("let in: {} was stopped and is answered", sandbox.id))
            }
            _ => Ok(()),
        }
    }

    pub fn rest_call(&mut self, index: usize) -> Result<(), String> {
        let person = Box::new(self.a_person(index));
        let call = match self.rng.random_range(0..16) {
            0..3 => SessionCall::Archive,
            3..8 => SessionCall::Unarchive,
            8 if self.rng.random_bool(0.3) => SessionCall::Cancel,
            8 => SessionCall::ExpireDraft,
            9 => SessionCall::UpdateTitle { title: format!("Title {}", self.requests) },
            10 => SessionCall::Snapshot { dialect: 2 },
            11 => SessionCall::Deliveries,
            12 => SessionCall::Stop,
            13 => SessionCall::AnswerQuestion { person, request_id: "none".to_owned(), answer: "x".to_owned() },
            14 if self.outside.is_child => SessionCall::ParentPrompt {
                parent_session_id: parent_id(),
                content: "go on".to_owned(),
                author: person,
            },
            14 => {
                SessionCall::ChildChanged { child_session_id: parent_id(), status: SessionStatus::Active, title: None }
            }
            15 if self.rng.random_bool(0.5) => SessionCall::RefreshPullRequests,
            _ => SessionCall::Events { cursor: None, limit: Some(20), event_type: None, message_id: None },
        };
        let owner = Principal::User { user_id: crate::support::session::init(false).owner.user_id };
        let what = match call {
            SessionCall::Archive => Some("archived sessions"),
            SessionCall::Cancel => Some("cancelled sessions"),
            _ => None,
        };
        let answer = self.ask(owner, call)?;
        if let (Some(what), Some(200)) = (what, answer.map(|answer| answer.status)) {
            self.tally.one(what);
        }
        Ok(())
    }
}
