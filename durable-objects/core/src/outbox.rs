//! Jobs: written with the change that asks for them, claimed under a lease, delivered at least once.

use oi_protocol::UnixMillis;
use oi_protocol::session_state::SandboxStatus;
use oi_protocol::text::truncate_bytes;
use serde::Serialize;
use serde_json::json;

use crate::access::SandboxAccess;
use crate::call::CallReply;
use crate::core::Turn;
use crate::deletion::COLLECT_KEY;
use crate::job::{ClaimedJob, IndexSession, Job, JobResult, StartSandbox, StopSandbox};
use crate::lifecycle::PARK_KEY;
use crate::sql::{Columns, Sql, SqlError, params};

/// Jobs claimed by one commit.
const CLAIM_MAX: i64 = 8;
/// Of a runner's sentence this much is kept.
const ERROR_MAX_BYTES: usize = 2_000;
/// Bounds of one wait for a backend that is down, in ms.
const HOLD_MIN_MS: i64 = 1_000;
const HOLD_MAX_MS: i64 = 600_000;
/// Starts that ended and are remembered.
const STARTS_KEPT: i64 = 20;
/// Jobs shown to operators.
const DELIVERIES_SHOWN: i64 = 100;
/// Rows that were given up and are kept to be seen.
const GIVEN_UP_KEPT: i64 = 100;

/// When the next waiting job is due or the next lease ends.
pub(crate) fn next_due(sql: &dyn Sql) -> Result<Option<UnixMillis>, SqlError> {
    let rows = sql.run("SELECT MIN(due_at) FROM outbox WHERE state IN ('waiting', 'running')", &[])?;
    rows.into_iter().next().map_or(Ok(None), |row| Ok(Columns::of(row).opt_int()?.map(UnixMillis)))
}

fn retry_delay_ms(attempt: i64) -> i64 {
    1_000 << attempt.clamp(0, 8)
}

impl Turn<'_, '_> {
    /// Adds a job. With a key, a job of the same key that still waits is replaced: the new one has its own attempts.
    pub(crate) fn enqueue(&mut self, job: &Job, dedup_key: Option<&str>) -> Result<(), SqlError> {
        let payload = serde_json::to_string(job).map_err(|error| SqlError(error.to_string()))?;
        self.sql.run(
            "INSERT OR REPLACE INTO outbox (dedup_key, payload, state, due_at) VALUES (?, ?, 'waiting', ?)",
            params![dedup_key.map(str::to_owned), payload, self.cx.now.0],
        )?;
        self.hot.outbox_next = Some(self.hot.outbox_next.map_or(self.cx.now, |next| next.min(self.cx.now)));
        Ok(())
    }

    /// Tells D1 what changed, when the session's listed facts did.
    pub(crate) fn enqueue_index(&mut self) -> Result<(), SqlError> {
        let latest_output = crate::prompt_end::latest_output(self.sql)?;
        let Some(session) = &mut self.hot.session else { return Ok(()) };
        session.index_counter += 1;
        self.hot.session_dirty = true;
        let job = Job::IndexSession(IndexSession {
            session_id: session.session_id.clone(),
            counter: session.index_counter,
            status: session.status,
            title: session.title.clone(),
            updated_at: session.updated_at,
            message_count: session.message_count,
            pr_count: session.pr_count,
            total_cost: session.total_cost,
            active_duration_ms: session.active_duration_ms,
            latest_output,
        });
        self.enqueue(&job, Some("index"))
    }

