//! Pull requests by the API, over branches that git pushed.

use serde_json::json;

use crate::support::*;

const PULLS: &str = "/repos/acme/sample-service/pulls";

#[tokio::test]
async fn a_pull_request_lives_from_open_to_merged() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let checkout = forge.clone_sample(&token).await;
    let greeting = std::fs::read_to_string(checkout.path.join("src/greeting.js")).unwrap();
    let head = checkout.commit("src/greeting.js", &greeting.replace("Helo", "Hello"), "Fix the greeting").await;
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/fix"]).await.ok();

    let proposal = json!({ "title": "Fix it", "body": "Because.", "head": "acme:fix", "base": "main", "draft": false });
    let pull = forge.post(PULLS, &token, proposal.clone()).await.expect(201);
    assert_eq!(pull["number"], 1);
    assert_eq!(pull["state"], "open");
    assert_eq!(pull["user"]["login"], "open-inspect-dev[bot]");
    assert_eq!(pull["user"]["type"], "Bot");
    assert_eq!(pull["head"]["sha"], head);
    assert_eq!(pull["html_url"], format!("{}/acme/sample-service/pull/1", forge.url));
    assert_eq!((&pull["commits"], &pull["additions"], &pull["deletions"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(pull["mergeable"], true);

    let files = forge.get(&format!("{PULLS}/1/files"), &token).await.expect(200);
    assert_eq!(files[0]["filename"], "src/greeting.js");
    let patch = files[0]["patch"].as_str().unwrap();
    assert!(patch.starts_with("@@ ") && patch.contains("\n-const GREETING = \"Helo\";\n+const GREETING = \"Hello\";"));
    let commits = forge.get(&format!("{PULLS}/1/commits"), &token).await.expect(200);
    assert_eq!(commits[0]["sha"], head);
    assert_eq!(commits[0]["author"]["login"], "ada");

    let twice = forge.post(PULLS, &token, proposal).await.expect(422);
    assert_eq!(twice["errors"][0]["message"], "A pull request already exists for acme:fix.");

    // A push moves it.
    let second = checkout.commit("b.txt", "b\n", "More").await;
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/fix"]).await.ok();
    let moved = forge.get(&format!("{PULLS}/1"), &token).await.expect(200);
    assert_eq!((&moved["head"]["sha"], &moved["commits"]), (&json!(second), &json!(2)));

    let stale = forge.call("PUT", &format!("{PULLS}/1/merge"), &token, Some(json!({ "sha": head }))).await;
    stale.expect(409);
    let merged =
        forge.call("PUT", &format!("{PULLS}/1/merge"), &token, Some(json!({ "sha": second }))).await.expect(200);
    let main = forge.get("/repos/acme/sample-service/git/ref/heads/main", &token).await.expect(200);
    assert_eq!(merged["sha"], main["object"]["sha"]);
    let after = forge.get(&format!("{PULLS}/1"), &token).await.expect(200);
    assert_eq!((&after["state"], &after["merged"]), (&json!("closed"), &json!(true)));
    assert_eq!(after["merged_by"]["login"], "open-inspect-dev[bot]");
    assert_eq!(after["changed_files"], 2, "the diff stays what it was");
    forge.call("PUT", &format!("{PULLS}/1/merge"), &token, None).await.expect(405);
    checkout.git(&["pull", "-q", "origin", "main"]).await.ok();
    let log = checkout.git(&["log", "-1", "--format=%s|%b"]).await.ok();
    assert_eq!(log.trim(), "Merge pull request #1 from acme/fix|Fix it");
}

#[tokio::test]
async fn what_can_not_become_a_pull_request_is_refused_in_githubs_words() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let checkout = forge.clone_sample(&token).await;
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/same"]).await.ok();
    let invalid = |field: &str| json!({ "resource": "PullRequest", "code": "invalid", "field": field });
    let missing = |field: &str| json!({ "resource": "PullRequest", "code": "missing_field", "field": field });
    let custom = |message: &str| json!({ "resource": "PullRequest", "code": "custom", "message": message });
    for (body, error) in [
        (json!({ "title": "t", "head": "nowhere", "base": "main" }), invalid("head")),
        (json!({ "title": "t", "head": "other:same", "base": "main" }), invalid("head")),
        (json!({ "title": "t", "head": "../../x", "base": "main" }), invalid("head")),
        (json!({ "title": "t", "head": "same", "base": "nowhere" }), invalid("base")),
        (json!({ "title": "t", "head": "same", "base": "main" }), custom("No commits between main and same")),
        (json!({ "head": "same", "base": "main" }), missing("title")),
        (json!({ "title": " ", "head": "same", "base": "main" }), missing("title")),
        (json!({ "title": "t", "base": "main" }), missing("head")),
        (
            json!({ "title": "x".repeat(257), "head": "same", "base": "main" }),
            custom("title is too long (maximum is 256 characters)"),
        ),
    ] {
        let answer = forge.post(PULLS, &token, body).await.expect(422);
        assert_eq!(answer["message"], "Validation Failed");
        assert_eq!(answer["errors"], json!([error]));
    }
    assert_eq!(forge.get(&format!("{PULLS}?state=all"), &token).await.expect(200), json!([]));
    forge.get(&format!("{PULLS}/1"), &token).await.expect(404);
    forge.get(&format!("{PULLS}/x"), &token).await.expect(404);
}

#[tokio::test]
async fn a_pull_request_is_its_openers() {
    let forge = TestForge::start().await;
    let grace = forge.user_token("grace").await;
    let pull = forge.open_pull(&grace, "by-grace", "By Grace").await;
    assert_eq!((&pull["user"]["login"], &pull["user"]["id"]), (&json!("grace"), &json!(1906)));
}

#[tokio::test]
async fn lists_are_filtered_and_states_change() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    forge.open_pull(&token, "one", "One").await;
    forge.open_pull(&token, "two", "Two").await;
    let numbers = async |query: &str| -> Vec<u64> {
        let list = forge.get(&format!("{PULLS}?{query}"), &token).await.expect(200);
        list.as_array().unwrap().iter().map(|p| p["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("").await, [2, 1]);
    assert_eq!(numbers("head=acme:one").await, [1]);
    assert_eq!(numbers("head=other:one").await, [0_u64; 0]);
    assert_eq!(numbers("base=other").await, [0_u64; 0]);
    assert_eq!(numbers("direction=asc&per_page=1").await, [1]);
    forge.get(&format!("{PULLS}?state=odd"), &token).await.expect(422);

    let patch = async |number: u64, body| forge.call("PATCH", &format!("{PULLS}/{number}"), &token, Some(body)).await;
    let edited = patch(1, json!({ "title": "Uno", "body": null })).await.expect(200);
    assert_eq!((&edited["title"], &edited["body"]), (&json!("Uno"), &json!(null)));
    let closed = patch(1, json!({ "state": "closed" })).await.expect(200);
    assert_eq!(closed["state"], "closed");
    assert!(closed["closed_at"].is_string());
    assert_eq!(numbers("").await, [2]);
    assert_eq!(numbers("state=closed").await, [1]);
    assert_eq!(patch(1, json!({ "state": "open" })).await.expect(200)["closed_at"], json!(null));

    // A branch that goes away closes its pull request, and the diff can still be read.
    let checkout = forge.clone_sample(&token).await;
    checkout.git(&["push", "-q", "origin", ":refs/heads/two"]).await.ok();
    let gone = forge.get(&format!("{PULLS}/2"), &token).await.expect(200);
    assert_eq!((&gone["state"], &gone["changed_files"]), (&json!("closed"), &json!(1)));
    patch(2, json!({ "state": "open" })).await.expect(422);
}

#[tokio::test]
async fn a_conflict_is_not_merged() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    forge.open_pull(&token, "theirs", "Theirs").await;
    let checkout = forge.clone_sample(&token).await;
    let main = checkout.commit("notes.txt", "other\n", "Other notes").await;
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]).await.ok();
    let pull = forge.get(&format!("{PULLS}/1"), &token).await.expect(200);
    assert_eq!((&pull["mergeable"], &pull["mergeable_state"]), (&json!(false), &json!("dirty")));
    forge.call("PUT", &format!("{PULLS}/1/merge"), &token, None).await.expect(405);
    let now = forge.get("/repos/acme/sample-service/git/ref/heads/main", &token).await.expect(200);
    assert_eq!(now["object"]["sha"], main);
}

