//! Repositories, branches, files and commits.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::html;

use super::{PageError, commit_list, diff, heading, markdown, page};
use crate::forge::api::path_segments;
use crate::forge::directory::Repository;
use crate::forge::names::{BranchName, Sha};
use crate::forge::store::pulls::{self, Filter};
use crate::forge::{Forge, Shared};

/// Most branches and commits that a page lists.
const MAX_BRANCHES: usize = 100;
const MAX_COMMITS: usize = 30;

/// A repository by the names in a path.
pub fn find<'a>(forge: &'a Forge, owner: &str, name: &str) -> Result<&'a Repository, PageError> {
    forge.directory.repository(owner, name).ok_or(PageError::Missing)
}

pub async fn list(State(forge): State<Shared>) -> Response {
    let all: Vec<&Repository> = forge.directory.repositories().iter().collect();
    repositories("Repositories", &all)
}

pub async fn owner(State(forge): State<Shared>, Path(owner): Path<String>) -> Result<Response, PageError> {
    let account = forge.directory.account(&owner).ok_or(PageError::Missing)?;
    let owned: Vec<&Repository> = forge.directory.repositories().iter().filter(|r| r.owner_id == account.id).collect();
    Ok(repositories(&account.name, &owned))
}

fn repositories(title: &str, list: &[&Repository]) -> Response {
    page(
        title,
        &html! {
            h1 { (title) }
            @if list.is_empty() { p { "No repositories." } } @else {
                ul class="rows" {
                    @for repository in list {
                        li {
                            a href={ "/" (repository.full_name()) } { (repository.full_name()) }
                            span class="by" { (repository.description) }
                        }
                    }
                }
            }
        },
    )
}

pub async fn home(
    State(forge): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let repository = find(&forge, &owner, &name)?;
    show_tree(&forge, repository, &repository.default_branch).await
}

pub async fn tree(
    State(forge): State<Shared>,
    Path((owner, name, branch)): Path<(String, String, String)>,
) -> Result<Response, PageError> {
    let repository = find(&forge, &owner, &name)?;
    let branch = BranchName::parse(&branch).ok_or(PageError::Missing)?;
    show_tree(&forge, repository, &branch).await
}

async fn show_tree(forge: &Forge, repository: &Repository, branch: &BranchName) -> Result<Response, PageError> {
    let id = repository.id;
    let head = forge.git.branch_head(id, branch).await?.ok_or(PageError::Missing)?;
    let files = forge.git.files(id, &head).await?;
    let readme = match files.iter().find(|f| f.eq_ignore_ascii_case("readme.md")) {
        Some(path) => forge.git.file(id, &head, path).await?,
        None => None,
    };
    let branches = forge.git.branches(id).await?;
    let commits = forge.git.recent_commits(id, &head, MAX_COMMITS).await?;
    let (pulls, _) = forge.store.read(|db| pulls::list(db, id, &Filter::default(), (0, 20)))?;
    let base = format!("/{}", repository.full_name());
    Ok(page(
        &repository.full_name(),
        &html! {
            (heading(repository))
            @if !repository.description.is_empty() { p { (repository.description) } }
            p class="quiet" { "Branch " code { (branch) } " at " code { (head.short()) } }
            h2 { "Pull requests" }
            (super::pull::rows(forge, repository, &pulls))
            h2 { "Files" }
            ul class="rows" {
                @for file in &files {
                    li { a href={ (base) "/blob/" (head) "/" (path_segments(file)) } { code { (file) } } }
                }
            }
            h2 { "Commits" }
            (commit_list(repository, &commits))
            h2 { "Branches" }
            ul class="rows" {
                @for branch in branches.iter().take(MAX_BRANCHES) {
                    li {
                        a href={ (base) "/tree/" (path_segments(branch.name.as_str())) } { code { (branch.name) } }
                        span class="by" { code { (branch.sha.short()) } }
                    }
                }
            }
            @if branches.len() > MAX_BRANCHES { p class="quiet" { "There are more branches." } }
            @if let Some(readme) = readme {
                h2 { "README" }
                div class="panel" { (markdown::render(&String::from_utf8_lossy(&readme))) }
            }
        },
    ))
}

pub async fn blob(
    State(forge): State<Shared>,
    Path((owner, name, sha, path)): Path<(String, String, String, String)>,
) -> Result<Response, PageError> {
    let repository = find(&forge, &owner, &name)?;
    let sha = Sha::parse(&sha).ok_or(PageError::Missing)?;
    let bytes = forge.git.file(repository.id, &sha, &path).await?.ok_or(PageError::Missing)?;
    let binary = bytes.contains(&0);
    Ok(page(
        &path,
        &html! {
            (heading(repository))
            h1 { code { (path) } }
            div class="file" {
                pre {
                    @if binary { "A binary file." } @else { (String::from_utf8_lossy(&bytes)) }
                }
            }
        },
    ))
}

pub async fn commit(
    State(forge): State<Shared>,
    Path((owner, name, sha)): Path<(String, String, String)>,
) -> Result<Response, PageError> {
    let repository = find(&forge, &owner, &name)?;
    let sha = Sha::parse(&sha).ok_or(PageError::Missing)?;
    let commit = forge.git.commit(repository.id, &sha).await?.ok_or(PageError::Missing)?;
    let files = forge.git.changes_of(repository.id, commit.parents.first(), &sha).await?;
    Ok(page(
        commit.title(),
        &html! {
            (heading(repository))
            h1 { (commit.title()) }
            p class="by" {
                span class="author" { (commit.author.name) " <" (commit.author.email) ">" }
                " · " time datetime=(commit.author.at) { (super::day(&commit.author.at)) }
                @if commit.committer.email != commit.author.email { " · committed by " (commit.committer.name) }
                " · " code { (commit.sha) }
            }
            @if commit.message.lines().count() > 1 { div class="panel" { pre { (commit.message) } } }
            (diff::files(&files))
        },
    ))
}
