//! Clone, fetch and push with the real git.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_clone_brings_the_seeded_history() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let checkout = forge.clone_sample(&token).await;
    let log = checkout.git(&["log", "--reverse", "--format=%an|%s"]).await.ok();
    assert_eq!(
        log,
        "Grace Hopper|Start the sample service\nAda Lovelace|Answer over HTTP\nGrace Hopper|Test the greeting\n\
         Linus Pauling|Describe how to run and check the service\n"
    );
    let check = tokio::process::Command::new("sh").arg("check.sh").current_dir(&checkout.path).output().await.unwrap();
    assert!(String::from_utf8_lossy(&check.stdout).contains("All checks passed."), "{check:?}");
    // Partial and shallow clones, as sandboxes make them.
    let shallow = Checkout::clone(&forge.remote(&token, "acme/handbook")).await;
    shallow.git(&["fetch", "-q", "--depth=1", "--filter=blob:none", "origin", "main"]).await.ok();
}

#[tokio::test]
async fn a_push_makes_moves_and_deletes_branches() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let checkout = forge.clone_sample(&token).await;
    let branch = "/repos/acme/sample-service/branches/open-inspect/0a1b";
    forge.get(branch, &token).await.expect(404);

    let first = checkout.commit("a.txt", "1\n", "One").await;
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/open-inspect/0a1b"]).await.ok();
    assert_eq!(forge.get(branch, &token).await.expect(200)["commit"]["sha"], first);
    let encoded = "/repos/acme/sample-service/branches/open-inspect%2F0a1b";
    assert_eq!(forge.get(encoded, &token).await.expect(200)["name"], "open-inspect/0a1b");
    let reference = forge.get("/repos/acme/sample-service/git/ref/heads/open-inspect/0a1b", &token).await.expect(200);
    assert_eq!(reference["object"]["sha"], first);

    checkout.git(&["commit", "-q", "--amend", "-m", "Other"]).await.ok();
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/open-inspect/0a1b"]).await.refused();
    checkout.git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/open-inspect/0a1b"]).await.ok();
    let commit = forge.get("/repos/acme/sample-service/commits/open-inspect/0a1b", &token).await.expect(200);
    assert_eq!(commit["commit"]["message"], "Other");
    assert_eq!(commit["author"]["login"], "ada");
    assert_eq!(commit["files"][0]["patch"], "@@ -0,0 +1 @@\n+1");

    checkout.git(&["push", "-q", "origin", ":refs/heads/open-inspect/0a1b"]).await.ok();
    forge.get(branch, &token).await.expect(404);
    // What belongs to pull requests is the forge's alone.
    checkout.git(&["push", "-q", "origin", "HEAD:refs/pull/1/head"]).await.refused();
}

#[tokio::test]
async fn a_push_of_many_megabytes_streams_through() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let checkout = forge.clone_sample(&token).await;
    // Not compressible, and larger than git's post buffer, so that it is sent in chunks.
    let noise: Vec<u8> = (0..4_000_000_u64)
        .scan(1_u64, |state, _| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*state >> 33) as u8)
        })
        .collect();
    std::fs::write(checkout.path.join("noise.bin"), noise).unwrap();
    checkout.git(&["add", "--all"]).await.ok();
    checkout.git(&["commit", "-q", "-m", "Noise"]).await.ok();
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/noise"]).await.ok();
    let again = Checkout::clone(&forge.remote(&token, "acme/sample-service")).await;
    again.git(&["checkout", "-q", "noise"]).await.ok();
    assert_eq!(std::fs::metadata(again.path.join("noise.bin")).unwrap().len(), 4_000_000);
}

#[tokio::test]
async fn git_asks_for_credentials_and_refuses_wrong_ones() {
    let forge = TestForge::start().await;
    let folder = tempfile::tempdir().unwrap();
    let anonymous = forge.page("/acme/sample-service.git/info/refs?service=git-upload-pack").await;
    assert_eq!(anonymous.status, 401);
    assert_eq!(anonymous.header("www-authenticate"), "Basic realm=\"GitHub\"");
    git_in(folder.path(), &["clone", "-q", &forge.remote("ghs_wrong", "acme/sample-service")]).await.refused();
    // Public: anyone reads, nobody without a token writes.
    let public = Checkout::clone(&format!("{}/acme/handbook", forge.url)).await;
    public.commit("x.txt", "x\n", "X").await;
    public.git(&["push", "-q", "origin", "HEAD:refs/heads/x"]).await.refused();
    let dumb = forge.page("/acme/handbook.git/info/refs").await;
    assert_eq!(dumb.status, 403);
}

#[tokio::test]
async fn a_token_writes_only_where_it_may() {
    let forge = TestForge::start().await;
    let all = forge.installation_token(json!({})).await;
    let handbook_only = forge.installation_token(json!({ "repositories": ["handbook"] })).await;
    let read_only = forge.installation_token(json!({ "permissions": { "contents": "read" } })).await;
    let checkout = forge.clone_sample(&all).await;
    checkout.commit("a.txt", "1\n", "One").await;
    let to = |token: &str| forge.remote(token, "acme/sample-service");

    let said = checkout.git(&["push", &to(&handbook_only), "HEAD:refs/heads/a"]).await.refused();
    assert!(said.contains("not found"), "{said}");
    checkout.git(&["fetch", "-q", &to(&handbook_only), "main"]).await.refused();
    checkout.git(&["fetch", "-q", &to(&read_only), "main"]).await.ok();
    checkout.git(&["push", &to(&read_only), "HEAD:refs/heads/a"]).await.refused();

    let linus = forge.user_token("linus").await;
    checkout.git(&["fetch", "-q", &to(&linus), "main"]).await.refused();
    let grace = forge.user_token("grace").await;
    checkout.git(&["push", "-q", &to(&grace), "HEAD:refs/heads/a"]).await.ok();
    let branches = forge.get("/repos/acme/sample-service/branches", &all).await.expect(200);
    assert_eq!(branches.as_array().unwrap().len(), 2);
}
