//! The forge: repositories, credentials for git, pull requests. GitHub, or GitLab; `SCM_PROVIDER` says which.

pub mod cache;
mod configured;
pub mod github;
pub mod gitlab;
mod names;
mod one_at_a_time;
mod provider;
pub mod repository_cache;
#[cfg(test)]
mod tests;

pub use configured::{Forge, clone_url, git_host, web_url};
pub use names::{BranchName, RepositoryName, decoded};
pub use provider::{Provider, require_forge};

use oi_protocol::UnixMillis;
use oi_session::pull_request_snapshots::PullRequestSnapshot;
use oi_worker_kit::http_client::CallError;
use oi_worker_kit::{Failure, Fault, Refusal};
use serde::{Deserialize, Serialize};

/// A repository that the platform was given access to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryFacts {
    /// The forge's number for it.
    pub id: i64,
    /// Owner, as the forge writes it.
    pub owner: String,
    /// Name, as the forge writes it.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Whether it is private.
    pub private: bool,
    /// Its default branch.
    pub default_branch: String,
    /// The language that most of it is written in, as the forge says.
    #[serde(default)]
    pub language: Option<String>,
    /// Its topics.
    #[serde(default)]
    pub topics: Vec<String>,
}

/// A page of the list of repositories, as the forge sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedPage {
    /// What tells whether it changed.
    etag: Option<String>,
    /// Whether another page follows, or how many there are: what the forge says.
    pages: Option<u64>,
    /// Those that are not archived.
    repositories: Vec<RepositoryFacts>,
}

/// The list of repositories, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Listing {
    pages: Vec<ListedPage>,
}

impl Listing {
    /// The repositories by full name, each once: one may have moved to another page while they were read.
    pub fn into_repositories(self) -> Vec<RepositoryFacts> {
        let mut all: Vec<_> = self.pages.into_iter().flat_map(|page| page.repositories).collect();
        all.sort_by_cached_key(|facts| (format!("{}/{}", facts.owner, facts.name).to_lowercase(), facts.id));
        all.dedup_by_key(|facts| facts.id);
        all
    }
}

/// A page of branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchPage {
    /// Their names.
    pub names: Vec<String>,
    /// Whether another page follows.
    pub has_more: bool,
}

/// What git presents to the forge, for minutes.
#[derive(Clone, PartialEq, Eq)]
pub struct GitCredentials {
    /// `x-access-token` on GitHub.
    pub username: String,
    /// The token.
    pub password: String,
    /// When it ends.
    pub expires_at: UnixMillis,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Number in the repository.
    pub number: i64,
    /// Its page.
    pub url: String,
    /// `open`, `closed`, `merged` or `draft`
    pub state: String,
    /// Head branch.
    pub head: String,
    /// Base branch.
    pub base: String,
    /// Title.
    pub title: String,
}

/// A pull request that is about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPullRequest<'a> {
    /// Title.
    pub title: &'a str,
    /// Body, with the footer.
    pub body: &'a str,
    /// Head branch, pushed.
    pub head: &'a BranchName,
    /// Base branch.
    pub base: &'a BranchName,
    /// As a draft.
    pub draft: bool,
}

/// Who opens a pull request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opener<'a> {
    /// The platform.
    App,
    /// A person, by their token.
    Person(&'a str),
}

/// Why the forge did not do it. The texts hold no token and nothing that a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It answered with an error.
    #[error("the forge answered {status} to {doing}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What was asked.
        doing: &'static str,
        /// Its own sentence.
        message: String,
    },
    /// Something of ours.
    #[error("{0}")]
    Setup(String),
}

impl ForgeError {
    /// Whether a repetition may help.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Setup(_) => false,
        }
    }

    /// The status that it answered with.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Call(_) | Self::Setup(_) => None,
        }
    }
}

impl From<ForgeError> for Failure {
    fn from(error: ForgeError) -> Self {
        if error.is_transient() {
            return Refusal::upstream("The code host could not be reached. Try again in a moment.").into();
        }
        Fault::new("asking the code host", error).into()
    }
}

/// What the platform asks of a forge.
pub trait SourceControl {
    /// Every repository that the platform was given, without archived ones. Pages that did not change since `known` are
    /// not sent again.
    async fn repositories(&self, known: Listing) -> Result<Listing, ForgeError>;

    /// One of them; `None` when it was not given, is archived or does not exist.
    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError>;

    /// A page of its branches, from 1, a hundred each; `None` when there is no such repository.
    async fn branches(&self, name: &RepositoryName, page: u32) -> Result<Option<BranchPage>, ForgeError>;

    /// The commit at a branch's head; `None` when there is no such branch.
    async fn branch_head(&self, name: &RepositoryName, branch: &BranchName) -> Result<Option<String>, ForgeError>;

    /// Credentials to fetch from and push to these repositories and no others.
    async fn git_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError>;

    /// Credentials to fetch from these repositories and no others, of a life of their own.
    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError>;

    /// The open pull request of a head into a base.
    async fn open_pull_request_of(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<PullRequest>, ForgeError>;

    /// One as it is now; `None` when there is no such.
    async fn pull_request(&self, name: &RepositoryName, number: i64)
    -> Result<Option<PullRequestSnapshot>, ForgeError>;

    /// Opens one.
    async fn create_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        new: NewPullRequest<'_>,
    ) -> Result<PullRequest, ForgeError>;

    /// Gives one a new title and body.
    async fn update_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        number: i64,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError>;
}
