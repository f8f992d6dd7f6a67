//! Settings of integrations, and of the code host.

use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde_json::{Value, json};
use worker::Response;

use super::settings_request::{actor, only, seen_version, stale};
use crate::integration_settings::{self as rules, Integration, Layers, Level};
use crate::models::Models;
use crate::request::Cx;
use crate::source_control::RepositoryName;
use crate::store::Database;
use crate::store::integration_settings::{self as store, Scope};

/// The integration that the path names.
fn integration(cx: &Cx<'_>) -> Result<Integration, Refusal> {
    let word = cx.parameters.first().map(String::as_str).unwrap_or_default();
    Integration::parse(word).ok_or_else(|| {
        Refusal::invalid_parameter(format!("Unsupported integration: {}", oi_protocol::text::truncate_bytes(word, 60)))
    })
}

/// `owner/name` of the path's two segments from `at` on.
fn repository(cx: &Cx<'_>, at: usize) -> Result<String, Refusal> {
    let segment = |at: usize| {
        let text = cx.parameters.get(at).map(String::as_str).unwrap_or_default();
        // Decoded once: what was meant by it is checked like everything else.
        url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
            .next()
            .map(|(_, text)| text.into_owned())
            .unwrap_or_default()
    };
    RepositoryName::parse(&segment(at), &segment(at + 1))
        .map(|name| name.as_path())
        .ok_or_else(|| Refusal::invalid_parameter("Owner and name must be valid repository path segments"))
}

