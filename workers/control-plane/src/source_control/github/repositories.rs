//! Repositories and branches.

use futures_util::future::try_join_all;
use oi_worker_kit::http_client::Call;
use serde::Deserialize;

use super::installation_token::Scope;
use super::{Github, ask, decorated, refused};
use crate::source_control::{BranchName, ForgeError, RepositoryFacts, RepositoryName};

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

impl Github {
    async fn repositories_page(&self, page: u64) -> Result<Page, ForgeError> {
        let url = self.url(&format!("/installation/repositories?per_page={PER_PAGE}&page={page}"));
        let answer = self.as_app(&Scope::reading(), || Call::get(&url)).await?;
        if answer.is_success() { Ok(answer.json()?) } else { Err(refused(&answer, "listing repositories")) }
    }

    pub(super) async fn list_repositories(&self) -> Result<Vec<RepositoryFacts>, ForgeError> {
        let first = self.repositories_page(1).await?;
        let pages = first.total_count.div_ceil(PER_PAGE).min(MAX_PAGES);
        let rest = try_join_all((2..=pages).map(|page| self.repositories_page(page))).await?;
        let all = std::iter::once(first).chain(rest).flat_map(|page| page.repositories);
        let mut repositories: Vec<_> = all.filter(|repository| !repository.archived).map(Repository::facts).collect();
        let full_name = |repository: &RepositoryFacts| {
            format!("{}/{}", repository.owner.to_lowercase(), repository.name.to_lowercase())
        };
        repositories.sort_by_cached_key(full_name);
        repositories.dedup_by_key(|repository| repository.id);
        Ok(repositories)
    }

    pub(super) async fn find_repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        let url = self.url(&format!("/repos/{}", name.as_path()));
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
        let call = Call::get(self.url(&format!("/repos/{}/installation", name.as_path()))).bearer(&jwt);
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
        let url = self.url(&format!("/repos/{}/git/ref/heads/{}", name.as_path(), branch.as_path()));
        let answer = self.as_app(&Scope::reading(), || Call::get(&url)).await?;
        match answer.status {
            200 => Ok(Some(answer.json::<Reference>()?.object.sha)),
            // 409: the repository is empty.
            404 | 409 => Ok(None),
            _ => Err(refused(&answer, "reading a branch")),
        }
    }
}
