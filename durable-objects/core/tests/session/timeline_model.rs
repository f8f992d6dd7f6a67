//! The timeline beside a model of it: whatever pages of both dialects lose, however often the object leaves memory or
//! faults, they end with what the journal of the bridge says.

use std::collections::BTreeSet;

use oi_protocol::MessageId;
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "../simulator/client.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod client;

use client::Client;

use crate::support::probe::Break;
use crate::support::session::{Session, complete, delta, done, ready, tool, value};

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Text of one of three parts, after this share of what it had.
    Write(u8, u8, u8),
    /// The part is finished; its whole text is told, or not.
    Finish(u8, bool),
    Call(u8, bool),
    Warn,
    /// The prompt ends, and the next one begins.
    Turn(bool),
    Read(u8),
    Drop(u8),
    /// With what it has, or with nothing.
    Return(u8, bool),
    Evict,
    Wait(u16),
    /// The statement of this number fails.
    Fault(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            12 => (0..3_u8, 0..6_u8, 0..6_u8).prop_map(|(part, keep, word)| Step::Write(part, keep, word)),
            3 => (0..3_u8, any::<bool>()).prop_map(|(part, told)| Step::Finish(part, told)),
            4 => (0..3_u8, any::<bool>()).prop_map(|(call, ended)| Step::Call(call, ended)),
            1 => Just(Step::Warn),
            2 => any::<bool>().prop_map(Step::Turn),
            4 => (0..4_u8).prop_map(Step::Read),
            2 => (0..4_u8).prop_map(Step::Drop),
            3 => (0..4_u8, prop::bool::weighted(0.8)).prop_map(|(page, resumes)| Step::Return(page, resumes)),
            2 => Just(Step::Evict),
            4 => (0..600_u16).prop_map(Step::Wait),
            2 => (1..40_u8).prop_map(Step::Fault),
        ],
        1..120,
    )
}

const WORDS: [&str; 6] = ["so ", "ähm ", "😀", "let x = 1;\n", "\"quoted\" ", "𝄞"];

/// What the timeline should be, in the order of its places: what names a row, and its text or state.
#[derive(Default)]
struct Model {
    rows: Vec<(String, Value)>,
    /// Text of the three parts of the turn, and how often each was begun anew.
    open: [Option<String>; 3],
    begun: [u32; 3],
    counter: u32,
}

impl Model {
    fn put(&mut self, name: String, what: Value) {
        match self.rows.iter_mut().find(|(known, _)| *known == name) {
            Some(row) => row.1 = what,
            None => self.rows.push((name, what)),
        }
    }
}

struct Life {
    s: Session,
    model: Model,
    bridge: oi_session::input::SocketId,
    /// Every frame, by its number less one.
    journal: Vec<Value>,
    sent: usize,
    id: MessageId,
    pages: Vec<Client>,
    turns: u32,
}

impl Life {
    fn new() -> Self {
        let mut s = Session::new();
        s.host.gathers = true;
        let names = ["Ada", "Ada", "Grace", "Grace"];
        let mut pages: Vec<Client> = names
            .iter()
            .enumerate()
            .map(|(n, name)| Client::new(format!("Page {n}"), (*name).to_owned(), n as u32 % 2 + 1))
            .collect();
        for page in &mut pages {
            page.token = Some(s.token(&page.person));
        }
        let owner = s.page("Ada", 2);
        let id = s.queue(owner, "turn 0", "turn 0");
        let bridge = s.connect(2);
        s.run_jobs();
        let mut life = Self { s, model: Model::default(), bridge, journal: Vec::new(), sent: 0, id, pages, turns: 0 };
        // The bridge connects, which gives it the prompt; then it is ready.
        life.begin();
        life.model.put("ready".to_owned(), Value::Null);
        life.emit(ready());
        life
    }

    fn begin(&mut self) {
        self.model.put(format!("user_message:{}", self.id), json!(format!("turn {}", self.turns)));
        (self.model.open, self.model.begun) = ([None, None, None], [0; 3]);
    }

    fn emit(&mut self, mut event: Value) {
        event["seq"] = json!(self.journal.len() + 1);
        event["sandboxId"] = json!("s");
        event["timestamp"] = json!(self.journal.len() as f64);
        self.journal.push(event);
        self.send();
    }

    /// Sends what was not sent, from where the session says.
    fn send(&mut self) {
        for _ in 0..50 {
            while self.sent < self.journal.len() {
                self.sent += 1;
                let frame = self.journal[self.sent - 1].to_string();
                self.s.host.bridge_sends(self.bridge, &frame);
                self.hear();
            }
            self.s.host.flush_gather();
            self.hear();
            if self.sent == self.journal.len() {
                return;
            }
        }
    }

    fn hear(&mut self) {
        for command in self.s.take(self.bridge) {
            if command["type"] == "hello" {
                self.sent = command["ackedSeq"].as_u64().expect("a mark") as usize;
            }
            assert_ne!(command["type"], "event_rejected", "{command}");
        }
    }

    fn part(&self, part: u8) -> String {
        format!("p{part}-{}", self.model.begun[usize::from(part)])
    }

