//! Repositories that sessions can work on, kept in KV for five minutes.

use std::collections::BTreeMap;

use oi_protocol::UnixMillis;
use oi_protocol::rest::{Repository, RepositoryList};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock, reply};
use serde::{Deserialize, Serialize};
use worker::kv::KvStore;
use worker::{Env, Response};

use crate::request::Cx;
use crate::source_control::github::Github;
use crate::source_control::{RepositoryFacts, SourceControl};
use crate::store::repo_metadata;

const CACHE_KEY: &str = "repos:list:v3";
/// Served as it is for this long, in ms.
const FRESH_MS: i64 = 300_000;
/// Then served once more while it is read anew; gone after this, in seconds.
const CACHE_SECONDS: u64 = 3_600;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    repos: Vec<Repository>,
    cached_at: UnixMillis,
}

impl Cached {
    fn is_fresh(&self, now: UnixMillis) -> bool {
        now.since(self.cached_at) < FRESH_MS
    }

    /// With what people noted, which is read each time: what is kept is the forge's alone.
    async fn answer(self, cx: &Cx<'_>, cached: bool) -> Result<Response, Failure> {
        let cached_at = clock::iso8601(self.cached_at);
        let mut noted: BTreeMap<_, _> = repo_metadata::all(&cx.db()?).await?.into_iter().collect();
        let with_notes = |repository: Repository| {
            let key = (repository.owner.to_ascii_lowercase(), repository.name.to_ascii_lowercase());
            Repository { metadata: noted.remove(&key), ..repository }
        };
        let repos = self.repos.into_iter().map(with_notes).collect();
        reply::json(200, &RepositoryList { repos, cached, cached_at })
    }
}

fn listed(facts: RepositoryFacts) -> Repository {
    Repository {
        id: facts.id,
        full_name: format!("{}/{}", facts.owner, facts.name),
        owner: facts.owner,
        name: facts.name,
        description: facts.description,
        private: facts.private,
        default_branch: facts.default_branch,
        metadata: None,
    }
}

fn cache(env: &Env) -> Option<KvStore> {
    env.kv("REPOS_CACHE").ok()
}

/// A cache that does not work costs time and nothing else.
async fn cached(env: &Env) -> Option<Cached> {
    match cache(env)?.get(CACHE_KEY).text().await {
        Ok(text) => serde_json::from_str(&text?).ok(),
        Err(error) => {
            Line::warn("control-plane", "repos.cache_unread").with("error", error.to_string()).write();
            None
        }
    }
}

async fn read_anew(env: &Env) -> Result<Cached, Failure> {
    let repositories = Github::of(env)?.repositories().await?;
    let fresh = Cached { repos: repositories.into_iter().map(listed).collect(), cached_at: clock::now() };
    let put = serde_json::to_string(&fresh).ok().zip(cache(env)).and_then(|(text, kv)| kv.put(CACHE_KEY, text).ok());
    if let Some(put) = put
        && let Err(error) = put.expiration_ttl(CACHE_SECONDS).execute().await
    {
        Line::warn("control-plane", "repos.cache_unwritten").with("error", error.to_string()).write();
    }
    Ok(fresh)
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let Some(cached) = cached(cx.env).await else { return read_anew(cx.env).await?.answer(cx, false).await };
    if !cached.is_fresh(clock::now()) {
        let env = cx.env.clone();
        cx.context.wait_until(async move {
            if let Err(failure) = read_anew(&env).await {
                Line::warn("control-plane", "repos.not_refreshed").with("error", failure.to_string()).write();
            }
        });
    }
    cached.answer(cx, true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_fresh_for_five_minutes() {
        let cached = Cached { repos: vec![], cached_at: UnixMillis(0) };
        assert!(cached.is_fresh(UnixMillis(299_999)) && !cached.is_fresh(UnixMillis(300_000)));
    }
}
