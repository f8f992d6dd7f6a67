//! What is outside: the sandboxes' backend, D1, the forge, the bots, the parent, the old session of a fork; and
//! attempts that end late, twice or never.

use std::collections::{BTreeMap, BTreeSet};

use oi_protocol::MessageId;
use oi_session::call::{Principal, SessionCall};
use oi_session::callbacks::{BotCallback, Notice};
use oi_session::fork::{CopiedEvent, TimelinePage};
use oi_session::job::{ClaimedJob, IndexSession, Job, JobResult, StartFrom, StartSandbox};
use oi_session::pull_request_snapshots::{LifecycleState, PullRequestSnapshot};
use oi_session::sql::Value as SqlValue;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::bridge::Bridge;
use crate::checks::int;
use crate::support::session::Sandbox;
use crate::world::World;

/// How an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Well,
    /// It has its effect, and nobody hears of it.
    Unheard,
    /// The result is reported twice.
    Doubled,
    /// No effect, a failure that may pass.
    Transient,
    /// It had its effect, and says that it failed.
    FailedAfterAll,
    /// No effect, a failure for good.
    Permanent,
    /// No effect, no result.
    Never,
}

/// A running attempt.
#[derive(Debug)]
pub struct Attempt {
    pub due: i64,
    pub claimed: ClaimedJob,
    pub fate: Fate,
    /// The process that would report it is gone.
    pub orphaned: bool,
    /// Its lease ends then.
    lease: i64,
    /// What was reported already and is reported again.
    again: Option<JobResult>,
}

/// What became of a job.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub kind: &'static str,
    /// The last attempt.
    pub attempt: i64,
    pub budget: i64,
    pub has_effect: bool,
    /// A success was reported to the session.
    pub is_reported: bool,
}

/// What a bot was told under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub message_id: MessageId,
    pub body: String,
    /// Of a prompt that ended: whether it did what it should.
    pub success: Option<bool>,
}

#[derive(Debug, Default)]
pub struct Outside {
    pub attempts: Vec<Attempt>,
    pub index: Option<IndexSession>,
    /// Turns that search knows, as the session told them.
    pub turns: BTreeMap<String, String>,
    /// Pull requests by head.
    pub pulls: BTreeMap<String, i64>,
    /// What is in the bucket.
    pub files: BTreeMap<String, String>,
    /// Dollars by prompt, as D1 knows them.
    pub usage: BTreeMap<String, f64>,
    /// Snapshots that the backend keeps, by their label.
    pub images: BTreeMap<i64, String>,
    /// The jobs that took them.
    pub image_jobs: BTreeMap<String, i64>,
    /// Of these nobody can know.
    pub unknowable_images: BTreeSet<String>,
    /// Each job that was claimed.
    pub jobs: BTreeMap<i64, Known>,
    /// Sandboxes whose stop was asked for, and which were not asked to go on since.
    pub retired: BTreeSet<String>,
    /// Sandboxes that were deleted.
    pub removed: BTreeSet<String>,
    /// Their stops had their effect.
    stopped: BTreeSet<String>,
    /// By the key of the notice.
    pub told: BTreeMap<String, Told>,
    /// Results that the parent was offered, by prompt.
    pub offers: BTreeMap<String, bool>,
    /// Every status that the parent was told.
    pub parent: Vec<String>,
    pub is_child: bool,
    pub notifies: bool,
    /// The timeline of the session that a fork continues.
    pub old: Vec<CopiedEvent>,
    pub d1_down_until: i64,
    pub backend_down_until: i64,
    pub bots_down_until: i64,
}

impl Outside {
    pub fn end_outages(&mut self) {
        (self.d1_down_until, self.backend_down_until, self.bots_down_until) = (0, 0, 0);
    }

