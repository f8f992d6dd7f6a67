//! Merge requests.

use oi_session::pull_request_snapshots::{LifecycleState, PullRequestSnapshot};
use oi_worker_kit::clock;
use oi_worker_kit::http_client::Call;
use oi_worker_kit::service_signature::encode_component;
use serde::Deserialize;
use serde_json::json;

use super::{Gitlab, refused};
use crate::source_control::{BranchName, ForgeError, NewPullRequest, Opener, PullRequest, RepositoryName};

/// How GitLab marks a draft.
const DRAFT: &str = "Draft: ";

#[derive(Deserialize)]
struct MergeRequest {
    iid: i64,
    web_url: String,
    /// `opened`, `closed`, `locked` (while it is merged) or `merged`
    state: String,
    #[serde(default)]
    draft: bool,
    title: String,
    source_branch: String,
    target_branch: String,
    #[serde(default)]
    source_project_id: Option<i64>,
    #[serde(default)]
    target_project_id: Option<i64>,
    #[serde(default)]
    sha: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
    #[serde(default)]
    merged_at: Option<String>,
    #[serde(default)]
    closed_at: Option<String>,
}

impl MergeRequest {
    fn lifecycle(&self) -> LifecycleState {
        match self.state.as_str() {
            "merged" => LifecycleState::Merged,
            "closed" => LifecycleState::Closed,
            _ => LifecycleState::Open,
        }
    }

    fn facts(self) -> PullRequest {
        let state = match self.lifecycle() {
            LifecycleState::Merged => "merged",
            LifecycleState::Closed => "closed",
            LifecycleState::Open if self.draft => "draft",
            LifecycleState::Open => "open",
        };
        PullRequest {
            number: self.iid,
            url: self.web_url,
            state: state.to_owned(),
            head: self.source_branch,
            base: self.target_branch,
            title: self.title,
        }
    }

    fn snapshot(self, name: &RepositoryName) -> PullRequestSnapshot {
        let time = |text: &Option<String>| text.as_deref().and_then(clock::from_iso8601);
        let lifecycle_state = self.lifecycle();
        PullRequestSnapshot {
            number: self.iid,
            lifecycle_state,
            is_draft: self.draft && lifecycle_state == LifecycleState::Open,
            provider_created_at: time(&self.created_at),
            provider_updated_at: time(&self.updated_at),
            merged_at: time(&self.merged_at),
            closed_at: time(&self.closed_at),
            url: self.web_url,
            head_branch: self.source_branch,
            base_branch: self.target_branch,
            head_sha: self.sha,
            repo_owner: name.owner().to_owned(),
            repo_name: name.name().to_owned(),
            repository_external_id: self.target_project_id.map(|id| id.to_string()),
            title: Some(self.title),
        }
    }

    /// Whether it is from this project's own branch into its own branch.
    fn is_of(&self, head: &BranchName, base: &BranchName) -> bool {
        self.source_branch == head.as_str()
            && self.target_branch == base.as_str()
            && self.source_project_id == self.target_project_id
    }
}

/// A title that says whether it is a draft, once.
fn titled(title: &str, draft: bool) -> String {
    let is_marked = title.get(..DRAFT.len() - 1).is_some_and(|start| start.eq_ignore_ascii_case(DRAFT.trim_end()));
    if draft && !is_marked { format!("{DRAFT}{title}") } else { title.to_owned() }
}

