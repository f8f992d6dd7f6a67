//! Images of repositories: what their machines tell, and what people see and switch.

use futures_util::{StreamExt, stream};
use oi_protocol::image_builds::{
    ImageBuildList, ImageBuildRepositories, ImageBuildRepository, ImageBuildTriggered, ImageBuildUnit, ImageBuildUnits,
    ToggleImageBuilds,
};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde_json::json;
use worker::{Env, Response};

use super::{cut, page};
use crate::image_builds::queue::Message;
use crate::image_builds::starting::{self, Begun};
use crate::image_builds::{Deployment, ImageScope, World, callbacks, cannot_build, identity, selection, upkeep};
use crate::policy::Caller;
use crate::request::Cx;
use crate::sandbox_backend::{self, SandboxBackend};
use crate::session_target;
use crate::source_control::require_forge;
use crate::store::audit_log;
use crate::store::image_builds::{self, scopes};

/// The token that a build's machine shows.
fn bearer<'c>(cx: &'c Cx<'_>) -> Option<&'c str> {
    match &cx.who.caller {
        Caller::Bearer { token } => Some(token),
        _ => None,
    }
}

pub(super) async fn complete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let told = callbacks::Complete::read(&cx.body)?;
    callbacks::complete(&Deployment::of(cx.env)?, bearer(cx), &told).await?;
    reply::json(202, &json!({"ok": true, "snapshotPending": true}))
}

pub(super) async fn failed(cx: &Cx<'_>) -> Result<Response, Failure> {
    let told = callbacks::Failed::read(&cx.body)?;
    callbacks::failed(&Deployment::of(cx.env)?, bearer(cx), &told).await?;
    reply::json(202, &json!({"ok": true, "cleanupPending": true}))
}

/// The deployment, when its backend builds images at all: 501 where it does not.
fn managed(env: &Env) -> Result<(), Failure> {
    require_forge(env)?;
    match sandbox_backend::configured(env) {
        Ok(backend) if !backend.capabilities().image_build => Err(cannot_build(&sandbox_backend::name(env)).into()),
        // What is not set up is told by whatever needs it.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The repository that the path names.
fn repository(cx: &Cx<'_>) -> Result<ImageScope, Refusal> {
    let segment = |index: usize| cx.parameters.get(index).map(String::as_str).unwrap_or_default();
    session_target::of_path(segment(0), segment(1)).map(ImageScope::Repository)
}

async fn trigger(cx: &Cx<'_>, scope: &ImageScope) -> Result<Response, Failure> {
    let world = Deployment::of(cx.env)?;
    let wanted = selection::is_wanted(world.db(), scope).await?;
    match wanted {
        None => return Err(Refusal::not_found("Environment not found").into()),
        Some(false) => {
            // What is not there is not switched off.
            world.repositories(scope).await?;
            let sentence = "Images of this are switched off. Switch them on and try again";
            return Err(Refusal::conflict(sentence).into());
        }
        Some(true) => {}
    }
    let begun = starting::begin(&world, scope, false).await?;
    let (build_id, already_building) = match begun {
        Begun::Building(id) => (id, false),
        Begun::Already(id) => (id, true),
        // Nobody asked to leave one that is ready as it is; another's build ended in between.
        Begun::UpToDate => return Err(Refusal::conflict("Another build has just ended. Try again").into()),
    };
    if !already_building {
        let key = scope.key();
        let entry = cx.audit("image_builds.trigger", "image_builds", &key.id);
        audit_log::write(&cx.db()?, &entry.detail(&json!({"scope": key.kind, "buildId": build_id}))).await?;
    }
    reply::json(200, &ImageBuildTriggered { build_id, status: "building".to_owned(), already_building })
}

pub(super) async fn trigger_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    managed(cx.env)?;
    trigger(cx, &repository(cx)?).await
}

pub(super) async fn trigger_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    managed(cx.env)?;
    trigger(cx, &ImageScope::Environment(super::environments::environment_id(cx)?)).await
}

/// Switching off asks nobody, so that it works for a repository that is gone.
pub(super) async fn toggle(cx: &Cx<'_>) -> Result<Response, Failure> {
    managed(cx.env)?;
    let wanted: ToggleImageBuilds = request_body::parse(&cx.body, "Invalid toggle body")?;
    let scope = repository(cx)?;
    let ImageScope::Repository(name) = &scope else { return Err(Refusal::not_found("Repository not found").into()) };
    if wanted.enabled {
        Deployment::of(cx.env)?.repositories(&scope).await?;
    }
    let action = if wanted.enabled { "image_builds.enable" } else { "image_builds.disable" };
    let entry = cx.audit(action, "image_builds", &name.as_path()).detail(&json!({"scope": "repo"}));
    scopes::set_enabled(&cx.db()?, name, wanted.enabled, clock::now(), &entry).await?;
    changed(cx.env, &Message::refresh(&scope)).await;
    reply::json(200, &json!({"ok": true, "enabled": wanted.enabled}))
}

