//! One simulated world: a session's host, the people and sandboxes around it, and how time passes.

use std::collections::{BTreeMap, BTreeSet};

use oi_protocol::SessionId;
use oi_session::budgets::{Budgets, Limit};
use oi_session::call::{Principal, SessionCall};
use oi_session::clock::BackendTraits;
use oi_session::family::{ChildOf, ForkOf};
use oi_session::input::SocketId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::bots::BotPrompt;
use crate::bridge::Bridge;
use crate::client::Client;
use crate::outside::Outside;
use crate::support::host::{Bug, Host};
use crate::support::session::{init, person};
use crate::tally::Tally;

pub struct World {
    pub host: Host,
    pub rng: StdRng,
    pub clients: Vec<Client>,
    pub bot_prompts: Vec<BotPrompt>,
    pub bridges: Vec<Bridge>,
    pub outside: Outside,
    /// Nothing goes wrong any more.
    pub calm: bool,
    pub share_of_dialect_1: f64,
    /// How often a connection that ended looks alive to the bridge for a while.
    pub deafness: f64,
    /// The backend takes its time to stop what it is asked to stop.
    pub stops_late: bool,
    pub tally: Tally,
    /// Prompts of which a page was told that they were cancelled.
    pub cancelled: BTreeSet<String>,
    /// Answers of which a page was told that they count, by question.
    pub answered: BTreeMap<String, String>,
    /// How prompts ended, as it was seen first.
    pub ends: BTreeMap<String, (String, String)>,
    /// Lives of the object, so that calls which waited in an earlier one are asked again.
    pub lives: u64,
    /// Bodies of rows by place and revision, read once.
    pub bodies: BTreeMap<(i64, i64), Value>,
    /// When starts from the repositories failed since a sandbox connected last, and of which generation the last one.
    pub failed_starts: (Vec<i64>, i64),
    /// The storage refuses everything until then.
    pub storage_down_until: i64,
    /// Prompts given out when D1 knew for the first time that the session's budget was used up.
    pub spent_at: Option<i64>,
    /// How often a start fails or is slow, beside what befalls any job.
    pub bad_starts: f64,
    pub deletes: bool,
    known_accidents: u64,
    pub requests: u64,
}

/// Limit of dollars of a session that has one.
pub const SESSION_USD: f64 = 2.5;

pub fn parent_id() -> SessionId {
    SessionId::from_bytes([0x77; 16])
}

