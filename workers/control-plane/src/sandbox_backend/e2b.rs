//! E2B: a sandbox is paused with its memory and goes on where it was. A template's machine waits, and the runtime is
//! started in it.
//!
//! E2B's snapshots keep the memory too: another sandbox that began with one would go on with the first one's bridge and
//! its token. So sessions keep no files here; they pause. An image is made of a machine that was started anew from its disk.

use std::collections::BTreeMap;

use oi_protocol::local_backend::CreateSandboxRequest;
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::builds::{BUILD_LABEL, BuildMachine, BuildRequest};
use super::e2b_envd as envd;
use super::vendor_doors::{Doors, Passwords};
use super::vendor_environment::{self as environment, Environment, Files, Start};
use super::vendor_http::{
    Ask, Auth, BUILD_SNAPSHOT_WITHIN, Operation, START_WITHIN, STOP_WITHIN, Transport, Vendor, address, base_url,
    handle, required,
};
use super::{BackendError, BackendSandbox, Capabilities, Fate, Restored, SandboxBackend};

/// Port of the machine's own service.
const ENVD_PORT: &str = "49983";
/// The label that finds a sandbox.
const SANDBOX_LABEL: &str = "openinspect_sandbox_id";

/// The home of the template's user.
const HOME: &str = "/home/user";

/// The client.
pub struct E2b<T> {
    vendor: Vendor<T>,
    template: String,
    life_seconds: u32,
    auto_pause: bool,
    /// One address for all sandboxes, of a gateway that tells them apart by headers.
    gateway: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewSandbox<'a> {
    #[serde(rename = "templateID")]
    template_id: &'a str,
    env_vars: &'a Environment,
    metadata: BTreeMap<&'static str, &'a str>,
    timeout: u32,
    secure: bool,
    auto_pause: bool,
    auto_resume: AutoResume,
}

#[derive(Serialize)]
struct AutoResume {
    enabled: bool,
}

#[derive(Deserialize)]
struct Kept {
    #[serde(rename = "snapshotID")]
    snapshot_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    envd_access_token: Option<String>,
    /// Only where one is looked up.
    #[serde(default)]
    state: Option<String>,
}

impl Machine {
    /// The domain of its addresses.
    fn domain(&self) -> &str {
        self.domain.as_deref().filter(|domain| !domain.is_empty()).unwrap_or("e2b.app")
    }
}

impl<T: Transport> E2b<T> {
    /// From the `E2B_…` variables.
    pub fn of(vars: &impl Vars, transport: T) -> Result<Self, BackendError> {
        let url = base_url("E2B_API_URL", &vars.get_or("E2B_API_URL", "https://api.e2b.app"))?;
        let key = required(vars, "E2B_API_KEY")?;
        let gateway = vars.get("E2B_SANDBOX_URL").map(|url| base_url("E2B_SANDBOX_URL", &url)).transpose()?;
        let life = vars.positive_or("E2B_SANDBOX_TIMEOUT_SECONDS", 7_200);
        Ok(Self {
            vendor: Vendor::new("E2B", transport, url, key, Auth::ByCall, vars),
            template: required(vars, "E2B_TEMPLATE_ID")?,
            life_seconds: u32::try_from(life).unwrap_or(7_200),
            auto_pause: vars.get_or("E2B_AUTO_PAUSE", "true") == "true",
            gateway,
        })
    }

    /// The key goes to the API only: a sandbox's own address must not see it.
    fn keyed(&self, ask: Ask) -> Ask {
        ask.header("X-API-Key", &self.vendor.key)
    }

    fn sandbox(&self, id: &str, rest: &[&str]) -> String {
        let parts: Vec<&str> = ["sandboxes", id].iter().chain(rest).copied().collect();
        self.vendor.url(&parts, &[])
    }

    fn passwords(&self, sandbox_id: &str) -> Passwords {
        Passwords::of(&self.vendor.key, sandbox_id)
    }

    async fn kill(&self, operation: &Operation<'_, T>, id: &str) -> Result<(), BackendError> {
        let ask = self.keyed(Ask::delete(self.sandbox(id, &[]))).within(30);
        operation.done_or_gone(ask).await.map(drop)
    }

