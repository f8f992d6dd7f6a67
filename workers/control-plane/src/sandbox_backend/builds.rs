//! Building an image of repositories at a backend: a machine that only checks out and sets up, and then is kept.

use std::collections::BTreeMap;

use oi_protocol::local_backend::CheckoutRepository;

use super::BackendError;

/// A build, as a backend is asked for it.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The build, in letters that may be part of any name.
    pub build_id: String,
    /// `repo` or `environment`.
    pub scope_kind: &'static str,
    /// Which of its kind.
    pub scope_id: String,
    /// What the machine's own programs dial for nothing but the callbacks.
    pub control_plane_url: String,
    /// What to check out; the first is the primary.
    pub repositories: Vec<CheckoutRepository>,
    /// The scope's secrets.
    pub env: BTreeMap<String, String>,
    /// Where success is told.
    pub callback_url: String,
    /// Where failure is told.
    pub failure_callback_url: String,
    /// Bearer of both: 64 hex digits.
    pub callback_token: String,
    /// Host that the token of the clones is for.
    pub vcs_host: String,
    /// A token that reads these repositories and nothing else.
    pub clone_token: String,
    /// The user name that goes with it.
    pub clone_username: String,
    /// Longest that checkouts and setup may take together, in seconds.
    pub execution_timeout_seconds: u32,
    /// How long the machine lives, in seconds.
    pub life_seconds: u32,
}

impl BuildRequest {
    /// The machine's name: no other build has it.
    pub fn machine_name(&self) -> String {
        machine_name(&self.build_id)
    }

    /// The logical id that its programs are told.
    pub fn sandbox_id(&self) -> String {
        format!("build-env-{}", self.scope_id)
    }

    /// What a vendor must not repeat in its errors.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let ours = [self.callback_token.as_str(), self.clone_token.as_str()];
        ours.into_iter().chain(self.env.values().map(String::as_str))
    }

    /// The labels of its machine.
    pub fn labels(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([
            ("openinspect_framework", "open-inspect"),
            ("openinspect_kind", "environment-image-build"),
            (BUILD_LABEL, self.build_id.as_str()),
            ("openinspect_scope_kind", self.scope_kind),
            ("openinspect_scope_id", self.scope_id.as_str()),
        ])
    }
}

/// The label that finds a build's machine.
pub const BUILD_LABEL: &str = "openinspect_build_id";

/// The name of a build's machine.
pub fn machine_name(build_id: &str) -> String {
    format!("build-{build_id}")
}

/// The machine of a build, for calls after its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildMachine<'a> {
    /// The build.
    pub build_id: &'a str,
    /// The backend's handle.
    pub provider_session_id: &'a str,
}

impl BackendError {
    /// Whether it proves that nothing was made: the backend did not take the request up.
    pub const fn proves_nothing_was_made(&self) -> bool {
        matches!(self, Self::Status { status: 429, .. } | Self::Setup(_))
    }
}

/// The answer of a backend without builds.
pub fn unsupported<T>() -> Result<T, BackendError> {
    Err(BackendError::Setup("The backend builds no images".to_owned()))
}
