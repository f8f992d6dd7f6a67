//! The sandboxes of this machine: what callers may ask of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oi_protocol::local_backend::{
    BootFrom, CreateSandboxRequest, LocalSandbox, LocalSandboxList, LocalSandboxStatus, LocalSnapshot,
};
use tokio::sync::{oneshot, watch};

use super::build_log::BuildLog;
use super::cgroup::Cgroups;
use super::connect_into::Inside;
use super::isolation::{Isolation, Programs};
use super::limits::LimitOptions;
use super::network::{NetworkChoice, Server};
use super::processes;
use super::record::{Record, Records, is_valid_id};
use super::snapshots::{SnapshotError, Snapshots, Subject};
use super::tunnels::Tunnels;
use crate::clock;
use crate::secret::Secret;

/// For a supervisor to close its socket.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);
/// For a keeper to end its sandbox.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);

/// Why a sandbox was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name cannot be a folder.
    #[error("sandboxId must have 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'")]
    InvalidId,
    /// A build where a session's sandbox was asked for, or the other way round.
    #[error("{0}")]
    WrongBoot(&'static str),
    /// As many run as may.
    #[error("{0} sandboxes run already, which is the limit of this host")]
    TooMany(usize),
    /// The host is ending.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// There is none of this name.
    #[error("there is no sandbox of this name")]
    Unknown,
    /// Its credentials were in the memory of an earlier host.
    #[error("the sandbox cannot go on: its credentials ended with an earlier run of this host")]
    CannotGoOn,
    /// The files that it begins with.
    #[error(transparent)]
    Files(#[from] SnapshotError),
    /// A folder, a record or the process.
    #[error("the sandbox could not be started: {0}")]
    Io(#[from] std::io::Error),
}

pub(super) struct Entry {
    pub(super) record: Record,
    /// Asks its keeper to stop it; absent when it does not run.
    pub(super) stop: Option<watch::Sender<bool>>,
    /// The sandbox's bearer, with which it goes on. In memory alone.
    token: Option<Secret>,
    /// What its supervisor said, of a build.
    pub(super) log: Option<Arc<BuildLog>>,
    /// Held by what needs its files to stay as they are.
    files: Arc<tokio::sync::Mutex<()>>,
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
    /// Stopped sandboxes whose files stay; the oldest go first.
    pub max_parked: usize,
    /// Whether they outlive this host.
    pub keep_on_exit: bool,
    /// What they may reach.
    pub network: NetworkChoice,
    /// Servers beyond those of their configuration.
    pub reach: Vec<Server>,
    /// What each may use.
    pub limits: LimitOptions,
    /// Where the kernel keeps that.
    pub cgroups: Option<Cgroups>,
}

/// All sandboxes of this host.
pub struct Registry {
    pub(super) settings: Settings,
    pub(super) records: Records,
    /// Files that were kept.
    pub snapshots: Arc<Snapshots>,
    /// How people reach them, while they run.
    pub(super) tunnels: Arc<Tunnels>,
    /// For telling sessions what became of their sandboxes.
    pub(super) http: reqwest::Client,
    entries: Mutex<BTreeMap<String, Entry>>,
    closing: watch::Sender<bool>,
}

impl Registry {
    /// Opens the records and ends what an earlier host left behind.
    pub async fn open(
        settings: Settings,
        state_dir: &std::path::Path,
        snapshots: Arc<Snapshots>,
        tunnels: Arc<Tunnels>,
        http: reqwest::Client,
    ) -> std::io::Result<Arc<Self>> {
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
                record.stopped(clock::now());
                records.save(&record)?;
            }
            if record.build_id.is_some() {
                // Nobody goes on with a build.
                records.remove(&id)?;
                continue;
            }
            entries.insert(id, Entry { record, stop: None, token: None, log: None, files: Arc::default() });
        }
        let (closing, _) = watch::channel(false);
        Ok(Arc::new(Self { settings, records, snapshots, tunnels, http, entries: Mutex::new(entries), closing }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sandbox.
    pub fn get(&self, id: &str) -> Option<LocalSandbox> {
        self.lock().get(id).map(|entry| entry.record.sandbox.clone())
    }

    /// Where a sandbox's ports are.
    pub fn inside(&self, id: &str) -> Option<Inside> {
        let entries = self.lock();
        let entry = entries.get(id).filter(|entry| entry.stop.is_some())?;
        Some(if self.settings.isolation.own_network() {
            Inside::Enclosed(self.records.folder(&entry.record.sandbox.sandbox_id).join("run"))
        } else {
            Inside::Shared
        })
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

    /// Makes and starts a sandbox of a session; `false` says that it was there already.
    pub async fn create(self: &Arc<Self>, request: CreateSandboxRequest) -> Result<(LocalSandbox, bool), CreateError> {
        if matches!(request.boot, BootFrom::Build(_)) {
            return Err(CreateError::WrongBoot("a build is made at /v1/builds"));
        }
        self.begin(request, None).await
    }

    pub(super) async fn begin(
        self: &Arc<Self>,
        request: CreateSandboxRequest,
        build_id: Option<String>,
    ) -> Result<(LocalSandbox, bool), CreateError> {
        if !is_valid_id(&request.sandbox_id) {
            return Err(CreateError::InvalidId);
        }
        let id = request.sandbox_id.clone();
        let (stop, stopped) = watch::channel(false);
        let mut record = Record::new(id.clone(), request.session_id.clone(), request.generation, clock::now());
        record.build_id.clone_from(&build_id);
        let log = build_id.as_ref().map(|_| Arc::<BuildLog>::default());
        {
            let mut entries = self.lock();
            let same_build = |entry: &&Entry| build_id.is_some() && entry.record.build_id == build_id;
            if let Some(entry) = entries.get(&id).or_else(|| entries.values().find(same_build)) {
                return Ok((entry.record.sandbox.clone(), false));
            }
            self.may_start(&entries)?;
            let token = build_id.is_none().then(|| Secret::new(request.auth_token.clone()));
            let entry =
                Entry { record: record.clone(), stop: Some(stop), token, log: log.clone(), files: Arc::default() };
            entries.insert(id.clone(), entry);
        }
        let outcome = self.start(record, request, stopped, log).await;
        if outcome.is_err() {
            self.lock().remove(&id);
            self.remove_files(&id).await;
        }
        outcome?;
        self.get(&id).map(|sandbox| (sandbox, true)).ok_or(CreateError::ShuttingDown)
    }

    /// Lets a stopped sandbox go on where it was, with its own credentials; `false` says that it runs already.
    pub async fn resume(
        self: &Arc<Self>,
        id: &str,
        mut request: CreateSandboxRequest,
    ) -> Result<(LocalSandbox, bool), CreateError> {
        if request.sandbox_id != id {
            return Err(CreateError::InvalidId);
        }
        let files = self.lock().get(id).map(|entry| Arc::clone(&entry.files)).ok_or(CreateError::Unknown)?;
        let _files = files.lock_owned().await;
        let (stop, stopped) = watch::channel(false);
        let record = {
            let mut entries = self.lock();
            let Some(entry) = entries.get(id) else { return Err(CreateError::Unknown) };
            if entry.stop.is_some() {
                return Ok((entry.record.sandbox.clone(), false));
            }
            self.may_start(&entries)?;
            let entry = entries.get_mut(id).ok_or(CreateError::Unknown)?;
            let token = entry.token.as_ref().ok_or(CreateError::CannotGoOn)?;
            token.reveal().clone_into(&mut request.auth_token);
            request.boot = BootFrom::SnapshotRestore { image_id: None };
            entry.record.goes_on(request.generation);
            entry.stop = Some(stop);
            entry.record.clone()
        };
        let mut before = record.clone();
        if let Err(error) = self.start(record, request, stopped, None).await {
            before.stopped(clock::now());
            if let Some(entry) = self.lock().get_mut(id) {
                (entry.record, entry.stop) = (before, None);
            }
            return Err(error);
        }
        self.get(id).map(|sandbox| (sandbox, true)).ok_or(CreateError::ShuttingDown)
    }

    fn may_start(&self, entries: &BTreeMap<String, Entry>) -> Result<(), CreateError> {
        if *self.closing.borrow() {
            return Err(CreateError::ShuttingDown);
        }
        let running = entries.values().filter(|entry| entry.stop.is_some()).count();
        if running >= self.settings.max_running { Err(CreateError::TooMany(running)) } else { Ok(()) }
    }

    async fn start(
        self: &Arc<Self>,
        record: Record,
        request: CreateSandboxRequest,
        stopped: watch::Receiver<bool>,
        log: Option<Arc<BuildLog>>,
    ) -> Result<(), CreateError> {
        let (started, outcome) = oneshot::channel();
        let registry = Arc::clone(self);
        tokio::spawn(async move { registry.keep(record, request, stopped, log, started).await });
        outcome.await.unwrap_or(Err(CreateError::ShuttingDown))
    }

    /// Stops a sandbox; `None` when there is none of this name.
    pub async fn stop(&self, id: &str) -> Option<LocalSandbox> {
        let stop = self.lock().get(id)?.stop.clone();
        if let Some(stop) = stop {
            stop.send_replace(true);
            // The keeper drops its end when the sandbox is gone.
            drop(tokio::time::timeout(STOPPED_WITHIN, stop.closed()).await);
        }
        self.get(id)
    }

    /// Stops a sandbox and deletes its files. One that is not there is deleted.
    pub async fn discard(&self, id: &str) -> Option<LocalSandbox> {
        let stopped = self.stop(id).await?;
        let files = Arc::clone(&self.lock().get(id)?.files);
        let _files = files.lock_owned().await;
        {
            let mut entries = self.lock();
            // It may go on by now.
            if entries.get(id)?.stop.is_some() {
                return Some(stopped);
            }
            entries.remove(id);
        }
        self.remove_files(id).await;
        Some(stopped)
    }

    async fn remove_files(&self, id: &str) {
        let (records, name) = (self.records.clone(), id.to_owned());
        let removed = tokio::task::spawn_blocking(move || records.remove(&name)).await;
        if let Err(error) = removed.map_err(std::io::Error::other).and_then(|removed| removed) {
            tracing::error!(event = "host.files_left", sandbox_id = id, %error);
        }
    }

    /// Deletes the files of those that were stopped first, where more are kept than may be.
    pub(super) async fn discard_oldest(&self) {
        let mut parked: Vec<(oi_protocol::UnixMillis, String)> = {
            let entries = self.lock();
            let stopped = entries.iter().filter(|(_, entry)| entry.stop.is_none());
            let since = |record: &Record| record.stopped_at.unwrap_or(record.sandbox.created_at);
            stopped.map(|(id, entry)| (since(&entry.record), id.clone())).collect()
        };
        parked.sort();
        let over = parked.len().saturating_sub(self.settings.max_parked);
        for (_, id) in parked.into_iter().take(over) {
            tracing::info!(event = "sandbox.expired", sandbox_id = id);
            self.discard(&id).await;
        }
    }

    /// Keeps a sandbox's files under a label; `false` says that they were kept already.
    pub async fn take_snapshot(
        self: &Arc<Self>,
        id: &str,
        label: String,
    ) -> Result<(LocalSnapshot, bool), SnapshotError> {
        let registry = Arc::clone(self);
        let id = id.to_owned();
        // It goes on when the caller does not wait: what was begun is known, or is not there.
        let taken = tokio::spawn(async move {
            let files = registry.lock().get(&id).map(|entry| Arc::clone(&entry.files));
            let Some(files) = files else {
                // The caller may ask again after the sandbox has gone.
                return registry.snapshots.labelled(&label).map(|known| (known, false)).ok_or(SnapshotError::NoSandbox);
            };
            let _files = files.lock_owned().await;
            let subject = registry.subject(&id).ok_or(SnapshotError::NoSandbox)?;
            registry.snapshots.take(subject, label).await
        });
        taken.await.map_err(std::io::Error::other)?
    }

    fn subject(&self, id: &str) -> Option<Subject> {
        let entries = self.lock();
        let record = &entries.get(id)?.record;
        Some(Subject {
            sandbox_id: id.to_owned(),
            session_id: if record.build_id.is_some() { String::new() } else { record.sandbox.session_id.clone() },
            build_id: record.build_id.clone(),
            folder: self.records.folder(id),
            process: record.process,
        })
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
}