    /// Turns of an old session, from a place on.
    pub fn old_timeline(&mut self, rng: &mut StdRng, from: i64) {
        for n in 0..rng.random_range(4..40) {
            let id = format!("{:032x}", n / 4);
            let (kind, name, body) = match n % 4 {
                0 => (
                    "user_message",
                    format!("user_message:{id}"),
                    json!({"type": "user_message", "messageId": id, "content": format!("old {n}"), "timestamp": 1.0}),
                ),
                1 => (
                    "part",
                    format!("part:{id}:p"),
                    json!({"type": "part", "messageId": id, "partId": "p", "kind": "text", "text": format!("said {n}"),
                        "sandboxId": "old", "timestamp": 2.0}),
                ),
                2 => (
                    "tool_call",
                    format!("tool_call:{id}:c"),
                    json!({"type": "tool_call", "messageId": id, "tool": "bash", "args": {}, "callId": "c",
                        "status": "completed", "sandboxId": "old", "timestamp": 3.0}),
                ),
                _ => (
                    "execution_complete",
                    format!("execution_complete:{id}"),
                    json!({"type": "execution_complete", "messageId": id, "success": true, "outcome": "done",
                        "sandboxId": "old", "timestamp": 4.0}),
                ),
            };
            self.old.push(CopiedEvent {
                sequence: from + n,
                id: name,
                message_id: Some(id),
                event_type: kind.to_owned(),
                created_at: 1_000 + n,
                body: body.to_string(),
            });
        }
    }

    fn is_down(&self, job: &Job, now: i64) -> bool {
        let until = match job {
            Job::IndexSession(_) | Job::ReportUsage(_) | Job::IndexTurn(_) => self.d1_down_until,
            Job::StartSandbox(_) | Job::StopSandbox(_) | Job::TakeSnapshot(_) | Job::DeleteSnapshot(_) => {
                self.backend_down_until
            }
            Job::BotCallback(_) | Job::TellParent(_) | Job::OfferResult(_) => self.bots_down_until,
            _ => 0,
        };
        now < until
    }

    fn tell(&mut self, callback: &BotCallback) -> Result<(), String> {
        let success = match &callback.notice {
            Notice::Complete { success, .. } => Some(*success),
            _ => None,
        };
        let told = Told { message_id: callback.message_id.clone(), body: callback.unsigned(), success };
        let key = callback.idempotency_key();
        let before = self.told.entry(key.clone()).or_insert_with(|| told.clone());
        // What a tool does may be told again, later and otherwise, when nobody heard that it was told.
        if *before != told && !matches!(callback.notice, Notice::ToolCall { .. }) {
            return Err(format!("told: {key} as {before:?} and as {told:?}"));
        }
        Ok(())
    }

    /// The backend was asked for a stop, or for a start.
    fn note(&mut self, job: &Job) {
        match job {
            Job::StopSandbox(stop) => {
                self.retired.insert(stop.sandbox_id.clone());
            }
            Job::StartSandbox(start) if matches!(start.from, StartFrom::Parked { .. }) => {
                self.retired.remove(&start.sandbox_id);
                self.stopped.remove(&start.sandbox_id);
            }
            _ => {}
        }
    }
}

impl World {
    /// Whether the session has asked for a sandbox to be stopped, and not since for it to go on. What it has committed
    /// counts, whether or not the attempt was seen.
    pub fn is_retired(&self, sandbox: &str) -> bool {
        let goes_on = format!(
            "SELECT COUNT(*) FROM outbox WHERE state IN ('waiting', 'running')
                AND payload LIKE '%start_sandbox%' AND payload LIKE '%parked%' AND payload LIKE '%\"{sandbox}\"%'"
        );
        self.outside.retired.contains(sandbox) && self.count(&goes_on) == 0
    }

    /// Starts the attempts that the session claimed.
    pub fn begin_attempts(&mut self) -> Result<(), String> {
        while let Some(claimed) = self.host.jobs.pop_front() {
            let (kind, budget) = (claimed.job.kind(), claimed.job.attempt_budget());
            let known =
                self.outside.jobs.entry(claimed.id).or_insert_with(|| Known { kind, budget, ..Known::default() });
            let before = std::mem::replace(&mut known.attempt, claimed.attempt);
            // An attempt whose commit was followed by the process's end is claimed and never seen.
            if claimed.attempt <= before || claimed.attempt > budget {
                return Err(format!("attempts: {} of {kind} after {before}: {:?}", claimed.attempt, claimed.job));
            }
            self.outside.note(&claimed.job);
            self.check_starts(&claimed.job)?;
            let now = self.host.now.0;
            let fate = if self.calm {
                Fate::Well
            } else if self.outside.is_down(&claimed.job, now) {
                if self.rng.random_bool(0.5) { Fate::Transient } else { Fate::Never }
            } else if self.rng.random_bool(0.6) {
                Fate::Well
            } else {
                let fates =
                    [Fate::Unheard, Fate::Doubled, Fate::Transient, Fate::FailedAfterAll, Fate::Permanent, Fate::Never];
                fates[self.rng.random_range(0..fates.len())]
            };
            let is_bad =
                matches!(claimed.job, Job::StartSandbox(_)) && !self.calm && self.rng.random_bool(self.bad_starts);
            let (fate, is_slow) = match is_bad {
                true if self.rng.random_bool(0.6) => (Fate::Permanent, false),
                true => (Fate::Well, true),
                false => (fate, false),
            };
            let delay = match self.rng.random_range(0..10) {
                _ if is_slow => self.rng.random_range(90_000..200_000),
                _ if self.calm => 50,
                _ if self.stops_late && matches!(claimed.job, Job::StopSandbox(_)) => {
                    self.rng.random_range(20_000..90_000)
                }
                0 => self.rng.random_range(30_000..200_000),
                1..3 => self.rng.random_range(2_000..20_000),
                _ => self.rng.random_range(1..500),
            };
            let lease = now + claimed.job.attempt_deadline_ms();
            self.note(&format!("attempt {} of job {}, {fate:?}: {:?}", claimed.attempt, claimed.id, claimed.job));
            let attempt = Attempt { due: now + delay, claimed, fate, orphaned: false, lease, again: None };
            self.outside.attempts.push(attempt);
        }
        Ok(())
    }

