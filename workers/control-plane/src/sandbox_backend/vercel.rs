//! Vercel Sandbox: a sandbox is found by its name, its files are kept as snapshots, and the command that runs in it is
//! given from here. Taking a snapshot ends the sandbox.

use std::collections::BTreeMap;

use oi_protocol::local_backend::{CreateSandboxRequest, SandboxLimits};
use oi_worker_kit::http_client::CallError;
use oi_worker_kit::vars::Vars;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::builds::{BUILD_LABEL, BuildMachine, BuildRequest, machine_name};
use super::vendor_doors::{Doors, Passwords};
use super::vendor_environment::{self as environment, Environment, Files, Start};
use super::vendor_http::{
    Ask, Auth, BUILD_SNAPSHOT_WITHIN, Operation, SNAPSHOT_WITHIN, START_WITHIN, STOP_WITHIN, Transport, Vendor,
    base_url, handle, required,
};
use super::{BackendError, BackendSandbox, Capabilities, Fate, Restored, SandboxBackend};

/// The longest life of a sandbox on every plan, in seconds.
const MAX_LIFE: u32 = 45 * 60;
/// Time for the tunnels file to be written, in ms.
const FILE_WITHIN_MS: u32 = 30_000;
/// The home of who runs the runtime.
const HOME: &str = "/root";
/// The label that says whose a sandbox is.
const SANDBOX_TAG: &str = "openinspect_sandbox_id";

/// The client.
pub struct Vercel<T> {
    vendor: Vendor<T>,
    project: String,
    team: Option<String>,
    base: BaseSnapshot,
    runtime: String,
    expiration_ms: i64,
}

/// What a fresh sandbox begins with.
enum BaseSnapshot {
    Id(String),
    /// The newest of this name.
    Name(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewSandbox<'a> {
    project_id: &'a str,
    name: &'a str,
    runtime: &'a str,
    timeout: u64,
    ports: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    env: &'a Environment,
    tags: BTreeMap<&'static str, &'a str>,
    /// We keep its files ourselves.
    persistent: bool,
    source: Source<'a>,
}

#[derive(Serialize)]
struct Resources {
    vcpus: u32,
}

/// The least machine that has so much: each of its processors comes with 2 GiB.
fn resources(limits: &SandboxLimits) -> Result<Option<Resources>, BackendError> {
    let by_memory = limits.memory_mib.map(|mib| f64::from(mib.div_ceil(2_048)));
    let Some(wanted) = limits.cpu_cores.into_iter().chain(by_memory).reduce(f64::max) else { return Ok(None) };
    let fits = [1, 2, 4, 8].into_iter().find(|vcpus| f64::from(*vcpus) >= wanted);
    let too_much = || BackendError::Refused("Vercel has no sandbox of more than 8 processors and 16 GiB".to_owned());
    fits.map(|vcpus| Some(Resources { vcpus })).ok_or_else(too_much)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    r#type: &'static str,
    snapshot_id: &'a str,
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    sandbox: Named,
    session: Session,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    status: String,
}

#[derive(Deserialize)]
struct Route {
    #[serde(default)]
    url: Option<String>,
    subdomain: String,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    id: String,
    status: String,
    #[serde(default)]
    source_session_id: Option<String>,
}

#[derive(Deserialize)]
struct Taken {
    snapshot: Snapshot,
}

#[derive(Deserialize)]
struct Snapshots {
    snapshots: Vec<Snapshot>,
}

#[derive(Deserialize)]
struct CommandLine {
    command: Option<Command>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    #[serde(default)]
    exit_code: Option<i64>,
}

/// How a command that was waited for ended: the last line that is about it.
fn exit_code(body: &[u8]) -> Result<i64, BackendError> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<CommandLine>(line).ok()?.command?.exit_code);
    lines.next_back().ok_or_else(|| CallError::Shape("the command has no end".to_owned()).into())
}

fn is_alive(session: &Session) -> bool {
    matches!(session.status.as_str(), "pending" | "running")
}

