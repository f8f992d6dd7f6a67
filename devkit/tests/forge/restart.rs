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
