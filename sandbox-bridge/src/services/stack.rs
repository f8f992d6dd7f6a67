//! Programs that make one service: started in order, stopped in reverse, started anew together when one of them dies.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use oi_protocol::event::BootStatus;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Tell;
use super::child::{ChildSpec, RunningChild};
use super::restarts::Restarts;
use crate::clock;
use crate::stop_signal::raised;

/// A service.
pub struct Stack {
    /// Its name, for people.
    pub name: &'static str,
    /// What must be done before each start, such as removing what an earlier one left.
    pub prepare: Box<dyn Fn() -> std::io::Result<()> + Send + Sync>,
    /// Its programs, in order. The work's folder is added to the arguments of those that want it.
    pub children: Vec<ChildSpec>,
    /// Whether the last argument of each program is the folder of the work.
    pub takes_directory: bool,
}

/// Keeps a service.
pub struct Keeper {
    /// The service.
    pub stack: Stack,
    /// What ties its programs to this one.
    pub launcher: Vec<OsString>,
    /// The timeline of the boot.
    pub tell: Tell,
    /// Of the waits between restarts: a second, outside of tests.
    pub unit: Duration,
}

impl Keeper {
    /// Starts it once its folder is known, and keeps it until `shutdown` or until it is given up.
    pub async fn keep_after(
        self,
        directory: impl Future<Output = PathBuf> + Send,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut stop = shutdown.clone();
        tokio::select! {
            directory = directory => self.keep(&directory, &mut shutdown).await,
            () = raised(&mut stop) => {}
        }
    }

    async fn keep(&self, directory: &Path, shutdown: &mut watch::Receiver<bool>) {
        let (name, began) = (self.stack.name, clock::now());
        let mut restarts = Restarts::new(self.unit);
        let mut is_told = false;
        loop {
            let mut running = Vec::new();
            let mut stop = shutdown.clone();
            let started = tokio::select! {
                started = self.start(directory, &mut running) => started,
                () = raised(&mut stop) => {
                    stop_all(running).await;
                    return;
                }
            };
            let reason = match started {
                Ok(()) => {
                    if !std::mem::replace(&mut is_told, true) {
                        (self.tell)(name, BootStatus::Completed, began, None);
                    }
                    tracing::info!(event = "services.up", service = name);
                    tokio::select! {
                        reason = first_end(&mut running) => reason,
                        () = raised(&mut stop) => {
                            stop_all(running).await;
                            return;
                        }
                    }
                }
                Err(reason) => reason,
            };
            stop_all(running).await;
            let Some(wait) = restarts.next(Instant::now()) else {
                tracing::warn!(event = "services.given_up", service = name, restarts = restarts.count(), reason);
                let detail = format!("It ended {} times and is not started again: {reason}.", restarts.count() + 1);
                (self.tell)(name, BootStatus::Failed, began, Some(&detail));
                return;
            };
            tracing::warn!(event = "services.restart", service = name, nth = restarts.count(), reason);
            tokio::select! {
                () = sleep(wait) => {}
                () = raised(&mut stop) => return,
            }
        }
    }

    async fn start(&self, directory: &Path, running: &mut Vec<RunningChild>) -> Result<(), String> {
        (self.stack.prepare)().map_err(|error| format!("it could not be prepared: {error}"))?;
        for child in &self.stack.children {
            let mut child = child.clone();
            if self.stack.takes_directory {
                child.arguments.push(directory.as_os_str().to_owned());
            }
            running.push(child.start(&self.launcher, directory).await?);
        }
        Ok(())
    }
}

async fn first_end(running: &mut [RunningChild]) -> String {
    if running.is_empty() {
        return "there is no program".to_owned();
    }
    select_all(running.iter_mut().map(|child| Box::pin(child.ended()))).await.0
}

