//! Commits and changed files in GitHub's shapes.

use serde_json::{Value, json};

use super::accounts_json::{node_id, simple_user};
use crate::forge::Forge;
use crate::forge::directory::Repository;
use crate::forge::git::{ChangedFile, Commit, Person};
use crate::forge::names::Sha;

/// `commit`.
pub fn commit(forge: &Forge, repository: &Repository, commit: &Commit) -> Value {
    let full_name = repository.full_name();
    let api = forge.url(&format!("/api/v3/repos/{full_name}"));
    let html = forge.url(&format!("/{full_name}"));
    let sha = commit.sha.as_str();
    let account =
        |person: &Person| forge.directory.account_by_email(&person.email).map(|account| simple_user(forge, account));
    json!({
        "sha": sha,
        "node_id": node_id("Commit", sha),
        "commit": {
            "author": person(&commit.author),
            "committer": person(&commit.committer),
            "message": commit.message,
            "tree": { "sha": commit.tree.as_str(), "url": format!("{api}/git/trees/{}", commit.tree) },
            "url": format!("{api}/git/commits/{sha}"),
            "comment_count": 0,
            "verification": {
                "verified": false,
                "reason": "unsigned",
                "signature": null,
                "payload": null,
                "verified_at": null,
            },
        },
        "url": format!("{api}/commits/{sha}"),
        "html_url": format!("{html}/commit/{sha}"),
        "comments_url": format!("{api}/commits/{sha}/comments"),
        "author": account(&commit.author),
        "committer": account(&commit.committer),
        "parents": commit.parents.iter().map(|parent| json!({
            "sha": parent.as_str(),
            "url": format!("{api}/commits/{parent}"),
            "html_url": format!("{html}/commit/{parent}"),
        })).collect::<Vec<_>>(),
    })
}

fn person(person: &Person) -> Value {
    json!({ "name": person.name, "email": person.email, "date": person.at.to_string() })
}

/// `diff-entry`.
pub fn changed_file(forge: &Forge, repository: &Repository, head: &Sha, file: &ChangedFile) -> Value {
    let full_name = repository.full_name();
    let path = path_segments(&file.path);
    let mut value = json!({
        "sha": file.blob,
        "filename": file.path,
        "status": file.status.as_str(),
        "additions": file.additions,
        "deletions": file.deletions,
        "changes": file.additions + file.deletions,
        "blob_url": forge.url(&format!("/{full_name}/blob/{head}/{path}")),
        "raw_url": forge.url(&format!("/{full_name}/raw/{head}/{path}")),
        "contents_url": forge.url(&format!("/api/v3/repos/{full_name}/contents/{path}?ref={head}")),
    });
    if let Some(patch) = &file.patch {
        value["patch"] = patch.as_str().into();
    }
    if let Some(previous) = &file.previous_path {
        value["previous_filename"] = previous.as_str().into();
    }
    value
}

/// A path with each segment percent-encoded.
pub fn path_segments(path: &str) -> String {
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// One path segment, percent-encoded.
pub fn segment(text: &str) -> String {
    // A form's encoding differs from a path's in the space alone.
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
