//! How often one may ask. In memory only and bounded: what an eviction forgets costs nobody anything.

use std::collections::BTreeMap;

use oi_protocol::{ErrorCode, UnixMillis};
use serde_json::json;

use crate::call::CallReply;
use crate::input::SocketId;

/// People and pages that are remembered.
const REMEMBERED: usize = 4_096;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// A prompt, by the socket or by REST.
    Prompt,
    /// A change of the queue, or an answer to a question.
    Change,
    /// Stop what runs.
    Stop,
    /// Somebody types.
    Typing,
    /// The page came to the front or left it.
    Presence,
    /// An older page of the timeline.
    History,
    /// A client token.
    Token,
    /// To tell everybody who is here.
    PresenceNews,
}

/// Of whom it is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Page(SocketId),
    /// A participant; by REST, their user.
    Person(String),
    Everybody,
}

impl Asked {
    /// As many at once, and one more after each so many ms.
    const fn allowance(self) -> (i64, i64) {
        match self {
            Self::Prompt | Self::Change => (60, 1_000),
            Self::Stop => (20, 1_000),
            Self::Typing | Self::Presence => (20, 500),
            Self::History => (100, 200),
            Self::Token => (120, 1_000),
            Self::PresenceNews => (20, 250),
        }
    }
}

/// Token buckets: for each, when it is full again.
#[derive(Debug, Default)]
pub(crate) struct Rates(BTreeMap<(Who, Asked), UnixMillis>);

impl Rates {
    /// Takes one; when there is none, says after how many ms there is.
    pub fn take(&mut self, now: UnixMillis, who: Who, asked: Asked) -> Result<(), i64> {
        let (burst, every) = asked.allowance();
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, full_at| *full_at > now);
            if self.0.len() >= REMEMBERED {
                // More at once than any session has; who is counted anew has the least to gain.
                self.0.clear();
            }
        }
        let full_at = self.0.entry((who, asked)).or_insert(now);
        // Beyond what an empty bucket takes to fill: the clock was set back.
        let from = if full_at.since(now) > burst * every { now } else { (*full_at).max(now) };
        let wait = from.since(now) - (burst - 1) * every;
        if wait > 0 {
            return Err(wait);
        }
        *full_at = from.plus(every);
        Ok(())
    }

    /// A page is gone.
    pub fn forget(&mut self, socket: SocketId) {
        self.0.retain(|(who, _), _| *who != Who::Page(socket));
    }
}

/// The answer to a call that comes too often; `Retry-After` comes from its body.
pub(crate) fn too_often(wait_ms: i64) -> CallReply {
    let seconds = (wait_ms + 999).div_euclid(1_000).max(1);
    let body = json!({"error": "Too many requests", "code": ErrorCode::RateLimited, "retryAfterSeconds": seconds});
    CallReply::json(429, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_at_a_time() {
        let mut rates = Rates::default();
        let start = UnixMillis(1_000_000);
        let ada = || Who::Person("ada".to_owned());
        for _ in 0..20 {
            assert_eq!(rates.take(start, ada(), Asked::Stop), Ok(()));
        }
        assert_eq!(rates.take(start, ada(), Asked::Stop), Err(1_000));
        assert_eq!(rates.take(start.plus(400), ada(), Asked::Stop), Err(600), "a refusal costs nothing");
        assert_eq!(rates.take(start, Who::Person("grace".to_owned()), Asked::Stop), Ok(()), "each has their own");
        assert_eq!(rates.take(start, ada(), Asked::Prompt), Ok(()), "and for each thing");
        assert_eq!(rates.take(start.plus(1_000), ada(), Asked::Stop), Ok(()));
        assert_eq!(rates.take(start.plus(1_001), ada(), Asked::Stop), Err(999));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let mut rates = Rates::default();
        let late = UnixMillis(10_000_000);
        for _ in 0..20 {
            assert_eq!(rates.take(late, Who::Everybody, Asked::Stop), Ok(()));
        }
        assert_eq!(rates.take(late.plus(-3_600_000), Who::Everybody, Asked::Stop), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut rates = Rates::default();
        for n in 0..3 * REMEMBERED {
            assert_eq!(rates.take(UnixMillis(5), Who::Person(n.to_string()), Asked::Token), Ok(()));
            assert!(rates.0.len() <= REMEMBERED);
        }
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        assert!(too_often(1).body.contains(r#""retryAfterSeconds":1"#));
        assert!(too_often(1_001).body.contains(r#""retryAfterSeconds":2"#));
    }
}
