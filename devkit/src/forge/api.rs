//! The REST API under `/api/v3`, in GitHub's shapes.

mod accounts_json;
mod app;
pub mod body;
mod commits_json;
pub mod error;
mod issues;
mod page;
mod pulls;
pub mod pulls_json;
mod repositories;
pub mod repository_json;
mod users;

pub use accounts_json::{node_id, organization, simple_user};
pub use commits_json::path_segments;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use http::{HeaderValue, Method, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::Shared;
use error::ApiError;

/// Largest answer that gets an ETag, in bytes; no answer of ours is larger.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

pub fn router(forge: &Shared) -> Router<Shared> {
    Router::new()
        .route("/app", get(app::app))
        .route("/app/installations/{installation}/access_tokens", post(app::create_token))
        .route("/installation/repositories", get(app::repositories))
        .route("/installation/token", delete(app::revoke_token))
        .route("/repos/{owner}/{name}", get(repositories::repository))
        .route("/repositories/{id}", get(repositories::repository_by_id))
        .route("/repos/{owner}/{name}/installation", get(app::of_repository))
        .route("/repos/{owner}/{name}/branches", get(repositories::branches))
        .route("/repos/{owner}/{name}/branches/{*branch}", get(repositories::branch))
        .route("/repos/{owner}/{name}/git/ref/heads/{*branch}", get(repositories::head_ref))
        .route("/repos/{owner}/{name}/commits/{*revision}", get(repositories::commit))
        .route("/repos/{owner}/{name}/pulls", get(pulls::list).post(pulls::create))
        .route("/repos/{owner}/{name}/pulls/{number}", get(pulls::get).patch(pulls::update))
        .route("/repos/{owner}/{name}/pulls/{number}/merge", put(pulls::merge))
        .route("/repos/{owner}/{name}/pulls/{number}/files", get(pulls::files))
        .route("/repos/{owner}/{name}/pulls/{number}/commits", get(pulls::commits))
        .route("/repos/{owner}/{name}/labels", get(issues::labels).post(issues::create_label))
        .route("/repos/{owner}/{name}/labels/{label}", get(issues::label))
        .route("/repos/{owner}/{name}/issues/{number}/labels", get(issues::labels_of).post(issues::add_labels))
        .route("/repos/{owner}/{name}/issues/{number}/comments", get(issues::comments).post(issues::create_comment))
        .route("/user", get(users::me))
        .route("/user/emails", get(users::emails))
        .route("/user/memberships/orgs/{org}", get(users::membership))
        .route("/users/{login}", get(users::user))
        .fallback(|| async { ApiError::not_found() })
        .method_not_allowed_fallback(|| async { ApiError::not_found() })
        .layer(axum::middleware::from_fn(manners))
        .with_state(forge.clone())
}

/// GitHub's manners: a `User-Agent` is asked for, answers name the API version, and reads carry an ETag.
async fn manners(request: Request, next: Next) -> Response {
    if !request.headers().contains_key(header::USER_AGENT) {
        return (
            StatusCode::FORBIDDEN,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.",
        )
            .into_response();
    }
    let read = request.method() == Method::GET;
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    if read && response.status() == StatusCode::OK {
        response = tagged(response, known.as_ref()).await;
    }
    let headers = response.headers_mut();
    headers.insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
    headers.insert("x-github-api-version-selected", HeaderValue::from_static("2022-11-28"));
    response
}

/// Adds the ETag of the body, and leaves the body out when the caller has it already.
pub(super) async fn tagged(response: Response, known: Option<&HeaderValue>) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER_BYTES).await else {
        return ApiError::fault("the answer is too long").into_response();
    };
    let tag = format!("W/\"{}\"", hex::encode(Sha256::digest(&bytes)));
    let fresh = known.and_then(|v| v.to_str().ok()).is_some_and(|list| {
        list.split(',').map(str::trim).any(|known| known == tag || known == &tag[2..] || known == "*")
    });
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60, s-maxage=60"));
    if fresh {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}