/// Something that images are made of was changed. What this does not tell, the cron finds.
pub(crate) async fn changed(env: &Env, message: &Message) {
    let builds_none = sandbox_backend::configured(env).is_ok_and(|backend| !backend.capabilities().image_build);
    if builds_none || !Deployment::is_set_up(env) {
        return;
    }
    let outcome = match Deployment::of(env) {
        Ok(world) => world.publish(message).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = outcome {
        Line::warn("control-plane", "image_builds.not_told").with("error", failure.to_string()).write();
    }
}

/// Both of the query's names, or none.
fn asked(kind: Option<&str>, id: Option<&str>) -> Result<Option<ImageScope>, Refusal> {
    match (kind, id) {
        (None, None) => Ok(None),
        (Some(kind), Some(id)) => ImageScope::parse(kind, id)
            .map(Some)
            .ok_or_else(|| Refusal::invalid_parameter("scope_kind and scope_id name no scope")),
        _ => Err(Refusal::invalid_parameter("scope_kind and scope_id go together")),
    }
}

pub(super) async fn status(cx: &Cx<'_>) -> Result<Response, Failure> {
    managed(cx.env)?;
    let query = |name: &str| cx.head.query_value(name);
    let scope = asked(query("scope_kind").as_deref(), query("scope_id").as_deref())?.map(|scope| scope.key());
    let (limit, after) = page(cx, |text| {
        let (at, id) = text.split_once(':')?;
        Some((at.parse::<i64>().ok().filter(|at| (0..1 << 52).contains(at))?, id.to_owned()))
    })?;
    let after = after.as_ref().map(|(at, id)| (*at, id.as_str()));
    let provider = sandbox_backend::name(cx.env);
    let mut rows = image_builds::page(&cx.db()?, scope.as_ref(), &provider, after, limit + 1).await?;
    let next_cursor = cut(&mut rows, limit, |last| format!("{}:{}", last.created_at, last.id));
    reply::json(200, &ImageBuildList { images: rows, next_cursor })
}

pub(super) async fn enabled(cx: &Cx<'_>) -> Result<Response, Failure> {
    managed(cx.env)?;
    let world = Deployment::of(cx.env)?;
    let (limit, after) = page(cx, |text| text.parse::<usize>().ok())?;
    let first = after.unwrap_or(0);
    let all = upkeep::wanted(&world).await?;
    let units = stream::iter(all.iter().skip(first).take(limit as usize)).map(async |scope| {
        // One that cannot be worked on now has no image to come.
        let repositories = world.repositories(scope).await.ok()?;
        let key = scope.key();
        Some(ImageBuildUnit {
            scope_kind: key.kind.to_owned(),
            scope_id: key.id,
            repositories_fingerprint: identity::fingerprint(&repositories),
        })
    });
    let units = units.buffered(upkeep::AT_ONCE).filter_map(std::future::ready).collect().await;
    let next = first + limit as usize;
    reply::json(200, &ImageBuildUnits { units, next_cursor: (next < all.len()).then(|| next.to_string()) })
}

pub(super) async fn enabled_repositories(cx: &Cx<'_>) -> Result<Response, Failure> {
    managed(cx.env)?;
    let (limit, after) = page(cx, |text| {
        let (owner, name) = text.rsplit_once('/')?;
        crate::source_control::RepositoryName::parse(owner, name)
    })?;
    let after = after.as_ref().map(|name| (name.owner(), name.name()));
    let mut rows = scopes::repositories(&cx.db()?, after, limit + 1).await?;
    let next_cursor = cut(&mut rows, limit, |last| format!("{}/{}", last.repo_owner, last.repo_name));
    let named =
        |row: scopes::EnabledRepository| ImageBuildRepository { repo_owner: row.repo_owner, repo_name: row.repo_name };
    reply::json(200, &ImageBuildRepositories { repos: rows.into_iter().map(named).collect(), next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_named_by_both_or_by_nothing() {
        assert_eq!(asked(None, None), Ok(None));
        let named = |kind, id| asked(Some(kind), Some(id)).map(|scope| scope.map(|scope| scope.key().id));
        assert_eq!(named("repo", "Acme/App"), Ok(Some("acme/app".to_owned())));
        assert_eq!(named("repo", "group/sub/app"), Ok(Some("group/sub/app".to_owned())));
        assert_eq!(named("environment", "env_1"), Ok(Some("env_1".to_owned())));
        for (kind, id) in [
            (Some("repo"), None),
            (None, Some("a/b")),
            (Some("repo"), Some("a")),
            (Some("x"), Some("a/b")),
            (Some("environment"), Some("a")),
        ] {
            assert_eq!(asked(kind, id).map_err(|refusal| refusal.status), Err(400), "{kind:?} {id:?}");
        }
    }
}