    /// Claims what is due: waiting jobs, and running ones whose lease ended, which means that their outcome is unknown.
    pub(crate) fn claim_due_jobs(&mut self) -> Result<(), SqlError> {
        let now = self.cx.now;
        if self.hot.outbox_next.is_none_or(|next| next > now) {
            return Ok(());
        }
        let rows = self.sql.run(
            "SELECT id, payload, attempt, state, held FROM outbox WHERE state IN ('waiting', 'running') AND due_at <= ?
                ORDER BY due_at, id LIMIT ?",
            params![now.0, CLAIM_MAX],
        )?;
        for row in rows {
            let mut c = Columns::of(row);
            let (id, payload, attempt, state, held) = (c.int()?, c.text()?, c.int()?, c.text()?, c.int()?);
            let job: Job = serde_json::from_str(&payload)
                .map_err(|error| SqlError(format!("an outbox row cannot be read: {error}")))?;
            if self.is_superseded(&job) || (attempt == 0 && self.is_abandoned(&job)) {
                self.drop_superseded(id, job, attempt > 0)?;
                continue;
            }
            if attempt - held >= job.attempt_budget() {
                self.give_up(id, &job, "no attempt ended in time", false)?;
                continue;
            }
            self.sql.run(
                "UPDATE outbox SET state = 'running', attempt = attempt + 1, due_at = ? WHERE id = ?",
                params![now.plus(job.attempt_deadline_ms()).0, id],
            )?;
            // A waiting row that was tried before ended in a failure that may have happened after the effect.
            let look_first = state == "running" || attempt > 0;
            self.out.jobs.push(ClaimedJob { id, attempt: attempt + 1, look_first, job });
        }
        self.hot.outbox_next = next_due(self.sql)?;
        Ok(())
    }

    fn give_up(&mut self, id: i64, job: &Job, error: &str, for_good: bool) -> Result<(), SqlError> {
        let error = truncate_bytes(error, ERROR_MAX_BYTES);
        self.sql.run("UPDATE outbox SET state = 'given_up', last_error = ? WHERE id = ?", params![error, id])?;
        self.keep_newest("given_up", GIVEN_UP_KEPT)?;
        self.out.log.push(format!("job given up: {} ({error})", job.kind()));
        match job {
            Job::StartSandbox(start) => self.start_failed(start.generation, error, for_good),
            Job::OpenPullRequest(open) => self.pull_request_failed(&open.operation_id.clone(), 502, error),
            Job::ArchiveEvents(archive) => self.archive_given_up(archive),
            Job::ReadArchive(read) => self.archive_unreadable(read),
            Job::TakeSnapshot(take) => {
                self.snapshot_failed(take)?;
                self.dispatch()
            }
            Job::StopSandbox(stop) => {
                self.stop_given_up(stop);
                self.dispatch()
            }
            Job::CopyTimeline(_) => self.copy_failed(error),
            Job::IndexSession(_)
            | Job::IndexTurn(_)
            | Job::BotCallback(_)
            | Job::TellParent(_)
            | Job::OfferResult(_)
            | Job::CollectStorage(_)
            | Job::DeleteSnapshot(_)
            | Job::ReportUsage(_)
            | Job::RefreshPullRequests(_)
            | Job::RecordPullRequest(_) => Ok(()),
        }
    }

    /// An attempt ended. Of any but the current attempt nothing is taken but the sandbox that it started.
    pub(crate) fn job_result(&mut self, id: i64, attempt: i64, result: JobResult) -> Result<(), SqlError> {
        let rows = self.sql.run("SELECT payload, attempt, state, held FROM outbox WHERE id = ?", params![id])?;
        let Some(row) = rows.into_iter().next() else { return Ok(()) };
        let mut c = Columns::of(row);
        let (payload, current, state, held) = (c.text()?, c.int()?, c.text()?, c.int()?);
        let job: Job = serde_json::from_str(&payload)
            .map_err(|error| SqlError(format!("an outbox row cannot be read: {error}")))?;
        if current != attempt || state != "running" {
            return match (job, result) {
                (Job::StartSandbox(start), JobResult::SandboxStarted { provider_object_id, access }) => {
                    self.late_start(id, &state, start, provider_object_id, access)
                }
                // One that is still waited for is looked for by the next attempt.
                (Job::TakeSnapshot(take), JobResult::SnapshotTaken { image_id }) if state == "given_up" => {
                    self.snapshot_taken(&take, image_id)
                }
                _ => Ok(()),
            };
        }
        match (job, result) {
            (job, JobResult::Failed { error, transient }) => {
                if self.is_superseded(&job) {
                    self.drop_superseded(id, job, true)?;
                } else if transient && attempt - held < job.attempt_budget() {
                    self.try_again(id, attempt, &error)?;
                } else {
                    self.give_up(id, &job, &error, !transient)?;
                }
            }
            (Job::StartSandbox(start), JobResult::Held { until, error }) => {
                self.hold_start(id, start, until, &error)?;
            }
            (job, result) => {
                self.end_job(id, &job)?;
                self.job_succeeded(job, result)?;
            }
        }
        self.hot.outbox_next = next_due(self.sql)?;
        Ok(())
    }

