//! What happens to pull requests: opening, editing, closing, reopening, merging, and what a push does to them.
//! Every change is made under the repository's lock, and told to the webhook after it is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use tracing::error;

use super::Forge;
use super::api::error::ApiError;
use super::directory::{Account, Repository};
use super::git::{Branch, MergeOutcome, Signature};
use super::names::{BranchName, Sha};
use super::store::now;
use super::store::pulls::{self, NewPull, Pull};
use super::webhooks;

/// Most open pull requests that a start looks at, newest first.
const MAX_CAUGHT_UP: u64 = 1_000;

/// What a person or program asks for when it opens a pull request.
pub struct Proposal {
    pub title: String,
    pub body: Option<String>,
    pub head: String,
    pub base: String,
    pub draft: bool,
}

/// What an edit changes; `None` leaves a thing as it is.
#[derive(Default)]
pub struct Edit {
    pub title: Option<String>,
    pub body: BodyEdit,
    pub base: Option<String>,
    pub open: Option<bool>,
}

/// What an edit does to the body. In JSON: absent keeps it, `null` empties it.
#[derive(Debug, Default)]
pub enum BodyEdit {
    #[default]
    Keep,
    Set(Option<String>),
}

impl<'de> Deserialize<'de> for BodyEdit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Set)
    }
}

/// How a pull request is merged.
pub struct Merge {
    pub squash: bool,
    pub title: Option<String>,
    pub message: Option<String>,
    /// The head must still be this.
    pub expected_head: Option<String>,
}

fn refused(message: &str) -> ApiError {
    ApiError::validation("PullRequest", "custom", None, Some(message))
}

impl Forge {
    /// Opens a pull request between two branches of the same repository.
    pub(super) async fn open_pull(
        &self,
        repository: &Repository,
        actor: &Account,
        proposal: Proposal,
    ) -> Result<Pull, ApiError> {
        let invalid = |field| ApiError::validation("PullRequest", "invalid", Some(field), None);
        let (owner, head) = proposal.head.split_once(':').unwrap_or((repository.owner.as_str(), &proposal.head));
        if !owner.eq_ignore_ascii_case(repository.owner.as_str()) {
            return Err(invalid("head"));
        }
        let head_ref = BranchName::parse(head).ok_or_else(|| invalid("head"))?;
        let base_ref = BranchName::parse(&proposal.base).ok_or_else(|| invalid("base"))?;

        let _guard = self.lock(repository.id).await;
        let head_sha = self.git.branch_head(repository.id, &head_ref).await?.ok_or_else(|| invalid("head"))?;
        let base_sha = self.git.branch_head(repository.id, &base_ref).await?.ok_or_else(|| invalid("base"))?;
        self.require_commits(repository, (&base_ref, &base_sha), (&head_ref, &head_sha)).await?;
        let new = NewPull {
            repository: repository.id,
            title: &proposal.title,
            body: proposal.body.as_deref(),
            author: actor.id,
            head_ref: &head_ref,
            base_ref: &base_ref,
            head_sha: &head_sha,
            base_sha: &base_sha,
            draft: proposal.draft,
        };
        let pull =
            self.store.write(|db| pulls::insert(db, &new))?.ok_or_else(|| already_open(repository, &head_ref))?;
        self.keep_head(repository, &pull).await?;
        webhooks::pull_request(self, repository, &pull, "opened", actor, None).await;
        Ok(pull)
    }

    /// Changes the title, the body, the base or the state.
    pub(super) async fn edit_pull(
        &self,
        repository: &Repository,
        number: u64,
        actor: &Account,
        edit: Edit,
    ) -> Result<Pull, ApiError> {
        let _guard = self.lock(repository.id).await;
        let mut pull = self.stored_pull(repository, number)?;
        let before = pull.clone();
        if let Some(title) = edit.title {
            pull.title = title;
        }
        if let BodyEdit::Set(body) = edit.body {
            pull.body = body;
        }
        if let Some(base) = edit.base.filter(|base| base != pull.base_ref.as_str()) {
            let invalid = || ApiError::validation("PullRequest", "invalid", Some("base"), None);
            let base = BranchName::parse(&base).ok_or_else(invalid)?;
            let sha = self.git.branch_head(repository.id, &base).await?.ok_or_else(invalid)?;
            self.require_commits(repository, (&base, &sha), (&pull.head_ref, &pull.head_sha)).await?;
            (pull.base_ref, pull.base_sha) = (base, sha);
        }
        let edited = pull != before;
        match edit.open {
            Some(true) if !pull.open => self.reopen(repository, &mut pull).await?,
            Some(false) if pull.open => close(&mut pull),
            _ => {}
        }
        if pull == before {
            return Ok(pull);
        }
        pull.updated_at = now().max(pull.updated_at);
        let conflict = pull.open
            && self
                .store
                .read(|db| pulls::open_from(db, repository.id, &pull.head_ref))?
                .iter()
                .any(|other| other.id != pull.id && other.base_ref == pull.base_ref);
        if conflict {
            return Err(already_open(repository, &pull.head_ref));
        }
        self.store.write(|db| pulls::update(db, &pull))?;
        if edited {
            webhooks::pull_request(self, repository, &pull, "edited", actor, None).await;
        }
        if pull.open != before.open {
            let action = if pull.open { "reopened" } else { "closed" };
            webhooks::pull_request(self, repository, &pull, action, actor, None).await;
        }
        Ok(pull)
    }

