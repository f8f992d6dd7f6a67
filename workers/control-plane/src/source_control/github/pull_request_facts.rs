//! A pull request as GitHub writes it, in its API and in its webhooks.

use oi_protocol::UnixMillis;
use oi_session::pull_request_snapshots::{LifecycleState, PullRequestSnapshot};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Owner {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Repository {
    id: i64,
    name: String,
    owner: Owner,
}

#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "ref")]
    branch: String,
    sha: Option<String>,
    /// Null when a fork was deleted.
    repo: Option<Repository>,
}

#[derive(Debug, Deserialize)]
struct Base {
    #[serde(rename = "ref")]
    branch: String,
    repo: Repository,
}

/// What of it is of interest.
#[derive(Debug, Deserialize)]
pub struct PullRequestFacts {
    number: i64,
    html_url: String,
    state: String,
    #[serde(default)]
    draft: bool,
    title: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    merged_at: Option<String>,
    closed_at: Option<String>,
    head: Head,
    base: Base,
}

impl PullRequestFacts {
    /// Whether its head is another repository's, which no session pushes to.
    pub fn is_of_a_fork(&self) -> bool {
        self.head.repo.as_ref().is_none_or(|head| head.id != self.base.repo.id)
    }

    /// As sessions know it. `read_time` reads ISO 8601.
    pub fn snapshot(self, read_time: impl Fn(&str) -> Option<UnixMillis>) -> PullRequestSnapshot {
        let time = |text: Option<String>| text.as_deref().and_then(&read_time);
        let lifecycle_state = match (self.state.as_str(), &self.merged_at) {
            (_, Some(_)) => LifecycleState::Merged,
            ("open", None) => LifecycleState::Open,
            _ => LifecycleState::Closed,
        };
        PullRequestSnapshot {
            number: self.number,
            url: self.html_url,
            lifecycle_state,
            is_draft: self.draft && lifecycle_state == LifecycleState::Open,
            head_branch: self.head.branch,
            base_branch: self.base.branch,
            head_sha: self.head.sha,
            repo_owner: self.base.repo.owner.login,
            repo_name: self.base.repo.name,
            repository_external_id: Some(self.base.repo.id.to_string()),
            title: self.title,
            provider_created_at: time(self.created_at),
            provider_updated_at: time(self.updated_at),
            merged_at: time(self.merged_at),
            closed_at: time(self.closed_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pull(change: impl Fn(&mut Value)) -> PullRequestFacts {
        let repository = |id: i64, owner: &str| json!({"id": id, "name": "app", "owner": {"login": owner}});
        let mut pull = json!({
            "number": 5, "html_url": "https://github.com/acme/app/pull/5", "state": "open", "draft": true,
            "title": "Mend it", "created_at": "1", "updated_at": "2", "merged_at": null, "closed_at": null,
            "head": {"ref": "open-inspect/x", "sha": "b", "repo": repository(7, "acme")},
            "base": {"ref": "main", "sha": "a", "repo": repository(7, "acme")}, "body": null,
        });
        change(&mut pull);
        serde_json::from_value(pull).expect("a pull request")
    }

    fn seconds(text: &str) -> Option<UnixMillis> {
        text.parse().ok().map(|seconds: i64| UnixMillis(seconds * 1_000))
    }

    #[test]
    fn life_and_draft_are_told_apart() {
        let read = |change: &dyn Fn(&mut Value)| {
            let snapshot = pull(change).snapshot(seconds);
            (snapshot.lifecycle_state, snapshot.is_draft)
        };
        assert_eq!(read(&|_| ()), (LifecycleState::Open, true));
        assert_eq!(read(&|p| p["draft"] = json!(false)), (LifecycleState::Open, false));
        assert_eq!(read(&|p| p["state"] = json!("closed")), (LifecycleState::Closed, false));
        let merged = |p: &mut Value| (p["state"], p["merged_at"]) = (json!("closed"), json!("9"));
        assert_eq!(read(&merged), (LifecycleState::Merged, false));
        let snapshot = pull(merged).snapshot(seconds);
        let times =
            [snapshot.provider_created_at, snapshot.provider_updated_at, snapshot.merged_at, snapshot.closed_at];
        assert_eq!(times.map(|at| at.map(|at| at.0)), [Some(1_000), Some(2_000), Some(9_000), None]);
        assert_eq!((snapshot.repo_owner.as_str(), snapshot.repository_external_id.as_deref()), ("acme", Some("7")));
    }

    #[test]
    fn a_head_of_another_repository_is_a_forks() {
        assert!(!pull(|_| ()).is_of_a_fork());
        assert!(pull(|p| p["head"]["repo"]["id"] = json!(8)).is_of_a_fork());
        assert!(pull(|p| p["head"]["repo"] = Value::Null).is_of_a_fork(), "it was deleted");
    }
}
