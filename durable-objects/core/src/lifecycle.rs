//! The sandbox's life: start, connect, lose, stop. Each start and each stop takes a new generation, and only the
//! holder of the current one is listened to.

use oi_protocol::ErrorCode;
use oi_protocol::UnixMillis;
use oi_protocol::client_socket::{ServerMessage, close};
use oi_protocol::event::Outcome;
use oi_protocol::sandbox_socket::SandboxCommand;
use oi_protocol::session_state::SandboxStatus;

use crate::core::Turn;
use crate::input::{SandboxUpgrade, SocketId, UpgradeAnswer};
use crate::job::{Job, StartSandbox, StopSandbox};
use crate::session_row::load_repositories;
use crate::sockets::Role;
use crate::sql::SqlError;
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
/// Life of a sandbox, in seconds, when no setting says otherwise.
const SANDBOX_TIMEOUT_SECONDS: u32 = 7_200;
/// Least time between two warms of a session, in ms.
const WARM_INTERVAL_MS: i64 = 60_000;

impl Turn<'_, '_> {
    pub(crate) fn touch_activity(&mut self) {
        self.hot.sandbox.last_activity = Some(self.cx.now);
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
        match self.hot.sandbox.status {
            // It comes; its deadline is watched.
            SandboxStatus::Spawning | SandboxStatus::Connecting => {
                if for_prompt {
                    self.tell_spawning();
                }
                return Ok(());
            }
            // It is there, or its socket is lost and it is waited for before anything is discarded.
            SandboxStatus::Ready
            | SandboxStatus::Running
            | SandboxStatus::Warming
            | SandboxStatus::Syncing
            | SandboxStatus::Snapshotting => return Ok(()),
            SandboxStatus::Pending | SandboxStatus::Stale | SandboxStatus::Stopped | SandboxStatus::Failed => {}
        }
        let sandbox = &mut self.hot.sandbox;
        if sandbox.last_failure_at.is_some_and(|at| now.since(at) >= BREAKER_OPEN_MS) {
            sandbox.failure_count = 0;
        }
        if sandbox.next_spawn_at.is_some_and(|at| at > now) {
            return Ok(());
        }
        if sandbox.failure_count >= BREAKER_FAILURES {
            let failed_at = sandbox.last_failure_at.unwrap_or(now);
            let wait = (BREAKER_OPEN_MS - now.since(failed_at)).max(1_000) / 1_000;
            let error = format!(
                "Sandbox spawning temporarily disabled after {} failures. Try again in {wait} seconds.",
                sandbox.failure_count
            );
            self.report_spawn_error(&error);
            if for_prompt {
                self.end_pending(Outcome::Failed, &error)?;
            }
            return Ok(());
        }
        self.start_sandbox()?;
        if for_prompt {
            self.tell_spawning();
        }
        Ok(())
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

    fn start_sandbox(&mut self) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let (session_id, model) = (session.session_id.clone(), session.model.clone());
        let repositories = load_repositories(self.sql)?;
        let now = self.cx.now;
        let nonce = hex::encode(self.cx.random_id());
        let generation = self.hot.sandbox.generation + 1;
        // The generation keeps two starts apart that fall into one millisecond, or into one twice by a clock set back.
        let sandbox_id = match repositories.first() {
            Some(primary) => format!("sandbox-{}-{}-{}-{generation}", primary.repo_owner, primary.repo_name, now.0),
            None => format!("sandbox-{session_id}-{}-{generation}", now.0),
        };
        let token = token::sandbox_token(&self.cx.config.sandbox_token_key, &session_id, generation, &nonce);
        let sandbox = &mut self.hot.sandbox;
        sandbox.generation = generation;
        sandbox.sandbox_id = Some(sandbox_id.clone());
        sandbox.provider_object_id = None;
        sandbox.token_hash = Some(token::token_hash(&token));
        sandbox.runtime_version = None;
        sandbox.created_at = now;
        sandbox.boot_deadline = Some(now.plus(self.cx.config.connect_timeout_ms));
        // Its predecessor's life says nothing of it.
        sandbox.last_heartbeat = None;
        sandbox.last_activity = None;
        sandbox.disconnected_at = None;
        sandbox.spawn_error = None;
        sandbox.next_spawn_at = None;
        self.hot.spawning_told = false;
        self.hot.received = 0;
        self.hot.received_dirty = true;
        self.set_sandbox_status(SandboxStatus::Spawning);
        let repositories = repositories.into_iter().map(Into::into).collect();
        let job = Job::StartSandbox(StartSandbox {
            session_id,
            sandbox_id,
            generation,
            nonce,
            repositories,
            model,
            timeout_seconds: SANDBOX_TIMEOUT_SECONDS,
        });
        self.enqueue(&job, Some("start_sandbox"))
    }

