//! Repositories, their branches and commits.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::accounts_json::node_id;
use super::commits_json::{self, path_segments};
use super::error::ApiError;
use super::page::PageQuery;
use super::repository_json;
use crate::forge::auth::Principal;
use crate::forge::config::Level;
use crate::forge::directory::Repository;
use crate::forge::names::{BranchName, Sha};
use crate::forge::{Forge, Shared};

/// The caller and the repository of a path, if the caller may do this with it.
pub fn open<'a>(
    forge: &'a Forge,
    headers: &HeaderMap,
    (owner, name): (&str, &str),
    permission: &str,
    level: Level,
) -> Result<(Principal, &'a Repository), ApiError> {
    let principal = forge.principal(headers)?;
    let repository = forge.directory.repository(owner, name).ok_or_else(ApiError::not_found)?;
    forge.require(&principal, repository, permission, level)?;
    Ok((principal, repository))
}

pub async fn repository(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (principal, repository) = open(&forge, &headers, (&owner, &name), "metadata", Level::Read)?;
    let level = forge.level(&principal, repository, "contents");
    Ok(Json(repository_json::repository(&forge, repository, level)))
}

pub async fn repository_by_id(
    State(forge): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let principal = forge.principal(&headers)?;
    let repository =
        id.parse().ok().and_then(|id| forge.directory.repository_by_id(id)).ok_or_else(ApiError::not_found)?;
    forge.require(&principal, repository, "metadata", Level::Read)?;
    let level = forge.level(&principal, repository, "contents");
    Ok(Json(repository_json::repository(&forge, repository, level)))
}

pub async fn branches(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "contents", Level::Read)?;
    let branches = forge.git.branches(repository.id).await?;
    let base = forge.url(&format!("/api/v3/repos/{}", repository.full_name()));
    let page = query.page();
    let total = branches.len() as u64;
    let body: Vec<Value> = page
        .of(branches)
        .into_iter()
        .map(|branch| {
            json!({
                "name": branch.name.as_str(),
                "commit": { "sha": branch.sha.as_str(), "url": format!("{base}/commits/{}", branch.sha) },
                "protected": false,
            })
        })
        .collect();
    Ok(page.answer(&format!("{base}/branches"), &uri, total, body.into()))
}

pub async fn branch(
    State(forge): State<Shared>,
    Path((owner, name, branch)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "contents", Level::Read)?;
    let missing = || ApiError::missing("Branch not found");
    let branch = BranchName::parse(&branch).ok_or_else(missing)?;
    let head = forge.git.branch_head(repository.id, &branch).await?.ok_or_else(missing)?;
    let commit = forge.git.commit(repository.id, &head).await?.ok_or_else(missing)?;
    let api =
        forge.url(&format!("/api/v3/repos/{}/branches/{}", repository.full_name(), path_segments(branch.as_str())));
    Ok(Json(json!({
        "name": branch.as_str(),
        "commit": commits_json::commit(&forge, repository, &commit),
        "_links": {
            "self": api,
            "html": forge.url(&format!("/{}/tree/{}", repository.full_name(), path_segments(branch.as_str()))),
        },
        "protected": false,
        "protection": {
            "enabled": false,
            "required_status_checks": { "enforcement_level": "off", "contexts": [], "checks": [] },
        },
        "protection_url": format!("{api}/protection"),
    })))
}

pub async fn head_ref(
    State(forge): State<Shared>,
    Path((owner, name, branch)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "contents", Level::Read)?;
    let branch = BranchName::parse(&branch).ok_or_else(ApiError::not_found)?;
    let head = forge.git.branch_head(repository.id, &branch).await?.ok_or_else(ApiError::not_found)?;
    let api = forge.url(&format!("/api/v3/repos/{}", repository.full_name()));
    Ok(Json(json!({
        "ref": branch.full_ref(),
        "node_id": node_id("Ref", format!("{}:{}", repository.id, branch.full_ref())),
        "url": format!("{api}/git/refs/heads/{}", path_segments(branch.as_str())),
        "object": {
            "type": "commit",
            "sha": head.as_str(),
            "url": format!("{api}/git/commits/{head}"),
        },
    })))
}

/// One commit by its id or a branch's name, with its files.
pub async fn commit(
    State(forge): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "contents", Level::Read)?;
    let missing = || ApiError::unprocessable(format!("No commit found for SHA: {revision}"));
    let sha = match (Sha::parse(&revision), BranchName::parse(&revision)) {
        (Some(sha), _) => sha,
        (None, Some(branch)) => forge.git.branch_head(repository.id, &branch).await?.ok_or_else(missing)?,
        (None, None) => return Err(missing()),
    };
    let commit = forge.git.commit(repository.id, &sha).await?.ok_or_else(missing)?;
    let files = forge.git.changes_of(repository.id, commit.parents.first(), &sha).await?;
    let mut value = commits_json::commit(&forge, repository, &commit);
    let (additions, deletions) = files.iter().fold((0, 0), |(a, d), f| (a + f.additions, d + f.deletions));
    value["stats"] = json!({ "total": additions + deletions, "additions": additions, "deletions": deletions });
    value["files"] =
        files.iter().take(300).map(|file| commits_json::changed_file(&forge, repository, &sha, file)).collect();
    Ok(Json(value))
}
