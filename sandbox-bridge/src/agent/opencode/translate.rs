//! From OpenCode's event stream to what the agent did in one turn: a state machine with no IO.
//!
//! A message counts as output of the turn when it answers our prompt, or one that OpenCode wrote during the turn
//! (after a compaction). Parts of messages that are not known yet are held until `message.updated` tells whose
//! they are. Sub-agents' tool calls and steps are told, their words are not.

mod texts;
mod tools;
mod waits;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;

use oi_protocol::event::PartKind;
use tokio::time::Instant;

use super::questions::Asked as Question;
use super::tool::ReadFile;
use super::wire::{
    MessageInfo, MessageUpdated, NamedError, OfSession, Part, PartBody, PartDelta, PartUpdated, SessionError,
    SessionUpdated, SseFrame, StatusChanged, StoredMessage,
};
use crate::agent::{AgentEvent, ToolUpdate};
pub use waits::Asked;

/// Parts that wait for their message, and sub-agent parts that wait for their task call.
const HELD_MAX: usize = 2000;

enum Held {
    Part(Part),
    Delta(PartDelta),
}

impl Held {
    fn message_id(&self) -> &str {
        match self {
            Self::Part(part) => &part.message_id,
            Self::Delta(delta) => &delta.message_id,
        }
    }
}

struct TextPart {
    kind: PartKind,
    text: String,
    done: bool,
    /// The stream was interrupted while the part was open: only its whole text can be trusted.
    holey: bool,
}

struct ToolSeen {
    status: String,
    child: Option<String>,
    output: usize,
    told_at: Instant,
}

type CallKey = (String, String);

/// The turn so far.
pub struct Translator {
    session: String,
    prompt: String,
    directory: PathBuf,
    read_file: ReadFile,
    started_ms: f64,
    /// Whether steps and deltas are told: not when looking back at a turn that ran before this process.
    live: bool,
    user_messages: HashSet<String>,
    output_messages: HashSet<String>,
    other_messages: HashSet<String>,
    held: VecDeque<Held>,
    texts: HashMap<String, TextPart>,
    steps: HashSet<String>,
    tools: HashMap<CallKey, ToolSeen>,
    deferred: HashMap<CallKey, ToolUpdate>,
    overwritten: HashMap<String, String>,
    children: HashMap<String, Option<String>>,
    held_children: VecDeque<Part>,
    errors: HashSet<String>,
    overflow: Option<String>,
    compacted: bool,
    stopping: bool,
    idle: bool,
    saw_prompt: bool,
    /// The newest message of the turn, and whether it is complete.
    newest: Option<(String, bool)>,
    had_output: bool,
    failure: Option<String>,
    title: Option<String>,
    /// Permission requests and questions that wait.
    asked: Vec<Asked>,
    /// Questions that were asked.
    questions: HashSet<String>,
    /// Reasons of waiting that were told.
    retries: HashSet<String>,
    out: Vec<AgentEvent>,
}

impl Translator {
    /// A turn of `session` that begins with the user message `prompt` at `started_ms`.
    pub fn new(session: &str, prompt: &str, directory: PathBuf, started_ms: f64, read_file: ReadFile) -> Self {
        Self {
            session: session.to_owned(),
            prompt: prompt.to_owned(),
            directory,
            read_file,
            started_ms,
            live: true,
            user_messages: HashSet::from([prompt.to_owned()]),
            output_messages: HashSet::new(),
            other_messages: HashSet::new(),
            held: VecDeque::new(),
            texts: HashMap::new(),
            steps: HashSet::new(),
            tools: HashMap::new(),
            deferred: HashMap::new(),
            overwritten: HashMap::new(),
            children: HashMap::new(),
            held_children: VecDeque::new(),
            errors: HashSet::new(),
            overflow: None,
            compacted: false,
            stopping: false,
            idle: false,
            saw_prompt: false,
            newest: None,
            had_output: false,
            failure: None,
            title: None,
            asked: Vec::new(),
            questions: HashSet::new(),
            retries: HashSet::new(),
            out: Vec::new(),
        }
    }

    /// Takes what OpenCode stored of a turn that began before this process: its steps were told already.
    pub fn look_back(&mut self, messages: Vec<StoredMessage>, now: Instant) {
        self.live = false;
        self.stored(messages, false, now);
        self.live = true;
        self.interrupted();
    }