    /// Runs a script in a machine.
    async fn exec(&self, operation: &Operation<'_, T>, machine: Machine, script: &str) -> Result<(), BackendError> {
        let domain = machine.domain().to_owned();
        let id = handle(machine.sandbox_id)?;
        let token = machine.envd_access_token.filter(|token| !token.is_empty());
        let token =
            token.ok_or_else(|| BackendError::Refused(operation.sentence("the sandbox has no access token")))?;
        if encode_component(&domain) != domain || encode_component(&id) != id {
            return Err(BackendError::Refused(operation.sentence("the sandbox's address is not one")));
        }
        let body = envd::start_request(script);
        let base = self.gateway.clone().unwrap_or_else(|| format!("https://{ENVD_PORT}-{id}.{domain}"));
        let mut ask = Ask::post(address(&base, &["process.Process", "Start"], &[]))
            .bytes(body, "application/connect+json")
            .header("connect-protocol-version", "1")
            .header("X-Access-Token", &token)
            .within(30);
        if self.gateway.is_some() {
            ask = ask.header("E2b-Sandbox-Id", &id).header("E2b-Sandbox-Port", ENVD_PORT);
        }
        let reply = operation.done(ask).await?;
        envd::read_start(&reply.body).map_err(|why| BackendError::Refused(operation.sentence(&why)))
    }

    /// Starts the runtime, unless it runs.
    async fn run(
        &self,
        operation: &Operation<'_, T>,
        request: &CreateSandboxRequest,
        machine: Machine,
    ) -> Result<BackendSandbox, BackendError> {
        let doors = Doors::of(&request.services);
        let id = handle(machine.sandbox_id.clone())?;
        let domain = machine.domain();
        let urls = doors.ports().into_iter().map(|port| (port, format!("https://{port}-{id}.{domain}"))).collect();
        let tunnels = doors.tunnels_script(&request.sandbox_id, &urls);
        let script = tunnels + &environment::start_script(&request.sandbox_id, Start::Detached);
        self.exec(operation, machine, &script).await?;
        let access = doors.access(&urls, &self.passwords(&request.sandbox_id));
        Ok(BackendSandbox { provider_object_id: id, running: true, access })
    }

    /// The vendor's handle of a sandbox, newest first.
    async fn labelled(&self, operation: &Operation<'_, T>, sandbox_id: &str) -> Result<Option<String>, BackendError> {
        self.with_label(operation, SANDBOX_LABEL, sandbox_id).await
    }

    async fn with_label(
        &self,
        operation: &Operation<'_, T>,
        label: &str,
        value: &str,
    ) -> Result<Option<String>, BackendError> {
        // The filter is decoded as a whole and then by its parts, as the vendor's own client has it.
        let filter = format!("{label}={}", encode_component(&encode_component(value)));
        let query = [("metadata", filter.as_str()), ("state", "running,paused"), ("limit", "1")];
        let url = self.vendor.url(&["v2", "sandboxes"], &query);
        let machines: Vec<Machine> = operation.done(self.keyed(Ask::get(url))).await?.json()?;
        machines.into_iter().next().map(|machine| handle(machine.sandbox_id)).transpose()
    }

    async fn go_on(
        &self,
        operation: &Operation<'_, T>,
        request: &CreateSandboxRequest,
        id: &str,
    ) -> Result<BackendSandbox, BackendError> {
        let ask = self.keyed(Ask::get(self.sandbox(id, &[])));
        let machine: Machine = operation.done(ask).await?.json()?;
        let life = json!({ "timeout": request.timeout_seconds.min(self.life_seconds) });
        if machine.state.as_deref() == Some("running") {
            operation.done(self.keyed(Ask::post(self.sandbox(id, &["timeout"])).json(&life))).await?;
            return self.run(operation, request, machine).await;
        }
        let ask = self.keyed(Ask::post(self.sandbox(id, &["connect"])).json(&life)).within(60);
        let machine: Machine = operation.done(ask).await?.json()?;
        self.run(operation, request, machine).await
    }
}