    /// An attempt that was given up on started a sandbox after all. The one that is waited for is taken; any other is
    /// stopped.
    fn late_start(
        &mut self,
        id: i64,
        state: &str,
        start: StartSandbox,
        object: String,
        access: Option<Box<SandboxAccess>>,
    ) -> Result<(), SqlError> {
        let current = start.generation == self.hot.sandbox.generation;
        if current && self.hot.sandbox.provider_object_id.as_ref() == Some(&object) {
            return Ok(());
        }
        if current && matches!(state, "running" | "waiting") {
            self.end_job(id, &Job::StartSandbox(start))?;
            self.sandbox_started(object, access);
            self.hot.outbox_next = next_due(self.sql)?;
            return Ok(());
        }
        self.stop_superseded(start, Some(object))
    }

    /// The backend is down for everybody. The start waits; what waits too long has failed.
    fn hold_start(&mut self, id: i64, start: StartSandbox, until: UnixMillis, error: &str) -> Result<(), SqlError> {
        let job = Job::StartSandbox(start);
        if self.is_superseded(&job) {
            return self.drop_superseded(id, job, true);
        }
        let error = truncate_bytes(error, ERROR_MAX_BYTES);
        let until = until.max(self.cx.now.plus(HOLD_MIN_MS)).min(self.cx.now.plus(HOLD_MAX_MS));
        if !self.start_is_held(until, error) {
            return self.give_up(id, &job, error, false);
        }
        self.sql.run(
            "UPDATE OR REPLACE outbox SET state = 'waiting', held = held + 1, due_at = ?, last_error = ? WHERE id = ?",
            params![until.0, error, id],
        )?;
        Ok(())
    }

    /// A job is over. A start is remembered for a while, so that a late result of another attempt is understood.
    fn end_job(&mut self, id: i64, job: &Job) -> Result<(), SqlError> {
        if !matches!(job, Job::StartSandbox(_)) {
            self.sql.run("DELETE FROM outbox WHERE id = ?", params![id])?;
            return Ok(());
        }
        self.sql.run("UPDATE outbox SET state = 'done' WHERE id = ?", params![id])?;
        self.keep_newest("done", STARTS_KEPT)
    }

    fn keep_newest(&mut self, state: &str, kept: i64) -> Result<(), SqlError> {
        self.sql.run(
            "DELETE FROM outbox WHERE state = ?1 AND id NOT IN
                (SELECT id FROM outbox WHERE state = ?1 ORDER BY id DESC LIMIT ?2)",
            params![state, kept],
        )?;
        Ok(())
    }

    /// Puts a failed attempt back, unless a newer job of the same key waits already: that one says more.
    fn try_again(&mut self, id: i64, attempt: i64, error: &str) -> Result<(), SqlError> {
        let newer = self.sql.run(
            "SELECT 1 FROM outbox WHERE state = 'waiting' AND id > ?1
                AND dedup_key = (SELECT dedup_key FROM outbox WHERE id = ?1)",
            params![id],
        )?;
        if newer.is_empty() {
            let due = self.cx.now.plus(retry_delay_ms(attempt));
            let error = truncate_bytes(error, ERROR_MAX_BYTES);
            // An older one of the key gives way.
            self.sql.run(
                "UPDATE OR REPLACE outbox SET state = 'waiting', due_at = ?, last_error = ? WHERE id = ?",
                params![due.0, error, id],
            )?;
        } else {
            self.sql.run("DELETE FROM outbox WHERE id = ?", params![id])?;
        }
        Ok(())
    }

    /// A start that nobody waits for is not tried again; what an attempt may have started after the stop is stopped.
    fn drop_superseded(&mut self, id: i64, job: Job, was_tried: bool) -> Result<(), SqlError> {
        self.end_job(id, &job)?;
        match job {
            Job::StartSandbox(start) if was_tried => self.stop_superseded(start, None),
            _ => Ok(()),
        }
    }

