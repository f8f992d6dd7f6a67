//! The deployment as [`World`]: its bindings, its code host, its backends.

use std::collections::BTreeMap;

use oi_protocol::UnixMillis;
use oi_protocol::environments::WantedRepository;
use oi_protocol::local_backend::CheckoutRepository;
use oi_session::call::InitRepository;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random};
use worker::{Env, Queue};

use super::queue::Message;
use super::{ImageScope, Settings, World};
use crate::effects::{checkout, control_plane_url};
use crate::sandbox_backend::{self, Backend, BackendError};
use crate::secret_injection;
use crate::session_target::{self, KnownForge, Named};
use crate::source_control::{BranchName, Forge, ForgeError, GitCredentials, RepositoryName, SourceControl, git_host};
use crate::store::{D1, environments};

/// The deployment.
pub struct Deployment {
    env: Env,
    db: D1,
    queue: Queue,
    settings: Settings,
}

/// What tokens of builds are hashed with: optional, and without it none is built.
const PEPPER: &str = "IMAGE_CALLBACK_TOKEN_PEPPER";

impl Deployment {
    /// Whether images are to be built here at all. Only requests are told that they are not; what happens by itself is
    /// left out.
    pub fn is_set_up(vars: &impl Vars) -> bool {
        vars.get(PEPPER).is_some()
    }

    /// From its bindings and variables; 503 where one is missing.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        let missing = |name: &str| Refusal::not_configured(format!("{name} is not set"));
        let control_plane_url = control_plane_url(env).ok_or_else(|| missing("WORKER_URL"))?;
        let pepper = env.get(PEPPER).ok_or_else(|| missing(PEPPER))?;
        let queue = env.queue("IMAGE_BUILD_FINALIZATION_QUEUE");
        Ok(Self {
            env: env.clone(),
            db: D1::of(env)?,
            queue: queue.map_err(|_| missing("The queue IMAGE_BUILD_FINALIZATION_QUEUE"))?,
            settings: Settings {
                provider: sandbox_backend::name(env),
                control_plane_url,
                pepper,
                vcs_host: git_host(env),
            },
        })
    }
}

/// What an environment or a path names, for a look-up.
fn named(name: RepositoryName) -> Named {
    Named { name, branch: None }
}

impl World for Deployment {
    type Db = D1;
    type Backend = Backend;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn db(&self) -> &D1 {
        &self.db
    }

    fn backend(&self, provider: &str) -> Result<Backend, BackendError> {
        sandbox_backend::of_name(&self.env, provider)
    }

    fn now(&self) -> UnixMillis {
        clock::now()
    }

    fn random_hex(&self, bytes: usize) -> String {
        let hex = random::hex::<32>();
        hex[..(2 * bytes).min(hex.len())].to_owned()
    }

    async fn repositories(&self, scope: &ImageScope) -> Result<Vec<InitRepository>, Failure> {
        let forge = KnownForge::of(&self.env)?;
        match scope {
            ImageScope::Repository(name) => Ok(vec![session_target::resolve_one(&forge, &named(name.clone())).await?]),
            ImageScope::Environment(id) => {
                let members = environments::repositories(&self.db, id).await?;
                // It has one at least.
                if members.is_empty() {
                    return Err(Refusal::not_found("Environment not found").into());
                }
                let members = members.into_iter().map(|member| WantedRepository {
                    repo_owner: member.repo_owner,
                    repo_name: member.repo_name,
                    base_branch: Some(member.base_branch),
                });
                session_target::resolve(&forge, &session_target::of_environment(members)).await
            }
        }
    }

    fn checkout(&self, repository: &InitRepository, position: u32) -> Result<CheckoutRepository, Failure> {
        let found = checkout(&self.env, repository, position);
        Ok(found.ok_or_else(|| Fault::new("naming a repository", "it has no valid name"))?)
    }

    async fn secrets(&self, scope: &ImageScope, repo_id: Option<i64>) -> Result<BTreeMap<String, String>, Failure> {
        secret_injection::for_image(&self.env, scope, repo_id).await
    }

    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        let forge = Forge::of(&self.env).map_err(|failure| ForgeError::Setup(failure.to_string()))?;
        forge.clone_credentials(repository_ids).await
    }

    async fn head(&self, repository: &InitRepository) -> Result<Option<String>, ForgeError> {
        let unnamed = || ForgeError::Setup("a repository or its branch has no valid name".to_owned());
        let name = RepositoryName::parse(&repository.repo_owner, &repository.repo_name).ok_or_else(unnamed)?;
        let branch = BranchName::parse(&repository.base_branch).ok_or_else(unnamed)?;
        let forge = Forge::of(&self.env).map_err(|failure| ForgeError::Setup(failure.to_string()))?;
        forge.branch_head(&name, &branch).await
    }

    async fn publish(&self, message: &Message) -> Result<(), Failure> {
        self.queue.send(message).await.map_err(|error| Fault::new("queueing the end of a build", error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_pepper_nothing_is_done_by_itself() {
        for (vars, expected) in [(vec![], false), (vec![(PEPPER, " ")], false), (vec![(PEPPER, "00ff")], true)] {
            let vars: BTreeMap<&str, &str> = vars.into_iter().collect();
            assert_eq!(Deployment::is_set_up(&vars), expected, "{vars:?}");
        }
    }
}
