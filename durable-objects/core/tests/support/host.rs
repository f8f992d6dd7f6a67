//! The host of one session, as `oi-session-host` is in a Durable Object: transactions, sockets with attachments, one
//! alarm, memory timers, jobs that report back.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use oi_protocol::UnixMillis;
use oi_protocol::sandbox_socket::SandboxFrame;
use oi_session::call::{CallEnvelope, CallReply, Principal, SessionCall};
use oi_session::clock::{Config, Cx};
use oi_session::core::{Fault, SessionCore, Streamed};
use oi_session::gather::{Commits, Gather, Held};
use oi_session::input::{Input, Outputs, ReplyId, SandboxUpgrade, SocketId, UpgradeAnswer};
use oi_session::job::{ClaimedJob, Job, JobResult};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::probe::{Dump, Probe};

/// The input had no effect; the core is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faulted;

/// A live socket, seen from the platform.
#[derive(Debug, Default)]
pub struct Socket {
    pub sandbox: bool,
    pub attachment: Option<String>,
    /// Frames on their way to the peer.
    pub inbox: VecDeque<String>,
    /// Closed by the session; the peer has not seen it yet.
    pub closed: Option<(u16, String)>,
}

/// Bugs of a host, planted to see that the simulator finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Outputs leave before the commit, which may not happen.
    SendsBeforeCommit,
    /// A core that is ahead of SQLite is kept after a fault.
    KeepsCoreAfterFault,
    /// A frame of any sandbox counts as one of the current bridge.
    MixesSandboxesUp,
    /// An alarm that has fired counts as armed still.
    ForgetsTheAlarm,
    /// The claimed jobs of a commit are dropped and reported as done.
    DropsJobs,
    /// Sandboxes that should be stopped are not.
    LeavesStrays,
    /// Bots are not told.
    DropsCallbacks,
    /// Search is not told of turns.
    DropsTurns,
    /// Snapshots that should be deleted are not.
    KeepsImages,
    /// The bucket of a deleted session is not emptied.
    KeepsFiles,
    /// Some frames to pages are lost, and the connection stays.
    LosesFrames,
    /// The late end of a stopped prompt counts.
    EndsTwice,
    /// The newest of the waiting prompts goes first.
    LastInFirstOut,
    /// A prompt that was cancelled is not remembered.
    ForgetsCancelled,
    /// What a failed sandbox knows itself by stays valid.
    KeepsTokens,
    /// Attempts of jobs are not counted.
    ForgetsAttempts,
    /// A failed attempt is a new job.
    RenewsJobs,
    /// Failed starts are not counted.
    ForgetsFailures,
    /// The mark of a bridge's frames is forgotten.
    ForgetsTheMark,
    /// A page that resumes misses a change.
    SkipsOnResume,
    /// Pages of dialect 1 do not get warnings that are older than they are.
    HidesFromDialectOne,
    /// The first row of each page of history is missing.
    SkipsHistory,
    /// A job that is given up is gone.
    GivesUpSilently,
    /// What prompts cost is not written.
    ForgetsCosts,
    /// An answer to a question is not written.
    ForgetsAnswers,
    /// That files are being kept is forgotten.
    ForgetsTaking,
    /// Rows of the old timeline are copied without one.
    SkipsOnCopy,
}