    /// Ends the attempts whose time has come.
    pub fn end_attempts(&mut self) -> Result<(), String> {
        let now = self.host.now.0;
        while let Some(index) = self.outside.attempts.iter().position(|attempt| attempt.due <= now) {
            let attempt = self.outside.attempts.swap_remove(index);
            let fails = |transient| JobResult::Failed { error: "it did not work".to_owned(), transient };
            let result = match attempt.fate {
                _ if attempt.again.is_some() => attempt.again.clone(),
                Fate::Transient => Some(fails(true)),
                Fate::Permanent => Some(fails(false)),
                Fate::Never => None,
                Fate::Well | Fate::Doubled => Some(self.effect(&attempt)?),
                Fate::FailedAfterAll => {
                    self.effect(&attempt)?;
                    Some(fails(true))
                }
                Fate::Unheard => {
                    self.effect(&attempt)?;
                    None
                }
            };
            let Some(result) = result.filter(|_| !attempt.orphaned) else { continue };
            if now > attempt.lease {
                self.tally.one("results late");
            }
            if attempt.fate == Fate::Doubled && attempt.again.is_none() {
                // At once, or when much has happened.
                let late = if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(1..120_000) };
                self.tally.one("results twice");
                let claimed = attempt.claimed.clone();
                let again = Some(result.clone());
                self.outside.attempts.push(Attempt { due: now + late, claimed, again, ..attempt });
            }
            self.report(&attempt.claimed, result)?;
        }
        Ok(())
    }

    fn report(&mut self, claimed: &ClaimedJob, result: JobResult) -> Result<(), String> {
        self.note(&format!("attempt {} of job {} is reported: {result:?}", claimed.attempt, claimed.id));
        let is_success = !matches!(result, JobResult::Failed { .. });
        let accidents = self.host.faults + self.host.deaths;
        let open = "SELECT COUNT(*) FROM outbox WHERE id = ? AND state IN ('waiting', 'running')";
        let is_open = |world: &Self| {
            world.rows_of(open, &[SqlValue::Int(claimed.id)]).first().is_some_and(|row| int(&row[0]) > 0)
        };
        let was_open = is_open(self);
        self.host.report(claimed, result);
        if let Job::StartSandbox(start) = &claimed.job
            && is_success
            && accidents == self.host.faults + self.host.deaths
            && self.count("SELECT COUNT(*) FROM sqlite_master WHERE name = 'sandbox'") == 1
        {
            // Now it is known, to a session that is there.
            for bridge in self.bridges.iter_mut().filter(|bridge| bridge.sandbox.id == start.sandbox_id) {
                bridge.unknowable = false;
            }
        }
        // Nobody tells again what an accident made a session forget of a job that it had given up.
        let is_taken = !is_open(self) && (was_open || accidents == self.host.faults + self.host.deaths);
        if is_success
            && is_taken
            && let Some(known) = self.outside.jobs.get_mut(&claimed.id)
        {
            known.is_reported = true;
        }
        self.after_input()
    }

    /// A stopped sandbox goes on, with the journal on its disk.
    fn resume(&mut self, start: &StartSandbox) -> JobResult {
        let object = format!("box-{}", start.sandbox_id);
        let now = self.host.now.0;
        if self.outside.removed.contains(&start.sandbox_id) {
            return JobResult::Failed { error: "it was deleted".to_owned(), transient: false };
        }
        let Some(bridge) = self.bridges.iter_mut().find(|bridge| bridge.sandbox.id == start.sandbox_id) else {
            return JobResult::Failed { error: "no such sandbox".to_owned(), transient: false };
        };
        if !std::mem::replace(&mut bridge.machine, true) {
            bridge.alive = true;
            bridge.reborn(start.generation, now + 100);
            bridge.unknowable = self.outside.stopped.contains(&start.sandbox_id);
            self.tally.one("sandboxes that went on");
        }
        JobResult::SandboxStarted { provider_object_id: object, access: None }
    }

    fn start(&mut self, start: &StartSandbox) -> JobResult {
        if let StartFrom::Snapshot { image_id, .. } = &start.from {
            if !self.outside.images.values().any(|image| image == image_id) {
                return JobResult::Failed { error: "no such image".to_owned(), transient: false };
            }
            self.tally.one("restored sandboxes");
        }
        if let StartFrom::Parked { .. } = &start.from {
            return self.resume(start);
        }
        match self.bridges.iter().find(|bridge| bridge.sandbox.id == start.sandbox_id) {
            Some(bridge) if !bridge.machine => {
                return JobResult::Failed { error: "it ended before it connected".to_owned(), transient: false };
            }
            Some(_) => {}
            None => {
                let late = if self.calm { 100 } else { self.rng.random_range(1..8_000) };
                let dialect = if self.rng.random_bool(self.share_of_dialect_1) { 1 } else { 2 };
                let mut bridge = Bridge::new(Sandbox::of(start), dialect, self.host.now.0 + late);
                bridge.unknowable = self.outside.stopped.contains(&start.sandbox_id);
                self.bridges.push(bridge);
                self.tally.one("sandboxes");
            }
        }
        JobResult::SandboxStarted { provider_object_id: format!("box-{}", start.sandbox_id), access: None }
    }

    /// Does what a job asks for, as an idempotent backend does.
    fn effect(&mut self, attempt: &Attempt) -> Result<JobResult, String> {
        let claimed = &attempt.claimed;
        let result = match &claimed.job {
            Job::IndexSession(facts) => {
                if self.outside.index.as_ref().is_none_or(|known| known.counter < facts.counter) {
                    self.outside.index = Some(facts.clone());
                }
                JobResult::Done
            }
            Job::StartSandbox(start) => self.start(start),
            Job::StopSandbox(stop) => {
                for index in 0..self.bridges.len() {
                    if self.bridges[index].sandbox.id == stop.sandbox_id {
                        self.kill_sandbox(index);
                    }
                }
                self.outside.stopped.insert(stop.sandbox_id.clone());
                // Only what is stopped for another reason may go on.
                if stop.reason == "respawn" {
                    self.outside.removed.insert(stop.sandbox_id.clone());
                }
                JobResult::Done
            }
            Job::ReportUsage(report) => {
                let known = self.outside.usage.entry(report.message_id.to_string()).or_default();
                *known = known.max(report.usd);
                let over = !self.calm && self.rng.random_bool(0.1);
                JobResult::Standing { person: over.then(|| "nothing is left".to_owned()), deployment: None }
            }
            Job::TakeSnapshot(take) => {
                let is_there = |bridge: &Bridge| bridge.sandbox.id == take.sandbox_id && bridge.machine;
                if !self.outside.images.contains_key(&take.number) && !self.bridges.iter().any(is_there) {
                    return Ok(JobResult::Failed { error: "the sandbox is gone".to_owned(), transient: false });
                }
                let image = format!("image-{}", take.number);
                self.outside.image_jobs.insert(image.clone(), claimed.id);
                if self.outside.images.insert(take.number, image.clone()).is_none() && self.host.now.0 > attempt.lease {
                    self.outside.unknowable_images.insert(image.clone());
                }
                JobResult::SnapshotTaken { image_id: image }
            }
            Job::DeleteSnapshot(delete) => {
                self.outside.images.retain(|_, image| *image != delete.image_id);
                JobResult::Done
            }
            Job::ArchiveEvents(archive) => {
                // The runner asks the session for the rows, which may fail as any call may.
                let call = SessionCall::ArchiveFile { first_seq: archive.first_seq, last_seq: archive.last_seq };
                let answer = self.host.call(Principal::Platform, call).ok();
                match answer.and_then(|reply| self.host.replies.remove(&reply)) {
                    Some(answer) if answer.status == 200 => {
                        self.outside.files.insert(archive.key.clone(), answer.body);
                        JobResult::Done
                    }
                    answer => {
                        return Ok(JobResult::Failed { error: format!("{answer:?}"), transient: answer.is_none() });
                    }
                }
            }
            Job::IndexTurn(index) => {
                let call = SessionCall::SearchTurns { message_id: Some(index.message_id.clone()), after: 0 };
                let answer = self.host.call(Principal::Platform, call).ok();
                match answer.and_then(|reply| self.host.replies.remove(&reply)) {
                    Some(answer) if answer.status == 200 => {
                        // Whenever it is asked, a turn is told in the same words.
                        let before = self.outside.turns.insert(index.message_id.to_string(), answer.body.clone());
                        if let Some(before) = before.filter(|before| *before != answer.body) {
                            return Err(format!("search: {before} is told as {} later", answer.body));
                        }
                        self.tally.one("turns indexed");
                        JobResult::Done
                    }
                    // It is being deleted.
                    Some(answer) if answer.status == 404 => JobResult::Done,
                    answer => {
                        return Ok(JobResult::Failed { error: format!("{answer:?}"), transient: answer.is_none() });
                    }
                }
            }
            Job::ReadArchive(read) => match self.outside.files.get(&read.key) {
                Some(text) => JobResult::ArchiveRead { text: text.clone() },
                None => return Ok(JobResult::Failed { error: "no such file".to_owned(), transient: false }),
            },
            Job::OpenPullRequest(open) => {
                let next = self.outside.pulls.len() as i64 + 1;
                let number = *self.outside.pulls.entry(open.head.clone()).or_insert(next);
                JobResult::PullRequestOpened {
                    number,
                    url: format!("https://forge/acme/sample/pull/{number}"),
                    state: "open".to_owned(),
                    head: open.head.clone(),
                    base: open.base.clone(),
                    title: open.title.clone(),
                    updated: number != next,
                }
            }
            Job::BotCallback(callback) => {
                self.tally.one("bots told");
                self.outside.tell(callback)?;
                JobResult::Done
            }
            Job::TellParent(tell) => {
                self.outside.parent.push(tell.status.as_str().to_owned());
                JobResult::Done
            }
            Job::OfferResult(offer) => {
                self.tally.one("results offered");
                if let Some(before) = self.outside.offers.insert(offer.message_id.to_string(), offer.success)
                    && before != offer.success
                {
                    return Err(format!("told: {} was offered as {before} and {}", offer.message_id, offer.success));
                }
                JobResult::Done
            }
            Job::CopyTimeline(copy) => {
                let rest = self.outside.old.iter().filter(|event| event.sequence >= copy.from_sequence);
                let events: Vec<CopiedEvent> = rest.take(7).cloned().collect();
                let next = events.last().map(|event| event.sequence + 1);
                let next_sequence = next.filter(|next| *next <= copy.through_sequence);
                JobResult::Page(TimelinePage { events, next_sequence })
            }
            Job::RecordPullRequest(_) => JobResult::Done,
            Job::RefreshPullRequests(refresh) => {
                let closed = self.rng.random_bool(0.3);
                let at = self.host.now;
                let mut read = Vec::new();
                for wanted in &refresh.pull_requests {
                    let head = self.outside.pulls.iter().find(|(_, number)| **number == wanted.number);
                    let Some((head, _)) = head else { continue };
                    let snapshot = PullRequestSnapshot {
                        number: wanted.number,
                        url: format!("https://forge/acme/sample/pull/{}", wanted.number),
                        lifecycle_state: if closed { LifecycleState::Closed } else { LifecycleState::Open },
                        is_draft: false,
                        head_branch: head.clone(),
                        base_branch: "main".to_owned(),
                        head_sha: None,
                        repo_owner: wanted.repo_owner.clone(),
                        repo_name: wanted.repo_name.clone(),
                        repository_external_id: Some("7".to_owned()),
                        title: None,
                        provider_created_at: None,
                        provider_updated_at: Some(at),
                        merged_at: None,
                        closed_at: closed.then_some(at),
                    };
                    read.push((wanted.artifact_id.clone(), snapshot));
                }
                JobResult::PullRequestsRead { read }
            }
            Job::CollectStorage(_) => {
                // A page at a time.
                if self.outside.files.pop_first().is_some() { JobResult::More } else { JobResult::Done }
            }
        };
        if let Some(known) = self.outside.jobs.get_mut(&claimed.id) {
            known.has_effect |= !matches!(result, JobResult::Failed { .. });
        }
        Ok(result)
    }
}
