//! A sandbox's life: its end is known at its start, and a part of it is kept for what must come before the end.

use std::time::Duration;

use tokio::time::Instant;

/// When a sandbox's life is over. It counts from the supervisor's start, as its backend's limit does.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    began: Instant,
    whole: Duration,
}

impl Life {
    /// A life of so many seconds that begins now.
    pub fn new(seconds: u32) -> Self {
        Self { began: Instant::now(), whole: Duration::from_secs(u64::from(seconds.max(4))) }
    }

    /// What is kept of it: a quarter, and no more than 15 minutes.
    pub fn reserve(&self) -> Duration {
        Duration::from_secs(900.min(self.whole.as_secs() / 4))
    }

    /// Longest run of one prompt.
    pub fn prompt_limit(&self) -> Duration {
        self.whole.saturating_sub(self.reserve())
    }

    /// From then on nothing is begun.
    pub fn reserve_at(&self) -> Instant {
        self.began + self.prompt_limit()
    }

    /// The backend's end of it.
    pub fn end(&self) -> Instant {
        self.began + self.whole
    }

    /// When a prompt that begins at `now` must have ended: before the reserve, or before the end where that has begun.
    pub fn deadline(&self, now: Instant) -> Instant {
        if now < self.reserve_at() { self.reserve_at() } else { self.end() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_leaves_a_reserve_of_the_sandboxs_life() {
        for (life, seconds) in [(7200, 6300), (2000, 1500), (100, 75), (0, 3)] {
            let life_of = Life::new(life);
            assert_eq!(life_of.prompt_limit().as_secs(), seconds, "{life}");
            assert_eq!(life_of.end() - life_of.reserve_at(), life_of.reserve(), "{life}");
        }
    }

    #[test]
    fn a_prompt_ends_before_the_reserve_and_a_late_one_before_the_end() {
        let life = Life::new(100);
        let after = |seconds| life.deadline(life.began + Duration::from_secs(seconds));
        assert_eq!((after(0), after(74)), (life.reserve_at(), life.reserve_at()));
        assert_eq!(after(76), life.end());
    }
}
