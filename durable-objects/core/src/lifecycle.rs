//! The sandbox's life: start, connect, lose, stop. Each start and each stop takes a new generation, and only the
//! holder of the current one is listened to.

use oi_protocol::ErrorCode;
use oi_protocol::UnixMillis;
use oi_protocol::client_socket::{ServerMessage, close};
use oi_protocol::event::Outcome;
use oi_protocol::sandbox_socket::SandboxCommand;
use oi_protocol::session_state::SandboxStatus;

use crate::access::SandboxAccess;
use crate::core::Turn;
use crate::input::{SandboxUpgrade, SocketId, UpgradeAnswer};
use crate::job::{Job, StartFrom, StartSandbox, StopSandbox};
use crate::session_row::load_repositories;
use crate::sockets::Role;
use crate::sql::{SqlError, params};
use crate::start_plan::{self, Situation, Source, Step};
use crate::token;

/// A sandbox whose socket is lost, or that is silent, is given this long, in ms.
pub(crate) const STALE_MS: i64 = 90_000;
/// A lost sandbox is waited for at most this long, even when the object woke just now, in ms.
const OUTAGE_MAX_MS: i64 = 600_000;
/// Failed starts within the window that open the circuit breaker.
const BREAKER_FAILURES: i64 = 3;
/// How long the breaker stays open, in ms.
const BREAKER_OPEN_MS: i64 = 300_000;
/// Starts that may fail before the waiting prompts fail visibly.
const START_BUDGET: i64 = 3;
/// The job that stops a sandbox which may go on later.
pub(crate) const PARK_KEY: &str = "park_sandbox";
/// Why a stopped sandbox that will not go on is deleted: backends keep what is stopped for another reason.
const RESPAWN: &str = "respawn";
/// Of a sandbox's life this much is kept for putting it away, at most, in ms; a quarter of a short life.
const RESERVE_MAX_MS: i64 = 900_000;
/// One that did not connect in time may still come for this long, in ms, up to the hard limit.
const LATE_MS: i64 = 300_000;
/// A start waits for a backend that is down at most this long, in ms.
const HELD_MAX_MS: i64 = 3_600_000;
/// Least time between two warms of a session, in ms.
const WARM_INTERVAL_MS: i64 = 60_000;

impl Turn<'_, '_> {
    pub(crate) fn touch_activity(&mut self) {
        self.hot.sandbox.last_activity = Some(self.cx.now);
        self.hot.sandbox.extensions = 0;
    }

    fn set_sandbox_status(&mut self, status: SandboxStatus) {
        self.hot.sandbox_dirty = true;
        if self.hot.sandbox.status != status {
            self.hot.sandbox.status = status;
            self.out.log.push(format!("sandbox {}", status.as_str()));
            self.broadcast(&ServerMessage::SandboxStatus { status });
        }
    }

    /// Starts a sandbox ahead of a prompt, at most once a minute, and only where a prompt could follow.
    pub(crate) fn warm(&mut self) -> Result<(), SqlError> {
        let promptable = self.hot.session.as_ref().is_some_and(|session| session.status.is_promptable());
        let recently = self.sockets.warmed_at.is_some_and(|at| self.cx.now.since(at) < WARM_INTERVAL_MS);
        if !promptable || recently || self.sockets.bridge.is_some() {
            return Ok(());
        }
        self.sockets.warmed_at = Some(self.cx.now);
        let generation = self.hot.sandbox.generation;
        self.ensure_sandbox(false)?;
        if self.hot.sandbox.generation != generation {
            self.broadcast(&ServerMessage::SandboxWarming);
        }
        Ok(())
    }

