//! One sandbox from its start to its end: watched, started again when it dies, ended at its limits.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::build_log::{self, BuildLog};
use super::cgroup::Group;
use super::doors::{Doors, NET_FOLDER};
use super::egress::{self, Egress};
use super::isolation::{Enclosure, command_line};
use super::limits::{self, Exceeded, Limits};
use super::network::Policy;
use super::processes::{self, ProcessId};
use super::record::Record;
use super::registry::{CreateError, Registry, STOP_GRACE};
use crate::backoff::Backoff;
use crate::stop_signal::raised;
use crate::supervise::environment::SANDBOX_VARIABLE;
use crate::supervise::failure;
use crate::{clock, launch, random};

/// Starts of a sandbox after its first that are granted it.
const RESTARTS: u32 = 5;
/// A sandbox outlives its session's own limit by this much, so that the session ends it first.
const LIFE_MARGIN: Duration = Duration::from_secs(60);
/// For a supervisor to read its configuration.
const CONFIG_WITHIN: Duration = Duration::from_secs(10);
/// For a session to take that its sandbox was ended.
const TELL_WITHIN: Duration = Duration::from_secs(5);
/// Times that it is told.
const TELL_ATTEMPTS: u32 = 3;

/// What one sandbox is started with, each time.
struct Keeping {
    /// As its supervisor gets it. Lives here and nowhere else.
    config: CreateSandboxRequest,
    limits: Limits,
    doors: Option<Doors>,
    log: Option<Arc<BuildLog>>,
    group: Option<Group>,
    /// The way out, for as long as this is kept.
    _egress: Option<Egress>,
}

/// Why a sandbox does not run any more.
enum Ended {
    Process(std::io::Result<ExitStatus>),
    Wanted,
    Limit(Exceeded),
}

