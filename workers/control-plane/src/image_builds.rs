//! Images of repositories that are built ahead of sessions: a machine checks them out and sets them up, and its files
//! become what sandboxes begin with.
//!
//! [`starting`] registers a build and starts its machine, [`callbacks`] take what the machine tells, [`finishing`] makes
//! the image (by a queue, since that takes minutes), [`upkeep`] is what a cron does: what is lost is gone on with, what
//! changed is built again, what nobody uses goes. [`selection`] finds the image of a session. All of it sees the outside
//! through [`World`], so that it runs natively in tests.

pub mod callbacks;
mod deployment;
pub mod finishing;
pub mod identity;
pub mod queue;
mod redaction;
pub mod selection;
pub mod starting;
#[cfg(test)]
mod tests;
pub mod upkeep;

use std::collections::BTreeMap;

use oi_protocol::local_backend::CheckoutRepository;
use oi_protocol::{EnvironmentId, UnixMillis};
use oi_session::call::InitRepository;
use oi_worker_kit::{Failure, Refusal};

use crate::sandbox_backend::{BackendError, SandboxBackend};
use crate::source_control::{ForgeError, GitCredentials, RepositoryName};
use crate::store::Database;
use crate::store::image_builds::ScopeKey;

pub use deployment::Deployment;

/// How long a build's token is good, in ms.
pub const TOKEN_LIFE_MS: i64 = 2 * 3_600_000;
/// Seconds that a machine outlives its build, so that its files can be kept.
pub const FINALIZATION_GRACE_SECONDS: u32 = 600;
/// Longest that a build may take, in seconds.
pub const BUILD_SECONDS_MAX: u32 = 3_600;
/// What it may take when nobody says it, in seconds.
pub const BUILD_SECONDS: u32 = 1_800;
/// A build of which nothing is heard for this long has failed, in ms: the longest build, the grace, and five minutes
/// until its machine began.
pub const STALE_MS: i64 = (3_600 + 600 + 300) * 1_000;

/// Of what an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageScope {
    /// A repository on its default branch.
    Repository(RepositoryName),
    /// The repositories of an environment.
    Environment(EnvironmentId),
}

impl ImageScope {
    /// As it is stored.
    pub fn key(&self) -> ScopeKey {
        match self {
            Self::Repository(name) => ScopeKey { kind: "repo", id: name.as_path() },
            Self::Environment(id) => ScopeKey { kind: "environment", id: id.as_str().to_owned() },
        }
    }

    /// From its stored form, and from what a query says.
    pub fn parse(kind: &str, id: &str) -> Option<Self> {
        match kind {
            "repo" => {
                let (owner, name) = id.rsplit_once('/')?;
                RepositoryName::parse(owner, name).map(Self::Repository)
            }
            "environment" => EnvironmentId::parse(id).ok().map(Self::Environment),
            _ => None,
        }
    }
}

/// What the deployment says of builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The configured backend's name.
    pub provider: String,
    /// Where machines reach us, without a slash at the end.
    pub control_plane_url: String,
    /// What tokens are hashed with.
    pub pepper: String,
    /// Host that git asks credentials for.
    pub vcs_host: String,
}

/// What building images needs of the outside.
pub trait World {
    /// The database.
    type Db: Database;
    /// A backend.
    type Backend: SandboxBackend;

    /// What the deployment says.
    fn settings(&self) -> &Settings;
    /// The database.
    fn db(&self) -> &Self::Db;
    /// A backend by its name: what is left at another than the configured one is cleaned up there.
    fn backend(&self, provider: &str) -> Result<Self::Backend, BackendError>;
    /// Now.
    fn now(&self) -> UnixMillis;
    /// So many random bytes as hex.
    fn random_hex(&self, bytes: usize) -> String;
    /// The repositories of a scope as the code host has them now; refused with 404 when there are none.
    async fn repositories(&self, scope: &ImageScope) -> Result<Vec<InitRepository>, Failure>;
    /// Where one is cloned from.
    fn checkout(&self, repository: &InitRepository, position: u32) -> Result<CheckoutRepository, Failure>;
    /// The secrets that go into an image of a scope; those of a repository by the code host's number of it.
    async fn secrets(&self, scope: &ImageScope, repo_id: Option<i64>) -> Result<BTreeMap<String, String>, Failure>;
    /// A token that reads these repositories and nothing else.
    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError>;
    /// The commit at a branch's head.
    async fn head(&self, repository: &InitRepository) -> Result<Option<String>, ForgeError>;
    /// Puts a message on the queue.
    async fn publish(&self, message: &queue::Message) -> Result<(), Failure>;
}

/// What is wrong with a backend, as a refusal.
fn unusable(error: &BackendError) -> Refusal {
    Refusal::not_configured(error.to_string())
}

/// The configured backend, when it builds images: 501 where it does not, 503 where it lacks a setting.
pub fn building_backend<W: World>(world: &W) -> Result<W::Backend, Refusal> {
    let provider = &world.settings().provider;
    let backend = world.backend(provider).map_err(|error| unusable(&error))?;
    if backend.capabilities().image_build { Ok(backend) } else { Err(cannot_build(provider)) }
}

/// The refusal of a backend that builds no images.
pub fn cannot_build(provider: &str) -> Refusal {
    let sentence = format!("The sandbox provider `{provider}` cannot build images of repositories ahead");
    Refusal::new(501, oi_protocol::ErrorCode::NotImplemented, sentence)
}
