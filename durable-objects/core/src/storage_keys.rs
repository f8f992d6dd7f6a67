//! Where a session keeps what is too large for its SQLite: one prefix a session, so that deleting the session is
//! deleting the prefix.
//!
//! ```text
//! sessions/<session>/outputs/<output>          what a tool printed, whole
//! sessions/<session>/archive/<first>-<last>-<revision>.ndjson   events that left SQLite
//! ```

use oi_protocol::SessionId;

/// Longest name of an output.
const OUTPUT_ID_MAX_BYTES: usize = 64;

/// Everything of a session is below this.
pub fn prefix(session: &SessionId) -> String {
    format!("sessions/{session}/")
}

/// The name that a sandbox gives an output: letters, digits, `-` and `_`.
pub fn is_output_id(id: &str) -> bool {
    (1..=OUTPUT_ID_MAX_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Of a tool's whole output; the caller has checked the name by [`is_output_id`].
pub fn output(session: &SessionId, output_id: &str) -> String {
    format!("sessions/{session}/outputs/{output_id}")
}

/// Of a range of archived events. The name is the range and its newest revision, so that writing it again changes
/// nothing.
pub fn archive(session: &SessionId, first_seq: i64, last_seq: i64, revision: i64) -> String {
    format!("sessions/{session}/archive/{first_seq:012}-{last_seq:012}-{revision}.ndjson")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_below_the_sessions_prefix() {
        let session = SessionId::from_bytes([1; 16]);
        let keys = [output(&session, "o-1"), archive(&session, 1, 900, 950)];
        for key in keys {
            assert!(key.starts_with(&prefix(&session)), "{key}");
        }
    }

    #[test]
    fn an_outputs_name_cannot_leave_its_place() {
        for good in ["a", "call_1-ab", &"x".repeat(64)] {
            assert!(is_output_id(good), "{good}");
        }
        for bad in ["", "a/b", "..", "a.b", "ä", "a b", &"x".repeat(65)] {
            assert!(!is_output_id(bad), "{bad}");
        }
    }
}
