//! The forge that the deployment's variables name.

use oi_session::pull_request_snapshots::PullRequestSnapshot;
use oi_worker_kit::Failure;
use oi_worker_kit::vars::Vars;
use worker::Env;

use super::cache::Cache;
use super::github::{Github, GithubUrls};
use super::gitlab::{Gitlab, GitlabUrls};
use super::{
    BranchName, BranchPage, ForgeError, GitCredentials, Listing, NewPullRequest, Opener, Provider, PullRequest,
    RepositoryFacts, RepositoryName, SourceControl,
};
use crate::store::{D1, Database};

/// One of the forges.
pub enum Forge<D = D1> {
    /// GitHub.
    Github(Box<Github<D>>),
    /// GitLab.
    Gitlab(Box<Gitlab>),
}

impl Forge {
    /// From the deployment's variables and bindings.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        Self::new(env, || Ok(Cache::of(env)?), || D1::of(env))
    }
}

impl<D> Forge<D> {
    fn new(
        vars: &impl Vars,
        cache: impl FnOnce() -> Result<Cache, Failure>,
        db: impl FnOnce() -> Result<D, Failure>,
    ) -> Result<Self, Failure> {
        match Provider::of(vars)? {
            Provider::Github => Ok(Self::Github(Box::new(Github::new(vars, cache()?, db()?)?))),
            Provider::Gitlab => Ok(Self::Gitlab(Box::new(Gitlab::of(vars)?))),
        }
    }
}

/// The address of the forge's pages, without a slash at the end.
pub fn web_url(vars: &impl Vars) -> String {
    match Provider::of(vars) {
        Ok(Provider::Gitlab) => GitlabUrls::of(vars).web,
        Ok(Provider::Github) | Err(_) => GithubUrls::of(vars).web,
    }
}

/// Where git clones a repository from and pushes to, without credentials.
pub fn clone_url(vars: &impl Vars, name: &RepositoryName) -> String {
    format!("{}/{}.git", web_url(vars), name.as_path())
}

/// Host, with its port when it has one, that git asks credentials for.
pub fn git_host(vars: &impl Vars) -> String {
    let web = web_url(vars);
    let rest = web.split_once("://").map_or(web.as_str(), |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

macro_rules! ask {
    ($forge:expr, $method:ident ( $($argument:expr),* )) => {
        match $forge {
            Forge::Github(github) => github.$method($($argument),*).await,
            Forge::Gitlab(gitlab) => gitlab.$method($($argument),*).await,
        }
    };
}

impl<D: Database> SourceControl for Forge<D> {
    async fn repositories(&self, known: Listing) -> Result<Listing, ForgeError> {
        ask!(self, repositories(known))
    }

    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        ask!(self, repository(name))
    }

    async fn branches(&self, name: &RepositoryName, page: u32) -> Result<Option<BranchPage>, ForgeError> {
        ask!(self, branches(name, page))
    }

    async fn branch_head(&self, name: &RepositoryName, branch: &BranchName) -> Result<Option<String>, ForgeError> {
        ask!(self, branch_head(name, branch))
    }

    async fn git_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        ask!(self, git_credentials(repository_ids))
    }

    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        ask!(self, clone_credentials(repository_ids))
    }

    async fn open_pull_request_of(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<PullRequest>, ForgeError> {
        ask!(self, open_pull_request_of(name, head, base))
    }

    async fn pull_request(
        &self,
        name: &RepositoryName,
        number: i64,
    ) -> Result<Option<PullRequestSnapshot>, ForgeError> {
        ask!(self, pull_request(name, number))
    }

    async fn create_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        new: NewPullRequest<'_>,
    ) -> Result<PullRequest, ForgeError> {
        ask!(self, create_pull_request(opener, name, new))
    }

    async fn update_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        number: i64,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError> {
        ask!(self, update_pull_request(opener, name, number, title, body))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn addresses_are_those_of_the_configured_forge() {
        let name = RepositoryName::parse("Acme/Web", "app").expect("a name");
        let at = |vars: &BTreeMap<&str, &str>| (clone_url(vars, &name), git_host(vars));
        let mut vars = BTreeMap::new();
        assert_eq!(at(&vars), ("https://github.com/acme/web/app.git".to_owned(), "github.com".to_owned()));
        vars.extend([("GITHUB_URL", "http://127.0.0.1:8788/ghe/"), ("GITLAB_URL", "https://git.example:8443")]);
        assert_eq!(at(&vars).1, "127.0.0.1:8788");
        vars.insert("SCM_PROVIDER", "gitlab");
        let gitlab = ("https://git.example:8443/acme/web/app.git".to_owned(), "git.example:8443".to_owned());
        assert_eq!(at(&vars), gitlab);
    }
}
