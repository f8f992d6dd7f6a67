//! The last of what a build's supervisor said.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What is kept of it.
const KEPT_BYTES: usize = 64 * 1024;

/// The end of a log, bounded.
#[derive(Debug, Default)]
pub struct BuildLog(Mutex<VecDeque<u8>>);

impl BuildLog {
    /// Whole lines, the oldest first.
    pub fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        // The first line may have lost its beginning.
        let cut = if bytes.len() < KEPT_BYTES { 0 } else { text.find('\n').map_or(0, |at| at + 1) };
        text[cut..].to_owned()
    }

    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..over);
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
}