    /// Sees to it that a sandbox is there, is coming, or that its absence is visible.
    pub(crate) fn ensure_sandbox(&mut self, for_prompt: bool) -> Result<(), SqlError> {
        let now = self.cx.now;
        let sandbox = &mut self.hot.sandbox;
        if sandbox.last_failure_at.is_some_and(|at| now.since(at) >= BREAKER_OPEN_MS) {
            sandbox.failure_count = 0;
        }
        let sandbox = &self.hot.sandbox;
        let parked = sandbox.parked_token_hash.is_some();
        let situation = Situation {
            status: sandbox.status,
            promptable: self.hot.session.as_ref().is_some_and(|session| session.status.is_promptable()),
            parked,
            parking: parked && self.is_parking()?,
            restorable: self.hot.snapshots.held.is_some() && self.cx.config.backend.snapshots,
            backing_off: sandbox.next_spawn_at.is_some_and(|at| at > now),
            breaker_open: sandbox.failure_count >= BREAKER_FAILURES,
        };
        match start_plan::plan(situation) {
            Step::Never | Step::Rely | Step::Wait => Ok(()),
            Step::Expect => {
                if for_prompt {
                    self.tell_spawning();
                }
                Ok(())
            }
            Step::Refuse => {
                let failed_at = self.hot.sandbox.last_failure_at.unwrap_or(now);
                let wait = (BREAKER_OPEN_MS - now.since(failed_at)).max(1_000) / 1_000;
                let error = format!(
                    "Sandbox spawning temporarily disabled after {} failures. Try again in {wait} seconds.",
                    self.hot.sandbox.failure_count
                );
                self.report_spawn_error(&error);
                if for_prompt {
                    self.end_pending(Outcome::Failed, &error)?;
                }
                Ok(())
            }
            Step::Start(source) => {
                self.start_sandbox(source)?;
                if for_prompt {
                    self.tell_spawning();
                }
                Ok(())
            }
        }
    }

    /// Whether the backend is still being asked to stop what is parked.
    fn is_parking(&self) -> Result<bool, SqlError> {
        let rows = self.sql.run(
            "SELECT 1 FROM outbox WHERE dedup_key = ? AND state IN ('waiting', 'running') LIMIT 1",
            params![PARK_KEY],
        )?;
        Ok(!rows.is_empty())
    }

    /// A prompt waits for a sandbox: told once for each start.
    fn tell_spawning(&mut self) {
        if !std::mem::replace(&mut self.hot.spawning_told, true) {
            self.broadcast(&ServerMessage::SandboxSpawning);
        }
    }

    fn report_spawn_error(&mut self, error: &str) {
        self.hot.sandbox.spawn_error = Some(error.to_owned());
        self.hot.sandbox_dirty = true;
        self.broadcast(&ServerMessage::SandboxError { error: error.to_owned() });
    }

