//! Running a program to its end: with a deadline, in its own process group, its output in a log whose tail is shown
//! when it fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::{Failure, Result};
use crate::interrupt;

/// How much of a log a failure shows.
const TAIL_LINES: usize = 40;
const TAIL_BYTES: u64 = 16 * 1024;
/// What a process group gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// What `cargo run` sets for us and must not leak into other toolchains and programs.
pub const LEAKS: &[&str] = &[
    "LD_LIBRARY_PATH",
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "RUST_RECURSION_COUNT",
    "RUSTUP_TOOLCHAIN_SOURCE",
];

/// One program to run.
pub struct Program {
    what: String,
    command: Command,
    deadline: Duration,
    log: Option<PathBuf>,
}

impl Program {
    /// `what` names it in messages: "the web build".
    pub fn new(what: impl Into<String>, program: impl AsRef<OsStr>, deadline: Duration) -> Self {
        let mut command = Command::new(program);
        for name in LEAKS {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).process_group(0);
        Self { what: what.into(), command, deadline, log: None }
    }

    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.command.envs(vars);
        self
    }

    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Output goes to this file, made anew, and is shown only when the program fails.
    #[must_use]
    pub fn log(mut self, path: PathBuf) -> Self {
        self.log = Some(path);
        self
    }

    /// Runs to the end. Without a log the output is the person's to see.
    pub fn run(mut self) -> Result<()> {
        if let Some(path) = &self.log {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(Failure::file("make the folder", parent))?;
            }
            let out = File::create(path).map_err(Failure::file("write", path))?;
            let err = out.try_clone().map_err(Failure::file("write", path))?;
            self.command.stdout(out).stderr(err);
        }
        let mut child = self.spawn()?;
        let status = self.wait(&mut child)?;
        self.check(status)
    }

    /// Runs to the end and returns standard output, at most 64 MiB of it.
    pub fn output(mut self) -> Result<String> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn()?;
        let out = child.stdout.take().map(read_in_background);
        let err = child.stderr.take().map(read_in_background);
        let waited = self.wait(&mut child);
        let collect =
            |reader: Option<thread::JoinHandle<String>>| reader.and_then(|r| r.join().ok()).unwrap_or_default();
        let (out, err) = (collect(out), collect(err));
        let status = waited?;
        if status.success() {
            return Ok(out);
        }
        Err(Failure::Command { what: self.what, status: describe(status), tail: last_lines(&err, TAIL_LINES) })
    }

    /// Runs to the end with standard output written on to `echo` and also given line by line. `Ok(false)` when the program said no.
    pub fn run_watched(mut self, mut echo: impl Write + Send, mut line: impl FnMut(&str) + Send) -> Result<bool> {
        self.command.stdout(Stdio::piped());
        let mut child = self.spawn()?;
        let out = child.stdout.take();
        thread::scope(|scope| {
            if let Some(out) = out {
                scope.spawn(move || {
                    let mut reader = BufReader::new(out);
                    let mut bytes = Vec::new();
                    while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                        let _ = echo.write_all(&bytes).and_then(|()| echo.flush());
                        line(String::from_utf8_lossy(&bytes).trim_end());
                        bytes.clear();
                    }
                });
            }
            self.wait(&mut child).map(|status| status.success())
        })
    }

    /// Whether it can be run and says yes. Its output goes nowhere.
    pub fn succeeds(mut self) -> bool {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        self.spawn().and_then(|mut child| self.wait(&mut child)).is_ok_and(|status| status.success())
    }

    fn spawn(&mut self) -> Result<Child> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.command.spawn().map_err(|source| Failure::Start { what: self.what.clone(), program, source })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let until = Instant::now() + self.deadline;
        let mut pause = Duration::from_millis(2);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    return if interrupt::requested() && !status.success() {
                        Err(Failure::Interrupted)
                    } else {
                        Ok(status)
                    };
                }
                Ok(None) => {}
                Err(source) => {
                    return Err(Failure::Command {
                        what: self.what.clone(),
                        status: source.to_string(),
                        tail: String::new(),
                    });
                }
            }
            if interrupt::requested() {
                end_group(child);
                return Err(Failure::Interrupted);
            }
            if Instant::now() >= until {
                end_group(child);
                return Err(Failure::Deadline {
                    what: self.what.clone(),
                    deadline: self.deadline,
                    tail: self.log_tail(),
                });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(interrupt::TICK);
        }
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(Failure::Command { what: self.what.clone(), status: describe(status), tail: self.log_tail() })
    }

    fn log_tail(&self) -> String {
        self.log.as_deref().map(tail).unwrap_or_default()
    }
}

/// SIGTERM to the child's whole group, SIGKILL when that was not enough.
pub fn end_group(child: &mut Child) {
    let Some(group) = Pid::from_raw(child.id() as i32) else { return };
    let _ = kill_process_group(group, Signal::TERM);
    let until = Instant::now() + GRACE;
    while Instant::now() < until {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    // Also when the leader is gone: others of its group may not be.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// The last lines of a log, for a failure.
pub fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => String::new(),
        Ok(text) => format!("--- end of `{}`\n{}\n---", path.display(), last_lines(&text, TAIL_LINES)),
        Err(_) => String::new(),
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn read_in_background(source: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.take(64 * 1024 * 1024).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Where a program of this name is, on the given search path.
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let failure = Program::new("the chore", "sh", Duration::from_secs(10))
            .args(["-c", "echo first; echo last >&2; exit 3"])
            .log(dir.path().join("chore.log"))
            .run()
            .expect_err("it exits with 3");
        let text = failure.to_string();
        assert!(text.starts_with("the chore failed: exit code 3\n"), "{text}");
        assert!(text.contains("first\nlast\n"), "{text}");
    }

    #[test]
    fn a_program_past_its_deadline_is_stopped_with_its_children() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("pid");
        let started = Instant::now();
        let failure = Program::new("the sleeper", "sh", Duration::from_millis(300))
            .args(["-c", &format!("sleep 60 & echo $! > {}; wait", file.display())])
            .run()
            .expect_err("it sleeps too long");
        assert!(matches!(failure, Failure::Deadline { .. }), "{failure}");
        assert!(started.elapsed() < Duration::from_secs(8));
        let pid = fs::read_to_string(&file).expect("the script wrote it");
        let alive = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(!alive, "the grandchild outlived its group");
    }

    #[test]
    fn watched_output_arrives_line_by_line() {
        let mut lines = Vec::new();
        let ok = Program::new("the talker", "sh", Duration::from_secs(10))
            .args(["-c", "printf 'one\\ntwo'"])
            .run_watched(std::io::sink(), |line| lines.push(line.to_owned()))
            .expect("sh runs");
        assert!(ok);
        assert_eq!(lines, ["one", "two"]);
    }
}
