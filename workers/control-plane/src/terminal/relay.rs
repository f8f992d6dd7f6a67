//! Who watches which terminal, and what goes to whom.
//!
//! Nothing is kept here that the bridge has: the size of a terminal, its last output, who started it. Who comes, or comes
//! back, or fell behind, gets a picture from the bridge, and what follows is in order after it. What must outlive the
//! object's sleep is in the sockets' attachments.

use std::collections::BTreeMap;

use oi_protocol::terminal::{
    CAUGHT_UP_BYTES, Frame, INPUT_MAX_BYTES, TERMINALS_MAX, TerminalCommand, TerminalEnd, TerminalEvent,
    TerminalMessage, TerminalReport, TerminalSize, VIEWERS_MAX, WINDOW_BYTES,
};
use serde::{Deserialize, Serialize};

use super::Notice;

/// The bridge, as its socket's attachment has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    /// Tells its socket from an earlier one.
    pub id: u32,
    /// The session's generation of the sandbox.
    pub generation: i64,
    /// Names the supervisor's process.
    pub incarnation: String,
    /// Terminals that run.
    pub running: Vec<u8>,
}

/// How a viewer stands to what they watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// The bridge has been asked, or will be once it is here.
    Asked,
    /// They get what is written.
    Live,
    /// They show too slowly what they were sent, and get nothing until they have caught up.
    Behind,
}

/// What a viewer watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Watched {
    terminal: u8,
    size: TerminalSize,
    standing: Standing,
    /// The supervisor that runs it; none before it was asked.
    incarnation: Option<String>,
}

/// A page, as its socket's attachment has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Viewer {
    /// Its number.
    pub id: u32,
    user_id: String,
    generation: i64,
    watched: Option<Watched>,
}

struct Known {
    viewer: Viewer,
    /// Bytes that were sent and not shown yet. Not kept in sleep, before which a page has had the time to show them.
    ahead: usize,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What the object has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send to the bridge.
    ToBridge(Payload),
    /// Send to a page.
    ToViewer(u32, Payload),
    /// Write the bridge's attachment.
    KeepBridge(Bridge),
    /// Write a page's attachment.
    KeepViewer(Viewer),
    /// Close the bridge's socket, which is not known any more.
    CloseBridge,
    /// Close a page's socket, which is not known any more.
    CloseViewer(u32, TerminalEnd),
}

fn text(value: &impl Serialize) -> Payload {
    // These types have string keys and whole numbers: writing them cannot fail.
    Payload::Text(serde_json::to_string(value).unwrap_or_default())
}

fn tell(viewer: u32, event: &TerminalEvent) -> Output {
    Output::ToViewer(viewer, text(event))
}

fn command(command: &TerminalCommand) -> Output {
    Output::ToBridge(text(command))
}

/// The state of one session's terminals.
#[derive(Default)]
pub struct Relay {
    bridge: Option<Bridge>,
    viewers: BTreeMap<u32, Known>,
    last_id: u32,
}

impl Relay {
    /// From the attachments of the sockets that are there.
    pub fn wake(bridges: Vec<Bridge>, viewers: Vec<Viewer>) -> Self {
        let ids = bridges.iter().map(|bridge| bridge.id).chain(viewers.iter().map(|viewer| viewer.id));
        let last_id = ids.max().unwrap_or(0);
        // One that was replaced may still be closing.
        let bridge = bridges.into_iter().max_by_key(|bridge| bridge.id);
        let viewers = viewers.into_iter().map(|viewer| (viewer.id, Known { viewer, ahead: 0 })).collect();
        Self { bridge, viewers, last_id }
    }