    /// Merges an open pull request; answers the new commit of the base branch.
    pub(super) async fn merge_pull(
        &self,
        repository: &Repository,
        number: u64,
        actor: &Account,
        merge: Merge,
    ) -> Result<Sha, ApiError> {
        let _guard = self.lock(repository.id).await;
        let mut pull = self.stored_pull(repository, number)?;
        if !pull.open || pull.draft {
            return Err(ApiError::not_allowed("Pull Request is not mergeable"));
        }
        if merge.expected_head.is_some_and(|sha| sha != pull.head_sha.as_str()) {
            return Err(ApiError::conflict("Head branch was modified. Review and try the merge again."));
        }
        let base = self
            .git
            .branch_head(repository.id, &pull.base_ref)
            .await?
            .ok_or_else(|| ApiError::not_allowed("Pull Request is not mergeable"))?;
        let title = merge.title.unwrap_or_else(|| {
            if merge.squash {
                format!("{} (#{number})", pull.title)
            } else {
                format!("Merge pull request #{number} from {}/{}", repository.owner, pull.head_ref)
            }
        });
        let message = merge.message.unwrap_or_else(|| if merge.squash { String::new() } else { pull.title.clone() });
        let outcome = self
            .git
            .merge(
                repository.id,
                &pull.base_ref,
                (&base, &pull.head_sha),
                merge.squash,
                format!("{title}\n\n{message}").trim_end(),
                &Signature { name: actor.name.clone(), email: actor.noreply_email() },
            )
            .await?;
        let MergeOutcome::Merged(commit) = outcome else {
            return Err(ApiError::not_allowed("Pull Request is not mergeable"));
        };
        pull.open = false;
        pull.merge_commit = Some(commit.clone());
        pull.merged_by = Some(actor.id);
        pull.updated_at = now().max(pull.updated_at);
        pull.merged_at = Some(pull.updated_at);
        pull.closed_at = Some(pull.updated_at);
        self.store.write(|db| pulls::update(db, &pull))?;
        webhooks::push(self, repository, (&pull.base_ref, Some(&base), Some(&commit)), actor).await;
        webhooks::pull_request(self, repository, &pull, "closed", actor, None).await;
        Ok(commit)
    }

    /// Brings pull requests up to date after a push and tells of it. The push itself has happened: what fails here
    /// is logged.
    pub(super) async fn after_push(&self, repository: &Repository, actor: &Account, before: Vec<Branch>) {
        let after = match self.git.branches(repository.id).await {
            Ok(after) => after,
            Err(error) => {
                error!(%error, repository = %repository.full_name(), "branches can't be read after a push");
                return;
            }
        };
        for (branch, old, new) in changes(before, after) {
            if let Err(error) = self.branch_moved(repository, actor, &branch, old.as_ref(), new.as_ref()).await {
                error!(?error, repository = %repository.full_name(), %branch, "a push could not be followed up");
            }
        }
    }

    async fn branch_moved(
        &self,
        repository: &Repository,
        actor: &Account,
        branch: &BranchName,
        old: Option<&Sha>,
        new: Option<&Sha>,
    ) -> Result<(), ApiError> {
        webhooks::push(self, repository, (branch, old, new), actor).await;
        for pull in self.store.read(|db| pulls::open_from(db, repository.id, branch))? {
            self.follow_head(repository, actor, pull, new).await?;
        }
        if let Some(new) = new {
            for pull in self.store.read(|db| pulls::open_into(db, repository.id, branch))? {
                self.close_if_absorbed(repository, actor, pull, new).await?;
            }
        }
        Ok(())
    }

    /// Moves a pull request to where its head branch is now, or closes it when the branch is gone.
    async fn follow_head(
        &self,
        repository: &Repository,
        actor: &Account,
        mut pull: Pull,
        head: Option<&Sha>,
    ) -> Result<(), ApiError> {
        let previous = pull.head_sha.clone();
        let action = if let Some(head) = head {
            pull.head_sha = head.clone();
            if let Some(base) = self.git.branch_head(repository.id, &pull.base_ref).await? {
                pull.base_sha = base;
            }
            pull.updated_at = now().max(pull.updated_at);
            "synchronize"
        } else {
            close(&mut pull);
            "closed"
        };
        self.store.write(|db| pulls::update(db, &pull))?;
        self.keep_head(repository, &pull).await?;
        let moved = head.map(|head| (&previous, head));
        webhooks::pull_request(self, repository, &pull, action, actor, moved).await;
        Ok(())
    }