#[tokio::test]
async fn labels_and_comments_are_kept() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    forge.open_pull(&token, "one", "One").await;
    let repo = "/repos/acme/sample-service";
    forge.get(&format!("{repo}/labels/open-inspect"), &token).await.expect(404);
    let label = json!({ "name": "open-inspect", "color": "ededed" });
    forge.post(&format!("{repo}/labels"), &token, label.clone()).await.expect(201);
    let twice = forge.post(&format!("{repo}/labels"), &token, label).await.expect(422);
    assert_eq!(twice["errors"][0]["code"], "already_exists");
    forge.get(&format!("{repo}/labels/Open-Inspect"), &token).await.expect(200);
    let put = json!({ "labels": ["open-inspect", "new"] });
    let labels = forge.post(&format!("{repo}/issues/1/labels"), &token, put).await.expect(200);
    assert_eq!(labels.as_array().unwrap().len(), 2);
    assert_eq!(forge.get(&format!("{PULLS}/1"), &token).await.expect(200)["labels"][0]["name"], "open-inspect");

    forge.post(&format!("{repo}/issues/1/comments"), &token, json!({ "body": "Nice" })).await.expect(201);
    forge.post(&format!("{repo}/issues/9/comments"), &token, json!({ "body": "Nice" })).await.expect(404);
    forge.post(&format!("{repo}/issues/1/comments"), &token, json!({ "body": " " })).await.expect(422);
    let comments = forge.get(&format!("{repo}/issues/1/comments"), &token).await.expect(200);
    assert_eq!(comments[0]["body"], "Nice");
    assert_eq!(forge.get(&format!("{PULLS}/1"), &token).await.expect(200)["comments"], 1);
}

#[tokio::test]
async fn a_push_of_its_commits_to_the_base_merges_it() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let pull = forge.open_pull(&token, "one", "One").await;
    let checkout = forge.clone_sample(&token).await;
    checkout.git(&["push", "-q", "origin", "origin/one:refs/heads/main"]).await.ok();
    let after = forge.get(&format!("{PULLS}/1"), &token).await.expect(200);
    assert_eq!((&after["merged"], &after["merge_commit_sha"]), (&json!(true), &pull["head"]["sha"]));
    assert_eq!(after["changed_files"], 1, "the diff stays what it was");
}
