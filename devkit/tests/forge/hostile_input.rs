//! Input that is wrong or meant to harm: a clear refusal, and nothing changed.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::*;

/// Sends a request line as it is: HTTP clients would tidy the path up.
async fn raw(forge: &TestForge, method: &str, path: &str, token: &str) -> String {
    let address = forge.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: t\r\nConnection: close\r\n{authorization}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_path_leads_out_of_the_repositories() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    std::fs::write(forge.state_dir().join("secret.txt"), "TOP SECRET").unwrap();
    for path in [
        "/api/v3/repos/../../secret.txt",
        "/api/v3/repos/%2e%2e/%2e%2e",
        "/api/v3/repos/acme/%2e%2e%2fsecret.txt",
        "/api/v3/repos/acme/sample-service/branches/..%2f..%2f..%2fsecret.txt",
        "/api/v3/repos/acme/sample-service/branches/--output=x",
        "/api/v3/repos/acme/sample-service/git/ref/heads/../../../secret.txt",
        "/api/v3/repos/acme/sample-service/commits/--all",
        "/api/v3/repos/acme/sample-service/commits/HEAD:README.md",
        "/api/v3/repos/acme/sample-service%00/branches",
        "/../secret.txt",
        "/acme/..%2f..%2fsecret.txt",
        "/acme/sample-service/blob/main/..%2f..%2f..%2fsecret.txt",
        "/acme/sample-service/tree/..%2f..%2fsecret.txt",
        "/acme/sample-service/commit/--help",
        "/%2e%2e/%2e%2e/info/refs?service=git-upload-pack",
        "/acme/sample-service.git/../../secret.txt",
        "/acme/sample-service.git/objects/info/packs",
        "/acme/sample-service.git/config",
        "/acme/sample-service.git/HEAD",
    ] {
        let answer = raw(&forge, "GET", path, &token).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "401" | "404" | "422"), "{path}: {answer}");
        assert!(!answer.contains("TOP SECRET"), "{path}");
    }
    // A path inside a commit that climbs is no path of that commit.
    let head = forge.get("/repos/acme/sample-service/git/ref/heads/main", &token).await.expect(200);
    let sha = head["object"]["sha"].as_str().unwrap();
    let answer = raw(&forge, "GET", &format!("/acme/sample-service/blob/{sha}/..%2f..%2fsecret.txt"), "").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn bodies_that_are_wrong_get_a_clear_refusal() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let send = async |body: Vec<u8>| {
        let request = forge
            .http
            .post(format!("{}/api/v3/repos/acme/sample-service/pulls", forge.url))
            .bearer_auth(&token)
            .header("content-type", "application/json")
            .body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    assert_eq!(send(b"{".to_vec()).await.expect(400)["message"], "Problems parsing JSON");
    assert_eq!(send(vec![0xff, 0xfe, 0]).await.expect(400)["message"], "Problems parsing JSON");
    assert_eq!(send(b"[]".to_vec()).await.expect(400)["message"], "Body should be a JSON object");
    send(br#"{"title":1,"head":"a","base":"main"}"#.to_vec()).await.expect(422);
    send("[".repeat(100_000).into_bytes()).await.expect(400);
    assert_eq!(send(vec![b' '; 1024 * 1024 + 1]).await.status, 413);
    assert_eq!(forge.admin("GET", "/_admin/pulls", json!({})).await.expect(200), json!({ "pulls": [] }));

    for (method, path) in [("GET", "/nothing"), ("PATCH", "/user"), ("DELETE", "/repos/acme/sample-service")] {
        let answer = forge.call(method, path, &token, None).await.expect(404);
        assert_eq!(answer["message"], "Not Found");
    }
    let silent = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = silent.get(format!("{}/api/v3/users/ada", forge.url)).send().await.unwrap();
    assert_eq!(answer.status(), 403, "GitHub asks for a User-Agent");
}

#[tokio::test]
async fn admin_calls_need_the_admin_secret() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    for path in ["/_admin/reset-repo", "/_admin/fail"] {
        for secret in ["", "wrong", &token] {
            let request = forge.http.post(format!("{}{path}", forge.url)).bearer_auth(secret).json(&json!({}));
            assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
        }
    }
    assert_eq!(forge.page("/_admin/pulls").await.status, 401);
}

#[tokio::test]
async fn a_failure_that_was_asked_for_comes_as_often_as_asked() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let fault = json!({ "pathPrefix": "/api/v3/repos/acme/sample-service/pulls", "status": 502, "times": 2 });
    forge.admin("POST", "/_admin/fail", fault).await.expect(200);
    let pulls = "/repos/acme/sample-service/pulls";
    forge.get("/repos/acme/sample-service", &token).await.expect(200);
    forge.get(pulls, &token).await.expect(502);
    forge.get(pulls, &token).await.expect(502);
    forge.get(pulls, &token).await.expect(200);
    for bad in [
        json!({ "pathPrefix": "/x", "status": 200 }),
        json!({ "pathPrefix": "x", "status": 500 }),
        json!({ "pathPrefix": "/x", "status": 500, "times": 0 }),
    ] {
        forge.admin("POST", "/_admin/fail", bad).await.expect(422);
    }
}
