//! How long a program that died waits before it starts again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, where people look on.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Where a program does, which knows itself when it has waited long enough.
pub const LONGEST_HEADLESS: Duration = Duration::from_secs(1);
/// A run this long counts as a success: the next death starts from the beginning.
const STABLE: Duration = Duration::from_secs(60);

/// 1, 2, 4, ... seconds.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub const fn up_to(longest: Duration) -> Self {
        Self { next: FIRST, longest }
    }

    /// The pause after a run of this length.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut backoff = Backoff::up_to(LONGEST);
        let pauses: Vec<u64> = (0..7).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let mut short = Backoff::up_to(LONGEST_HEADLESS);
        assert_eq!([0, 0, 0].map(|_| short.after(Duration::ZERO).as_secs()), [1, 1, 1]);
    }

    #[test]
    fn a_run_of_a_minute_starts_over() {
        let mut backoff = Backoff::up_to(LONGEST);
        for _ in 0..4 {
            backoff.after(Duration::from_secs(5));
        }
        assert_eq!(backoff.after(Duration::from_secs(61)).as_secs(), 1);
        assert_eq!(backoff.after(Duration::ZERO).as_secs(), 2);
    }
}
