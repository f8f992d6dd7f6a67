//! The App, its installation and the installation's tokens.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::accounts_json::{EPOCH, node_id, simple_user};
use super::body::Body;
use super::error::ApiError;
use super::page::PageQuery;
use super::pulls_json::time;
use super::repository_json;
use crate::forge::auth::{Principal, bearer};
use crate::forge::config::Level;
use crate::forge::directory::Repository;
use crate::forge::store::tokens::{self, Grant};
use crate::forge::{Forge, Shared};

/// Most repositories that a token can be narrowed to, as on GitHub.
const MAX_NARROWED: usize = 500;
const EVENTS: [&str; 2] = ["pull_request", "push"];

pub async fn app(State(forge): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    require_app(&forge, &headers)?;
    let config = &forge.config.app;
    let owner = app_owner(&forge);
    Ok(Json(json!({
        "id": config.id,
        "slug": config.slug,
        "node_id": node_id("Integration", config.id),
        "client_id": forge.config.oauth.client_id,
        "owner": owner,
        "name": config.slug,
        "description": "The local forge's App",
        "external_url": forge.config.origin(),
        "html_url": forge.url(&format!("/apps/{}", config.slug)),
        "created_at": EPOCH,
        "updated_at": EPOCH,
        "permissions": permissions_json(&config.permissions),
        "events": EVENTS,
        "installations_count": 1,
    })))
}

/// The body of a token request: what to narrow the token to.
#[derive(Deserialize, Default)]
struct CreateToken {
    repositories: Option<Vec<String>>,
    repository_ids: Option<Vec<u64>>,
    permissions: Option<BTreeMap<String, String>>,
}

