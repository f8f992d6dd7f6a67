//! GitHub, on github.com or behind another base URL.

pub(super) mod app_jwt;
mod installation_token;
mod pull_request_facts;
mod pull_requests;
mod repositories;
pub mod user_account;
pub mod user_tokens;

use std::time::Duration;

use oi_worker_kit::clock;
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::sealed::SealingKey;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};
use serde::Deserialize;

use super::cache::Cache;
use super::{
    BranchName, BranchPage, ForgeError, GitCredentials, Listing, NewPullRequest, Opener, PullRequest, RepositoryFacts,
    RepositoryName, SourceControl,
};
use crate::store::Database;
use installation_token::Scope;
use oi_session::pull_request_snapshots::PullRequestSnapshot;
pub use pull_request_facts::PullRequestFacts;

/// GitHub answers within this, or the call has failed.
const DEADLINE: Duration = Duration::from_secs(20);
/// A page of a hundred repositories is about 700 KB.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// Base URLs: `GITHUB_URL` for pages, OAuth and git, `GITHUB_API_URL` for the API. Neither ends with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubUrls {
    /// `https://github.com`
    pub web: String,
    /// `https://api.github.com`
    pub api: String,
}

impl GithubUrls {
    /// From the deployment's variables. GitHub Enterprise has its API below its pages, unless told otherwise.
    pub fn of(vars: &impl Vars) -> Self {
        let base = |text: String| text.trim_end_matches('/').to_owned();
        let web = base(vars.get_or("GITHUB_URL", "https://github.com"));
        let api = match vars.get("GITHUB_API_URL") {
            Some(api) => base(api),
            None if web == "https://github.com" => "https://api.github.com".to_owned(),
            None => format!("{web}/api/v3"),
        };
        Self { web, api }
    }
}

/// What every call to GitHub has.
fn decorated(call: Call, user_agent: &str) -> Call {
    call.header("Accept", "application/vnd.github+json")
        .header("X-GitHub-Api-Version", "2022-11-28")
        .header("User-Agent", user_agent)
        .within(DEADLINE)
        .at_most(MAX_ANSWER_BYTES)
}

/// Makes a call. GitHub also says "too many" by 403, with the headers that tell it from a lack of rights.
async fn ask(call: Call) -> Result<Answer, ForgeError> {
    let mut answer = call.send().await?;
    let limited = answer.header("x-ratelimit-remaining") == Some("0") || answer.header("retry-after").is_some();
    if answer.status == 403 && limited {
        answer.status = 429;
    }
    Ok(answer)
}

/// GitHub's own sentence for an error, cut short.
fn refused(answer: &Answer, doing: &'static str) -> ForgeError {
    #[derive(Deserialize, Default)]
    struct Body {
        message: Option<String>,
        #[serde(default)]
        errors: Vec<serde_json::Value>,
    }
    let body: Body = answer.json().unwrap_or_default();
    let details = body.errors.into_iter().filter_map(|error| match error {
        serde_json::Value::String(text) => Some(text),
        other => Some(other.get("message")?.as_str()?.to_owned()),
    });
    let message = body.message.into_iter().chain(details).collect::<Vec<_>>().join("; ");
    let message = oi_protocol::text::truncate_bytes(&message, 300).to_owned();
    ForgeError::Status { status: answer.status, doing, message }
}

/// The App of the deployment, as one installation.
pub struct Github<D> {
    urls: GithubUrls,
    app_id: String,
    private_key_pem: String,
    installation_id: String,
    user_agent: String,
    sealing: SealingKey,
    cache: Cache,
    db: D,
}

impl<D> Github<D> {
    /// From the deployment's variables.
    pub fn new(vars: &impl Vars, cache: Cache, db: D) -> Result<Self, Failure> {
        let required = |name: &str| vars.get(name).ok_or_else(|| Refusal::not_configured(format!("{name} is not set")));
        let installation_id = required("GITHUB_APP_INSTALLATION_ID")?;
        if !installation_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::not_configured("GITHUB_APP_INSTALLATION_ID is not a number").into());
        }
        let sealing = SealingKey::from_base64(&required("TOKEN_ENCRYPTION_KEY")?)
            .map_err(|_| Refusal::not_configured("TOKEN_ENCRYPTION_KEY must be base64 of 32 bytes"))?;
        Ok(Self {
            urls: GithubUrls::of(vars),
            app_id: required("GITHUB_APP_ID")?,
            private_key_pem: required("GITHUB_APP_PRIVATE_KEY")?,
            installation_id,
            user_agent: vars.get_or("APP_NAME", "Open-Inspect"),
            sealing,
            cache,
            db,
        })
    }
}

