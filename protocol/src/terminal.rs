//! The web terminal: what pages, the terminal's object and the bridge say to each other. Its bytes never pass through
//! the session.
//!
//! A page's socket watches one terminal at a time; its binary frames are keys, and those that it gets are output. The
//! object and the bridge share one socket for all, whose binary frames begin with where they belong ([`Frame`]).

use serde::{Deserialize, Serialize};

/// Terminals of one sandbox, at most: they are numbered from 0.
pub const TERMINALS_MAX: u8 = 4;
/// Sockets of pages at one sandbox's terminals, at most.
pub const VIEWERS_MAX: usize = 16;
/// Output of a terminal that is kept for who comes later, in bytes.
pub const KEPT_OUTPUT_BYTES: usize = 64 * 1024;
/// Output that a page may have in front of it before it is sent no more, in bytes.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// What a page that fell behind must have come down to before it is given a picture of the present, in bytes.
pub const CAUGHT_UP_BYTES: usize = 32 * 1024;
/// Keys of one frame, at most, in bytes. A longer paste is cut into several.
pub const INPUT_MAX_BYTES: usize = 16 * 1024;

/// The sandbox is over, or another has taken its place. A new socket finds what there is then.
pub const CLOSE_ENDED: u16 = 4410;
/// The person may not watch any more.
pub const CLOSE_REVOKED: u16 = 4401;
/// Terminals are turned off in the settings.
pub const CLOSE_OFF: u16 = 4403;
/// As many watch as may.
pub const CLOSE_FULL: u16 = 4429;
/// Another bridge has taken this one's place.
pub const CLOSE_REPLACED: u16 = 4409;

/// Header of a bridge's upgrade: names the supervisor's process, whose end is the end of its terminals.
pub const INCARNATION_HEADER: &str = "X-Terminal-Incarnation";

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TerminalSize {
    /// 2 to 500.
    pub cols: u16,
    /// 1 to 300.
    pub rows: u16,
}

impl TerminalSize {
    /// The nearest size that programs get along with.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { cols: self.cols.clamp(2, 500), rows: self.rows.clamp(1, 300) }
    }
}

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TerminalMessage {
    /// Asks for `pong`, which wakes nobody.
    Ping,
    /// Watches a terminal, which is started if it does not run, in place of the one that was watched.
    Open {
        /// Its number.
        terminal: u8,
        /// The page's own size.
        size: TerminalSize,
    },
    /// The page has another size.
    Resize {
        /// The size.
        size: TerminalSize,
    },
    /// The page has shown this much more of what it was sent.
    Shown {
        /// Bytes since the last one.
        bytes: u32,
    },
}

/// What a page is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TerminalEvent {
    /// Answers `ping`.
    Pong,
    /// Whether the sandbox can be reached now, and which terminals run in it.
    Sandbox {
        /// Without it nothing is shown and no key goes anywhere; the socket waits.
        reachable: bool,
        /// Numbers of the terminals that run.
        running: Vec<u8>,
    },
    /// The terminal is watched: what was shown is dropped, and the next binary frame is what there was so far.
    Opened {
        /// Its number.
        terminal: u8,
        /// Its size.
        size: TerminalSize,
        /// Whether it was started for this.
        started: bool,
    },
    /// The terminal has another size.
    Resized {
        /// The size.
        size: TerminalSize,
    },
    /// The shell ended. The number may be opened anew.
    Exited {
        /// Its number.
        terminal: u8,
        /// Its exit code; `null` when a signal ended it.
        code: Option<u32>,
    },
    /// The sandbox's supervisor began anew, and what ran in its terminals is gone.
    Restarted,
    /// What was asked is not done.
    Refused {
        /// Why, for people.
        message: String,
    },
    /// The last word before the socket is closed.
    Ended {
        /// Why.
        reason: TerminalEnd,
    },
}

/// Why a page's socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TerminalEnd {
    /// The session has no sandbox that is up.
    NoSandbox,
    /// The sandbox ended.
    SandboxEnded,
    /// Another sandbox took its place.
    SandboxReplaced,
    /// Terminals are turned off.
    TurnedOff,
    /// As many watch as may.
    Full,
    /// The person was signed out.
    SignedOut,
}

impl TerminalEnd {
    /// The code that the socket is closed with.
    pub const fn code(self) -> u16 {
        match self {
            Self::NoSandbox | Self::SandboxEnded | Self::SandboxReplaced => CLOSE_ENDED,
            Self::TurnedOff => CLOSE_OFF,
            Self::Full => CLOSE_FULL,
            Self::SignedOut => CLOSE_REVOKED,
        }
    }
}

