//! Tokens of the App's installation: each for the repositories and rights that a task needs, kept sealed for reuse.

use oi_protocol::UnixMillis;
use oi_worker_kit::http_client::Call;
use oi_worker_kit::log::Line;
use oi_worker_kit::{clock, mac};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Github, app_jwt, ask, decorated, refused};
use crate::source_control::ForgeError;
use crate::source_control::one_at_a_time::{Done, one_at_a_time};
use crate::store::{Database, forge_leases};

/// A token older than this is not used any more, in ms.
const MAX_AGE_MS: i64 = 50 * 60_000;
/// Nor one that ends within this, in ms.
const MIN_LIFE_MS: i64 = 5 * 60_000;
/// How long the cache keeps one, in seconds.
const CACHE_SECONDS: u64 = 3_000;

/// What a token may do, and with which repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// All that are installed when empty.
    repository_ids: Vec<i64>,
    permissions: &'static [(&'static str, &'static str)],
}

impl Scope {
    /// Reading names and branches.
    pub fn reading() -> Self {
        Self { repository_ids: Vec::new(), permissions: &[("contents", "read"), ("metadata", "read")] }
    }

    /// Fetching.
    pub fn cloning(repository_ids: &[i64]) -> Self {
        Self { permissions: Self::reading().permissions, ..Self::git(repository_ids) }
    }

    /// Fetching and pushing.
    pub fn git(repository_ids: &[i64]) -> Self {
        let mut repository_ids = repository_ids.to_vec();
        repository_ids.sort_unstable();
        repository_ids.dedup();
        Self { repository_ids, permissions: &[("contents", "write"), ("metadata", "read")] }
    }

    /// Opening and changing pull requests.
    pub fn pull_requests() -> Self {
        Self {
            repository_ids: Vec::new(),
            permissions: &[("contents", "read"), ("metadata", "read"), ("pull_requests", "write")],
        }
    }

    fn request(&self) -> serde_json::Value {
        let permissions: serde_json::Map<_, _> =
            self.permissions.iter().map(|(name, level)| ((*name).to_owned(), json!(level))).collect();
        if self.repository_ids.is_empty() {
            json!({"permissions": permissions})
        } else {
            json!({"permissions": permissions, "repository_ids": self.repository_ids})
        }
    }
}

/// A token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallationToken {
    /// The token.
    pub token: String,
    /// When it ends.
    pub expires_at: UnixMillis,
    cached_at: UnixMillis,
}

impl InstallationToken {
    fn is_usable(&self, now: UnixMillis) -> bool {
        now.since(self.cached_at) <= MAX_AGE_MS && self.expires_at.since(now) >= MIN_LIFE_MS
    }
}

#[derive(Deserialize)]
struct Minted {
    token: String,
    expires_at: String,
}

impl<D: Database> Github<D> {
    /// Names the App, the installation and the scope: a token is only found by who asks for the same, and does not open
    /// in another's place.
    fn cache_key(&self, scope: &Scope) -> String {
        let asked = format!("{} {}", self.urls.api, scope.request());
        let fingerprint = mac::sha256_hex(asked.as_bytes());
        format!("github:installation-token:v3:{}:{}:{}", self.app_id, self.installation_id, &fingerprint[..32])
    }

    /// A token of this scope, from the cache while it is fresh. Of many who want a new one at the same time, one asks.
    pub(super) async fn installation_token(&self, scope: &Scope) -> Result<InstallationToken, ForgeError> {
        let key = self.cache_key(scope);
        let usable = |sealed: &str| self.opened(sealed, &key).filter(|token| token.is_usable(clock::now()));
        if let Some(token) = self.cache.get(&key).await.as_deref().and_then(usable) {
            return Ok(token);
        }
        // The cache may be behind; the database is not.
        let found = async || forge_leases::value(&self.db, &key).await.ok()?.as_deref().and_then(usable);
        let work = async || {
            let token = self.mint(scope, clock::now()).await?;
            let value = self.sealed(&token, &key);
            Ok::<_, ForgeError>(Done { result: token, value })
        };
        let token = one_at_a_time(&self.db, &key, found, work).await?;
        if let Some(sealed) = self.sealed(&token, &key) {
            self.cache.put(&key, sealed, CACHE_SECONDS).await;
        }
        Ok(token)
    }

    /// Forgets a token that GitHub refused.
    pub(super) async fn forget_installation_token(&self, scope: &Scope) {
        let key = self.cache_key(scope);
        self.cache.delete(&key).await;
        if let Err(error) = forge_leases::forget_value(&self.db, &key).await {
            Line::warn("control-plane", "installation_token.not_forgotten").with("error", error.to_string()).write();
        }
    }

    fn sealed(&self, token: &InstallationToken, key: &str) -> Option<String> {
        serde_json::to_string(token).ok().and_then(|plain| self.sealing.seal(&plain, key).ok())
    }

    fn opened(&self, sealed: &str, key: &str) -> Option<InstallationToken> {
        serde_json::from_str(&self.sealing.open(sealed, key).ok()?).ok()
    }

    pub(super) async fn mint(&self, scope: &Scope, now: UnixMillis) -> Result<InstallationToken, ForgeError> {
        let jwt = app_jwt::mint(&self.app_id, &self.private_key_pem, now).await?;
        let url = self.url(&format!("/app/installations/{}/access_tokens", self.installation_id));
        // A token that is minted twice is only one more that ends within the hour.
        let call = Call::post(url).idempotent().bearer(&jwt).json(&scope.request());
        let answer = ask(decorated(call, &self.user_agent)).await?;
        if !answer.is_success() {
            return Err(refused(&answer, "minting an installation token"));
        }
        let minted: Minted = answer.json()?;
        let expires_at = clock::from_iso8601(&minted.expires_at)
            .ok_or_else(|| ForgeError::Setup("GitHub's token has an expiry that cannot be read".to_owned()))?;
        if minted.token.is_empty() {
            return Err(ForgeError::Setup("GitHub's token is empty".to_owned()));
        }
        Ok(InstallationToken { token: minted.token, expires_at, cached_at: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_with_no_more_than_its_task_needs() {
        assert_eq!(
            Scope::git(&[7, 3, 7]).request().to_string(),
            r#"{"permissions":{"contents":"write","metadata":"read"},"repository_ids":[3,7]}"#
        );
        assert_eq!(
            Scope::cloning(&[7, 3]).request().to_string(),
            r#"{"permissions":{"contents":"read","metadata":"read"},"repository_ids":[3,7]}"#
        );
        assert_eq!(Scope::reading().request().to_string(), r#"{"permissions":{"contents":"read","metadata":"read"}}"#);
    }

    #[test]
    fn a_token_is_used_while_young_and_with_life_left() {
        let token =
            InstallationToken { token: "ghs".to_owned(), expires_at: UnixMillis(3_600_000), cached_at: UnixMillis(0) };
        assert!(token.is_usable(UnixMillis(MAX_AGE_MS)));
        assert!(!token.is_usable(UnixMillis(MAX_AGE_MS + 1)));
        let short = InstallationToken { expires_at: UnixMillis(MIN_LIFE_MS), ..token };
        assert!(short.is_usable(UnixMillis(0)) && !short.is_usable(UnixMillis(1)));
    }
}
