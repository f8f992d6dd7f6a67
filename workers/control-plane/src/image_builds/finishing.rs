//! Making the image of a build that was told done: once, whatever is lost on the way.

use oi_worker_kit::Failure;
use oi_worker_kit::log::Line;

use super::{World, redaction, upkeep};
use crate::sandbox_backend::SandboxBackend;
use crate::sandbox_backend::builds::BuildMachine;
use crate::store::image_builds::{self, Build, finalization};

/// Seconds after which what proved to have made nothing is tried again.
const RETRY_SECONDS: u32 = 15;
/// Seconds that are waited beyond another's lease.
const HEADROOM_SECONDS: u32 = 5;

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing more.
    Done,
    /// It is to come again after so many seconds.
    AgainAfter(u32),
}

/// Goes on with a build that was told to have ended as `hash` says.
pub async fn finish(world: &impl World, id: &str, hash: &str) -> Result<Next, Failure> {
    let Some(build) = image_builds::get(world.db(), id).await? else { return Ok(Next::Done) };
    if build.completion_hash.as_deref() != Some(hash) {
        return Ok(Next::Done);
    }
    if !build.is_building() {
        upkeep::clean(world, &build).await?;
        return Ok(Next::Done);
    }
    let (lease, now) = (world.random_hex(16), world.now());
    let Some(build) = finalization::claim(world.db(), id, &lease, now).await? else {
        return another_has_it(world, id).await;
    };
    let image = match build.provider_image_id.clone() {
        Some(image) => image,
        None => match make_image(world, &build, &lease).await? {
            Made::Image(image) => image,
            Made::Nothing => return Ok(Next::AgainAfter(RETRY_SECONDS)),
            Made::Ended => return Ok(Next::Done),
        },
    };
    let is_ready = finalization::ready(world.db(), id, &lease, world.now()).await?;
    let line = Line::info("control-plane", "image_build.finished").with("build_id", id);
    line.with("image_id", image).with("counts", is_ready).write();
    if let Some(build) = image_builds::get(world.db(), id).await? {
        upkeep::clean(world, &build).await?;
    }
    // Those that it took the place of.
    upkeep::delete_images(world).await?;
    Ok(Next::Done)
}

/// Another holds the build; or held it, and what it made was not heard of: then nothing is made a second time.
async fn another_has_it(world: &impl World, id: &str) -> Result<Next, Failure> {
    let Some(build) = image_builds::get(world.db(), id).await? else { return Ok(Next::Done) };
    if !build.is_building() {
        upkeep::clean(world, &build).await?;
        return Ok(Next::Done);
    }
    let left_ms = build.finalization_lease_expires_at.unwrap_or_default() - world.now().0;
    if left_ms > 0 {
        let left = u32::try_from(left_ms / 1_000).unwrap_or(u32::MAX);
        return Ok(Next::AgainAfter(left.max(RETRY_SECONDS) + HEADROOM_SECONDS));
    }
    if build.finalization_lease_token.is_some() && build.provider_image_id.is_none() {
        give_up(world, &build, "It is not known whether an image was made").await?;
    }
    Ok(Next::Done)
}

enum Made {
    Image(String),
    /// It is proven that there is nothing.
    Nothing,
    /// The build is over.
    Ended,
}

async fn make_image(world: &impl World, build: &Build, lease: &str) -> Result<Made, Failure> {
    let Some(machine) = build.provider_session_id.as_deref() else {
        give_up(world, build, "The build has no machine").await?;
        return Ok(Made::Ended);
    };
    let made = match world.backend(&build.provider) {
        Ok(backend) => backend.snapshot_build(BuildMachine { build_id: &build.id, provider_session_id: machine }).await,
        Err(error) => Err(error),
    };
    let image = match made {
        Ok(image) => image,
        Err(error) if error.proves_nothing_was_made() => {
            finalization::release(world.db(), &build.id, lease).await?;
            return Ok(Made::Nothing);
        }
        Err(error) => {
            give_up(world, build, &error.to_string()).await?;
            return Ok(Made::Ended);
        }
    };
    let recorded = finalization::record_image(world.db(), &build.id, lease, &image, world.now()).await;
    if recorded == Ok(true) {
        return Ok(Made::Image(image));
    }
    // The answer may have been lost, or the build is not ours any more.
    let now = image_builds::get(world.db(), &build.id).await?;
    if now.is_some_and(|now| now.provider_image_id.as_deref() == Some(image.as_str())) {
        return Ok(Made::Image(image));
    }
    unwanted(world, build, &image).await?;
    Ok(Made::Ended)
}

/// Deletes an image that came too late; one that cannot be deleted is noted, so that it is tried again.
async fn unwanted(world: &impl World, build: &Build, image: &str) -> Result<(), Failure> {
    let Err(error) = upkeep::delete(world, &build.provider, image).await else { return Ok(()) };
    let noted = finalization::quarantine(world.db(), &build.id, image, world.now()).await?;
    Line::error("control-plane", "image_build.image_left")
        .with("build_id", &build.id)
        .with("image_id", image)
        .with("noted", noted)
        .with("error", error.to_string())
        .write();
    Ok(())
}

async fn give_up(world: &impl World, build: &Build, why: &str) -> Result<(), Failure> {
    let why = redaction::told(why, std::iter::empty());
    if image_builds::fail(world.db(), &build.id, &why, world.now()).await? {
        let line = Line::warn("control-plane", "image_build.failed").with("build_id", &build.id);
        line.with("error", &why).write();
    }
    if let Some(build) = image_builds::get(world.db(), &build.id).await? {
        upkeep::clean(world, &build).await?;
    }
    Ok(())
}
