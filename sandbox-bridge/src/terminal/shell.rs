//! One shell on a pseudo-terminal.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use oi_protocol::terminal::{INPUT_MAX_BYTES, TerminalSize};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tokio::sync::mpsc;

use crate::host::processes;

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Keys that wait for a program that does not read them, in frames of [`INPUT_MAX_BYTES`] at most.
const INPUT_WAITING: usize = 16;
/// Between a shell's end and the word of it, for output that is still being copied.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// The threads only copy bytes.
const STACK_BYTES: usize = 128 * 1024;

/// How shells are started.
#[derive(Debug, Clone)]
pub struct ShellSettings {
    /// What ties a shell to this process, and the arguments before the shell's own; empty for no tie.
    pub launcher: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// What a shell does.
#[derive(Debug)]
pub enum ShellEvent {
    /// It wrote.
    Output(u64, Vec<u8>),
    /// It ended, with this code unless a signal ended it.
    Ended(u64, Option<u32>),
}

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// No pseudo-terminal, or the program did not start.
    #[error("No shell could be started: {0}")]
    Start(String),
    /// The program reads nothing.
    #[error("The program reads no keys, and too many wait for it already. Those were dropped.")]
    InputFull,
    /// It has ended.
    #[error("The shell has ended.")]
    Ended,
}

fn pty_size(size: TerminalSize) -> PtySize {
    PtySize { rows: size.rows, cols: size.cols, pixel_width: 0, pixel_height: 0 }
}

/// A running shell; ended when dropped.
pub struct Shell {
    master: Box<dyn MasterPty + Send>,
    keys: SyncSender<Vec<u8>>,
    leader: Option<u32>,
    size: TerminalSize,
}

impl Shell {
    /// Starts one in a folder. Events carry `number`. Must be called on the thread that children are tied to.
    pub fn start(
        settings: &ShellSettings,
        directory: PathBuf,
        size: TerminalSize,
        number: u64,
        events: mpsc::Sender<ShellEvent>,
    ) -> Result<Self, ShellError> {
        let failed = |error: &dyn std::fmt::Display| ShellError::Start(error.to_string());
        let pair = native_pty_system().openpty(pty_size(size)).map_err(|error| failed(&error))?;
        let mut words = settings.launcher.clone();
        words.extend(["/bin/bash".into(), "-i".into()]);
        let mut command = CommandBuilder::from_argv(words);
        command.env_clear();
        for (name, value) in &settings.environment {
            command.env(name, value);
        }
        command.env("TERM", "xterm-256color");
        command.env("COLORTERM", "truecolor");
        command.cwd(directory);
        let child = pair.slave.spawn_command(command).map_err(|error| failed(&error))?;
        drop(pair.slave);
        let leader = child.process_id();
        let reader = pair.master.try_clone_reader().map_err(|error| failed(&error))?;
        let writer = pair.master.take_writer().map_err(|error| failed(&error))?;
        let (keys, waiting) = sync_channel::<Vec<u8>>(INPUT_WAITING);
        let thread = |name: &str| thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let output = events.clone();
        thread("terminal-out").spawn(move || copy_output(reader, number, &output)).map_err(|error| failed(&error))?;
        thread("terminal-end").spawn(move || wait_for_end(child, number, &events)).map_err(|error| failed(&error))?;
        thread("terminal-in").spawn(move || copy_input(writer, &waiting)).map_err(|error| failed(&error))?;
        Ok(Self { master: pair.master, keys, leader, size })
    }

    /// Its size.
    pub const fn size(&self) -> TerminalSize {
        self.size
    }

    /// Gives it another size; `false` when it has that already.
    pub fn resize(&mut self, size: TerminalSize) -> bool {
        if size == self.size {
            return false;
        }
        if let Err(error) = self.master.resize(pty_size(size)) {
            tracing::debug!(event = "terminal.resize", %error);
        }
        self.size = size;
        true
    }

    /// Types. Never waits.
    pub fn type_keys(&self, keys: &[u8]) -> Result<(), ShellError> {
        for piece in keys.chunks(INPUT_MAX_BYTES) {
            self.keys.try_send(piece.to_vec()).map_err(|error| match error {
                TrySendError::Full(_) => ShellError::InputFull,
                TrySendError::Disconnected(_) => ShellError::Ended,
            })?;
        }
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            processes::hang_up(leader);
        }
    }
}

