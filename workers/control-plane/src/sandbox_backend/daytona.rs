//! Daytona: sandboxes are stopped and go on, and are found by their name. The snapshot that they begin with starts the
//! runtime by itself.
//!
//! Session snapshots are copies of a whole container, which take long; since a stopped sandbox goes on anyway, they are
//! taken only with `DAYTONA_SNAPSHOTS=true`.

use std::collections::BTreeMap;
use std::time::Duration;

use oi_protocol::local_backend::CreateSandboxRequest;
use oi_worker_kit::vars::Vars;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::vendor_doors::{Doors, Passwords};
use super::vendor_environment::{self as environment, Environment, Files};
use super::vendor_http::{
    Ask, Auth, Operation, SNAPSHOT_WITHIN, START_WITHIN, STOP_WITHIN, Transport, Vendor, base_url, handle, required,
};
use super::{BackendError, BackendSandbox, Capabilities, Fate, Restored, SandboxBackend};
use crate::sandbox_access::BackendAccess;

/// How often a snapshot that is being made is asked for.
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// The client.
pub struct Daytona<T> {
    vendor: Vendor<T>,
    snapshot: String,
    target: Option<String>,
    auto_stop_minutes: i64,
    auto_archive_minutes: i64,
    takes_snapshots: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewSandbox<'a> {
    name: &'a str,
    snapshot: &'a str,
    env: &'a Environment,
    labels: BTreeMap<&'static str, &'a str>,
    auto_stop_interval: i64,
    auto_archive_interval: i64,
    public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

#[derive(Deserialize)]
struct Sandbox {
    id: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    recoverable: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Preview {
    url: String,
}

#[derive(Deserialize)]
struct Snapshot {
    id: String,
    state: String,
}

impl Sandbox {
    fn state(&self) -> &str {
        self.state.as_deref().unwrap_or_default()
    }

    fn is_broken(&self) -> bool {
        matches!(self.state(), "error" | "build_failed")
    }

    fn is_gone(&self) -> bool {
        matches!(self.state(), "destroyed" | "destroying")
    }

    /// Whether it runs, or is on its way to.
    fn runs(&self) -> bool {
        !self.is_broken()
            && !self.is_gone()
            && !matches!(self.state(), "stopped" | "stopping" | "archived" | "archiving" | "paused" | "pausing")
    }
}

impl<T: Transport> Daytona<T> {
    /// From the `DAYTONA_…` variables.
    pub fn of(vars: &impl Vars, transport: T) -> Result<Self, BackendError> {
        let url = base_url("DAYTONA_API_URL", &vars.get_or("DAYTONA_API_URL", "https://app.daytona.io/api"))?;
        let key = required(vars, "DAYTONA_API_KEY")?;
        Ok(Self {
            vendor: Vendor::new("Daytona", transport, url, key, Auth::Bearer, vars),
            snapshot: required(vars, "DAYTONA_BASE_SNAPSHOT")?,
            target: vars.get("DAYTONA_TARGET"),
            auto_stop_minutes: vars.positive_or("DAYTONA_AUTO_STOP_INTERVAL_MINUTES", 120),
            auto_archive_minutes: vars.positive_or("DAYTONA_AUTO_ARCHIVE_INTERVAL_MINUTES", 10_080),
            takes_snapshots: vars.is_true("DAYTONA_SNAPSHOTS"),
        })
    }

    fn sandbox(&self, id: &str, rest: &[&str]) -> String {
        let parts: Vec<&str> = ["sandbox", id].iter().chain(rest).copied().collect();
        self.vendor.url(&parts, &[])
    }

    async fn start(
        &self,
        request: &CreateSandboxRequest,
        snapshot: &str,
        files: Files,
    ) -> Result<BackendSandbox, BackendError> {
        let id = &request.sandbox_id;
        let env = environment::environment(request, files, &Passwords::of(&self.vendor.key, id));
        let operation = self.vendor.begin("create the sandbox", START_WITHIN).hiding(environment::secrets(&env));
        let repository = request.repositories.first().map(|r| format!("{}/{}", r.repo_owner, r.repo_name));
        let mut labels = BTreeMap::from([
            ("openinspect_framework", "open-inspect"),
            ("openinspect_session_id", request.session_id.as_str()),
            ("openinspect_expected_sandbox_id", id.as_str()),
        ]);
        if let Some(repository) = &repository {
            labels.insert("openinspect_repo", repository);
        }
        let body = NewSandbox {
            name: id,
            snapshot,
            env: &env,
            labels,
            auto_stop_interval: self.auto_stop_minutes,
            auto_archive_interval: self.auto_archive_minutes,
            public: false,
            target: self.target.as_deref(),
        };
        let reply = operation.send(Ask::post(self.vendor.url(&["sandbox"], &[])).json(&body).within(90)).await?;
        // The name is taken by an attempt that was not heard of.
        if reply.status == 409
            && let Some(sandbox) = self.named(&operation, id).await?
        {
            return self.facts(&operation, request, sandbox).await;
        }
        if !reply.is_success() {
            return Err(operation.refused(&reply));
        }
        self.facts(&operation, request, reply.json()?).await
    }

    /// The sandbox of a name, when it is ours.
    async fn named(&self, operation: &Operation<'_, T>, id: &str) -> Result<Option<Sandbox>, BackendError> {
        let Some(reply) = operation.done_or_gone(Ask::get(self.sandbox(id, &[]))).await? else { return Ok(None) };
        let sandbox: Sandbox = reply.json()?;
        let ours = sandbox.labels.get("openinspect_expected_sandbox_id").is_some_and(|label| label == id);
        Ok(Some(sandbox).filter(|sandbox| ours && !sandbox.is_gone()))
    }

