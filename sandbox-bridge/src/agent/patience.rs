//! How long a turn is waited for.

use std::time::Duration;

use tokio::time::Instant;

/// The gateway gives a provider up that is silent for 600 s, and the agent tells it. What is silent beyond that hangs.
pub const SILENCE: Duration = Duration::from_secs(660);

/// The clock of a turn. The time in which it waits for a person is not the turn's.
#[derive(Debug)]
pub struct Patience {
    deadline: Instant,
    silence: Duration,
    heard: Instant,
    passed: Instant,
}

impl Patience {
    /// Until a deadline, and for so long without a sign of the agent.
    pub fn new(deadline: Instant, silence: Duration) -> Self {
        let now = Instant::now();
        Self { deadline, silence, heard: now, passed: now }
    }

    /// To be called often: tells whether the turn waited for a person since the last call.
    pub fn pass(&mut self, waited_for_person: bool) {
        if waited_for_person {
            self.deadline += self.passed.elapsed();
        }
        self.passed = Instant::now();
    }

    /// The turn is ended at this moment, unless it waits for a person.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The agent did something, or need not.
    pub fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// Whether the agent did nothing for too long.
    pub fn is_over(&self) -> bool {
        self.heard.elapsed() > self.silence
    }

    /// Why a turn ended whose agent was silent, for people.
    pub fn reason(&self) -> String {
        format!("The agent did nothing for {} s, so the prompt was ended.", self.silence.as_secs())
    }
}
