//! One input: a transaction around the core, then its outputs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oi_protocol::ErrorCode;
use oi_protocol::sandbox_socket::SandboxFrame;
use oi_session::call::{CallReply, SessionCall};
use oi_session::clock::Cx;
use oi_session::core::{SessionCore, Streamed};
use oi_session::gather::{Commits, Held};
use oi_session::input::{Input, Outputs, SocketId, UpgradeAnswer};
use std::rc::Rc;
use worker::console_error;

use crate::storage::TransactionError;
use crate::{Effects, Inner, alarm, jobs, now, sockets};

/// The input had no effect; the core was rebuilt.
pub(crate) struct Faulted;

fn fill_random(bytes: &mut [u8]) {
    // The platform's generator does not fail; a session with a guessable token would be worse than one that stops.
    #[expect(clippy::expect_used, reason = "crypto.getRandomValues is always there in a Worker")]
    getrandom::fill(bytes).expect("crypto.getRandomValues is there");
}

impl<E: Effects> Inner<E> {
    /// Takes one input, after the frames that arrived before it. Its outputs are carried out before this returns; an
    /// upgrade's answer is returned.
    pub fn commit(self: &Rc<Self>, input: Input<'_>) -> Result<Option<UpgradeAnswer>, Faulted> {
        self.flush_gather();
        self.wake()?;
        let outputs = self.transact(input)?;
        Ok(self.carry_out(outputs))
    }

    /// Builds the core when there is none, and tells it which sockets outlived its predecessor.
    pub fn wake(self: &Rc<Self>) -> Result<(), Faulted> {
        if self.core.borrow().is_some() {
            return Ok(());
        }
        *self.core.borrow_mut() = Some(SessionCore::new());
        self.armed.set(None);
        let sockets = self.sockets.borrow_mut().rebuild(&self.state);
        let outputs = self.transact(Input::Woken { sockets })?;
        self.carry_out(outputs);
        Ok(())
    }

    fn transact(self: &Rc<Self>, input: Input<'_>) -> Result<Outputs, Faulted> {
        let Some(mut core) = self.core.borrow_mut().take() else { return Err(Faulted) };
        let mut input = Some(input);
        let mut rng = fill_random;
        let result = self.transactions.run(|| {
            let Some(input) = input.take() else { return Err("an input is taken once".to_owned()) };
            let mut cx = Cx { now: now(), rng: &mut rng, config: &self.config };
            match catch_unwind(AssertUnwindSafe(|| core.commit(&self.sql, &mut cx, input))) {
                Ok(Ok(outputs)) => Ok(outputs),
                Ok(Err(fault)) => Err(fault.to_string()),
                Err(_) => Err("panic".to_owned()),
            }
        });
        match result {
            Ok(outputs) => {
                *self.core.borrow_mut() = Some(core);
                Ok(outputs)
            }
            Err(TransactionError::Body(reason) | TransactionError::Storage(reason)) => {
                drop(core);
                self.faulted(&reason);
                Err(Faulted)
            }
        }
    }

    /// The memory of the core is gone: who waits in it is told to ask again.
    fn faulted(&self, reason: &str) {
        console_error!("{{\"level\":\"error\",\"event\":\"session.fault\",\"reason\":{}}}", json(reason));
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters.into_values() {
            let _ = waiter.send(CallReply::refuse(500, ErrorCode::Internal, "The request failed on our side."));
        }
    }

    /// Answers a call that writes nothing, or gives `None`.
    pub fn read(self: &Rc<Self>, call: &SessionCall) -> Result<Option<CallReply>, Faulted> {
        self.flush_gather();
        self.wake()?;
        let Some(mut core) = self.core.borrow_mut().take() else { return Err(Faulted) };
        match catch_unwind(AssertUnwindSafe(|| core.read(&self.sql, now(), call))) {
            Ok(Ok(reply)) => {
                *self.core.borrow_mut() = Some(core);
                Ok(reply)
            }
            Ok(Err(fault)) => {
                self.faulted(&fault.to_string());
                Err(Faulted)
            }
            Err(_) => {
                self.faulted("panic");
                Err(Faulted)
            }
        }
    }

