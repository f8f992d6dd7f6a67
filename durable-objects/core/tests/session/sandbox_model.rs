//! The sandbox's life beside a model of it, under any order of inputs: its status, its generation, what was kept.

use std::collections::BTreeMap;

use oi_session::call::SessionCall;
use oi_session::clock::BackendTraits;
use oi_session::input::SocketId;
use oi_session::job::{ClaimedJob, Job, JobResult, StartFrom};
use oi_session::sql::Value as SqlValue;
use proptest::prelude::*;
use serde_json::json;

use crate::support::session::{Sandbox, Session, complete, ready, value};

#[derive(Debug, Clone, Copy)]
enum Step {
    Prompt,
    /// The backend ends the newest start that it was asked for.
    Start(bool),
    /// A sandbox that was ever started dials.
    Dial(u8),
    /// Its socket breaks.
    Hang,
    /// The agent ends its prompt.
    End(bool),
    /// The backend ends the newest snapshot that it was asked for.
    Snapshot(bool),
    /// The bridge is gone for longer than it is waited for.
    Lose,
    Archive,
    Unarchive,
    Cancel,
    Evict,
    /// Long enough for the next start.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            5 => Just(Step::Prompt),
            5 => prop::bool::weighted(0.6).prop_map(Step::Start),
            6 => (0..8_u8).prop_map(Step::Dial),
            1 => Just(Step::Hang),
            4 => any::<bool>().prop_map(Step::End),
            3 => prop::bool::weighted(0.7).prop_map(Step::Snapshot),
            1 => Just(Step::Lose),
            2 => Just(Step::Archive),
            3 => Just(Step::Unarchive),
            1 => prop::bool::weighted(0.1).prop_map(|does| if does { Step::Cancel } else { Step::Wait }),
            2 => Just(Step::Evict),
            2 => Just(Step::Wait),
        ],
        1..80,
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Spawning,
    Connecting,
    Ready,
    Stopped,
    Stale,
    Failed,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Spawning => "spawning",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Stopped => "stopped",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }

    const fn is_coming(self) -> bool {
        matches!(self, Self::Spawning | Self::Connecting)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Fresh,
    Snapshot(i64),
    Parked,
}

/// What the session should make of it.
struct Model {
    backend: BackendTraits,
    status: Status,
    generation: i64,
    /// The backend said what it calls it.
    has_object: bool,
    bridge: bool,
    pending: usize,
    running: bool,
    any_ended: bool,
    archived: bool,
    cancelled: bool,
    /// Number of the snapshot that is being taken, and what the sandbox becomes after it.
    taking: Option<(i64, Option<Status>)>,
    snapshots: i64,
    /// Failed restores by number.
    held: BTreeMap<i64, u32>,
    restoring: Option<i64>,
    parked: bool,
    parking: bool,
    failures: u32,
    failed_at: i64,
    next_start: i64,
    now: i64,
    /// What each start began with.
    starts: Vec<From>,
}

impl Model {
    fn new(backend: BackendTraits) -> Self {
        Self {
            backend,
            status: Status::Pending,
            generation: 0,
            has_object: false,
            bridge: false,
            pending: 0,
            running: false,
            any_ended: false,
            archived: false,
            cancelled: false,
            taking: None,
            snapshots: 0,
            held: BTreeMap::new(),
            restoring: None,
            parked: false,
            parking: false,
            failures: 0,
            failed_at: 0,
            next_start: 0,
            now: 0,
            starts: Vec::new(),
        }
    }

    fn dispatch(&mut self) {
        let may = !self.archived && !self.cancelled && self.pending > 0 && !self.running && self.taking.is_none();
        if !may {
            return;
        }
        if self.bridge {
            self.pending -= 1;
            self.running = true;
            return;
        }
        if self.now - self.failed_at >= 300_000 {
            self.failures = 0;
        }
        if self.status.is_coming() || self.status == Status::Ready {
            return;
        }
        if self.next_start > self.now || (self.parked && self.parking) {
            return;
        }
        if self.failures >= 3 {
            self.any_ended = true;
            self.pending = 0;
            return;
        }
        let newest = self.held.keys().next_back().copied().filter(|_| self.backend.snapshots);
        let from = match newest {
            _ if self.parked => From::Parked,
            Some(number) => From::Snapshot(number),
            None => From::Fresh,
        };
        self.starts.push(from);
        self.generation += 1;
        self.status = Status::Spawning;
        self.has_object &= from == From::Parked;
        self.restoring = newest.filter(|_| from != From::Parked);
        self.next_start = 0;
    }

    fn lock_out(&mut self, status: Status) {
        (self.taking, self.restoring) = (None, None);
        self.generation += 1;
        self.status = status;
    }

