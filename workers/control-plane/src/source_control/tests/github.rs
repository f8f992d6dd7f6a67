//! GitHub: the App's tokens, repositories, branches.

use futures_util::future::join_all;
use jwt_compact::alg::{Rsa, RsaPublicKey};
use jwt_compact::{AlgorithmExt as _, UntrustedToken};
use oi_protocol::UnixMillis;
use oi_worker_kit::clock;
use oi_worker_kit::http_client::Answer;
use rsa::pkcs8::DecodePublicKey as _;
use serde::Deserialize;
use serde_json::json;

use super::support::{World, answer, app_key, branch, name, scripted};
use crate::source_control::cache::Cache;
use crate::source_control::github::{Github, app_jwt};
use crate::source_control::{Listing, SourceControl as _, repository_cache};
use crate::store::native::Native;

const TOKENS: &str = "/access_tokens";
const REPOSITORIES: &str = "/installation/repositories";

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

#[tokio::test]
async fn the_apps_token_is_one_that_another_implementation_verifies() {
    let now = clock::now();
    for pem in [&app_key().pkcs8, &app_key().pkcs1, &app_key().pkcs8.replace('\n', "\\n")] {
        let text = app_jwt::mint("4242", pem, now).await.expect("signs");
        let token = UntrustedToken::new(&text).expect("is a token");
        assert_eq!(token.algorithm(), "RS256");
        let key = RsaPublicKey::from_public_key_pem(&app_key().public).expect("a key");
        let token = Rsa::rs256().validator::<Issuer>(&key).validate(&token).expect("verifies");
        assert_eq!(token.claims().custom.iss, "4242");
        assert_eq!(token.claims().issued_at.expect("is there").timestamp(), now.0 / 1000 - 60);
        assert_eq!(token.claims().expiration.expect("is there").timestamp(), now.0 / 1000 + 540);
    }
    let error = app_jwt::mint("4242", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", now).await;
    let error = error.expect_err("is no key").to_string();
    assert!(error.contains("GITHUB_APP_PRIVATE_KEY") && !error.contains("AAAA"), "{error}");
}

#[tokio::test]
async fn github_takes_a_key_of_either_form() {
    for pem in [&app_key().pkcs8, &app_key().pkcs1] {
        let world = World::start().await.with_key(pem);
        let found = world.github().repository(&name("acme/sample-service")).await.expect("answers");
        assert_eq!(found.map(|facts| facts.id), Some(1001));
    }
}

#[tokio::test]
async fn of_many_who_want_a_token_one_asks() {
    let world = World::start().await;
    // Each with a cache of its own, as isolates in different places have.
    let clients: Vec<_> =
        (0..6).map(|_| Github::new(&world.vars(), Cache::in_memory(), &world.db).expect("is set up")).collect();
    let (repository, main) = (name("acme/sample-service"), branch("main"));
    let heads = join_all(clients.iter().map(|client| client.branch_head(&repository, &main))).await;
    assert!(heads.iter().all(|head| head.as_ref().is_ok_and(Option::is_some)), "{heads:?}");
    assert_eq!(world.count("POST", TOKENS), 1);
}

#[tokio::test]
async fn a_token_of_one_scope_is_never_used_for_another() {
    let world = World::start().await;
    let github = world.github();
    let first = github.git_credentials(&[1001]).await.expect("is minted");
    let again = github.git_credentials(&[1001, 1001]).await.expect("is kept");
    assert!(first == again && world.count("POST", TOKENS) == 1);
    let other = github.git_credentials(&[1002]).await.expect("is minted");
    let both = github.git_credentials(&[1002, 1001]).await.expect("is minted");
    assert!(first.password != other.password && both.password != other.password);
    assert_eq!(world.count("POST", TOKENS), 3);
    // Nothing in the cache or the database can be read, and what is moved does not open.
    let entries = world.cache.entries();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|(_, text)| !text.contains("ghs_") && !text.contains("token")), "{entries:?}");
    let (from, to) = (entries[0].clone(), entries[1].clone());
    world.cache.put(&to.0, from.1, 60).await;
    for _ in 0..2 {
        for ids in [&[1001][..], &[1002], &[1001, 1002]] {
            github.git_credentials(ids).await.expect("is there");
        }
    }
    assert_eq!(world.count("POST", TOKENS), 3, "the database still had the one that was overwritten");
    // Another App, or another host, finds none of them.
    let mut vars = world.vars();
    vars.insert("GITHUB_API_URL", "http://127.0.0.1:1/api/v3");
    let elsewhere = Github::new(&vars, world.cache.clone(), &world.db).expect("is set up");
    assert!(elsewhere.git_credentials(&[1001]).await.is_err());
}