async fn stop_all(mut running: Vec<RunningChild>) {
    while let Some(child) = running.pop() {
        child.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::child::Readiness;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::{Arc, Mutex};

    type Told = (String, BootStatus, Option<String>);

    struct Bench {
        folder: tempfile::TempDir,
        told: Arc<Mutex<Vec<Told>>>,
        stop: watch::Sender<bool>,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { folder, told: Arc::default(), stop: watch::channel(false).0 }
        }

        fn script(&self, name: &'static str, body: &str) -> ChildSpec {
            let program = self.folder.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).expect("written");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
            let environment = vec![("PATH".into(), "/usr/bin:/bin".into()), ("PASSWORD".into(), "hidden".into())];
            ChildSpec { name, program, arguments: Vec::new(), environment, readiness: Readiness::Started }
        }

        fn keep(&self, children: Vec<ChildSpec>, takes_directory: bool) -> tokio::task::JoinHandle<()> {
            let told = Arc::clone(&self.told);
            let tell: Tell = Arc::new(move |phase, status, _, detail| {
                let entry = (phase.to_owned(), status, detail.map(str::to_owned));
                told.lock().expect("no panic").push(entry);
            });
            let stack = Stack { name: "test", prepare: Box::new(|| Ok(())), children, takes_directory };
            let keeper = Keeper { stack, launcher: Vec::new(), tell, unit: Duration::from_millis(5) };
            let directory = std::future::ready(self.folder.path().to_owned());
            tokio::spawn(keeper.keep_after(directory, self.stop.subscribe()))
        }

        fn log(&self) -> String {
            std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
        }

        async fn until_log(&self, fits: impl Fn(&str) -> bool) -> String {
            for _ in 0..800 {
                let log = self.log();
                if fits(&log) {
                    return log;
                }
                sleep(Duration::from_millis(10)).await;
            }
            panic!("the log stays: {}", self.log());
        }
    }

    #[tokio::test]
    async fn programs_start_in_order_and_stop_in_reverse() {
        let bench = Bench::new();
        let body = |name: &str| {
            format!(
                "trap 'echo stop {name} >> log; exit 0' TERM\necho start {name} $PASSWORD >> log\nwhile :; do sleep 0.05; done"
            )
        };
        let first = ChildSpec { readiness: Readiness::Started, ..bench.script("first", &body("first")) };
        let second = bench.script("second", &body("second"));
        let task = bench.keep(vec![first, second], false);
        bench.until_log(|log| log.contains("start second") && log.contains("start first")).await;
        bench.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(8), task).await.expect("it ends").expect("no panic");
        assert!(bench.log().ends_with("stop second\nstop first\n"), "{}", bench.log());
        assert_eq!(bench.told.lock().expect("no panic")[..], [("test".to_owned(), BootStatus::Completed, None)]);
    }

    #[tokio::test]
    async fn what_ends_is_started_again_with_all_beside_it_and_given_up_after_five_restarts() {
        let bench = Bench::new();
        let beside = bench.script("beside", "echo beside >> log\nexec sleep 300");
        let fails = bench.script("fails", "echo run \"$1\" >> log\nexit 3");
        let task = bench.keep(vec![beside, fails], true);
        tokio::time::timeout(Duration::from_secs(8), task).await.expect("it is given up").expect("no panic");
        let log = bench.log();
        let runs = log.lines().filter(|line| *line == format!("run {}", bench.folder.path().display())).count();
        assert_eq!(runs, 6, "{log}");
        let told = bench.told.lock().expect("no panic");
        let (_, status, detail) = told.last().expect("told");
        assert_eq!(*status, BootStatus::Failed);
        assert!(
            detail.as_ref().is_some_and(|text| text.contains("6 times") && text.contains("exit status: 3")),
            "{detail:?}"
        );
    }

    #[tokio::test]
    async fn the_next_program_waits_for_the_socket_of_the_one_before() {
        let bench = Bench::new();
        let socket = bench.folder.path().join("socket");
        let listen = format!(
            "sleep 0.3; exec python3 -c 'import socket,time;s=socket.socket(socket.AF_UNIX);s.bind(\"{}\");open(\"log\",\"a\").write(\"bound\\n\");s.listen();time.sleep(300)'",
            socket.display()
        );
        let first = ChildSpec {
            readiness: Readiness::Socket(socket, Duration::from_secs(8)),
            ..bench.script("first", &listen)
        };
        let second = bench.script("second", "echo second >> log\nexec sleep 300");
        let task = bench.keep(vec![first, second], false);
        let log = bench.until_log(|log| log.contains("second")).await;
        assert_eq!(log, "bound\nsecond\n");
        bench.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(8), task).await.expect("it ends").expect("no panic");
    }
}
