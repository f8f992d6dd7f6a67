//! Beginning a build: registered before anything else, so that a change of secrets can end it; its machine made and
//! noted before it does anything; and the machine ended when any of that fails.

use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal};

use super::{
    BUILD_SECONDS, BUILD_SECONDS_MAX, FINALIZATION_GRACE_SECONDS, ImageScope, STALE_MS, TOKEN_LIFE_MS, World,
    building_backend, identity, redaction, selection, upkeep,
};
use crate::sandbox_backend::builds::BuildRequest;
use crate::sandbox_backend::{BackendError, SandboxBackend};
use crate::sandbox_services;
use crate::store::Database;
use crate::store::image_builds::{self, NewBuild, cleanup};
use oi_protocol::ErrorCode;
use oi_session::call::InitRepository;

/// What became of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// A build goes on now, of this id.
    Building(String),
    /// One went on already.
    Already(String),
    /// The image that there is will do.
    UpToDate,
}

/// Builds a scope's image if it has none of what it is now, without waiting after failures: something was changed.
pub async fn refresh(world: &impl World, scope: &ImageScope) -> Result<(), Failure> {
    if selection::is_wanted(world.db(), scope).await? != Some(true) {
        return Ok(());
    }
    image_builds::forget_failures(world.db(), &scope.key()).await?;
    match begin(world, scope, true).await {
        Ok(_) => Ok(()),
        // What was refused is on the build's row, or nothing that a repetition changes.
        Err(Failure::Refused(refusal)) => {
            let line = Line::warn("control-plane", "image_build.not_begun").with("scope_id", scope.key().id);
            line.with("error", refusal.sentence.as_ref()).write();
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// Begins a build of a scope.
pub async fn begin(world: &impl World, scope: &ImageScope, only_if_needed: bool) -> Result<Begun, Failure> {
    let backend = building_backend(world)?;
    let (settings, db, key) = (world.settings(), world.db(), scope.key());
    if let Some(active) = image_builds::active(db, &key, &settings.provider).await? {
        let is_stale = active.callback_token_used_at.is_none() && world.now().0 - active.created_at > STALE_MS;
        if !is_stale {
            return Ok(Begun::Already(active.id));
        }
        image_builds::fail(db, &active.id, "Nothing was heard of the build in time", world.now()).await?;
    }
    let repositories = world.repositories(scope).await?;
    let now = world.now();
    let id = identity::build_id(&key.id, now.0, &world.random_hex(4));
    let token = world.random_hex(32);
    let new = NewBuild {
        id: &id,
        scope: &key,
        repo_id: repositories.first().filter(|_| key.kind == "repo").map(|repository| repository.repo_id),
        provider: &settings.provider,
        fingerprint: &identity::fingerprint(&repositories),
        token_hash: &identity::token_hash(&settings.pepper, &token),
        token_expires_at: now.plus(TOKEN_LIFE_MS),
    };
    if !image_builds::register(db, &new, only_if_needed, now).await? {
        let winner = image_builds::active(db, &key, &settings.provider).await?;
        return Ok(winner.map_or(Begun::UpToDate, |winner| Begun::Already(winner.id)));
    }
    // From here on a change of secrets ends it, so that what is read now is what it is built with.
    let request = match request(world, scope, &repositories, &id, token, &backend).await {
        Ok(request) => request,
        Err(failure) => return Err(failed(world, &id, failure).await),
    };
    match start(world, &backend, &request).await {
        Ok(()) => {
            let line = Line::info("control-plane", "image_build.begun").with("build_id", &id);
            line.with("scope_id", &key.id).with("provider", &settings.provider).write();
            Ok(Begun::Building(id))
        }
        Err(failure) => Err(failure),
    }
}

/// What the machine is told.
async fn request<W: World>(
    world: &W,
    scope: &ImageScope,
    repositories: &[InitRepository],
    id: &str,
    callback_token: String,
    backend: &W::Backend,
) -> Result<BuildRequest, Failure> {
    let (settings, key) = (world.settings(), scope.key());
    let ids: Vec<i64> = repositories.iter().map(|repository| repository.repo_id).collect();
    let env = world.secrets(scope, ids.first().copied()).await?;
    let credentials = world.clone_credentials(&ids).await?;
    let seconds = seconds_of(world.db(), scope, repositories).await?.clamp(1, BUILD_SECONDS_MAX);
    let most = backend.capabilities().max_life_seconds.unwrap_or(u32::MAX);
    let seconds = seconds.min(most.saturating_sub(FINALIZATION_GRACE_SECONDS).max(60));
    let checkouts = repositories.iter().zip(0..).map(|(repository, position)| world.checkout(repository, position));
    let url = &settings.control_plane_url;
    Ok(BuildRequest {
        build_id: id.to_owned(),
        scope_kind: key.kind,
        scope_id: key.id,
        control_plane_url: url.clone(),
        repositories: checkouts.collect::<Result<_, Failure>>()?,
        env,
        callback_url: format!("{url}/image-builds/build-complete"),
        failure_callback_url: format!("{url}/image-builds/build-failed"),
        callback_token,
        vcs_host: settings.vcs_host.clone(),
        clone_token: credentials.password,
        clone_username: credentials.username,
        execution_timeout_seconds: seconds,
        life_seconds: (seconds + FINALIZATION_GRACE_SECONDS).min(most),
    })
}

/// Longest that a build may take as people set it, by the same settings as sessions of the scope have.
async fn seconds_of(db: &impl Database, scope: &ImageScope, repositories: &[InitRepository]) -> Result<u32, Failure> {
    let primary = repositories.first().map(InitRepository::path);
    let environment = match scope {
        ImageScope::Environment(id) => Some(id.as_str()),
        ImageScope::Repository(_) => None,
    };
    let set = sandbox_services::build_seconds(db, primary.as_deref(), environment).await?;
    Ok(set.unwrap_or(BUILD_SECONDS))
}

/// Makes the machine, notes it, lets it begin.
async fn start<W: World>(world: &W, backend: &W::Backend, request: &BuildRequest) -> Result<(), Failure> {
    let id = &request.build_id;
    let machine = match backend.create_build(request).await {
        Ok(machine) => machine,
        Err(error) => {
            let failure = failed(world, id, refused(&error)).await;
            // One may be there whose handle was not heard.
            end(world, id, None, error.proves_nothing_was_made()).await;
            return Err(failure);
        }
    };
    let ended = match image_builds::bind(world.db(), id, &machine, world.now()).await {
        Ok(true) => match backend.start_build(request, &machine).await {
            Ok(()) => return Ok(()),
            Err(error) => failed(world, id, refused(&error)).await,
        },
        Ok(false) => Refusal::conflict("What the image is built of was changed meanwhile. Try again").into(),
        Err(error) => failed(world, id, error.into()).await,
    };
    end(world, id, Some(&machine), false).await;
    Err(ended)
}

fn refused(error: &BackendError) -> Failure {
    Refusal::new(500, ErrorCode::UpstreamFailed, error.to_string()).into()
}

/// Writes a failure onto the build's row. A fault of ours is told as no more than that.
async fn failed(world: &impl World, id: &str, failure: Failure) -> Failure {
    let sentence = match &failure {
        Failure::Refused(refusal) => refusal.sentence.to_string(),
        Failure::Faulted(_) => "Something failed on our side".to_owned(),
    };
    let sentence = redaction::told(&sentence, std::iter::empty());
    if let Err(error) = image_builds::fail(world.db(), id, &sentence, world.now()).await {
        // The cron finds that nothing is heard of it.
        let line = Line::error("control-plane", "image_build.failure_unnoted").with("build_id", id);
        line.with("error", error.to_string()).write();
    }
    let line = Line::warn("control-plane", "image_build.failed").with("build_id", id);
    line.with("error", failure.to_string()).write();
    failure
}

/// Ends the machine of a build that came to nothing. What fails is left to the cron.
async fn end(world: &impl World, id: &str, machine: Option<&str>, is_none: bool) {
    let provider = &world.settings().provider;
    if !is_none && let Err(error) = upkeep::destroy(world, provider, id, machine).await {
        let line = Line::warn("control-plane", "image_build.machine_left").with("build_id", id);
        line.with("error", error.to_string()).write();
        return;
    }
    // A machine whose creation was only not heard may come up yet: the cron looks once more.
    if (is_none || machine.is_some())
        && let Err(error) = cleanup::machine_gone(world.db(), id).await
    {
        let line = Line::warn("control-plane", "image_build.end_unnoted").with("build_id", id);
        line.with("error", error.to_string()).write();
    }
}
