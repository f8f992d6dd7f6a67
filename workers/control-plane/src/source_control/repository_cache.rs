//! The list of repositories and the facts of single ones, kept for a bounded time. Webhooks make it forget earlier.

use oi_protocol::UnixMillis;
use oi_worker_kit::mac;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::one_at_a_time::{Done, one_at_a_time, unless_under_way};
use super::{ForgeError, Listing, RepositoryFacts, RepositoryName, SourceControl};
use crate::store::Database;

const LIST_KEY: &str = "repos:list:v4";
/// The lease of who reads it.
const LIST_LEASE: &str = "repos:list";
/// A list is served as it is for this long, in ms.
const LIST_FRESH_MS: i64 = 300_000;
/// Then it is served once more while it is read anew; gone after this, in seconds.
const LIST_SECONDS: u64 = 3_600;
/// Facts of one repository are believed for this long, in ms. Who may work on it, GitHub decides again at each token.
const FACTS_FRESH_MS: i64 = 300_000;
const FACTS_SECONDS: u64 = 300;

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptList {
    listing: Listing,
    /// When it was read.
    pub cached_at: UnixMillis,
    /// A webhook said that it changed.
    #[serde(default)]
    outdated: bool,
}

impl KeptList {
    /// Whether it is served as it is.
    pub fn is_fresh(&self, now: UnixMillis) -> bool {
        !self.outdated && now.since(self.cached_at) < LIST_FRESH_MS
    }

    /// Whether it may be served while it is read anew.
    pub fn may_be_served(&self) -> bool {
        !self.outdated
    }

    /// The repositories, by full name.
    pub fn repositories(self) -> Vec<RepositoryFacts> {
        self.listing.into_repositories()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptFacts {
    facts: RepositoryFacts,
    cached_at: UnixMillis,
}

fn facts_key(name: &RepositoryName) -> String {
    format!("repos:facts:v1:{}", &mac::sha256_hex(name.as_path().as_bytes())[..32])
}

/// The list as it was kept.
pub async fn kept_list(cache: &Cache) -> Option<KeptList> {
    cache.get_json(LIST_KEY).await
}

/// Reads the list: pages that did not change are not sent again.
async fn read(cache: &Cache, forge: &impl SourceControl, now: UnixMillis) -> Result<KeptList, ForgeError> {
    let known = kept_list(cache).await.map(|kept| kept.listing).unwrap_or_default();
    let kept = KeptList { listing: forge.repositories(known).await?, cached_at: now, outdated: false };
    cache.put_json(LIST_KEY, &kept, LIST_SECONDS).await;
    Ok(kept)
}

/// Reads the list for somebody who waits. Of many at once one reads.
pub async fn read_list(
    cache: &Cache,
    db: &impl Database,
    forge: &impl SourceControl,
    now: UnixMillis,
) -> Result<KeptList, ForgeError> {
    let found = async || kept_list(cache).await.filter(|kept| kept.is_fresh(now));
    let work = async || read(cache, forge, now).await.map(|result| Done { result, value: None });
    one_at_a_time(db, LIST_LEASE, found, work).await
}

/// Reads the list anew, unless somebody does.
pub async fn refresh_list(
    cache: &Cache,
    db: &impl Database,
    forge: &impl SourceControl,
    now: UnixMillis,
) -> Result<(), ForgeError> {
    unless_under_way(db, LIST_LEASE, read(cache, forge, now)).await.map_or(Ok(()), |read| read.map(|_| ()))
}

/// What is known of one repository: as it was read within the last minutes, or as the forge says now.
pub async fn facts(
    cache: &Cache,
    forge: &impl SourceControl,
    name: &RepositoryName,
    now: UnixMillis,
) -> Result<Option<RepositoryFacts>, ForgeError> {
    let key = facts_key(name);
    if let Some(kept) = cache.get_json::<KeptFacts>(&key).await
        && now.since(kept.cached_at) < FACTS_FRESH_MS
    {
        return Ok(Some(kept.facts));
    }
    // One that is not there may be given the next moment, so only what is there is kept.
    let Some(facts) = forge.repository(name).await? else { return Ok(None) };
    let kept = KeptFacts { facts, cached_at: now };
    cache.put_json(&key, &kept, FACTS_SECONDS).await;
    Ok(Some(kept.facts))
}

/// Forgets what is known of one repository.
pub async fn forget(cache: &Cache, name: &RepositoryName) {
    cache.delete(&facts_key(name)).await;
}

/// The list is not served any more before it was read anew. Its pages stay, to be asked whether they changed.
pub async fn outdate_list(cache: &Cache) {
    if let Some(kept) = kept_list(cache).await
        && !kept.outdated
    {
        cache.put_json(LIST_KEY, &KeptList { outdated: true, ..kept }, LIST_SECONDS).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_fresh_for_five_minutes_or_until_a_webhook_says_otherwise() {
        let kept = KeptList { listing: Listing::default(), cached_at: UnixMillis(0), outdated: false };
        assert!(kept.is_fresh(UnixMillis(299_999)) && !kept.is_fresh(UnixMillis(300_000)) && kept.may_be_served());
        let outdated = KeptList { outdated: true, ..kept };
        assert!(!outdated.is_fresh(UnixMillis(0)) && !outdated.may_be_served());
    }
}