/// Until nobody writes any more. Waits where the receiver is slow, and so does the program.
fn copy_output(mut reader: Box<dyn Read + Send>, number: u64, events: &mpsc::Sender<ShellEvent>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                if events.blocking_send(ShellEvent::Output(number, buffer[..length].to_vec())).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

/// Until the shell ends. What it left in its terminal is hung up on, so that nothing holds the terminal open.
fn wait_for_end(mut child: Box<dyn Child + Send + Sync>, number: u64, events: &mpsc::Sender<ShellEvent>) {
    let leader = child.process_id();
    let status = child.wait();
    if let Some(leader) = leader {
        processes::hang_up(leader);
    }
    // Its last words are on their way by another thread.
    thread::sleep(LAST_WORDS);
    let code = status.ok().filter(|status| status.signal().is_none()).map(|status| status.exit_code());
    // Nobody listens any more when everything ends.
    drop(events.blocking_send(ShellEvent::Ended(number, code)));
}

fn copy_input(mut writer: Box<dyn Write + Send>, keys: &std::sync::mpsc::Receiver<Vec<u8>>) {
    while let Ok(piece) = keys.recv() {
        if writer.write_all(&piece).and_then(|()| writer.flush()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ShellSettings {
        let environment =
            [("PATH", "/usr/bin:/bin"), ("PS1", "$ "), ("MARK", "of the agent"), ("HOME", "/nonexistent")];
        let environment = environment.map(|(name, value)| (name.into(), value.into())).into();
        ShellSettings { launcher: Vec::new(), environment }
    }

    const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

    async fn until(events: &mut mpsc::Receiver<ShellEvent>, what: &str) -> String {
        let mut text = String::new();
        let read = async {
            while !text.contains(what) {
                match events.recv().await {
                    Some(ShellEvent::Output(_, bytes)) => text.push_str(&String::from_utf8_lossy(&bytes)),
                    other => panic!("{other:?} before {what}: {text}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(8), read).await.expect(what);
        text
    }

    #[tokio::test]
    async fn a_shell_runs_in_its_folder_with_the_given_environment_and_size_and_tells_its_code() {
        let folder = tempfile::tempdir().expect("a folder");
        let (events, mut seen) = mpsc::channel(8);
        let mut shell = Shell::start(&settings(), folder.path().to_owned(), SIZE, 7, events).expect("starts");
        shell.type_keys(b"echo \"[$MARK] $(pwd) $(stty size)\" [$SANDBOX_AUTH_TOKEN$CARGO]\n").expect("typed");
        let place = std::fs::canonicalize(folder.path()).expect("there").display().to_string();
        until(&mut seen, &format!("[of the agent] {place} 24 80 []")).await;
        assert!(shell.resize(TerminalSize { cols: 100, rows: 30 }));
        assert!(!shell.resize(TerminalSize { cols: 100, rows: 30 }));
        shell.type_keys(b"stty size\n").expect("typed");
        until(&mut seen, "30 100").await;
        // What runs on in the background does not keep the terminal open.
        shell.type_keys(b"sleep 300 & exit 5\n").expect("typed");
        let ended = async {
            loop {
                if let Some(ShellEvent::Ended(number, code)) = seen.recv().await {
                    break (number, code);
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(8), ended).await.expect("it ends");
        assert_eq!(ended, (7, Some(5)));
    }

    #[tokio::test]
    async fn a_dropped_shell_takes_what_runs_in_it_along() {
        let (events, mut seen) = mpsc::channel(8);
        let shell = Shell::start(&settings(), "/".into(), SIZE, 1, events).expect("starts");
        shell.type_keys(b"sleep 4321.5 & echo pid=$!= \n").expect("typed");
        let text = until(&mut seen, "\npid=").await;
        let mut rest = text.split("\npid=").nth(1).unwrap_or_default().to_owned();
        if !rest.contains('=') {
            rest.push_str(&until(&mut seen, "=").await);
        }
        let pid: u32 = rest.split('=').next().and_then(|pid| pid.parse().ok()).expect("a number");
        let process = crate::host::processes::ProcessId::of(pid).expect("it runs");
        drop(shell);
        for _ in 0..500 {
            if !process.is_alive() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("sleep runs on");
    }

    #[tokio::test]
    async fn keys_that_nobody_reads_are_refused_at_a_bound_and_never_waited_for() {
        let (events, mut seen) = mpsc::channel(8);
        let shell = Shell::start(&settings(), "/".into(), SIZE, 1, events).expect("starts");
        shell.type_keys(b"stty raw -echo; echo ready; exec sleep 300\n").expect("typed");
        until(&mut seen, "ready\n").await;
        let filled = (0..INPUT_WAITING + 8).find_map(|_| shell.type_keys(&[b'x'; INPUT_MAX_BYTES]).err());
        assert!(matches!(filled, Some(ShellError::InputFull)), "{filled:?}");
    }
}