/// A path below a repository. An owner with slashes would name another path of GitHub's, and GitHub has no such owner.
fn below_repository(name: &RepositoryName, path: &str) -> Result<String, ForgeError> {
    let name = name.as_two_segments();
    let name =
        name.ok_or_else(|| ForgeError::Setup("GitHub has no repositories in groups within groups".to_owned()))?;
    Ok(format!("/repos/{name}{path}"))
}

impl<D: Database> Github<D> {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.urls.api)
    }

    /// Makes a call as the App, with a token of this scope. A token that GitHub no longer knows is replaced, once.
    async fn as_app(&self, scope: &Scope, make: impl Fn() -> Call) -> Result<Answer, ForgeError> {
        let token = self.installation_token(scope).await?;
        let answer = ask(decorated(make(), &self.user_agent).bearer(&token.token)).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        self.forget_installation_token(scope).await;
        let token = self.installation_token(scope).await?;
        ask(decorated(make(), &self.user_agent).bearer(&token.token)).await
    }
}

impl<D: Database> SourceControl for Github<D> {
    async fn repositories(&self, known: Listing) -> Result<Listing, ForgeError> {
        self.list_repositories(known).await
    }

    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        self.find_repository(name).await
    }

    async fn branches(&self, name: &RepositoryName, page: u32) -> Result<Option<BranchPage>, ForgeError> {
        self.list_branches(name, page).await
    }

    async fn branch_head(&self, name: &RepositoryName, branch: &BranchName) -> Result<Option<String>, ForgeError> {
        self.find_branch_head(name, branch).await
    }

    async fn git_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        let token = self.installation_token(&Scope::git(repository_ids)).await?;
        Ok(GitCredentials {
            username: "x-access-token".to_owned(),
            password: token.token,
            expires_at: token.expires_at,
        })
    }

    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        // Minted for the one who asks: it lives its hour from now, and nobody else has it.
        let token = self.mint(&Scope::cloning(repository_ids), clock::now()).await?;
        Ok(GitCredentials {
            username: "x-access-token".to_owned(),
            password: token.token,
            expires_at: token.expires_at,
        })
    }

    async fn open_pull_request_of(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<PullRequest>, ForgeError> {
        self.find_open_pull_request(name, head, base).await
    }

    async fn pull_request(
        &self,
        name: &RepositoryName,
        number: i64,
    ) -> Result<Option<PullRequestSnapshot>, ForgeError> {
        self.find_pull_request(name, number).await
    }

    async fn create_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        new: NewPullRequest<'_>,
    ) -> Result<PullRequest, ForgeError> {
        self.post_pull_request(opener, name, new).await
    }

    async fn update_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        number: i64,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError> {
        self.patch_pull_request(opener, name, number, title, body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn base_urls_can_be_those_of_another_host() {
        let of = |vars: &[(&'static str, &'static str)]| {
            let urls = GithubUrls::of(&vars.iter().copied().collect::<BTreeMap<_, _>>());
            (urls.web, urls.api)
        };
        let pair = |web: &str, api: &str| (web.to_owned(), api.to_owned());
        assert_eq!(of(&[]), pair("https://github.com", "https://api.github.com"));
        assert_eq!(
            of(&[("GITHUB_URL", "https://ghe.example/git/")]),
            pair("https://ghe.example/git", "https://ghe.example/git/api/v3")
        );
        assert_eq!(
            of(&[("GITHUB_URL", "http://127.0.0.1:8788/"), ("GITHUB_API_URL", "http://f/api/v3/")]),
            pair("http://127.0.0.1:8788", "http://f/api/v3")
        );
    }

    #[test]
    fn an_owner_with_slashes_is_no_path_of_githubs() {
        let path =
            |owner: &str, name: &str| below_repository(&RepositoryName::parse(owner, name).expect("a name"), "/x");
        assert_eq!(path("acme", "app").as_deref(), Ok("/repos/acme/app/x"));
        assert!(path("acme/app", "pulls").is_err());
    }
}
