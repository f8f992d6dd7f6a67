//! Sandboxes on this machine: `sandbox-bridge host`.

use std::time::Duration;

use oi_protocol::local_backend::{
    BootFrom, CreateSandboxRequest, LocalSandbox, LocalSandboxStatus, LocalSnapshot, TakeLocalSnapshot,
};
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use serde::Deserialize;

use super::{BackendError, BackendSandbox, Capabilities, Fate, Restored, SandboxBackend};

/// It may copy files. Ends before the job's lease.
const CREATE_WITHIN: Duration = Duration::from_secs(85);
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(315);
const CALL_WITHIN: Duration = Duration::from_secs(20);

/// The host.
pub struct Local {
    url: String,
    secret: String,
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
        Ok(Self { url, secret: required("LOCAL_SANDBOX_SECRET")? })
    }

    fn one(&self, sandbox_id: &str) -> String {
        format!("{}/v1/sandboxes/{}", self.url, encode_component(sandbox_id))
    }
}

fn refused(answer: &Answer) -> BackendError {
    let message = answer.json::<ErrorEnvelope>().map_or_else(
        |_| "the sandbox host answered with an error".to_owned(),
        |envelope| oi_protocol::text::truncate_bytes(&envelope.error.message, 300).to_owned(),
    );
    BackendError::Status { status: answer.status, message }
}

fn facts(answer: &Answer) -> Result<BackendSandbox, BackendError> {
    let sandbox: LocalSandbox = answer.json()?;
    if let Some(reason) = sandbox.ended_because {
        return Err(BackendError::Refused(reason));
    }
    let running = sandbox.status == LocalSandboxStatus::Running;
    Ok(BackendSandbox { provider_object_id: sandbox.sandbox_id, running, access: None })
}

impl SandboxBackend for Local {
    fn capabilities(&self) -> Capabilities {
        Capabilities { find: true, snapshot: true, resume: true, image_build: true, ..Capabilities::default() }
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        let call = Call::post(format!("{}/v1/sandboxes", self.url)).idempotent().bearer(&self.secret).json(request);
        let answer = call.within(CREATE_WITHIN).send().await?;
        if answer.is_success() { facts(&answer) } else { Err(refused(&answer)) }
    }

    async fn find(&self, sandbox_id: &str) -> Result<Option<BackendSandbox>, BackendError> {
        let answer = Call::get(self.one(sandbox_id)).bearer(&self.secret).within(CALL_WITHIN).send().await?;
        match answer.status {
            200 => facts(&answer).map(Some),
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
                if answer.is_success() { facts(&answer) } else { Err(refused(&answer)) }
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
        let answer = Call::delete(url).bearer(&self.secret).within(CALL_WITHIN).send().await?;
        if answer.is_success() || answer.status == 404 { Ok(()) } else { Err(refused(&answer)) }
    }

    async fn stop(&self, sandbox_id: &str, _object: Option<&str>, fate: Fate) -> Result<(), BackendError> {
        let fate = match fate {
            Fate::Parked => "parked",
            Fate::Discarded => "discarded",
        };
        let url = format!("{}?fate={fate}", self.one(sandbox_id));
        let answer = Call::delete(url).bearer(&self.secret).within(CALL_WITHIN).send().await?;
        if answer.is_success() || answer.status == 404 { Ok(()) } else { Err(refused(&answer)) }
    }
}
