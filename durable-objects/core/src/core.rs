//! The core's three entry points, and what it holds in memory between them: a cache of SQLite, nothing more.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::sandbox_socket::{SandboxCommand, SandboxEvent, SandboxFrame};
use oi_protocol::{MessageId, UnixMillis};

use crate::archive::Archived;
use crate::budgets::Spent;
use crate::call::{CallReply, SessionCall};
use crate::clock::{Config, Cx};
use crate::family::FamilyRow;
use crate::gather::batch_frames;
use crate::held_calls::HeldCalls;
use crate::input::{Input, Outputs, ReplyId, SocketId};
use crate::parts::{GATHER_MS, OpenParts, WRITE_MS, batch};
use crate::projection::Dialect;
use crate::questions::Questions;
use crate::rates::{Asked, Who};
use crate::sandbox_row::{SandboxRow, load_received, save_received};
use crate::session_row::SessionRow;
use crate::snapshots::Snapshots;
use crate::sockets::{Role, Sockets};
use crate::sql::{Sql, SqlError};
use crate::{deadlines, outbox, prompts, pull_request_row, schema, timeline};

/// The commit did not happen: the host rolls back, drops the core and its outputs, and builds a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Self(error.to_string())
    }
}

/// A heartbeat is written when the one before was written this long ago, in ms.
pub(crate) const HEARTBEAT_SAVE_MS: i64 = 60_000;

/// The prompt that the agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub message_id: MessageId,
    pub author_id: String,
    pub started_at: UnixMillis,
    /// A dialect 1 bridge's socket took the frame.
    pub sent: bool,
    /// A dialect 2 bridge said that it has it.
    pub accepted: bool,
    /// Since when its agent waits for a person.
    pub asking_since: Option<UnixMillis>,
    /// How long it has waited for people before that, in ms.
    pub asked_ms: i64,
    /// Memory only: when it is sent again to a dialect 2 bridge that did not say so.
    pub repeat_at: Option<UnixMillis>,
}

/// Facts that nearly every input needs, read once when the object wakes.
#[derive(Debug, Clone)]
pub(crate) struct Hot {
    pub session: Option<SessionRow>,
    pub family: FamilyRow,
    pub sandbox: SandboxRow,
    pub running: Option<Running>,
    pub pending: i64,
    pub stopping: Option<(MessageId, UnixMillis)>,
    /// Highest place in the timeline.
    pub seq: i64,
    /// Highest revision.
    pub revision: i64,
    /// Highest frame number dealt with; in memory ahead of SQLite while text is being gathered.
    pub received: i64,
    pub outbox_next: Option<UnixMillis>,
    /// Memory only: when a bot was last told of a tool call, or nobody was there to tell.
    pub tool_told_at: Option<UnixMillis>,
    /// The parent is to be told.
    pub parent_dirty: bool,
    pub operations_next: Option<UnixMillis>,
    pub questions: Questions,
    pub snapshots: Snapshots,
    pub spent: Spent,
    /// How far the archive goes.
    pub archived: Archived,
    /// Calls that wait for a pull request, by operation.
    pub waiters: Vec<(String, ReplyId)>,
    pub woke_at: UnixMillis,
    /// The last heartbeat as SQLite has it.
    pub heartbeat_saved: Option<UnixMillis>,
    /// The bridge was heard of since the object woke.
    pub heard: bool,
    /// That a prompt waits for the sandbox that is coming was told.
    pub spawning_told: bool,
    /// A `hello` is out; frames that do not follow the mark are ignored until one does.
    pub hello_sent: bool,
    pub session_dirty: bool,
    pub sandbox_dirty: bool,
    pub received_dirty: bool,
    /// Tool calls of the group that is being taken.
    pub held_calls: HeldCalls,
    /// An event followed text that is held: the text is written with it.
    pub text_due: bool,
    pub index_dirty: bool,
}

impl Hot {
    /// What people set as the time of this session, in ms.
    fn timeout_ms(&self) -> Option<i64> {
        self.session.as_ref()?.sandbox_timeout_ms
    }