    /// The backend has started it.
    pub(crate) fn sandbox_started(&mut self, provider_object_id: String) -> Result<(), SqlError> {
        self.hot.sandbox.provider_object_id = Some(provider_object_id);
        self.hot.sandbox_dirty = true;
        if self.hot.sandbox.status == SandboxStatus::Spawning {
            self.set_sandbox_status(SandboxStatus::Connecting);
        }
        Ok(())
    }

    /// The backend cannot start it, or it did not connect.
    pub(crate) fn start_failed(&mut self, generation: i64, error: &str) -> Result<(), SqlError> {
        if generation != self.hot.sandbox.generation || self.hot.sandbox.status == SandboxStatus::Ready {
            return Ok(());
        }
        self.retire_sandbox(SandboxStatus::Failed, "start_failed")?;
        let now = self.cx.now;
        let sandbox = &mut self.hot.sandbox;
        sandbox.failure_count += 1;
        sandbox.last_failure_at = Some(now);
        let failures = sandbox.failure_count;
        if failures < START_BUDGET {
            sandbox.next_spawn_at = Some(now.plus(2_000 << failures.clamp(0, 6)));
        }
        self.report_spawn_error(&format!("The sandbox could not be started: {error}"));
        if failures >= START_BUDGET && self.hot.pending > 0 {
            self.end_pending(Outcome::Failed, &format!("The sandbox could not be started: {error}"))?;
        }
        Ok(())
    }

    /// Takes the sandbox out of action: a new generation locks it out, a job stops it at the backend.
    pub(crate) fn retire_sandbox(&mut self, status: SandboxStatus, reason: &str) -> Result<(), SqlError> {
        if let Some(bridge) = self.sockets.bridge {
            self.command(&SandboxCommand::Shutdown);
            self.close(bridge, close::NORMAL, "Sandbox terminated");
        }
        let stop = self.hot.session.as_ref().zip(self.hot.sandbox.sandbox_id.clone()).map(|(session, sandbox_id)| {
            Job::StopSandbox(StopSandbox {
                session_id: session.session_id.clone(),
                sandbox_id,
                provider_object_id: self.hot.sandbox.provider_object_id.clone(),
                generation: self.hot.sandbox.generation,
                reason: reason.to_owned(),
            })
        });
        let was_alive = !self.hot.sandbox.status.is_dead() && self.hot.sandbox.status != SandboxStatus::Pending;
        self.hot.sandbox.generation += 1;
        self.hot.sandbox.token_hash = None;
        self.hot.sandbox.boot_deadline = None;
        self.hot.sandbox.disconnected_at = None;
        self.hot.received = 0;
        self.hot.received_dirty = true;
        self.set_sandbox_status(status);
        if let (true, Some(stop)) = (was_alive, stop) {
            self.enqueue(&stop, None)?;
        }
        self.clear_stopping()
    }

    /// The sandbox is lost while it should live: what runs fails visibly, what waits gets another.
    pub(crate) fn lose_sandbox(&mut self, status: SandboxStatus, reason: &str, error: &str) -> Result<(), SqlError> {
        self.end_running(Outcome::Failed, error)?;
        self.retire_sandbox(status, reason)?;
        self.broadcast(&ServerMessage::SandboxWarning { message: error.to_owned() });
        self.dispatch()
    }

    /// A bridge asks to connect.
    pub(crate) fn sandbox_upgrade(&mut self, socket: SocketId, upgrade: &SandboxUpgrade) -> Result<(), SqlError> {
        let sandbox = &self.hot.sandbox;
        let reject = |status: u16, body: &str| Some(UpgradeAnswer::Reject { status, body: body.to_owned() });
        if matches!(sandbox.status, SandboxStatus::Stopped | SandboxStatus::Stale) {
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
        sandbox.failure_count = 0;
        sandbox.last_failure_at = None;
        self.set_sandbox_status(SandboxStatus::Ready);
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
    pub(crate) fn boot_finished(&mut self) {
        if self.hot.sandbox.boot_deadline.take().is_some() {
            self.hot.sandbox_dirty = true;
        }
    }

    /// The sandbox did not connect in time, or connected and did not come up.
    pub(crate) fn boot_timed_out(&mut self) -> Result<(), SqlError> {
        if self.hot.sandbox.status == SandboxStatus::Ready {
            let error = "The sandbox did not finish starting within the allowed time.";
            return self.lose_sandbox(SandboxStatus::Failed, "boot_timeout", error);
        }
        self.start_failed(self.hot.sandbox.generation, "it did not connect within the allowed time")
    }

    /// Whether `token` is the current sandbox's, which alone may act.
    pub(crate) fn check_sandbox_token(&self, token: &str) -> Result<(), (u16, ErrorCode, &'static str)> {
        let sandbox = &self.hot.sandbox;
        if matches!(sandbox.status, SandboxStatus::Stopped | SandboxStatus::Stale) {
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
    if hot.sandbox.status != SandboxStatus::Ready {
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
