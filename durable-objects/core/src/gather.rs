//! Frames of a bridge that arrive together are taken together: one transaction, one acknowledgement, one broadcast.
//!
//! A transaction costs more than what is written in it, so the host holds frames until nothing more has arrived, and
//! flushes them before any other input. What is held is not acknowledged, so that losing it loses nothing.

use std::collections::VecDeque;

use oi_protocol::sandbox_socket::{SandboxEvent, SandboxFrame};

use crate::input::{Frame, Input, SocketId};
use crate::parts::batch;

/// Frames that are held, at most.
const FRAMES_MAX: usize = 256;
/// Bytes of frames that are held; the frame that passes them is the last.
const BYTES_MAX: usize = 512 * 1024;
/// A batch ends with the message that brings it to this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// A numbered frame that faulted alone this many times is passed over.
const FAULTS_MAX: u32 = 3;

/// What the gather needs of its host.
pub trait Commits {
    /// [`crate::core::SessionCore::stream`], its outputs carried out; the frame, when it needs a commit.
    fn stream(&mut self, socket: SocketId, frame: SandboxFrame) -> Option<SandboxFrame>;
    /// Commits and carries out. `false` after a fault, when the core has been rebuilt.
    fn commit(&mut self, input: Input<'_>) -> bool;
}

/// Frames of one bridge's socket that wait for their commit.
#[derive(Default)]
pub struct Gather {
    socket: Option<SocketId>,
    frames: VecDeque<(SandboxFrame, String)>,
    bytes: usize,
    /// The numbered frame that faulted last when it was taken alone, and how often.
    suspect: Option<(SocketId, i64, u32)>,
}

/// What is to be done with the gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The first frame: flush when what has arrived is in.
    First,
    /// One more.
    More,
    /// Flush now.
    Full,
}

impl Gather {
    /// Whether `socket`'s frames may join what is held.
    pub fn fits(&self, socket: SocketId) -> bool {
        self.frames.is_empty() || self.socket == Some(socket)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Holds a frame and the text that it was read from.
    pub fn push(&mut self, socket: SocketId, frame: SandboxFrame, text: String) -> Held {
        let first = self.frames.is_empty();
        self.socket = Some(socket);
        self.bytes += text.len();
        self.frames.push_back((frame, text));
        if self.frames.len() >= FRAMES_MAX || self.bytes >= BYTES_MAX {
            Held::Full
        } else if first {
            Held::First
        } else {
            Held::More
        }
    }

    /// Takes what is held, so that it can be flushed.
    pub fn take(&mut self) -> Option<Group> {
        let socket = self.socket.filter(|_| !self.frames.is_empty())?;
        self.bytes = 0;
        Some(Group { socket, frames: std::mem::take(&mut self.frames), suspect: self.suspect })
    }

    /// Remembers what a flush found.
    pub fn flushed(&mut self, group: &Group) {
        self.suspect = group.suspect;
    }
}

/// Frames on their way into the core.
pub struct Group {
    socket: SocketId,
    frames: VecDeque<(SandboxFrame, String)>,
    suspect: Option<(SocketId, i64, u32)>,
}

impl Group {
    /// Feeds everything: text through memory where that is enough, the rest by as few commits as order allows.
    pub fn flush(&mut self, host: &mut impl Commits) {
        let socket = self.socket;
        while let Some((frame, text)) = self.frames.pop_front() {
            let Some(frame) = host.stream(socket, frame) else { continue };
            let last = self.frames.iter().rposition(|(frame, _)| !matches!(frame.event, SandboxEvent::PartDelta(_)));
            // Text behind the last event stays in memory until it is due.
            let together = last.map_or(0, |last| last + 1);
            let group = std::iter::once((frame, text)).chain(self.frames.drain(..together));
            let (texts, frames): (Vec<_>, Vec<_>) = group.map(|(frame, text)| ((frame.seq, text), frame)).unzip();
            if !host.commit(Input::SandboxEvents { socket, frames }) {
                self.one_by_one(host, &texts);
            }
        }
    }

    /// After a fault that could be any one's: the others shall not go with it.
    fn one_by_one(&mut self, host: &mut impl Commits, frames: &[(Option<i64>, String)]) {
        for (seq, text) in frames {
            if host.commit(Input::SandboxFrame { socket: self.socket, text }) {
                continue;
            }
            let Some(seq) = *seq else { continue };
            let faults = match self.suspect {
                Some((socket, suspect, faults)) if (socket, suspect) == (self.socket, seq) => faults + 1,
                _ => 1,
            };
            self.suspect = Some((self.socket, seq, faults));
            if faults >= FAULTS_MAX {
                host.commit(Input::SandboxFrameFaults { socket: self.socket, seq });
            } else {
                // Those behind it have no place before it has one; the bridge sends all of them again.
                return;
            }
        }
    }
}

/// Joins frames to the same watchers, which all speak dialect 2, into batches, keeping every socket's order.
pub(crate) fn batch_frames(frames: Vec<Frame>, watchers: &[SocketId]) -> Vec<Frame> {
    let mut joined = Vec::with_capacity(frames.len());
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    let send = |waiting: &mut Vec<String>, joined: &mut Vec<Frame>| {
        if let Some(text) = batch(std::mem::take(waiting)) {
            joined.push(Frame { to: watchers.to_vec(), text });
        }
    };
    for frame in frames {
        if frame.to == watchers && !frame.text.starts_with(r#"{"type":"batch""#) {
            bytes += frame.text.len();
            waiting.push(frame.text);
            if bytes >= BATCH_BYTES {
                send(&mut waiting, &mut joined);
                bytes = 0;
            }
            continue;
        }
        if frame.to.iter().any(|to| watchers.contains(to)) {
            send(&mut waiting, &mut joined);
            bytes = 0;
        }
        joined.push(frame);
    }
    send(&mut waiting, &mut joined);
    joined
}
