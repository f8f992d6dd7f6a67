//! What must hold of a session whose peers send anything: no panic, no fault, a refused frame changes nothing that is
//! stored, and the session is there for the next page.
//!
//! The bytes are lines, a letter and what it needs:
//!
//! | line | what happens |
//! | --- | --- |
//! | `c{..}`, `o{..}`, `n{..}` | a frame of a page of dialect 2, of dialect 1, or that has not subscribed |
//! | `b{..}` | a frame of the bridge, given the next number |
//! | `r{..}` | a frame of the bridge as it stands |
//! | `t1000` | so many ms pass |
//! | `x`, `y` | the bridge connects again, in dialect 2 or 1 |
//! | `g` | the host begins or ceases to hold the bridge's frames until something else happens |
//! | `j` | the jobs that wait are run |
//! | `e` | the object leaves memory |
//! | `k` | the process dies |
//!
//! In a frame, `$M` stands for the prompt that runs at first, `$Q` for the one queued last, `$T` for a token.

use oi_protocol::client_socket::ClientMessage;
use oi_protocol::sandbox_socket::{RejectedSandboxFrame, SandboxEvent, SandboxFrame};
use oi_session::input::{Input, SocketId};
use serde_json::Value;

use crate::support::probe::Dump;
use crate::support::session::Session;

/// More lines are not read: bugs of longer stories are the simulator's to find.
const LINES_MAX: usize = 24;
/// Longest wait of one line.
const WAIT_MAX_MS: i64 = 30 * 60 * 1000;

/// Plays one story.
pub fn session(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut story = Story::new();
    for line in text.lines().take(LINES_MAX) {
        story.play(line);
        assert_eq!(story.session.host.faults, 0, "a fault after {line}");
    }
    story.session.host.evict();
    story.session.page("Grace", 2);
    assert_eq!(story.session.host.faults, 0, "a fault at the end");
}

struct Story {
    session: Session,
    /// A page of dialect 2, one of dialect 1, one that has not subscribed.
    pages: [Option<SocketId>; 3],
    bridge: Option<SocketId>,
    /// Number of the bridge's next frame.
    next_seq: i64,
    running: String,
    queued: String,
    token: String,
}

impl Story {
    fn new() -> Self {
        let (mut session, page, bridge, running) = Session::with_run();
        let token = session.token("Lin");
        Self {
            session,
            pages: [Some(page), None, None],
            bridge: Some(bridge),
            // `with_run` used 1 and 2.
            next_seq: 3,
            queued: running.to_string(),
            running: running.to_string(),
            token,
        }
    }

