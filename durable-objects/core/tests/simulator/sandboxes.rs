//! Sandboxes: their bridges dial, beat, send, hear late that they were replaced, and die.

use oi_protocol::rest::CreatePullRequestRequest;
use oi_session::call::{Principal, SessionCall};
use oi_session::input::{ReplyId, SocketId};
use rand::Rng;

use crate::support::session::value;
use crate::world::World;

impl World {
    pub fn a_bridge_acts(&mut self) -> Result<(), String> {
        // An old one may still be there beside the newest.
        let alive: Vec<usize> = (0..self.bridges.len()).filter(|index| self.bridges[*index].alive).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let index = alive[self.rng.random_range(0..alive.len())];
        self.bridge_reads(index)?;
        for _ in 0..self.rng.random_range(1..5) {
            let (bridge, rng) = (&mut self.bridges[index], &mut self.rng);
            bridge.work(rng, false);
            self.agent_asks(index)?;
        }
        let frames = self.rng.random_range(0..8);
        self.bridge_sends(index, frames)
    }

    pub fn bridge_reads(&mut self, index: usize) -> Result<(), String> {
        let Some(socket) = self.bridges[index].socket else { return Ok(()) };
        if !self.calm && !self.is_open(Some(socket)) {
            // A connection that ended on the session's side may look alive from the other one for a while.
            let now = self.host.now.0;
            let late = if self.rng.random_bool(self.deafness) { self.rng.random_range(1..250_000) } else { 0 };
            if *self.bridges[index].deaf_until.get_or_insert(now + late) > now {
                return Ok(());
            }
        }
        let Some(inbox) = self.host.sockets.get_mut(&socket).map(|socket| std::mem::take(&mut socket.inbox)) else {
            let at = self.redial();
            self.bridges[index].disconnected(at);
            return Ok(());
        };
        self.bridges[index].seen = 0;
        for text in inbox {
            self.bridges[index].take(&value(&text))?;
        }
        if !self.bridges[index].alive {
            self.end_bridge(index);
        } else if !self.is_open(Some(socket)) {
            self.host.disconnect(socket);
            let at = self.redial();
            self.bridges[index].disconnected(at);
        }
        Ok(())
    }

    fn redial(&mut self) -> i64 {
        let late = if self.calm { 100 } else { self.rng.random_range(1..30_000) };
        self.host.now.0 + late
    }

    pub fn bridge_sends(&mut self, index: usize, frames: usize) -> Result<(), String> {
        for _ in 0..frames {
            let Some(socket) = self.bridges[index].socket else { break };
            if !self.calm && self.rng.random_bool(0.05) {
                let back = self.rng.random_range(1..6);
                if let Some(frame) = self.bridges[index].doubled_frame(back) {
                    self.tally.one("doubled frames");
                    self.send_checked(index, socket, &frame)?;
                }
            }
            let Some(frame) = self.bridges[index].next_frame() else { break };
            if !self.calm && self.bridges[index].dialect == 2 && self.rng.random_bool(0.01) {
                // As one that was held by an instance that died: those behind it arrive.
                self.tally.one("lost frames");
                continue;
            }
            self.send_checked(index, socket, &frame)?;
        }
        Ok(())
    }

    fn send_checked(&mut self, index: usize, socket: SocketId, frame: &str) -> Result<(), String> {
        let current = self.generation() == self.bridges[index].sandbox.generation;
        if !current {
            // What waits is the current one's.
            self.host.flush_gather();
        }
        let before = (!current).then(|| self.stored());
        if !current && self.bridges.iter().any(|other| self.is_open(other.socket)) {
            self.tally.one("frames of replaced sandboxes");
        }
        self.host.bridge_sends(socket, frame);
        if !current {
            self.host.flush_gather();
        }
        self.after_input()?;
        if let Some(before) = before
            && before != self.stored()
        {
            return Err(format!(
                "acts: sandbox {} acted, which is not the current one: {frame}",
                self.bridges[index].sandbox.id
            ));
        }
        Ok(())
    }

    pub fn beat_or_dial(&mut self, index: usize) -> Result<(), String> {
        let now = self.host.now.0;
        let bridge = &mut self.bridges[index];
        if !bridge.alive {
            return Ok(());
        }
        if let Some(socket) = bridge.socket {
            if now >= bridge.beat_at {
                bridge.beat_at = now + 30_000;
                self.host.bridge_sends(socket, r#"{"type":"heartbeat","status":"ready"}"#);
                self.after_input()?;
                self.bridge_reads(index)?;
            }
            return Ok(());
        }
        if now < bridge.dial_at {
            return Ok(());
        }
        let (sandbox, dialect) = (bridge.sandbox.clone(), bridge.dialect);
        // One may be let in and put away by the same input, when its time is over.
        let generation = self.generation();
        let may = !self.is_retired(&sandbox.id) && self.current_sandbox().as_ref() == Some(&sandbox.id);
        let answer = self.host.upgrade(&sandbox.token, &sandbox.id, dialect);
        self.note(&format!("{} dials: {answer:?}", sandbox.id));
        match answer {
            Ok(socket) => {
                if !may {
                    return Err(format!("let in: {} was stopped and may connect", sandbox.id));
                }
                // One that goes on may be heard before it is known to have been stopped.
                self.bridges[index].sandbox.generation = generation;
                self.bridges[index].connected(socket);
                // It is up: what becomes of it is no failed start.
                self.failed_starts = (Vec::new(), generation + 1);
            }
            Err((401 | 403 | 404 | 410, _)) => self.end_bridge(index),
            Err(_) => {
                let at = self.redial();
                self.bridges[index].dial_at = at;
            }
        }
        self.after_input()
    }

    /// The agent asks for a pull request, and asks again when the answer was lost.
    pub fn agent_asks(&mut self, index: usize) -> Result<(), String> {
        let lives = self.lives;
        let bridge = &mut self.bridges[index];
        let token = bridge.sandbox.token.clone();
        let Some(asked) = bridge.run.as_mut().and_then(|run| run.asked.as_mut()) else { return Ok(()) };
        if let Some((reply, life)) = asked.waits
            && life == lives
        {
            let Some(answer) = self.host.replies.remove(&reply) else { return Ok(()) };
            self.tally.more("pull requests", u64::from(answer.status == 200));
            if let Some(run) = bridge.run.as_mut() {
                run.asked = None;
            }
            return Ok(());
        }
        let request = CreatePullRequestRequest {
            title: "Mend it".to_owned(),
            body: "It was broken.".to_owned(),
            base_branch: None,
            head_branch: None,
            repo_owner: None,
            repo_name: None,
            draft: None,
        };
        let call = SessionCall::CreatePullRequest { request, idempotency_key: Some(asked.key.clone()) };
        let reply: Option<ReplyId> = self.host.call(Principal::Sandbox { token }, call).ok();
        self.after_input()?;
        let life = self.lives;
        if let Some(asked) = self.bridges[index].run.as_mut().and_then(|run| run.asked.as_mut()) {
            asked.waits = reply.map(|reply| (reply, life));
        }
        Ok(())
    }

    /// The bridge is gone; the machine stays until the backend stops it.
    fn end_bridge(&mut self, index: usize) {
        let bridge = &mut self.bridges[index];
        bridge.alive = false;
        bridge.run = None;
        if let Some(socket) = bridge.socket.take() {
            self.host.disconnect(socket);
        }
    }

    /// The machine is gone, and all in it.
    pub fn kill_sandbox(&mut self, index: usize) {
        self.bridges[index].machine = false;
        self.end_bridge(index);
    }
}
