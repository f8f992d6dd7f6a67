//! Where sandboxes run. `local` is the first backend. Callers ask for capabilities, never for the name.

mod local;

use oi_protocol::local_backend::CreateSandboxRequest;
use oi_worker_kit::http_client::CallError;
use oi_worker_kit::vars::Vars;

use crate::sandbox_access::BackendAccess;

/// What a backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// A sandbox can be found by its logical id.
    pub find: bool,
    /// A sandbox's files can be kept and given to another.
    pub snapshot: bool,
    /// A stopped sandbox can be started again.
    pub resume: bool,
    /// Ports of a sandbox can be reached.
    pub tunnels: bool,
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
    /// The deployment lacks a setting.
    #[error("{0}")]
    Setup(String),
}

impl BackendError {
    /// Whether a repetition may help.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Setup(_) => false,
        }
    }

    /// Whether it is about the backend at large: every session would meet it.
    pub const fn is_outage(&self) -> bool {
        match self {
            Self::Call(_) => true,
            Self::Status { status, .. } => matches!(*status, 401 | 403 | 429) || *status >= 500,
            Self::Setup(_) => false,
        }
    }
}

/// The configured backend's name: of what is kept about it, and for nothing else.
pub fn name(vars: &impl Vars) -> String {
    vars.get_or("SANDBOX_PROVIDER", "local")
}

/// Files that a backend kept, or a stopped sandbox, to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored<'a> {
    /// The backend's name of the files.
    Image(&'a str),
    /// The backend's handle of the sandbox.
    Parked(&'a str),
}

/// What is asked of a backend.
pub trait SandboxBackend {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts a sandbox. The same logical id again answers the one that exists.
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

    /// The sandbox of a logical id.
    async fn find(&self, sandbox_id: &str) -> Result<Option<BackendSandbox>, BackendError>;

    /// Stops it. One that is not there is stopped.
    async fn stop(&self, sandbox_id: &str, provider_object_id: Option<&str>) -> Result<(), BackendError>;
}

/// The backend that `SANDBOX_PROVIDER` names.
pub fn configured(vars: &impl Vars) -> Result<impl SandboxBackend, BackendError> {
    match name(vars).as_str() {
        "local" => local::Local::of(vars),
        other => Err(BackendError::Setup(format!("SANDBOX_PROVIDER `{other}` is not one of: local"))),
    }
}
