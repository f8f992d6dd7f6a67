//! Durable deadlines. Each is derived from the state that it guards, so that none can be forgotten, doubled or left
//! over: the alarm is at the earliest, and when it fires everything that is due is looked at.

use oi_protocol::UnixMillis;
use oi_protocol::client_socket::{ServerMessage, close};
use oi_protocol::event::Outcome;
use oi_protocol::session_state::SandboxStatus;

use crate::core::{Hot, Turn};
use crate::lifecycle::{life_deadline, stale_deadline};
use crate::sockets::{Role, Sockets};
use crate::sql::SqlError;

/// An idle sandbox with somebody at the page is kept this much longer at a time, in ms.
const WATCHED_EXTENSION_MS: i64 = 300_000;
/// Times that people who only watch keep a sandbox.
const WATCHED_EXTENSIONS: i64 = 6;

fn idle_deadline(hot: &Hot, config: &crate::clock::Config) -> Option<UnixMillis> {
    let idle = hot.sandbox.status == SandboxStatus::Ready
        && hot.snapshots.taking.is_none()
        && hot.running.is_none()
        && hot.pending == 0;
    idle.then(|| {
        let sandbox = &hot.sandbox;
        let kept = config.inactivity_timeout_ms + sandbox.extensions * WATCHED_EXTENSION_MS;
        sandbox.last_activity.unwrap_or(hot.woke_at).max(sandbox.created_at).plus(kept)
    })
}

/// The earliest deadline.
pub(crate) fn earliest(hot: &Hot, sockets: &Sockets, config: &crate::clock::Config) -> Option<UnixMillis> {
    [
        sockets.subscribe_deadline(),
        sockets.token_deadline(),
        boot_deadline(hot),
        stale_deadline(hot),
        execution_deadline(hot, config),
        hot.running.as_ref().and_then(|running| running.repeat_at),
        stop_deadline(hot),
        life_deadline(hot, config),
        idle_deadline(hot, config),
        hot.sandbox.failed_until,
        hot.sandbox.next_spawn_at.filter(|_| hot.pending > 0 && hot.sandbox.status.is_dead()),
        hot.outbox_next,
        hot.operations_next,
        hot.questions.next_expiry,
        // Nothing is left to do outside: the storage goes, at the latest when the alarm fires.
        hot.family.deleting_since.filter(|_| hot.outbox_next.is_none()),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// When a stop that is not confirmed makes the sandbox lost, unless it is on its way out already.
fn stop_deadline(hot: &Hot) -> Option<UnixMillis> {
    hot.stopping.as_ref().map(|(_, deadline)| *deadline).filter(|_| !hot.snapshots.is_leaving())
}

/// When the running prompt has run too long. The time in which its agent waits for a person does not count.
fn execution_deadline(hot: &Hot, config: &crate::clock::Config) -> Option<UnixMillis> {
    let running = hot.running.as_ref().filter(|running| running.asking_since.is_none())?;
    Some(running.started_at.plus(hot.execution_timeout_ms(config) + running.asked_ms))
}

fn boot_deadline(hot: &Hot) -> Option<UnixMillis> {
    matches!(hot.sandbox.status, SandboxStatus::Spawning | SandboxStatus::Connecting | SandboxStatus::Ready)
        .then_some(hot.sandbox.boot_deadline)
        .flatten()
}

impl Turn<'_, '_> {
    /// Looks at every deadline. Harmless when nothing is due, when it comes late and when it comes twice.
    pub(crate) fn alarm(&mut self) -> Result<(), SqlError> {
        let now = self.cx.now;
        let due = |deadline: Option<UnixMillis>| deadline.is_some_and(|at| at <= now);
        self.close_unsubscribed();
        self.close_expired();
        if due(stop_deadline(self.hot)) {
            self.lose_sandbox(
                SandboxStatus::Stale,
                "stop_confirmation_timeout",
                "The sandbox did not confirm the stop and was replaced.",
            )?;
        }
        if due(execution_deadline(self.hot, self.cx.config)) {
            self.stop_running(Outcome::TimedOut, "Execution timed out (stuck processing)")?;
        }
        if due(self.hot.running.as_ref().and_then(|running| running.repeat_at)) {
            self.send_running_prompt()?;
        }
        if due(boot_deadline(self.hot)) {
            self.boot_timed_out()?;
        }
        if due(self.hot.sandbox.failed_until) {
            self.give_up_late("connecting_timeout")?;
        }
        if due(self.stale_deadline()) {
            self.lose_sandbox(
                SandboxStatus::Stale,
                "heartbeat_timeout",
                "The sandbox stopped answering. Unpushed work in it may be lost.",
            )?;
        }
        if self.life_is_over() {
            self.end_life()?;
        }
        if due(idle_deadline(self.hot, self.cx.config)) {
            self.stop_idle()?;
        }
        self.expire_operations()?;
        self.expire_questions()?;
        self.dispatch()
    }

    fn stop_idle(&mut self) -> Result<(), SqlError> {
        let watched = self
            .sockets
            .subscribers()
            .any(|(_, subscriber)| subscriber.active && self.cx.now.since(subscriber.last_seen) < WATCHED_EXTENSION_MS);
        if watched && self.hot.sandbox.extensions < WATCHED_EXTENSIONS {
            self.hot.sandbox.extensions += 1;
            self.hot.sandbox_dirty = true;
            if self.hot.sandbox.extensions == WATCHED_EXTENSIONS {
                let message = "Sandbox will stop in 5 minutes due to inactivity. Send a message to keep it alive.";
                self.broadcast(&ServerMessage::SandboxWarning { message: message.to_owned() });
            }
            return Ok(());
        }
        self.put_away(SandboxStatus::Stopped, "inactivity_timeout")
    }

    /// Pages whose token has ended: they get a new one, if the person is still let in.
    fn close_expired(&mut self) {
        let now = self.cx.now;
        let ended: Vec<_> =
            self.sockets.subscribers().filter(|(_, s)| s.token_has_ended(now)).map(|(id, _)| id).collect();
        for socket in ended {
            self.close(socket, close::EXPIRED, "Session expired, please reconnect");
        }
    }

    fn close_unsubscribed(&mut self) {
        let now = self.cx.now;
        let late: Vec<_> = self
            .sockets
            .roles
            .iter()
            .filter(|(_, role)| match role {
                Role::Client { opened_at, subscriber: None } => {
                    opened_at.plus(crate::sockets::SUBSCRIBE_WITHIN_MS) <= now
                }
                _ => false,
            })
            .map(|(socket, _)| *socket)
            .collect();
        for socket in late {
            self.close(socket, close::AUTH_TIMEOUT, "Authentication timeout");
        }
    }
}
