//! The last of what a build's supervisor said.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::kept_output::KeptOutput;

/// What is kept of it.
const KEPT_BYTES: usize = 64 * 1024;

/// The end of a log, bounded.
#[derive(Debug)]
pub struct BuildLog(Mutex<KeptOutput>);

impl Default for BuildLog {
    fn default() -> Self {
        Self(Mutex::new(KeptOutput::new(KEPT_BYTES)))
    }
}

impl BuildLog {
    /// Whole lines, the oldest first.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }

    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// Keeps what comes, and shows it in the host's own log as that of other sandboxes.
pub async fn follow(mut said: impl AsyncRead + Unpin, log: Arc<BuildLog>) {
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = said.read(&mut buffer).await {
        log.add(&buffer[..read]);
        drop(std::io::stderr().write_all(&buffer[..read]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_in_whole_lines() {
        let log = BuildLog::default();
        log.add(b"first\n");
        assert_eq!(log.text(), "first\n");
        for n in 0..10_000 {
            log.add(format!("line {n} of many\n").as_bytes());
        }
        let text = log.text();
        assert!(text.len() <= KEPT_BYTES && text.starts_with("line ") && text.ends_with("line 9999 of many\n"));
    }

    #[test]
    fn a_log_that_is_just_full_is_whole_and_half_a_line_is_not_shown() {
        let log = BuildLog::default();
        log.add(b"first\n");
        log.add("x".repeat(KEPT_BYTES - 7).as_bytes());
        log.add(b"\n");
        assert!(log.text().starts_with("first\nx"), "nothing is left out yet");
        log.add("y".repeat(KEPT_BYTES + 1).as_bytes());
        assert_eq!(log.text(), "", "a line that is longer than all that is kept");
        log.add(b"\nlast\n");
        assert_eq!(log.text(), "last\n");
    }
}
