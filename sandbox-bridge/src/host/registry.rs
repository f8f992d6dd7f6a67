//! The sandboxes of this machine: started, watched, started again when they die, stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oi_protocol::local_backend::{CreateSandboxRequest, LocalSandbox, LocalSandboxList, LocalSandboxStatus};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::isolation::{Isolation, Programs, command_line};
use super::processes::{self, ProcessId};
use super::record::{Record, Records, is_valid_id};
use crate::backoff::Backoff;
use crate::stop_signal::raised;
use crate::supervise::environment::SANDBOX_VARIABLE;
use crate::{clock, launch, random};

/// Starts of a sandbox after its first that are granted it.
const RESTARTS: u32 = 5;
/// For a supervisor to close its socket.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// A sandbox outlives its session's own limit by this much, so that the session ends it first.
const LIFE_MARGIN: Duration = Duration::from_secs(60);
/// For a supervisor to read its configuration.
const CONFIG_WITHIN: Duration = Duration::from_secs(10);

/// Why a sandbox was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name cannot be a folder.
    #[error("sandboxId must have 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'")]
    InvalidId,
    /// As many run as may.
    #[error("{0} sandboxes run already, which is the limit of this host")]
    TooMany(usize),
    /// The host is ending.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// A folder, a record or the process.
    #[error("the sandbox could not be started: {0}")]
    Io(#[from] std::io::Error),
}

struct Entry {
    record: Record,
    /// Asks its keeper to stop it; absent when it does not run.
    stop: Option<watch::Sender<bool>>,
}

/// How sandboxes are started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How they are set apart.
    pub isolation: Isolation,
    /// The programs they get.
    pub programs: Programs,
    /// Sandboxes at a time.
    pub max_running: usize,
    /// Whether they outlive this host.
    pub keep_on_exit: bool,
}

/// All sandboxes of this host.
pub struct Registry {
    settings: Settings,
    records: Records,
    entries: Mutex<BTreeMap<String, Entry>>,
    closing: watch::Sender<bool>,
}

