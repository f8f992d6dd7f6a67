//! Repositories and branches.

use futures_util::future::try_join_all;
use oi_worker_kit::http_client::Call;
use serde::Deserialize;

use super::installation_token::Scope;
use super::{Github, ask, below_repository, decorated, refused};
use crate::source_control::{BranchName, BranchPage, ForgeError, ListedPage, Listing, RepositoryFacts, RepositoryName};
use crate::store::Database;

const PER_PAGE: u64 = 100;
/// Pages of repositories that are read at most.
const MAX_PAGES: u64 = 50;

#[derive(Deserialize)]
struct Owner {
    login: String,
}

#[derive(Deserialize)]
struct Repository {
    id: i64,
    name: String,
    owner: Owner,
    #[serde(default)]
    description: Option<String>,
    private: bool,
    default_branch: String,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    topics: Vec<String>,
}

impl Repository {
    fn facts(self) -> RepositoryFacts {
        RepositoryFacts {
            id: self.id,
            owner: self.owner.login,
            name: self.name,
            description: self.description,
            private: self.private,
            default_branch: self.default_branch,
            language: self.language,
            topics: self.topics,
        }
    }
}

#[derive(Deserialize)]
struct Page {
    total_count: u64,
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Reference {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct Branch {
    name: String,
}

impl<D: Database> Github<D> {
    /// A page, or the known one when it did not change. GitHub's tags hold for one token; another only costs a page.
    async fn repositories_page(&self, number: u64, known: Option<&ListedPage>) -> Result<ListedPage, ForgeError> {
        let url = self.url(&format!("/installation/repositories?per_page={PER_PAGE}&page={number}"));
        let known = known.and_then(|page| Some((page, page.etag.as_deref()?)));
        let make = || match known {
            Some((_, etag)) => Call::get(&url).header("If-None-Match", etag),
            None => Call::get(&url),
        };
        let answer = self.as_app(&Scope::reading(), make).await?;
        if let (304, Some((page, _))) = (answer.status, known) {
            return Ok(page.clone());
        }
        if !answer.is_success() {
            return Err(refused(&answer, "listing repositories"));
        }
        let page: Page = answer.json()?;
        Ok(ListedPage {
            etag: answer.header("etag").map(str::to_owned),
            pages: Some(page.total_count.div_ceil(PER_PAGE)),
            repositories: page.repositories.into_iter().filter(|one| !one.archived).map(Repository::facts).collect(),
        })
    }

    pub(super) async fn list_repositories(&self, known: Listing) -> Result<Listing, ForgeError> {
        let first = self.repositories_page(1, known.pages.first()).await?;
        let pages = first.pages.unwrap_or(1).clamp(1, MAX_PAGES);
        let rest = (2..=pages).map(|number| self.repositories_page(number, known.pages.get(number as usize - 1)));
        let rest = try_join_all(rest).await?;
        Ok(Listing { pages: std::iter::once(first).chain(rest).collect() })
    }

    pub(super) async fn list_branches(
        &self,
        name: &RepositoryName,
        page: u32,
    ) -> Result<Option<BranchPage>, ForgeError> {
        let path = below_repository(name, &format!("/branches?per_page={PER_PAGE}&page={page}"))?;
        let url = self.url(&path);
        let answer = self.as_app(&Scope::reading(), || Call::get(&url)).await?;
        match answer.status {
            200 => {
                let names: Vec<_> = answer.json::<Vec<Branch>>()?.into_iter().map(|branch| branch.name).collect();
                let has_more = answer.header("link").is_some_and(|link| link.contains("rel=\"next\""));
                Ok(Some(BranchPage { names, has_more }))
            }
            301 | 404 => Ok(None),
            _ => Err(refused(&answer, "listing branches")),
        }
    }

    pub(super) async fn find_repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        // No repository of GitHub has such a name.
        let Ok(path) = below_repository(name, "") else { return Ok(None) };
        let url = self.url(&path);
        let answer = self.as_app(&Scope::reading(), || Call::get(&url)).await?;
        match answer.status {
            200 => {
                let repository: Repository = answer.json()?;
                // A public repository answers to any token; only one that is installed may be worked on.
                let given = repository.private || self.is_installed_on(name).await?;
                Ok((given && !repository.archived).then(|| repository.facts()))
            }
            // 301: it was renamed, and the new name is what is installed.
            301 | 403 | 404 => Ok(None),
            _ => Err(refused(&answer, "reading a repository")),
        }
    }

    async fn is_installed_on(&self, name: &RepositoryName) -> Result<bool, ForgeError> {
        #[derive(Deserialize)]
        struct Installation {
            id: u64,
        }
        let jwt = super::app_jwt::mint(&self.app_id, &self.private_key_pem, oi_worker_kit::clock::now()).await?;
        let call = Call::get(self.url(&below_repository(name, "/installation")?)).bearer(&jwt);
        let answer = ask(decorated(call, &self.user_agent)).await?;
        match answer.status {
            200 => Ok(answer.json::<Installation>()?.id.to_string() == self.installation_id),
            301 | 403 | 404 => Ok(false),
            _ => Err(refused(&answer, "asking whether the App is installed")),
        }
    }

    pub(super) async fn find_branch_head(
        &self,
        name: &RepositoryName,
        branch: &BranchName,
    ) -> Result<Option<String>, ForgeError> {
        let url = self.url(&below_repository(name, &format!("/git/ref/heads/{}", branch.as_path()))?);
        let answer = self.as_app(&Scope::reading(), || Call::get(&url)).await?;
        match answer.status {
            200 => Ok(Some(answer.json::<Reference>()?.object.sha)),
            // 409: the repository is empty.
            404 | 409 => Ok(None),
            _ => Err(refused(&answer, "reading a branch")),
        }
    }
}
