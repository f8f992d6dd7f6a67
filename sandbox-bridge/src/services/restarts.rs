//! When something that ended is started again, and when no more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Restarts within [`WINDOW`] that are granted.
pub const RESTARTS: usize = 5;
/// An accident that is older than this is forgotten, so that a long life does not use up a sandbox's chances.
pub const WINDOW: Duration = Duration::from_secs(600);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Counts restarts.
#[derive(Debug)]
pub struct Restarts {
    unit: Duration,
    times: VecDeque<Instant>,
}

impl Restarts {
    /// None yet. The first waits for two of these units: a second, outside of tests.
    pub const fn new(unit: Duration) -> Self {
        Self { unit, times: VecDeque::new() }
    }

    /// How long to wait before the next start; `None` when it is given up.
    pub fn next(&mut self, now: Instant) -> Option<Duration> {
        while self.times.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
            self.times.pop_front();
        }
        if self.times.len() >= RESTARTS {
            return None;
        }
        self.times.push_back(now);
        Some((self.unit * 2_u32.pow(self.times.len() as u32)).min(LONGEST_WAIT))
    }

    /// Restarts that count now.
    pub fn count(&self) -> usize {
        self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restart_waits_twice_as_long_and_after_five_it_is_given_up() {
        let (mut restarts, now) = (Restarts::new(Duration::from_secs(1)), Instant::now());
        let waits: Vec<_> = (0..7).map(|_| restarts.next(now).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(2), Some(4), Some(8), Some(16), Some(32), None, None]);
    }

    #[test]
    fn accidents_of_long_ago_do_not_count() {
        let (mut restarts, start) = (Restarts::new(Duration::from_secs(1)), Instant::now());
        for hour in 0..20 {
            let now = start + Duration::from_secs(3600 * hour);
            assert_eq!(restarts.next(now), Some(Duration::from_secs(2)), "hour {hour}");
        }
        // Five within the window are too many, wherever it begins.
        let later = start + Duration::from_secs(3600 * 30);
        let waits: Vec<bool> = (0..6).map(|n| restarts.next(later + Duration::from_secs(100 * n)).is_some()).collect();
        assert_eq!(waits, [true, true, true, true, true, false]);
        assert!(restarts.next(later + WINDOW + Duration::from_secs(101)).is_some());
    }
}