impl Registry {
    /// Opens the records and ends what an earlier host left behind.
    pub async fn open(settings: Settings, state_dir: &std::path::Path) -> std::io::Result<Arc<Self>> {
        let records = Records::open(state_dir)?;
        let mut entries = BTreeMap::new();
        for mut record in records.load()? {
            let id = record.sandbox.sandbox_id.clone();
            if record.sandbox.status == LocalSandboxStatus::Running {
                tracing::warn!(event = "host.stray", sandbox_id = id);
                match record.process {
                    Some(leader) => processes::stop(leader, &id, STOP_GRACE).await,
                    None => processes::sweep(&id),
                }
                record.stopped();
                records.save(&record)?;
            }
            entries.insert(id, Entry { record, stop: None });
        }
        let (closing, _) = watch::channel(false);
        Ok(Arc::new(Self { settings, records, entries: Mutex::new(entries), closing }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sandbox.
    pub fn get(&self, id: &str) -> Option<LocalSandbox> {
        self.lock().get(id).map(|entry| entry.record.sandbox.clone())
    }

    /// Whether a sandbox runs.
    pub fn is_running(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|entry| entry.stop.is_some())
    }

    /// A sandbox's folder of checkouts, as this machine has it.
    pub fn workspace_of(&self, id: &str) -> PathBuf {
        self.records.folder(id).join("workspace")
    }

    /// Whether the proxy may reach a port of a sandbox that runs.
    pub fn allows_port(&self, id: &str, port: u16) -> bool {
        self.lock().get(id).is_some_and(|entry| entry.stop.is_some() && entry.record.ports.contains(&port))
    }

    /// Sandboxes, oldest first, of one session or of all; `cursor` is the last id of the page before.
    pub fn list(&self, session_id: Option<&str>, limit: usize, cursor: Option<&str>) -> LocalSandboxList {
        let mut all: Vec<LocalSandbox> = self
            .lock()
            .values()
            .map(|entry| entry.record.sandbox.clone())
            .filter(|sandbox| session_id.is_none_or(|id| sandbox.session_id == id))
            .collect();
        all.sort_by(|a, b| (a.created_at, &a.sandbox_id).cmp(&(b.created_at, &b.sandbox_id)));
        let from = cursor.and_then(|cursor| all.iter().position(|s| s.sandbox_id == cursor)).map_or(0, |at| at + 1);
        let mut sandboxes = all.split_off(from.min(all.len()));
        let more = sandboxes.len() > limit;
        sandboxes.truncate(limit);
        let next_cursor = sandboxes.last().filter(|_| more).map(|last| last.sandbox_id.clone());
        LocalSandboxList { sandboxes, next_cursor }
    }

    /// Makes and starts a sandbox; `false` says that it was there already.
    pub async fn create(self: &Arc<Self>, request: CreateSandboxRequest) -> Result<(LocalSandbox, bool), CreateError> {
        if !is_valid_id(&request.sandbox_id) {
            return Err(CreateError::InvalidId);
        }
        let id = request.sandbox_id.clone();
        let (stop, stopped) = watch::channel(false);
        let record = {
            let mut entries = self.lock();
            if let Some(entry) = entries.get(&id) {
                return Ok((entry.record.sandbox.clone(), false));
            }
            if *self.closing.borrow() {
                return Err(CreateError::ShuttingDown);
            }
            let running = entries.values().filter(|entry| entry.stop.is_some()).count();
            if running >= self.settings.max_running {
                return Err(CreateError::TooMany(running));
            }
            let record = Record::new(id.clone(), request.session_id.clone(), request.generation, clock::now());
            entries.insert(id.clone(), Entry { record: record.clone(), stop: Some(stop) });
            record
        };
        let (started, outcome) = oneshot::channel();
        let registry = Arc::clone(self);
        tokio::spawn(async move { registry.keep(record, request, stopped, started).await });
        match outcome.await {
            Ok(Ok(())) => self.get(&id).map(|sandbox| (sandbox, true)).ok_or(CreateError::ShuttingDown),
            Ok(Err(error)) => {
                self.lock().remove(&id);
                Err(CreateError::Io(error))
            }
            Err(_) => Err(CreateError::ShuttingDown),
        }
    }

    /// Stops a sandbox; `None` when there is none of this name.
    pub async fn stop(&self, id: &str) -> Option<LocalSandbox> {
        let stop = self.lock().get(id)?.stop.clone();
        if let Some(stop) = stop {
            stop.send_replace(true);
            // The keeper drops its end when the sandbox is gone.
            drop(tokio::time::timeout(Duration::from_secs(15), stop.closed()).await);
        }
        self.get(id)
    }

    /// Stops all, unless they are to outlive this host.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        if self.settings.keep_on_exit {
            return;
        }
        let running: Vec<String> =
            self.lock().iter().filter(|(_, entry)| entry.stop.is_some()).map(|(id, _)| id.clone()).collect();
        futures_util::future::join_all(running.iter().map(|id| self.stop(id))).await;
    }

