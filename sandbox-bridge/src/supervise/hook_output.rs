//! What a hook prints: followed for as long as anything of it lives, kept within bounds.

use std::collections::VecDeque;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Most that the file keeps: the beginning.
const FILE_MAX_BYTES: usize = 1 << 20;
/// Most that memory keeps: the end.
const TAIL_MAX_BYTES: usize = 64 << 10;

/// The output of one run.
pub struct HookOutput {
    tail: Arc<Mutex<VecDeque<u8>>>,
    ended: watch::Receiver<bool>,
}

impl HookOutput {
    /// Reads until the last process that can write has ended: a daemon whose pipe nobody reads would block, and one
    /// whose pipe is closed would be killed.
    pub fn follow(reader: PipeReader, log: Option<&Path>) -> std::io::Result<Self> {
        let file = match log {
            Some(path) => {
                Some(std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?)
            }
            None => None,
        };
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (done, ended) = watch::channel(false);
        let kept = Arc::clone(&tail);
        std::thread::Builder::new().name("hook-output".to_owned()).stack_size(64 << 10).spawn(move || {
            read_to_end(reader, file, &kept);
            done.send_replace(true);
        })?;
        Ok(Self { tail, ended })
    }

    /// Waits for the end, and no longer than this: a daemon may never end.
    pub async fn settle(&mut self, at_most: Duration) {
        drop(tokio::time::timeout(at_most, self.ended.wait_for(|ended| *ended)).await.map(|ended| ended.map(drop)));
    }

    /// The last lines, without these values.
    pub fn tail(&self, lines: usize, hidden: &[String]) -> String {
        let bytes: Vec<u8> = self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        for value in hidden {
            text = text.replace(value.as_str(), "***");
        }
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn read_to_end(mut reader: PipeReader, mut file: Option<std::fs::File>, tail: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    let mut room = FILE_MAX_BYTES;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let written = file.as_mut().map(|file| file.write_all(&buffer[..read.min(room)]));
        room -= read.min(room);
        if room == 0 || written.is_some_and(|written| written.is_err()) {
            file = None;
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&buffer[..read]);
        let over = tail.len().saturating_sub(TAIL_MAX_BYTES);
        drop(tail.drain(..over));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_without_end_stays_within_bounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut output = HookOutput::follow(reader, Some(&log)).expect("followed");
        for n in 0..40_000 {
            writeln!(writer, "line {n} of the-users-secret and more words").expect("it is read");
        }
        drop(writer);
        output.settle(Duration::from_secs(5)).await;
        assert_eq!(std::fs::metadata(&log).expect("kept").len() as usize, FILE_MAX_BYTES);
        let tail = output.tail(50, &["the-users-secret".to_owned()]);
        assert_eq!(tail.lines().count(), 50);
        assert!(tail.ends_with("line 39999 of *** and more words") && !tail.contains("the-users-secret"), "{tail}");
    }
}
