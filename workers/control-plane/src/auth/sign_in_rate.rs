//! How often one address may begin or end a sign-in: counted in this isolate's memory, a brake and no promise.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

use oi_protocol::{ErrorCode, UnixMillis};
use oi_worker_kit::{Refusal, clock};

use crate::request::Head;

/// Requests of one address in a window, and its length in ms.
const MOST: u32 = 100;
const WINDOW_MS: i64 = 60_000;
/// Addresses that are counted at most.
const COUNTED_MAX: usize = 5_000;

#[derive(Default)]
struct Counts {
    since: i64,
    of: HashMap<String, u32>,
}

impl Counts {
    /// Counts a request; when to come again, in seconds, where there were too many.
    fn count(&mut self, address: &str, now: UnixMillis) -> Option<u32> {
        if now.0 - self.since >= WINDOW_MS || now.0 < self.since || self.of.len() >= COUNTED_MAX {
            *self = Self { since: now.0, of: HashMap::new() };
        }
        let count = self.of.entry(address.to_owned()).or_default();
        *count += 1;
        let left = (WINDOW_MS - (now.0 - self.since) + 999) / 1000;
        (*count > MOST).then_some(left as u32)
    }
}

thread_local! {
    static COUNTS: RefCell<Counts> = RefCell::default();
}

/// Refuses an address that asks too often. Requests of this machine, as in development, are not counted.
pub fn check(head: &Head) -> Result<(), Refusal> {
    let Some(address) = head.header("CF-Connecting-IP") else { return Ok(()) };
    if address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return Ok(());
    }
    match COUNTS.with_borrow_mut(|counts| counts.count(&address, clock::now())) {
        None => Ok(()),
        Some(seconds) => {
            let sentence = "Too many sign-ins from this address. Wait a minute and try again.";
            Err(Refusal::new(429, ErrorCode::RateLimited, sentence).retry_after(Some(seconds)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_requests_a_minute() {
        let mut counts = Counts::default();
        let begun = 1_800_000_000_000;
        for _ in 0..MOST {
            assert_eq!(counts.count("192.0.2.1", UnixMillis(begun)), None);
        }
        assert_eq!(counts.count("192.0.2.1", UnixMillis(begun + 1_500)), Some(59));
        assert_eq!(counts.count("192.0.2.2", UnixMillis(begun + 1_500)), None, "another address");
        assert_eq!(counts.count("192.0.2.1", UnixMillis(begun + WINDOW_MS)), None, "another minute");
    }

    #[test]
    fn memory_for_it_is_bounded() {
        let mut counts = Counts::default();
        for number in 0..2 * COUNTED_MAX {
            counts.count(&number.to_string(), UnixMillis(1_800_000_000_000));
            assert!(counts.of.len() <= COUNTED_MAX);
        }
    }
}
