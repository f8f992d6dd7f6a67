//! What GitHub keeps with issues and pull requests share: labels and comments. Issues proper are not kept.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::body::Body;
use super::error::ApiError;
use super::page::PageQuery;
use super::pulls::find;
use super::pulls_json;
use super::repositories::open;
use crate::forge::Shared;
use crate::forge::config::Level;
use crate::forge::store::StoreError;
use crate::forge::store::{comments, labels};

/// Longest label, in characters.
const MAX_LABEL_CHARS: usize = 50;
/// Most labels of a repository, and most that one call may add.
const MAX_LABELS: u64 = 1_000;
const MAX_ADDED: usize = 100;
/// Longest comment, in characters, as on GitHub.
const MAX_COMMENT_CHARS: usize = 65_536;

pub async fn labels(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Read)?;
    let all = forge.store.read(|db| labels::list(db, repository.id, MAX_LABELS))?;
    let page = query.page();
    let total = all.len() as u64;
    let body: Vec<Value> = page.of(all).iter().map(|label| pulls_json::label(&forge, repository, label)).collect();
    let base = forge.url(&format!("/api/v3/repos/{}/labels", repository.full_name()));
    Ok(page.answer(&base, &uri, total, body.into()))
}

#[derive(Deserialize)]
struct CreateLabel {
    name: String,
    color: Option<String>,
    description: Option<String>,
}

pub async fn create_label(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Write)?;
    let request: CreateLabel = Body::parse(&body)?;
    let color = request.color.unwrap_or_else(|| "ededed".into());
    if color.len() != 6 || !color.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApiError::validation("Label", "invalid", Some("color"), None));
    }
    check_label(&request.name)?;
    if request.description.as_ref().is_some_and(|d| d.chars().count() > 100) {
        return Err(ApiError::validation("Label", "invalid", Some("description"), None));
    }
    let label = forge
        .store
        .write(|db| {
            if labels::list(db, repository.id, MAX_LABELS)?.len() as u64 >= MAX_LABELS {
                return Ok(None);
            }
            labels::insert(
                db,
                repository.id,
                &request.name,
                &color.to_ascii_lowercase(),
                request.description.as_deref(),
            )
        })
        .map_err(|error: StoreError| ApiError::from(error))?
        .ok_or_else(|| ApiError::validation("Label", "already_exists", Some("name"), None))?;
    Ok((StatusCode::CREATED, Json(pulls_json::label(&forge, repository, &label))))
}

pub async fn label(
    State(forge): State<Shared>,
    Path((owner, name, label)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Read)?;
    let label = forge.store.read(|db| labels::find(db, repository.id, &label))?.ok_or_else(ApiError::not_found)?;
    Ok(Json(pulls_json::label(&forge, repository, &label)))
}

pub async fn labels_of(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Read)?;
    let pull = find(&forge, repository, &number)?;
    let all = forge.store.read(|db| labels::of_pull(db, pull.id))?;
    Ok(Json(all.iter().map(|label| pulls_json::label(&forge, repository, label)).collect()))
}

#[derive(Deserialize)]
struct AddLabels {
    labels: Vec<String>,
}

/// Adds labels; those that the repository doesn't have are made, as GitHub does.
pub async fn add_labels(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Write)?;
    let request: AddLabels = Body::parse(&body)?;
    if request.labels.len() > MAX_ADDED {
        return Err(ApiError::validation("Label", "invalid", Some("labels"), None));
    }
    for label in &request.labels {
        check_label(label)?;
    }
    let pull = find(&forge, repository, &number)?;
    let all = forge.store.write(|db| {
        for name in &request.labels {
            let label = match labels::find(db, repository.id, name)? {
                Some(label) => Some(label),
                None => labels::insert(db, repository.id, name, "ededed", None)?,
            };
            if let Some(label) = label {
                labels::attach(db, pull.id, label.id)?;
            }
        }
        labels::of_pull(db, pull.id)
    })?;
    Ok(Json(all.iter().map(|label| pulls_json::label(&forge, repository, label)).collect()))
}

pub async fn comments(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Read)?;
    let pull = find(&forge, repository, &number)?;
    let page = query.page();
    let (list, total) =
        forge.store.read(|db| Ok((comments::list(db, pull.id, page.window())?, comments::count(db, pull.id)?)))?;
    let body: Vec<Value> =
        list.iter().map(|comment| pulls_json::comment(&forge, repository, pull.number, comment)).collect();
    let base = forge.url(&format!("/api/v3/repos/{}/issues/{}/comments", repository.full_name(), pull.number));
    Ok(page.answer(&base, &uri, total, body.into()))
}

#[derive(Deserialize)]
struct CreateComment {
    body: String,
}

pub async fn create_comment(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (principal, repository) = open(&forge, &headers, (&owner, &name), "issues", Level::Write)?;
    let request: CreateComment = Body::parse(&body)?;
    if request.body.trim().is_empty() || request.body.chars().count() > MAX_COMMENT_CHARS {
        return Err(ApiError::validation("IssueComment", "invalid", Some("body"), None));
    }
    let pull = find(&forge, repository, &number)?;
    let author = forge.actor(&principal).ok_or_else(ApiError::bad_credentials)?;
    let comment = forge.store.write(|db| comments::insert(db, pull.id, author.id, &request.body))?;
    Ok((StatusCode::CREATED, Json(pulls_json::comment(&forge, repository, pull.number, &comment))))
}

fn check_label(name: &str) -> Result<(), ApiError> {
    if name.trim().is_empty() {
        return Err(ApiError::validation("Label", "missing_field", Some("name"), None));
    }
    if name.chars().count() > MAX_LABEL_CHARS || name.chars().any(char::is_control) {
        return Err(ApiError::validation("Label", "invalid", Some("name"), None));
    }
    Ok(())
}