    fn play(&mut self, line: &str) {
        let mut letters = line.chars();
        let letter = letters.next();
        let rest = letters.as_str();
        let text = rest.replace("$M", &self.running).replace("$Q", &self.queued).replace("$T", &self.token);
        match letter {
            Some('c') => self.client_says(0, &text),
            Some('o') => self.client_says(1, &text),
            Some('n') => self.client_says(2, &text),
            Some('b') => {
                if let Some(members) = text.strip_prefix('{') {
                    self.listen();
                    self.bridge_says(&format!(r#"{{"seq":{},{members}"#, self.next_seq));
                }
            }
            Some('r') => self.bridge_says(&text),
            Some('t') => {
                if let Ok(ms) = rest.parse::<i64>() {
                    self.session.host.advance(ms.clamp(0, WAIT_MAX_MS));
                }
            }
            Some('x') => self.reconnect(2),
            Some('y') => self.reconnect(1),
            Some('g') => {
                let host = &mut self.session.host;
                (host.gathers, host.patient) = (!host.gathers, true);
            }
            Some('j') => self.session.run_jobs(),
            Some('e') => self.session.host.evict(),
            Some('k') => self.session.host.kill(),
            _ => {}
        }
    }

    fn is_open(&self, socket: SocketId) -> bool {
        self.session.host.sockets.get(&socket).is_some_and(|socket| socket.closed.is_none())
    }

    /// The page, opened anew when it was closed.
    fn page(&mut self, index: usize) -> SocketId {
        if let Some(socket) = self.pages[index].filter(|socket| self.is_open(*socket)) {
            return socket;
        }
        let socket = match index {
            0 => self.session.page("Ada", 2),
            1 => self.session.page("Ada", 1),
            _ => self.session.host.open_client().expect("no fault is planned"),
        };
        self.pages[index] = Some(socket);
        socket
    }

    /// Writes what is held in memory, so that a change of what is stored is the next frame's.
    fn stored(&mut self) -> Dump {
        self.session.host.feed(Input::FlushText).expect("no fault is planned");
        self.session.dump()
    }

    fn client_says(&mut self, page: usize, text: &str) {
        let socket = self.page(page);
        let before = self.stored();
        let _ = self.session.take(socket);
        self.session.host.client_sends(socket, text);
        let answers = self.session.take(socket);
        if let Some(id) = answers.iter().find(|answer| answer["type"] == "prompt_queued") {
            id["messageId"].as_str().expect("an id").clone_into(&mut self.queued);
        }
        let refused = answers.iter().any(|answer| answer["type"] == "error");
        if ClientMessage::parse(text).is_err() {
            assert!(refused && answers.len() == 1, "{text} is answered by {answers:?}");
        }
        if refused {
            assert_same(&before, &self.session.dump(), &[], text);
        }
    }

    fn bridge_says(&mut self, text: &str) {
        let Some(socket) = self.bridge.filter(|socket| self.is_open(*socket)) else { return };
        let parsed = SandboxFrame::parse(text);
        // What a delta changes is in memory, and to write it before each would hide how it is held there.
        let streamed = matches!(&parsed, Ok(SandboxFrame { event: SandboxEvent::PartDelta(_), .. }));
        let before = (!streamed).then(|| self.stored());
        self.listen();
        self.session.host.bridge_sends(socket, text);
        let answers = self.session.take(socket);
        let seq = parsed.as_ref().map_or_else(RejectedSandboxFrame::seq, |frame| frame.seq);
        if seq == Some(self.next_seq) {
            self.next_seq += 1;
        }
        self.hear(&answers);
        let refused = answers.iter().any(|answer| answer["type"] == "event_rejected");
        if let Some(before) = before.filter(|_| refused || parsed.is_err()) {
            // The mark covers a refused frame; one that could be read is a sign of life.
            let may: &[&str] = if parsed.is_ok() { &["received", "sandbox"] } else { &["received"] };
            assert_same(&before, &self.session.dump(), may, text);
        }
    }

    fn reconnect(&mut self, dialect: u32) {
        if let Some(bridge) = self.bridge.take() {
            self.session.host.disconnect(bridge);
        }
        self.session.run_jobs();
        let Some(newest) = self.session.started.last().cloned() else { return };
        // Refused when that sandbox was stopped.
        let Ok(bridge) = self.session.connect_as(&newest, dialect) else { return };
        self.bridge = Some(bridge);
        self.listen();
    }

    /// The bridge reads what came; a session that slept says `hello` when it wakes.
    fn listen(&mut self) {
        self.session.host.wake().expect("no fault is planned");
        if let Some(bridge) = self.bridge {
            let heard = self.session.take(bridge);
            self.hear(&heard);
        }
    }

    /// A bridge goes on from where `hello` says.
    fn hear(&mut self, answers: &[Value]) {
        if let Some(hello) = answers.iter().rfind(|answer| answer["type"] == "hello") {
            self.next_seq = hello["ackedSeq"].as_i64().expect("a number") + 1;
        }
    }
}

fn assert_same(before: &Dump, after: &Dump, may_differ: &[&str], frame: &str) {
    for (old, new) in before.iter().zip(after) {
        if !may_differ.contains(&old.0.as_str()) {
            assert_eq!(old, new, "the refused frame {frame} changed `{}`", old.0);
        }
    }
    assert_eq!(before.len(), after.len(), "the refused frame {frame} changed the tables");
}
