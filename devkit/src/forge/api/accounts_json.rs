//! Accounts in GitHub's shapes.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::forge::Forge;
use crate::forge::directory::{Account, AccountKind};

/// When every account and repository of the forge was made.
pub const EPOCH: &str = "2024-01-01T00:00:00Z";

/// An opaque id like GitHub's old ones.
pub fn node_id(kind: &str, id: impl std::fmt::Display) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{:03}:{kind}{id}", kind.len()))
}

/// `simple-user`.
pub fn simple_user(forge: &Forge, account: &Account) -> Value {
    let api = forge.url(&format!("/api/v3/users/{}", account.login));
    json!({
        "login": account.login,
        "id": account.id,
        "node_id": node_id("User", account.id),
        "avatar_url": forge.url(&format!("/avatars/{}", account.id)),
        "gravatar_id": "",
        "url": api,
        "html_url": forge.url(&format!("/{}", account.login)),
        "followers_url": format!("{api}/followers"),
        "following_url": format!("{api}/following{{/other_user}}"),
        "gists_url": format!("{api}/gists{{/gist_id}}"),
        "starred_url": format!("{api}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{api}/subscriptions"),
        "organizations_url": format!("{api}/orgs"),
        "repos_url": format!("{api}/repos"),
        "events_url": format!("{api}/events{{/privacy}}"),
        "received_events_url": format!("{api}/received_events"),
        "type": account.kind.as_str(),
        "user_view_type": "public",
        "site_admin": false,
    })
}

/// `public-user`: the simple user with a profile. Addresses are private.
pub fn public_user(forge: &Forge, account: &Account) -> Value {
    let mut user = simple_user(forge, account);
    let profile = json!({
        "name": account.name,
        "company": null,
        "blog": "",
        "location": null,
        "email": null,
        "hireable": null,
        "bio": null,
        "public_repos": 0,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": EPOCH,
        "updated_at": EPOCH,
    });
    merge(&mut user, profile);
    user
}

/// `organization-simple`.
pub fn organization(forge: &Forge, account: &Account) -> Value {
    debug_assert_eq!(account.kind, AccountKind::Organization);
    let api = forge.url(&format!("/api/v3/orgs/{}", account.login));
    json!({
        "login": account.login,
        "id": account.id,
        "node_id": node_id("Organization", account.id),
        "url": api,
        "repos_url": format!("{api}/repos"),
        "events_url": format!("{api}/events"),
        "hooks_url": format!("{api}/hooks"),
        "issues_url": format!("{api}/issues"),
        "members_url": format!("{api}/members{{/member}}"),
        "public_members_url": format!("{api}/public_members{{/member}}"),
        "avatar_url": forge.url(&format!("/avatars/{}", account.id)),
        "description": null,
    })
}

/// Adds the second object's members to the first.
pub fn merge(target: &mut Value, more: Value) {
    if let (Value::Object(target), Value::Object(more)) = (target, more) {
        target.extend(more);
    }
}