    /// Keeps one sandbox alive until it ends for good. Its configuration lives here and nowhere else.
    async fn keep(
        self: Arc<Self>,
        mut record: Record,
        request: CreateSandboxRequest,
        mut stopped: watch::Receiver<bool>,
        started: oneshot::Sender<std::io::Result<()>>,
    ) {
        let id = request.sandbox_id.clone();
        let mut child = match self.first_start(&mut record, &request).await {
            Ok(child) => {
                drop(started.send(Ok(())));
                child
            }
            Err(error) => {
                drop(started.send(Err(error)));
                return;
            }
        };
        let life = Duration::from_secs(u64::from(request.timeout_seconds)) + LIFE_MARGIN;
        let end_of_life = Instant::now() + life;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let ended = tokio::select! {
                status = child.wait() => Some(status),
                () = raised(&mut stopped) => None,
                () = sleep_until(end_of_life) => {
                    tracing::info!(event = "sandbox.end_of_life", sandbox_id = id);
                    None
                }
            };
            let Some(status) = ended else { break };
            let leader = record.process;
            // A supervisor that died leaves children behind where there is no process namespace.
            if let Some(leader) = leader {
                processes::stop(leader, &id, Duration::ZERO).await;
            }
            if !is_accident(&status) || backoff.failures() >= RESTARTS {
                tracing::info!(event = "sandbox.ended", sandbox_id = id, status = ?status.ok());
                break;
            }
            tracing::warn!(event = "sandbox.restart", sandbox_id = id, status = ?status.ok(), nth = backoff.failures() + 1);
            tokio::select! {
                () = sleep(backoff.next(random::unit())) => {}
                () = raised(&mut stopped) => break,
            }
            match self.spawn(&mut record, &request).await {
                Ok(again) => child = again,
                Err(error) => {
                    tracing::error!(event = "sandbox.restart_failed", sandbox_id = id, %error);
                    break;
                }
            }
        }
        if let Some(leader) = record.process {
            processes::stop(leader, &id, STOP_GRACE).await;
        }
        drop(tokio::time::timeout(Duration::from_secs(5), child.wait()).await);
        record.stopped();
        if let Err(error) = self.records.save(&record) {
            tracing::error!(event = "host.record_not_saved", sandbox_id = id, %error);
        }
        if let Some(entry) = self.lock().get_mut(&id) {
            *entry = Entry { record, stop: None };
        }
    }

    async fn first_start(&self, record: &mut Record, request: &CreateSandboxRequest) -> std::io::Result<Child> {
        self.records.create_folders(&request.sandbox_id)?;
        // Before the process exists: a host that dies in between finds the sandbox by its mark.
        self.records.save(record)?;
        self.spawn(record, request).await
    }

    async fn spawn(&self, record: &mut Record, request: &CreateSandboxRequest) -> std::io::Result<Child> {
        let id = &request.sandbox_id;
        let folder: PathBuf = self.records.folder(id);
        let settings = &self.settings;
        let die_with = (!settings.keep_on_exit).then(std::process::id);
        let line = command_line(&settings.isolation, &settings.programs, &folder, settings.keep_on_exit);
        let mut command = Command::new(&settings.programs.bridge);
        command
            .args(launch::arguments(true, die_with))
            .args(line)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env(SANDBOX_VARIABLE, id)
            .envs(std::env::var_os("OI_LOG").map(|filter| ("OI_LOG", filter)))
            .current_dir(folder.join("workspace"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn()?;
        record.process = child.id().and_then(ProcessId::of);
        if let Err(error) = self.hand_over(&mut child, record, request).await {
            drop(child.kill().await);
            processes::sweep(id);
            return Err(error);
        }
        tracing::info!(event = "sandbox.started", sandbox_id = id, pid = record.process.map(|process| process.pid));
        Ok(child)
    }

    async fn hand_over(
        &self,
        child: &mut Child,
        record: &Record,
        request: &CreateSandboxRequest,
    ) -> std::io::Result<()> {
        self.records.save(record)?;
        if let Some(entry) = self.lock().get_mut(&request.sandbox_id) {
            entry.record = record.clone();
        }
        let config = serde_json::to_vec(request)?;
        let Some(mut input) = child.stdin.take() else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
        let write = async {
            input.write_all(&config).await?;
            input.shutdown().await
        };
        tokio::time::timeout(CONFIG_WITHIN, write).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }
}

/// Exit code 0 is the end that the session or a person wanted.
fn is_accident(status: &std::io::Result<ExitStatus>) -> bool {
    status.as_ref().is_ok_and(|status| !status.success())
}
