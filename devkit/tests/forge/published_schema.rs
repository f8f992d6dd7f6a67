//! Every answer against the description that GitHub publishes (`tests/fixtures/github-openapi.json`).

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::*;

struct Published(Value);

impl Published {
    fn load() -> Self {
        Self(serde_json::from_str(include_str!("../fixtures/github-openapi.json")).unwrap())
    }

    fn validator(&self, operation: &str, part: &str) -> Validator {
        let schema = &self.0["operations"][operation][part];
        assert!(schema.is_object(), "{operation} {part} is not described");
        let mut schema = json!({ "allOf": [schema] });
        schema["$defs"] = self.0["$defs"].clone();
        jsonschema::options().should_validate_formats(false).build(&schema).unwrap()
    }

    #[track_caller]
    fn check(&self, operation: &str, answer: &Answer) -> Value {
        let body = answer.json();
        let validator = self.validator(operation, &answer.status.to_string());
        let errors: Vec<String> =
            validator.iter_errors(&body).map(|e| format!("{} at {}", e.masked(), e.instance_path())).collect();
        assert!(errors.is_empty(), "{operation} {}: {errors:#?}", answer.status);
        body
    }
}

#[tokio::test]
async fn answers_have_the_shape_that_github_publishes() {
    let published = Published::load();
    let forge = TestForge::start().await;
    let jwt = good_jwt();
    let token = forge.installation_token(json!({})).await;
    let user = forge.user_token("ada").await;
    forge.open_pull(&token, "one", "One").await;
    let tokens = format!("/app/installations/{INSTALLATION}/access_tokens");
    let narrowed = forge.post(&tokens, &jwt, json!({ "repositories": ["handbook"] })).await;
    published.check("POST /app/installations/{installation_id}/access_tokens", &narrowed);
    let repo = "/repos/acme/sample-service";
    let comment = forge.post(&format!("{repo}/issues/1/comments"), &token, json!({ "body": "x" })).await;
    published.check("POST /repos/{owner}/{repo}/issues/{issue_number}/comments", &comment);
    // With a description: GitHub sends null without one, which its own schema of a list's labels doesn't allow.
    let label = json!({ "name": "l", "color": "00ff00", "description": "d" });
    let label = forge.post(&format!("{repo}/labels"), &token, label).await;
    published.check("POST /repos/{owner}/{repo}/labels", &label);
    let labels = forge.post(&format!("{repo}/issues/1/labels"), &token, json!({ "labels": ["l"] })).await;
    published.check("POST /repos/{owner}/{repo}/issues/{issue_number}/labels", &labels);
    let again =
        forge.post(&format!("{repo}/pulls"), &token, json!({ "title": "t", "head": "one", "base": "main" })).await;
    assert_eq!(again.status, 422);
    published.check("POST /repos/{owner}/{repo}/pulls", &again);

    for (described, path, token) in [
        ("/app", "/app", &jwt),
        ("/installation/repositories", "/installation/repositories", &token),
        ("/repos/{owner}/{repo}", "/repos/acme/sample-service", &token),
        ("/repos/{owner}/{repo}/installation", "/repos/acme/sample-service/installation", &jwt),
        ("/repos/{owner}/{repo}/branches", "/repos/acme/sample-service/branches", &token),
        ("/repos/{owner}/{repo}/branches/{branch}", "/repos/acme/sample-service/branches/one", &token),
        ("/repos/{owner}/{repo}/branches/{branch}", "/repos/acme/sample-service/branches/no", &token),
        ("/repos/{owner}/{repo}/git/ref/{ref}", "/repos/acme/sample-service/git/ref/heads/one", &token),
        ("/repos/{owner}/{repo}/commits/{ref}", "/repos/acme/sample-service/commits/one", &token),
        ("/repos/{owner}/{repo}/pulls", "/repos/acme/sample-service/pulls", &token),
        ("/repos/{owner}/{repo}/pulls/{pull_number}", "/repos/acme/sample-service/pulls/1", &token),
        ("/repos/{owner}/{repo}/pulls/{pull_number}", "/repos/acme/sample-service/pulls/9", &token),
        ("/repos/{owner}/{repo}/pulls/{pull_number}/files", "/repos/acme/sample-service/pulls/1/files", &token),
        ("/repos/{owner}/{repo}/pulls/{pull_number}/commits", "/repos/acme/sample-service/pulls/1/commits", &token),
        ("/repos/{owner}/{repo}/labels", "/repos/acme/sample-service/labels", &token),
        ("/repos/{owner}/{repo}/labels/{name}", "/repos/acme/sample-service/labels/l", &token),
        (
            "/repos/{owner}/{repo}/issues/{issue_number}/comments",
            "/repos/acme/sample-service/issues/1/comments",
            &token,
        ),
        ("/user", "/user", &user),
        ("/user/emails", "/user/emails", &user),
        ("/user/memberships/orgs/{org}", "/user/memberships/orgs/acme", &user),
        ("/users/{username}", "/users/grace", &user),
    ] {
        published.check(&format!("GET {described}"), &forge.get(path, token).await);
    }
    let merge = forge.call("PUT", &format!("{repo}/pulls/1/merge"), &token, None).await;
    published.check("PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge", &merge);
    // Merged: the fields that were null before are filled.
    published
        .check("GET /repos/{owner}/{repo}/pulls/{pull_number}", &forge.get(&format!("{repo}/pulls/1"), &token).await);
    let patched = forge.call("PATCH", &format!("{repo}/pulls/1"), &token, Some(json!({ "title": "New" }))).await;
    published.check("PATCH /repos/{owner}/{repo}/pulls/{pull_number}", &patched);
    let refused = forge.call("PUT", &format!("{repo}/pulls/1/merge"), &token, None).await;
    published.check("PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge", &refused);
}

#[test]
fn the_check_is_not_empty() {
    let published = Published::load();
    let validator = published.validator("GET /repos/{owner}/{repo}/pulls/{pull_number}", "200");
    assert!(!validator.is_valid(&json!({ "number": 1 })));
}