pub async fn create_token(
    State(forge): State<Shared>,
    Path(installation): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    require_app(&forge, &headers)?;
    if installation != forge.config.app.installation_id.to_string() {
        return Err(ApiError::not_found());
    }
    let request: CreateToken = Body::parse_optional(&body)?;
    let scope = narrowed_repositories(&forge, &request)?;
    let permissions = narrowed_permissions(&forge, request.permissions)?;
    let grant = Grant {
        permissions,
        repositories: scope.as_ref().map(|list| list.iter().map(|r| r.id).collect::<BTreeSet<_>>()),
    };
    let (token, expires_at) = forge.store.write(|db| tokens::issue_for_installation(db, &grant))?;
    let mut answer = json!({
        "token": token,
        "expires_at": time(expires_at),
        "permissions": permissions_json(&grant.permissions),
        "repository_selection": if scope.is_some() { "selected" } else { "all" },
    });
    if let Some(list) = scope {
        let level = contents(&grant);
        answer["repositories"] = list.into_iter().map(|r| repository_json::repository(&forge, r, level)).collect();
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

pub async fn revoke_token(State(forge): State<Shared>, headers: HeaderMap) -> Result<StatusCode, ApiError> {
    match forge.principal(&headers)? {
        Principal::Installation(_) => {
            let token = bearer(&headers).unwrap_or_default();
            forge.store.write(|db| tokens::revoke(db, token))?;
            Ok(StatusCode::NO_CONTENT)
        }
        _ => Err(ApiError::bad_credentials()),
    }
}

pub async fn repositories(
    State(forge): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let Principal::Installation(grant) = forge.principal(&headers)? else {
        return Err(ApiError::forbidden(
            "You must authenticate with an installation access token in order to list repositories for an installation.",
        ));
    };
    let list: Vec<&Repository> = forge
        .directory
        .repositories()
        .iter()
        .filter(|r| r.installed && grant.repositories.as_ref().is_none_or(|ids| ids.contains(&r.id)))
        .collect();
    let page = query.page();
    let total = list.len() as u64;
    let level = contents(&grant);
    let repositories: Vec<Value> =
        page.of(list).into_iter().map(|r| repository_json::repository(&forge, r, level)).collect();
    Ok(page.answer(
        &forge.url("/api/v3/installation/repositories"),
        &uri,
        total,
        json!({
            "total_count": total,
            "repository_selection": if grant.repositories.is_some() { "selected" } else { "all" },
            "repositories": repositories,
        }),
    ))
}

pub async fn of_repository(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    require_app(&forge, &headers)?;
    let repository =
        forge.directory.repository(&owner, &name).filter(|r| r.installed).ok_or_else(ApiError::not_found)?;
    Ok(Json(installation(&forge, repository)))
}

/// `installation`.
fn installation(forge: &Forge, repository: &Repository) -> Value {
    let config = &forge.config.app;
    let id = config.installation_id;
    let account = forge.directory.account_by_id(repository.owner_id).expect("a repository's owner is an account");
    json!({
        "id": id,
        "account": simple_user(forge, account),
        "repository_selection": "all",
        "access_tokens_url": forge.url(&format!("/api/v3/app/installations/{id}/access_tokens")),
        "repositories_url": forge.url("/api/v3/installation/repositories"),
        "html_url": forge.url(&format!("/settings/installations/{id}")),
        "app_id": config.id,
        "app_slug": config.slug,
        "client_id": forge.config.oauth.client_id,
        "target_id": account.id,
        "target_type": account.kind.as_str(),
        "permissions": permissions_json(&config.permissions),
        "events": EVENTS,
        "single_file_name": null,
        "created_at": EPOCH,
        "updated_at": EPOCH,
        "suspended_by": null,
        "suspended_at": null,
    })
}

fn require_app(forge: &Forge, headers: &HeaderMap) -> Result<(), ApiError> {
    match forge.principal(headers)? {
        Principal::App => Ok(()),
        _ => Err(ApiError::unauthorized("A JSON web token could not be decoded")),
    }
}

fn app_owner(forge: &Forge) -> Value {
    forge
        .directory
        .repositories()
        .first()
        .and_then(|r| forge.directory.account_by_id(r.owner_id))
        .map_or_else(|| simple_user(forge, forge.directory.bot()), |account| simple_user(forge, account))
}

fn narrowed_repositories<'a>(forge: &'a Forge, request: &CreateToken) -> Result<Option<Vec<&'a Repository>>, ApiError> {
    let missing = || {
        ApiError::unprocessable(
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    };
    if request.repositories.is_none() && request.repository_ids.is_none() {
        return Ok(None);
    }
    let names = request.repositories.as_deref().unwrap_or_default();
    let ids = request.repository_ids.as_deref().unwrap_or_default();
    if names.len() + ids.len() > MAX_NARROWED {
        return Err(ApiError::unprocessable("A token can be narrowed to at most 500 repositories."));
    }
    if names.is_empty() && ids.is_empty() {
        return Ok(None);
    }
    let installed = || forge.directory.repositories().iter().filter(|r| r.installed);
    let mut list: Vec<&Repository> = Vec::new();
    for name in names {
        let found = installed().find(|r| r.name.as_str().eq_ignore_ascii_case(name));
        list.push(found.ok_or_else(missing)?);
    }
    for id in ids {
        list.push(installed().find(|r| r.id == *id).ok_or_else(missing)?);
    }
    list.sort_by_key(|r| r.id);
    list.dedup_by_key(|r| r.id);
    Ok(Some(list))
}

fn narrowed_permissions(
    forge: &Forge,
    wanted: Option<BTreeMap<String, String>>,
) -> Result<BTreeMap<String, Level>, ApiError> {
    let granted = &forge.config.app.permissions;
    let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
        return Ok(granted.clone());
    };
    let mut permissions = BTreeMap::from([("metadata".to_owned(), Level::Read)]);
    for (name, level) in wanted {
        let level = Level::parse(&level).filter(|level| granted.get(&name).is_some_and(|most| level <= most));
        let level = level.ok_or_else(|| {
            ApiError::unprocessable("The permissions requested are not granted to this installation.")
        })?;
        permissions.insert(name, level);
    }
    Ok(permissions)
}

fn permissions_json(permissions: &BTreeMap<String, Level>) -> Value {
    permissions
        .iter()
        .map(|(name, level)| (name.clone(), Value::from(level.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn contents(grant: &Grant) -> Level {
    grant.permissions.get("contents").copied().unwrap_or(Level::None)
}
