//! OpenComputer: a sandbox hibernates and wakes, and its disk is kept as checkpoints. The runtime is started in it.
//!
//! Its API cannot find a sandbox by a label: what a start brought up whose answer was lost stays unknown, and hibernates
//! at its idle time.

use std::collections::BTreeMap;

use oi_protocol::local_backend::CreateSandboxRequest;
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::builds::{BuildMachine, BuildRequest};
use super::vendor_doors::{Doors, Passwords};
use super::vendor_environment::{self as environment, Environment, Files, Start};
use super::vendor_http::{
    Ask, Auth, BUILD_SNAPSHOT_WITHIN, Operation, SNAPSHOT_WITHIN, START_WITHIN, STOP_WITHIN, Transport, Vendor,
    base_url, handle, required,
};
use super::{BackendError, BackendSandbox, Capabilities, Fate, Restored, SandboxBackend};

/// What a checkpoint's sandbox must not take over from the one that it was made of.
const NOT_INHERITED: [&str; 7] = [
    "OI_REPO_IMAGE_BUILD_ID",
    "OI_REPO_IMAGE_CALLBACK_URL",
    "OI_REPO_IMAGE_FAILURE_CALLBACK_URL",
    "OI_REPO_IMAGE_CALLBACK_TOKEN",
    "OI_REPO_IMAGE_PROVIDER_SESSION_ID",
    "VCS_CLONE_TOKEN",
    "FROM_REPO_IMAGE",
];
/// The home of the template's user.
const HOME: &str = "/home/sandbox";
/// Checkpoints of a sandbox that the vendor keeps.
const KEPT: u32 = 30;

/// The client.
pub struct OpenComputer<T> {
    vendor: Vendor<T>,
    template: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewSandbox<'a> {
    #[serde(rename = "templateID", skip_serializing_if = "Option::is_none")]
    template_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<&'a str>,
    envs: &'a Environment,
    metadata: BTreeMap<&'static str, &'a str>,
    timeout: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    #[serde(rename = "sandboxID", alias = "id")]
    sandbox_id: String,
    #[serde(default, alias = "state")]
    status: Option<String>,
    #[serde(default)]
    sandbox_domain: Option<String>,
}

#[derive(Deserialize)]
struct Preview {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ran {
    exit_code: i64,
    #[serde(default)]
    stderr: String,
}

#[derive(Deserialize)]
struct Checkpoint {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: Option<String>,
}

impl Checkpoint {
    fn is_kept(&self) -> bool {
        matches!(self.status.as_deref(), None | Some("ready" | "created" | "processing"))
    }
}

/// A checkpoint is deleted below its sandbox, so that both ids are kept.
fn image_of(sandbox: &str, checkpoint: &str) -> String {
    format!("{sandbox}/{checkpoint}")
}

fn parts_of(image: &str) -> Result<(&str, &str), BackendError> {
    image.split_once('/').ok_or_else(|| BackendError::Refused("this is no checkpoint of OpenComputer".to_owned()))
}

impl<T: Transport> OpenComputer<T> {
    /// From the `OPENCOMPUTER_…` variables.
    pub fn of(vars: &impl Vars, transport: T) -> Result<Self, BackendError> {
        let given = vars.get_or("OPENCOMPUTER_API_URL", "https://app.opencomputer.dev");
        let url = base_url("OPENCOMPUTER_API_URL", &given)?;
        // As the vendor's own client has it.
        let url = if url.ends_with("/api") { url } else { format!("{url}/api") };
        let key = required(vars, "OPENCOMPUTER_API_KEY")?;
        Ok(Self {
            vendor: Vendor::new("OpenComputer", transport, url, key, Auth::Header("X-API-Key"), vars),
            template: required(vars, "OPENCOMPUTER_TEMPLATE")?,
        })
    }

    fn sandbox(&self, id: &str, rest: &[&str]) -> String {
        let parts: Vec<&str> = ["sandboxes", id].iter().chain(rest).copied().collect();
        self.vendor.url(&parts, &[])
    }

    fn passwords(&self, sandbox_id: &str) -> Passwords {
        Passwords::of(&self.vendor.key, sandbox_id)
    }