    /// What happened since the last call.
    pub fn take(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.out)
    }

    /// What OpenCode began to wait for since the last call.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// An abort was asked for: its error is no failure.
    pub const fn stopping(&mut self) {
        self.stopping = true;
    }

    /// OpenCode says that it is idle, after it had our prompt.
    pub const fn is_idle(&self) -> bool {
        self.idle && self.saw_prompt
    }

    /// The newest message of the turn is complete.
    pub fn is_settled(&self) -> bool {
        self.newest.as_ref().is_some_and(|(_, complete)| *complete)
    }

    /// Whether there was text, a tool call or a finished step.
    pub const fn had_output(&self) -> bool {
        self.had_output
    }

    /// The first error of the turn.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The stream was interrupted: deltas of open parts may be missing.
    pub fn interrupted(&mut self) {
        for part in self.texts.values_mut().filter(|part| !part.done) {
            part.holey = true;
        }
        self.idle = false;
    }

    /// `GET /session/status` does not list the session.
    pub const fn polled_idle(&mut self) {
        self.idle = true;
    }

    /// Takes one frame of the stream.
    pub fn frame(&mut self, frame: SseFrame, now: Instant) {
        macro_rules! read {
            ($shape:ty) => {
                match serde_json::from_value::<$shape>(frame.properties) {
                    Ok(value) => value,
                    Err(error) => {
                        tracing::debug!(event = "opencode.odd_frame", kind = frame.kind, %error);
                        return;
                    }
                }
            };
        }
        match frame.kind.as_str() {
            "message.updated" => self.message(&read!(MessageUpdated).info, now),
            "message.part.updated" => self.part(read!(PartUpdated).part, now),
            "message.part.delta" => self.delta(read!(PartDelta)),
            "session.created" | "session.updated" => self.session_changed(&read!(SessionUpdated)),
            "session.status" => {
                let changed = read!(StatusChanged);
                if changed.session_id == self.session {
                    self.idle = changed.status.kind == "idle" && self.saw_prompt;
                    if changed.status.kind == "retry" {
                        tracing::info!(event = "agent.retry", attempt = changed.status.attempt);
                        self.tell_retry(changed.status.message.as_deref());
                    }
                }
            }
            "session.idle" => self.idle |= self.saw_prompt && read!(OfSession).session_id == self.session,
            "session.error" => {
                let failed = read!(SessionError);
                if let (Some(session), Some(error)) = (failed.session_id, failed.error) {
                    self.error_in(&session, &error);
                }
            }
            "session.compacted" => self.compacted_in(&read!(OfSession).session_id),
            "permission.asked" => self.permission(&frame.properties),
            "question.asked" => self.question(read!(Question)),
            _ => {}
        }
    }

    fn compacted_in(&mut self, session: &str) {
        if session == self.session {
            self.compacted = true;
            self.overflow = None;
            self.out.push(AgentEvent::Compacted);
        }
    }

    fn session_changed(&mut self, changed: &SessionUpdated) {
        let info = &changed.info;
        if info.parent_id.as_ref() == Some(&self.session) {
            self.children.entry(info.id.clone()).or_insert(None);
        } else if info.id == self.session
            && let Some(title) = info.given_title()
            && self.title.as_deref() != Some(title)
        {
            self.title = Some(title.to_owned());
            self.out.push(AgentEvent::Title(title.to_owned()));
        }
    }

    fn error_in(&mut self, session: &str, error: &NamedError) {
        if session == self.session {
            self.error(error);
        } else if self.children.contains_key(session) && !error.is("ContextOverflowError") {
            self.tell_error(error.text(), true);
        }
    }

    fn error(&mut self, error: &NamedError) {
        if error.is("ContextOverflowError") {
            self.overflow = Some(error.text());
        } else if !(self.stopping && error.is("MessageAbortedError")) {
            self.tell_error(error.text(), false);
        }
    }

    fn tell_error(&mut self, text: String, subtask: bool) {
        if !subtask {
            self.failure.get_or_insert_with(|| text.clone());
        }
        if self.errors.insert(text.clone()) {
            self.out.push(AgentEvent::Error { text, subtask });
        }
    }

    fn message(&mut self, info: &MessageInfo, now: Instant) {
        if info.session_id != self.session {
            if let Some(error) = &info.error {
                self.error_in(&info.session_id, error);
            }
            return;
        }
        let created = info.time.created.filter(|ms| ms.is_finite());
        if info.role == "user" {
            if info.id == self.prompt {
                self.saw_prompt = true;
                // The agent's own clock decides what came after it.
                self.started_ms = created.unwrap_or(self.started_ms);
            } else if created.is_some_and(|ms| ms > self.started_ms) && self.saw_prompt {
                self.user_messages.insert(info.id.clone());
            }
            self.other_messages.insert(info.id.clone());
            return;
        }
        let answers = info.parent_id.as_ref().is_some_and(|parent| self.user_messages.contains(parent));
        let later = self.compacted && created.is_some_and(|ms| ms > self.started_ms);
        if info.is_summary() || !(answers || later || self.output_messages.contains(&info.id)) {
            if answers && let Some(error) = &info.error {
                self.error(error);
            }
            self.other_messages.insert(info.id.clone());
            self.held.retain(|held| held.message_id() != info.id);
            return;
        }
        self.saw_prompt = true;
        let complete = info.time.completed.is_some() || info.error.is_some();
        match &mut self.newest {
            Some((id, known)) if *id == info.id => *known |= complete,
            newest => *newest = Some((info.id.clone(), complete)),
        }
        self.other_messages.remove(&info.id);
        if self.output_messages.insert(info.id.clone()) {
            self.release(&info.id, now);
        }
        if let Some(error) = &info.error {
            self.error(error);
        }
    }

    fn release(&mut self, message_id: &str, now: Instant) {
        let (ours, rest) = self.held.drain(..).partition(|held| held.message_id() == message_id);
        self.held = rest;
        let ours: VecDeque<Held> = ours;
        for held in ours {
            match held {
                Held::Part(part) => self.part(part, now),
                Held::Delta(delta) => self.delta(delta),
            }
        }
    }

    fn hold(&mut self, held: Held) {
        if self.held.len() >= HELD_MAX {
            tracing::warn!(event = "opencode.parts_dropped");
            self.held.pop_front();
        }
        self.held.push_back(held);
    }

    fn part(&mut self, part: Part, now: Instant) {
        if part.session_id != self.session {
            return self.child_part(part, now);
        }
        if self.other_messages.contains(&part.message_id) {
            return;
        }
        if !self.output_messages.contains(&part.message_id) {
            return self.hold(Held::Part(part));
        }
        match part.body {
            PartBody::Text { text, time, synthetic, ignored } => {
                if synthetic != Some(true) && ignored != Some(true) {
                    self.whole_text(&part.id, PartKind::Text, text, time.and_then(|time| time.end).is_some());
                }
            }
            PartBody::Reasoning { text, time } => {
                self.whole_text(&part.id, PartKind::Reasoning, text, time.and_then(|time| time.end).is_some());
            }
            PartBody::Tool { tool, call_id, state } => self.tool(&part.session_id, &tool, &call_id, &state, now),
            PartBody::StepStart => self.step_start(part.id, false),
            PartBody::StepFinish { cost, tokens, reason } => self.step_finish(part.id, cost, tokens, reason, false),
            PartBody::Other => {}
        }
    }

    /// Takes what OpenCode stored. `last` closes the turn: what is still open is told as it stands.
    pub fn stored(&mut self, messages: Vec<StoredMessage>, last: bool, now: Instant) {
        for StoredMessage { info, parts } in messages {
            self.message(&info, now);
            if !self.output_messages.contains(&info.id) {
                continue;
            }
            for mut part in parts {
                if last && let PartBody::Text { time, .. } | PartBody::Reasoning { time, .. } = &mut part.body {
                    let mut times = time.unwrap_or_default();
                    times.end = times.end.or(Some(0.0));
                    *time = Some(times);
                    self.keep_longer_text(&mut part);
                }
                self.part(part, now);
            }
        }
        if last {
            self.finish(now);
        }
    }

    fn finish(&mut self, now: Instant) {
        for part in std::mem::take(&mut self.held_children) {
            self.tell_child_part(part, now);
        }
        for (key, update) in std::mem::take(&mut self.deferred) {
            self.tell_tool(key, update, now);
        }
        if let Some(overflow) = self.overflow.take()
            && self.failure.is_none()
        {
            self.tell_error(overflow, false);
        }
    }
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
