//! Pull requests, labels and comments in GitHub's shapes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::accounts_json::{merge, node_id, simple_user};
use super::commits_json::segment;
use super::error::ApiError;
use super::repository_json;
use crate::forge::Forge;
use crate::forge::config::Level;
use crate::forge::directory::{Account, Repository};
use crate::forge::names::{BranchName, Sha};
use crate::forge::store::comments::{self, Comment};
use crate::forge::store::labels::{self, Label};
use crate::forge::store::pulls::Pull;

/// Second `seconds` in ISO 8601.
pub fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// `pull-request-simple`: what lists hold.
pub fn simple(forge: &Forge, repository: &Repository, pull: &Pull) -> Result<Value, ApiError> {
    let labels = forge.store.read(|db| labels::of_pull(db, pull.id))?;
    let full_name = repository.full_name();
    let api = forge.url(&format!("/api/v3/repos/{full_name}"));
    let number = pull.number;
    let url = format!("{api}/pulls/{number}");
    let issue_url = format!("{api}/issues/{number}");
    let html_url = forge.url(&format!("/{full_name}/pull/{number}"));
    let statuses_url = format!("{api}/statuses/{}", pull.head_sha);
    let side = |branch: &BranchName, sha: &Sha| {
        json!({
            "label": format!("{}:{branch}", repository.owner),
            "ref": branch.as_str(),
            "sha": sha.as_str(),
            "user": forge.directory.account_by_id(repository.owner_id).map(|a| simple_user(forge, a)),
            "repo": repository_json::repository(forge, repository, Level::Read),
        })
    };
    let author = account(forge, pull.author);
    Ok(json!({
        "url": url,
        "id": pull.id,
        "node_id": node_id("PullRequest", pull.id),
        "html_url": html_url,
        "diff_url": format!("{html_url}.diff"),
        "patch_url": format!("{html_url}.patch"),
        "issue_url": issue_url,
        "commits_url": format!("{url}/commits"),
        "review_comments_url": format!("{url}/comments"),
        "review_comment_url": format!("{api}/pulls/comments{{/number}}"),
        "comments_url": format!("{issue_url}/comments"),
        "statuses_url": statuses_url,
        "number": number,
        "state": if pull.open { "open" } else { "closed" },
        "locked": false,
        "title": pull.title,
        "user": simple_user(forge, author),
        "body": pull.body,
        "labels": labels.iter().map(|l| label(forge, repository, l)).collect::<Vec<_>>(),
        "milestone": null,
        "active_lock_reason": null,
        "created_at": time(pull.created_at),
        "updated_at": time(pull.updated_at),
        "closed_at": pull.closed_at.map(time),
        "merged_at": pull.merged_at.map(time),
        "merge_commit_sha": pull.merge_commit.as_ref().map(Sha::as_str),
        "assignee": null,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "head": side(&pull.head_ref, &pull.head_sha),
        "base": side(&pull.base_ref, &pull.base_sha),
        "_links": {
            "self": { "href": url },
            "html": { "href": html_url },
            "issue": { "href": issue_url },
            "comments": { "href": format!("{issue_url}/comments") },
            "review_comments": { "href": format!("{url}/comments") },
            "review_comment": { "href": format!("{api}/pulls/comments{{/number}}") },
            "commits": { "href": format!("{url}/commits") },
            "statuses": { "href": statuses_url },
        },
        "author_association": association(repository, author),
        "auto_merge": null,
        "draft": pull.draft,
    }))
}

/// `pull-request`: one of them, with its counts and whether it merges.
pub async fn full(forge: &Forge, repository: &Repository, pull: &Pull) -> Result<Value, ApiError> {
    let mut value = simple(forge, repository, pull)?;
    let files = forge.git.changes_since_fork(repository.id, &pull.base_sha, &pull.head_sha).await?;
    let commits = forge.git.count_between(repository.id, &pull.base_sha, &pull.head_sha).await?;
    let comments = forge.store.read(|db| comments::count(db, pull.id))?;
    let mergeable = if pull.open {
        match forge.git.branch_head(repository.id, &pull.base_ref).await? {
            Some(base) => Some(forge.git.merge_tree(repository.id, &base, &pull.head_sha).await?.is_some()),
            None => Some(false),
        }
    } else {
        None
    };
    merge(
        &mut value,
        json!({
            "merged": pull.merged_at.is_some(),
            "mergeable": mergeable,
            "rebaseable": mergeable,
            "mergeable_state": match mergeable {
                Some(true) => "clean",
                Some(false) => "dirty",
                None => "unknown",
            },
            "merged_by": pull.merged_by.map(|id| simple_user(forge, account(forge, id))),
            "comments": comments,
            "review_comments": 0,
            "maintainer_can_modify": false,
            "commits": commits,
            "additions": files.iter().map(|f| f.additions).sum::<u64>(),
            "deletions": files.iter().map(|f| f.deletions).sum::<u64>(),
            "changed_files": files.len(),
        }),
    );
    Ok(value)
}

/// `label`.
pub fn label(forge: &Forge, repository: &Repository, label: &Label) -> Value {
    json!({
        "id": label.id,
        "node_id": node_id("Label", label.id),
        "url": forge.url(&format!("/api/v3/repos/{}/labels/{}", repository.full_name(), segment(&label.name))),
        "name": label.name,
        "color": label.color,
        "default": false,
        "description": label.description,
    })
}

/// `issue-comment`.
pub fn comment(forge: &Forge, repository: &Repository, number: u64, comment: &Comment) -> Value {
    let full_name = repository.full_name();
    let author = account(forge, comment.author);
    json!({
        "id": comment.id,
        "node_id": node_id("IssueComment", comment.id),
        "url": forge.url(&format!("/api/v3/repos/{full_name}/issues/comments/{}", comment.id)),
        "html_url": forge.url(&format!("/{full_name}/pull/{number}#issuecomment-{}", comment.id)),
        "issue_url": forge.url(&format!("/api/v3/repos/{full_name}/issues/{number}")),
        "body": comment.body,
        "user": simple_user(forge, author),
        "created_at": time(comment.created_at),
        "updated_at": time(comment.created_at),
        "author_association": association(repository, author),
    })
}

/// An account that rows refer to. One that the configuration no longer has is shown as the App's bot.
pub fn account(forge: &Forge, id: u64) -> &Account {
    forge.directory.account_by_id(id).unwrap_or_else(|| forge.directory.bot())
}

fn association(repository: &Repository, author: &Account) -> &'static str {
    match repository.level_of(&author.login) {
        Level::Admin if author.id == repository.owner_id => "OWNER",
        Level::Admin | Level::Write => "MEMBER",
        Level::Read | Level::None => "NONE",
    }
}
