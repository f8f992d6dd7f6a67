//! What goes wrong: between any two steps, at any statement, for a while.

use oi_session::input::SocketId;
use rand::Rng;

use crate::support::probe::Break;
use crate::world::World;

impl World {
    /// What will strike during the next inputs.
    pub fn plan_accidents(&mut self) {
        if self.calm {
            return;
        }
        if self.rng.random_bool(0.05) {
            let how = if self.rng.random_bool(0.5) { Break::Fail } else { Break::Panic };
            // Most inputs need few statements; waking and the longest ones need more.
            let most = if self.rng.random_bool(0.7) { 14 } else { 60 };
            self.host.sql.break_at(self.rng.random_range(1..most), how);
            self.tally.one("refused statements");
        }
        if self.rng.random_bool(0.015) {
            self.host.die_after_commit = true;
        }
    }

    pub fn an_accident(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..20) {
            0..4 => self.a_socket_breaks()?,
            4..8 => self.evict(),
            8..10 => self.die()?,
            10..12 => {
                // An alarm is lost with the instance that armed it.
                self.tally.one("swallowed alarms");
                self.host.alarm = None;
                self.evict();
            }
            12..14 => {
                let index = self.rng.random_range(0..self.bridges.len().max(1));
                if index < self.bridges.len() && self.rng.random_bool(0.3) {
                    self.kill_sandbox(index);
                }
            }
            14..16 => self.the_clock_jumps(),
            16 => {
                self.tally.one("outages of storage");
                self.host.sql.refuses.set(true);
                self.storage_down_until = self.host.now.0 + self.rng.random_range(10..5_000);
            }
            17 | 18 => {
                let until = self.host.now.0 + self.rng.random_range(1_000..400_000);
                match self.rng.random_range(0..3) {
                    0 => {
                        self.tally.one("outages of D1");
                        self.outside.d1_down_until = until;
                    }
                    1 => {
                        self.tally.one("outages of the backend");
                        self.outside.backend_down_until = until;
                    }
                    _ => {
                        self.tally.one("outages of the bots");
                        self.outside.bots_down_until = until;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub fn end_outages(&mut self) {
        if self.host.sql.refuses.get() && self.host.now.0 >= self.storage_down_until {
            self.host.sql.refuses.set(false);
        }
    }

    fn the_clock_jumps(&mut self) {
        let by = match self.rng.random_range(0..6) {
            0 | 1 => 700_000,
            2 => 5_000_000,
            3 | 4 => -60_000,
            _ => -600_000,
        };
        self.tally.one(if by > 0 { "jumps forward" } else { "jumps back" });
        self.note(&format!("the clock jumps by {by}"));
        self.host.now = self.host.now.plus(by);
        // Others have clocks of their own.
        for attempt in &mut self.outside.attempts {
            attempt.due += by;
        }
        for bridge in &mut self.bridges {
            bridge.dial_at += by;
            bridge.beat_at += by;
            bridge.deaf_until = bridge.deaf_until.map(|until| until + by);
        }
        self.storage_down_until += by;
        self.failed_starts.0.clear();
    }

    fn a_socket_breaks(&mut self) -> Result<(), String> {
        let of_bridge = self.rng.random_bool(0.5);
        let open: Vec<SocketId> =
            self.host.sockets.iter().filter(|(_, socket)| socket.sandbox == of_bridge).map(|(id, _)| *id).collect();
        if open.is_empty() {
            return Ok(());
        }
        let socket = open[self.rng.random_range(0..open.len())];
        self.host.disconnect(socket);
        self.after_input()
    }

    fn evict(&mut self) {
        self.note("evicted");
        self.tally.one("evictions");
        self.lives += 1;
        self.host.evict();
    }

    /// The process dies; what it had asked for outside goes on unheard.
    fn die(&mut self) -> Result<(), String> {
        self.note("killed");
        self.tally.one("kills");
        self.lives += 1;
        self.host.kill();
        for attempt in &mut self.outside.attempts {
            attempt.orphaned = true;
        }
        self.after_input()
    }
}