    /// Takes a bridge's frame and the text that it was read from: in memory where that is enough, else with those that
    /// arrive together with it.
    pub fn sandbox_frame(self: &Rc<Self>, socket: SocketId, frame: SandboxFrame, text: String) {
        if !self.gather.borrow().fits(socket) {
            self.flush_gather();
        }
        let nothing_waits = self.gather.borrow().is_empty();
        let frame = if nothing_waits { Committer(self).stream(socket, frame) } else { Some(frame) };
        let Some(frame) = frame else { return };
        let held = self.gather.borrow_mut().push(socket, frame, text);
        match held {
            Held::First => alarm::schedule_gather(self),
            Held::More => {}
            Held::Full => self.flush_gather(),
        }
    }

    /// Commits the frames that are held.
    pub fn flush_gather(self: &Rc<Self>) {
        let group = self.gather.borrow_mut().take();
        if let Some(mut group) = group {
            group.flush(&mut Committer(self));
            self.gather.borrow_mut().flushed(&group);
        }
    }

    /// Takes an input whose sender cannot be answered. After a fault the core is rebuilt at once, so that the bridge
    /// gets its `hello` and sends again what was lost.
    pub fn commit_or_rebuild(self: &Rc<Self>, input: Input<'_>) -> bool {
        let taken = self.commit(input).is_ok();
        if !taken && self.wake().is_err() {
            alarm::retry_soon(self);
        }
        taken
    }

    /// The session is deleted: nothing of it stays in storage or in memory. When the storage refuses, the alarm, which
    /// stays armed, tries again.
    fn erase(self: &Rc<Self>) {
        let erased = self.transactions.erase();
        *self.core.borrow_mut() = None;
        self.armed.set(None);
        if let Err(reason) = erased {
            console_error!("{{\"level\":\"error\",\"event\":\"session.not_erased\",\"reason\":{}}}", json(&reason));
            alarm::retry_soon(self);
        }
    }

    /// Carries out outputs in their order; an upgrade's answer is the caller's.
    pub fn carry_out(self: &Rc<Self>, outputs: Outputs) -> Option<UpgradeAnswer> {
        for line in &outputs.log {
            worker::console_log!("{{\"level\":\"info\",\"event\":\"session\",\"what\":{}}}", json(line));
        }
        if matches!(outputs.upgrade, Some(UpgradeAnswer::Accept)) {
            // The socket is not accepted yet: its requester carries the rest out once it is.
            self.sockets.borrow_mut().held.push(Outputs { upgrade: None, log: Vec::new(), ..outputs });
            return Some(UpgradeAnswer::Accept);
        }
        let upgrade = outputs.upgrade.clone();
        sockets::carry_out(&self.sockets.borrow(), &outputs);
        self.sockets.borrow_mut().forget(outputs.closes.iter().map(|(id, ..)| *id));
        for (id, reply) in outputs.replies {
            if let Some(waiter) = self.waiters.borrow_mut().remove(&id) {
                let _ = waiter.send(reply);
            }
        }
        if outputs.erase {
            self.erase();
            return upgrade;
        }
        for claimed in outputs.jobs {
            jobs::start(self, claimed);
        }
        if let Some(at) = outputs.alarm {
            alarm::arm(self, at);
        }
        if let Some(after) = outputs.tick_in_ms {
            alarm::schedule_tick(self, after);
        }
        if let Some(message_id) = outputs.prompt_sent {
            self.commit_or_rebuild(Input::PromptSent { message_id });
        }
        upgrade
    }
}

/// The host as the gather sees it.
struct Committer<'i, E: Effects>(&'i Rc<Inner<E>>);

impl<E: Effects> Commits for Committer<'_, E> {
    fn stream(&mut self, socket: SocketId, frame: SandboxFrame) -> Option<SandboxFrame> {
        if self.0.wake().is_err() {
            return Some(frame);
        }
        let streamed = match self.0.core.borrow_mut().as_mut() {
            Some(core) => core.stream(now(), socket, frame),
            None => return Some(frame),
        };
        match streamed {
            Streamed::Done(outputs) => {
                self.0.carry_out(outputs);
                None
            }
            Streamed::NeedsCommit(frame) => Some(frame),
        }
    }

    fn commit(&mut self, input: Input<'_>) -> bool {
        self.0.commit_or_rebuild(input)
    }
}

/// A string as JSON, for log lines.
pub(crate) fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
