//! Pull requests.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::error::ApiError;
use super::page::PageQuery;
use super::repositories::open;
use super::{commits_json, pulls_json};
use crate::forge::auth::Principal;
use crate::forge::config::Level;
use crate::forge::directory::{Account, Repository};
use crate::forge::lifecycle::{BodyEdit, Edit, Merge, Proposal};
use crate::forge::store::pulls::{self, Filter, Pull};
use crate::forge::{Forge, Shared};

/// Longest title and body, in characters, as on GitHub.
const MAX_TITLE_CHARS: usize = 256;
const MAX_BODY_CHARS: usize = 65_536;
/// Most commits that are listed, as on GitHub.
const MAX_COMMITS: usize = 250;

/// A repository's pull request by the number in a path.
pub fn find(forge: &Forge, repository: &Repository, number: &str) -> Result<Pull, ApiError> {
    let number = number.parse().map_err(|_| ApiError::not_found())?;
    forge.stored_pull(repository, number)
}

#[derive(Deserialize)]
pub struct ListQuery {
    state: Option<String>,
    head: Option<String>,
    base: Option<String>,
    sort: Option<String>,
    direction: Option<String>,
}

pub async fn list(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
    Query(paging): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "pull_requests", Level::Read)?;
    let page = paging.page();
    let sort = query.sort.as_deref().unwrap_or("created");
    let filter = Filter {
        open: match query.state.as_deref() {
            None | Some("open") => Some(true),
            Some("closed") => Some(false),
            Some("all") => None,
            Some(_) => {
                return Err(ApiError::validation("PullRequest", "invalid", Some("state"), None));
            }
        },
        // GitHub looks at `head` only in the form `owner:branch`; no other owner has branches here.
        head: query.head.as_deref().and_then(|head| {
            let (owner, branch) = head.split_once(':')?;
            Some(if owner.eq_ignore_ascii_case(repository.owner.as_str()) { branch.to_owned() } else { String::new() })
        }),
        base: query.base.clone(),
        by_update: sort == "updated",
        // Newest first, unless the order was named without its direction.
        ascending: match query.direction.as_deref() {
            Some(direction) => direction == "asc",
            None => query.sort.is_some() && sort != "created",
        },
    };
    let (list, total) = forge.store.read(|db| pulls::list(db, repository.id, &filter, page.window()))?;
    let body =
        list.iter().map(|pull| pulls_json::simple(&forge, repository, pull)).collect::<Result<Vec<Value>, _>>()?;
    let base = forge.url(&format!("/api/v3/repos/{}/pulls", repository.full_name()));
    Ok(page.answer(&base, &uri, total, body.into()))
}

#[derive(Deserialize)]
struct Create {
    title: Option<String>,
    body: Option<String>,
    head: Option<String>,
    base: Option<String>,
    #[serde(default)]
    draft: bool,
}

pub async fn create(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (principal, repository) = open(&forge, &headers, (&owner, &name), "pull_requests", Level::Write)?;
    let request: Create = Body::parse(&body)?;
    let missing = |field| ApiError::validation("PullRequest", "missing_field", Some(field), None);
    let proposal = Proposal {
        title: request.title.ok_or_else(|| missing("title"))?,
        body: request.body,
        head: request.head.ok_or_else(|| missing("head"))?,
        base: request.base.ok_or_else(|| missing("base"))?,
        draft: request.draft,
    };
    check_text(Some(&proposal.title), proposal.body.as_deref())?;
    let pull = forge.open_pull(repository, actor(&forge, &principal)?, proposal).await?;
    Ok((StatusCode::CREATED, Json(pulls_json::full(&forge, repository, &pull).await?)))
}

pub async fn get(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "pull_requests", Level::Read)?;
    let pull = find(&forge, repository, &number)?;
    Ok(Json(pulls_json::full(&forge, repository, &pull).await?))
}

#[derive(Deserialize)]
struct Update {
    title: Option<String>,
    #[serde(default)]
    body: BodyEdit,
    base: Option<String>,
    state: Option<String>,
}

