//! The platform's clock.

use oi_protocol::UnixMillis;

/// Now. Within one turn of a Worker the platform's clock stands still.
pub fn now() -> UnixMillis {
    UnixMillis(js_sys::Date::now() as i64)
}

/// A time as ISO 8601 in UTC with milliseconds; empty for a time that no calendar holds.
pub fn iso8601(at: UnixMillis) -> String {
    let date = js_sys::Date::new(&(at.0 as f64).into());
    if date.get_time().is_nan() { String::new() } else { String::from(date.to_iso_string()) }
}

/// A time from ISO 8601, such as `2026-01-31T12:00:00Z`.
pub fn from_iso8601(text: &str) -> Option<UnixMillis> {
    let millis = js_sys::Date::parse(text);
    millis.is_finite().then_some(UnixMillis(millis as i64))
}
