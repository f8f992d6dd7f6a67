//! Sandboxes on this machine: `sandbox-bridge host`.

use std::time::Duration;

use oi_protocol::local_backend::{
    BootFrom, CreateSandboxRequest, ImageBuild, LocalAccess, LocalSandbox, LocalSandboxStatus, LocalSnapshot,
    TakeLocalSnapshot,
};
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use serde::Deserialize;

use super::builds::{BuildMachine, BuildRequest};
use super::{BackendError, BackendSandbox, Capabilities, Fate, Passwords, Restored, SandboxBackend};
use crate::sandbox_access::{BackendAccess, Door};

/// It may copy files. Ends before the job's lease.
const CREATE_WITHIN: Duration = Duration::from_secs(85);
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(315);
const CALL_WITHIN: Duration = Duration::from_secs(20);
/// The same of a build, which ends before the attempt to finish it does.
const IMAGE_WITHIN: Duration = Duration::from_secs(290);

/// The host.
pub struct Local {
    url: String,
    secret: String,
    /// What the passwords of a sandbox's pages are made of.
    password_key: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: String,
}

impl Local {
    /// From `LOCAL_SANDBOX_URL` and `LOCAL_SANDBOX_SECRET`.
    pub fn of(vars: &impl Vars) -> Result<Self, BackendError> {
        let required = |name: &str| vars.get(name).ok_or_else(|| BackendError::Setup(format!("{name} is not set")));
        let url = required("LOCAL_SANDBOX_URL")?.trim_end_matches('/').to_owned();
        Ok(Self { url, secret: required("LOCAL_SANDBOX_SECRET")?, password_key: vars.get("SANDBOX_TOKEN_KEY") })
    }

    fn one(&self, sandbox_id: &str) -> String {
        format!("{}/v1/sandboxes/{}", self.url, encode_component(sandbox_id))
    }

    fn build(&self, build_id: &str) -> String {
        format!("{}/v1/builds/{}", self.url, encode_component(build_id))
    }
}

fn refused(answer: &Answer) -> BackendError {
    let message = answer.json::<ErrorEnvelope>().map_or_else(
        |_| "the sandbox host answered with an error".to_owned(),
        |envelope| oi_protocol::text::truncate_bytes(&envelope.error.message, 300).to_owned(),
    );
    BackendError::Status { status: answer.status, message }
}

/// How people reach it, with the passwords that it was started with.
fn access(access: LocalAccess, passwords: Option<Passwords>) -> Option<Box<BackendAccess>> {
    let (code_server, desktop) = passwords.map(|both| (both.code_server, both.desktop)).unzip();
    let door = |url: Option<String>, secret: Option<String>| url.zip(secret).map(|(url, secret)| Door { url, secret });
    let access = BackendAccess {
        code_server: door(access.code_server_url, code_server),
        vnc: door(access.vnc_url, desktop),
        tunnel_urls: access.tunnel_urls,
        ..BackendAccess::default()
    };
    (access != BackendAccess::default()).then(|| Box::new(access))
}

impl Local {
    fn facts(&self, answer: &Answer) -> Result<BackendSandbox, BackendError> {
        let sandbox: LocalSandbox = answer.json()?;
        if let Some(reason) = sandbox.ended_because {
            return Err(BackendError::Refused(reason));
        }
        let running = sandbox.status == LocalSandboxStatus::Running;
        let passwords = self.password_key.as_ref().map(|key| Passwords::of(key, &sandbox.sandbox_id));
        let access = sandbox.access.and_then(|found| access(found, passwords));
        Ok(BackendSandbox { provider_object_id: sandbox.sandbox_id, running, access })
    }
}