#[tokio::test]
async fn a_token_that_github_forgot_is_replaced_once() {
    let world = World::start().await;
    let github = world.github();
    let (repository, main) = (name("acme/sample-service"), branch("main"));
    github.branch_head(&repository, &main).await.expect("answers");
    let token = world.take().last().expect("a call").header("authorization").expect("a token")[7..].to_owned();
    world.revoke_installation_token(&token).await;
    assert!(github.branch_head(&repository, &main).await.expect("answers").is_some());
    assert_eq!(world.count("POST", TOKENS), 1);
    let statuses: Vec<u16> = world.take().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [401, 201, 200]);
}

#[tokio::test]
async fn a_list_that_did_not_change_is_not_sent_again() {
    let world = World::start().await;
    let github = world.github();
    let first = github.repositories(Listing::default()).await.expect("is listed");
    let again = github.repositories(first.clone()).await.expect("is listed");
    assert_eq!(first, again);
    let statuses: Vec<(u16, usize)> = world
        .take()
        .iter()
        .filter(|one| one.path().ends_with(REPOSITORIES))
        .map(|one| (one.status, one.answer.len()))
        .collect();
    assert_eq!((statuses[0].0, statuses[1]), (200, (304, 0)));
    let names: Vec<_> = first.into_repositories().into_iter().map(|facts| facts.name).collect();
    assert_eq!(names, ["handbook", "sample-service"]);
}

fn token() -> Answer {
    answer(201, &[], &json!({"token": "ghs_x", "expires_at": "2099-01-01T00:00:00Z"}))
}