    /// How long a sandbox of this session lives, in seconds.
    pub fn life_seconds(&self, config: &Config) -> u32 {
        let set = self.timeout_ms().map(|ms| u32::try_from(ms / 1_000).unwrap_or(u32::MAX));
        config.bounded_life(set.unwrap_or(config.sandbox_life_seconds))
    }

    /// How long a prompt of this session may run, in ms.
    pub fn execution_timeout_ms(&self, config: &Config) -> i64 {
        self.timeout_ms().unwrap_or(config.execution_timeout_ms)
    }

    fn empty(now: UnixMillis) -> Self {
        Self {
            session: None,
            family: FamilyRow::default(),
            sandbox: SandboxRow::none(),
            running: None,
            pending: 0,
            stopping: None,
            seq: 0,
            revision: 0,
            received: 0,
            outbox_next: None,
            tool_told_at: None,
            parent_dirty: false,
            operations_next: None,
            questions: Questions::default(),
            snapshots: Snapshots::default(),
            spent: Spent::default(),
            archived: Archived::default(),
            waiters: Vec::new(),
            woke_at: now,
            heartbeat_saved: None,
            heard: false,
            spawning_told: false,
            hello_sent: false,
            session_dirty: false,
            sandbox_dirty: false,
            received_dirty: false,
            held_calls: HeldCalls::default(),
            text_due: false,
            index_dirty: false,
        }
    }

    fn load(sql: &dyn Sql, now: UnixMillis) -> Result<Self, SqlError> {
        let sandbox = SandboxRow::load(sql)?;
        let archived = Archived::load(sql)?;
        let (seq, revision) = timeline::load_counters(sql, archived)?;
        let family = FamilyRow::load(sql)?;
        // Places up to the fork belong to what is copied, whether it is here yet or not.
        let seq = seq.max(family.fork_through);
        Ok(Self {
            session: SessionRow::load(sql)?,
            running: prompts::load_running(sql)?,
            pending: prompts::count_pending(sql)?,
            stopping: prompts::load_stopping(sql)?,
            received: load_received(sql, sandbox.generation)?,
            outbox_next: outbox::next_due(sql)?,
            operations_next: pull_request_row::next_deadline(sql)?,
            questions: Questions::load(sql)?,
            snapshots: Snapshots::load(sql)?,
            spent: Spent::load(sql)?,
            heartbeat_saved: sandbox.last_heartbeat,
            archived,
            sandbox,
            family,
            seq,
            revision,
            ..Self::empty(now)
        })
    }
}

/// One input on its way through the core.
pub(crate) struct Turn<'t, 'c> {
    pub sql: &'t dyn Sql,
    pub cx: &'t mut Cx<'c>,
    pub out: Outputs,
    pub hot: &'t mut Hot,
    pub sockets: &'t mut Sockets,
    pub parts: &'t mut OpenParts,
}

/// What [`SessionCore::stream`] made of a frame.
pub enum Streamed {
    /// It changed memory only.
    Done(Outputs),
    /// It needs SQL: feed it as [`Input::SandboxEvents`].
    NeedsCommit(SandboxFrame),
}

/// What [`SessionCore::tick`] asks for.
#[derive(Default)]
pub struct Tick {
    /// Frames of the gathered text.
    pub outputs: Outputs,
    /// Whether open text is due for writing: feed [`Input::FlushText`].
    pub flush: bool,
}

/// One session. Constructing it is O(1) and reads nothing.
#[derive(Default)]
pub struct SessionCore {
    hot: Option<Hot>,
    sockets: Sockets,
    parts: OpenParts,
}

impl SessionCore {
    /// A core that knows nothing yet; the first input loads it.
    pub fn new() -> Self {
        Self::default()
    }