impl<T: Transport> Vercel<T> {
    /// From the `VERCEL_…` variables.
    pub fn of(vars: &impl Vars, transport: T) -> Result<Self, BackendError> {
        let url = vars.get_or("VERCEL_SANDBOX_API_BASE_URL", "https://vercel.com/api");
        let url = base_url("VERCEL_SANDBOX_API_BASE_URL", &url)?;
        let token = required(vars, "VERCEL_TOKEN")?;
        let base = match (vars.get("VERCEL_BASE_SNAPSHOT_ID"), vars.get("VERCEL_BASE_SNAPSHOT_NAME")) {
            (Some(id), _) => BaseSnapshot::Id(id),
            (None, Some(name)) => BaseSnapshot::Name(name),
            (None, None) => {
                let missing = "neither VERCEL_BASE_SNAPSHOT_ID nor VERCEL_BASE_SNAPSHOT_NAME is set";
                return Err(BackendError::Setup(missing.to_owned()));
            }
        };
        Ok(Self {
            vendor: Vendor::new("Vercel", transport, url, token, Auth::Bearer, vars),
            project: required(vars, "VERCEL_PROJECT_ID")?,
            team: vars.get("VERCEL_TEAM_ID"),
            base,
            runtime: vars.get_or("VERCEL_RUNTIME", "node24"),
            expiration_ms: vars.positive_or("VERCEL_SNAPSHOT_EXPIRATION_MS", 0),
        })
    }

    fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> String {
        let parts: Vec<&str> = ["v2", "sandboxes"].iter().chain(parts).copied().collect();
        let team = self.team.as_deref().map(|team| ("teamId", team));
        let query: Vec<(&str, &str)> = team.into_iter().chain(query.iter().copied()).collect();
        self.vendor.url(&parts, &query)
    }

    fn ask(ask: Ask) -> Ask {
        ask.header("User-Agent", "open-inspect/vercel-sandbox").within(60)
    }

    fn passwords(&self, sandbox_id: &str) -> Passwords {
        Passwords::of(&self.vendor.key, sandbox_id)
    }

    async fn snapshots(
        &self,
        operation: &Operation<'_, T>,
        filter: &[(&str, &str)],
    ) -> Result<Vec<Snapshot>, BackendError> {
        let mut query = vec![("project", self.project.as_str()), ("limit", "20"), ("sortOrder", "desc")];
        query.extend_from_slice(filter);
        let reply = operation.done(Self::ask(Ask::get(self.url(&["snapshots"], &query)))).await?;
        let mut found: Vec<Snapshot> = reply.json::<Snapshots>()?.snapshots;
        found.retain(|snapshot| snapshot.status == "created");
        Ok(found)
    }

    async fn base_snapshot(&self, operation: &Operation<'_, T>) -> Result<String, BackendError> {
        match &self.base {
            BaseSnapshot::Id(id) => Ok(id.clone()),
            BaseSnapshot::Name(name) => {
                let found = self.snapshots(operation, &[("name", name)]).await?;
                let newest = found.into_iter().next();
                newest.map(|snapshot| snapshot.id).ok_or_else(|| {
                    BackendError::Setup(format!("Vercel has no snapshot `{name}` (VERCEL_BASE_SNAPSHOT_NAME)"))
                })
            }
        }
    }