#[tokio::test]
async fn every_page_is_read_and_only_those_that_changed_are_sent() {
    let changed = std::rc::Rc::new(std::cell::Cell::new(0_u64));
    let now_changed = std::rc::Rc::clone(&changed);
    let recorded = scripted(move |call| {
        if call.method == "POST" {
            return token();
        }
        let page: u64 = call.url.rsplit_once("page=").expect("a page").1.parse().expect("a number");
        let tag = format!("\"{page}-{}\"", if page == now_changed.get() { "new" } else { "old" });
        if call.headers.iter().any(|(name, value)| *name == "If-None-Match" && *value == tag) {
            return answer(304, &[], &json!(null));
        }
        let repository = |id: u64| {
            json!({
                "id": id, "name": format!("r{id:03}"), "owner": {"login": "acme"}, "private": true,
                "default_branch": "main", "archived": id == 7, "description": tag,
            })
        };
        let last = (page * 100).min(230);
        // The first of each page is the last of the one before, as when one was added while the pages were read.
        let from = ((page - 1) * 100).max(1);
        let repositories: Vec<_> = (from..=last).map(repository).collect();
        answer(200, &[("etag", &tag)], &json!({"total_count": 230, "repositories": repositories}))
    });
    let (db, cache) = (Native::new(), Cache::in_memory());
    let vars = std::collections::BTreeMap::from([
        ("GITHUB_APP_ID", "1"),
        ("GITHUB_APP_INSTALLATION_ID", "2"),
        ("GITHUB_APP_PRIVATE_KEY", app_key().pkcs8.as_str()),
        ("TOKEN_ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ]);
    let github = Github::new(&vars, cache.clone(), &db).expect("is set up");
    let read = async |at| repository_cache::read_list(&cache, &db, &github, UnixMillis(at)).await.expect("is read");
    let statuses = || {
        let mut statuses: Vec<u16> = std::mem::take(&mut *recorded.borrow_mut())
            .iter()
            .filter(|one| one.call.method == "GET")
            .map(|one| one.status)
            .collect();
        statuses.sort_unstable();
        statuses
    };
    let first = read(0).await.repositories();
    assert_eq!(first.len(), 229, "each once, and not the one that is archived");
    assert!(first.is_sorted_by_key(|facts| facts.name.clone()));
    assert_eq!(statuses(), [200, 200, 200]);
    read(299_999).await;
    assert_eq!(statuses(), [0_u16; 0], "it is fresh");
    changed.set(2);
    let second = read(300_000).await.repositories();
    assert_eq!(statuses(), [200, 304, 304]);
    assert_eq!(second.iter().filter(|facts| facts.description.as_deref() == Some("\"2-new\"")).count(), 100);
    repository_cache::outdate_list(&cache).await;
    assert!(repository_cache::kept_list(&cache).await.is_some_and(|kept| !kept.may_be_served()));
    read(300_001).await;
    assert_eq!(statuses(), [304, 304, 304], "a webhook makes it be asked for again, and what did not change is kept");
}

#[tokio::test]
async fn what_is_known_of_a_repository_is_asked_for_once_in_a_while() {
    let world = World::start().await;
    let github = world.github();
    let sample = name("acme/sample-service");
    let facts = async |of: &str, at| {
        let facts = repository_cache::facts(&world.cache, &github, &name(of), UnixMillis(at)).await.expect("answers");
        facts.map(|facts| facts.default_branch)
    };
    assert_eq!(facts("acme/sample-service", 0).await.as_deref(), Some("main"));
    world.take();
    assert_eq!(facts("Acme/Sample-Service", 299_999).await.as_deref(), Some("main"));
    assert_eq!(world.take().len(), 0);
    facts("acme/sample-service", 300_000).await;
    assert_eq!(world.take().len(), 1);
    repository_cache::forget(&world.cache, &sample).await;
    facts("acme/sample-service", 300_001).await;
    assert_eq!(world.take().len(), 1);
    for _ in 0..2 {
        assert_eq!(facts("acme/no-such", 0).await, None);
    }
    assert_eq!(world.take().len(), 2, "what is not there may be the next moment");
}

#[tokio::test]
async fn an_owner_that_would_be_a_path_is_never_sent() {
    let world = World::start().await;
    let github = world.github();
    let strange = name("acme/sample-service/pulls");
    assert_eq!(github.repository(&strange).await, Ok(None));
    assert!(github.branches(&strange, 1).await.is_err());
    assert!(github.branch_head(&strange, &branch("main")).await.is_err());
    assert!(github.pull_request(&strange, 1).await.is_err());
    assert_eq!(world.take().len(), 0);
}

#[tokio::test]
async fn branches_come_page_by_page() {
    let world = World::start().await;
    world.push("Fix/ä#1", "main").await;
    let github = world.github();
    let page = github.branches(&name("acme/sample-service"), 1).await.expect("answers").expect("is there");
    assert_eq!((page.names, page.has_more), (vec!["Fix/ä#1".to_owned(), "main".to_owned()], false));
    let beyond = github.branches(&name("acme/sample-service"), 2).await.expect("answers").expect("is there");
    assert_eq!((beyond.names, beyond.has_more), (vec![], false));
    assert_eq!(github.branches(&name("acme/no-such"), 1).await, Ok(None));
    assert!(github.branch_head(&name("acme/sample-service"), &branch("Fix/ä#1")).await.expect("answers").is_some());
    assert_eq!(github.branch_head(&name("acme/sample-service"), &branch("Fix")).await, Ok(None));
    let long = scripted(|call| {
        if call.method == "POST" {
            return token();
        }
        answer(
            200,
            &[("link", "<https://x?page=2>; rel=\"next\", <https://x?page=9>; rel=\"last\"")],
            &json!([{"name": "a"}]),
        )
    });
    let page = world.github().branches(&name("acme/other"), 1).await.expect("answers").expect("is there");
    assert!(page.has_more && long.borrow().last().expect("a call").call.url.ends_with("?per_page=100&page=1"));
}

#[tokio::test]
async fn github_enterprise_may_be_below_a_path() {
    let world = World::start_at("/git/hub").await;
    let github = world.github();
    let repository = name("acme/sample-service");
    assert_eq!(github.repository(&repository).await.expect("answers").map(|facts| facts.id), Some(1001));
    assert_eq!(github.repositories(Listing::default()).await.expect("is listed").into_repositories().len(), 2);
    world.push("fix", "main").await;
    assert!(github.branch_head(&repository, &branch("fix")).await.expect("answers").is_some());
    assert!(world.take().iter().all(|one| one.path().starts_with("/git/hub/api/v3/")));
}