    fn load(&mut self, sql: &dyn Sql, now: UnixMillis) -> Result<(), SqlError> {
        if self.hot.is_none() {
            if schema::exists(sql)? {
                schema::migrate(sql)?;
                self.parts = OpenParts::load(sql, now)?;
                self.hot = Some(Hot::load(sql, now)?);
            } else {
                self.hot = Some(Hot::empty(now));
            }
        }
        Ok(())
    }

    /// Takes one input inside one storage transaction.
    ///
    /// After an error or a panic the host must roll back and drop this core: its memory is ahead of SQLite.
    pub fn commit(&mut self, sql: &dyn Sql, cx: &mut Cx<'_>, input: Input<'_>) -> Result<Outputs, Fault> {
        self.load(sql, cx.now)?;
        let Some(hot) = &mut self.hot else { return Err(Fault("the core did not load".to_owned())) };
        let out = Outputs::default();
        let mut turn = Turn { sql, cx, out, hot, sockets: &mut self.sockets, parts: &mut self.parts };
        let together = matches!(input, Input::SandboxEvents { .. });
        turn.take(input)?;
        turn.settle()?;
        let mut out = turn.out;
        if together {
            out.frames = batch_frames(out.frames, &self.sockets.watchers(Dialect::Two));
        }
        let Some(hot) = &self.hot else { return Ok(out) };
        out.alarm = deadlines::earliest(hot, &self.sockets, cx.config);
        out.tick_in_ms = self.next_tick(cx.now);
        Ok(out)
    }

    /// Whether there is a session here that is not being deleted. Known after the first input.
    pub fn has_session(&self) -> bool {
        self.hot.as_ref().is_some_and(|hot| hot.session.is_some() && !crate::deletion::is_deleting(hot))
    }

    /// Answers a call that writes nothing, without a transaction; `None` for a call that writes.
    pub fn read(&mut self, sql: &dyn Sql, now: UnixMillis, call: &SessionCall) -> Result<Option<CallReply>, Fault> {
        self.load(sql, now)?;
        let Some(hot) = &self.hot else { return Ok(None) };
        Ok(crate::reads::read(sql, hot, &self.parts, call)?)
    }

    /// Takes a frame that changes only memory which a crash may lose: text, steps, heartbeats.
    pub fn stream(&mut self, now: UnixMillis, socket: SocketId, frame: SandboxFrame) -> Streamed {
        let Some(hot) = &mut self.hot else { return Streamed::NeedsCommit(frame) };
        if self.sockets.bridge != Some(socket) || hot.session.is_none() {
            return Streamed::NeedsCommit(frame);
        }
        let in_order = match (hot.sandbox.dialect, frame.seq) {
            (2, Some(seq)) => seq == hot.received + 1,
            (_, seq) => seq.is_none(),
        };
        let current = |id: &MessageId| hot.running.as_ref().is_some_and(|running| running.message_id == *id);
        match &frame.event {
            SandboxEvent::Heartbeat(_)
                if frame.seq.is_none() && hot.heartbeat_saved.is_some_and(|at| now.since(at) < HEARTBEAT_SAVE_MS) =>
            {
                (hot.sandbox.last_heartbeat, hot.heard) = (Some(now), true);
                return Streamed::Done(Outputs::default());
            }
            // A part's first text is committed, so that a part of a name that was finished before is refused.
            SandboxEvent::PartDelta(delta)
                if in_order && current(&delta.message_id) && self.parts.holds(&delta.message_id, &delta.part_id) =>
            {
                if self.parts.apply(now, delta).is_err() {
                    return Streamed::NeedsCommit(frame);
                }
            }
            _ => return Streamed::NeedsCommit(frame),
        }
        if let Some(seq) = frame.seq {
            hot.received = seq;
            hot.hello_sent = false;
        }
        (hot.sandbox.last_heartbeat, hot.heard) = (Some(now), true);
        Streamed::Done(Outputs { tick_in_ms: self.next_tick(now), ..Outputs::default() })
    }

