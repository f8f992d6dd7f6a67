//! The App's JWT and its installation tokens.

use base64::Engine as _;
use serde_json::json;

use crate::support::*;

fn tokens_path() -> String {
    format!("/app/installations/{INSTALLATION}/access_tokens")
}

#[tokio::test]
async fn an_app_gets_a_token_that_reaches_its_repositories() {
    let forge = TestForge::start().await;
    assert_eq!(forge.get("/app", &good_jwt()).await.expect(200)["id"], APP_ID);
    let answer = forge.call("POST", &tokens_path(), &good_jwt(), None).await.expect(201);
    assert_eq!(answer["repository_selection"], "all");
    assert_eq!(answer["permissions"]["contents"], "write");
    let token = answer["token"].as_str().unwrap();
    assert!(token.starts_with("ghs_") && token.len() == 40, "{token}");

    let list = forge.get("/installation/repositories", token).await.expect(200);
    assert_eq!(list["total_count"], 2);
    assert_eq!(list["repositories"][0]["full_name"], "acme/sample-service");
    assert_eq!(list["repositories"][0]["private"], true);
    let found = forge.get("/repos/ACME/Sample-Service", token).await.expect(200);
    assert_eq!(found["default_branch"], "main");
    let by_id = forge.get(&format!("/repositories/{}", found["id"]), token).await.expect(200);
    assert_eq!(by_id["full_name"], "acme/sample-service");
    let installation = forge.get("/repos/acme/sample-service/installation", &good_jwt()).await.expect(200);
    assert_eq!(installation["id"], INSTALLATION);
}

#[tokio::test]
async fn lists_come_in_pages_and_with_a_tag() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let first = forge.get("/installation/repositories?per_page=1", &token).await;
    assert_eq!(first.expect(200)["repositories"].as_array().unwrap().len(), 1);
    let link = first.header("link");
    assert!(link.contains("page=2>; rel=\"next\"") && link.contains("rel=\"last\""), "{link}");
    let tag = first.header("etag").to_owned();
    let again = forge
        .http
        .get(format!("{}/api/v3/installation/repositories?per_page=1", forge.url))
        .bearer_auth(&token)
        .header("if-none-match", &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(again.bytes().await.unwrap().len(), 0);
    let second = forge.get("/installation/repositories?per_page=1&page=2", &token).await;
    assert_eq!(second.expect(200)["repositories"][0]["name"], "handbook");
    assert!(!second.header("link").contains("next"));
}

#[tokio::test]
async fn a_jwt_that_is_not_the_apps_own_is_refused() {
    let forge = TestForge::start().await;
    let claims = |iat: i64, exp: i64, iss: &str| json!({ "iat": now() + iat, "exp": now() + exp, "iss": iss });
    let id = APP_ID.to_string();
    let part = |value: &serde_json::Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims(-60, 500, &id)));
    // The public key is public: using it as an HMAC secret must not do.
    let confused = jsonwebtoken::encode(
        &jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256),
        &claims(-60, 500, &id),
        &jsonwebtoken::EncodingKey::from_secret(app_key().public_pem.as_bytes()),
    )
    .unwrap();
    let good = good_jwt();
    let mut pieces: Vec<&str> = good.split('.').collect();
    let other_claims = part(&claims(-60, 501, &id));
    pieces[1] = &other_claims;
    let altered = pieces.join(".");
    for (why, token, status) in [
        ("another key", jwt(other_key(), &claims(-60, 500, &id)), 401),
        ("expired", jwt(app_key(), &claims(-700, -1, &id)), 401),
        ("too far in the future", jwt(app_key(), &claims(-60, 700, &id)), 401),
        ("issued in the future", jwt(app_key(), &claims(120, 500, &id)), 401),
        ("no times", jwt(app_key(), &json!({ "iss": id })), 401),
        ("times as text", jwt(app_key(), &json!({ "iss": id, "iat": "1", "exp": "9999999999" })), 401),
        ("another app", jwt(app_key(), &claims(-60, 500, "1")), 404),
        ("no algorithm", unsigned, 401),
        ("another algorithm", confused, 401),
        ("altered", altered, 401),
        ("nonsense", "a.b.c".to_owned(), 401),
        ("no jwt", "ghs_0123456789".to_owned(), 401),
        ("nothing", String::new(), 401),
    ] {
        let answer = forge.call("POST", &tokens_path(), &token, None).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text);
        let body = answer.json();
        assert_eq!(body["status"], status.to_string(), "{why}");
        assert!(body["message"].is_string() && body["documentation_url"].is_string(), "{why}");
    }
    let elsewhere = forge.call("POST", "/app/installations/78/access_tokens", &good_jwt(), None).await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn a_narrowed_token_reaches_only_what_it_names() {
    let forge = TestForge::start().await;
    let body = json!({ "repositories": ["handbook"], "permissions": { "contents": "read" } });
    let answer = forge.post(&tokens_path(), &good_jwt(), body).await.expect(201);
    assert_eq!(answer["repository_selection"], "selected");
    assert_eq!(answer["repositories"][0]["name"], "handbook");
    assert_eq!(answer["permissions"], json!({ "contents": "read", "metadata": "read" }));
    let token = answer["token"].as_str().unwrap();
    assert_eq!(forge.get("/installation/repositories", token).await.expect(200)["total_count"], 1);
    assert_eq!(forge.get("/repos/acme/handbook/branches", token).await.status, 200);
    // Private and out of scope: it isn't there.
    forge.get("/repos/acme/sample-service", token).await.expect(404);
    let pull = json!({ "title": "t", "head": "main", "base": "main" });
    forge.post("/repos/acme/sample-service/pulls", token, pull.clone()).await.expect(404);
    let refused = forge.post("/repos/acme/handbook/pulls", token, pull).await.expect(403);
    assert_eq!(refused["message"], "Resource not accessible by integration");

    for body in [
        json!({ "repositories": ["nothing"] }),
        json!({ "repository_ids": [1] }),
        json!({ "permissions": { "contents": "admin" } }),
        json!({ "permissions": { "secrets": "write" } }),
        json!({ "repositories": "handbook" }),
    ] {
        forge.post(&tokens_path(), &good_jwt(), body).await.expect(422);
    }
    // A revoked token is no token.
    forge.call("DELETE", "/installation/token", token, None).await.expect(204);
    forge.get("/repos/acme/handbook", token).await.expect(401);
}

#[tokio::test]
async fn a_private_repository_is_hidden_from_who_may_not_read_it() {
    let forge = TestForge::start().await;
    let linus = forge.user_token("linus").await;
    for token in ["", &linus] {
        for path in ["", "/branches", "/pulls", "/labels", "/git/ref/heads/main", "/commits/main"] {
            let answer = forge.get(&format!("/repos/acme/sample-service{path}"), token).await.expect(404);
            assert_eq!(answer["message"], "Not Found");
        }
        assert_eq!(forge.get("/repos/acme/handbook", token).await.status, 200);
    }
    forge.get("/repos/acme/handbook", "ghs_wrong").await.expect(401);
}
