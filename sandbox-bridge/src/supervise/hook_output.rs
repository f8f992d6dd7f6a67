//! What a hook prints: followed for as long as anything of it lives, kept within bounds.

use std::cmp::Reverse;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::kept_output::KeptOutput;

/// Most that the file keeps: the beginning.
const FILE_MAX_BYTES: usize = 1 << 20;
/// Most that memory keeps: the end.
const TAIL_MAX_BYTES: usize = 64 << 10;
/// Stands for what is not told.
const HIDDEN: &str = "***";

/// The output of one run.
pub struct HookOutput {
    tail: Arc<Mutex<KeptOutput>>,
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
        let tail = Arc::new(Mutex::new(KeptOutput::new(TAIL_MAX_BYTES)));
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

    /// The last lines that are whole, without these values.
    pub fn tail(&self, lines: usize, hidden: &[String]) -> String {
        let (text, is_cut) = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            (tail.lines(), tail.is_cut())
        };
        let text = without(text, hidden, is_cut);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A text without these values. Where its beginning was cut off, at a line, it may begin with the last lines of one.
fn without(mut text: String, hidden: &[String], is_cut: bool) -> String {
    // Longer ones first: one may begin as another does.
    let mut values: Vec<&str> = hidden.iter().map(String::as_str).filter(|value| !value.is_empty()).collect();
    values.sort_by_key(|value| Reverse(value.len()));
    if is_cut {
        let ends = values.iter().flat_map(|value| value.match_indices('\n').map(|(at, _)| &value[at + 1..]));
        let ends = ends.filter(|end| !end.is_empty() && text.starts_with(end));
        if let Some(end) = ends.max_by_key(|end| end.len()) {
            text.replace_range(..end.len(), HIDDEN);
        }
    }
    values.into_iter().fold(text, |text, value| text.replace(value, HIDDEN))
}

fn read_to_end(mut reader: PipeReader, mut file: Option<std::fs::File>, tail: &Mutex<KeptOutput>) {
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
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..read]);
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

    /// The tail of this, with these values left out.
    async fn tail_of(written: String, hidden: &[&str]) -> String {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut output = HookOutput::follow(reader, None).expect("followed");
        writer.write_all(written.as_bytes()).expect("it is read");
        drop(writer);
        output.settle(Duration::from_secs(5)).await;
        output.tail(50, &hidden.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_value_that_the_bound_cuts_in_two_is_not_told_by_halves() {
        let rest = |n: usize| format!("{}\nlast", "x".repeat(n));
        // The bound is in the middle of the value.
        let within = TAIL_MAX_BYTES - "-secret\n\nlast".len();
        let told = tail_of(format!("the-users-secret\n{}", rest(within)), &["the-users-secret"]).await;
        assert_eq!(told.lines().map(|line| line.get(..5).unwrap_or(line)).collect::<Vec<_>>(), ["xxxxx", "last"]);
        // All that is kept is one line, whose beginning is gone.
        let told = tail_of(format!("the-users-secret{}", "x".repeat(TAIL_MAX_BYTES - 7)), &["the-users-secret"]).await;
        assert_eq!(told, "");
        // A value of several lines is cut at one of its own.
        let key = "-----BEGIN KEY-----\nfirst line\nsecond line\n-----END KEY-----";
        let within = TAIL_MAX_BYTES - "IN KEY-----\nfirst line\nsecond line\n-----END KEY-----\n\nlast".len();
        let told = tail_of(format!("{key}\n{}", rest(within)), &[key]).await;
        assert_eq!(
            told.lines().map(|line| line.get(..5).unwrap_or(line)).collect::<Vec<_>>(),
            ["***", "xxxxx", "last"]
        );
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_value_that_begins_as_another_does() {
        assert_eq!(tail_of("a secret-value of mine".to_owned(), &["secret", "secret-value"]).await, "a *** of mine");
    }
}
