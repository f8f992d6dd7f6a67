//! Modal: a small app of ours runs there (`sandbox-bridge/images/modal`), and is called signed. It starts sandboxes and
//! keeps their files as images; a stopped one does not go on.
//!
//! Open-Inspect's own app has neither a way to find a sandbox nor to stop one: those calls get 404, and the sandbox ends
//! by the bridge's `shutdown` or its time.

use std::collections::BTreeMap;

use oi_protocol::local_backend::CreateSandboxRequest;
use oi_worker_kit::mac;
use oi_worker_kit::vars::Vars;
use serde::Deserialize;
use serde_json::{Value, json};

use super::builds::{BuildMachine, BuildRequest, machine_name};
use super::vendor_environment as environment;
use super::vendor_http::{
    Ask, Auth, BUILD_SNAPSHOT_WITHIN, Operation, SNAPSHOT_WITHIN, START_WITHIN, STOP_WITHIN, Transport, Vendor,
    address, base_url, handle, required,
};
use super::{BackendError, BackendSandbox, Capabilities, Fate, Restored, SandboxBackend};
use crate::sandbox_access::{BackendAccess, Door};

/// The longest life of a sandbox, in seconds.
const MAX_LIFE: u32 = 86_400;
/// What an app's sentence says when something before it failed.
const PASSING: [&str; 6] = ["502", "503", "504", "bad gateway", "service unavailable", "gateway timeout"];

/// The client.
pub struct Modal<T> {
    vendor: Vendor<T>,
    endpoints: Endpoints,
}

/// Where the app's endpoints are.
enum Endpoints {
    /// Each at a host of its own: what comes before the endpoint's name.
    Hosts(String),
    /// All below one address.
    Below(String),
}

#[derive(Deserialize)]
struct Envelope {
    success: bool,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Started {
    modal_object_id: String,
    #[serde(default)]
    code_server_url: Option<String>,
    #[serde(default)]
    code_server_password: Option<String>,
    #[serde(default)]
    vnc_url: Option<String>,
    #[serde(default)]
    vnc_password: Option<String>,
    #[serde(default)]
    tunnel_urls: Option<BTreeMap<u16, String>>,
    /// Only where one is looked up.
    #[serde(default)]
    running: Option<bool>,
}

#[derive(Deserialize)]
struct Built {
    provider_session_id: String,
}

#[derive(Deserialize)]
struct Image {
    image_id: String,
}

/// A name of a workspace: one part of a host name.
fn host_part(name: &str, text: String) -> Result<String, BackendError> {
    let is_fine = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_fine { Ok(text) } else { Err(BackendError::Setup(format!("{name} is not a name of Modal's"))) }
}

impl<T: Transport> Modal<T> {
    /// From `MODAL_API_SECRET`, `MODAL_WORKSPACE` and `MODAL_ENVIRONMENT_WEB_SUFFIX`; or `MODAL_API_URL`, below which
    /// the endpoints are.
    pub fn of(vars: &impl Vars, transport: T) -> Result<Self, BackendError> {
        let secret = required(vars, "MODAL_API_SECRET")?;
        let endpoints = if let Some(url) = vars.get("MODAL_API_URL") {
            Endpoints::Below(base_url("MODAL_API_URL", &url)?)
        } else {
            let workspace = host_part("MODAL_WORKSPACE", required(vars, "MODAL_WORKSPACE")?)?;
            let suffix = vars.get_or("MODAL_ENVIRONMENT_WEB_SUFFIX", "");
            let suffix = host_part("MODAL_ENVIRONMENT_WEB_SUFFIX", suffix)?;
            let suffix = if suffix.is_empty() { suffix } else { format!("-{suffix}") };
            Endpoints::Hosts(format!("https://{workspace}{suffix}--open-inspect-"))
        };
        let vendor = Vendor::new("Modal", transport, String::new(), secret, Auth::ByCall, vars);
        Ok(Self { vendor, endpoints })
    }

    pub(super) fn url(&self, endpoint: &str) -> String {
        match &self.endpoints {
            Endpoints::Hosts(before) => format!("{before}{endpoint}.modal.run"),
            Endpoints::Below(base) => address(base, &[endpoint], &[]),
        }
    }

    /// The time, and its signature: good for five minutes.
    fn bearer(&self) -> String {
        let now = self.vendor.transport.now().0.to_string();
        let signature = mac::hmac_hex(self.vendor.key.as_bytes(), &[now.as_bytes()]);
        format!("Bearer {now}.{signature}")
    }

