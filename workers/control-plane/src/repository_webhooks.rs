//! Webhooks about which repositories there are: what is kept of them is forgotten, so that the next who asks is told anew.

use oi_worker_kit::Failure;
use serde::Deserialize;
use worker::Env;

use crate::pull_request_webhooks::{self, body_of};
use crate::source_control::cache::Cache;
use crate::source_control::{RepositoryName, repository_cache};
use crate::store::webhook_deliveries::{Claimed, Processed};

/// Whether a delivery says that the list, or what is known of one, changed.
pub fn is_about_repositories(claimed: &Claimed) -> bool {
    let event = claimed.event.split('.').next();
    claimed.source == "github" && matches!(event, Some("installation" | "installation_repositories" | "repository"))
}

#[derive(Deserialize)]
struct Named {
    full_name: Option<String>,
}

#[derive(Deserialize, Default)]
struct Old {
    from: Option<String>,
}

#[derive(Deserialize, Default)]
struct OldName {
    #[serde(default)]
    name: Old,
}

#[derive(Deserialize)]
struct Account {
    login: String,
}

#[derive(Deserialize)]
struct Accounts {
    user: Option<Account>,
    organization: Option<Account>,
}

#[derive(Deserialize)]
struct OldOwner {
    from: Accounts,
}

#[derive(Deserialize, Default)]
struct Changes {
    /// It was renamed.
    repository: Option<OldName>,
    /// It was transferred.
    owner: Option<OldOwner>,
}

impl Changes {
    /// The name that a repository had before.
    fn old_name(&self, now: &str) -> Option<RepositoryName> {
        let (owner, name) = now.split_once('/')?;
        let old_owner = self.owner.as_ref().and_then(|old| old.from.user.as_ref().or(old.from.organization.as_ref()));
        let old_name = self.repository.as_ref().and_then(|old| old.name.from.as_deref());
        if old_owner.is_none() && old_name.is_none() {
            return None;
        }
        RepositoryName::parse(old_owner.map_or(owner, |old| &old.login), old_name.unwrap_or(name))
    }
}

#[derive(Deserialize)]
struct Payload {
    repository: Option<Named>,
    #[serde(default)]
    repositories: Vec<Named>,
    #[serde(default)]
    repositories_added: Vec<Named>,
    #[serde(default)]
    repositories_removed: Vec<Named>,
    #[serde(default)]
    changes: Changes,
}

fn parsed(full_name: &str) -> Option<RepositoryName> {
    let (owner, name) = full_name.split_once('/')?;
    RepositoryName::parse(owner, name)
}

/// The repositories that a payload is about, by the names that may be kept of them; `None` for a payload of an unknown
/// form.
pub(crate) fn affected(body: &str) -> Option<Vec<RepositoryName>> {
    let payload: Payload = serde_json::from_str(body).ok()?;
    let now = payload.repository.as_ref().and_then(|now| now.full_name.as_deref());
    let renamed = now.and_then(|now| payload.changes.old_name(now));
    let named = payload
        .repository
        .into_iter()
        .chain(payload.repositories)
        .chain(payload.repositories_added)
        .chain(payload.repositories_removed);
    Some(named.filter_map(|one| parsed(one.full_name.as_deref()?)).chain(renamed).collect())
}

/// Forgets. A delivery whose body cannot be read makes at least the list be read anew.
pub async fn handle(env: &Env, claimed: &Claimed) -> Result<Processed, Failure> {
    let cache = Cache::of(env)?;
    repository_cache::outdate_list(&cache).await;
    let Some(body) = body_of(env, claimed).await? else {
        return Ok(Processed::Ignored(pull_request_webhooks::BODY_IS_GONE.to_owned()));
    };
    let Some(names) = affected(&body) else {
        return Ok(Processed::Ignored("the payload is not of the known form".to_owned()));
    };
    for name in &names {
        repository_cache::forget(&cache, name).await;
    }
    Ok(Processed::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claimed(source: &str, event: &str) -> Claimed {
        Claimed { id: "d".to_owned(), source: source.to_owned(), event: event.to_owned(), attempts: 1 }
    }

    fn names(body: &serde_json::Value) -> Option<Vec<String>> {
        Some(affected(&body.to_string())?.iter().map(RepositoryName::as_path).collect())
    }

    #[test]
    fn what_was_installed_renamed_or_deleted_is_forgotten() {
        for event in ["installation.created", "installation_repositories.added", "repository.archived", "repository"] {
            assert!(is_about_repositories(&claimed("github", event)), "{event}");
        }
        for event in ["push", "repository_dispatch.x", "installation_target.renamed", "pull_request.opened"] {
            assert!(!is_about_repositories(&claimed("github", event)), "{event}");
        }
        assert!(!is_about_repositories(&claimed("linear", "installation.created")));
        let one = |name: &str| json!({"full_name": name});
        let renamed = json!({"repository": one("Acme/new"), "changes": {"repository": {"name": {"from": "old"}}}});
        assert_eq!(names(&renamed), Some(vec!["acme/new".to_owned(), "acme/old".to_owned()]));
        let from = json!({"user": {"login": "Ada"}});
        let transferred = json!({"repository": one("acme/app"), "changes": {"owner": {"from": from}}});
        assert_eq!(names(&transferred), Some(vec!["acme/app".to_owned(), "ada/app".to_owned()]));
        let changed =
            json!({"repositories_added": [one("acme/a")], "repositories_removed": [one("acme/b"), one("../c")]});
        assert_eq!(names(&changed), Some(vec!["acme/a".to_owned(), "acme/b".to_owned()]));
        assert_eq!(names(&json!({"repositories": [one("acme/a")]})), Some(vec!["acme/a".to_owned()]));
        assert_eq!(names(&json!({})), Some(vec![]));
        assert_eq!(names(&json!([])), None);
    }
}
