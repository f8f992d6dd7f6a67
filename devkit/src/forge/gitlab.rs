//! The same repositories, branches and pull requests as GitLab tells of them: projects and merge requests below `/api/v4`,
//! refresh at `/oauth/token`. Only where the configuration has a `gitlab`.

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::body::Body;
use super::api::error::ApiError;
use super::api::pulls_json::time;
use super::api::tagged;
use super::auth::Principal;
use super::config::Level;
use super::directory::{Account, Repository};
use super::lifecycle::{BodyEdit, Edit, Proposal};
use super::names::{BranchName, Sha};
use super::store::pulls::{self, Filter, Pull};
use super::store::tokens::{self, USER_TOKEN_SECONDS};
use super::{Forge, Shared};

const DRAFT: &str = "draft:";
/// Projects, branches and merge requests of a page, unless it is asked for otherwise, and at most.
const PER_PAGE: u64 = 20;
const MAX_PER_PAGE: u64 = 100;

pub fn router(forge: &Shared) -> Router<Shared> {
    Router::new()
        .route("/user", get(user))
        .route("/projects", get(projects))
        .route("/groups/{group}/projects", get(group_projects))
        .route("/projects/{project}", get(project))
        .route("/projects/{project}/repository/branches", get(branches))
        .route("/projects/{project}/repository/branches/{branch}", get(branch))
        .route("/projects/{project}/merge_requests", get(merge_requests).post(create))
        .route("/projects/{project}/merge_requests/{iid}", get(merge_request).put(update))
        .fallback(|| async { Problem::not_found("404 Not Found") })
        .layer(axum::middleware::from_fn_with_state(forge.clone(), when_configured))
        .with_state(forge.clone())
}

/// Where GitLab has its pages and its tokens.
pub fn pages() -> Router<Shared> {
    Router::new()
        .route("/oauth/token", post(token))
        .route("/{owner}/{repo}/-/merge_requests/{iid}", get(page_of_merge_request))
}

/// Nothing is here without a configuration. Reads carry an ETag, as on GitLab.
async fn when_configured(State(forge): State<Shared>, request: Request, next: Next) -> Response {
    if forge.config.gitlab.is_none() {
        return Problem::not_found("404 Not Found").into_response();
    }
    let is_read = request.method() == Method::GET;
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    if is_read && response.status() == StatusCode::OK { tagged(response, known.as_ref()).await } else { response }
}

async fn page_of_merge_request(
    State(forge): State<Shared>,
    Path((owner, repo, iid)): Path<(String, String, String)>,
) -> Response {
    match forge.directory.repository(&owner, &repo) {
        Some(repository) if iid.bytes().all(|b| b.is_ascii_digit()) => {
            Redirect::to(&forge.url(&format!("/{}/pull/{iid}", repository.full_name()))).into_response()
        }
        _ => Problem::not_found("404 Not Found").into_response(),
    }
}

/// A refusal in GitLab's shape: `{"message": …}`.
struct Problem(StatusCode, Value);

impl Problem {
    fn new(status: StatusCode, message: impl Into<Value>) -> Self {
        Self(status, json!({ "message": message.into() }))
    }

    fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// What a parameter lacks: GitLab's other shape.
    fn parameter(sentence: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, json!({ "error": sentence }))
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (status, message) = error.parts();
        match status {
            StatusCode::UNAUTHORIZED => Self::new(status, "401 Unauthorized"),
            StatusCode::NOT_FOUND => Self::new(status, "404 Not found"),
            StatusCode::FORBIDDEN => Self::new(status, "403 Forbidden"),
            StatusCode::UNPROCESSABLE_ENTITY if message.contains("already exists") => Self::new(
                StatusCode::CONFLICT,
                vec!["Another open merge request already exists for this source branch"],
            ),
            StatusCode::UNPROCESSABLE_ENTITY => Self::new(StatusCode::BAD_REQUEST, vec![message]),
            _ => Self::new(status, message),
        }
    }
}