    async fn facts(
        &self,
        operation: &Operation<'_, T>,
        request: &CreateSandboxRequest,
        sandbox: Sandbox,
    ) -> Result<BackendSandbox, BackendError> {
        let running = sandbox.runs();
        let provider_object_id = handle(sandbox.id)?;
        let access = if running { self.access(operation, request, &provider_object_id).await } else { None };
        Ok(BackendSandbox { provider_object_id, running, access })
    }

    /// How its ports are reached. A sandbox that works without an address is better than none.
    async fn access(
        &self,
        operation: &Operation<'_, T>,
        request: &CreateSandboxRequest,
        id: &str,
    ) -> Option<Box<BackendAccess>> {
        let doors = Doors::of(&request.services);
        let life = request.timeout_seconds.saturating_add(300).clamp(900, 86_400).to_string();
        let asked = doors.ports().into_iter().map(async |port| {
            let text = port.to_string();
            let parts = ["sandbox", id, "ports", &text, "signed-preview-url"];
            let url = self.vendor.url(&parts, &[("expiresInSeconds", &life)]);
            let preview: Preview = operation.done(Ask::get(url)).await.ok()?.json().ok()?;
            Some((port, preview.url))
        });
        let urls = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        doors.access(&urls, &Passwords::of(&self.vendor.key, &request.sandbox_id))
    }

    async fn go_on(&self, request: &CreateSandboxRequest, id: &str) -> Result<BackendSandbox, BackendError> {
        let operation = self.vendor.begin("let the sandbox go on", START_WITHIN);
        let sandbox: Sandbox = operation.done(Ask::get(self.sandbox(id, &[]))).await?.json()?;
        if sandbox.is_gone() {
            return Err(BackendError::Refused("the stopped sandbox is not there any more".to_owned()));
        }
        if sandbox.is_broken() {
            if !sandbox.recoverable {
                return Err(BackendError::Refused("the stopped sandbox is broken and cannot be recovered".to_owned()));
            }
            operation.done(Ask::post(self.sandbox(id, &["recover"])).within(60)).await?;
        } else if !matches!(sandbox.state(), "started" | "starting" | "restoring" | "resuming") {
            operation.done(Ask::post(self.sandbox(id, &["start"])).within(60)).await?;
        }
        let access = self.access(&operation, request, id).await;
        Ok(BackendSandbox { provider_object_id: id.to_owned(), running: true, access })
    }

    async fn snapshot_named(&self, operation: &Operation<'_, T>, name: &str) -> Result<Option<Snapshot>, BackendError> {
        let url = self.vendor.url(&["snapshots", name], &[]);
        operation.done_or_gone(Ask::get(url)).await?.map(|reply| reply.json()).transpose()
    }
}

impl<T: Transport> SandboxBackend for Daytona<T> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            find: true,
            snapshot: self.takes_snapshots,
            resume: true,
            tunnels: true,
            ..Capabilities::default()
        }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        self.start(request, &self.snapshot, Files::Fresh).await
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        match from {
            Restored::Image(image) => self.start(request, image, Files::Kept).await,
            Restored::Parked(id) => self.go_on(request, id).await,
        }
    }

    async fn take_snapshot(
        &self,
        provider_object_id: &str,
        label: &str,
        look_first: bool,
    ) -> Result<String, BackendError> {
        let operation = self.vendor.begin("keep the sandbox's files", SNAPSHOT_WITHIN);
        let name = format!("oi-{label}");
        let mut found = if look_first { self.snapshot_named(&operation, &name).await? } else { None };
        if found.is_none() {
            let ask = Ask::post(self.sandbox(provider_object_id, &["snapshot"])).json(&json!({ "name": name }));
            let reply = operation.send(ask.within(90)).await?;
            // The name is taken by an attempt that was not heard of.
            if !reply.is_success() && reply.status != 409 {
                return Err(operation.refused(&reply));
            }
        }
        loop {
            match found.as_ref().map(|snapshot| snapshot.state.as_str()) {
                Some("active") => return Ok(name),
                Some("error" | "build_failed" | "removing") => {
                    return Err(BackendError::Refused(operation.sentence("the snapshot failed")));
                }
                _ => operation.pause(ASKED_EVERY).await?,
            }
            found = self.snapshot_named(&operation, &name).await?;
        }
    }

    async fn delete_snapshot(&self, image_id: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("delete kept files", STOP_WITHIN);
        // They are known by their name, and deleted by their id.
        let Some(snapshot) = self.snapshot_named(&operation, image_id).await? else { return Ok(()) };
        let url = self.vendor.url(&["snapshots", &handle(snapshot.id)?], &[]);
        operation.done_or_gone(Ask::delete(url)).await.map(drop)
    }

    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        let operation = self.vendor.begin("look for the sandbox", START_WITHIN);
        match self.named(&operation, &request.sandbox_id).await? {
            Some(sandbox) => self.facts(&operation, request, sandbox).await.map(Some),
            None => Ok(None),
        }
    }

    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>, fate: Fate) -> Result<(), BackendError> {
        let operation = self.vendor.begin("stop the sandbox", STOP_WITHIN);
        // The name leads to it as the id does.
        let id = provider_object_id.unwrap_or(sandbox_id);
        if fate == Fate::Discarded {
            return operation.done_or_gone(Ask::delete(self.sandbox(id, &[])).within(30)).await.map(drop);
        }
        let Some(reply) = operation.done_or_gone(Ask::get(self.sandbox(id, &[]))).await? else { return Ok(()) };
        let sandbox: Sandbox = reply.json()?;
        if !sandbox.runs() && !sandbox.is_broken() {
            return Ok(());
        }
        operation.done_or_gone(Ask::post(self.sandbox(id, &["stop"])).within(30)).await.map(drop)
    }
}