impl Bug {
    /// A text of SQL statements, and what stands in its place.
    const fn warp(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::EndsTwice => {
                ("SET stop_deadline = NULL WHERE", "SET stop_deadline = NULL, status = 'completed', outcome = 'done' WHERE")
            }
            Self::LastInFirstOut => (
                "(SELECT number FROM messages WHERE status = 'pending' ORDER BY COALESCE(place, number) LIMIT 1)",
                "(SELECT number FROM messages WHERE status = 'pending' ORDER BY COALESCE(place, number) DESC LIMIT 1)",
            ),
            Self::ForgetsCancelled => (
                "INSERT OR IGNORE INTO cancelled_requests (request_id, message_id, fingerprint) VALUES (?, ?, ?)",
                "SELECT ?, ?, ?",
            ),
            Self::KeepsTokens => (
                "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "VALUES (1, ?, ?, ?, COALESCE(?, (SELECT token_hash FROM sandbox)), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 
                    ?, COALESCE(?, 9000000000000), ?, ?)",
            ),
            Self::ForgetsAttempts => ("attempt = attempt + 1", "attempt = attempt"),
            Self::RenewsJobs => (
                "UPDATE OR REPLACE outbox SET state = 'waiting',",
                "UPDATE OR REPLACE outbox SET state = 'waiting', attempt = 0, id = (SELECT MAX(id) + 1 FROM outbox),",
            ),
            Self::ForgetsFailures => {
                ("disconnected_at, spawn_error, failure_count,", "disconnected_at, spawn_error, 0 AS failure_count,")
            }
            Self::ForgetsTheMark => ("SELECT generation, seq FROM received", "SELECT generation, 0 FROM received"),
            Self::SkipsOnResume => ("WHERE revision > ? ORDER BY", "WHERE revision > ? + 1 ORDER BY"),
            Self::HidesFromDialectOne => ("WHERE seq < ?  ORDER BY", "WHERE seq < ? AND type <> 'warning' ORDER BY"),
            Self::SkipsHistory => ("WHERE seq < ? AND revision", "WHERE seq < ? - (?1 < (1 << 42)) AND revision"),
            Self::GivesUpSilently => (
                "UPDATE outbox SET state = 'given_up', last_error = ? WHERE id = ?",
                "DELETE FROM outbox WHERE ? IS NOT NULL AND id = ?",
            ),
            Self::ForgetsCosts => (
                "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ? * 0.0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ),
            Self::ForgetsTaking => (
                "FROM snapshots\n                ORDER BY number DESC",
                "FROM snapshots WHERE state <> 'taking' ORDER BY number DESC",
            ),
            Self::ForgetsAnswers => ("SET state = excluded.state, body = excluded.body", "SET body = excluded.body"),
            Self::SkipsOnCopy => (
                "VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING seq",
                "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?1 % 5 <> 0 RETURNING seq",
            ),
            _ => return None,
        })
    }
}

pub struct Host {
    pub sql: Probe,
    pub config: Config,
    pub now: UnixMillis,
    pub core: Option<SessionCore>,
    pub sockets: BTreeMap<SocketId, Socket>,
    pub replies: BTreeMap<ReplyId, CallReply>,
    /// Claimed and not reported yet.
    pub jobs: VecDeque<ClaimedJob>,
    /// What the platform will fire.
    pub alarm: Option<UnixMillis>,
    /// What this instance knows of it.
    armed: Option<UnixMillis>,
    pub tick_at: Option<UnixMillis>,
    pub log: Vec<String>,
    pub bug: Option<Bug>,
    /// The next commit happens, and the process dies before its outputs leave.
    pub die_after_commit: bool,
    /// Whether it just did, and how often in all.
    died: bool,
    pub deaths: u64,
    pub faults: u64,
    /// How often all storage was deleted.
    pub erased: u64,
    /// What was stored when the last fault had been rolled back, when asked for.
    pub dump_at_fault: Option<Dump>,
    pub dumps_faults: bool,
    /// Frames of a bridge wait until anything else happens, or luck flushes them.
    pub gathers: bool,
    /// Luck flushes nothing.
    pub patient: bool,
    gather: Gather,
    rng: StdRng,
    next_socket: u64,
    next_reply: u64,
}

pub const KEY: [u8; 32] = [7; 32];
/// When every test begins.
pub const START: UnixMillis = UnixMillis(1_800_000_000_000);

impl Host {
    pub fn new(seed: u64) -> Self {
        Self {
            sql: Probe::new(),
            config: Config::with_key(KEY.to_vec()),
            now: START,
            core: None,
            sockets: BTreeMap::new(),
            replies: BTreeMap::new(),
            jobs: VecDeque::new(),
            alarm: None,
            armed: None,
            tick_at: None,
            log: Vec::new(),
            bug: None,
            die_after_commit: false,
            died: false,
            deaths: 0,
            faults: 0,
            erased: 0,
            dump_at_fault: None,
            dumps_faults: false,
            gathers: false,
            patient: false,
            gather: Gather::default(),
            rng: StdRng::seed_from_u64(seed),
            next_socket: 0,
            next_reply: 0,
        }
    }