fn environment(cx: &Cx<'_>, integration: Integration) -> Result<String, Refusal> {
    if !integration.has_environments() {
        return Err(Refusal::invalid_parameter(format!("{} has no settings of environments", integration.as_str())));
    }
    let id = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    let fits = (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits { Ok(id.to_owned()) } else { Err(Refusal::not_found("Environment not found")) }
}

/// `settings` and the version of a body.
fn wanted(cx: &Cx<'_>) -> Result<(Value, Option<i64>), Refusal> {
    let body: Value = request_body::parse(&cx.body, "Invalid settings body")?;
    only(&body, "The body", &["settings", "version"])?;
    let version = seen_version(&body, "version")?;
    let settings = body.get("settings").cloned().ok_or_else(|| Refusal::invalid_body("settings is required"))?;
    Ok((settings, version))
}

/// The version of a deletion, in the query.
fn seen(cx: &Cx<'_>) -> Result<Option<i64>, Refusal> {
    let Some(text) = cx.head.query_value("version") else { return Ok(None) };
    let wrong = || Refusal::invalid_parameter("version must be a whole number");
    text.parse().ok().filter(|version| *version >= 0).map(Some).ok_or_else(wrong)
}

/// What the audit log tells of settings: whose they are, and the names of what is set.
fn detail(scope: Scope<'_>, settings: Option<&Value>) -> Value {
    let mut detail = match scope {
        Scope::Global => json!({"scope": "global"}),
        Scope::Repository(repo) => json!({"scope": "repository", "repo": repo}),
        Scope::Environment(id) => json!({"scope": "environment", "environmentId": id}),
    };
    if let Some(settings) = settings.and_then(Value::as_object) {
        let names = settings.iter().flat_map(|(name, value)| match (name.as_str(), value.as_object()) {
            ("defaults", Some(defaults)) => defaults.keys().map(|name| format!("defaults.{name}")).collect(),
            _ => vec![name.clone()],
        });
        detail["fields"] = names.collect();
    }
    detail
}

async fn put(cx: &Cx<'_>, integration: Integration, level: Level, scope: Scope<'_>) -> Result<i64, Failure> {
    let (settings, version) = wanted(cx)?;
    let db = cx.db()?;
    let settings = rules::checked(integration, level, &settings, &Models::enabled(&db, cx.env).await?)?;
    let name = integration.as_str();
    let change = store::put(name, scope, &settings, version, &actor(cx), clock::now());
    let entry = cx.audit("settings.set", "settings", name).detail(&detail(scope, Some(&settings)));
    if db.batch(entry.behind_the_first(vec![change])).await?.first() == Some(&0) {
        return Err(stale("Settings").into());
    }
    Ok(store::get(&db, name, scope).await?.map_or(0, |found| found.version))
}

async fn delete(cx: &Cx<'_>, integration: Integration, scope: Scope<'_>) -> Result<(), Failure> {
    let (db, version) = (cx.db()?, seen(cx)?);
    let entry = cx.audit("settings.delete", "settings", integration.as_str()).detail(&detail(scope, None));
    let change = store::delete(integration.as_str(), scope, version);
    let changed = db.batch(entry.behind_the_first(vec![change])).await?;
    let is_there = || store::get(&db, integration.as_str(), scope);
    if changed.first() == Some(&0) && version.is_some() && is_there().await?.is_some() {
        return Err(stale("Settings").into());
    }
    Ok(())
}

/// Settings and their version, null and 0 when there are none.
async fn found(cx: &Cx<'_>, integration: Integration, scope: Scope<'_>) -> Result<(Value, i64), Failure> {
    let found = store::get(&cx.db()?, integration.as_str(), scope).await?;
    Ok(found.map_or((Value::Null, 0), |found| (found.settings, found.version)))
}

pub(super) async fn get_global(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    let (settings, version) = found(cx, integration, Scope::Global).await?;
    reply::json(200, &json!({"integrationId": integration.as_str(), "settings": settings, "version": version}))
}

pub(super) async fn put_global(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    let version = put(cx, integration, Level::Global, Scope::Global).await?;
    reply::json(200, &json!({"status": "updated", "integrationId": integration.as_str(), "version": version}))
}

pub(super) async fn delete_global(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    delete(cx, integration, Scope::Global).await?;
    reply::json(200, &json!({"status": "deleted", "integrationId": integration.as_str()}))
}

/// A page of repositories with settings of their own.
async fn repositories(cx: &Cx<'_>, integration: Integration) -> Result<Value, Failure> {
    let after = match cx.head.query_value("cursor") {
        None => String::new(),
        Some(text) => rules::repository(&text)
            .ok_or_else(|| Refusal::invalid_parameter("cursor must be the last repository of a page"))?,
    };
    let (rows, more) = store::of_repositories(&cx.db()?, integration.as_str(), &after).await?;
    let next = rows.last().filter(|_| more).map(|row| row.target.clone());
    let repos: Vec<Value> = rows
        .into_iter()
        .map(|row| json!({"repo": row.target, "settings": row.settings, "version": row.version}))
        .collect();
    Ok(json!({"repos": repos, "hasMore": more, "nextCursor": next}))
}

pub(super) async fn list_repositories(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    let mut body = repositories(cx, integration).await?;
    body["integrationId"] = integration.as_str().into();
    reply::json(200, &body)
}

pub(super) async fn get_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (integration, repo) = (integration(cx)?, repository(cx, 1)?);
    let (settings, version) = found(cx, integration, Scope::Repository(&repo)).await?;
    let body = json!({"integrationId": integration.as_str(), "repo": repo, "settings": settings, "version": version});
    reply::json(200, &body)
}

pub(super) async fn put_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (integration, repo) = (integration(cx)?, repository(cx, 1)?);
    let version = put(cx, integration, Level::Repository, Scope::Repository(&repo)).await?;
    let body = json!({"status": "updated", "integrationId": integration.as_str(), "repo": repo, "version": version});
    reply::json(200, &body)
}

pub(super) async fn delete_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (integration, repo) = (integration(cx)?, repository(cx, 1)?);
    delete(cx, integration, Scope::Repository(&repo)).await?;
    reply::json(200, &json!({"status": "deleted", "integrationId": integration.as_str(), "repo": repo}))
}

pub(super) async fn get_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    let id = environment(cx, integration)?;
    let (settings, version) = found(cx, integration, Scope::Environment(&id)).await?;
    let body = json!({"integrationId": integration.as_str(), "environmentId": id, "settings": settings,
        "version": version});
    reply::json(200, &body)
}

