//! One program of a service: how it is started, known to be up, and stopped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::process_group::GroupGuard;

/// Between asking a program to end and ending it, and then for it to be gone.
pub const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// How a program is known to be up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It runs.
    Started,
    /// It answers on this socket within the time.
    Socket(PathBuf, Duration),
    /// It listens on this port of the loopback within the time.
    Port(u16, Duration),
}

/// A program.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name in logs.
    pub name: &'static str,
    /// The file.
    pub program: PathBuf,
    /// Its arguments. No secret is among them.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// When the next program may start.
    pub readiness: Readiness,
}

/// A program by its name, as a shell of this environment would find it.
pub fn find(environment: &[(OsString, OsString)], name: &str) -> Result<PathBuf, String> {
    let path = environment.iter().find(|(variable, _)| variable == "PATH").map(|(_, value)| value.clone());
    std::env::split_paths(&path.unwrap_or_default())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("`{name}` is not installed in this sandbox."))
}

/// A program that runs, with all that it started; killed when dropped.
pub struct RunningChild {
    child: Child,
    group: GroupGuard,
}

impl ChildSpec {
    /// Starts it and waits until it is up.
    pub async fn start(&self, launcher: &[OsString], directory: &Path) -> Result<RunningChild, String> {
        let mut words = launcher.iter().cloned().chain([self.program.clone().into_os_string()]);
        let first = words.next().unwrap_or_default();
        let child = Command::new(first)
            .args(words)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} could not be started: {error}", self.name))?;
        let group = GroupGuard::of(&child);
        let mut running = RunningChild { child, group };
        self.wait_until_up(&mut running).await?;
        Ok(running)
    }

    async fn wait_until_up(&self, running: &mut RunningChild) -> Result<(), String> {
        let (Readiness::Socket(_, within) | Readiness::Port(_, within)) = &self.readiness else { return Ok(()) };
        let deadline = Instant::now() + *within;
        loop {
            let up = match &self.readiness {
                Readiness::Started => true,
                Readiness::Socket(path, _) => UnixStream::connect(path).await.is_ok(),
                Readiness::Port(port, _) => TcpStream::connect(("127.0.0.1", *port)).await.is_ok(),
            };
            if up {
                return Ok(());
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(format!("{} ended while it started ({status})", self.name));
            }
            if Instant::now() >= deadline {
                return Err(format!("{} was not up within {} s", self.name, within.as_secs()));
            }
            sleep(POLL).await;
        }
    }
}

impl RunningChild {
    /// Returns when it has ended.
    pub async fn ended(&mut self) -> String {
        self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// Ends it and what it started.
    pub async fn stop(self) {
        let Self { mut child, group } = self;
        group.end(&mut child, GRACE).await;
        drop(timeout(GRACE, child.wait()).await);
    }
}