    /// From now on it has a bug.
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
        self.sql.warp.set(bug.and_then(Bug::warp));
    }

    pub fn wake(&mut self) -> Result<(), Faulted> {
        if self.core.is_some() {
            return Ok(());
        }
        self.core = Some(SessionCore::new());
        self.armed = None;
        let sockets = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.closed.is_none())
            .map(|(id, socket)| (*id, socket.attachment.clone()))
            .collect();
        let outputs = self.transact(Input::Woken { sockets })?;
        self.carry_out(outputs);
        Ok(())
    }

    fn transact(&mut self, input: Input<'_>) -> Result<Outputs, Faulted> {
        let mut core = self.core.take().ok_or(Faulted)?;
        let (sql, rng, config, now) = (&self.sql, &mut self.rng, &self.config, self.now);
        let mut early = None;
        let bug = self.bug;
        let result = catch_unwind(AssertUnwindSafe(|| {
            sql.inner.transaction(|_| {
                let mut fill = |bytes: &mut [u8]| rng.fill_bytes(bytes);
                let mut cx = Cx { now, rng: &mut fill, config };
                let outputs = core.commit(sql, &mut cx, input)?;
                if bug == Some(Bug::SendsBeforeCommit) && sql.disarm() {
                    // The fault strikes after the frames are out.
                    early = Some(outputs);
                    return Err(Fault::from(oi_session::sql::SqlError("planned".to_owned())));
                }
                Ok(outputs)
            })
        }));
        self.sql.disarm();
        if let Some(outputs) = early {
            self.carry_out(outputs);
        }
        if let Ok(Ok(outputs)) = result {
            self.core = Some(core);
            if std::mem::take(&mut self.die_after_commit) {
                self.kill();
                self.died = true;
                self.deaths += 1;
                return Err(Faulted);
            }
            return Ok(outputs);
        }
        self.faults += 1;
        self.dump_at_fault = self.dumps_faults.then(|| self.sql.dump());
        self.replies.clear();
        self.tick_at = None;
        if self.bug == Some(Bug::KeepsCoreAfterFault) {
            self.core = Some(core);
        }
        Err(Faulted)
    }

    /// Takes one input and carries out what comes of it.
    pub fn feed(&mut self, input: Input<'_>) -> Result<(), Faulted> {
        self.flush_gather();
        self.wake()?;
        let outputs = self.transact(input)?;
        self.carry_out(outputs);
        Ok(())
    }

    /// The same for an input whose sender cannot be answered: after a fault the core is rebuilt at once.
    pub fn feed_or_rebuild(&mut self, input: Input<'_>) -> bool {
        let taken = self.feed(input).is_ok();
        if !taken && !std::mem::take(&mut self.died) && self.wake().is_err() {
            self.alarm = Some(self.now.plus(5_000));
        }
        taken
    }

    /// Commits the frames that are held.
    pub fn flush_gather(&mut self) {
        if let Some(mut group) = self.gather.take() {
            group.flush(self);
            self.gather.flushed(&group);
        }
    }

    fn carry_out(&mut self, outputs: Outputs) {
        self.log.extend(outputs.log);
        for (id, text) in outputs.attachments {
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.attachment = Some(text);
            }
        }
        for frame in outputs.frames {
            for id in &frame.to {
                if self.bug == Some(Bug::LosesFrames) && self.rng.next_u32().is_multiple_of(64) {
                    continue;
                }
                if let Some(socket) = self.sockets.get_mut(id).filter(|socket| socket.closed.is_none()) {
                    socket.inbox.push_back(frame.text.clone());
                }
            }
        }
        for (id, code, reason) in outputs.closes {
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.closed.get_or_insert((code, reason));
            }
        }
        self.replies.extend(outputs.replies);
        let bug = self.bug;
        for job in outputs.jobs {
            let lost = match bug {
                Some(Bug::DropsJobs) => job.id % 3 == 0,
                Some(Bug::LeavesStrays) => matches!(job.job, Job::StopSandbox(_)),
                Some(Bug::DropsTurns) => matches!(job.job, Job::IndexTurn(_)),
                Some(Bug::DropsCallbacks) => matches!(job.job, Job::BotCallback(_)),
                Some(Bug::KeepsImages) => matches!(job.job, Job::DeleteSnapshot(_)),
                Some(Bug::KeepsFiles) => matches!(job.job, Job::CollectStorage(_)),
                _ => false,
            };
            if lost {
                self.feed_or_rebuild(Input::JobResult { job: job.id, attempt: job.attempt, result: JobResult::Done });
            } else {
                self.jobs.push_back(job);
            }
        }
        if let Some(at) = outputs.alarm
            && self.armed.is_none_or(|armed| armed > at)
        {
            self.armed = Some(at);
            self.alarm = Some(at);
        }
        if let Some(after) = outputs.tick_in_ms {
            self.tick_at.get_or_insert(self.now.plus(after.clamp(1, 1_000)));
        }
        if outputs.erase {
            self.sql = Probe::new();
            self.evict();
            self.alarm = None;
            self.erased += 1;
            return;
        }
        if let Some(message_id) = outputs.prompt_sent {
            self.feed_or_rebuild(Input::PromptSent { message_id });
        }
    }

    fn add_socket(&mut self, sandbox: bool) -> SocketId {
        self.next_socket += 1;
        let id = SocketId(self.next_socket);
        self.sockets.insert(id, Socket { sandbox, ..Socket::default() });
        id
    }

    /// A client connects.
    pub fn open_client(&mut self) -> Option<SocketId> {
        self.wake().ok()?;
        let id = self.add_socket(false);
        if self.feed(Input::ClientOpened { socket: id }).is_err() {
            self.sockets.remove(&id);
            return None;
        }
        Some(id)
    }

    /// A bridge asks to connect.
    pub fn upgrade(&mut self, token: &str, sandbox_id: &str, dialect: u32) -> Result<SocketId, (u16, String)> {
        let failed = || (500, "WebSocket upgrade failed".to_owned());
        self.flush_gather();
        self.wake().map_err(|_| failed())?;
        self.next_socket += 1;
        let id = SocketId(self.next_socket);
        let upgrade = SandboxUpgrade { token: token.to_owned(), sandbox_id: sandbox_id.to_owned(), dialect };
        let mut outputs = match self.transact(Input::SandboxUpgrade { socket: id, upgrade }) {
            Ok(outputs) => outputs,
            Err(Faulted) => return Err(failed()),
        };
        match outputs.upgrade.take() {
            Some(UpgradeAnswer::Accept) => {
                self.sockets.insert(id, Socket { sandbox: true, ..Socket::default() });
                self.carry_out(outputs);
                Ok(id)
            }
            Some(UpgradeAnswer::Reject { status, body }) => {
                self.carry_out(outputs);
                Err((status, body))
            }
            None => Err(failed()),
        }
    }

    /// A client's text arrives.
    pub fn client_sends(&mut self, socket: SocketId, text: &str) {
        if self.sockets.get(&socket).is_some_and(|socket| socket.closed.is_none()) {
            self.feed_or_rebuild(Input::ClientFrame { socket, text });
        }
    }

    /// A bridge's text arrives: in memory where that is enough.
    pub fn bridge_sends(&mut self, socket: SocketId, text: &str) {
        let closed = self.sockets.get(&socket).is_none_or(|socket| socket.closed.is_some());
        if (closed && self.bug != Some(Bug::MixesSandboxesUp)) || self.wake().is_err() {
            return;
        }
        let newest = self.sockets.iter().rfind(|(_, socket)| socket.sandbox && socket.closed.is_none());
        let socket = match self.bug {
            Some(Bug::MixesSandboxesUp) => newest.map_or(socket, |(id, _)| *id),
            _ => socket,
        };
        let Ok(frame) = SandboxFrame::parse(text) else {
            self.feed_or_rebuild(Input::SandboxFrame { socket, text });
            return;
        };
        if !self.gather.fits(socket) {
            self.flush_gather();
        }
        let frame = if self.gather.is_empty() { self.stream(socket, frame) } else { Some(frame) };
        let Some(frame) = frame else { return };
        let full = self.gather.push(socket, frame, text.to_owned()) == Held::Full;
        if full || !self.gathers || (!self.patient && self.rng.next_u32().is_multiple_of(4)) {
            self.flush_gather();
        }
    }

    /// A socket is gone, with what was on its way to the peer.
    pub fn disconnect(&mut self, socket: SocketId) {
        let woken = self.wake();
        if self.sockets.remove(&socket).is_some() && woken.is_ok() {
            self.feed_or_rebuild(Input::SocketClosed { socket });
        }
    }

    /// A call of the control plane; its answer comes in `replies`, now or later.
    pub fn call(&mut self, principal: Principal, call: SessionCall) -> Result<ReplyId, Faulted> {
        self.flush_gather();
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        if !matches!(principal, Principal::Sandbox { .. }) {
            self.wake()?;
            let Some(mut core) = self.core.take() else { return Err(Faulted) };
            let read = catch_unwind(AssertUnwindSafe(|| core.read(&self.sql, self.now, &call)));
            let Ok(Ok(answer)) = read else {
                self.faults += 1;
                self.replies.clear();
                return Err(Faulted);
            };
            self.core = Some(core);
            if let Some(answer) = answer {
                self.replies.insert(reply, answer);
                return Ok(reply);
            }
        }
        let envelope = Box::new(CallEnvelope { principal, call });
        self.feed(Input::Call { reply, envelope }).map(|()| reply)
    }

    pub fn report(&mut self, job: &ClaimedJob, result: JobResult) {
        self.feed_or_rebuild(Input::JobResult { job: job.id, attempt: job.attempt, result });
    }

    /// The platform fires the alarm.
    pub fn fire_alarm(&mut self) {
        self.alarm = None;
        if self.bug != Some(Bug::ForgetsTheAlarm) {
            self.armed = None;
        }
        if self.feed(Input::Alarm).is_err() && !std::mem::take(&mut self.died) {
            self.alarm = Some(self.now.plus(5_000));
        }
    }

    /// The memory timer fires.
    pub fn tick(&mut self) {
        self.tick_at = None;
        let Some(core) = &mut self.core else { return };
        let tick = core.tick(self.now);
        self.carry_out(tick.outputs);
        if tick.flush {
            self.feed_or_rebuild(Input::FlushText);
        }
    }

    /// Time passes; what falls due meanwhile happens at its time.
    pub fn advance(&mut self, ms: i64) {
        self.flush_gather();
        let end = self.now.plus(ms);
        loop {
            let next = [self.alarm, self.tick_at].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            // An alarm that was due before fires now, and not more often than the host lets it.
            self.now = at.max(self.now);
            if self.tick_at.is_some_and(|tick| tick <= self.now) {
                self.tick();
            } else {
                self.fire_alarm();
                if self.alarm.is_some_and(|alarm| alarm <= self.now) {
                    self.alarm = Some(self.now.plus(250));
                }
            }
        }
        self.now = end;
    }

    /// The object leaves memory; its sockets sleep.
    pub fn evict(&mut self) {
        self.core = None;
        self.gather = Gather::default();
        self.tick_at = None;
        self.replies.clear();
        self.armed = None;
    }

    /// The process dies: memory, sockets and running attempts are gone.
    pub fn kill(&mut self) {
        self.evict();
        self.sockets.clear();
        self.jobs.clear();
    }
}

impl Commits for Host {
    fn stream(&mut self, socket: SocketId, frame: SandboxFrame) -> Option<SandboxFrame> {
        if self.wake().is_err() {
            return Some(frame);
        }
        let Some(core) = &mut self.core else { return Some(frame) };
        match core.stream(self.now, socket, frame) {
            Streamed::Done(outputs) => {
                self.carry_out(outputs);
                None
            }
            Streamed::NeedsCommit(frame) => Some(frame),
        }
    }

    fn commit(&mut self, input: Input<'_>) -> bool {
        self.feed_or_rebuild(input)
    }
}
