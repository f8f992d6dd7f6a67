//! GitLab, on gitlab.com or on a host of one's own: projects are repositories, merge requests are pull requests. The
//! platform acts by one token, of a group, a project or a person (`GITLAB_ACCESS_TOKEN`); people by their own.

mod merge_requests;
mod oauth;
mod projects;

use std::time::Duration;

use oi_session::pull_request_snapshots::PullRequestSnapshot;
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal, clock};

pub use oauth::GitlabOauth;

use super::{
    BranchName, BranchPage, ForgeError, GitCredentials, Listing, NewPullRequest, Opener, PullRequest, RepositoryFacts,
    RepositoryName, SourceControl,
};

/// GitLab answers within this, or the call has failed.
const DEADLINE: Duration = Duration::from_secs(15);
/// A page of a hundred projects, told in short, is about 150 KB; in full about 500 KB.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// What git is told of the life of the token, in ms. It may live longer; it is asked for again all the same.
const CREDENTIAL_LIFE_MS: i64 = 3_600_000;

/// Base URL: `GITLAB_URL` for pages, OAuth, git and the API. It does not end with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitlabUrls {
    /// `https://gitlab.com`
    pub web: String,
}

impl GitlabUrls {
    /// From the deployment's variables.
    pub fn of(vars: &impl Vars) -> Self {
        Self { web: vars.get_or("GITLAB_URL", "https://gitlab.com").trim_end_matches('/').to_owned() }
    }
}

/// A deployment's access to GitLab.
pub struct Gitlab {
    urls: GitlabUrls,
    access_token: String,
    /// The group whose projects are listed; without it, those that the token is a member of.
    namespace: Option<String>,
    user_agent: String,
}

impl Gitlab {
    /// From the deployment's variables.
    pub fn of(vars: &impl Vars) -> Result<Self, Failure> {
        let access_token =
            vars.get("GITLAB_ACCESS_TOKEN").ok_or_else(|| Refusal::not_configured("GITLAB_ACCESS_TOKEN is not set"))?;
        let namespace = vars.get("GITLAB_NAMESPACE");
        // A number, or a path of a group.
        if namespace.as_deref().is_some_and(|group| RepositoryName::parse(group, "x").is_none()) {
            return Err(Refusal::not_configured("GITLAB_NAMESPACE must be the path or the number of a group").into());
        }
        Ok(Self {
            urls: GitlabUrls::of(vars),
            access_token,
            namespace,
            user_agent: vars.get_or("APP_NAME", "Open-Inspect"),
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v4{path}", self.urls.web)
    }

    fn project(&self, name: &RepositoryName, path: &str) -> String {
        self.url(&format!("/projects/{}{path}", name.as_one_segment()))
    }

    async fn ask(&self, opener: Opener<'_>, call: Call) -> Result<Answer, ForgeError> {
        let token = match opener {
            Opener::App => &self.access_token,
            Opener::Person(token) => token,
        };
        let call = call.bearer(token).header("Accept", "application/json").header("User-Agent", &self.user_agent);
        Ok(call.within(DEADLINE).at_most(MAX_ANSWER_BYTES).send().await?)
    }
}

/// GitLab's own sentence for an error, cut short. It is a text, or a list, or an object of lists.
fn refused(answer: &Answer, doing: &'static str) -> ForgeError {
    fn sentences(value: &serde_json::Value, out: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => out.push(text.clone()),
            serde_json::Value::Array(list) => list.iter().for_each(|one| sentences(one, out)),
            serde_json::Value::Object(map) => map.values().for_each(|one| sentences(one, out)),
            _ => {}
        }
    }
    let body: serde_json::Value = answer.json().unwrap_or_default();
    let mut found = Vec::new();
    for field in ["message", "error", "error_description"] {
        sentences(&body[field], &mut found);
    }
    let message = found.join("; ");
    let message = oi_protocol::text::truncate_bytes(&message, 300).to_owned();
    ForgeError::Status { status: answer.status, doing, message }
}

impl SourceControl for Gitlab {
    async fn repositories(&self, known: Listing) -> Result<Listing, ForgeError> {
        self.list_projects(known).await
    }

    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        self.find_project(name).await
    }

    async fn branches(&self, name: &RepositoryName, page: u32) -> Result<Option<BranchPage>, ForgeError> {
        self.list_branches(name, page).await
    }

    async fn branch_head(&self, name: &RepositoryName, branch: &BranchName) -> Result<Option<String>, ForgeError> {
        self.find_branch_head(name, branch).await
    }

    /// GitLab mints no tokens for single projects that a token of its API may ask for, so that this is the platform's own.
    async fn git_credentials(&self, _repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        Ok(GitCredentials {
            username: "oauth2".to_owned(),
            password: self.access_token.clone(),
            expires_at: clock::now().plus(CREDENTIAL_LIFE_MS),
        })
    }

    /// The same token, for want of another.
    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        self.git_credentials(repository_ids).await
    }

    async fn open_pull_request_of(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<PullRequest>, ForgeError> {
        self.find_open_merge_request(name, head, base).await
    }

    async fn pull_request(
        &self,
        name: &RepositoryName,
        number: i64,
    ) -> Result<Option<PullRequestSnapshot>, ForgeError> {
        self.find_merge_request(name, number).await
    }

    async fn create_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        new: NewPullRequest<'_>,
    ) -> Result<PullRequest, ForgeError> {
        self.post_merge_request(opener, name, new).await
    }

    async fn update_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        number: i64,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError> {
        self.put_merge_request(opener, name, number, title, body).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_gitlab_says_of_an_error_is_one_sentence() {
        for (body, sentence) in [
            (r#"{"message":"404 Project Not Found"}"#, "404 Project Not Found"),
            (
                r#"{"message":["Another open merge request already exists"]}"#,
                "Another open merge request already exists",
            ),
            (r#"{"message":{"title":["is too long","is blank"]}}"#, "is too long; is blank"),
            (
                r#"{"error":"invalid_token","error_description":"Token was revoked."}"#,
                "invalid_token; Token was revoked.",
            ),
            ("no JSON", ""),
        ] {
            let answer = Answer { status: 400, headers: Vec::new(), body: body.as_bytes().to_vec() };
            let expected = ForgeError::Status { status: 400, doing: "x", message: sentence.to_owned() };
            assert_eq!(refused(&answer, "x"), expected);
        }
    }

    #[test]
    fn a_deployment_without_a_token_or_with_a_strange_group_is_not_set_up() {
        let of = |vars: &[(&'static str, &'static str)]| {
            Gitlab::of(&vars.iter().copied().collect::<BTreeMap<_, _>>())
                .map(|_| ())
                .map_err(|failure| failure.to_string())
        };
        assert!(of(&[]).is_err_and(|error| error.contains("GITLAB_ACCESS_TOKEN")));
        assert!(of(&[("GITLAB_ACCESS_TOKEN", "t")]).is_ok());
        for (group, good) in [("acme", true), ("acme/web", true), ("77", true), ("../user", false), ("a b", false)] {
            assert_eq!(of(&[("GITLAB_ACCESS_TOKEN", "t"), ("GITLAB_NAMESPACE", group)]).is_ok(), good, "{group}");
        }
    }
}
