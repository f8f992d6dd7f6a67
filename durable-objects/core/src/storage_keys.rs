//! Where a session keeps what is too large for its SQLite: one prefix a session, so that deleting the session is
//! deleting the prefix.
//!
//! ```text
//! sessions/<session>/outputs/<output>          what a tool printed, whole
//! sessions/<session>/archive/<first>-<last>-<revision>.ndjson   events that left SQLite
//! sessions/<session>/attachments/<attachment>  a file of a prompt
//! sessions/<session>/media/<artifact>.<ext>    a screenshot or a recording
//! ```

use oi_protocol::{ArtifactId, SessionId};

use crate::file_type::FileType;

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

/// Of a prompt's file; the caller has checked the name by [`oi_protocol::client_socket::is_file_id`].
pub fn attachment(session: &SessionId, attachment_id: &str) -> String {
    format!("sessions/{session}/attachments/{attachment_id}")
}

/// Of a screenshot or a recording.
pub fn media(session: &SessionId, artifact_id: &ArtifactId, file_type: FileType) -> String {
    format!("sessions/{session}/media/{artifact_id}.{}", file_type.extension())
}

/// What a key of this session's media holds; `None` for any other text. What an artifact says of its place is not
/// trusted: sandboxes write artifacts too.
pub fn media_type_of(session: &SessionId, key: &str) -> Option<FileType> {
    let name = key.strip_prefix(&format!("sessions/{session}/media/"))?;
    let (artifact_id, extension) = name.split_once('.')?;
    ArtifactId::parse(artifact_id).ok()?;
    FileType::ALL.into_iter().find(|file_type| file_type.extension() == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_below_the_sessions_prefix() {
        let session = SessionId::from_bytes([1; 16]);
        let picture = media(&session, &ArtifactId::from_bytes([2; 16]), FileType::Png);
        let keys = [output(&session, "o-1"), archive(&session, 1, 900, 950), attachment(&session, "a-1"), picture];
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

    #[test]
    fn only_a_key_of_the_sessions_own_media_names_one() {
        let (session, other) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([3; 16]));
        let artifact = ArtifactId::from_bytes([2; 16]);
        for file_type in FileType::ALL {
            let key = media(&session, &artifact, file_type);
            assert_eq!(media_type_of(&session, &key), Some(file_type));
            assert_eq!(media_type_of(&other, &key), None, "another session's");
        }
        for key in [
            "https://example.com/x.png".to_owned(),
            attachment(&session, &format!("{artifact}.png")),
            format!("sessions/{session}/media/../archive/x.png"),
            format!("sessions/{session}/media/{artifact}.html"),
            format!("sessions/{session}/media/{artifact}.png.html"),
            format!("sessions/{session}/media/{artifact}"),
        ] {
            assert_eq!(media_type_of(&session, &key), None, "{key}");
        }
    }
}
