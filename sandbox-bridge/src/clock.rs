//! The wall clock. Deadlines use `tokio::time::Instant`; this is for what goes on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use oi_protocol::UnixMillis;

/// Now, in milliseconds since the Unix epoch; 0 when the clock stands before it.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