    /// Calls an endpoint; `None` when it answers that its subject is not there.
    async fn call(
        &self,
        operation: &Operation<'_, T>,
        endpoint: &str,
        seconds: u64,
        body: &Value,
    ) -> Result<Option<Value>, BackendError> {
        let mut ask = Ask::post(self.url(endpoint)).json(body).header("Authorization", self.bearer()).within(seconds);
        for (name, field) in [("x-session-id", "session_id"), ("x-sandbox-id", "sandbox_id")] {
            if let Some(value) = body[field].as_str() {
                ask = ask.header(name, value);
            }
        }
        let Some(reply) = operation.done_or_gone(ask).await? else { return Ok(None) };
        let envelope: Envelope = reply.json()?;
        if envelope.success {
            return Ok(Some(envelope.data.unwrap_or_default()));
        }
        let theirs = envelope.error.unwrap_or_default();
        let message = operation.sentence(&theirs);
        let theirs = theirs.to_lowercase();
        Err(if PASSING.iter().any(|word| theirs.contains(word)) {
            BackendError::Status { status: 503, message }
        } else {
            BackendError::Refused(message)
        })
    }

    /// The same, where the subject must be there.
    async fn must(
        &self,
        operation: &Operation<'_, T>,
        endpoint: &str,
        seconds: u64,
        body: &Value,
    ) -> Result<Value, BackendError> {
        let answer = self.call(operation, endpoint, seconds, body).await?;
        answer.ok_or_else(|| BackendError::Status { status: 404, message: operation.sentence("it is not there") })
    }

    fn facts(answer: Value) -> Result<BackendSandbox, BackendError> {
        let started: Started = read(answer)?;
        let door =
            |url: Option<String>, secret: Option<String>| url.zip(secret).map(|(url, secret)| Door { url, secret });
        let access = BackendAccess {
            code_server: door(started.code_server_url, started.code_server_password),
            vnc: door(started.vnc_url, started.vnc_password),
            tunnel_urls: started.tunnel_urls.unwrap_or_default(),
            ..BackendAccess::default()
        };
        Ok(BackendSandbox {
            provider_object_id: handle(started.modal_object_id)?,
            running: started.running.unwrap_or(true),
            access: (access != BackendAccess::default()).then(|| Box::new(access)),
        })
    }

    fn operation(&self, request: &CreateSandboxRequest) -> Operation<'_, T> {
        let users = environment::users(request);
        let hidden = environment::secrets(&users).chain([request.auth_token.as_str()]);
        self.vendor.begin("create the sandbox", START_WITHIN).hiding(hidden)
    }
}

/// Which sandbox it is, and how it is reached.
fn reached(request: &CreateSandboxRequest) -> Value {
    json!({
        "sandbox_id": request.sandbox_id,
        "code_server_enabled": request.services.code_server_password.is_some(),
        "vnc_enabled": request.services.vnc_password.is_some(),
        "sandbox_settings": settings(request),
    })
}

/// What a start from anything is told.
fn described(request: &CreateSandboxRequest) -> Value {
    let mut body = reached(request);
    body["control_plane_url"] = json!(request.control_plane_url);
    body["sandbox_auth_token"] = json!(request.auth_token);
    body["user_env_vars"] = json!(environment::users(request));
    body["timeout_seconds"] = json!(request.timeout_seconds.min(MAX_LIFE));
    body["agent_slack_notify_enabled"] = json!(request.slack_notify);
    body
}