    fn next_tick(&self, now: UnixMillis) -> Option<i64> {
        let gather = self.parts.gather_since.map(|since| since.plus(GATHER_MS));
        let write = self.parts.dirty_since.map(|since| since.plus(WRITE_MS));
        [gather, write, self.sockets.presence_due].into_iter().flatten().min().map(|at| at.since(now).max(1))
    }

    /// Memory time has passed: sends on gathered text, and says whether open text is due for writing.
    pub fn tick(&mut self, now: UnixMillis) -> Tick {
        let mut tick = Tick::default();
        if self.parts.gather_since.is_some_and(|since| now.since(since) >= GATHER_MS) {
            let (two, one) = self.parts.take_gathered(now, false);
            let (to_two, to_one) = (self.sockets.watchers(Dialect::Two), self.sockets.watchers(Dialect::One));
            if let (Some(text), false) = (batch(two), to_two.is_empty()) {
                tick.outputs.frames.push(crate::input::Frame { to: to_two, text });
            }
            if !to_one.is_empty() {
                for text in one {
                    tick.outputs.frames.push(crate::input::Frame { to: to_one.clone(), text });
                }
            }
        }
        if self.sockets.presence_due.is_some_and(|at| at <= now) {
            self.sockets.presence_due = None;
            // It counts as told, whether there was room for it or not.
            let _ = self.sockets.rates.take(now, Who::Everybody, Asked::PresenceNews);
            let to = self.sockets.subscribers().map(|(id, _)| id).collect::<Vec<_>>();
            let news = ServerMessage::PresenceUpdate { participants: self.sockets.presence() };
            if let (false, Ok(text)) = (to.is_empty(), serde_json::to_string(&news)) {
                tick.outputs.frames.push(crate::input::Frame { to, text });
            }
        }
        tick.flush = self.parts.dirty_since.is_some_and(|since| now.since(since) >= WRITE_MS);
        tick.outputs.tick_in_ms = self.next_tick(now);
        tick
    }
}

impl Turn<'_, '_> {
    fn take(&mut self, input: Input<'_>) -> Result<(), SqlError> {
        if self.hot.session.is_none() && matches!(input, Input::PromptSent { .. } | Input::JobResult { .. }) {
            // There are no tables that it could be about.
            return Ok(());
        }
        if crate::deletion::is_deleting(self.hot) {
            return self.take_while_deleting(input);
        }
        match input {
            Input::Woken { sockets } => self.woken(sockets),
            Input::ClientOpened { socket } => {
                self.set_role(socket, Role::Client { opened_at: self.cx.now, subscriber: None });
                Ok(())
            }
            Input::SandboxUpgrade { socket, upgrade } => self.sandbox_upgrade(socket, &upgrade),
            Input::SocketClosed { socket } => self.socket_closed(socket),
            Input::ClientFrame { socket, text } => self.client_frame(socket, text),
            Input::BinaryFrame { socket } => {
                self.binary_frame(socket);
                Ok(())
            }
            Input::SandboxFrame { socket, text } => self.sandbox_text(socket, text),
            Input::SandboxEvents { socket, frames } => {
                self.hot.held_calls = HeldCalls::of(&frames);
                for frame in frames {
                    if !HeldCalls::may_pass(&frame.event) {
                        self.write_held_calls()?;
                    }
                    self.sandbox_event(socket, frame)?;
                }
                self.write_held_calls()?;
                self.hot.held_calls = HeldCalls::default();
                Ok(())
            }
            Input::SandboxFrameFaults { socket, seq } => {
                self.pass_over(socket, seq);
                Ok(())
            }
            Input::PromptSent { message_id } => self.mark_sent(&message_id),
            Input::Call { reply, envelope } => self.call(reply, *envelope),
            Input::Alarm => self.alarm(),
            Input::FlushText => {
                self.flush_gathered();
                self.write_open_text()
            }
            Input::JobResult { job, attempt, result } => {
                self.job_result(job, attempt, result)?;
                self.dispatch()
            }
        }
    }

