//! Which models people may choose.

use oi_protocol::settings::ModelPreferences;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock, reply, request_body};
use serde::Deserialize;
use serde_json::json;
use worker::Response;

use super::settings_request::{actor, stale};
use crate::enabled_models;
use crate::models::Models;
use crate::request::Cx;
use crate::store::{Database, model_preferences};

const SHAPE: &str = "enabledModels must be a list of model ids";

async fn current(cx: &Cx<'_>) -> Result<ModelPreferences, Failure> {
    let db = cx.db()?;
    let version = model_preferences::get(&db).await?.map_or(0, |stored| stored.version);
    Ok(ModelPreferences { enabled_models: Models::enabled(&db, cx.env).await?.enabled_ids(), version })
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    reply::json(200, &current(cx).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    enabled_models: Vec<String>,
    #[serde(default)]
    version: Option<u32>,
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Response, Failure> {
    let wanted: Wanted = request_body::parse(&cx.body, SHAPE)?;
    let db = cx.db()?;
    let enabled = Models::enabled(&db, cx.env).await?.checked(&wanted.enabled_models)?;
    let change = model_preferences::put(&enabled, wanted.version.map(i64::from), &actor(cx), clock::now());
    let entry = cx.audit("model_preferences.set", "model_preferences", "global");
    let entry = entry.detail(&json!({"enabled": enabled.len()}));
    let changed = db.batch(entry.behind_the_first(vec![change])).await?;
    if changed.first() == Some(&0) {
        return Err(stale("The enabled models").into());
    }
    // Pages that are open learn it in a moment; those that open from now on know it.
    let env = cx.env.clone();
    cx.context.wait_until(async move {
        if let Err(failure) = enabled_models::tell_pages(&env).await {
            Line::error("control-plane", "models.not_told").with("error", failure.to_string()).write();
        }
    });
    let now = current(cx).await?;
    reply::json(200, &json!({"status": "updated", "enabledModels": now.enabled_models, "version": now.version}))
}
