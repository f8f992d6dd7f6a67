//! The forge: repositories, credentials for git, pull requests. GitHub is the first.

pub mod github;
mod names;

pub use names::{BranchName, RepositoryName};

use oi_protocol::UnixMillis;
use oi_session::pull_request_snapshots::PullRequestSnapshot;
use oi_worker_kit::http_client::CallError;
use oi_worker_kit::vars::Vars;
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
#[derive(Clone, Copy)]
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
    /// Every repository that the platform was given, by full name, without archived ones.
    async fn repositories(&self) -> Result<Vec<RepositoryFacts>, ForgeError>;

    /// One of them; `None` when it was not given, is archived or does not exist.
    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError>;

    /// The commit at a branch's head; `None` when there is no such branch.
    async fn branch_head(&self, name: &RepositoryName, branch: &BranchName) -> Result<Option<String>, ForgeError>;

    /// Credentials to fetch from and push to these repositories and no others.
    async fn git_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError>;

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

/// Refuses what only GitHub has, in a deployment with another forge.
pub fn require_github(vars: &impl Vars) -> Result<(), Refusal> {
    let provider = vars.get_or("SCM_PROVIDER", "github").to_lowercase();
    if provider == "github" {
        return Ok(());
    }
    let sentence = format!("SCM provider '{provider}' is not implemented in this deployment.");
    Err(Refusal::new(501, oi_protocol::ErrorCode::NotImplemented, sentence))
}