pub(super) async fn put_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    let id = environment(cx, integration)?;
    let version = put(cx, integration, Level::Environment, Scope::Environment(&id)).await?;
    let body = json!({"status": "updated", "integrationId": integration.as_str(), "environmentId": id,
        "version": version});
    reply::json(200, &body)
}

pub(super) async fn delete_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    let integration = integration(cx)?;
    let id = environment(cx, integration)?;
    delete(cx, integration, Scope::Environment(&id)).await?;
    reply::json(200, &json!({"status": "deleted", "integrationId": integration.as_str(), "environmentId": id}))
}

pub(super) async fn resolved(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (integration, repo) = (integration(cx)?, repository(cx, 1)?);
    let db = cx.db()?;
    let get = async |scope: Scope<'_>| store::get(&db, integration.as_str(), scope).await;
    let layers = Layers {
        global: get(Scope::Global).await?.map(|found| found.settings),
        repository: get(Scope::Repository(&repo)).await?.map(|found| found.settings),
        environment: None,
    };
    let config = layers.resolved(integration, &Models::enabled(&db, cx.env).await?);
    let config = config
        .ok_or_else(|| Refusal::invalid_parameter(format!("Unsupported integration: {}", integration.as_str())))?;
    reply::json(200, &json!({"integrationId": integration.as_str(), "repo": repo, "config": config}))
}

pub(super) async fn get_scm(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (settings, version) = found(cx, Integration::Scm, Scope::Global).await?;
    reply::json(200, &json!({"settings": settings, "version": version}))
}

pub(super) async fn put_scm(cx: &Cx<'_>) -> Result<Response, Failure> {
    let version = put(cx, Integration::Scm, Level::Global, Scope::Global).await?;
    reply::json(200, &json!({"status": "updated", "version": version}))
}

pub(super) async fn delete_scm(cx: &Cx<'_>) -> Result<Response, Failure> {
    delete(cx, Integration::Scm, Scope::Global).await?;
    reply::json(200, &json!({"status": "deleted"}))
}

pub(super) async fn list_scm_repositories(cx: &Cx<'_>) -> Result<Response, Failure> {
    reply::json(200, &repositories(cx, Integration::Scm).await?)
}

pub(super) async fn put_scm_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    let repo = repository(cx, 0)?;
    let version = put(cx, Integration::Scm, Level::Repository, Scope::Repository(&repo)).await?;
    reply::json(200, &json!({"status": "updated", "repo": repo, "version": version}))
}

pub(super) async fn delete_scm_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    let repo = repository(cx, 0)?;
    delete(cx, Integration::Scm, Scope::Repository(&repo)).await?;
    reply::json(200, &json!({"status": "deleted", "repo": repo}))
}

/// Channels that the Slack bot sees, for people to choose from. What Slack does not say is told and is no error.
pub(super) async fn slack_channels(cx: &Cx<'_>) -> Result<Response, Failure> {
    use oi_worker_kit::vars::Vars;
    let Some(token) = cx.env.get("SLACK_BOT_TOKEN") else {
        return reply::json(200, &json!({"channels": [], "error": "not_configured"}));
    };
    let api = cx.env.get_or("SLACK_API_URL", "https://slack.com/api");
    match crate::slack_channels::list(api.trim_end_matches('/'), &token, encode_component).await {
        Ok(channels) => reply::json(200, &json!({"channels": channels})),
        Err(word) => reply::json(200, &json!({"channels": [], "error": word})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_what_is_set_and_no_value_of_it() {
        let settings = json!({"enabledRepos": ["acme/app"], "defaults": {"model": "a/b", "instructions": "words"}});
        let told = detail(Scope::Global, Some(&settings));
        assert_eq!(
            told,
            json!({"scope": "global", "fields": ["defaults.instructions", "defaults.model", "enabledRepos"]})
        );
        let told = detail(Scope::Repository("acme/app"), None);
        assert_eq!(told, json!({"scope": "repository", "repo": "acme/app"}));
    }
}
