//! What a cron does for images, half an hour after half an hour. A step that fails is logged, and the others are made.

use futures_util::StreamExt;
use futures_util::stream;
use oi_worker_kit::Failure;
use oi_worker_kit::log::Line;

use super::queue::Message;
use super::{ImageScope, STALE_MS, World, identity, starting};
use crate::sandbox_backend::{BackendError, SandboxBackend};
use crate::store::image_builds::{self, Build, Outlook, ScopeKey, cleanup, finalization, scopes};

/// What is done at the same time, at most.
pub const AT_ONCE: usize = 4;
/// Rows that a step takes at a time.
const ROWS: i64 = 50;
/// Repositories that are looked at in one run, scopes of both kinds, and builds that it begins.
const REPOSITORIES_MAX: i64 = 500;
const SCOPES_MAX: i64 = 1_000;
const BUILDS_MAX: usize = 20;
/// Builds that came to nothing are shown for this long, in ms.
const HISTORY_MS: i64 = 24 * 3_600_000;

/// All of it.
pub async fn run(world: &impl World) {
    let told = |step: &'static str, outcome: Result<(), Failure>| {
        if let Err(failure) = outcome {
            let line = Line::error("control-plane", "image_builds.step_failed").with("step", step);
            line.with("error", failure.to_string()).write();
        }
    };
    told("finishing what was left behind", publish_left_behind(world).await);
    told("failing what is not heard of", fail_stale(world).await);
    told("ending machines", end_machines(world).await);
    told("building what is missing", build_what_is_missing(world).await);
    told("deleting images", delete_images(world).await);
    told("forgetting builds", forget(world).await);
}

async fn publish_left_behind(world: &impl World) -> Result<(), Failure> {
    for build in finalization::left_behind(world.db(), ROWS, world.now()).await? {
        if let Some(hash) = &build.completion_hash {
            world.publish(&Message::finish(&build.id, hash)).await?;
        }
    }
    Ok(())
}

async fn fail_stale(world: &impl World) -> Result<(), Failure> {
    for build in cleanup::stale(world.db(), world.now().plus(-STALE_MS), ROWS).await? {
        image_builds::fail(world.db(), &build.id, "Nothing was heard of the build in time", world.now()).await?;
    }
    Ok(())
}

/// Ends the machines of builds that have ended.
pub async fn end_machines(world: &impl World) -> Result<(), Failure> {
    let builds = cleanup::with_machines(world.db(), ROWS, world.now()).await?;
    let ended = stream::iter(&builds).map(|build| end_machine(world, build)).buffer_unordered(AT_ONCE);
    ended.collect::<Vec<_>>().await.into_iter().collect()
}

/// Ends a build's machine. With a client of its own, as all clean-up: what one client does has to end within the time of
/// its first operation, and the making of a machine or an image may have used that up.
pub async fn destroy(
    world: &impl World,
    provider: &str,
    build: &str,
    machine: Option<&str>,
) -> Result<(), BackendError> {
    world.backend(provider)?.destroy_build(build, machine).await
}

/// Deletes an image, with a client of its own.
pub async fn delete(world: &impl World, provider: &str, image: &str) -> Result<(), BackendError> {
    world.backend(provider)?.delete_image(image).await
}

async fn end_machine(world: &impl World, build: &Build) -> Result<(), Failure> {
    match destroy(world, &build.provider, &build.id, build.provider_session_id.as_deref()).await {
        Ok(()) => cleanup::machine_gone(world.db(), &build.id).await?,
        Err(error) => not_yet(world, build, "image_build.machine_left", &error.to_string()).await?,
    }
    Ok(())
}

/// Deletes images that nobody uses.
pub async fn delete_images(world: &impl World) -> Result<(), Failure> {
    let builds = cleanup::with_images(world.db(), ROWS, world.now()).await?;
    let deleted = stream::iter(&builds).map(|build| delete_image(world, build)).buffer_unordered(AT_ONCE);
    deleted.collect::<Vec<_>>().await.into_iter().collect()
}

async fn delete_image(world: &impl World, build: &Build) -> Result<(), Failure> {
    let Some(image) = &build.provider_image_id else { return Ok(()) };
    match delete(world, &build.provider, image).await {
        Ok(()) => cleanup::image_gone(world.db(), &build.id, image).await?,
        Err(error) => not_yet(world, build, "image_build.image_left", &error.to_string()).await?,
    }
    Ok(())
}

