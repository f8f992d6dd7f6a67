//! What goes into the core and what comes out.

use oi_protocol::sandbox_socket::SandboxFrame;
use oi_protocol::{MessageId, UnixMillis};

use crate::call::{CallEnvelope, CallReply};
use crate::job::{ClaimedJob, JobResult};

/// A socket within one object, minted by the host, kept in the socket's attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// A call that waits for its answer in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// Headers of a sandbox's upgrade.
#[derive(Clone)]
pub struct SandboxUpgrade {
    /// Bearer.
    pub token: String,
    /// `X-Sandbox-ID`
    pub sandbox_id: String,
    /// `X-Bridge-Dialect`, 1 when absent.
    pub dialect: u32,
}

/// What happened.
#[allow(clippy::large_enum_variant, reason = "built once for each input and taken apart at once")]
pub enum Input<'a> {
    /// The object was built; the sockets that outlived the one before, with their attachments.
    Woken {
        /// Live sockets.
        sockets: Vec<(SocketId, Option<String>)>,
    },
    /// A client connected; it has 30 s to subscribe.
    ClientOpened {
        /// The socket.
        socket: SocketId,
    },
    /// A bridge asks to connect; answered by [`Outputs::upgrade`].
    SandboxUpgrade {
        /// The socket it would get.
        socket: SocketId,
        /// Its headers.
        upgrade: SandboxUpgrade,
    },
    /// A socket closed, or failed.
    SocketClosed {
        /// The socket.
        socket: SocketId,
    },
    /// A text frame from a client.
    ClientFrame {
        /// The socket.
        socket: SocketId,
        /// The frame.
        text: &'a str,
    },
    /// A binary frame from anybody.
    BinaryFrame {
        /// The socket.
        socket: SocketId,
    },
    /// A text frame from a bridge.
    SandboxFrame {
        /// The socket.
        socket: SocketId,
        /// The frame.
        text: &'a str,
    },
    /// Frames that were read already, in their order, taken in one transaction: see [`crate::gather`].
    SandboxEvents {
        /// The socket.
        socket: SocketId,
        /// The frames.
        frames: Vec<SandboxFrame>,
    },
    /// A bridge's frame that nothing can be made of but faults: passed over, which the bridge is told.
    SandboxFrameFaults {
        /// The socket.
        socket: SocketId,
        /// The frame's number.
        seq: i64,
    },
    /// A prompt was handed to a dialect 1 bridge's socket.
    PromptSent {
        /// The prompt.
        message_id: MessageId,
    },
    /// The control plane asks.
    Call {
        /// Where the answer goes.
        reply: ReplyId,
        /// What.
        envelope: Box<CallEnvelope>,
    },
    /// A durable deadline may be due.
    Alarm,
    /// The gather of text is due for writing.
    FlushText,
    /// An attempt of a job ended.
    JobResult {
        /// The outbox row.
        job: i64,
        /// The attempt.
        attempt: i64,
        /// What came of it.
        result: JobResult,
    },
}

/// A frame to several sockets, made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Receivers.
    pub to: Vec<SocketId>,
    /// JSON.
    pub text: String,
}

/// Answer to a bridge's upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeAnswer {
    /// Take the socket.
    Accept,
    /// Answer with this status and plain text.
    Reject {
        /// HTTP status.
        status: u16,
        /// Plain text.
        body: String,
    },
}

/// What to do after the commit, in the order of the fields.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Answer to [`Input::SandboxUpgrade`].
    pub upgrade: Option<UpgradeAnswer>,
    /// Attachments to set.
    pub attachments: Vec<(SocketId, String)>,
    /// Frames to send.
    pub frames: Vec<Frame>,
    /// Sockets to close, after the frames.
    pub closes: Vec<(SocketId, u16, String)>,
    /// Answers to calls.
    pub replies: Vec<(ReplyId, CallReply)>,
    /// Jobs to run, claimed for this attempt.
    pub jobs: Vec<ClaimedJob>,
    /// A prompt that a dialect 1 bridge was sent: feed [`Input::PromptSent`] once the frame is out.
    pub prompt_sent: Option<MessageId>,
    /// The earliest durable deadline, when there is one. The host arms its alarm when none is armed at or before it.
    pub alarm: Option<UnixMillis>,
    /// Call [`crate::core::SessionCore::tick`] after this many ms of memory time.
    pub tick_in_ms: Option<i64>,
    /// Delete all storage of the object, its alarm and this core: the session is gone.
    pub erase: bool,
    /// Lines for the log, one a transition.
    pub log: Vec<String>,
}
