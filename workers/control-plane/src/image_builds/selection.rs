//! The image that a session's sandbox begins with.

use futures_util::future::join;
use oi_protocol::EnvironmentId;
use oi_session::call::InitRepository;

use super::ImageScope;
use super::identity::{commits_of, fingerprint, is_compatible};
use crate::source_control::RepositoryName;
use crate::store::image_builds::{self, scopes};
use crate::store::{Database, DbError, environments};

/// An image for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "it is what the wire calls it")]
pub struct Image {
    /// Its build.
    pub build_id: String,
    /// The backend's name of it.
    pub image_id: String,
    /// The commit of the primary repository in it.
    pub sha: Option<String>,
}

/// Of which scope a session's image could be: its environment's, or that of its one repository. Repositories that were
/// only put together have none.
fn scope_of(environment: Option<&EnvironmentId>, repositories: &[InitRepository]) -> Option<ImageScope> {
    match (environment, repositories) {
        (Some(id), _) => Some(ImageScope::Environment(id.clone())),
        (None, [one]) => RepositoryName::parse(&one.repo_owner, &one.repo_name).map(ImageScope::Repository),
        (None, _) => None,
    }
}

/// Whether images of a scope are wanted at all; `None` when there is no such environment.
pub async fn is_wanted(db: &impl Database, scope: &ImageScope) -> Result<Option<bool>, DbError> {
    match scope {
        ImageScope::Repository(name) => scopes::is_enabled(db, name).await.map(Some),
        ImageScope::Environment(id) => environments::is_prebuilt(db, id).await,
    }
}

/// The newest image of what the session works on, where its scope still wants images and today's sandboxes can use it.
pub async fn image_for(
    db: &impl Database,
    provider: &str,
    environment: Option<&EnvironmentId>,
    repositories: &[InitRepository],
) -> Result<Option<Image>, DbError> {
    let Some(scope) = scope_of(environment, repositories) else { return Ok(None) };
    let key = scope.key();
    // A start waits for it, so for one answer of the database.
    let (is_wanted, found) = join(is_wanted(db, &scope), image_builds::latest_ready(db, &key, provider)).await;
    if is_wanted? != Some(true) {
        return Ok(None);
    }
    let found = found?.filter(|build| {
        build.repositories_fingerprint == fingerprint(repositories) && is_compatible(&build.runtime_version)
    });
    Ok(found.and_then(|build| {
        let sha = commits_of(&build.repository_shas, repositories)?.into_iter().next()?.base_sha;
        Some(Image { build_id: build.id, image_id: build.provider_image_id?, sha: Some(sha) })
    }))
}