    /// A number for a socket that is about to be.
    pub fn mint(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn sandbox_event(&self) -> TerminalEvent {
        let running = self.bridge.as_ref().map_or_else(Vec::new, |bridge| bridge.running.clone());
        TerminalEvent::Sandbox { reachable: self.bridge.is_some(), running }
    }

    fn end_viewers(&mut self, reason: TerminalEnd, ends: impl Fn(&Viewer) -> bool) -> Vec<Output> {
        let gone: Vec<u32> =
            self.viewers.values().filter(|known| ends(&known.viewer)).map(|known| known.viewer.id).collect();
        let mut outputs = Vec::new();
        for id in gone {
            outputs.extend(self.viewer_closed(id));
            outputs.push(tell(id, &TerminalEvent::Ended { reason }));
            outputs.push(Output::CloseViewer(id, reason));
        }
        outputs
    }

    /// A bridge is here, and its socket in the place of any before it.
    pub fn bridge_connected(&mut self, bridge: Bridge) -> Vec<Output> {
        if self.viewers.values().any(|known| known.viewer.generation > bridge.generation) {
            self.bridge = None;
            return vec![Output::CloseBridge];
        }
        let (generation, incarnation) = (bridge.generation, bridge.incarnation.clone());
        let mut outputs = vec![Output::KeepBridge(bridge.clone())];
        self.bridge = Some(bridge);
        outputs.extend(self.end_viewers(TerminalEnd::SandboxReplaced, |viewer| viewer.generation < generation));
        let event = self.sandbox_event();
        for (id, known) in &mut self.viewers {
            outputs.push(tell(*id, &event));
            let Some(watched) = &mut known.viewer.watched else { continue };
            if watched.incarnation.as_ref().is_some_and(|before| *before != incarnation) {
                known.viewer.watched = None;
                outputs.push(tell(*id, &TerminalEvent::Restarted));
            } else {
                watched.standing = Standing::Asked;
                watched.incarnation = Some(incarnation.clone());
                let (viewer, terminal, size) = (*id, watched.terminal, watched.size);
                outputs.push(command(&TerminalCommand::Watch { viewer, terminal, size }));
            }
            outputs.push(Output::KeepViewer(known.viewer.clone()));
        }
        outputs
    }

    /// A bridge's socket is gone; one that was replaced is nobody's loss.
    pub fn bridge_closed(&mut self, id: u32) -> Vec<Output> {
        if self.bridge.as_ref().is_none_or(|bridge| bridge.id != id) {
            return Vec::new();
        }
        self.bridge = None;
        let event = self.sandbox_event();
        self.viewers.keys().map(|viewer| tell(*viewer, &event)).collect()
    }

    /// Whether no bridge is here.
    pub const fn has_no_bridge(&self) -> bool {
        self.bridge.is_none()
    }

    fn is_current(&self, bridge: u32) -> bool {
        self.bridge.as_ref().is_some_and(|current| current.id == bridge)
    }

    /// The bridge says something.
    pub fn bridge_text(&mut self, bridge: u32, frame: &str) -> Vec<Output> {
        // A newer bridge may say more.
        let Ok(report) = serde_json::from_str::<TerminalReport>(frame) else { return Vec::new() };
        if !self.is_current(bridge) {
            return Vec::new();
        }
        match report {
            TerminalReport::Running { mut terminals } => {
                terminals.truncate(usize::from(TERMINALS_MAX));
                let Some(bridge) = &mut self.bridge else { return Vec::new() };
                bridge.running = terminals;
                let kept = Output::KeepBridge(bridge.clone());
                let event = self.sandbox_event();
                std::iter::once(kept).chain(self.viewers.keys().map(|viewer| tell(*viewer, &event))).collect()
            }
            TerminalReport::Opened { viewer, terminal, size, started } if self.asked(viewer, terminal) => {
                vec![tell(viewer, &TerminalEvent::Opened { terminal, size, started })]
            }
            TerminalReport::Resized { terminal, size } => {
                let live = self.viewers.values().filter(|known| known.stands(terminal, Standing::Live));
                live.map(|known| tell(known.viewer.id, &TerminalEvent::Resized { size })).collect()
            }
            TerminalReport::Exited { terminal, code } => {
                let mut outputs = Vec::new();
                for known in self.viewers.values_mut() {
                    if known.viewer.watched.as_ref().is_some_and(|watched| watched.terminal == terminal) {
                        known.viewer.watched = None;
                        outputs.push(tell(known.viewer.id, &TerminalEvent::Exited { terminal, code }));
                        outputs.push(Output::KeepViewer(known.viewer.clone()));
                    }
                }
                outputs
            }
            TerminalReport::Refused { viewer, message } if self.viewers.contains_key(&viewer) => {
                let message = oi_protocol::text::truncate_bytes(&message, 500).to_owned();
                vec![tell(viewer, &TerminalEvent::Refused { message })]
            }
            TerminalReport::Opened { .. } | TerminalReport::Refused { .. } => Vec::new(),
        }
    }

    fn asked(&self, viewer: u32, terminal: u8) -> bool {
        self.viewers.get(&viewer).is_some_and(|known| known.stands(terminal, Standing::Asked))
    }

    /// The bridge sends output.
    pub fn bridge_bytes(&mut self, bridge: u32, frame: &[u8]) -> Vec<Output> {
        if !self.is_current(bridge) {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        match Frame::decode(frame) {
            Some(Frame::Picture { terminal, viewer, bytes }) if self.asked(viewer, terminal) => {
                if let Some(known) = self.viewers.get_mut(&viewer) {
                    known.set(Standing::Live);
                    known.ahead += bytes.len();
                    outputs.push(Output::ToViewer(viewer, Payload::Bytes(bytes.to_vec())));
                    outputs.push(Output::KeepViewer(known.viewer.clone()));
                }
            }
            Some(Frame::Output { terminal, bytes }) => {
                for known in self.viewers.values_mut().filter(|known| known.stands(terminal, Standing::Live)) {
                    let viewer = known.viewer.id;
                    if known.ahead + bytes.len() > WINDOW_BYTES {
                        known.set(Standing::Behind);
                        outputs.push(command(&TerminalCommand::Pause { viewer }));
                        outputs.push(Output::KeepViewer(known.viewer.clone()));
                    } else {
                        known.ahead += bytes.len();
                        outputs.push(Output::ToViewer(viewer, Payload::Bytes(bytes.to_vec())));
                    }
                }
            }
            _ => {}
        }
        outputs
    }

    /// A page's socket is here.
    pub fn viewer_connected(&mut self, id: u32, user_id: String, generation: i64) -> Vec<Output> {
        let mut outputs = Vec::new();
        let refused = |reason| vec![tell(id, &TerminalEvent::Ended { reason }), Output::CloseViewer(id, reason)];
        if self.viewers.len() >= VIEWERS_MAX {
            return refused(TerminalEnd::Full);
        }
        match self.bridge.as_ref().map(|bridge| bridge.generation) {
            Some(newer) if newer > generation => return refused(TerminalEnd::SandboxReplaced),
            Some(older) if older < generation => {
                self.bridge = None;
                outputs.push(Output::CloseBridge);
            }
            Some(_) | None => {}
        }
        outputs.extend(self.end_viewers(TerminalEnd::SandboxReplaced, |viewer| viewer.generation < generation));
        let viewer = Viewer { id, user_id, generation, watched: None };
        outputs.push(Output::KeepViewer(viewer.clone()));
        self.viewers.insert(id, Known { viewer, ahead: 0 });
        outputs.push(tell(id, &self.sandbox_event()));
        outputs
    }

    /// A page says something.
    pub fn viewer_text(&mut self, id: u32, frame: &str) -> Vec<Output> {
        let Some(known) = self.viewers.get_mut(&id) else { return Vec::new() };
        let refused = |message: &str| vec![tell(id, &TerminalEvent::Refused { message: message.to_owned() })];
        let Ok(message) = serde_json::from_str::<TerminalMessage>(frame) else {
            return refused("This page said something that the terminal does not know. Reload it.");
        };
        match message {
            TerminalMessage::Ping => vec![tell(id, &TerminalEvent::Pong)],
            TerminalMessage::Open { terminal, .. } if terminal >= TERMINALS_MAX => {
                refused(&format!("A sandbox has {TERMINALS_MAX} terminals at most."))
            }
            TerminalMessage::Open { terminal, size } => {
                let incarnation = self.bridge.as_ref().map(|bridge| bridge.incarnation.clone());
                let reached = incarnation.is_some();
                let size = size.bounded();
                known.viewer.watched = Some(Watched { terminal, size, standing: Standing::Asked, incarnation });
                let mut outputs = vec![Output::KeepViewer(known.viewer.clone())];
                outputs.extend(reached.then(|| command(&TerminalCommand::Watch { viewer: id, terminal, size })));
                outputs
            }
            TerminalMessage::Resize { size } => {
                let size = size.bounded();
                let Some(watched) = &mut known.viewer.watched else { return Vec::new() };
                watched.size = size;
                let mut outputs = vec![Output::KeepViewer(known.viewer.clone())];
                let reached = self.bridge.is_some();
                outputs.extend(reached.then(|| command(&TerminalCommand::Resize { viewer: id, size })));
                outputs
            }
            TerminalMessage::Shown { bytes } => {
                known.ahead = known.ahead.saturating_sub(bytes as usize);
                let caught_up = known.ahead <= CAUGHT_UP_BYTES && self.bridge.is_some();
                let Some(watched) = &mut known.viewer.watched else { return Vec::new() };
                if watched.standing != Standing::Behind || !caught_up {
                    return Vec::new();
                }
                watched.standing = Standing::Asked;
                let (terminal, size) = (watched.terminal, watched.size);
                vec![
                    Output::KeepViewer(known.viewer.clone()),
                    command(&TerminalCommand::Watch { viewer: id, terminal, size }),
                ]
            }
        }
    }

    /// A page's keys. They go nowhere while the sandbox cannot be reached.
    pub fn viewer_bytes(&mut self, id: u32, keys: &[u8]) -> Vec<Output> {
        let Some(known) = self.viewers.get(&id) else { return Vec::new() };
        if keys.len() > INPUT_MAX_BYTES {
            let message = "That is too much to type at once. It was dropped.".to_owned();
            return vec![tell(id, &TerminalEvent::Refused { message })];
        }
        match (&known.viewer.watched, &self.bridge) {
            (Some(watched), Some(_)) => {
                let frame = Frame::Input { terminal: watched.terminal, viewer: id, bytes: keys };
                vec![Output::ToBridge(Payload::Bytes(frame.encode()))]
            }
            _ => Vec::new(),
        }
    }

    /// A page's socket is gone.
    pub fn viewer_closed(&mut self, id: u32) -> Vec<Output> {
        let watched = self.viewers.remove(&id).and_then(|known| known.viewer.watched);
        let told = watched.is_some() && self.bridge.is_some();
        told.then(|| command(&TerminalCommand::Unwatch { viewer: id })).into_iter().collect()
    }

    /// The Worker tells what happened elsewhere.
    pub fn notice(&mut self, notice: &Notice) -> Vec<Output> {
        match notice {
            Notice::Ended { generation } => {
                let mut outputs = Vec::new();
                if self.bridge.as_ref().is_some_and(|bridge| bridge.generation <= *generation) {
                    self.bridge = None;
                    outputs.push(Output::CloseBridge);
                }
                outputs.extend(self.end_viewers(TerminalEnd::SandboxEnded, |viewer| viewer.generation <= *generation));
                outputs
            }
            Notice::Revoked { user_id, reason } => self.end_viewers(*reason, |viewer| viewer.user_id == *user_id),
        }
    }
}

impl Known {
    fn stands(&self, terminal: u8, standing: Standing) -> bool {
        let watched = self.viewer.watched.as_ref();
        watched.is_some_and(|watched| watched.terminal == terminal && watched.standing == standing)
    }

    fn set(&mut self, standing: Standing) {
        if let Some(watched) = &mut self.viewer.watched {
            watched.standing = standing;
        }
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
