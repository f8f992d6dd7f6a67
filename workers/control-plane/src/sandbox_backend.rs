//! Where sandboxes run. Callers ask for capabilities, never for the name.
//!
//! `local` is `sandbox-bridge host`. The others are vendors: a module each, and what they share beside them.
//! [`vendor_http`] is the way to a vendor, [`vendor_environment`] what a sandbox is told, [`vendor_doors`] how people
//! reach it. Their clients know no platform, so that tests run them natively against `devkit`'s fakes.

pub mod builds;
pub(crate) mod daytona;
pub(crate) mod e2b;
mod e2b_envd;
mod local;
pub(crate) mod modal;
pub(crate) mod opencomputer;
mod vendor_doors;
mod vendor_environment;
mod vendor_http;
#[cfg(test)]
pub(crate) mod vendor_tests;
pub(crate) mod vercel;

use oi_protocol::local_backend::CreateSandboxRequest;
use oi_worker_kit::http_client::CallError;
use oi_worker_kit::vars::Vars;

use crate::sandbox_access::BackendAccess;
use builds::{BuildMachine, BuildRequest, unsupported};
pub use vendor_doors::Passwords;
use vendor_http::Network;

/// What a backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// A sandbox can be found by its logical id.
    pub find: bool,
    /// A sandbox's files can be kept and given to another.
    pub snapshot: bool,
    /// Keeping its files ends a sandbox.
    pub snapshot_ends: bool,
    /// A stopped sandbox can be started again.
    pub resume: bool,
    /// Ports of a sandbox can be reached.
    pub tunnels: bool,
    /// Images of repositories can be built ahead.
    pub image_build: bool,
    /// The longest life of a sandbox, in seconds, when there is a limit.
    pub max_life_seconds: Option<u32>,
}

/// A sandbox at the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSandbox {
    /// The backend's handle.
    pub provider_object_id: String,
    /// Whether it lives.
    pub running: bool,
    /// How people reach what runs in it, where they can.
    pub access: Option<Box<BackendAccess>>,
}

/// Why the backend did not do it. The texts hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It answered with an error.
    #[error("{message} (status {status})")]
    Status {
        /// HTTP status.
        status: u16,
        /// Its own sentence.
        message: String,
    },
    /// It answered, as its API has it, that it will not.
    #[error("{0}")]
    Refused(String),
    /// The deployment lacks a setting.
    #[error("{0}")]
    Setup(String),
}

impl BackendError {
    /// Whether a repetition may help: no answer came, it is busy, or something before it could not reach it. A plain
    /// 500 lasts.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Status { status, .. } => matches!(*status, 429 | 502..=504),
            Self::Refused(_) | Self::Setup(_) => false,
        }
    }

    /// Whether it is about the backend at large: every session would meet it.
    pub const fn is_outage(&self) -> bool {
        match self {
            Self::Call(_) => true,
            Self::Status { status, .. } => matches!(*status, 401..=403 | 429) || *status >= 500,
            Self::Refused(_) | Self::Setup(_) => false,
        }
    }
}

/// The configured backend's name: of what is kept about it, and for nothing else.
pub fn name(vars: &impl Vars) -> String {
    vars.get_or("SANDBOX_PROVIDER", "local").to_lowercase()
}

/// Files that a backend kept, or a stopped sandbox, to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored<'a> {
    /// The backend's name of the files.
    Image(&'a str),
    /// The backend's handle of the sandbox.
    Parked(&'a str),
}

/// What becomes of a sandbox that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on later, where the backend can do that.
    Parked,
    /// Nobody needs it any more.
    Discarded,
}

impl Fate {
    /// Of the reason that a session gives. One that never came up is no use to anybody.
    pub fn of_reason(reason: &str) -> Self {
        match reason {
            "respawn" | "connecting_timeout" | "start_failed" | "restore_failed" | "boot_failed" | "cancel"
            | "delete" => Self::Discarded,
            _ => Self::Parked,
        }
    }
}

/// What is asked of a backend.
pub trait SandboxBackend {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts a sandbox, with the files of an image where the request's boot names one. The same logical id again
    /// answers the one that exists.
    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError>;

    /// Starts a sandbox with what was kept, when [`Capabilities`] say that it can.
    async fn restore(
        &self,
        _request: &CreateSandboxRequest,
        _from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        Err(BackendError::Setup("The backend keeps nothing to start from".to_owned()))
    }

    /// Keeps a sandbox's files under a label that finds them again; answers the backend's name of them.
    async fn take_snapshot(
        &self,
        _provider_object_id: &str,
        _label: &str,
        _look_first: bool,
    ) -> Result<String, BackendError> {
        Err(BackendError::Setup("The backend keeps no files".to_owned()))
    }

    /// Deletes files that were kept. Those that are not there are deleted.
    async fn delete_snapshot(&self, _image_id: &str) -> Result<(), BackendError> {
        Err(BackendError::Setup("The backend keeps no files".to_owned()))
    }

    /// The sandbox of a request's logical id, reached as the request says.
    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError>;