async fn not_yet(world: &impl World, build: &Build, event: &'static str, error: &str) -> Result<(), Failure> {
    Line::warn("control-plane", event).with("build_id", &build.id).with("error", error).write();
    Ok(cleanup::not_yet(world.db(), &build.id, world.now()).await?)
}

/// What is left of a build that has ended.
pub async fn clean(world: &impl World, build: &Build) -> Result<(), Failure> {
    if !build.is_building() && build.provider_session_cleanup_pending != 0 {
        end_machine(world, build).await?;
    }
    if matches!(build.status.as_str(), "failed" | "superseded") {
        delete_image(world, build).await?;
    }
    Ok(())
}

async fn forget(world: &impl World) -> Result<(), Failure> {
    cleanup::forget(world.db(), world.now().plus(-HISTORY_MS), ROWS * 4).await?;
    Ok(())
}

/// Scopes whose images are wanted.
pub async fn wanted(world: &impl World) -> Result<Vec<ImageScope>, Failure> {
    let repositories = scopes::repositories(world.db(), None, REPOSITORIES_MAX).await?;
    let environments = scopes::environments(world.db(), SCOPES_MAX - repositories.len() as i64).await?;
    let named = |r: &scopes::EnabledRepository| ImageScope::parse("repo", &format!("{}/{}", r.repo_owner, r.repo_name));
    let repositories = repositories.iter().filter_map(named);
    Ok(repositories.chain(environments.into_iter().map(ImageScope::Environment)).collect())
}

/// Builds the images that are missing, old, or of branches that moved.
pub async fn build_what_is_missing(world: &impl World) -> Result<(), Failure> {
    if super::building_backend(world).is_err() {
        return Ok(());
    }
    let begun = std::cell::Cell::new(0_usize);
    let scopes = wanted(world).await?;
    let outlooks = outlooks(world, &scopes).await?;
    let looks = stream::iter(scopes.iter().zip(&outlooks)).map(async |(scope, outlook)| {
        if begun.get() >= BUILDS_MAX {
            return;
        }
        let outcome = match needs_a_build(world, scope, outlook).await {
            Ok(false) => return,
            Ok(true) => {
                begun.set(begun.get() + 1);
                starting::begin(world, scope, false).await.map(|_| ())
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            let line = Line::warn("control-plane", "image_build.not_begun").with("scope_id", scope.key().id);
            line.with("error", failure.to_string()).write();
        }
    });
    looks.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    Ok(())
}

/// How these scopes stand at the configured backend.
pub async fn outlooks(world: &impl World, scopes: &[ImageScope]) -> Result<Vec<Outlook>, Failure> {
    let keys: Vec<ScopeKey> = scopes.iter().map(ImageScope::key).collect();
    Ok(image_builds::outlooks(world.db(), &keys, &world.settings().provider, world.now()).await?)
}

/// Whether a scope that stands so needs a build now. After failures it waits; an unknown head says nothing.
pub async fn needs_a_build(world: &impl World, scope: &ImageScope, outlook: &Outlook) -> Result<bool, Failure> {
    if outlook.waits {
        return Ok(false);
    }
    let repositories = match world.repositories(scope).await {
        Ok(repositories) => repositories,
        // It cannot be worked on now, and there is nobody to tell.
        Err(Failure::Refused(refusal)) if refusal.status < 500 => return Ok(false),
        Err(failure) => return Err(failure),
    };
    let Some(image) = &outlook.ready else { return Ok(true) };
    if image.repositories_fingerprint != identity::fingerprint(&repositories)
        || !identity::is_compatible(&image.runtime_version)
    {
        return Ok(true);
    }
    let Some(commits) = identity::commits_of(&image.repository_shas, &repositories) else { return Ok(true) };
    for (repository, commit) in repositories.iter().zip(commits) {
        let head = world.head(repository).await;
        if matches!(head, Ok(Some(head)) if !head.eq_ignore_ascii_case(&commit.base_sha)) {
            return Ok(true);
        }
    }
    Ok(false)
}