impl World {
    /// The world of a seed. What a planted bug needs to be seen, if it is seldom, happens more often under that bug.
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut host = Host::new(seed ^ 0x5eed);
        host.gathers = true;
        host.config.execution_timeout_ms = 600_000;
        host.config.inactivity_timeout_ms = 300_000;
        host.config.connect_hard_timeout_ms = 400_000;
        host.config.sandbox_life_seconds = 3_600;
        host.config.backend = BackendTraits {
            snapshots: rng.random_bool(0.5) || matches!(bug, Some(Bug::KeepsImages | Bug::ForgetsTaking)),
            snapshot_ends: false,
            resumes: rng.random_bool(0.3),
            max_life_seconds: rng.random_bool(0.3).then_some(1_200),
        };
        if rng.random_bool(0.5) || bug == Some(Bug::KeepsFiles) {
            host.config.retention_rows = rng.random_range(25..80);
        }
        if rng.random_bool(0.25) || bug == Some(Bug::ForgetsCosts) {
            host.config.budgets = Budgets {
                prompt: Limit { usd: rng.random_bool(0.5).then_some(1.5), tokens: None },
                session: Limit { usd: Some(SESSION_USD), tokens: None },
            };
        }
        // Some people have several pages open.
        let clients = (0..rng.random_range(2..5))
            .map(|n| {
                let person = if n > 0 && rng.random_bool(0.4) { 0 } else { n };
                Client::new(
                    format!("Page {n}"),
                    format!("Person {person}"),
                    if n == 0 || rng.random_bool(0.5) { 2 } else { 1 },
                )
            })
            .collect();
        // Under this bug the current sandbox's frames should have no numbers that tell them from another's.
        let mixes = bug == Some(Bug::MixesSandboxesUp);
        let share_of_dialect_1 = if mixes { 1.0 } else { [0.0, 0.0, 0.3, 1.0][rng.random_range(0..4)] };
        let mut outside = Outside::default();
        let mut new = init(rng.random_bool(0.5));
        match if bug == Some(Bug::SkipsOnCopy) { 1 } else { rng.random_range(0..8) } {
            0 => {
                let notify_parent = rng.random_bool(0.8);
                new.child_of = Some(ChildOf { parent_session_id: parent_id(), spawn_depth: 1, notify_parent });
            }
            1 => {
                let from = rng.random_range(1..4);
                outside.old_timeline(&mut rng, from);
                let through_sequence = outside.old.last().map_or(0, |event| event.sequence);
                new.fork_of =
                    Some(ForkOf { session_id: parent_id(), from_sequence: from, through_sequence, snapshot: None });
            }
            _ => {}
        }
        let mut tally = Tally::default();
        tally.more("children", u64::from(new.child_of.is_some()));
        tally.more("forks", u64::from(new.fork_of.is_some()));
        outside.notifies = new.child_of.as_ref().is_some_and(|child| child.notify_parent);
        outside.is_child = new.child_of.is_some();
        host.call(Principal::Platform, SessionCall::Init(Box::new(new))).expect("nothing is planned yet");
        host.plant(bug);
        Self {
            host,
            clients,
            bot_prompts: Vec::new(),
            bridges: Vec::new(),
            outside,
            calm: false,
            share_of_dialect_1,
            deafness: if mixes { 0.9 } else { 0.4 },
            stops_late: mixes || rng.random_bool(0.3),
            bad_starts: match bug {
                Some(Bug::KeepsTokens | Bug::ForgetsFailures) => 0.8,
                _ => [0.0, 0.0, 0.0, 0.6][rng.random_range(0..4)],
            },
            deletes: rng.random_bool(0.15) || bug == Some(Bug::KeepsFiles),
            rng,
            tally,
            cancelled: BTreeSet::new(),
            answered: BTreeMap::new(),
            ends: BTreeMap::new(),
            lives: 0,
            bodies: BTreeMap::new(),
            failed_starts: (Vec::new(), 0),
            storage_down_until: 0,
            spent_at: None,
            known_accidents: 0,
            requests: 0,
        }
    }

    /// A whole life: trouble, then healing, then the final account.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(80..400) {
            self.trouble()?;
        }
        if self.deletes {
            self.end_by_deletion()?;
        } else {
            self.heal()?;
            self.check_the_end()?;
        }
        self.tally.more("faults", self.host.faults);
        self.tally.more("answered questions", self.answered.len() as u64);
        Ok(())
    }

    /// After every input: who lost a connection, which promises were just made.
    pub fn after_input(&mut self) -> Result<(), String> {
        let accidents = self.host.faults + self.host.deaths;
        if accidents != self.known_accidents {
            self.known_accidents = accidents;
            self.lives += 1;
        }
        self.begin_attempts()?;
        self.check_promises()?;
        self.check_along_the_way()
    }

    fn trouble(&mut self) -> Result<(), String> {
        self.plan_accidents();
        match self.rng.random_range(0..100) {
            0..32 => self.a_person_acts()?,
            32..72 => self.a_bridge_acts()?,
            72..75 => self.a_bot_acts()?,
            75..77 => self.a_stranger_calls()?,
            77..90 => {}
            _ => self.an_accident()?,
        }
        let pass = match self.rng.random_range(0..100) {
            0..85 => self.rng.random_range(0..200),
            85..98 => self.rng.random_range(200..10_000),
            _ => self.rng.random_range(10_000..100_000),
        };
        self.pass(pass)
    }

    /// Time passes in steps, in which what is due happens, if it does.
    pub fn pass(&mut self, ms: i64) -> Result<(), String> {
        let mut left = ms;
        loop {
            let step = left.min(10_000);
            self.host.now = self.host.now.plus(step);
            left -= step;
            self.end_outages();
            if self.host.tick_at.is_some_and(|at| at <= self.host.now) {
                self.host.tick();
                self.after_input()?;
            }
            if self.host.alarm.is_some_and(|at| at <= self.host.now) {
                self.an_alarm_is_due()?;
            }
            self.end_attempts()?;
            for index in 0..self.bridges.len() {
                self.beat_or_dial(index)?;
            }
            if left <= 0 {
                return Ok(());
            }
        }
    }

    fn an_alarm_is_due(&mut self) -> Result<(), String> {
        if !self.calm && self.rng.random_bool(0.1) {
            self.tally.one("late alarms");
            return Ok(());
        }
        self.host.fire_alarm();
        self.after_input()?;
        if !self.calm && self.rng.random_bool(0.1) {
            self.tally.one("doubled alarms");
            self.host.fire_alarm();
            self.after_input()?;
        }
        Ok(())
    }

    pub fn is_open(&self, socket: Option<SocketId>) -> bool {
        socket.and_then(|id| self.host.sockets.get(&id)).is_some_and(|socket| socket.closed.is_none())
    }

    /// Everybody does what they should until nothing is left to do.
    pub fn heal(&mut self) -> Result<(), String> {
        self.be_calm();
        self.wake_what_nothing_wakes()?;
        let mut quiet = 0;
        // Something always wakes an object that died: here it is the pages that come back.
        // A clock that was set back twice has up to 20 minutes to make up for.
        for _ in 0..10_000 {
            for index in 0..self.clients.len() {
                self.client_reads(index)?;
                if !self.clients[index].subscribed {
                    self.client_connects(index)?;
                }
                self.repeat_unanswered(index)?;
            }
            self.repeat_bot_prompts()?;
            for index in 0..self.bridges.len() {
                if self.bridges[index].alive {
                    self.bridge_reads(index)?;
                    self.bridges[index].work(&mut self.rng, true);
                    self.agent_asks(index)?;
                    self.bridge_sends(index, 50)?;
                    self.bridge_reads(index)?;
                }
            }
            let busy = self.outside.attempts.len() + self.bridges.iter().filter(|bridge| bridge.has_work()).count();
            let step = if busy > 0 { 200 } else { 5_000 };
            self.pass(step)?;
            quiet = if busy == 0 && self.is_settled() { quiet + 1 } else { 0 };
            if quiet > 8 {
                return Ok(());
            }
        }
        Err(format!("rest: it does not come to rest: {}", self.unsettled()))
    }

    /// An alarm that was swallowed is missed at the next input, which at rest might never come: a page's connection ends.
    fn wake_what_nothing_wakes(&mut self) -> Result<(), String> {
        if self.host.core.is_none() && self.host.alarm.is_none() {
            if let Some(socket) = self.clients.iter().find_map(|client| client.socket) {
                self.host.disconnect(socket);
            }
            self.after_input()?;
        }
        Ok(())
    }

    /// The session is deleted in the midst of whatever happens.
    fn end_by_deletion(&mut self) -> Result<(), String> {
        let delete = || SessionCall::Delete;
        let mut began = false;
        for round in 0..2_000 {
            if round == 60 {
                self.be_calm();
            }
            self.plan_accidents();
            if !began || self.calm {
                // A sweep asks until nobody knows the session any more.
                let answer = self.host.call(Principal::Platform, delete()).ok();
                let answer = answer.and_then(|reply| self.host.replies.remove(&reply));
                began |= answer.as_ref().is_some_and(|answer| answer.status == 200);
                self.after_input()?;
                if began && answer.is_some_and(|answer| answer.status == 404) {
                    break;
                }
            } else if self.rng.random_bool(0.2) {
                self.an_accident()?;
            }
            let pass = if self.calm { 2_000 } else { self.rng.random_range(0..4_000) };
            self.pass(pass)?;
        }
        self.tally.one("deletions");
        self.check_the_deletion()
    }

    /// For whoever replays the seed.
    pub fn note(&mut self, line: &str) {
        let line: String = line.chars().take(400).collect();
        self.host.log.push(format!("{} {line}", self.host.now.0 - crate::support::host::START.0));
    }

    fn be_calm(&mut self) {
        self.calm = true;
        self.host.sql.disarm();
        self.host.sql.refuses.set(false);
        self.host.die_after_commit = false;
        self.outside.end_outages();
    }

    pub fn a_person(&self, index: usize) -> oi_session::call::Person {
        person(&self.clients[index].person)
    }
}
