//! Repositories in GitHub's shape.

use serde_json::{Value, json};

use super::accounts_json::{EPOCH, node_id, simple_user};
use crate::forge::Forge;
use crate::forge::config::Level;
use crate::forge::directory::Repository;

/// `full-repository`, as the caller with these rights on its contents sees it.
pub fn repository(forge: &Forge, repository: &Repository, level: Level) -> Value {
    let full_name = repository.full_name();
    let api = forge.url(&format!("/api/v3/repos/{full_name}"));
    let html = forge.url(&format!("/{full_name}"));
    let owner = forge.directory.account_by_id(repository.owner_id).expect("a repository's owner is an account");
    let mut value = json!({
        "id": repository.id,
        "node_id": node_id("Repository", repository.id),
        "name": repository.name.as_str(),
        "full_name": full_name,
        "private": repository.private,
        "owner": simple_user(forge, owner),
        "html_url": html,
        "description": (!repository.description.is_empty()).then_some(&repository.description),
        "fork": false,
        "url": api,
        "git_url": format!("git:{}", html.trim_start_matches("https:").trim_start_matches("http:")),
        "ssh_url": format!("git@localhost:{full_name}.git"),
        "clone_url": format!("{html}.git"),
        "svn_url": html,
        "homepage": null,
        "size": 1,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": null,
        "has_issues": true,
        "has_projects": false,
        "has_downloads": false,
        "has_wiki": false,
        "has_pages": false,
        "has_discussions": false,
        "forks_count": 0,
        "mirror_url": null,
        "archived": repository.archived,
        "disabled": false,
        "open_issues_count": 0,
        "license": null,
        "allow_forking": false,
        "is_template": false,
        "web_commit_signoff_required": false,
        "topics": [],
        "visibility": if repository.private { "private" } else { "public" },
        "forks": 0,
        "open_issues": 0,
        "watchers": 0,
        "default_branch": repository.default_branch.as_str(),
        "allow_squash_merge": true,
        "allow_merge_commit": true,
        "allow_rebase_merge": false,
        "network_count": 0,
        "subscribers_count": 0,
        "created_at": EPOCH,
        "updated_at": EPOCH,
        "pushed_at": EPOCH,
        "permissions": {
            "admin": level >= Level::Admin,
            "maintain": level >= Level::Admin,
            "push": level >= Level::Write,
            "triage": level >= Level::Write,
            "pull": level >= Level::Read,
        },
    });
    for (name, path) in [
        ("forks_url", "/forks"),
        ("keys_url", "/keys{/key_id}"),
        ("collaborators_url", "/collaborators{/collaborator}"),
        ("teams_url", "/teams"),
        ("hooks_url", "/hooks"),
        ("issue_events_url", "/issues/events{/number}"),
        ("events_url", "/events"),
        ("assignees_url", "/assignees{/user}"),
        ("branches_url", "/branches{/branch}"),
        ("tags_url", "/tags"),
        ("blobs_url", "/git/blobs{/sha}"),
        ("git_tags_url", "/git/tags{/sha}"),
        ("git_refs_url", "/git/refs{/sha}"),
        ("trees_url", "/git/trees{/sha}"),
        ("statuses_url", "/statuses/{sha}"),
        ("languages_url", "/languages"),
        ("stargazers_url", "/stargazers"),
        ("contributors_url", "/contributors"),
        ("subscribers_url", "/subscribers"),
        ("subscription_url", "/subscription"),
        ("commits_url", "/commits{/sha}"),
        ("git_commits_url", "/git/commits{/sha}"),
        ("comments_url", "/comments{/number}"),
        ("issue_comment_url", "/issues/comments{/number}"),
        ("contents_url", "/contents/{+path}"),
        ("compare_url", "/compare/{base}...{head}"),
        ("merges_url", "/merges"),
        ("archive_url", "/{archive_format}{/ref}"),
        ("downloads_url", "/downloads"),
        ("issues_url", "/issues{/number}"),
        ("pulls_url", "/pulls{/number}"),
        ("milestones_url", "/milestones{/number}"),
        ("notifications_url", "/notifications{?since,all,participating}"),
        ("labels_url", "/labels{/name}"),
        ("releases_url", "/releases{/id}"),
        ("deployments_url", "/deployments"),
    ] {
        value[name] = format!("{api}{path}").into();
    }
    value
}