    /// Marks a pull request as merged when its base branch now holds all of its commits, as GitHub does after a push.
    async fn close_if_absorbed(
        &self,
        repository: &Repository,
        actor: &Account,
        mut pull: Pull,
        base: &Sha,
    ) -> Result<(), ApiError> {
        if self.git.count_between(repository.id, base, &pull.head_sha).await? > 0 {
            return Ok(());
        }
        close(&mut pull);
        pull.merge_commit = Some(base.clone());
        pull.merged_by = Some(actor.id);
        pull.merged_at = pull.closed_at;
        self.store.write(|db| pulls::update(db, &pull))?;
        webhooks::pull_request(self, repository, &pull, "closed", actor, None).await;
        Ok(())
    }

    /// Brings open pull requests to where the branches are, after a process that may have ended between a push and
    /// its follow-up.
    pub(super) async fn catch_up(&self, repository: &Repository) -> Result<(), ApiError> {
        let _guard = self.lock(repository.id).await;
        let actor = self.directory.bot();
        let open = pulls::Filter { open: Some(true), ..pulls::Filter::default() };
        let (list, _) = self.store.read(|db| pulls::list(db, repository.id, &open, (0, MAX_CAUGHT_UP)))?;
        for pull in list {
            let head = self.git.branch_head(repository.id, &pull.head_ref).await?;
            if head.as_ref() != Some(&pull.head_sha) {
                self.follow_head(repository, actor, pull.clone(), head.as_ref()).await?;
            }
            let pull = self.stored_pull(repository, pull.number)?;
            let base = self.git.branch_head(repository.id, &pull.base_ref).await?;
            if let Some(base) = base.filter(|_| pull.open) {
                self.close_if_absorbed(repository, actor, pull, &base).await?;
            }
        }
        Ok(())
    }

    /// A stored pull request, or 404.
    pub(super) fn stored_pull(&self, repository: &Repository, number: u64) -> Result<Pull, ApiError> {
        self.store.read(|db| pulls::find(db, repository.id, number))?.ok_or_else(ApiError::not_found)
    }

    async fn reopen(&self, repository: &Repository, pull: &mut Pull) -> Result<(), ApiError> {
        if pull.merged_at.is_some() {
            return Err(refused("state cannot be changed. The pull request cannot be reopened."));
        }
        let head = self.git.branch_head(repository.id, &pull.head_ref).await?.ok_or_else(|| {
            refused(&format!("state cannot be changed. The {} branch has been deleted.", pull.head_ref))
        })?;
        pull.head_sha = head;
        pull.open = true;
        pull.closed_at = None;
        self.keep_head(repository, pull).await
    }

    async fn require_commits(
        &self,
        repository: &Repository,
        (base_ref, base): (&BranchName, &Sha),
        (head_ref, head): (&BranchName, &Sha),
    ) -> Result<(), ApiError> {
        if self.git.count_between(repository.id, base, head).await? == 0 {
            return Err(refused(&format!("No commits between {base_ref} and {head_ref}")));
        }
        Ok(())
    }

    /// Keeps the head's commits when its branch is deleted, under `refs/pull/<number>/head` as on GitHub.
    async fn keep_head(&self, repository: &Repository, pull: &Pull) -> Result<(), ApiError> {
        let reference = format!("refs/pull/{}/head", pull.number);
        Ok(self.git.update_ref(repository.id, &reference, &pull.head_sha, None).await?)
    }
}

fn already_open(repository: &Repository, head: &BranchName) -> ApiError {
    refused(&format!("A pull request already exists for {}:{head}.", repository.owner))
}

fn close(pull: &mut Pull) {
    pull.open = false;
    pull.updated_at = now().max(pull.updated_at);
    pull.closed_at = Some(pull.updated_at);
}

/// The branches that differ: name, where it was, where it is.
fn changes(before: Vec<Branch>, after: Vec<Branch>) -> Vec<(BranchName, Option<Sha>, Option<Sha>)> {
    let mut before: BTreeMap<BranchName, Sha> = before.into_iter().map(|b| (b.name, b.sha)).collect();
    let mut changed: Vec<_> = after
        .into_iter()
        .filter_map(|branch| match before.remove(&branch.name) {
            Some(old) if old == branch.sha => None,
            old => Some((branch.name, old, Some(branch.sha))),
        })
        .collect();
    changed.extend(before.into_iter().map(|(name, old)| (name, Some(old), None)));
    changed
}
