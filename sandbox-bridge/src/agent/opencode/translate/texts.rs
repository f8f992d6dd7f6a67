//! Text, reasoning and steps of a turn.

use oi_protocol::event::PartKind;

use super::{Held, TextPart, Translator};
use crate::agent::AgentEvent;
use crate::agent::opencode::wire::{Part, PartBody, PartDelta};

impl Translator {
    pub(super) fn delta(&mut self, delta: PartDelta) {
        if delta.session_id != self.session || delta.field != "text" || self.other_messages.contains(&delta.message_id)
        {
            return;
        }
        if !self.output_messages.contains(&delta.message_id) {
            return self.hold(Held::Delta(delta));
        }
        let Some(part) = self.texts.get_mut(&delta.part_id) else { return };
        if part.done || part.holey || delta.delta.is_empty() {
            return;
        }
        part.text.push_str(&delta.delta);
        let kind = part.kind;
        self.tell_text(&delta.part_id, kind, delta.delta);
    }

    pub(super) fn tell_text(&mut self, part_id: &str, kind: PartKind, text: String) {
        self.had_output |= kind == PartKind::Text;
        self.out.push(AgentEvent::Text { part_id: part_id.to_owned(), kind, text });
    }

    pub(super) fn whole_text(&mut self, part_id: &str, kind: PartKind, text: String, ended: bool) {
        let part = self.texts.entry(part_id.to_owned()).or_insert(TextPart {
            kind,
            text: String::new(),
            done: false,
            holey: false,
        });
        if part.done && part.text == text {
            return;
        }
        if !part.done
            && !part.holey
            && self.live
            && let Some(rest) = text.strip_prefix(part.text.as_str()).filter(|rest| !rest.is_empty())
        {
            let rest = rest.to_owned();
            part.text.clone_from(&text);
            self.tell_text(part_id, kind, rest);
        }
        if ended && let Some(part) = self.texts.get_mut(part_id) {
            let empty = text.is_empty() && part.text.is_empty();
            part.done = true;
            part.text.clone_from(&text);
            if !empty {
                self.had_output |= kind == PartKind::Text;
                self.out.push(AgentEvent::PartDone { part_id: part_id.to_owned(), kind, text });
            }
        }
    }

    pub(super) fn step_start(&mut self, part_id: String, subtask: bool) {
        if self.steps.insert(part_id) && self.live {
            self.out.push(AgentEvent::StepStart { subtask });
        }
    }

    pub(super) fn step_finish(
        &mut self,
        part_id: String,
        cost: Option<f64>,
        tokens: Option<serde_json::Value>,
        reason: Option<String>,
        subtask: bool,
    ) {
        self.had_output |= !subtask;
        if self.steps.insert(part_id) && self.live {
            self.out.push(AgentEvent::StepFinish { cost, tokens, reason, subtask });
        }
    }

    /// A server that was killed has stored less than it had streamed.
    pub(super) fn keep_longer_text(&self, part: &mut Part) {
        if let PartBody::Text { text, .. } | PartBody::Reasoning { text, .. } = &mut part.body
            && let Some(known) = self.texts.get(&part.id)
            && !known.done
            && known.text.len() > text.len()
        {
            text.clone_from(&known.text);
        }
    }
}
