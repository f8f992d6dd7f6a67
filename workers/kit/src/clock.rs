//! The platform's clock. Outside of a Worker, where only tests run, it is the machine's.

use std::time::Duration;

use oi_protocol::UnixMillis;

/// Now. Within one turn of a Worker the platform's clock stands still.
pub fn now() -> UnixMillis {
    platform::now()
}

/// A time as ISO 8601 in UTC with milliseconds; empty for a time that no calendar holds.
pub fn iso8601(at: UnixMillis) -> String {
    platform::iso8601(at)
}

/// A time from ISO 8601, such as `2026-01-31T12:00:00Z`.
pub fn from_iso8601(text: &str) -> Option<UnixMillis> {
    platform::from_iso8601(text)
}

/// Waits. Outside of a Worker it only lets others run.
pub async fn pause(duration: Duration) {
    platform::pause(duration).await;
}

#[cfg(target_arch = "wasm32")]
mod platform {
    use super::{Duration, UnixMillis};

    pub fn now() -> UnixMillis {
        UnixMillis(js_sys::Date::now() as i64)
    }

    pub fn iso8601(at: UnixMillis) -> String {
        let date = js_sys::Date::new(&(at.0 as f64).into());
        if date.get_time().is_nan() { String::new() } else { String::from(date.to_iso_string()) }
    }

    pub fn from_iso8601(text: &str) -> Option<UnixMillis> {
        let millis = js_sys::Date::parse(text);
        millis.is_finite().then_some(UnixMillis(millis as i64))
    }

    pub async fn pause(duration: Duration) {
        worker::Delay::from(duration).await;
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::task::Poll;

    use super::{Duration, UnixMillis};

    pub fn now() -> UnixMillis {
        UnixMillis(jiff::Timestamp::now().as_millisecond())
    }

    pub fn iso8601(at: UnixMillis) -> String {
        jiff::Timestamp::from_millisecond(at.0).map(|at| format!("{at:.3}")).unwrap_or_default()
    }

    pub fn from_iso8601(text: &str) -> Option<UnixMillis> {
        text.parse::<jiff::Timestamp>().ok().map(|at| UnixMillis(at.as_millisecond()))
    }

    pub async fn pause(_duration: Duration) {
        let mut waited = false;
        std::future::poll_fn(|cx| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
