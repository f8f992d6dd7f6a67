//! Sandboxes on this machine: `sandbox-bridge host`.

use std::time::Duration;

use oi_protocol::local_backend::{CreateSandboxRequest, LocalSandbox, LocalSandboxStatus};
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use serde::Deserialize;

use super::{BackendError, BackendSandbox, Capabilities, Fate, SandboxBackend};

const CREATE_WITHIN: Duration = Duration::from_secs(60);
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
    let running = sandbox.status == LocalSandboxStatus::Running;
    Ok(BackendSandbox { provider_object_id: sandbox.sandbox_id, running, access: None })
}

impl SandboxBackend for Local {
    fn capabilities(&self) -> Capabilities {
        Capabilities { find: true, ..Capabilities::default() }
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

    async fn stop(&self, sandbox_id: &str, _object: Option<&str>, _fate: Fate) -> Result<(), BackendError> {
        let answer = Call::delete(self.one(sandbox_id)).bearer(&self.secret).within(CALL_WITHIN).send().await?;
        if answer.is_success() || answer.status == 404 { Ok(()) } else { Err(refused(&answer)) }
    }
}