/// What the object asks of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum TerminalCommand {
    /// A viewer watches this terminal and no other: answered by `opened` and a picture, then all output follows.
    Watch {
        /// The viewer.
        viewer: u32,
        /// The terminal.
        terminal: u8,
        /// The viewer's size.
        size: TerminalSize,
    },
    /// A viewer has another size.
    Resize {
        /// The viewer.
        viewer: u32,
        /// The size.
        size: TerminalSize,
    },
    /// A viewer has fallen behind: its keys count, and it is sent nothing until it watches again.
    Pause {
        /// The viewer.
        viewer: u32,
    },
    /// A viewer is gone.
    Unwatch {
        /// The viewer.
        viewer: u32,
    },
}

/// What the bridge tells the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum TerminalReport {
    /// All terminals that run.
    Running {
        /// Their numbers.
        terminals: Vec<u8>,
    },
    /// A viewer watches now; its picture follows.
    Opened {
        /// The viewer.
        viewer: u32,
        /// The terminal.
        terminal: u8,
        /// The terminal's size.
        size: TerminalSize,
        /// Whether it was started for this.
        started: bool,
    },
    /// A terminal has another size.
    Resized {
        /// The terminal.
        terminal: u8,
        /// The size.
        size: TerminalSize,
    },
    /// A shell ended; nobody watches it any more.
    Exited {
        /// The terminal.
        terminal: u8,
        /// Its exit code; `null` when a signal ended it.
        code: Option<u32>,
    },
    /// A viewer's wish is not granted.
    Refused {
        /// The viewer.
        viewer: u32,
        /// Why, for people.
        message: String,
    },
}

/// A binary frame between the object and the bridge: a byte for what it is, one for the terminal, four (big-endian) for
/// the viewer, then the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'b> {
    /// Output, for all who watch the terminal.
    Output {
        /// The terminal.
        terminal: u8,
        /// As the program wrote it.
        bytes: &'b [u8],
    },
    /// What there was so far, for one viewer.
    Picture {
        /// The terminal.
        terminal: u8,
        /// The viewer.
        viewer: u32,
        /// As the program wrote it.
        bytes: &'b [u8],
    },
    /// Keys of one viewer.
    Input {
        /// The terminal.
        terminal: u8,
        /// The viewer.
        viewer: u32,
        /// As the viewer's terminal wrote it.
        bytes: &'b [u8],
    },
}

const HEADER_BYTES: usize = 6;

impl<'b> Frame<'b> {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, terminal, viewer, bytes) = match *self {
            Self::Output { terminal, bytes } => (1, terminal, 0, bytes),
            Self::Picture { terminal, viewer, bytes } => (2, terminal, viewer, bytes),
            Self::Input { terminal, viewer, bytes } => (3, terminal, viewer, bytes),
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES + bytes.len());
        frame.extend([kind, terminal]);
        frame.extend(viewer.to_be_bytes());
        frame.extend(bytes);
        frame
    }

    /// What a frame says; `None` for one that is none of these.
    pub fn decode(frame: &'b [u8]) -> Option<Self> {
        let (header, bytes) = frame.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, terminal, a, b, c, d] = *header;
        let viewer = u32::from_be_bytes([a, b, c, d]);
        match kind {
            _ if terminal >= TERMINALS_MAX => None,
            1 => Some(Self::Output { terminal, bytes }),
            2 => Some(Self::Picture { terminal, viewer, bytes }),
            3 => Some(Self::Input { terminal, viewer, bytes }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_frame_is_read_as_it_was_written_and_another_is_none() {
        let bytes = b"ls\n".as_slice();
        for frame in [
            Frame::Output { terminal: 3, bytes },
            Frame::Picture { terminal: 0, viewer: u32::MAX, bytes: &[] },
            Frame::Input { terminal: 1, viewer: 258, bytes },
        ] {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
        assert_eq!(Frame::Input { terminal: 1, viewer: 258, bytes }.encode(), b"\x03\x01\0\0\x01\x02ls\n");
        for other in [&b""[..], b"\x01\0\0\0\0", b"\x04\0\0\0\0\0x", b"\x01\x04\0\0\0\0x"] {
            assert_eq!(Frame::decode(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_size_is_one_that_programs_get_along_with() {
        assert_eq!(TerminalSize { cols: 0, rows: 0 }.bounded(), TerminalSize { cols: 2, rows: 1 });
        assert_eq!(TerminalSize { cols: 9999, rows: 9999 }.bounded(), TerminalSize { cols: 500, rows: 300 });
    }
}
