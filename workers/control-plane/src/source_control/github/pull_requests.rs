//! Pull requests.

use oi_session::pull_request_snapshots::PullRequestSnapshot;
use oi_worker_kit::clock;
use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::service_signature::encode_component;
use serde::Deserialize;
use serde_json::json;

use super::installation_token::Scope;
use super::{Github, PullRequestFacts, ask, below_repository, decorated, refused};
use crate::source_control::{BranchName, ForgeError, NewPullRequest, Opener, PullRequest, RepositoryName};
use crate::store::Database;

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    name: String,
}

#[derive(Deserialize)]
struct Pull {
    number: i64,
    html_url: String,
    state: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    merged_at: Option<String>,
    title: String,
    head: Side,
    base: Side,
}

impl Pull {
    fn facts(self) -> PullRequest {
        let state = match (self.state.as_str(), self.merged_at.is_some(), self.draft) {
            (_, true, _) => "merged",
            ("open", _, true) => "draft",
            ("open", _, false) => "open",
            _ => "closed",
        };
        PullRequest {
            number: self.number,
            url: self.html_url,
            state: state.to_owned(),
            head: self.head.name,
            base: self.base.name,
            title: self.title,
        }
    }
}

impl<D: Database> Github<D> {
    async fn as_opener(&self, opener: Opener<'_>, make: impl Fn() -> Call) -> Result<Answer, ForgeError> {
        match opener {
            Opener::App => self.as_app(&Scope::pull_requests(), make).await,
            Opener::Person(token) => ask(decorated(make(), &self.user_agent).bearer(token)).await,
        }
    }

    pub(super) async fn find_open_pull_request(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<PullRequest>, ForgeError> {
        let head_of_owner = encode_component(&format!("{}:{}", name.owner(), head.as_str()));
        let query = format!("?state=open&head={head_of_owner}&base={}&per_page=10", encode_component(base.as_str()));
        let url = self.url(&below_repository(name, &format!("/pulls{query}"))?);
        let answer = self.as_app(&Scope::pull_requests(), || Call::get(&url)).await?;
        if !answer.is_success() {
            return Err(refused(&answer, "listing pull requests"));
        }
        let found = answer.json::<Vec<Pull>>()?.into_iter();
        // The filters of the query are looked at again: one that is ignored would name another's pull request.
        Ok(found.map(Pull::facts).find(|pull| pull.head == head.as_str() && pull.base == base.as_str()))
    }

    pub(super) async fn find_pull_request(
        &self,
        name: &RepositoryName,
        number: i64,
    ) -> Result<Option<PullRequestSnapshot>, ForgeError> {
        let url = self.url(&below_repository(name, &format!("/pulls/{number}"))?);
        let answer = self.as_app(&Scope::pull_requests(), || Call::get(&url)).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(refused(&answer, "reading a pull request"));
        }
        Ok(Some(answer.json::<PullRequestFacts>()?.snapshot(clock::from_iso8601)))
    }

    pub(super) async fn post_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        new: NewPullRequest<'_>,
    ) -> Result<PullRequest, ForgeError> {
        let url = self.url(&below_repository(name, "/pulls")?);
        let body = json!({
            "title": new.title,
            "body": new.body,
            "head": new.head.as_str(),
            "base": new.base.as_str(),
            "draft": new.draft,
        });
        let answer = self.as_opener(opener, || Call::post(&url).json(&body)).await?;
        if !answer.is_success() {
            return Err(refused(&answer, "opening a pull request"));
        }
        Ok(answer.json::<Pull>()?.facts())
    }

    pub(super) async fn patch_pull_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        number: i64,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError> {
        let url = self.url(&below_repository(name, &format!("/pulls/{number}"))?);
        let change = json!({"title": title, "body": body});
        let answer = self.as_opener(opener, || Call::patch(&url).idempotent().json(&change)).await?;
        if !answer.is_success() {
            return Err(refused(&answer, "changing a pull request"));
        }
        Ok(answer.json::<Pull>()?.facts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(state: &str, draft: bool, merged: bool) -> String {
        let pull = Pull {
            number: 1,
            html_url: String::new(),
            state: state.to_owned(),
            draft,
            merged_at: merged.then(|| "2026-01-01T00:00:00Z".to_owned()),
            title: String::new(),
            head: Side { name: String::new() },
            base: Side { name: String::new() },
        };
        pull.facts().state
    }

    #[test]
    fn a_state_is_one_word() {
        assert_eq!(state("open", false, false), "open");
        assert_eq!(state("open", true, false), "draft");
        assert_eq!(state("closed", true, false), "closed");
        assert_eq!(state("closed", false, true), "merged");
    }
}