impl SandboxBackend for Local {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            find: true,
            snapshot: true,
            resume: true,
            tunnels: true,
            image_build: true,
            ..Capabilities::default()
        }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        let call = Call::post(format!("{}/v1/sandboxes", self.url)).idempotent().bearer(&self.secret).json(request);
        let answer = call.within(CREATE_WITHIN).send().await?;
        if answer.is_success() { self.facts(&answer) } else { Err(refused(&answer)) }
    }

    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        let answer = Call::get(self.one(&request.sandbox_id)).bearer(&self.secret).within(CALL_WITHIN).send().await?;
        match answer.status {
            200 => self.facts(&answer).map(Some),
            404 => Ok(None),
            _ => Err(refused(&answer)),
        }
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        match from {
            Restored::Image(image_id) => {
                let boot = BootFrom::SnapshotRestore { image_id: Some(image_id.to_owned()) };
                self.create(&CreateSandboxRequest { boot, ..request.clone() }).await
            }
            // It goes on in its own folder, with the credentials that the host knows.
            Restored::Parked(id) => {
                let url = format!("{}/resume", self.one(id));
                let call = Call::post(url).idempotent().bearer(&self.secret).json(request);
                let answer = call.within(CREATE_WITHIN).send().await?;
                if answer.is_success() { self.facts(&answer) } else { Err(refused(&answer)) }
            }
        }
    }

    /// The host looks for the label in any case.
    async fn take_snapshot(&self, sandbox_id: &str, label: &str, _look_first: bool) -> Result<String, BackendError> {
        let url = format!("{}/snapshots", self.one(sandbox_id));
        let body = TakeLocalSnapshot { label: label.to_owned() };
        let call = Call::post(url).idempotent().bearer(&self.secret).json(&body);
        let answer = call.within(SNAPSHOT_WITHIN).send().await?;
        if answer.is_success() { Ok(answer.json::<LocalSnapshot>()?.image_id) } else { Err(refused(&answer)) }
    }

    async fn delete_snapshot(&self, image_id: &str) -> Result<(), BackendError> {
        let url = format!("{}/v1/snapshots/{}", self.url, encode_component(image_id));
        gone(&Call::delete(url).bearer(&self.secret).within(CALL_WITHIN).send().await?)
    }

    async fn stop(&self, sandbox_id: &str, _object: Option<&str>, fate: Fate) -> Result<(), BackendError> {
        let fate = match fate {
            Fate::Parked => "parked",
            Fate::Discarded => "discarded",
        };
        let url = format!("{}?fate={fate}", self.one(sandbox_id));
        gone(&Call::delete(url).bearer(&self.secret).within(CALL_WITHIN).send().await?)
    }

    /// The host's handle of a machine is the name that we give it, so that it is known before it is there.
    async fn create_build(&self, request: &BuildRequest) -> Result<String, BackendError> {
        Ok(request.machine_name())
    }

    async fn start_build(&self, request: &BuildRequest, machine: &str) -> Result<(), BackendError> {
        let call = Call::post(format!("{}/v1/builds", self.url)).idempotent().bearer(&self.secret);
        let answer = call.json(&build(request, machine)).within(CREATE_WITHIN).send().await?;
        if answer.is_success() { Ok(()) } else { Err(refused(&answer)) }
    }

    async fn snapshot_build(&self, machine: BuildMachine<'_>) -> Result<String, BackendError> {
        let url = format!("{}/snapshot", self.build(machine.build_id));
        let answer = Call::post(url).bearer(&self.secret).within(IMAGE_WITHIN).send().await?;
        if answer.is_success() { Ok(answer.json::<LocalSnapshot>()?.image_id) } else { Err(refused(&answer)) }
    }

    async fn destroy_build(&self, build_id: &str, _machine: Option<&str>) -> Result<(), BackendError> {
        gone(&Call::delete(self.build(build_id)).bearer(&self.secret).within(CALL_WITHIN).send().await?)
    }
}

/// What was to go is not there any more.
fn gone(answer: &Answer) -> Result<(), BackendError> {
    if answer.is_success() || answer.status == 404 { Ok(()) } else { Err(refused(answer)) }
}

/// What the host's machine of a build is told.
fn build(request: &BuildRequest, machine: &str) -> CreateSandboxRequest {
    CreateSandboxRequest {
        sandbox_id: machine.to_owned(),
        control_plane_url: request.control_plane_url.clone(),
        timeout_seconds: request.life_seconds,
        vcs_host: request.vcs_host.clone(),
        repositories: request.repositories.clone(),
        env: request.env.clone(),
        boot: BootFrom::Build(ImageBuild {
            build_id: request.build_id.clone(),
            callback_url: request.callback_url.clone(),
            failure_callback_url: request.failure_callback_url.clone(),
            callback_token: request.callback_token.clone(),
            provider_session_id: machine.to_owned(),
            execution_timeout_seconds: Some(request.execution_timeout_seconds),
            clone_token: Some(request.clone_token.clone()),
            clone_username: Some(request.clone_username.clone()),
        }),
        ..CreateSandboxRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_page_is_shown_with_the_password_that_its_sandbox_was_started_with() {
        let found = LocalAccess {
            code_server_url: Some("http://p8080-a.localhost:1/?oi_token=t".to_owned()),
            vnc_url: None,
            tunnel_urls: BTreeMap::from([(3000, "http://p3000-a.localhost:1/?oi_token=u".to_owned())]),
        };
        let passwords = || Some(Passwords::of("key", "sandbox-1"));
        let shown = access(found.clone(), passwords()).expect("two doors");
        let expected = passwords().map(|both| both.code_server);
        assert_eq!(shown.code_server.map(|door| door.secret), expected);
        assert_eq!((shown.vnc, shown.tunnel_urls.len()), (None, 1));
        assert_eq!(access(found, None).expect("a port").code_server, None, "a page without its password is of no use");
        assert_eq!(access(LocalAccess::default(), passwords()), None);
    }

    #[test]
    fn a_machine_of_a_build_is_asked_for_without_a_session() {
        let request = BuildRequest {
            build_id: "imgb-1".to_owned(),
            scope_kind: "repo",
            scope_id: "acme/app".to_owned(),
            control_plane_url: "http://127.0.0.1:1".to_owned(),
            repositories: Vec::new(),
            env: BTreeMap::from([("KEY".to_owned(), "value".to_owned())]),
            callback_url: "http://127.0.0.1:1/image-builds/build-complete".to_owned(),
            failure_callback_url: "http://127.0.0.1:1/image-builds/build-failed".to_owned(),
            callback_token: "f".repeat(64),
            vcs_host: "github.com".to_owned(),
            clone_token: "t".to_owned(),
            clone_username: "x-access-token".to_owned(),
            execution_timeout_seconds: 1_800,
            life_seconds: 2_400,
        };
        let body = serde_json::to_value(build(&request, &request.machine_name())).expect("JSON");
        assert_eq!((&body["sandboxId"], &body["timeoutSeconds"]), (&"build-imgb-1".into(), &2_400.into()));
        assert_eq!((&body["sessionId"], &body["authToken"]), (&"".into(), &"".into()));
        let boot = &body["boot"];
        assert_eq!((&boot["mode"], &boot["providerSessionId"]), (&"build".into(), &"build-imgb-1".into()));
        assert_eq!((&boot["executionTimeoutSeconds"], &boot["cloneToken"]), (&1_800.into(), &"t".into()));
        assert_eq!(boot["callbackToken"], "f".repeat(64));
    }
}
