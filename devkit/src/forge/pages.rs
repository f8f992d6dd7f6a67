//! The pages that people look at: plain, readable on a phone, light and dark. They ask for no sign-in: whoever
//! reaches a forge on this machine may look at all of it.

mod diff;
mod markdown;
mod pull;
mod repository;
pub mod sign_in;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use super::Shared;
use super::api::error::ApiError;
use super::directory::Repository;
use super::git::{Commit, GitError};
use super::store::StoreError;

const STYLE: &str = include_str!("pages/style.css");

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/", get(repository::list))
        .route("/_assets/style.css", get(style))
        .route("/avatars/{id}", get(avatar))
        .route("/{owner}", get(repository::owner))
        .route("/{owner}/{repo}", get(repository::home))
        .route("/{owner}/{repo}/tree/{*branch}", get(repository::tree))
        .route("/{owner}/{repo}/blob/{sha}/{*path}", get(repository::blob))
        .route("/{owner}/{repo}/commit/{sha}", get(repository::commit))
        .route("/{owner}/{repo}/pulls", get(pull::list))
        .route("/{owner}/{repo}/pull/{number}", get(pull::show))
}

/// Why a page can't be shown.
pub enum PageError {
    Missing,
    Fault,
}

impl From<GitError> for PageError {
    fn from(error: GitError) -> Self {
        tracing::error!(%error, "a page can't be made");
        Self::Fault
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a page can't be made");
        Self::Fault
    }
}

impl From<ApiError> for PageError {
    fn from(_: ApiError) -> Self {
        Self::Missing
    }
}

impl axum::response::IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            Self::Missing => message(StatusCode::NOT_FOUND, "Not found", "There is no such page here."),
            Self::Fault => message(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                "The forge could not make this page. Its log says why.",
            ),
        }
    }
}

/// A page that says one thing.
pub fn message(status: StatusCode, title: &str, text: &str) -> Response {
    let mut response = page(title, &html! { h1 { (title) } p { (text) } });
    *response.status_mut() = status;
    response
}

pub async fn not_found() -> Response {
    PageError::Missing.into_response()
}

/// A whole page round its content.
fn page(title: &str, content: &Markup) -> Response {
    with_policy(title, content, "'none'")
}

/// As [`page`], for one with a form that may lead to `form_action`.
fn with_policy(title: &str, content: &Markup, form_action: &str) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Local forge" }
                link rel="stylesheet" href="/_assets/style.css";
            }
            body {
                header { a href="/" { "Local forge" } span { "stands in for GitHub on this machine" } }
                main { (content) }
            }
        }
    };
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    );
    let mut response = (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            // Not `no-referrer`: with it, browsers name no origin when they post a form.
            (header::REFERRER_POLICY, "same-origin"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        markup.into_string(),
    )
        .into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A picture of an account: its initial on a colour of its own.
async fn avatar(State(forge): State<Shared>, Path(id): Path<u64>) -> Response {
    let Some(account) = forge.directory.account_by_id(id) else { return not_found().await };
    let initial = account.login.chars().next().unwrap_or('?').to_ascii_uppercase();
    let hue = id.wrapping_mul(47) % 360;
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64" {
            rect width="64" height="64" fill={ "hsl(" (hue) " 45% 40%)" } {}
            text x="32" y="43" font-family="sans-serif" font-size="32" text-anchor="middle" fill="#fff" { (initial) }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    (headers, picture.into_string()).into_response()
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// The name of a repository with links to it and its owner.
fn heading(repository: &Repository) -> Markup {
    html! {
        nav aria-label="Repository" {
            a href={ "/" (repository.owner) } { (repository.owner) }
            " / "
            a href={ "/" (repository.full_name()) } { strong { (repository.name) } }
            " " span class="tag" { @if repository.private { "private" } @else { "public" } }
        }
    }
}

/// Commits, one a line: what, who, when.
fn commit_list(repository: &Repository, commits: &[Commit]) -> Markup {
    html! {
        ul class="rows" {
            @for commit in commits {
                li {
                    a href={ "/" (repository.full_name()) "/commit/" (commit.sha) } { (commit.title()) }
                    span class="by" {
                        span class="author" title=(commit.author.email) { (commit.author.name) }
                        " · " time datetime=(commit.author.at) { (day(&commit.author.at)) }
                        " · " code { (commit.sha.short()) }
                    }
                }
            }
        }
    }
}

/// Date and minute, in UTC.
fn day(at: &jiff::Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", time.get(..5).unwrap_or(""))
}
