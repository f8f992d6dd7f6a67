//! Tool calls of a turn, and those of its sub-agents.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{CallKey, HELD_MAX, ToolSeen, Translator};
use crate::agent::opencode::tool;
use crate::agent::opencode::wire::{Part, PartBody, ToolState};
use crate::agent::{AgentEvent, ToolUpdate};

/// Output of a running tool is told at most this often.
const RUNNING_INTERVAL: Duration = Duration::from_millis(300);

impl Translator {
    pub(super) fn tool(&mut self, session: &str, tool: &str, call_id: &str, state: &ToolState, now: Instant) {
        if matches!(state.status.as_str(), "" | "pending") && state.input.is_empty() {
            return;
        }
        let subtask = session != self.session;
        let mut update = tool::update(tool, call_id, state, &self.directory);
        self.count_overwritten(tool, state, &mut update);
        if subtask {
            update.subtask = true;
            update.child_session_id = Some(session.to_owned());
            update.task_call_id = self.children.get(session).cloned().flatten();
        } else if tool == "task" {
            let child = state.metadata.as_ref().and_then(|m| m.get("sessionId")).and_then(serde_json::Value::as_str);
            update.child_session_id = child.map(str::to_owned);
        }
        self.had_output = true;
        let key = (session.to_owned(), call_id.to_owned());
        let output = update.output.as_ref().map_or(0, String::len);
        if let Some(seen) = self.tools.get(&key) {
            let ended = |status: &str| matches!(status, "completed" | "error");
            let same = seen.status == update.status && seen.child == update.child_session_id;
            if (same && seen.output == output) || (ended(&seen.status) && !ended(&update.status)) {
                return;
            }
            if same && now.duration_since(seen.told_at) < RUNNING_INTERVAL {
                self.deferred.insert(key, update);
                return;
            }
        }
        let child = update.child_session_id.clone().filter(|_| !subtask);
        self.tell_tool(key, update, now);
        if let Some(child) = child {
            self.bind_child(&child, call_id, now);
        }
    }

    pub(super) fn count_overwritten(&mut self, tool: &str, state: &ToolState, update: &mut ToolUpdate) {
        if state.status == "running"
            && !self.overwritten.contains_key(&update.call_id)
            && let Some(target) = tool::write_target(tool, state, &self.directory)
            && let Some(before) = (self.read_file)(&target)
        {
            self.overwritten.insert(update.call_id.clone(), before);
        }
        if matches!(state.status.as_str(), "completed" | "error")
            && let Some(before) = self.overwritten.remove(&update.call_id)
            && let Some(change) = &mut update.file_change
            && let Some((added, removed)) = tool::overwritten_lines(&before, state)
            && (added, removed) != (0, 0)
        {
            (change.added, change.removed) = (added, removed);
        }
    }

    pub(super) fn tell_tool(&mut self, key: CallKey, update: ToolUpdate, now: Instant) {
        self.deferred.remove(&key);
        let seen = ToolSeen {
            status: update.status.clone(),
            child: update.child_session_id.clone(),
            output: update.output.as_ref().map_or(0, String::len),
            told_at: now,
        };
        self.tools.insert(key, seen);
        self.out.push(AgentEvent::Tool(Box::new(update)));
    }

    /// Tells output of running tools that was held back.
    pub fn tell_deferred(&mut self, now: Instant) {
        for (key, update) in std::mem::take(&mut self.deferred) {
            let due = self.tools.get(&key).is_none_or(|seen| now.duration_since(seen.told_at) >= RUNNING_INTERVAL);
            if due {
                self.tell_tool(key, update, now);
            } else {
                self.deferred.insert(key, update);
            }
        }
    }

    pub(super) fn bind_child(&mut self, child: &str, call_id: &str, now: Instant) {
        self.children.insert(child.to_owned(), Some(call_id.to_owned()));
        let (ours, rest): (VecDeque<Part>, _) = self.held_children.drain(..).partition(|part| part.session_id == child);
        self.held_children = rest;
        for part in ours {
            self.child_part(part, now);
        }
    }

    pub(super) fn child_part(&mut self, part: Part, now: Instant) {
        match self.children.get(&part.session_id) {
            None => {}
            Some(None) if self.held_children.len() < HELD_MAX => self.held_children.push_back(part),
            Some(_) => self.tell_child_part(part, now),
        }
    }

    pub(super) fn tell_child_part(&mut self, part: Part, now: Instant) {
        match part.body {
            PartBody::Tool { tool, call_id, state } => self.tool(&part.session_id, &tool, &call_id, &state, now),
            PartBody::StepStart => self.step_start(part.id, true),
            PartBody::StepFinish { cost, tokens, reason } => self.step_finish(part.id, cost, tokens, reason, true),
            PartBody::Text { .. } | PartBody::Reasoning { .. } | PartBody::Other => {}
        }
    }
}