pub async fn update(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let (principal, repository) = open(&forge, &headers, (&owner, &name), "pull_requests", Level::Write)?;
    let request: Update = Body::parse(&body)?;
    let edit = Edit {
        title: request.title,
        body: request.body,
        base: request.base,
        open: match request.state.as_deref() {
            None => None,
            Some("open") => Some(true),
            Some("closed") => Some(false),
            Some(_) => {
                return Err(ApiError::validation("PullRequest", "invalid", Some("state"), None));
            }
        },
    };
    let new_body = match &edit.body {
        BodyEdit::Set(body) => body.as_deref(),
        BodyEdit::Keep => None,
    };
    check_text(edit.title.as_deref(), new_body)?;
    let pull = find(&forge, repository, &number)?;
    let pull = forge.edit_pull(repository, pull.number, actor(&forge, &principal)?, edit).await?;
    Ok(Json(pulls_json::full(&forge, repository, &pull).await?))
}

#[derive(Deserialize)]
struct MergeRequest {
    merge_method: Option<String>,
    commit_title: Option<String>,
    commit_message: Option<String>,
    sha: Option<String>,
}

pub async fn merge(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let (principal, repository) = open(&forge, &headers, (&owner, &name), "contents", Level::Write)?;
    let request: MergeRequest = Body::parse_optional(&body)?;
    let squash = match request.merge_method.as_deref() {
        None | Some("merge") => false,
        Some("squash") => true,
        Some("rebase") => {
            return Err(ApiError::not_allowed("Rebase merges are not allowed on this repository."));
        }
        Some(_) => return Err(ApiError::unprocessable("Invalid request.")),
    };
    check_text(request.commit_title.as_deref(), request.commit_message.as_deref())?;
    let pull = find(&forge, repository, &number)?;
    let sha = forge
        .merge_pull(
            repository,
            pull.number,
            actor(&forge, &principal)?,
            Merge { squash, title: request.commit_title, message: request.commit_message, expected_head: request.sha },
        )
        .await?;
    Ok(Json(json!({
        "sha": sha.as_str(),
        "merged": true,
        "message": "Pull Request successfully merged",
    })))
}

pub async fn files(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "pull_requests", Level::Read)?;
    let pull = find(&forge, repository, &number)?;
    let files = forge.git.changes_since_fork(repository.id, &pull.base_sha, &pull.head_sha).await?;
    let page = query.page();
    let total = files.len() as u64;
    let body: Vec<Value> = page
        .of(files)
        .iter()
        .map(|file| commits_json::changed_file(&forge, repository, &pull.head_sha, file))
        .collect();
    Ok(page.answer(&sub_list(&forge, repository, &pull, "files"), &uri, total, body.into()))
}

pub async fn commits(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, repository) = open(&forge, &headers, (&owner, &name), "pull_requests", Level::Read)?;
    let pull = find(&forge, repository, &number)?;
    let commits = forge.git.commits_between(repository.id, &pull.base_sha, &pull.head_sha, MAX_COMMITS).await?;
    let page = query.page();
    let total = commits.len() as u64;
    let body: Vec<Value> =
        page.of(commits).iter().map(|commit| commits_json::commit(&forge, repository, commit)).collect();
    Ok(page.answer(&sub_list(&forge, repository, &pull, "commits"), &uri, total, body.into()))
}

fn sub_list(forge: &Forge, repository: &Repository, pull: &Pull, name: &str) -> String {
    forge.url(&format!("/api/v3/repos/{}/pulls/{}/{name}", repository.full_name(), pull.number))
}

fn actor<'a>(forge: &'a Forge, principal: &Principal) -> Result<&'a Account, ApiError> {
    forge.actor(principal).ok_or_else(ApiError::bad_credentials)
}

/// The limits of a title and a body, where they are given.
fn check_text(title: Option<&str>, body: Option<&str>) -> Result<(), ApiError> {
    let custom = |message| ApiError::validation("PullRequest", "custom", None, Some(message));
    if title.is_some_and(|t| t.trim().is_empty()) {
        return Err(ApiError::validation("PullRequest", "missing_field", Some("title"), None));
    }
    if title.is_some_and(|t| t.chars().count() > MAX_TITLE_CHARS) {
        return Err(custom("title is too long (maximum is 256 characters)"));
    }
    if body.is_some_and(|b| b.chars().count() > MAX_BODY_CHARS) {
        return Err(custom("body is too long (maximum is 65536 characters)"));
    }
    if [title, body].into_iter().flatten().any(|t| t.contains('\0')) {
        return Err(custom("text must not hold a null character"));
    }
    Ok(())
}