    fn start_sandbox(&mut self, source: Source) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let (session_id, model) = (session.session_id.clone(), session.model.clone());
        let environment_id = session.environment.as_ref().map(|environment| environment.id.clone());
        let repositories = load_repositories(self.sql)?;
        let now = self.cx.now;
        // Its successor is not kept from starting by one that may never come.
        self.give_up_late("respawn")?;
        let nonce = hex::encode(self.cx.random_id());
        let generation = self.hot.sandbox.generation + 1;
        let parked = (source == Source::Parked)
            .then(|| self.hot.sandbox.sandbox_id.clone().zip(self.hot.sandbox.provider_object_id.clone()))
            .flatten();
        let held = self.hot.snapshots.held.clone().filter(|_| source == Source::Snapshot);
        let (sandbox_id, token_hash, received, from) = if let Some((sandbox_id, provider_object_id)) = parked {
            let sandbox = &self.hot.sandbox;
            let from = StartFrom::Parked { provider_object_id };
            (sandbox_id, sandbox.parked_token_hash.clone(), sandbox.parked_received, from)
        } else {
            // The generation keeps two starts apart that fall into one millisecond, or into one twice by a clock set back.
            let sandbox_id = match repositories.first() {
                Some(primary) => format!("sandbox-{}-{}-{}-{generation}", primary.repo_owner, primary.repo_name, now.0),
                None => format!("sandbox-{session_id}-{}-{generation}", now.0),
            };
            let token = token::sandbox_token(&self.cx.config.sandbox_token_key, &session_id, generation, &nonce);
            let from = held.as_ref().map_or(StartFrom::Fresh, |held| StartFrom::Snapshot {
                number: held.number,
                image_id: held.image_id.clone(),
            });
            (sandbox_id, Some(token::token_hash(&token)), 0, from)
        };
        let life_seconds = self.hot.life_seconds(self.cx.config);
        let sandbox = &mut self.hot.sandbox;
        sandbox.generation = generation;
        sandbox.sandbox_id = Some(sandbox_id.clone());
        if !matches!(from, StartFrom::Parked { .. }) {
            sandbox.provider_object_id = None;
            sandbox.parked_secrets = None;
            // A restored one runs what is in the snapshot.
            sandbox.runtime_version = held.as_ref().and_then(|held| held.runtime_version.clone());
        }
        sandbox.token_hash = token_hash;
        sandbox.restored_from = held.map(|held| held.number);
        sandbox.created_at = now;
        sandbox.boot_deadline = Some(now.plus(self.cx.config.connect_timeout_ms));
        sandbox.expires_at = Some(now.plus(i64::from(life_seconds) * 1_000));
        // Its predecessor's life says nothing of it.
        sandbox.last_heartbeat = None;
        sandbox.last_activity = None;
        sandbox.disconnected_at = None;
        sandbox.spawn_error = None;
        sandbox.next_spawn_at = None;
        sandbox.access = None;
        sandbox.held_since = None;
        sandbox.extensions = 0;
        self.hot.spawning_told = false;
        self.hot.received = received;
        self.hot.received_dirty = true;
        self.set_sandbox_status(SandboxStatus::Spawning);
        let repositories = repositories.into_iter().map(Into::into).collect();
        let job = Job::StartSandbox(StartSandbox {
            session_id,
            sandbox_id,
            generation,
            nonce,
            repositories,
            environment_id,
            model,
            timeout_seconds: life_seconds,
            from,
        });
        self.enqueue(&job, Some("start_sandbox"))
    }

    /// The backend has started it.
    pub(crate) fn sandbox_started(&mut self, provider_object_id: String, access: Option<Box<SandboxAccess>>) {
        self.hot.sandbox.provider_object_id = Some(provider_object_id);
        if self.hot.sandbox.held_since.take().is_some() {
            self.hot.sandbox.spawn_error = None;
        }
        self.hot.sandbox_dirty = true;
        if self.hot.sandbox.status == SandboxStatus::Spawning {
            self.set_sandbox_status(SandboxStatus::Connecting);
        }
        self.keep_access(access.map(|access| *access));
    }

    /// The backend is down for everybody: the start waits until then, and what waits for it too. `false` when it has
    /// waited long enough.
    pub(crate) fn start_is_held(&mut self, until: UnixMillis, error: &str) -> bool {
        let now = self.cx.now;
        let life_ms = i64::from(self.hot.life_seconds(self.cx.config)) * 1_000;
        let sandbox = &mut self.hot.sandbox;
        if sandbox.status != SandboxStatus::Spawning {
            // An attempt that was not heard of started it: it is there, and the next attempt finds it.
            return true;
        }
        let since = *sandbox.held_since.get_or_insert(now);
        if now.since(since) >= HELD_MAX_MS {
            return false;
        }
        // Its time begins when it is tried again.
        sandbox.created_at = until;
        sandbox.boot_deadline = Some(until.plus(self.cx.config.connect_timeout_ms));
        sandbox.expires_at = Some(until.plus(life_ms));
        let wait = until.since(now).max(1_000) / 1_000;
        self.report_spawn_error(&format!(
            "Sandboxes cannot be started at the moment: {error}. Prompts wait and go on by themselves; the next try is in \
             {wait} seconds."
        ));
        true
    }

    /// The backend cannot start it, or it did not connect. What fails for good is not tried in the same way again.
    pub(crate) fn start_failed(&mut self, generation: i64, error: &str, for_good: bool) -> Result<(), SqlError> {
        self.fail_start(generation, error, for_good, None)
    }

    /// The same; with `late_until` it is let in until then if it comes after all.
    fn fail_start(
        &mut self,
        generation: i64,
        error: &str,
        for_good: bool,
        late_until: Option<UnixMillis>,
    ) -> Result<(), SqlError> {
        if generation != self.hot.sandbox.generation || self.hot.sandbox.status == SandboxStatus::Ready {
            return Ok(());
        }
        // There is another way, whose failures count.
        if let Some(number) = self.hot.sandbox.restored_from.take_if(|_| for_good) {
            self.retire_sandbox(SandboxStatus::Failed, "restore_failed")?;
            self.report_spawn_error(&format!("The sandbox could not be restored: {error}"));
            return self.restore_failed(number);
        }
        match &self.hot.sandbox.parked_token_hash {
            Some(_) if for_good => return self.resume_failed(error),
            // It stays parked.
            Some(_) => self.lock_out(SandboxStatus::Failed)?,
            None if late_until.is_some() => {
                self.hot.sandbox.boot_deadline = None;
                self.hot.sandbox.failed_until = late_until;
                self.set_sandbox_status(SandboxStatus::Failed);
            }
            None => self.retire_sandbox(SandboxStatus::Failed, "start_failed")?,
        }
        self.count_failure(&format!("The sandbox could not be started: {error}"))
    }

    /// A start failed for lasting reasons: the next is tried later, until the budget is used up and what waits fails.
    fn count_failure(&mut self, sentence: &str) -> Result<(), SqlError> {
        let now = self.cx.now;
        let sandbox = &mut self.hot.sandbox;
        sandbox.failure_count += 1;
        sandbox.last_failure_at = Some(now);
        let failures = sandbox.failure_count;
        if failures < START_BUDGET {
            sandbox.next_spawn_at = Some(now.plus(2_000 << failures.clamp(0, 6)));
        }
        self.report_spawn_error(sentence);
        if failures >= START_BUDGET && self.hot.pending > 0 {
            self.end_pending(Outcome::Failed, sentence)?;
        }
        Ok(())
    }

    /// One that did not connect in time is waited for no longer.
    pub(crate) fn give_up_late(&mut self, reason: &str) -> Result<(), SqlError> {
        if self.hot.sandbox.failed_until.is_none() {
            return Ok(());
        }
        let stop = self.stop_of_sandbox(reason);
        self.lock_out(SandboxStatus::Failed)?;
        match stop {
            Some(stop) => self.enqueue(&Job::StopSandbox(stop), None),
            None => Ok(()),
        }
    }

    /// A sandbox that boots says something: it is waited for, up to the hard limit.
    pub(crate) fn show_life(&mut self) {
        let sandbox = &mut self.hot.sandbox;
        let hard = sandbox.created_at.plus(self.cx.config.connect_hard_timeout_ms);
        let until = self.cx.now.plus(self.cx.config.connect_timeout_ms).min(hard);
        let boots = matches!(sandbox.status, SandboxStatus::Spawning | SandboxStatus::Connecting);
        if boots && sandbox.boot_deadline.is_some_and(|at| at < until) {
            sandbox.boot_deadline = Some(until);
            self.hot.sandbox_dirty = true;
        }
    }

    /// The sandbox says that it cannot come up, or cannot go on. There is nothing to wait for.
    pub(crate) fn sandbox_broke(&mut self, error: &str) -> Result<(), SqlError> {
        let sandbox = &self.hot.sandbox;
        match sandbox.status {
            SandboxStatus::Spawning | SandboxStatus::Connecting => {
                self.start_failed(sandbox.generation, error, true)?;
                self.dispatch()
            }
            SandboxStatus::Ready if sandbox.boot_deadline.is_some() => self.boot_failed(error),
            SandboxStatus::Failed => {
                self.give_up_late("boot_failed")?;
                self.report_spawn_error(&format!("The sandbox could not be started: {error}"));
                Ok(())
            }
            status if status.is_dead() => Ok(()),
            _ => self.lose_sandbox(SandboxStatus::Failed, "fatal_error", &format!("The sandbox failed: {error}")),
        }
    }

    /// It is connected and does not come up.
    fn boot_failed(&mut self, error: &str) -> Result<(), SqlError> {
        let sentence = format!("The sandbox could not be started: {error}");
        let restored = self.hot.sandbox.restored_from;
        self.end_running(Outcome::Failed, &sentence)?;
        self.retire_sandbox(SandboxStatus::Failed, "boot_failed")?;
        match restored {
            // There is another way, whose failures count.
            Some(number) => {
                self.report_spawn_error(&sentence);
                self.restore_failed(number)?;
            }
            None => self.count_failure(&sentence)?,
        }
        self.dispatch()
    }

    /// A stopped sandbox does not go on. It is deleted once its successor is up: what it holds is the only copy.
    fn resume_failed(&mut self, error: &str) -> Result<(), SqlError> {
        self.hot.sandbox.parked_token_hash = None;
        self.hot.sandbox.replaced = self.stop_of_sandbox(RESPAWN);
        // It may have come up all the same; what it holds stays.
        let stop = self.stop_of_sandbox("resume_failed");
        self.lock_out(SandboxStatus::Failed)?;
        if let Some(stop) = stop {
            self.enqueue(&Job::StopSandbox(stop), None)?;
        }
        self.report_spawn_error(&format!("The stopped sandbox could not go on: {error}"));
        let message = "The stopped sandbox could not go on. The session continues in another one.".to_owned();
        self.broadcast(&ServerMessage::SandboxWarning { message });
        Ok(())
    }

    /// Nothing goes on any more: what is stopped and could is deleted.
    pub(crate) fn discard_parked(&mut self) -> Result<(), SqlError> {
        self.hot.sandbox_dirty = true;
        if self.hot.sandbox.parked_token_hash.take().is_some()
            && let Some(stop) = self.stop_of_sandbox(RESPAWN)
        {
            self.enqueue(&Job::StopSandbox(stop), None)?;
        }
        self.delete_replaced()
    }

    /// What was left for a successor is needed no longer.
    fn delete_replaced(&mut self) -> Result<(), SqlError> {
        match self.hot.sandbox.replaced.take() {
            Some(stop) => self.enqueue(&Job::StopSandbox(stop), None),
            None => Ok(()),
        }
    }

    /// One of which nobody knows whether it has stopped does not go on: its agent may still be at work.
    pub(crate) fn stop_given_up(&mut self, stop: &StopSandbox) {
        let sandbox = &mut self.hot.sandbox;
        if sandbox.sandbox_id.as_ref() == Some(&stop.sandbox_id) && sandbox.parked_token_hash.take().is_some() {
            sandbox.replaced = Some(StopSandbox { reason: RESPAWN.to_owned(), ..stop.clone() });
            self.hot.sandbox_dirty = true;
        }
    }

    fn stop_of_sandbox(&self, reason: &str) -> Option<StopSandbox> {
        self.hot.session.as_ref().zip(self.hot.sandbox.sandbox_id.clone()).map(|(session, sandbox_id)| StopSandbox {
            session_id: session.session_id.clone(),
            sandbox_id,
            provider_object_id: self.hot.sandbox.provider_object_id.clone(),
            generation: self.hot.sandbox.generation,
            reason: reason.to_owned(),
        })
    }

    /// Nobody of it may act any more.
    fn lock_out(&mut self, status: SandboxStatus) -> Result<(), SqlError> {
        self.abandon_snapshot()?;
        self.hot.sandbox.generation += 1;
        self.hot.sandbox.token_hash = None;
        self.hot.sandbox.boot_deadline = None;
        self.hot.sandbox.disconnected_at = None;
        self.hot.sandbox.expires_at = None;
        self.hot.sandbox.restored_from = None;
        self.hot.sandbox.failed_until = None;
        self.hot.sandbox.held_since = None;
        self.clear_access();
        self.hot.received = 0;
        self.hot.received_dirty = true;
        self.set_sandbox_status(status);
        self.clear_stopping()
    }

    /// Takes the sandbox out of action: a new generation locks it out, a job stops it at the backend. One that was up
    /// and may go on later is parked.
    pub(crate) fn retire_sandbox(&mut self, status: SandboxStatus, reason: &str) -> Result<(), SqlError> {
        if let Some(bridge) = self.sockets.bridge {
            self.command(&SandboxCommand::Shutdown);
            let (code, text) = match reason {
                "stop_confirmation_timeout" => (close::INTERNAL, "Stop confirmation timed out"),
                "heartbeat_timeout" => (close::NORMAL, "Heartbeat stale"),
                "inactivity_timeout" => (close::NORMAL, "Inactivity timeout"),
                _ => (close::NORMAL, "Sandbox terminated"),
            };
            self.close(bridge, code, text);
        }
        let stop = self.stop_of_sandbox(reason).map(Job::StopSandbox);
        let was_alive = !self.hot.sandbox.status.is_dead() && self.hot.sandbox.status != SandboxStatus::Pending;
        let sandbox = &mut self.hot.sandbox;
        let parks = self.cx.config.backend.resumes
            && sandbox.status == SandboxStatus::Ready
            && sandbox.provider_object_id.is_some()
            && matches!(status, SandboxStatus::Stopped | SandboxStatus::Stale);
        sandbox.parked_token_hash = sandbox.token_hash.clone().filter(|_| parks);
        sandbox.parked_received = if parks { self.hot.received } else { 0 };
        self.lock_out(status)?;
        if let (true, Some(stop)) = (was_alive, stop) {
            self.enqueue(&stop, parks.then_some(PARK_KEY))?;
        }
        Ok(())
    }

    /// The sandbox is lost while it should live: what runs fails visibly, what waits gets another.
    pub(crate) fn lose_sandbox(&mut self, status: SandboxStatus, reason: &str, error: &str) -> Result<(), SqlError> {
        self.end_running(Outcome::Failed, error)?;
        self.broadcast(&ServerMessage::SandboxWarning { message: error.to_owned() });
        if status == SandboxStatus::Failed {
            self.retire_sandbox(status, reason)?;
        } else {
            self.put_away(status, reason)?;
        }
        self.dispatch()
    }

    /// Whether it takes no prompt any more.
    pub(crate) fn life_is_over(&self) -> bool {
        life_deadline(self.hot, self.cx.config).is_some_and(|at| at <= self.cx.now)
    }

    /// Its time is over: what runs is stopped first.
    pub(crate) fn end_life(&mut self) -> Result<(), SqlError> {
        if self.hot.running.is_some() {
            let error =
                "The sandbox reached its time limit. Its work is kept where the backend can; send the prompt again.";
            return self.stop_running(Outcome::TimedOut, error);
        }
        self.put_away(SandboxStatus::Stopped, "time_limit")
    }

    /// A bridge asks to connect.
    pub(crate) fn sandbox_upgrade(&mut self, socket: SocketId, upgrade: &SandboxUpgrade) -> Result<(), SqlError> {
        let sandbox = &self.hot.sandbox;
        let reject = |status: u16, body: &str| Some(UpgradeAnswer::Reject { status, body: body.to_owned() });
        if !self.may_return() {
            self.out.upgrade = reject(410, "Sandbox is stopped");
            return Ok(());
        }
        if sandbox.sandbox_id.as_deref().is_some_and(|id| id != upgrade.sandbox_id) {
            self.out.upgrade = reject(403, "Forbidden: Wrong sandbox ID");
            return Ok(());
        }
        if !sandbox.token_hash.as_deref().is_some_and(|hash| token::matches_hash(&upgrade.token, hash)) {
            self.out.upgrade = reject(401, "Unauthorized: Invalid auth token");
            return Ok(());
        }
        let (generation, dialect) = (sandbox.generation, upgrade.dialect.clamp(1, 2));
        self.out.upgrade = Some(UpgradeAnswer::Accept);
        let older: Vec<SocketId> = self
            .sockets
            .roles
            .iter()
            .filter(|(_, role)| matches!(role, Role::Sandbox { .. }))
            .map(|(id, _)| *id)
            .collect();
        for old in older {
            self.close(old, close::NORMAL, "New sandbox connecting");
        }
        self.set_role(socket, Role::Sandbox { generation, dialect });
        self.sockets.bridge = Some(socket);
        let now = self.cx.now;
        let hard = self.cx.config.connect_hard_timeout_ms;
        let sandbox = &mut self.hot.sandbox;
        // A dialect 2 bridge dials out before it has booted; `ready` says that it has.
        sandbox.boot_deadline = match sandbox.status {
            _ if dialect < 2 => None,
            SandboxStatus::Ready => sandbox.boot_deadline,
            _ => Some(sandbox.created_at.plus(hard)),
        };
        sandbox.dialect = dialect;
        sandbox.last_heartbeat = Some(now);
        self.hot.heard = true;
        let sandbox = &mut self.hot.sandbox;
        sandbox.last_activity = Some(now);
        sandbox.disconnected_at = None;
        sandbox.spawn_error = None;
        sandbox.extensions = 0;
        sandbox.failed_until = None;
        sandbox.parked_token_hash = None;
        let (boots, is_news) = (sandbox.boot_deadline.is_some(), sandbox.status != SandboxStatus::Ready);
        self.set_sandbox_status(SandboxStatus::Ready);
        if is_news {
            self.publish_access();
        }
        if !boots {
            self.start_succeeded()?;
        }
        self.greet_bridge()?;
        self.dispatch()
    }

    /// Tells the bridge where the session is: on connect, and after the core was rebuilt.
    pub(crate) fn greet_bridge(&mut self) -> Result<(), SqlError> {
        if self.hot.sandbox.dialect >= 2 {
            self.say_hello();
            self.send_running_prompt()?;
            self.tell_of_questions()?;
        }
        if self.hot.stopping.is_some() {
            self.command(&SandboxCommand::Stop);
        }
        self.resend_pushes()
    }

    /// The bridge's socket is gone. The sandbox is waited for.
    pub(crate) fn bridge_lost(&mut self) {
        if !self.hot.sandbox.status.is_dead() {
            self.hot.sandbox.disconnected_at = Some(self.cx.now);
            self.hot.sandbox_dirty = true;
        }
        if let Some(running) = &mut self.hot.running {
            running.repeat_at = None;
        }
    }

    /// The sandbox is up: its boot is not waited for any more.
    pub(crate) fn boot_finished(&mut self) -> Result<(), SqlError> {
        match self.hot.sandbox.boot_deadline.take() {
            Some(_) => self.start_succeeded(),
            None => Ok(()),
        }
    }

    /// Only now is anything discarded that would be needed if it had not come up.
    fn start_succeeded(&mut self) -> Result<(), SqlError> {
        let sandbox = &mut self.hot.sandbox;
        sandbox.failure_count = 0;
        sandbox.last_failure_at = None;
        self.hot.sandbox_dirty = true;
        if let Some(number) = self.hot.sandbox.restored_from.take() {
            self.restore_succeeded(number)?;
        }
        self.delete_replaced()
    }

    /// The sandbox did not connect in time, or connected and did not come up.
    pub(crate) fn boot_timed_out(&mut self) -> Result<(), SqlError> {
        if self.hot.sandbox.status == SandboxStatus::Ready {
            return self.boot_failed("it did not finish starting within the allowed time");
        }
        // Where there is another way, that way is taken; and of one that the backend has not answered for, nobody knows
        // whether it is there.
        let sandbox = &self.hot.sandbox;
        let alone = sandbox.restored_from.is_none() && sandbox.parked_token_hash.is_none();
        let hard = sandbox.created_at.plus(self.cx.config.connect_hard_timeout_ms);
        let until = self.cx.now.plus(LATE_MS).min(hard);
        let late_until = Some(until).filter(|at| alone && sandbox.provider_object_id.is_some() && *at > self.cx.now);
        self.fail_start(sandbox.generation, "it did not connect within the allowed time", true, late_until)
    }

    /// Whether the sandbox may act at all: it was not put away, and is not one that failed too long ago.
    pub(crate) fn may_return(&self) -> bool {
        match self.hot.sandbox.status {
            SandboxStatus::Stopped | SandboxStatus::Stale => false,
            SandboxStatus::Failed => self.hot.sandbox.failed_until.is_some_and(|until| self.cx.now < until),
            _ => true,
        }
    }

    /// Whether `token` is the current sandbox's, which alone may act.
    pub(crate) fn check_sandbox_token(&self, token: &str) -> Result<(), (u16, ErrorCode, &'static str)> {
        let sandbox = &self.hot.sandbox;
        if !self.may_return() {
            return Err((410, ErrorCode::SandboxGone, "Sandbox not active"));
        }
        if sandbox.token_hash.as_deref().is_some_and(|hash| token::matches_hash(token, hash)) {
            Ok(())
        } else {
            Err((401, ErrorCode::Unauthorized, "Unauthorized: Invalid sandbox token"))
        }
    }

    /// When silence or disconnection makes the sandbox stale.
    pub(crate) fn stale_deadline(&self) -> Option<UnixMillis> {
        stale_deadline(self.hot)
    }
}

