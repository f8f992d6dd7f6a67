//! Repositories that sessions can work on, and their branches.

use std::collections::BTreeMap;

use oi_protocol::forges::{Branch, BranchList};
use oi_protocol::rest::{Repository, RepositoryList};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, reply};
use worker::{Env, Response};

use crate::request::Cx;
use crate::source_control::cache::Cache;
use crate::source_control::repository_cache::{self, KeptList};
use crate::source_control::{BranchPage, Forge, RepositoryFacts, RepositoryName, SourceControl};
use crate::store::{D1, repo_metadata};

/// Without a page, this many pages of a hundred are read: 500 branches.
const PAGES_AT_ONCE: u32 = 5;
/// The highest page that can be asked for.
const MAX_PAGE: u32 = 1_000;

fn listed(facts: RepositoryFacts) -> Repository {
    Repository {
        id: facts.id,
        full_name: format!("{}/{}", facts.owner, facts.name),
        owner: facts.owner,
        name: facts.name,
        description: facts.description,
        private: facts.private,
        default_branch: facts.default_branch,
        archived: false,
        language: facts.language,
        topics: (!facts.topics.is_empty()).then_some(facts.topics),
        metadata: None,
    }
}

/// With what people noted, which is read each time: what is kept is the forge's alone.
async fn answer(cx: &Cx<'_>, kept: KeptList, cached: bool) -> Result<Response, Failure> {
    let cached_at = clock::iso8601(kept.cached_at);
    let mut noted: BTreeMap<_, _> = repo_metadata::all(&cx.db()?).await?.into_iter().collect();
    let with_notes = |facts: RepositoryFacts| {
        let key = (facts.owner.to_ascii_lowercase(), facts.name.to_ascii_lowercase());
        Repository { metadata: noted.remove(&key), ..listed(facts) }
    };
    let repos = kept.repositories().into_iter().map(with_notes).collect();
    reply::json(200, &RepositoryList { repos, cached, cached_at })
}

async fn refresh(env: &Env) -> Result<(), Failure> {
    let forge = Forge::of(env)?;
    Ok(repository_cache::refresh_list(&Cache::of(env)?, &D1::of(env)?, &forge, clock::now()).await?)
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (cache, now) = (Cache::of(cx.env)?, clock::now());
    let kept = match repository_cache::kept_list(&cache).await {
        Some(kept) if kept.is_fresh(now) => return answer(cx, kept, true).await,
        Some(kept) if kept.may_be_served() => {
            let env = cx.env.clone();
            cx.context.wait_until(async move {
                if let Err(failure) = refresh(&env).await {
                    not_refreshed(&failure);
                }
            });
            return answer(cx, kept, true).await;
        }
        kept => kept,
    };
    let forge = Forge::of(cx.env)?;
    match (repository_cache::read_list(&cache, &cx.db()?, &forge, now).await, kept) {
        (Ok(fresh), _) => answer(cx, fresh, false).await,
        // An old list is better than none while the code host is down.
        (Err(error), Some(old)) if error.is_transient() => {
            not_refreshed(&error.into());
            answer(cx, old, true).await
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn not_refreshed(failure: &Failure) {
    Line::warn("control-plane", "repos.not_refreshed").with("error", failure.to_string()).write();
}

/// The repository that the path names.
fn named(cx: &Cx<'_>) -> Result<RepositoryName, Refusal> {
    let segment = |index: usize| cx.parameters.get(index).map(String::as_str).unwrap_or_default();
    RepositoryName::from_path(segment(0), segment(1)).ok_or_else(|| Refusal::not_found("Repository not found"))
}

fn page_asked_for(text: Option<&str>) -> Result<Option<u32>, Refusal> {
    let page =
        text.map(str::parse).transpose().ok().filter(|page| page.is_none_or(|page| (1..=MAX_PAGE).contains(&page)));
    page.ok_or_else(|| Refusal::invalid_parameter(format!("page must be a whole number from 1 to {MAX_PAGE}")))
}

pub(super) async fn branches(cx: &Cx<'_>) -> Result<Response, Failure> {
    let name = named(cx)?;
    let page = page_asked_for(cx.head.query_value("page").as_deref())?;
    let forge = Forge::of(cx.env)?;
    let not_found = || Refusal::not_found("Repository not found");
    // A public repository that was not given would answer, too.
    let known = repository_cache::facts(&Cache::of(cx.env)?, &forge, &name, clock::now()).await?;
    known.ok_or_else(not_found)?;
    let (first, last) = page.map_or((1, PAGES_AT_ONCE), |page| (page, page));
    let mut list = BranchList { branches: Vec::new(), page: first, has_more: true };
    for number in first..=last {
        let BranchPage { names, has_more } = forge.branches(&name, number).await?.ok_or_else(not_found)?;
        list.branches.extend(names.into_iter().map(|name| Branch { name }));
        (list.page, list.has_more) = (number, has_more);
        if !has_more {
            break;
        }
    }
    reply::json(200, &list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_number_within_bounds() {
        assert_eq!((page_asked_for(None), page_asked_for(Some("7"))), (Ok(None), Ok(Some(7))));
        for bad in ["0", "-1", "1001", "x", "1.5", "99999999999"] {
            assert!(page_asked_for(Some(bad)).is_err_and(|refusal| refusal.status == 400), "{bad}");
        }
    }
}
