//! Files that go with a prompt, fetched before the agent begins. One that cannot be had is left out, and people are told.

use futures_util::future::join_all;
use oi_protocol::client_socket::is_file_id;
use oi_protocol::limits;
use oi_protocol::sandbox_socket::CommandAttachment;
use oi_protocol::text::{truncate_bytes, utf16_len};

use crate::agent::TurnFile;
use crate::control_plane::ControlPlane;

/// Files that are fetched at a time.
const AT_A_TIME: usize = 2;
/// What an agent is given.
const MIME_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// What became of a prompt's files.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Those that are there, in the prompt's order.
    pub files: Vec<TurnFile>,
    /// What to tell people of the others.
    pub warnings: Vec<String>,
}

fn is_valid(file: &CommandAttachment) -> bool {
    is_file_id(&file.attachment_id)
        && (1..=255).contains(&utf16_len(&file.name))
        && MIME_TYPES.contains(&file.mime_type.as_str())
}

/// Fetches a prompt's files.
pub async fn fetch(control_plane: &ControlPlane, wanted: &[CommandAttachment]) -> Fetched {
    let mut fetched = Fetched::default();
    let mut valid: Vec<&CommandAttachment> = wanted.iter().filter(|file| is_valid(file)).collect();
    valid.truncate(limits::PROMPT_MAX_ATTACHMENTS);
    let skipped = wanted.len() - valid.len();
    if skipped > 0 {
        fetched.warnings.push(format!("{skipped} invalid attachment(s) were skipped."));
    }
    for few in valid.chunks(AT_A_TIME) {
        let calls: Vec<_> = few.iter().map(|file| control_plane.attachment(&file.attachment_id)).collect();
        for (file, answer) in few.iter().zip(join_all(calls).await) {
            match answer {
                Ok(bytes) => {
                    fetched.files.push(TurnFile { name: file.name.clone(), mime_type: file.mime_type.clone(), bytes });
                }
                Err(error) => {
                    let name = truncate_bytes(&file.name, 200);
                    fetched
                        .warnings
                        .push(format!("The attachment `{name}` could not be fetched and was left out: {error}."));
                }
            }
        }
    }
    fetched
}