impl From<super::git::GitError> for Problem {
    fn from(error: super::git::GitError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<super::store::StoreError> for Problem {
    fn from(error: super::store::StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// Who asks, by `PRIVATE-TOKEN` or a bearer.
fn principal(forge: &Forge, headers: &HeaderMap) -> Result<Principal, Problem> {
    let own = headers.get("private-token").and_then(|value| value.to_str().ok());
    let token = own.or_else(|| super::auth::bearer(headers));
    let known = token.map(|token| forge.principal_of_token(token)).transpose()?.flatten();
    known.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "401 Unauthorized"))
}

/// The caller and the project of a path: its number, or its path as one segment.
fn open<'a>(
    forge: &'a Forge,
    headers: &HeaderMap,
    project: &str,
    permission: &str,
    level: Level,
) -> Result<(Principal, &'a Repository), Problem> {
    let principal = principal(forge, headers)?;
    let by_path = |path: &str| path.split_once('/').and_then(|(owner, name)| forge.directory.repository(owner, name));
    let found = match project.parse() {
        Ok(id) => forge.directory.repository_by_id(id),
        Err(_) => by_path(project),
    };
    let repository = found.ok_or_else(|| Problem::not_found("404 Project Not Found"))?;
    match forge.require(&principal, repository, permission, level) {
        Ok(()) => Ok((principal, repository)),
        Err(error) if error.parts().0 == StatusCode::NOT_FOUND => Err(Problem::not_found("404 Project Not Found")),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Paging {
    per_page: Option<String>,
    page: Option<String>,
}

impl Paging {
    fn numbers(&self) -> (u64, u64) {
        let number =
            |text: &Option<String>, default: u64| text.as_deref().and_then(|t| t.parse().ok()).unwrap_or(default);
        (number(&self.page, 1).clamp(1, 1_000_000), number(&self.per_page, PER_PAGE).clamp(1, MAX_PER_PAGE))
    }

    /// A page of a list with GitLab's headers.
    fn answer(&self, all: Vec<Value>) -> Response {
        let (page, per_page) = self.numbers();
        let total = all.len() as u64;
        let pages = total.div_ceil(per_page).max(1);
        let part: Vec<Value> = all.into_iter().skip(((page - 1) * per_page) as usize).take(per_page as usize).collect();
        let mut response = Json(part).into_response();
        let next = if page < pages { (page + 1).to_string() } else { String::new() };
        let previous = if page > 1 { (page - 1).to_string() } else { String::new() };
        for (name, value) in [
            ("x-total", total.to_string()),
            ("x-total-pages", pages.to_string()),
            ("x-page", page.to_string()),
            ("x-per-page", per_page.to_string()),
            ("x-next-page", next),
            ("x-prev-page", previous),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn user_json(forge: &Forge, account: &Account) -> Value {
    json!({
        "id": account.id,
        "username": account.login,
        "public_email": null,
        "name": account.name,
        "state": "active",
        "locked": false,
        "avatar_url": forge.url(&format!("/avatars/{}", account.id)),
        "web_url": forge.url(&format!("/{}", account.login)),
    })
}

async fn user(State(forge): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let principal = principal(&forge, &headers)?;
    let account = forge.actor(&principal).ok_or_else(|| Problem::not_found("404 Not Found"))?;
    Ok(Json(user_json(&forge, account)))
}

fn project_json(forge: &Forge, repository: &Repository) -> Value {
    let full_name = repository.full_name();
    let web = forge.url(&format!("/{full_name}"));
    json!({
        "id": repository.id,
        "description": repository.description,
        "name": repository.name.as_str(),
        "name_with_namespace": format!("{} / {}", repository.owner, repository.name),
        "path": repository.name.as_str(),
        "path_with_namespace": full_name,
        "created_at": "2026-01-01T00:00:00.000Z",
        "default_branch": repository.default_branch.as_str(),
        "tag_list": [],
        "topics": [],
        "ssh_url_to_repo": format!("git@localhost:{full_name}.git"),
        "http_url_to_repo": format!("{web}.git"),
        "web_url": web,
        "readme_url": format!("{web}/-/blob/{}/README.md", repository.default_branch),
        "forks_count": 0,
        "star_count": 0,
        "avatar_url": null,
        "last_activity_at": "2026-01-01T00:00:00.000Z",
        "visibility": if repository.private { "private" } else { "public" },
        "archived": repository.archived,
        "namespace": {
            "id": repository.owner_id,
            "name": repository.owner.as_str(),
            "path": repository.owner.as_str(),
            "kind": "group",
            "full_path": repository.owner.as_str(),
            "parent_id": null,
            "avatar_url": null,
            "web_url": forge.url(&format!("/groups/{}", repository.owner)),
        },
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ProjectFilter {
    archived: Option<String>,
}

fn listed(forge: &Forge, principal: &Principal, owner: Option<&str>, filter: &ProjectFilter) -> Vec<Value> {
    let archived = filter.archived.as_deref().and_then(|text| text.parse::<bool>().ok());
    let mut found: Vec<&Repository> = forge
        .directory
        .repositories()
        .iter()
        .filter(|r| owner.is_none_or(|owner| r.owner.as_str().eq_ignore_ascii_case(owner)))
        .filter(|r| archived.is_none_or(|archived| archived == r.archived))
        .filter(|r| r.installed && forge.level(principal, r, "metadata") >= Level::Read)
        .collect();
    found.sort_by_key(|r| std::cmp::Reverse(r.id));
    found.into_iter().map(|r| project_json(forge, r)).collect()
}

async fn projects(
    State(forge): State<Shared>,
    headers: HeaderMap,
    Query(filter): Query<ProjectFilter>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let principal = principal(&forge, &headers)?;
    Ok(paging.answer(listed(&forge, &principal, None, &filter)))
}

async fn group_projects(
    State(forge): State<Shared>,
    Path(group): Path<String>,
    headers: HeaderMap,
    Query(filter): Query<ProjectFilter>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let principal = principal(&forge, &headers)?;
    let account = match group.parse() {
        Ok(id) => forge.directory.account_by_id(id),
        Err(_) => forge.directory.account(&group),
    };
    let account = account.ok_or_else(|| Problem::not_found("404 Group Not Found"))?;
    Ok(paging.answer(listed(&forge, &principal, Some(&account.login), &filter)))
}

async fn project(
    State(forge): State<Shared>,
    Path(project): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let (_, repository) = open(&forge, &headers, &project, "metadata", Level::Read)?;
    Ok(Json(project_json(&forge, repository)))
}

fn branch_json(forge: &Forge, repository: &Repository, name: &BranchName, sha: &Sha) -> Value {
    let web = forge.url(&format!("/{}", repository.full_name()));
    json!({
        "name": name.as_str(),
        "commit": { "id": sha.as_str(), "short_id": sha.short(), "web_url": format!("{web}/-/commit/{sha}") },
        "merged": false,
        "protected": false,
        "developers_can_push": true,
        "developers_can_merge": true,
        "can_push": true,
        "default": *name == repository.default_branch,
        "web_url": format!("{web}/-/tree/{name}"),
    })
}

async fn branches(
    State(forge): State<Shared>,
    Path(project): Path<String>,
    headers: HeaderMap,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let (_, repository) = open(&forge, &headers, &project, "contents", Level::Read)?;
    let all = forge.git.branches(repository.id).await?;
    Ok(paging.answer(all.iter().map(|one| branch_json(&forge, repository, &one.name, &one.sha)).collect()))
}

async fn branch(
    State(forge): State<Shared>,
    Path((project, branch)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let (_, repository) = open(&forge, &headers, &project, "contents", Level::Read)?;
    let missing = || Problem::not_found("404 Branch Not Found");
    let name = BranchName::parse(&branch).ok_or_else(missing)?;
    let sha = forge.git.branch_head(repository.id, &name).await?.ok_or_else(missing)?;
    Ok(Json(branch_json(&forge, repository, &name, &sha)))
}

fn is_draft(title: &str) -> bool {
    title.get(..DRAFT.len()).is_some_and(|start| start.eq_ignore_ascii_case(DRAFT))
}

fn merge_request_json(forge: &Forge, repository: &Repository, pull: &Pull) -> Value {
    let state = match (pull.open, pull.merged_at) {
        (true, _) => "opened",
        (false, Some(_)) => "merged",
        (false, None) => "closed",
    };
    let account = |id: u64| forge.directory.account_by_id(id).map(|account| user_json(forge, account));
    let reference = format!("!{}", pull.number);
    json!({
        "id": pull.id,
        "iid": pull.number,
        "project_id": repository.id,
        "title": pull.title,
        "description": pull.body,
        "state": state,
        "created_at": time(pull.created_at),
        "updated_at": time(pull.updated_at),
        "merged_by": pull.merged_by.and_then(account),
        "merge_user": pull.merged_by.and_then(account),
        "merged_at": pull.merged_at.map(time),
        "closed_by": null,
        "closed_at": pull.closed_at.filter(|_| pull.merged_at.is_none()).map(time),
        "target_branch": pull.base_ref.as_str(),
        "source_branch": pull.head_ref.as_str(),
        "user_notes_count": 0,
        "upvotes": 0,
        "downvotes": 0,
        "author": account(pull.author),
        "assignees": [],
        "assignee": null,
        "reviewers": [],
        "source_project_id": repository.id,
        "target_project_id": repository.id,
        "labels": [],
        "draft": is_draft(&pull.title),
        "imported": false,
        "imported_from": "none",
        "work_in_progress": is_draft(&pull.title),
        "milestone": null,
        "merge_when_pipeline_succeeds": false,
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable",
        "sha": pull.head_sha.as_str(),
        "merge_commit_sha": pull.merge_commit.as_ref().map(Sha::as_str),
        "squash_commit_sha": null,
        "discussion_locked": null,
        "should_remove_source_branch": null,
        "force_remove_source_branch": null,
        "reference": reference,
        "references": {
            "short": reference,
            "relative": reference,
            "full": format!("{}{reference}", repository.full_name()),
        },
        "web_url": forge.url(&format!("/{}/-/merge_requests/{}", repository.full_name(), pull.number)),
        "squash": false,
        "has_conflicts": false,
        "blocking_discussions_resolved": true,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MergeRequestFilter {
    state: Option<String>,
    source_branch: Option<String>,
    target_branch: Option<String>,
}

async fn merge_requests(
    State(forge): State<Shared>,
    Path(project): Path<String>,
    headers: HeaderMap,
    Query(query): Query<MergeRequestFilter>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let (_, repository) = open(&forge, &headers, &project, "pull_requests", Level::Read)?;
    let (open, merged) = match query.state.as_deref() {
        None | Some("all") => (None, None),
        Some("opened") => (Some(true), None),
        Some("closed") => (Some(false), Some(false)),
        Some("merged") => (Some(false), Some(true)),
        Some("locked") => return Ok(paging.answer(Vec::new())),
        Some(_) => return Err(Problem::parameter("state does not have a valid value")),
    };
    let filter =
        Filter { open, head: query.source_branch, base: query.target_branch, by_update: false, ascending: false };
    let (found, _) = forge.store.read(|db| pulls::list(db, repository.id, &filter, (0, 1_000)))?;
    let found = found.iter().filter(|pull| merged.is_none_or(|merged| pull.merged_at.is_some() == merged));
    Ok(paging.answer(found.map(|pull| merge_request_json(&forge, repository, pull)).collect()))
}

fn stored(forge: &Forge, repository: &Repository, iid: &str) -> Result<Pull, Problem> {
    let number = iid.parse().map_err(|_| Problem::parameter("merge_request_iid is invalid"))?;
    Ok(forge.stored_pull(repository, number)?)
}

async fn merge_request(
    State(forge): State<Shared>,
    Path((project, iid)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let (_, repository) = open(&forge, &headers, &project, "pull_requests", Level::Read)?;
    Ok(Json(merge_request_json(&forge, repository, &stored(&forge, repository, &iid)?)))
}

#[derive(Deserialize)]
struct Create {
    title: Option<String>,
    source_branch: Option<String>,
    target_branch: Option<String>,
    description: Option<String>,
}

fn actor<'a>(forge: &'a Forge, principal: &Principal) -> Result<&'a Account, Problem> {
    forge.actor(principal).ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "401 Unauthorized"))
}

async fn create(
    State(forge): State<Shared>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (principal, repository) = open(&forge, &headers, &project, "pull_requests", Level::Write)?;
    let request: Create = Body::parse(&body)?;
    let missing = |field: &str| Problem::parameter(&format!("{field} is missing"));
    let title = request.title.filter(|title| !title.trim().is_empty()).ok_or_else(|| missing("title"))?;
    let proposal = Proposal {
        draft: is_draft(&title),
        title,
        body: request.description,
        head: request.source_branch.ok_or_else(|| missing("source_branch"))?,
        base: request.target_branch.ok_or_else(|| missing("target_branch"))?,
    };
    let pull = forge.open_pull(repository, actor(&forge, &principal)?, proposal).await?;
    Ok((StatusCode::CREATED, Json(merge_request_json(&forge, repository, &pull))))
}

#[derive(Deserialize)]
struct Update {
    title: Option<String>,
    description: Option<String>,
    target_branch: Option<String>,
    state_event: Option<String>,
}

async fn update(
    State(forge): State<Shared>,
    Path((project, iid)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let (principal, repository) = open(&forge, &headers, &project, "pull_requests", Level::Write)?;
    let request: Update = Body::parse(&body)?;
    let edit = Edit {
        title: request.title,
        body: request.description.map_or(BodyEdit::Keep, |text| BodyEdit::Set(Some(text))),
        base: request.target_branch,
        open: match request.state_event.as_deref() {
            None => None,
            Some("reopen") => Some(true),
            Some("close") => Some(false),
            Some(_) => return Err(Problem::parameter("state_event does not have a valid value")),
        },
    };
    let pull = stored(&forge, repository, &iid)?;
    let pull = forge.edit_pull(repository, pull.number, actor(&forge, &principal)?, edit).await?;
    Ok(Json(merge_request_json(&forge, repository, &pull)))
}

#[derive(Deserialize)]
struct TokenRequest {
    client_id: String,
    client_secret: String,
    grant_type: String,
    refresh_token: String,
}

/// New tokens for a refresh token. Unlike GitHub, GitLab refuses by the status.
async fn token(State(forge): State<Shared>, body: Bytes) -> Response {
    let refuse = |status: StatusCode, error: &str| (status, Json(json!({ "error": error }))).into_response();
    let Ok(request) = Body::parse::<TokenRequest>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let oauth = &forge.config.oauth;
    if request.client_id != oauth.client_id || !oauth.client_secret.matches(&request.client_secret) {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    if request.grant_type != "refresh_token" {
        return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let issued = forge.store.write(|db| {
        let user = tokens::take_refresh(db, &request.refresh_token)?;
        user.map(|user| tokens::issue_for_user(db, user)).transpose()
    });
    match issued {
        Ok(Some(tokens)) => Json(json!({
            "access_token": tokens.access,
            "token_type": "Bearer",
            "expires_in": USER_TOKEN_SECONDS,
            "refresh_token": tokens.refresh,
            "scope": "api",
            "created_at": super::store::now(),
        }))
        .into_response(),
        Ok(None) => refuse(StatusCode::BAD_REQUEST, "invalid_grant"),
        Err(error) => Problem::from(error).into_response(),
    }
}