    fn retire(&mut self, status: Status) {
        self.parked =
            self.backend.resumes && self.status == Status::Ready && self.has_object && status != Status::Failed;
        self.parking = self.parked;
        self.bridge = false;
        self.lock_out(status);
    }

    /// `false` when the backend cannot.
    fn take_snapshot(&mut self, then: Option<Status>) -> bool {
        if self.status != Status::Ready || !self.backend.snapshots {
            return false;
        }
        if let Some((_, known)) = &mut self.taking {
            *known = known.or(then);
            return true;
        }
        if !self.has_object {
            return false;
        }
        self.snapshots += 1;
        self.taking = Some((self.snapshots, then));
        true
    }

    fn put_away(&mut self, status: Status, is_kept: bool) {
        if (self.taking.is_none() && is_kept) || !self.take_snapshot(Some(status)) {
            self.retire(status);
        }
    }

    fn start_ended(&mut self, well: bool) {
        if well {
            self.has_object = true;
            if self.status == Status::Spawning {
                self.status = Status::Connecting;
            }
            return;
        }
        if self.status == Status::Ready {
            return;
        }
        if let Some(number) = self.restoring.take() {
            self.retire(Status::Failed);
            if let Some(failures) = self.held.get_mut(&number) {
                *failures += 1;
                if *failures >= 2 {
                    self.held.remove(&number);
                }
            }
            return;
        }
        if self.parked {
            self.parked = false;
            return self.lock_out(Status::Failed);
        }
        self.retire(Status::Failed);
        self.failures += 1;
        self.failed_at = self.now;
        if self.failures < 3 {
            self.next_start = self.now + (2_000 << self.failures);
        } else if self.pending > 0 {
            self.any_ended = true;
            self.pending = 0;
        }
    }

    fn connected(&mut self) {
        self.bridge = true;
        self.status = Status::Ready;
        (self.failures, self.parked) = (0, false);
        if let Some(number) = self.restoring.take() {
            self.held.insert(number, 0);
        }
        self.dispatch();
    }

    fn snapshot_ended(&mut self, number: i64, well: bool) {
        let Some((_, then)) = self.taking.take_if(|(taking, _)| *taking == number) else { return };
        if well {
            self.held.insert(number, 0);
            if self.held.len() > 3 {
                self.held.pop_first();
            }
        }
        if let Some(status) = then {
            self.retire(status);
        }
    }

    fn session_status(&self) -> &'static str {
        match () {
            () if self.cancelled => "cancelled",
            () if self.archived => "archived",
            () if self.running || self.pending > 0 => "active",
            () if self.any_ended => "ended",
            () => "created",
        }
    }
}

/// A session and the sandboxes around it.
struct Life {
    s: Session,
    model: Model,
    page: SocketId,
    /// Each with the number of its last frame.
    sandboxes: Vec<(Sandbox, i64)>,
    starts: Vec<ClaimedJob>,
    begun: Vec<From>,
    bridge: Option<(SocketId, usize)>,
    requests: usize,
}

impl Life {
    fn new(backend: BackendTraits) -> Self {
        let mut s = Session::new();
        s.host.config.backend = backend;
        let page = s.page("Ada", 2);
        Self {
            s,
            model: Model::new(backend),
            page,
            sandboxes: Vec::new(),
            starts: Vec::new(),
            begun: Vec::new(),
            bridge: None,
            requests: 0,
        }
    }

    fn text(&self, sql: &str) -> Option<String> {
        match self.s.rows(sql).pop()?.pop()? {
            SqlValue::Text(text) => Some(text),
            _ => None,
        }
    }

    fn running(&self) -> Option<oi_protocol::MessageId> {
        let id = self.text("SELECT id FROM messages WHERE status = 'processing'")?;
        Some(oi_protocol::MessageId::parse(&id).expect("a minted id"))
    }

    fn frame(&mut self, event: serde_json::Value) {
        let (socket, sandbox) = self.bridge.expect("it is connected");
        self.sandboxes[sandbox].1 += 1;
        let seq = self.sandboxes[sandbox].1;
        self.s.frame(socket, seq, event);
    }

    fn is_kept(&self) -> bool {
        self.s.count(
            "SELECT COUNT(*) FROM snapshots WHERE state = 'held' AND through_seq = (SELECT MAX(seq) FROM events)",
        ) > 0
    }