    /// Writes what changed, claims the jobs that are due, acknowledges.
    fn settle(&mut self) -> Result<(), SqlError> {
        if self.hot.session.is_none() {
            return Ok(());
        }
        if !crate::deletion::is_deleting(self.hot) {
            self.archive_when_due()?;
        }
        if std::mem::take(&mut self.hot.parent_dirty) {
            self.tell_parent()?;
        }
        self.claim_due_jobs()?;
        // A job that was given up just now may have changed what the index lists.
        while std::mem::take(&mut self.hot.index_dirty) {
            self.enqueue_index()?;
            self.claim_due_jobs()?;
        }
        if std::mem::take(&mut self.hot.text_due) || self.hot.received_dirty {
            // The mark covers text that is only in memory until here.
            // What is written is acknowledged and not sent again, so watchers get it now.
            self.flush_gathered();
            self.write_open_text()?;
        }
        if self.hot.session_dirty {
            self.hot.session_dirty = false;
            if let Some(session) = &self.hot.session {
                session.save(self.sql)?;
            }
        }
        if self.hot.sandbox_dirty {
            self.hot.sandbox_dirty = false;
            self.hot.sandbox.save(self.sql)?;
            self.hot.heartbeat_saved = self.hot.sandbox.last_heartbeat;
        }
        self.finish_deletion()?;
        if self.hot.received_dirty {
            self.hot.received_dirty = false;
            save_received(self.sql, self.hot.sandbox.generation, self.hot.received)?;
            if self.hot.sandbox.dialect >= 2 && self.hot.received > 0 {
                self.command(&SandboxCommand::Ack { ack_id: None, seq: Some(self.hot.received) });
            }
        }
        Ok(())
    }

    fn woken(&mut self, sockets: Vec<(SocketId, Option<String>)>) -> Result<(), SqlError> {
        self.hot.woke_at = self.cx.now;
        let mut bridges = Vec::new();
        for (socket, attachment) in sockets {
            let Some(role) = attachment.as_deref().and_then(Role::from_attachment) else {
                self.out.closes.push((socket, 4002, "Session expired, please reconnect".to_owned()));
                continue;
            };
            if let Role::Sandbox { generation, .. } = role {
                if generation != self.hot.sandbox.generation || self.hot.sandbox.status.is_dead() {
                    self.out.closes.push((socket, 1000, "Sandbox terminated".to_owned()));
                    continue;
                }
                bridges.push(socket);
            }
            self.sockets.roles.insert(socket, role);
        }
        // The newest one replaced the others, whose ends may not have been seen yet.
        bridges.sort_unstable();
        self.sockets.bridge = bridges.pop();
        for older in bridges {
            self.close(older, 1000, "New sandbox connecting");
        }
        self.flush_gathered();
        let alive = self.hot.sandbox.status == oi_protocol::session_state::SandboxStatus::Ready;
        if self.sockets.bridge.is_some() {
            self.greet_bridge()?;
        } else if alive && self.hot.sandbox.disconnected_at.is_none() {
            self.bridge_lost();
        }
        let unsure = self.hot.sandbox.dialect < 2 && self.hot.running.as_ref().is_some_and(|running| !running.sent);
        if unsure {
            // Whether the bridge got it cannot be known, and it must not run twice; nor beside the next one, so that it
            // is stopped like any other.
            let error = "The control plane restarted while the prompt was handed over. Send it again.";
            self.stop_running(oi_protocol::event::Outcome::Failed, error)?;
        }
        self.dispatch()
    }

    fn socket_closed(&mut self, socket: SocketId) -> Result<(), SqlError> {
        let Some(role) = self.sockets.roles.get(&socket).cloned() else { return Ok(()) };
        let was_bridge = self.sockets.bridge == Some(socket);
        self.forget(socket);
        match role {
            Role::Sandbox { .. } if was_bridge => self.bridge_lost(),
            Role::Client { subscriber: Some(subscriber), .. } => self.left(&subscriber),
            Role::Sandbox { .. } | Role::Client { .. } => {}
        }
        Ok(())
    }
}