    /// Stops it. One that is not there is stopped.
    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>, fate: Fate) -> Result<(), BackendError>;

    /// Makes the machine of a build, which does nothing yet; the backend's handle of it.
    async fn create_build(&self, _request: &BuildRequest) -> Result<String, BackendError> {
        unsupported()
    }

    /// Lets a build's machine begin. It calls back when it is done.
    async fn start_build(&self, _request: &BuildRequest, _machine: &str) -> Result<(), BackendError> {
        unsupported()
    }

    /// Keeps the files of a build's machine; the backend's name of the image.
    async fn snapshot_build(&self, _machine: BuildMachine<'_>) -> Result<String, BackendError> {
        unsupported()
    }

    /// Ends a build's machine, also one whose handle was not heard, where the backend can find it. One that is not there
    /// has ended.
    async fn destroy_build(&self, _build_id: &str, _machine: Option<&str>) -> Result<(), BackendError> {
        unsupported()
    }

    /// Deletes an image. One that is not there is deleted.
    async fn delete_image(&self, image_id: &str) -> Result<(), BackendError> {
        self.delete_snapshot(image_id).await
    }
}

/// One of the backends.
pub enum Backend {
    /// On this machine.
    Local(local::Local),
    /// Modal.
    Modal(modal::Modal<Network>),
    /// Daytona.
    Daytona(daytona::Daytona<Network>),
    /// E2B.
    E2b(e2b::E2b<Network>),
    /// Vercel Sandbox.
    Vercel(vercel::Vercel<Network>),
    /// OpenComputer.
    OpenComputer(opencomputer::OpenComputer<Network>),
}

macro_rules! of_each {
    ($backend:expr, $it:ident => $do:expr) => {
        match $backend {
            Backend::Local($it) => $do,
            Backend::Modal($it) => $do,
            Backend::Daytona($it) => $do,
            Backend::E2b($it) => $do,
            Backend::Vercel($it) => $do,
            Backend::OpenComputer($it) => $do,
        }
    };
}

impl SandboxBackend for Backend {
    fn capabilities(&self) -> Capabilities {
        of_each!(self, it => it.capabilities())
    }

    async fn create(&self, request: &CreateSandboxRequest) -> Result<BackendSandbox, BackendError> {
        of_each!(self, it => it.create(request).await)
    }

    async fn restore(
        &self,
        request: &CreateSandboxRequest,
        from: Restored<'_>,
    ) -> Result<BackendSandbox, BackendError> {
        of_each!(self, it => it.restore(request, from).await)
    }

    async fn take_snapshot(
        &self,
        provider_object_id: &str,
        label: &str,
        look_first: bool,
    ) -> Result<String, BackendError> {
        of_each!(self, it => it.take_snapshot(provider_object_id, label, look_first).await)
    }

    async fn delete_snapshot(&self, image_id: &str) -> Result<(), BackendError> {
        of_each!(self, it => it.delete_snapshot(image_id).await)
    }

    async fn find(&self, request: &CreateSandboxRequest) -> Result<Option<BackendSandbox>, BackendError> {
        of_each!(self, it => it.find(request).await)
    }

    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>, fate: Fate) -> Result<(), BackendError> {
        of_each!(self, it => it.stop(sandbox_id, provider_object_id, fate).await)
    }

    async fn create_build(&self, request: &BuildRequest) -> Result<String, BackendError> {
        of_each!(self, it => it.create_build(request).await)
    }

    async fn start_build(&self, request: &BuildRequest, machine: &str) -> Result<(), BackendError> {
        of_each!(self, it => it.start_build(request, machine).await)
    }

    async fn snapshot_build(&self, machine: BuildMachine<'_>) -> Result<String, BackendError> {
        of_each!(self, it => it.snapshot_build(machine).await)
    }

    async fn destroy_build(&self, build_id: &str, machine: Option<&str>) -> Result<(), BackendError> {
        of_each!(self, it => it.destroy_build(build_id, machine).await)
    }

    async fn delete_image(&self, image_id: &str) -> Result<(), BackendError> {
        of_each!(self, it => it.delete_image(image_id).await)
    }
}

/// The backend that `SANDBOX_PROVIDER` names, for one job.
pub fn configured(vars: &impl Vars) -> Result<Backend, BackendError> {
    of_name(vars, &name(vars))
}

/// The backend of a name, for one job: what is left of another than the configured one is cleaned up with it.
pub fn of_name(vars: &impl Vars, name: &str) -> Result<Backend, BackendError> {
    match name {
        "local" => local::Local::of(vars).map(Backend::Local),
        "modal" => modal::Modal::of(vars, Network).map(Backend::Modal),
        "daytona" => daytona::Daytona::of(vars, Network).map(Backend::Daytona),
        "e2b" => e2b::E2b::of(vars, Network).map(Backend::E2b),
        "vercel" => vercel::Vercel::of(vars, Network).map(Backend::Vercel),
        "opencomputer" => opencomputer::OpenComputer::of(vars, Network).map(Backend::OpenComputer),
        other => Err(BackendError::Setup(format!(
            "SANDBOX_PROVIDER `{other}` is not one of: local, modal, daytona, e2b, vercel, opencomputer"
        ))),
    }
}
