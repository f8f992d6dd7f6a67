//! Pull requests.

use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::repository::find;
use super::{PageError, commit_list, diff, heading, markdown, page};
use crate::forge::api::{path_segments, pulls_json};
use crate::forge::directory::Repository;
use crate::forge::store::pulls::{self, Filter, Pull};
use crate::forge::store::{comments, labels};
use crate::forge::{Forge, Shared};

/// Most commits and comments that a page lists.
const MAX_COMMITS: usize = 250;
const MAX_COMMENTS: u64 = 200;

/// Open, draft, merged or closed.
fn state(pull: &Pull) -> (&'static str, &'static str) {
    match (pull.open, pull.merged_at, pull.draft) {
        (true, _, true) => ("draft", "Draft"),
        (true, _, false) => ("open", "Open"),
        (false, Some(_), _) => ("merged", "Merged"),
        (false, None, _) => ("closed", "Closed"),
    }
}

/// Pull requests, one a line.
pub fn rows(forge: &Forge, repository: &Repository, list: &[Pull]) -> Markup {
    html! {
        @if list.is_empty() { p class="quiet" { "None yet." } } @else {
            ul class="rows" {
                @for pull in list {
                    @let (class, word) = state(pull);
                    li {
                        span {
                            span class={ "state " (class) } { (word) } " "
                            a href={ "/" (repository.full_name()) "/pull/" (pull.number) } { "#" (pull.number) " " (pull.title) }
                        }
                        span class="by" { (pulls_json::account(forge, pull.author).login) }
                    }
                }
            }
        }
    }
}

pub async fn list(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let repository = find(&forge, &owner, &name)?;
    let (pulls, total) = forge.store.read(|db| pulls::list(db, repository.id, &Filter::default(), (0, 100)))?;
    Ok(page(
        "Pull requests",
        &html! {
            (heading(repository))
            h1 { "Pull requests" }
            (rows(&forge, repository, &pulls))
            @if total > 100 { p class="quiet" { "Older ones are not shown." } }
        },
    ))
}

pub async fn show(
    State(forge): State<Shared>,
    Path((owner, name, number)): Path<(String, String, String)>,
) -> Result<Response, PageError> {
    let repository = find(&forge, &owner, &name)?;
    let number = number.parse().map_err(|_| PageError::Missing)?;
    let (pull, labels, comments) = forge.store.read(|db| {
        Ok(match pulls::find(db, repository.id, number)? {
            Some(pull) => {
                let labels = labels::of_pull(db, pull.id)?;
                let comments = comments::list(db, pull.id, (0, MAX_COMMENTS))?;
                (Some(pull), labels, comments)
            }
            None => (None, Vec::new(), Vec::new()),
        })
    })?;
    let pull = pull.ok_or(PageError::Missing)?;
    let commits = forge.git.commits_between(repository.id, &pull.base_sha, &pull.head_sha, MAX_COMMITS).await?;
    let files = forge.git.changes_since_fork(repository.id, &pull.base_sha, &pull.head_sha).await?;
    let author = pulls_json::account(&forge, pull.author);
    let (class, word) = state(&pull);
    let branch = |name: &crate::forge::names::BranchName| {
        html! { a href={ "/" (repository.full_name()) "/tree/" (path_segments(name.as_str())) } { code { (name) } } }
    };
    Ok(page(
        &format!("{} · Pull request #{}", pull.title, pull.number),
        &html! {
            (heading(repository))
            h1 { (pull.title) " " span class="quiet" { "#" (pull.number) } }
            p {
                span class={ "state " (class) } { (word) } " "
                strong class="author" { (author.login) }
                " wants to merge " (commits.len()) @if commits.len() == 1 { " commit" } @else { " commits" }
                " into " (branch(&pull.base_ref)) " from " (branch(&pull.head_ref))
            }
            @if !labels.is_empty() {
                p { @for label in &labels { span class="tag" { (label.name) } " " } }
            }
            div class="panel" {
                @if let Some(body) = pull.body.as_deref().filter(|b| !b.trim().is_empty()) {
                    (markdown::render(body))
                } @else { p class="quiet" { "No description." } }
            }
            @for comment in &comments {
                h2 id={ "issuecomment-" (comment.id) } {
                    (pulls_json::account(&forge, comment.author).login) " commented "
                    span class="quiet" { (super::day(&Timestamp::from_second(comment.created_at).unwrap_or_default())) }
                }
                div class="panel" { (markdown::render(&comment.body)) }
            }
            h2 { "Commits" }
            (commit_list(repository, &commits))
            (diff::files(&files))
        },
    ))
}