    async fn start(
        &self,
        request: &CreateSandboxRequest,
        files: Files,
        image: Option<&str>,
    ) -> Result<BackendSandbox, BackendError> {
        let id = &request.sandbox_id;
        let doors = Doors::of(&request.services);
        let mut env = environment::environment(request, files, &self.passwords(id));
        env.insert("HOME".to_owned(), HOME.to_owned());
        let operation = self.vendor.begin("create the sandbox", START_WITHIN).hiding(environment::secrets(&env));
        let source = match image {
            Some(image) => image.to_owned(),
            None => self.base_snapshot(&operation).await?,
        };
        let body = NewSandbox {
            project_id: &self.project,
            name: id,
            runtime: &self.runtime,
            timeout: u64::from(request.timeout_seconds.min(MAX_LIFE)) * 1_000,
            ports: doors.ports(),
            resources: resources(&request.limits)?,
            env: &env,
            tags: BTreeMap::from([
                ("openinspect_framework", "open-inspect"),
                ("openinspect_session_id", request.session_id.as_str()),
                (SANDBOX_TAG, id.as_str()),
            ]),
            persistent: false,
            source: Source { r#type: "snapshot", snapshot_id: &source },
        };
        let reply = operation.send(Self::ask(Ask::post(self.url(&[], &[])).json(&body))).await?;
        // The name is taken by an attempt that was not heard of.
        if reply.status == 409
            && let Some(created) = self.named(&operation, id).await?
        {
            return self.run(&operation, request, created).await;
        }
        if !reply.is_success() {
            return Err(operation.refused(&reply));
        }
        let created: Created = reply.json()?;
        let session = handle(created.session.id.clone())?;
        match self.run(&operation, request, created).await {
            Err(error) if !error.is_transient() => {
                let _ = self.end(&operation, &session).await;
                Err(error)
            }
            // One that may run is found and tried again.
            result => result,
        }
    }

    /// The sandbox of a name, when it is ours. Asking does not wake it.
    async fn named(&self, operation: &Operation<'_, T>, name: &str) -> Result<Option<Created>, BackendError> {
        self.named_with(operation, name, SANDBOX_TAG, name).await
    }

    async fn named_with(
        &self,
        operation: &Operation<'_, T>,
        name: &str,
        tag: &str,
        value: &str,
    ) -> Result<Option<Created>, BackendError> {
        let url = self.url(&[name], &[("projectId", &self.project), ("resume", "false")]);
        let Some(reply) = operation.done_or_gone(Self::ask(Ask::get(url))).await? else { return Ok(None) };
        let created: Created = reply.json()?;
        let ours = created.sandbox.tags.get(tag).is_some_and(|found| found == value);
        Ok(Some(created).filter(|_| ours))
    }

    /// Tells it its ports, then starts the runtime, unless it runs.
    async fn run(
        &self,
        operation: &Operation<'_, T>,
        request: &CreateSandboxRequest,
        created: Created,
    ) -> Result<BackendSandbox, BackendError> {
        let doors = Doors::of(&request.services);
        let running = is_alive(&created.session);
        let session = handle(created.session.id)?;
        let urls: BTreeMap<u16, String> = created
            .routes
            .into_iter()
            .map(|route| (route.port, route.url.unwrap_or_else(|| format!("https://{}.vercel.run", route.subdomain))))
            .collect();
        if running {
            let tunnels = doors.tunnels_script(&request.sandbox_id, &urls);
            if !tunnels.is_empty() {
                self.write_tunnels(operation, &session, &tunnels).await?;
            }
            let script = environment::start_script(&request.sandbox_id, Start::InPlace);
            let body = json!({"command": "sudo", "args": ["-E", "sh", "-c", script], "cwd": "/workspace"});
            let url = self.url(&["sessions", &session, "cmd"], &[]);
            operation.done(Self::ask(Ask::post(url).json(&body))).await?;
        }
        let access = doors.access(&urls, &self.passwords(&request.sandbox_id));
        Ok(BackendSandbox { provider_object_id: session, running, access })
    }

    async fn write_tunnels(
        &self,
        operation: &Operation<'_, T>,
        session: &str,
        script: &str,
    ) -> Result<(), BackendError> {
        let args = json!(["sh", "-c", script]);
        let body = json!({"command": "sudo", "args": args, "cwd": "/", "wait": true, "timeout": FILE_WITHIN_MS});
        let url = self.url(&["sessions", session, "cmd"], &[]);
        let ask = Self::ask(Ask::post(url).json(&body)).within(u64::from(FILE_WITHIN_MS / 1_000) + 10);
        let reply = operation.done(ask).await?;
        match exit_code(&reply.body)? {
            0 => Ok(()),
            code => Err(BackendError::Refused(
                operation.sentence(&format!("writing the tunnels file ended with exit code {code}")),
            )),
        }
    }

    /// Keeps a session's files, which ends it.
    async fn keep(
        &self,
        operation: &Operation<'_, T>,
        session: &str,
        look_first: bool,
    ) -> Result<String, BackendError> {
        // A session is ended by its snapshot, so that it has one.
        if look_first {
            let made = self.snapshots(operation, &[]).await?.into_iter();
            let ours = |snapshot: &Snapshot| snapshot.source_session_id.as_deref() == Some(session);
            if let Some(snapshot) = made.into_iter().find(ours) {
                return handle(snapshot.id);
            }
        }
        let url = self.url(&["sessions", session, "snapshot"], &[]);
        let ask = Self::ask(Ask::post(url).json(&json!({ "expiration": self.expiration_ms }))).within(310);
        let taken: Taken = operation.done(ask).await?.json()?;
        if taken.snapshot.status == "created" {
            handle(taken.snapshot.id)
        } else {
            let why = format!("the snapshot is `{}`", taken.snapshot.status);
            Err(BackendError::Refused(operation.sentence(&why)))
        }
    }

    async fn end(&self, operation: &Operation<'_, T>, session: &str) -> Result<(), BackendError> {
        let url = self.url(&["sessions", session, "stop"], &[]);
        operation.done_or_gone(Self::ask(Ask::post(url))).await.map(drop)
    }
}

impl<T: Transport> SandboxBackend for Vercel<T> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            find: true,
            snapshot: true,
            snapshot_ends: true,
            tunnels: true,
            image_build: true,
            max_life_seconds: Some(MAX_LIFE),
            ..Capabilities::default()
        }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        self.start(request, Files::Fresh, environment::repo_image(request).map(|image| image.image)).await
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        match from {
            Restored::Image(image) => self.start(request, Files::Kept, Some(image)).await,
            Restored::Parked(_) => Err(BackendError::Setup("A stopped Vercel sandbox does not go on".to_owned())),
        }
    }

    async fn take_snapshot(
        &self,
        provider_object_id: &str,
        _label: &str,
        look_first: bool,
    ) -> Result<String, BackendError> {
        let operation = self.vendor.begin("keep the sandbox's files", SNAPSHOT_WITHIN);
        self.keep(&operation, provider_object_id, look_first).await
    }

    async fn delete_snapshot(&self, image_id: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("delete kept files", STOP_WITHIN);
        let url = self.url(&["snapshots", image_id], &[]);
        operation.done_or_gone(Self::ask(Ask::delete(url))).await.map(drop)
    }

    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        let operation = self.vendor.begin("look for the sandbox", START_WITHIN);
        match self.named(&operation, &request.sandbox_id).await? {
            Some(created) => self.run(&operation, request, created).await.map(Some),
            None => Ok(None),
        }
    }

    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>, _fate: Fate) -> Result<(), BackendError> {
        let operation = self.vendor.begin("stop the sandbox", STOP_WITHIN);
        if let Some(session) = provider_object_id {
            return self.end(&operation, session).await;
        }
        match self.named(&operation, sandbox_id).await? {
            Some(created) if is_alive(&created.session) => self.end(&operation, &handle(created.session.id)?).await,
            _ => Ok(()),
        }
    }

    async fn create_build(&self, request: &BuildRequest) -> Result<String, BackendError> {
        let mut env = environment::of_build(request);
        env.insert("HOME".to_owned(), HOME.to_owned());
        let operation = self.vendor.begin("create the machine of the build", START_WITHIN);
        let operation = operation.hiding(environment::secrets(&env));
        let source = self.base_snapshot(&operation).await?;
        let name = request.machine_name();
        let body = NewSandbox {
            project_id: &self.project,
            name: &name,
            runtime: &self.runtime,
            timeout: u64::from(request.life_seconds.min(MAX_LIFE)) * 1_000,
            ports: Vec::new(),
            resources: None,
            env: &env,
            tags: request.labels(),
            persistent: false,
            source: Source { r#type: "snapshot", snapshot_id: &source },
        };
        let created: Created = operation.done(Self::ask(Ask::post(self.url(&[], &[])).json(&body))).await?.json()?;
        handle(created.session.id)
    }

    async fn start_build(&self, request: &BuildRequest, machine: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("start the build", START_WITHIN).hiding(request.secrets());
        let script = environment::build_script(request, machine, Start::InPlace);
        let body = json!({"command": "sudo", "args": ["-E", "sh", "-c", script], "cwd": "/workspace"});
        let url = self.url(&["sessions", machine, "cmd"], &[]);
        operation.done(Self::ask(Ask::post(url).json(&body))).await.map(drop)
    }

    async fn snapshot_build(&self, machine: BuildMachine<'_>) -> Result<String, BackendError> {
        let operation = self.vendor.begin("keep the image", BUILD_SNAPSHOT_WITHIN);
        self.keep(&operation, machine.provider_session_id, false).await
    }

    async fn destroy_build(&self, build_id: &str, machine: Option<&str>) -> Result<(), BackendError> {
        let operation = self.vendor.begin("end the machine of the build", STOP_WITHIN);
        if let Some(session) = machine {
            return self.end(&operation, session).await;
        }
        let labelled = self.named_with(&operation, &machine_name(build_id), BUILD_LABEL, build_id).await?;
        match labelled {
            Some(created) if is_alive(&created.session) => self.end(&operation, &handle(created.session.id)?).await,
            _ => Ok(()),
        }
    }
}
