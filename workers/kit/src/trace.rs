//! Ids that find a request in the logs.

use crate::random;

/// Header of the id that spans Workers.
pub const TRACE_HEADER: &str = "x-trace-id";
/// Header of the id of one request.
pub const REQUEST_HEADER: &str = "x-request-id";

/// The ids of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// 8 hex digits, minted here.
    pub request_id: String,
    /// The caller's, when it sent a well-formed one.
    pub trace_id: String,
}

impl Trace {
    /// Ids for a request whose header [`TRACE_HEADER`] is `inbound`.
    pub fn begin(inbound: Option<&str>) -> Self {
        let trace_id = inbound.filter(|id| is_trace_id(id)).map_or_else(random::hex::<16>, str::to_owned);
        Self { request_id: random::hex::<4>(), trace_id }
    }
}

/// 1 to 64 of `A-Z a-z 0-9 -`, so that it can be logged as it came.
fn is_trace_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_id_is_taken_over() {
        assert_eq!(Trace::begin(Some("abc-123")).trace_id, "abc-123");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            let trace = Trace::begin(Some(bad));
            assert_eq!((trace.trace_id.len(), trace.request_id.len()), (32, 8), "{bad}");
        }
    }
}