    async fn start(
        &self,
        request: &CreateSandboxRequest,
        files: Files,
        checkpoint: Option<&str>,
    ) -> Result<BackendSandbox, BackendError> {
        let id = &request.sandbox_id;
        let mut env = environment::environment(request, files, &self.passwords(id));
        env.insert("HOME".to_owned(), HOME.to_owned());
        env.insert("IMAGE_BUILD_MODE".to_owned(), "false".to_owned());
        for name in NOT_INHERITED {
            env.entry(name.to_owned()).or_default();
        }
        let operation = self.vendor.begin("create the sandbox", START_WITHIN).hiding(environment::secrets(&env));
        let body = NewSandbox {
            template_id: checkpoint.is_none().then_some("base"),
            snapshot: checkpoint.is_none().then_some(self.template.as_str()),
            envs: &env,
            metadata: BTreeMap::from([
                ("openinspect_framework", "open-inspect"),
                ("openinspect_session_id", request.session_id.as_str()),
                ("openinspect_sandbox_id", id.as_str()),
            ]),
            timeout: request.timeout_seconds,
        };
        let url = match checkpoint {
            Some(checkpoint) => self.vendor.url(&["sandboxes", "from-checkpoint", checkpoint], &[]),
            None => self.vendor.url(&["sandboxes"], &[]),
        };
        let machine: Machine = operation.done(Ask::post(url).json(&body).within(90)).await?.json()?;
        let vendors_id = handle(machine.sandbox_id.clone())?;
        let result = self.run(&operation, request, machine).await;
        if result.is_err() {
            // Nobody could find it later.
            let _ = operation.done_or_gone(Ask::delete(self.sandbox(&vendors_id, &[]))).await;
        }
        result
    }

    /// Starts the runtime, unless it runs.
    async fn run(
        &self,
        operation: &Operation<'_, T>,
        request: &CreateSandboxRequest,
        machine: Machine,
    ) -> Result<BackendSandbox, BackendError> {
        let doors = Doors::of(&request.services);
        let id = handle(machine.sandbox_id)?;
        let urls = self.urls(operation, &id, &doors.ports(), machine.sandbox_domain.as_deref()).await;
        let tunnels = doors.tunnels_script(&request.sandbox_id, &urls);
        let script = tunnels + &environment::start_script(&request.sandbox_id, Start::Detached);
        self.exec(operation, &id, &script).await?;
        let access = doors.access(&urls, &self.passwords(&request.sandbox_id));
        Ok(BackendSandbox { provider_object_id: id, running: true, access })
    }

    async fn exec(&self, operation: &Operation<'_, T>, id: &str, script: &str) -> Result<(), BackendError> {
        let body = json!({"cmd": "sh", "args": ["-c", script], "timeout": 10});
        let ran: Ran = operation.done(Ask::post(self.sandbox(id, &["exec", "run"])).json(&body)).await?.json()?;
        if ran.exit_code != 0 {
            let why = format!("the runtime could not be started: {}", ran.stderr);
            return Err(BackendError::Refused(operation.sentence(&why)));
        }
        Ok(())
    }