impl Registry {
    /// Keeps one sandbox alive until it ends for good.
    pub(super) async fn keep(
        self: Arc<Self>,
        mut record: Record,
        request: CreateSandboxRequest,
        mut stopped: watch::Receiver<bool>,
        log: Option<Arc<BuildLog>>,
        started: oneshot::Sender<Result<(), CreateError>>,
    ) {
        let id = request.sandbox_id.clone();
        let life = Duration::from_secs(u64::from(request.timeout_seconds)) + LIFE_MARGIN;
        let (keeping, mut child) = match self.first_start(&mut record, request, log).await {
            Ok(kept) => {
                self.open_tunnels(&record, &kept.0.config);
                drop(started.send(Ok(())));
                kept
            }
            Err(error) => {
                drop(started.send(Err(error)));
                return;
            }
        };
        let end_of_life = Instant::now() + life;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let ended = tokio::select! {
                status = child.wait() => Ended::Process(status),
                () = raised(&mut stopped) => Ended::Wanted,
                () = sleep_until(end_of_life) => {
                    tracing::info!(event = "sandbox.end_of_life", sandbox_id = id);
                    Ended::Wanted
                }
                exceeded = self.exceeded(&keeping, record.process) => Ended::Limit(exceeded),
            };
            let status = match ended {
                Ended::Process(status) => status,
                Ended::Wanted => break,
                Ended::Limit(exceeded) => {
                    self.end_at_limit(&keeping, &mut record, exceeded).await;
                    break;
                }
            };
            // A supervisor that died leaves children behind where there is no process namespace.
            if let Some(leader) = record.process {
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
            match self.spawn(&mut record, &keeping).await {
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
        self.tunnels.close(&id);
        record.stopped(clock::now());
        if let Err(error) = self.records.save(&record) {
            tracing::error!(event = "host.record_not_saved", sandbox_id = id, %error);
        }
        let is_build = record.build_id.is_some();
        if let Some(entry) = self.lock().get_mut(&id) {
            (entry.record, entry.stop) = (record, None);
        }
        // Its control groups go while somebody waits: a host that ends goes no further than that.
        drop(keeping);
        // Whoever waits for the end need not wait for what follows.
        drop(stopped);
        if is_build && Instant::now() >= end_of_life {
            self.discard(&id).await;
        }
        self.discard_oldest().await;
    }

    async fn first_start(
        &self,
        record: &mut Record,
        mut config: CreateSandboxRequest,
        log: Option<Arc<BuildLog>>,
    ) -> Result<(Keeping, Child), CreateError> {
        let id = config.sandbox_id.clone();
        // Shared memory is of one run.
        match std::fs::remove_dir_all(self.records.folder(&id).join("shm")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.records.create_folders(&id)?;
        // Before the process exists: a host that dies in between finds the sandbox by its mark.
        self.records.save(record)?;
        if let BootFrom::RepoImage { image_id, .. } | BootFrom::SnapshotRestore { image_id } = &mut config.boot
            && let Some(image_id) = image_id.take()
        {
            self.snapshots.put_back(&image_id, self.records.folder(&id)).await?;
        }
        let limits = Limits::new(self.settings.limits, config.limits);
        let (mut doors, mut egress) = (None, None);
        if self.settings.isolation.own_network() {
            let policy = Policy::new(self.settings.network, &config, &self.settings.reach);
            let found = Doors::of(&policy);
            egress = Some(egress::serve(&self.records.folder(&id).join(NET_FOLDER), policy)?);
            config.env.extend(found.variables());
            doors = Some(found);
        }
        let group = self.settings.cgroups.as_ref().map(|groups| groups.make(&id, &limits)).transpose()?;
        let keeping = Keeping { config, limits, doors, log, group, _egress: egress };
        let child = self.spawn(record, &keeping).await?;
        Ok((keeping, child))
    }

    /// Opens what people reach of a session's sandbox, and tells it. Its supervisor waits for that.
    fn open_tunnels(&self, record: &Record, config: &CreateSandboxRequest) {
        if record.build_id.is_none() {
            let workspace = self.records.folder(&config.sandbox_id).join("workspace");
            self.tunnels.open(&config.sandbox_id, &config.services, &workspace);
        }
    }

    async fn exceeded(&self, keeping: &Keeping, process: Option<ProcessId>) -> Exceeded {
        match process {
            Some(leader) => {
                let folder = self.records.folder(&keeping.config.sandbox_id);
                let kernel = keeping.group.as_ref().map(Group::memory_watch).unwrap_or_default();
                limits::exceeded(keeping.limits, leader, folder, kernel).await
            }
            None => std::future::pending().await,
        }
    }

    async fn end_at_limit(&self, keeping: &Keeping, record: &mut Record, exceeded: Exceeded) {
        let id = &keeping.config.sandbox_id;
        tracing::warn!(event = "sandbox.limit", sandbox_id = id, reason = %exceeded);
        // At once: what passes a limit does not stop at it.
        if let Some(leader) = record.process {
            processes::kill(leader, id).await;
        }
        record.sandbox.ended_because = Some(exceeded.to_string());
        if record.build_id.is_none() && !self.tell(&keeping.config, &exceeded.to_string()).await {
            tracing::warn!(event = "sandbox.limit_not_told", sandbox_id = id);
        }
    }

    /// Tells the session, as its sandbox, why that one is no more.
    async fn tell(&self, config: &CreateSandboxRequest, reason: &str) -> bool {
        let base = config.control_plane_url.trim_end_matches('/');
        let url = format!("{base}/sandbox/{}/error", config.sandbox_id);
        for _ in 0..TELL_ATTEMPTS {
            let call = self
                .http
                .post(&url)
                .bearer_auth(&config.auth_token)
                .header("X-Sandbox-ID", &config.sandbox_id)
                .timeout(TELL_WITHIN)
                .json(&json!({"error": reason, "fatal": true}));
            match call.send().await {
                // A refusal stays one.
                Ok(answer) if !answer.status().is_server_error() => return answer.status().is_success(),
                Ok(_) | Err(_) => sleep(Duration::from_millis(500)).await,
            }
        }
        false
    }

    async fn spawn(&self, record: &mut Record, keeping: &Keeping) -> std::io::Result<Child> {
        let id = &keeping.config.sandbox_id;
        let folder = self.records.folder(id);
        let settings = &self.settings;
        let die_with = (!settings.keep_on_exit).then(std::process::id);
        let enclosure = Enclosure {
            folder: &folder,
            outlives_host: settings.keep_on_exit,
            doors: keeping.doors.as_ref(),
            limits: keeping.limits,
        };
        let line = command_line(&settings.isolation, &settings.programs, &enclosure);
        let groups = keeping.group.as_ref().map(Group::entries).unwrap_or_default();
        let mut command = Command::new(&settings.programs.bridge);
        command
            .args(launch::arguments_joining(true, die_with, &groups))
            .args(line)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env(SANDBOX_VARIABLE, id)
            .envs(std::env::var_os("OI_LOG").map(|filter| ("OI_LOG", filter)))
            .envs(keeping.doors.as_ref().map(Doors::variables).unwrap_or_default())
            .current_dir(folder.join("workspace"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        if keeping.log.is_some() {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        record.process = child.id().and_then(ProcessId::of);
        if let (Some(said), Some(log)) = (child.stderr.take(), &keeping.log) {
            tokio::spawn(build_log::follow(said, Arc::clone(log)));
        }
        if let Err(error) = self.hand_over(&mut child, record, keeping).await {
            drop(child.kill().await);
            processes::sweep(id);
            return Err(error);
        }
        tracing::info!(event = "sandbox.started", sandbox_id = id, pid = record.process.map(|process| process.pid));
        Ok(child)
    }

    async fn hand_over(&self, child: &mut Child, record: &Record, keeping: &Keeping) -> std::io::Result<()> {
        self.records.save(record)?;
        if let Some(entry) = self.lock().get_mut(&keeping.config.sandbox_id) {
            entry.record = record.clone();
        }
        let config = serde_json::to_vec(&keeping.config)?;
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
    // An end with a reason would come again.
    let is_meant = |status: &ExitStatus| status.code().is_some_and(|code| failure::MEANT.contains(&code));
    status.as_ref().is_ok_and(|status| !status.success() && !is_meant(status))
}