/// When silence or disconnection makes the sandbox stale. However often the object wakes, both come to an end.
pub(crate) fn stale_deadline(hot: &crate::core::Hot) -> Option<UnixMillis> {
    // Its files are waited for in any case.
    if hot.sandbox.status != SandboxStatus::Ready || hot.snapshots.taking.is_some() {
        return None;
    }
    if let Some(at) = hot.sandbox.disconnected_at {
        // After an outage of ours the bridge gets time to come back.
        return Some(at.plus(STALE_MS).max(hot.woke_at.plus(STALE_MS / 3).min(at.plus(OUTAGE_MAX_MS))));
    }
    // Beats that came after the last one that was written went with the memory.
    let unwritten = if hot.heard { 0 } else { crate::core::HEARTBEAT_SAVE_MS };
    Some(hot.sandbox.last_heartbeat.unwrap_or(hot.sandbox.created_at).plus(STALE_MS + unwritten))
}

/// When the sandbox must be put away so that its backend is not the first to end it.
pub(crate) fn life_deadline(hot: &crate::core::Hot, config: &crate::clock::Config) -> Option<UnixMillis> {
    // A stop of what runs has a deadline of its own.
    let lives = hot.sandbox.status == SandboxStatus::Ready && hot.snapshots.taking.is_none() && hot.stopping.is_none();
    let life = i64::from(hot.life_seconds(config)) * 1_000;
    hot.sandbox.expires_at.filter(|_| lives).map(|at| at.plus(-RESERVE_MAX_MS.min(life / 4)))
}