impl Gitlab {
    pub(super) async fn find_open_merge_request(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<PullRequest>, ForgeError> {
        Ok(self.open_of(name, head, base).await?.map(MergeRequest::facts))
    }

    async fn open_of(
        &self,
        name: &RepositoryName,
        head: &BranchName,
        base: &BranchName,
    ) -> Result<Option<MergeRequest>, ForgeError> {
        let (head_text, base_text) = (encode_component(head.as_str()), encode_component(base.as_str()));
        let path = format!(
            "/merge_requests?state=opened&source_branch={head_text}&target_branch={base_text}&per_page=20&page=1"
        );
        let answer = self.ask(Opener::App, Call::get(self.project(name, &path))).await?;
        if !answer.is_success() {
            return Err(refused(&answer, "listing merge requests"));
        }
        // The filters of the query are looked at again: one that is ignored would name another's merge request.
        Ok(answer.json::<Vec<MergeRequest>>()?.into_iter().find(|one| one.is_of(head, base)))
    }

    async fn read(&self, name: &RepositoryName, number: i64) -> Result<Option<MergeRequest>, ForgeError> {
        let answer = self.ask(Opener::App, Call::get(self.project(name, &format!("/merge_requests/{number}")))).await?;
        match answer.status {
            404 => Ok(None),
            200 => Ok(Some(answer.json()?)),
            _ => Err(refused(&answer, "reading a merge request")),
        }
    }

    pub(super) async fn find_merge_request(
        &self,
        name: &RepositoryName,
        number: i64,
    ) -> Result<Option<PullRequestSnapshot>, ForgeError> {
        Ok(self.read(name, number).await?.map(|found| found.snapshot(name)))
    }

    pub(super) async fn post_merge_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        new: NewPullRequest<'_>,
    ) -> Result<PullRequest, ForgeError> {
        let body = json!({
            "title": titled(new.title, new.draft),
            "description": new.body,
            "source_branch": new.head.as_str(),
            "target_branch": new.base.as_str(),
        });
        let mut answer = self.ask(opener, Call::post(self.project(name, "/merge_requests")).json(&body)).await?;
        if answer.status == 409 {
            // "There is one already", which GitHub says by 422.
            answer.status = 422;
        }
        if !answer.is_success() {
            return Err(refused(&answer, "opening a merge request"));
        }
        Ok(answer.json::<MergeRequest>()?.facts())
    }

    pub(super) async fn put_merge_request(
        &self,
        opener: Opener<'_>,
        name: &RepositoryName,
        number: i64,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError> {
        // Its title is what makes it a draft, so that a new one must go on saying so.
        let draft = self.read(name, number).await?.is_some_and(|found| found.draft);
        let change = json!({"title": titled(title, draft), "description": body});
        let url = self.project(name, &format!("/merge_requests/{number}"));
        let answer = self.ask(opener, Call::put(url).idempotent().json(&change)).await?;
        if !answer.is_success() {
            return Err(refused(&answer, "changing a merge request"));
        }
        Ok(answer.json::<MergeRequest>()?.facts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn merge_request(change: impl Fn(&mut Value)) -> MergeRequest {
        let mut value = json!({
            "iid": 5, "web_url": "https://gitlab.com/acme/app/-/merge_requests/5", "state": "opened", "draft": true,
            "title": "Draft: Mend it", "source_branch": "Fix", "target_branch": "main", "source_project_id": 7,
            "target_project_id": 7, "sha": "b", "created_at": "2026-01-31T12:00:00.000Z", "merged_at": null,
        });
        change(&mut value);
        serde_json::from_value(value).expect("a merge request")
    }

    #[test]
    fn a_state_is_one_word_and_a_locked_one_is_open() {
        let state = |state: &str, draft: bool| {
            let change = |v: &mut Value| (v["state"], v["draft"]) = (json!(state), json!(draft));
            let snapshot = merge_request(change).snapshot(&RepositoryName::parse("acme", "app").expect("a name"));
            (merge_request(change).facts().state, snapshot.lifecycle_state, snapshot.is_draft)
        };
        assert_eq!(state("opened", false), ("open".to_owned(), LifecycleState::Open, false));
        assert_eq!(state("opened", true), ("draft".to_owned(), LifecycleState::Open, true));
        assert_eq!(state("locked", false), ("open".to_owned(), LifecycleState::Open, false));
        assert_eq!(state("closed", true), ("closed".to_owned(), LifecycleState::Closed, false));
        assert_eq!(state("merged", true), ("merged".to_owned(), LifecycleState::Merged, false));
    }

    #[test]
    fn one_from_a_fork_or_of_other_branches_is_not_ours() {
        let (head, base) = (BranchName::parse("Fix").expect("a name"), BranchName::parse("main").expect("a name"));
        assert!(merge_request(|_| ()).is_of(&head, &base));
        assert!(!merge_request(|_| ()).is_of(&base, &head));
        assert!(!merge_request(|v| v["source_project_id"] = json!(8)).is_of(&head, &base));
    }

    #[test]
    fn a_draft_is_marked_once() {
        assert_eq!(titled("Mend it", true), "Draft: Mend it");
        for title in ["Draft: Mend it", "draft: mend it", "DRAFT:x"] {
            assert_eq!(titled(title, true), title);
        }
        assert_eq!(titled("Mend it", false), "Mend it");
        assert_eq!(titled("Dräft", true), "Draft: Dräft");
    }
}