    /// What a start that is not waited for any more may have brought up is stopped.
    fn stop_superseded(&mut self, start: StartSandbox, provider_object_id: Option<String>) -> Result<(), SqlError> {
        let sandbox = &self.hot.sandbox;
        let is_current = sandbox.sandbox_id.as_ref() == Some(&start.sandbox_id);
        if is_current && self.may_return() && sandbox.status != SandboxStatus::Pending {
            // It was stopped and went on: it is in a later life, whose own end stops it.
            return Ok(());
        }
        let stop = StopSandbox {
            session_id: start.session_id,
            sandbox_id: start.sandbox_id,
            provider_object_id: provider_object_id
                .or_else(|| sandbox.provider_object_id.clone().filter(|_| is_current)),
            generation: start.generation,
            reason: "superseded".to_owned(),
        };
        // Where it may go on, that waits for its stop.
        let is_parked = is_current && sandbox.parked_token_hash.is_some();
        self.enqueue(&Job::StopSandbox(stop), is_parked.then_some(PARK_KEY))
    }

    fn is_superseded(&self, job: &Job) -> bool {
        matches!(job, Job::StartSandbox(start) if start.generation != self.hot.sandbox.generation)
    }

    /// A snapshot that nobody waits for. One that was tried may be there, and is looked for so that it is deleted.
    fn is_abandoned(&self, job: &Job) -> bool {
        matches!(job, Job::TakeSnapshot(take) if !self.hot.snapshots.awaits(take.number))
    }

    fn job_succeeded(&mut self, job: Job, result: JobResult) -> Result<(), SqlError> {
        match (job, result) {
            (Job::StartSandbox(start), JobResult::SandboxStarted { provider_object_id, access }) => {
                if start.generation == self.hot.sandbox.generation && self.may_return() {
                    self.sandbox_started(provider_object_id, access);
                    return Ok(());
                }
                self.stop_superseded(start, Some(provider_object_id))
            }
            (Job::OpenPullRequest(open), result @ JobResult::PullRequestOpened { .. }) => {
                self.pull_request_opened(&open, result)
            }
            (Job::RefreshPullRequests(_), JobResult::PullRequestsRead { read }) => self.pull_requests_read(read),
            (Job::ArchiveEvents(archive), JobResult::Done) => self.events_archived(&archive),
            (Job::ReadArchive(read), JobResult::ArchiveRead { text }) => self.archive_read(&read, &text),
            (Job::TakeSnapshot(take), JobResult::SnapshotTaken { image_id }) => self.snapshot_taken(&take, image_id),
            (Job::ReportUsage(report), JobResult::Standing { person, deployment }) => {
                self.take_standing(&report, person, deployment)
            }
            (Job::TakeSnapshot(take), _) => self.snapshot_failed(&take),
            (Job::BotCallback(callback), JobResult::Done) => self.bot_told(&callback),
            (Job::CopyTimeline(copy), JobResult::Page(page)) => self.page_copied(&copy, page),
            (job @ Job::CollectStorage(_), JobResult::More) => self.enqueue(&job, Some(COLLECT_KEY)),
            (job, result) => {
                self.out.log.push(format!("job done: {} ({})", job.kind(), matches!(result, JobResult::Done)));
                Ok(())
            }
        }
    }
}

/// A job that has not been done, as operators see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    id: i64,
    kind: String,
    key: Option<String>,
    state: String,
    attempt: i64,
    due_at: i64,
    last_error: Option<String>,
}

/// Jobs that wait, run or were given up, newest first.
pub(crate) fn deliveries(sql: &dyn Sql) -> Result<CallReply, SqlError> {
    let rows = sql.run(
        "SELECT id, payload, dedup_key, state, attempt, due_at, last_error FROM outbox WHERE state <> 'done'
            ORDER BY id DESC LIMIT ?",
        params![DELIVERIES_SHOWN],
    )?;
    let listed: Result<Vec<Delivery>, SqlError> = rows
        .into_iter()
        .map(|row| {
            let mut c = Columns::of(row);
            let (id, payload) = (c.int()?, c.text()?);
            Ok(Delivery {
                id,
                kind: serde_json::from_str::<Job>(&payload).map_or("unknown", |job| job.kind()).to_owned(),
                key: c.opt_text()?,
                state: c.text()?,
                attempt: c.int()?,
                due_at: c.int()?,
                last_error: c.opt_text()?,
            })
        })
        .collect();
    Ok(CallReply::json(200, &json!({"deliveries": listed?})))
}