impl<T: Transport> SandboxBackend for E2b<T> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            find: true,
            resume: true,
            tunnels: true,
            image_build: true,
            max_life_seconds: Some(self.life_seconds),
            ..Capabilities::default()
        }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        let id = &request.sandbox_id;
        let mut env = environment::environment(request, Files::Fresh, &self.passwords(id));
        env.insert("HOME".to_owned(), HOME.to_owned());
        let operation = self.vendor.begin("create the sandbox", START_WITHIN).hiding(environment::secrets(&env));
        let body = NewSandbox {
            template_id: environment::repo_image(request).map_or(&self.template, |image| image.image),
            env_vars: &env,
            metadata: BTreeMap::from([
                ("openinspect_framework", "open-inspect"),
                ("openinspect_session_id", request.session_id.as_str()),
                (SANDBOX_LABEL, id.as_str()),
            ]),
            timeout: request.timeout_seconds.min(self.life_seconds),
            secure: true,
            auto_pause: self.auto_pause,
            auto_resume: AutoResume { enabled: false },
        };
        let ask = Ask::post(self.vendor.url(&["sandboxes"], &[])).json(&body).within(90);
        let machine: Machine = operation.done(self.keyed(ask)).await?.json()?;
        let vendors_id = handle(machine.sandbox_id.clone())?;
        match self.run(&operation, request, machine).await {
            // Nobody would end it.
            Err(error) if !error.is_transient() => {
                let _ = self.kill(&operation, &vendors_id).await;
                Err(error)
            }
            // One that may run is found and tried again.
            result => result,
        }
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        match from {
            Restored::Parked(id) => {
                let operation = self.vendor.begin("let the sandbox go on", START_WITHIN);
                self.go_on(&operation, request, id).await
            }
            Restored::Image(_) => Err(BackendError::Setup("E2B keeps no files of sessions".to_owned())),
        }
    }

    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        let operation = self.vendor.begin("look for the sandbox", START_WITHIN);
        let Some(id) = self.labelled(&operation, &request.sandbox_id).await? else { return Ok(None) };
        self.go_on(&operation, request, &id).await.map(Some)
    }

    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>, fate: Fate) -> Result<(), BackendError> {
        let operation = self.vendor.begin("stop the sandbox", STOP_WITHIN);
        let id = match provider_object_id {
            Some(id) => id.to_owned(),
            None => match self.labelled(&operation, sandbox_id).await? {
                Some(id) => id,
                None => return Ok(()),
            },
        };
        if fate == Fate::Discarded {
            return self.kill(&operation, &id).await;
        }
        let reply = operation.send(self.keyed(Ask::post(self.sandbox(&id, &["pause"])).within(30))).await?;
        // 409: it is paused.
        if reply.is_success() || matches!(reply.status, 404 | 409) { Ok(()) } else { Err(operation.refused(&reply)) }
    }

    async fn create_build(&self, request: &BuildRequest) -> Result<String, BackendError> {
        let mut env = environment::of_build(request);
        env.insert("HOME".to_owned(), HOME.to_owned());
        let operation = self.vendor.begin("create the machine of the build", START_WITHIN);
        let operation = operation.hiding(environment::secrets(&env));
        let body = NewSandbox {
            template_id: &self.template,
            env_vars: &env,
            metadata: request.labels(),
            timeout: request.life_seconds.min(self.life_seconds),
            secure: true,
            auto_pause: false,
            auto_resume: AutoResume { enabled: false },
        };
        let ask = Ask::post(self.vendor.url(&["sandboxes"], &[])).json(&body).within(90);
        let machine: Machine = operation.done(self.keyed(ask)).await?.json()?;
        handle(machine.sandbox_id)
    }

    async fn start_build(&self, request: &BuildRequest, machine: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("start the build", START_WITHIN).hiding(request.secrets());
        let found: Machine = operation.done(self.keyed(Ask::get(self.sandbox(machine, &[])))).await?.json()?;
        let script = environment::build_script(request, machine, Start::Detached);
        self.exec(&operation, found, &script).await
    }

    /// The machine is paused without its memory first: what begins with the image must not go on with the build's
    /// processes and their token.
    async fn snapshot_build(&self, machine: BuildMachine<'_>) -> Result<String, BackendError> {
        let operation = self.vendor.begin("keep the image", BUILD_SNAPSHOT_WITHIN);
        let id = machine.provider_session_id;
        let pause = Ask::post(self.sandbox(id, &["pause"])).json(&json!({"memory": false})).within(60);
        let paused = operation.send(self.keyed(pause)).await?;
        // 409: it is paused, by an attempt that was not heard of.
        if !paused.is_success() && paused.status != 409 {
            return Err(operation.refused(&paused));
        }
        let connect = Ask::post(self.sandbox(id, &["connect"])).json(&json!({"timeout": 300})).within(60);
        let woken: Machine = operation.done(self.keyed(connect)).await?.json()?;
        self.exec(&operation, woken, "rm -f /tmp/oi-supervisor.log /tmp/oi-runtime-*.pid").await?;
        let ask = Ask::post(self.sandbox(id, &["snapshots"])).json(&json!({})).within(180);
        let kept: Kept = operation.done(self.keyed(ask)).await?.json()?;
        handle(kept.snapshot_id)
    }

    async fn destroy_build(&self, build_id: &str, machine: Option<&str>) -> Result<(), BackendError> {
        let operation = self.vendor.begin("end the machine of the build", STOP_WITHIN);
        if let Some(id) = machine {
            return self.kill(&operation, id).await;
        }
        match self.with_label(&operation, BUILD_LABEL, build_id).await? {
            Some(id) => self.kill(&operation, &id).await,
            None => Ok(()),
        }
    }

    async fn delete_image(&self, image_id: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("delete the image", STOP_WITHIN);
        let ask = Ask::delete(self.vendor.url(&["templates", image_id], &[])).within(28);
        operation.done_or_gone(self.keyed(ask)).await.map(drop)
    }
}