    /// Addresses of the ports. A sandbox that works without one is better than none.
    async fn urls(
        &self,
        operation: &Operation<'_, T>,
        id: &str,
        ports: &[u16],
        domain: Option<&str>,
    ) -> BTreeMap<u16, String> {
        let domain = domain.filter(|domain| !domain.is_empty() && encode_component(domain) == *domain);
        if let (Some(domain), true) = (domain, encode_component(id) == id) {
            return ports.iter().map(|port| (*port, format!("https://{id}-p{port}.{domain}"))).collect();
        }
        let asked = ports.iter().map(async |&port| {
            let ask = Ask::post(self.sandbox(id, &["preview"])).json(&json!({ "port": port }));
            let preview: Preview = operation.done(ask).await.ok()?.json().ok()?;
            let url = preview.url.or_else(|| preview.hostname.map(|host| format!("https://{host}")))?;
            Some((port, url))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Keeps a machine's disk under a name that finds it again.
    async fn checkpoint(
        &self,
        operation: &Operation<'_, T>,
        id: &str,
        label: &str,
        look_first: bool,
    ) -> Result<String, BackendError> {
        let url = self.sandbox(id, &["checkpoints"]);
        if look_first {
            let made: Vec<Checkpoint> = operation.done(Ask::get(url.clone())).await?.json()?;
            if let Some(made) = made.into_iter().find(|made| made.name == label && made.is_kept()) {
                return Ok(image_of(id, &handle(made.id)?));
            }
        }
        let body = json!({
            "name": label,
            "kind": "disk_only",
            "retentionPolicy": {"mode": "delete_oldest", "maxCount": KEPT},
        });
        let made: Checkpoint = operation.done(Ask::post(url).json(&body).within(300)).await?.json()?;
        if made.is_kept() {
            Ok(image_of(id, &handle(made.id)?))
        } else {
            let why = format!("the checkpoint is `{}`", made.status.unwrap_or_default());
            Err(BackendError::Refused(operation.sentence(&why)))
        }
    }

    async fn go_on(&self, request: &CreateSandboxRequest, id: &str) -> Result<BackendSandbox, BackendError> {
        let operation = self.vendor.begin("let the sandbox go on", START_WITHIN);
        let machine: Machine = operation.done(Ask::get(self.sandbox(id, &[]))).await?.json()?;
        let life = json!({ "timeout": request.timeout_seconds });
        if machine.status.as_deref() == Some("running") {
            operation.done(Ask::post(self.sandbox(id, &["timeout"])).json(&life)).await?;
            return self.run(&operation, request, machine).await;
        }
        let woken: Machine =
            operation.done(Ask::post(self.sandbox(id, &["wake"])).json(&life).within(60)).await?.json()?;
        let domain = woken.sandbox_domain.or(machine.sandbox_domain);
        self.run(&operation, request, Machine { sandbox_domain: domain, ..woken }).await
    }
}

impl<T: Transport> SandboxBackend for OpenComputer<T> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { snapshot: true, resume: true, tunnels: true, image_build: true, ..Capabilities::default() }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        let image = environment::repo_image(request).map(|image| parts_of(image.image)).transpose()?;
        self.start(request, Files::Fresh, image.map(|(_, checkpoint)| checkpoint)).await
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        match from {
            Restored::Image(image) => self.start(request, Files::Kept, Some(parts_of(image)?.1)).await,
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
        self.checkpoint(&operation, provider_object_id, label, look_first).await
    }

    async fn delete_snapshot(&self, image_id: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("delete kept files", STOP_WITHIN);
        let (sandbox, checkpoint) = parts_of(image_id)?;
        let url = self.sandbox(sandbox, &["checkpoints", checkpoint]);
        operation.done_or_gone(Ask::delete(url).within(28)).await.map(drop)
    }

    async fn find(&self, _request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        Ok(None)
    }

    async fn stop(&self, _sandbox_id: &str, provider_object_id: Option<&str>, fate: Fate) -> Result<(), BackendError> {
        let operation = self.vendor.begin("stop the sandbox", STOP_WITHIN);
        let Some(id) = provider_object_id else { return Ok(()) };
        if fate == Fate::Discarded {
            return operation.done_or_gone(Ask::delete(self.sandbox(id, &[]))).await.map(drop);
        }
        operation.done_or_gone(Ask::post(self.sandbox(id, &["hibernate"])).within(30)).await.map(drop)
    }

    async fn create_build(&self, request: &BuildRequest) -> Result<String, BackendError> {
        let mut env = environment::of_build(request);
        env.insert("HOME".to_owned(), HOME.to_owned());
        let operation = self.vendor.begin("create the machine of the build", START_WITHIN);
        let operation = operation.hiding(environment::secrets(&env));
        let body = NewSandbox {
            template_id: Some("base"),
            snapshot: Some(self.template.as_str()),
            envs: &env,
            metadata: request.labels(),
            timeout: request.life_seconds,
        };
        let url = self.vendor.url(&["sandboxes"], &[]);
        let machine: Machine = operation.done(Ask::post(url).json(&body).within(90)).await?.json()?;
        handle(machine.sandbox_id)
    }

    async fn start_build(&self, request: &BuildRequest, machine: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("start the build", START_WITHIN).hiding(request.secrets());
        self.exec(&operation, machine, &environment::build_script(request, machine, Start::Detached)).await
    }

    async fn snapshot_build(&self, machine: BuildMachine<'_>) -> Result<String, BackendError> {
        let operation = self.vendor.begin("keep the image", BUILD_SNAPSHOT_WITHIN);
        self.checkpoint(&operation, machine.provider_session_id, machine.build_id, false).await
    }

    async fn destroy_build(&self, _build_id: &str, machine: Option<&str>) -> Result<(), BackendError> {
        let operation = self.vendor.begin("end the machine of the build", STOP_WITHIN);
        // One whose handle was not heard cannot be found: it hibernates at its idle time.
        let Some(id) = machine else { return Ok(()) };
        operation.done_or_gone(Ask::delete(self.sandbox(id, &[]))).await.map(drop)
    }
}