    fn finish(&mut self, part: u8, told: bool) {
        let name = self.part(part);
        let index = usize::from(part);
        let Some(text) = self.model.open[index].take() else { return };
        self.model.begun[index] += 1;
        let units = text.encode_utf16().count();
        if text.is_empty() {
            self.model.rows.retain(|(known, _)| *known != format!("part:{}:{name}", self.id));
        }
        let event = done(&self.id, &name, told.then_some(text.as_str()), units);
        self.emit(event);
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Write(part, keep, word) => {
                let name = self.part(part);
                let open = self.model.open[usize::from(part)].get_or_insert_default();
                let keep = open.chars().count() * usize::from(keep.min(4) + 1) / 5;
                *open = open.chars().take(keep).collect();
                let offset = open.encode_utf16().count();
                let word = WORDS[usize::from(word)];
                open.push_str(word);
                let text = json!(open);
                let event = delta(&self.id, &name, offset, word);
                self.model.put(format!("part:{}:{name}", self.id), text);
                self.emit(event);
            }
            Step::Finish(part, told) => self.finish(part, told),
            Step::Call(call, ended) => {
                let (call, status) = (format!("c{call}-{}", self.turns), if ended { "completed" } else { "running" });
                self.model.put(format!("tool_call:{call}"), json!(status));
                let event = tool(&self.id, &call, status);
                self.emit(event);
            }
            Step::Warn => {
                self.model.counter += 1;
                let message = format!("warning {}", self.model.counter);
                self.model.put(message.clone(), Value::Null);
                self.emit(json!({"type": "warning", "scope": "setup", "message": message}));
            }
            Step::Turn(success) => {
                let event = complete(&self.id, success);
                // What was being written stays as it is.
                self.model.put(format!("execution_complete:{}", self.id), json!(success));
                self.emit(event);
                self.turns += 1;
                let name = format!("turn {}", self.turns);
                let reply = self.s.rest_prompt(&name, Some(&name));
                let id = value(&reply.body)["messageId"].as_str().expect("an id").to_owned();
                self.id = MessageId::parse(&id).expect("a minted id");
                self.begin();
                self.s.run_jobs();
            }
            Step::Read(page) => self.read(usize::from(page))?,
            Step::Drop(page) => {
                if let Some(socket) = self.pages[usize::from(page)].socket {
                    self.s.host.disconnect(socket);
                    self.pages[usize::from(page)].disconnected();
                }
            }
            Step::Return(page, resumes) => self.connect(usize::from(page), !resumes)?,
            Step::Evict => {
                self.s.host.evict();
                self.s.host.wake().expect("nothing is planned");
                self.send();
            }
            Step::Wait(ms) => {
                self.s.host.advance(i64::from(ms));
                self.send();
            }
            Step::Fault(n) => {
                let how = if n % 2 == 0 { Break::Fail } else { Break::Panic };
                self.s.host.sql.break_at(u64::from(n), how);
                self.model.counter += 1;
                let message = format!("warning {}", self.model.counter);
                self.model.put(message.clone(), Value::Null);
                self.emit(json!({"type": "warning", "scope": "setup", "message": message}));
                self.s.host.sql.disarm();
                self.send();
            }
        }
        Ok(())
    }

    fn connect(&mut self, page: usize, forget: bool) -> Result<(), TestCaseError> {
        if self.pages[page].socket.is_some() {
            return Ok(());
        }
        let socket = self.s.host.open_client().expect("nothing is planned");
        let token = self.pages[page].token.clone().unwrap_or_default();
        let frame = self.pages[page].subscribe(&token, forget);
        self.pages[page].socket = Some(socket);
        self.s.say(socket, &frame);
        self.hear();
        self.send();
        self.read(page)
    }

    fn read(&mut self, page: usize) -> Result<(), TestCaseError> {
        let Some(socket) = self.pages[page].socket else { return Ok(()) };
        for frame in self.s.take(socket) {
            self.pages[page].take(&frame).map_err(TestCaseError::fail)?;
        }
        Ok(())
    }

    /// A row as the model names it.
    fn named(event: &Value) -> (String, Value) {
        let id = event["messageId"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "user_message" => (format!("user_message:{id}"), event["content"].clone()),
            "part" => (format!("part:{id}:{}", event["partId"].as_str().unwrap_or_default()), event["text"].clone()),
            "tool_call" => {
                (format!("tool_call:{}", event["callId"].as_str().unwrap_or_default()), event["status"].clone())
            }
            "warning" => (event["message"].as_str().unwrap_or_default().to_owned(), Value::Null),
            "execution_complete" => (format!("execution_complete:{id}"), event["success"].clone()),
            other => (other.to_owned(), Value::Null),
        }
    }

    /// Everybody is there and has read all: every row is closed with the last turn.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.take(Step::Turn(true))?;
        for page in 0..self.pages.len() {
            self.connect(page, false)?;
        }
        self.s.host.advance(1_000);
        self.send();
        for page in 0..self.pages.len() {
            self.read(page)?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_page_ends_with_the_timeline_of_the_model(steps in steps()) {
        let mut life = Life::new();
        for step in steps {
            life.take(step)?;
        }
        life.settle()?;
        let expected = &life.model.rows;
        for page in &life.pages {
            if page.dialect == 2 {
                let rows: Vec<_> = page.timeline.values().map(|row| Life::named(&row.event)).collect();
                prop_assert_eq!(&rows, expected, "{}", &page.name);
                continue;
            }
            let known: BTreeSet<String> = page.shown.values().map(|event| Life::named(event).0).collect();
            for (name, what) in expected {
                if name.starts_with("part:") {
                    prop_assert!(page.tokens.contains(what.as_str().unwrap_or_default()), "{} lacks {}", page.name, name);
                } else {
                    prop_assert!(known.contains(name), "{} lacks {}", page.name, name);
                }
            }
        }
    }
}
