//! The agent's tool `create-pull-request`: the checkout's branch, then the control plane.

use std::sync::Arc;
use std::time::Duration;

use oi_protocol::rest::CreatePullRequestRequest;
use tokio::sync::watch;

use super::wire::{Answer, CreatePullRequest};
use crate::bridge::runner::WorkspaceState;
use crate::control_plane::{ControlPlane, ControlPlaneError, PullRequestAnswer};
use crate::git::{Checkout, Git, Workspace};
use crate::random;

/// Opens pull requests for the agent.
pub struct PullRequestBroker {
    control_plane: Arc<ControlPlane>,
    git: Git,
    workspace: watch::Receiver<WorkspaceState>,
}

/// The repository that the agent means.
fn choose<'a>(workspace: &'a Workspace, repo: Option<&str>) -> Result<&'a Checkout, String> {
    let names = || {
        let names: Vec<String> = workspace.checkouts.iter().map(|c| format!("{}/{}", c.owner, c.name)).collect();
        names.join(", ")
    };
    match (repo.map(str::trim).filter(|repo| !repo.is_empty()), workspace.checkouts.as_slice()) {
        (_, []) => Err("This session has no repository, so there is nothing to open a pull request for.".to_owned()),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("This session has several repositories. Set `repo` to one of: {}", names())),
        (Some(repo), _) => match repo.rsplit_once('/') {
            Some((owner, name)) if !owner.is_empty() && !name.is_empty() => workspace
                .checkout(owner, name)
                .ok_or_else(|| format!("`{repo}` is not part of this session. Its repositories: {}", names())),
            _ => Err(format!("`repo` must be \"owner/name\". This session's repositories: {}", names())),
        },
    }
}

impl PullRequestBroker {
    /// A broker for the checkouts of `workspace`.
    pub fn new(control_plane: Arc<ControlPlane>, git: Git, workspace: watch::Receiver<WorkspaceState>) -> Self {
        Self { control_plane, git, workspace }
    }

    /// Opens or updates a pull request and says what became of it.
    pub async fn create(&self, asked: CreatePullRequest) -> Answer {
        let CreatePullRequest { title, body, base_branch, repo, draft } = asked;
        if title.trim().is_empty() || body.trim().is_empty() {
            return Answer::failed("`title` and `body` must not be empty.");
        }
        let Some(Ok(workspace)) = self.workspace.borrow().clone() else {
            return Answer::failed("The workspace is not ready yet. Try again in a moment.");
        };
        let checkout = match choose(&workspace, repo.as_deref()) {
            Ok(checkout) => checkout,
            Err(text) => return Answer::failed(text),
        };
        let request = CreatePullRequestRequest {
            title,
            body,
            head_branch: self.head_branch(checkout, base_branch.as_deref()).await,
            base_branch: base_branch.filter(|branch| !branch.trim().is_empty()),
            repo_owner: Some(checkout.owner.clone()),
            repo_name: Some(checkout.name.clone()),
            draft,
        };
        let key = random::hex::<16>();
        match self.control_plane.create_pull_request(&request, &key).await {
            Ok(answer) => said(&answer),
            Err(error) => Answer::failed(explain(&error)),
        }
    }

    /// The branch that is checked out; none when HEAD is detached or still on the base, where the control plane
    /// names one.
    async fn head_branch(&self, checkout: &Checkout, base: Option<&str>) -> Option<String> {
        let args = ["symbolic-ref", "--short", "--quiet", "HEAD"];
        let branch = self.git.run(&checkout.path, &args, Duration::from_secs(5)).await.ok()?;
        let branch = branch.trim();
        (!branch.is_empty() && branch != checkout.branch && Some(branch) != base).then(|| branch.to_owned())
    }
}

fn said(answer: &PullRequestAnswer) -> Answer {
    let text = match answer {
        PullRequestAnswer::Done(done) => {
            let what = if done.updated {
                "Updated pull request"
            } else if done.state == "draft" {
                "Opened draft pull request"
            } else {
                "Opened pull request"
            };
            format!("{what} #{}: {}\n`{}` into `{}`.", done.pr_number, done.pr_url, done.head_branch, done.base_branch)
        }
        PullRequestAnswer::Manual { create_pr_url } => format!(
            "The branch is pushed, but the pull request must be opened by a person. Give them this address: {create_pr_url}"
        ),
    };
    Answer::said(text)
}

fn explain(error: &ControlPlaneError) -> String {
    match error {
        ControlPlaneError::Refused { status: 401, .. } => {
            "The control plane does not accept this sandbox any more, so no pull request can be opened from it."
                .to_owned()
        }
        ControlPlaneError::Refused { status: 404, .. } => {
            "The session was not found, so no pull request can be opened.".to_owned()
        }
        ControlPlaneError::Refused { status: 409, text, .. } => format!("No pull request was opened: {text}"),
        other => format!("No pull request was opened: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn workspace(names: &[&str]) -> Workspace {
        let checkout = |(position, name): (usize, &&str)| Checkout {
            position: position as u32,
            owner: "Acme".to_owned(),
            name: (*name).to_owned(),
            branch: "main".to_owned(),
            path: PathBuf::from("/workspace").join(name),
            base_sha: None,
        };
        Workspace { directory: "/workspace".into(), checkouts: names.iter().enumerate().map(checkout).collect() }
    }

    #[test]
    fn the_repository_is_found_whatever_its_casing_and_errors_name_the_choices() {
        let one = workspace(&["api"]);
        let two = workspace(&["api", "web"]);
        assert_eq!(choose(&one, None).map(|c| c.name.as_str()), Ok("api"));
        assert_eq!(choose(&two, Some("acme/WEB")).map(|c| c.name.as_str()), Ok("web"));
        for (workspace, repo) in [(&two, None), (&two, Some("web")), (&two, Some("other/web")), (&one, Some("acme/"))] {
            let text = choose(workspace, repo).expect_err("not one repository");
            assert!(text.contains("Acme/api"), "{text}");
        }
        assert!(choose(&workspace(&[]), None).is_err());
    }
}