/// Settings of a request, as the app has them.
fn settings(request: &CreateSandboxRequest) -> Value {
    let (services, limits) = (&request.services, &request.limits);
    let given = [
        ("tunnelPorts", Some(json!(services.tunnel_ports))),
        ("terminalEnabled", services.terminal.then_some(Value::Bool(true))),
        ("codeServerPort", services.code_server_port.map(Value::from)),
        ("vncPort", services.vnc_port.map(Value::from)),
        ("cpuCores", limits.cpu_cores.map(Value::from)),
        ("memoryMib", limits.memory_mib.map(Value::from)),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn read<D: serde::de::DeserializeOwned>(answer: Value) -> Result<D, BackendError> {
    serde_json::from_value(answer)
        .map_err(|_| oi_worker_kit::http_client::CallError::Shape("other fields than the app's".to_owned()).into())
}

/// The session of a snapshot's label, which ends with the snapshot's number.
fn session_of(label: &str) -> &str {
    label.rsplit_once('-').map_or(label, |(session, _)| session)
}

impl<T: Transport> SandboxBackend for Modal<T> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            find: true,
            snapshot: true,
            tunnels: true,
            image_build: true,
            max_life_seconds: Some(MAX_LIFE),
            ..Capabilities::default()
        }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        let operation = self.operation(request);
        let config = environment::session_config(request);
        let mut body = described(request);
        body["session_id"] = json!(request.session_id);
        for field in ["repo_owner", "repo_name", "branch", "provider", "model"] {
            body[field] = config[field].clone();
        }
        body["opencode_session_id"] = Value::Null;
        let image = environment::repo_image(request);
        body["repo_image_id"] = json!(image.map(|image| image.image));
        body["repo_image_sha"] = json!(image.and_then(|image| image.sha));
        for field in ["repositories", "mcp_servers"] {
            body[field] = config[field].clone();
        }
        Self::facts(self.must(&operation, "api-create-sandbox", 60, &body).await?)
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        let Restored::Image(image) = from else {
            return Err(BackendError::Setup("A stopped Modal sandbox does not go on".to_owned()));
        };
        let operation = self.operation(request);
        let mut body = described(request);
        body["snapshot_image_id"] = json!(image);
        body["session_config"] = environment::session_config(request);
        Self::facts(self.must(&operation, "api-restore-sandbox", 60, &body).await?)
    }

    async fn take_snapshot(
        &self,
        provider_object_id: &str,
        label: &str,
        _look_first: bool,
    ) -> Result<String, BackendError> {
        // Modal's images have no labels: one that was made unheard stays there, and is no harm.
        let operation = self.vendor.begin("keep the sandbox's files", SNAPSHOT_WITHIN);
        let body = json!({"sandbox_id": provider_object_id, "session_id": session_of(label), "reason": label});
        let image: Image = read(self.must(&operation, "api-snapshot-sandbox", 310, &body).await?)?;
        handle(image.image_id)
    }

    async fn delete_snapshot(&self, image_id: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("delete kept files", STOP_WITHIN);
        let body = json!({ "provider_image_id": image_id });
        self.call(&operation, "api-delete-provider-image", 60, &body).await.map(drop)
    }

    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        let operation = self.vendor.begin("look for the sandbox", STOP_WITHIN);
        let found = self.call(&operation, "api-find-sandbox", 28, &reached(request)).await?;
        found.filter(|answer| !answer.is_null()).map(Self::facts).transpose()
    }

    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>, _fate: Fate) -> Result<(), BackendError> {
        let operation = self.vendor.begin("stop the sandbox", STOP_WITHIN);
        let body = json!({"sandbox_id": sandbox_id, "provider_object_id": provider_object_id});
        self.call(&operation, "api-stop-sandbox", 28, &body).await.map(drop)
    }

    async fn create_build(&self, request: &BuildRequest) -> Result<String, BackendError> {
        let operation = self.vendor.begin("create the machine of the build", START_WITHIN).hiding(request.secrets());
        let body = json!({
            "scope_kind": request.scope_kind,
            "scope_id": request.scope_id,
            "build_id": request.build_id,
            "repositories": environment::repositories(&request.repositories),
            "clone_token": request.clone_token,
            "clone_host": request.vcs_host,
            "clone_username": request.clone_username,
            "callback_url": request.callback_url,
            "failure_callback_url": request.failure_callback_url,
            "user_env_vars": request.env,
            "build_execution_timeout_seconds": request.execution_timeout_seconds,
            "provider_session_timeout_seconds": request.life_seconds,
        });
        let built: Built = read(self.must(&operation, "api-create-build-sandbox", 60, &body).await?)?;
        handle(built.provider_session_id)
    }

    async fn start_build(&self, request: &BuildRequest, machine: &str) -> Result<(), BackendError> {
        let operation = self.vendor.begin("start the build", START_WITHIN).hiding(request.secrets());
        let body = json!({
            "build_id": request.build_id,
            "provider_session_id": machine,
            "callback_token": request.callback_token,
        });
        self.must(&operation, "api-start-build-sandbox", 60, &body).await.map(drop)
    }

    async fn snapshot_build(&self, machine: BuildMachine<'_>) -> Result<String, BackendError> {
        let operation = self.vendor.begin("keep the image", BUILD_SNAPSHOT_WITHIN);
        let body = json!({"build_id": machine.build_id, "provider_session_id": machine.provider_session_id});
        let image: Image = read(self.must(&operation, "api-snapshot-build-sandbox", 310, &body).await?)?;
        handle(image.image_id)
    }

    async fn destroy_build(&self, build_id: &str, machine: Option<&str>) -> Result<(), BackendError> {
        let operation = self.vendor.begin("end the machine of the build", STOP_WITHIN);
        let Some(machine) = machine else {
            // By its name, which is ours alone.
            let body = json!({"sandbox_id": machine_name(build_id)});
            return self.call(&operation, "api-stop-sandbox", 28, &body).await.map(drop);
        };
        let body = json!({"build_id": build_id, "provider_session_id": machine, "reason": "build_ended"});
        self.call(&operation, "api-terminate-build-sandbox", 60, &body).await.map(drop)
    }
}