    /// Time passes for a bridge that is there, too.
    fn advance(&mut self, ms: i64) {
        if let Some((socket, _)) = self.bridge {
            self.s.plain(socket, &json!({"type": "heartbeat", "status": "ready"}));
        }
        self.s.host.advance(ms);
        self.model.now += ms;
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Prompt => {
                if self.model.pending + usize::from(self.model.running) >= 10 {
                    return Ok(());
                }
                self.requests += 1;
                let answer = self.s.prompt(self.page, &self.requests.to_string(), "do it");
                let may = !self.model.archived && !self.model.cancelled;
                prop_assert_eq!(answer["type"] == "prompt_queued", may, "{}", answer);
                if may {
                    self.model.pending += 1;
                    self.model.dispatch();
                }
            }
            Step::Start(well) => {
                let Some(claimed) = self.starts.pop() else { return Ok(()) };
                let Job::StartSandbox(start) = &claimed.job else { panic!("{claimed:?}") };
                let is_current = start.generation == self.model.generation;
                let result = if well {
                    JobResult::SandboxStarted { provider_object_id: format!("box-{}", start.sandbox_id), access: None }
                } else {
                    JobResult::Failed { error: "no".to_owned(), transient: false }
                };
                self.s.host.report(&claimed, result);
                if is_current {
                    self.model.start_ended(well);
                }
                self.model.dispatch();
            }
            Step::Dial(n) => self.dial(usize::from(n))?,
            Step::Hang => {
                let Some((socket, _)) = self.bridge.take() else { return Ok(()) };
                self.s.host.disconnect(socket);
                self.model.bridge = false;
            }
            Step::End(success) => {
                let (Some(_), Some(id)) = (self.bridge, self.running()) else { return Ok(()) };
                self.frame(complete(&id, success));
                self.model.running = false;
                self.model.any_ended = true;
                self.model.dispatch();
                if !self.model.running && self.model.pending == 0 {
                    self.model.take_snapshot(None);
                }
            }
            Step::Snapshot(well) => {
                let Some(claimed) = self.s.take_jobs("take_snapshot").pop() else { return Ok(()) };
                let Job::TakeSnapshot(take) = &claimed.job else { panic!("{claimed:?}") };
                let result = if well {
                    JobResult::SnapshotTaken { image_id: format!("image-{}", take.number) }
                } else {
                    JobResult::Failed { error: "no".to_owned(), transient: false }
                };
                self.s.host.report(&claimed, result);
                self.model.snapshot_ended(take.number, well);
                self.model.dispatch();
            }
            Step::Lose => {
                if self.model.status != Status::Ready || self.model.taking.is_some() {
                    return Ok(());
                }
                if let Some((socket, _)) = self.bridge.take() {
                    self.s.host.disconnect(socket);
                    self.model.bridge = false;
                }
                let is_kept = self.is_kept() && !self.model.running;
                self.advance(91_000);
                self.model.any_ended |= self.model.running;
                self.model.running = false;
                self.model.put_away(Status::Stale, is_kept);
                self.model.dispatch();
            }
            Step::Archive => {
                let is_kept = self.is_kept();
                let status = self.s.call(SessionCall::Archive).status;
                let may = !self.model.cancelled && !self.model.running && self.model.pending == 0;
                prop_assert_eq!(status == 200, may);
                if may {
                    self.model.archived = true;
                    if self.model.status == Status::Ready {
                        self.model.put_away(Status::Stopped, is_kept);
                    } else if self.model.status.is_coming() {
                        self.model.retire(Status::Stopped);
                    }
                }
            }
            Step::Unarchive => {
                let status = self.s.call(SessionCall::Unarchive).status;
                prop_assert_eq!(status == 200, self.model.archived);
                self.model.archived = false;
            }
            Step::Cancel => {
                let may = matches!(self.model.session_status(), "active" | "created");
                prop_assert_eq!(self.s.call(SessionCall::Cancel).status == 200, may);
                if may {
                    let model = &mut self.model;
                    (model.cancelled, model.running, model.pending) = (true, false, 0);
                    if model.status.is_coming() || model.status == Status::Ready {
                        model.retire(Status::Stopped);
                    }
                    model.parked = false;
                }
            }
            Step::Evict => self.s.host.evict(),
            Step::Wait => {
                if self.model.status != Status::Failed {
                    return Ok(());
                }
                self.advance(20_000);
                self.model.dispatch();
            }
        }
        Ok(())
    }

    fn dial(&mut self, n: usize) -> Result<(), TestCaseError> {
        if self.sandboxes.is_empty() {
            return Ok(());
        }
        let index = n % self.sandboxes.len();
        let (sandbox, sent) = self.sandboxes[index].clone();
        let current = self.text("SELECT sandbox_id FROM sandbox");
        let may = current.as_ref() == Some(&sandbox.id)
            && (self.model.status.is_coming() || self.model.status == Status::Ready);
        match self.s.connect_as(&sandbox, 2) {
            Ok(socket) => {
                prop_assert!(may, "{} was let in", sandbox.id);
                self.bridge = Some((socket, index));
                self.model.connected();
                let hello = self.s.take_of(socket, "hello").pop().expect("it is greeted");
                prop_assert_eq!(&hello["ackedSeq"], &json!(sent), "one that goes on goes on from its mark");
                if sent == 0 {
                    self.frame(ready());
                }
            }
            Err((status, body)) => {
                prop_assert!(!may, "{} was refused: {} {}", sandbox.id, status, body);
                // One that asks is none that is there.
                prop_assert!([401, 403, 410].contains(&status));
            }
        }
        Ok(())
    }

    /// What needs no decision: stops, D1. And which sandboxes are asked for.
    fn run_jobs(&mut self) {
        loop {
            for claimed in self.s.take_jobs("start_sandbox") {
                let Job::StartSandbox(start) = &claimed.job else { panic!("{claimed:?}") };
                if claimed.attempt > 1 {
                    // Its lease ended while nobody said how it goes.
                    self.starts.retain(|start| start.id != claimed.id);
                    self.starts.push(claimed);
                    continue;
                }
                let known = self.sandboxes.iter().position(|(sandbox, _)| sandbox.id == start.sandbox_id);
                match &start.from {
                    StartFrom::Fresh => self.begun.push(From::Fresh),
                    StartFrom::Snapshot { number, .. } => self.begun.push(From::Snapshot(*number)),
                    StartFrom::Parked { .. } => {
                        self.begun.push(From::Parked);
                        assert!(known.is_some(), "only one that was there goes on");
                    }
                }
                if known.is_none() {
                    self.sandboxes.push((Sandbox::of(start), 0));
                }
                // One that was asked for earlier is not reported any more.
                self.starts.push(claimed);
            }
            let (own, rest): (Vec<_>, Vec<_>) =
                self.s.host.jobs.drain(..).partition(|claimed| claimed.job.kind() == "take_snapshot");
            self.s.host.jobs.extend(own);
            if rest.is_empty() {
                return;
            }
            for claimed in rest {
                let is_stop = matches!(claimed.job, Job::StopSandbox(_));
                let result = match claimed.job {
                    Job::ReportUsage(_) => JobResult::Standing { person: None, deployment: None },
                    _ => JobResult::Done,
                };
                self.s.host.report(&claimed, result);
                if is_stop && self.s.count("SELECT COUNT(*) FROM outbox WHERE dedup_key = 'park_sandbox'") == 0 {
                    self.model.parking = false;
                }
                self.model.dispatch();
            }
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let (s, model) = (&self.s, &self.model);
        prop_assert_eq!(s.host.faults, 0);
        prop_assert_eq!(s.sandbox_status(), model.status.word());
        prop_assert_eq!(s.count("SELECT generation FROM sandbox"), model.generation);
        let waiting = s.count("SELECT COUNT(*) FROM messages WHERE status = 'pending'");
        prop_assert_eq!(waiting, model.pending as i64);
        prop_assert_eq!(self.running().is_some(), model.running);
        let taking = s.count("SELECT COALESCE(MAX(number), 0) FROM snapshots WHERE state = 'taking'");
        prop_assert_eq!(taking, model.taking.map_or(0, |(number, _)| number));
        let held: Vec<_> = s.rows("SELECT number FROM snapshots WHERE state = 'held' ORDER BY number").concat();
        prop_assert_eq!(held, model.held.keys().map(|number| SqlValue::Int(*number)).collect::<Vec<_>>());
        let parked = s.count("SELECT COUNT(*) FROM sandbox WHERE parked_token_hash IS NOT NULL");
        prop_assert_eq!(parked, i64::from(model.parked));
        prop_assert_eq!(&self.begun, &model.starts);
        let open = self.bridge.is_some_and(|(socket, _)| s.closed(socket).is_none());
        prop_assert_eq!(open, model.bridge);
        if !open {
            self.bridge = None;
        }
        let status = value(&self.s.call(SessionCall::Snapshot { dialect: 2 }).body)["session"]["status"].clone();
        let status = status.as_str().unwrap_or_default();
        let expected = self.model.session_status();
        prop_assert!(
            status == expected || (expected == "ended" && ["completed", "failed"].contains(&status)),
            "{}",
            status
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_sandbox_does_what_its_model_does(
        steps in steps(),
        snapshots in any::<bool>(),
        resumes in any::<bool>(),
    ) {
        let mut life = Life::new(BackendTraits { snapshots, resumes, ..BackendTraits::default() });
        for step in steps {
            life.take(step)?;
            life.run_jobs();
            life.check()?;
        }
    }
}
