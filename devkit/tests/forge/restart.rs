//! What was answered outlives the process.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_restart_keeps_tokens_branches_and_pull_requests() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let user = forge.user_token("ada").await;
    let pull = forge.open_pull(&token, "one", "One").await;
    let pending =
        forge.authorize(&[("client_id", CLIENT_ID), ("redirect_uri", CALLBACK), ("login", "grace")]).await.code;
    let forge = forge.restart().await;
    assert_eq!(forge.get("/repos/acme/sample-service/pulls/1", &token).await.expect(200)["head"], pull["head"]);
    assert_eq!(forge.get("/user", &user).await.expect(200)["login"], "ada");
    assert!(forge.exchange(&[("code", &pending)]).await.expect(200)["access_token"].is_string());
    assert_eq!(forge.open_pull(&token, "two", "Two").await["number"], 2);
}

#[tokio::test]
async fn a_reset_puts_a_repository_back_to_its_seed() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let seeded = forge.get("/repos/acme/sample-service/git/ref/heads/main", &token).await.expect(200);
    forge.open_pull(&token, "one", "One").await;
    forge.call("PUT", "/repos/acme/sample-service/pulls/1/merge", &token, None).await.expect(200);
    let reset = json!({ "owner": "acme", "name": "sample-service" });
    forge.admin("POST", "/_admin/reset-repo", reset).await.expect(200);
    assert_eq!(forge.get("/repos/acme/sample-service/git/ref/heads/main", &token).await.expect(200), seeded);
    assert_eq!(forge.get("/repos/acme/sample-service/pulls?state=all", &token).await.expect(200), json!([]));
    assert_eq!(forge.open_pull(&token, "one", "One").await["number"], 1);
}

#[tokio::test]
async fn the_database_holds_no_token_in_clear() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let user = forge.sign_in("ada").await;
    let mut stored = Vec::new();
    for name in ["forge.sqlite", "forge.sqlite-wal"] {
        stored.extend(std::fs::read(forge.state_dir().join(name)).unwrap_or_default());
    }
    assert!(!stored.is_empty());
    for secret in [&token, user["access_token"].as_str().unwrap(), user["refresh_token"].as_str().unwrap()] {
        let bare = &secret.as_bytes()[4..];
        assert!(!stored.windows(bare.len()).any(|w| w == bare));
    }
}

#[tokio::test]
async fn a_push_that_a_crash_cut_off_from_its_follow_up_is_followed_up_at_the_next_start() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    for branch in ["moved", "gone", "merged", "same"] {
        forge.open_pull(&token, branch, branch).await;
    }
    // Git has the pushes; the process ended before it looked.
    let bare = forge.state_dir().join("repositories/acme/sample-service.git");
    let rev = async |name: &str| git_in(&bare, &["rev-parse", name]).await.ok().trim().to_owned();
    let (gone, merged) = (rev("gone").await, rev("merged").await);
    git_in(&bare, &["update-ref", "refs/heads/moved", &gone]).await.ok();
    git_in(&bare, &["update-ref", "-d", "refs/heads/gone"]).await.ok();
    git_in(&bare, &["update-ref", "refs/heads/main", &merged]).await.ok();
    let forge = forge.restart().await;
    let pull =
        async |number: u64| forge.get(&format!("/repos/acme/sample-service/pulls/{number}"), &token).await.expect(200);
    assert_eq!(pull(1).await["head"]["sha"], gone);
    assert_eq!((&pull(2).await["state"], &pull(2).await["merged"]), (&json!("closed"), &json!(false)));
    assert_eq!((&pull(3).await["state"], &pull(3).await["merged"]), (&json!("closed"), &json!(true)));
    assert_eq!(pull(4).await["state"], "open");
}
