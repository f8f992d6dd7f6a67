//! Waiting longer after each failure.

use std::time::Duration;

/// Jittered exponential back-off: the n-th wait lies between half of and all of `first * 2^n`, at most `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first` and never waits longer than `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// The next wait. `jitter` is in `0.0..1.0`, so that many who failed together do not come back together.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let full = self.first.saturating_mul(2_u32.saturating_pow(self.failures.min(20))).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// What was tried works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last reset.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_millis(), 100);
    }

    #[test]
    fn jitter_never_leaves_the_upper_half() {
        for jitter in [0.0, 0.3, 0.999] {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
            let wait = backoff.next(jitter).as_millis();
            assert!((50..=100).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn a_very_long_outage_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for _ in 0..1000 {
            assert!(backoff.next(1.0) <= Duration::from_secs(10));
        }
    }
}
