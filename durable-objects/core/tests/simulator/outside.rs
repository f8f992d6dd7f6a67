//! What is outside: the sandboxes' backend, D1, the forge, and attempts that end late, twice or never.

use std::collections::BTreeMap;

use oi_session::call::{Principal, SessionCall};
use oi_session::job::{ClaimedJob, IndexSession, Job, JobResult, StartFrom, StartSandbox};
use oi_session::pull_request_snapshots::{LifecycleState, PullRequestSnapshot};
use rand::Rng;

use crate::bridge::Bridge;
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
}

#[derive(Debug, Default)]
pub struct Outside {
    pub attempts: Vec<Attempt>,
    pub index: Option<IndexSession>,
    /// Pull requests by head.
    pub pulls: BTreeMap<String, i64>,
    /// What is in the bucket.
    pub files: BTreeMap<String, String>,
    /// Dollars by prompt, as D1 knows them.
    pub usage: BTreeMap<String, f64>,
    /// Snapshots that the backend keeps, by their label.
    pub images: BTreeMap<i64, String>,
    /// Highest attempt of each job.
    pub claimed: BTreeMap<i64, i64>,
}

impl World {
    /// Starts the attempts that the session claimed.
    pub fn begin_attempts(&mut self) -> Result<(), String> {
        while let Some(claimed) = self.host.jobs.pop_front() {
            let before = self.outside.claimed.insert(claimed.id, claimed.attempt).unwrap_or(0);
            // An attempt whose commit was followed by the process's end is claimed and never seen.
            if claimed.attempt <= before || claimed.attempt > claimed.job.attempt_budget() {
                return Err(format!(
                    "attempt {} of {} after {before}: {:?}",
                    claimed.attempt,
                    claimed.job.kind(),
                    claimed.job
                ));
            }
            let fate = if self.calm || self.rng.random_bool(0.6) {
                Fate::Well
            } else {
                let fates =
                    [Fate::Unheard, Fate::Doubled, Fate::Transient, Fate::FailedAfterAll, Fate::Permanent, Fate::Never];
                fates[self.rng.random_range(0..fates.len())]
            };
            let delay = match self.rng.random_range(0..10) {
                _ if self.calm => 50,
                _ if self.stops_late && matches!(claimed.job, Job::StopSandbox(_)) => {
                    self.rng.random_range(20_000..90_000)
                }
                0 => self.rng.random_range(30_000..200_000),
                1..3 => self.rng.random_range(2_000..20_000),
                _ => self.rng.random_range(1..500),
            };
            self.outside.attempts.push(Attempt { due: self.host.now.0 + delay, claimed, fate, orphaned: false });
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
                Fate::Transient => Some(fails(true)),
                Fate::Permanent => Some(fails(false)),
                Fate::Never => None,
                Fate::Well | Fate::Doubled => Some(self.effect(&attempt.claimed)),
                Fate::FailedAfterAll => {
                    self.effect(&attempt.claimed);
                    Some(fails(true))
                }
                Fate::Unheard => {
                    self.effect(&attempt.claimed);
                    None
                }
            };
            let Some(result) = result.filter(|_| !attempt.orphaned) else { continue };
            self.host.report(&attempt.claimed, result.clone());
            self.after_input()?;
            if attempt.fate == Fate::Doubled {
                self.host.report(&attempt.claimed, result);
                self.after_input()?;
            }
        }
        Ok(())
    }

    /// A stopped sandbox goes on, with the journal on its disk.
    fn resume(&mut self, start: &StartSandbox) -> JobResult {
        let object = format!("box-{}", start.sandbox_id);
        let now = self.host.now.0;
        let Some(bridge) = self.bridges.iter_mut().find(|bridge| bridge.sandbox.id == start.sandbox_id) else {
            return JobResult::Failed { error: "no such sandbox".to_owned(), transient: false };
        };
        if !std::mem::replace(&mut bridge.alive, true) {
            bridge.reborn(start.generation, now + 100);
            self.tally.resumed += 1;
        }
        JobResult::SandboxStarted { provider_object_id: object }
    }

    /// Does what a job asks for, as an idempotent backend does.
    fn effect(&mut self, claimed: &ClaimedJob) -> JobResult {
        match &claimed.job {
            Job::IndexSession(facts) => {
                if self.outside.index.as_ref().is_none_or(|known| known.counter < facts.counter) {
                    self.outside.index = Some(facts.clone());
                }
                JobResult::Done
            }
            Job::StartSandbox(start) => {
                if let StartFrom::Snapshot { image_id, .. } = &start.from {
                    if !self.outside.images.values().any(|image| image == image_id) {
                        return JobResult::Failed { error: "no such image".to_owned(), transient: false };
                    }
                    self.tally.restored += 1;
                }
                if let StartFrom::Parked { .. } = &start.from {
                    return self.resume(start);
                }
                match self.bridges.iter().find(|bridge| bridge.sandbox.id == start.sandbox_id) {
                    Some(bridge) if !bridge.alive => {
                        return JobResult::Failed {
                            error: "it ended before it connected".to_owned(),
                            transient: false,
                        };
                    }
                    Some(_) => {}
                    None => {
                        let late = if self.calm { 100 } else { self.rng.random_range(1..8_000) };
                        let dialect = if self.rng.random_bool(self.share_of_dialect_1) { 1 } else { 2 };
                        let bridge = Bridge::new(Sandbox::of(start), dialect, self.host.now.0 + late);
                        self.bridges.push(bridge);
                        self.tally.sandboxes += 1;
                    }
                }
                JobResult::SandboxStarted { provider_object_id: format!("box-{}", start.sandbox_id) }
            }
            Job::StopSandbox(stop) => {
                for index in 0..self.bridges.len() {
                    if self.bridges[index].sandbox.id == stop.sandbox_id {
                        self.kill_sandbox(index);
                    }
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
                if !self.outside.images.contains_key(&take.number)
                    && !self.bridges.iter().any(|bridge| bridge.sandbox.id == take.sandbox_id && bridge.alive)
                {
                    return JobResult::Failed { error: "the sandbox is gone".to_owned(), transient: false };
                }
                let image = self.outside.images.entry(take.number).or_insert_with(|| format!("image-{}", take.number));
                JobResult::SnapshotTaken { image_id: image.clone() }
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
                    answer => JobResult::Failed { error: format!("{answer:?}"), transient: answer.is_none() },
                }
            }
            Job::ReadArchive(read) => match self.outside.files.get(&read.key) {
                Some(text) => JobResult::ArchiveRead { text: text.clone() },
                None => JobResult::Failed { error: "no such file".to_owned(), transient: false },
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
            Job::BotCallback(_)
            | Job::TellParent(_)
            | Job::OfferResult(_)
            | Job::RecordPullRequest(_)
            | Job::CopyTimeline(_)
            | Job::CollectStorage(_) => JobResult::Done,
        }
    }
}
