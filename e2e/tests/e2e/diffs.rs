//! What a session changed since its start: uploaded by its sandbox, read by people.

use std::time::Duration;

use e2e::api::{Answer, Person, raw};
use e2e::bridge::Bridge;
use e2e::socket::{Received, subscribe};
use e2e::stack::Ready;
use e2e::{Failed, Outcome, check, check_eq};
use oi_protocol::limits::{DIFF_BUNDLE_MAX_BYTES, DIFF_FAILURE_MAX_BYTES};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;

const PATCH: &str = "diff --git a/src/lib.rs b/src/lib.rs\n@@ -1 +1 @@\n-old\n+né\n";

fn bundle(base_sha: &str) -> Value {
    let binary = json!({"id": "logo", "path": "logo.png", "status": "added", "additions": null, "deletions": null,
        "renderState": "binary"});
    let text = json!({"id": "lib", "path": "src/lib.rs", "status": "modified", "additions": 1, "deletions": 1,
        "renderState": "renderable", "patch": PATCH});
    json!({"version": 1, "triggerMessageId": null, "capturedAt": 1_800_000_000_000_i64, "repositories": [
        {"status": "ready", "position": 0, "repoOwner": "acme", "repoName": "sample-service", "baseSha": base_sha,
            "headSha": "b".repeat(40), "truncated": false, "omittedFileCount": 0, "files": [text, binary]}]})
}

async fn send(ready: &Ready, method: Method, path: &str, token: &str, body: Vec<u8>) -> Outcome<Answer> {
    let headers = [("Authorization", format!("Bearer {token}")), ("Content-Type", "application/json".to_owned())];
    raw(ready, method, path, &headers, Some(body)).await
}

async fn state(person: &Person, session: &str) -> Outcome<Value> {
    let answer = person.call(Method::GET, &format!("/api/sessions/{session}/diff"), None).await?;
    check_eq!(answer.status.as_u16(), 200, "the state ({})", answer.text);
    Ok(answer.json)
}

/// Waits for a frame of a type that the session sends to a bridge.
async fn command(bridge: &mut Bridge, kind: &str) -> Outcome {
    for _ in 0..20 {
        match bridge.raw()?.receive(Duration::from_secs(10)).await? {
            Received::Json(frame) if frame["type"] == kind => return Ok(()),
            Received::Json(_) => {}
            Received::Closed(code, reason) => return Err(Failed(format!("closed with {code} {reason}"))),
        }
    }
    Err(Failed(format!("no {kind}")))
}

pub async fn a_sandbox_uploads_what_changed_and_a_page_reads_it(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let (session, other) = (ada.create_session().await?, ada.create_session().await?);
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    let stranger = world.backend()?.sandbox_of(&other).await?.auth_token;
    let token = sandbox.auth_token.clone();
    let upload = format!("/sessions/{session}/diff");
    let base = "a".repeat(40);
    let good = || bundle(&base).to_string().into_bytes();

    check_eq!(state(&ada, &session).await?["unavailableReason"], "Changes unavailable for this session", "no baseline");
    let early = send(ready, Method::PUT, &upload, &token, good()).await?;
    check_eq!(early.status.as_u16(), 409, "before a baseline ({})", early.text);
    let mut bridge = Bridge::new(sandbox);
    bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    let baseline = json!({"position": 0, "repoOwner": "acme", "repoName": "sample-service", "baseSha": base});
    bridge.emit(json!({"type": "ready", "runtimeVersion": "v100-test", "repositories": [baseline]})).await;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;

    for wrong in ["0".repeat(32), stranger] {
        let refused = send(ready, Method::PUT, &upload, &wrong, good()).await?;
        check_eq!(refused.status.as_u16(), 401, "a wrong token ({})", refused.text);
        let failure = br#"{"error":"forged"}"#.to_vec();
        let refused = send(ready, Method::POST, &format!("{upload}/failure"), &wrong, failure).await?;
        check_eq!(refused.status.as_u16(), 401, "a wrong token's failure ({})", refused.text);
    }
    for (what, status, body) in [
        ("no JSON", 400, b"{".to_vec()),
        ("another form", 400, b"{}".to_vec()),
        ("another baseline", 400, bundle(&"c".repeat(40)).to_string().into_bytes()),
        ("too long", 413, vec![b' '; DIFF_BUNDLE_MAX_BYTES + 1]),
    ] {
        let refused = send(ready, Method::PUT, &upload, &token, body).await?;
        check_eq!(refused.status.as_u16(), status, "{what} ({})", refused.text);
        if status == 413 {
            check_eq!(refused.json["error"], "Session diff bundles must be 1572864 bytes or smaller", "{what}");
        }
    }
    check_eq!(state(&ada, &session).await?["current"], Value::Null, "nothing was stored so far");

    let page_token = ada.ws_token(&session).await?;
    let (mut page, _) = subscribe(ready, &session, &page_token, None).await?;
    let stored = send(ready, Method::PUT, &upload, &token, good()).await?;
    check_eq!(stored.status.as_u16(), 200, "an upload ({})", stored.text);
    let revision = stored.json["revisionId"].as_str().ok_or_else(|| Failed(stored.text.clone()))?.to_owned();
    let told = page.wait_for(Duration::from_secs(5), |frame| frame["type"] == "diff_state_changed").await?;
    check_eq!(told["revisionId"], json!(revision), "what the page is told");

    let shown = state(&ada, &session).await?;
    check_eq!(shown["current"]["revisionId"], json!(revision), "the state's revision");
    check_eq!(shown["current"]["repositories"][0]["files"][0]["path"], "src/lib.rs", "a file of the state");
    check!(!shown.to_string().contains("+né"), "the state has no patch: {shown}");
    let file = format!("/api/sessions/{session}/diff/{revision}/files/lib");
    let response = reqwest::Client::new()
        .get(format!("{}{file}", ready.base_url))
        .header("Cookie", &ada.cookie)
        .timeout(Duration::from_secs(10))
        .send()
        .await?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    check_eq!(header("content-type").unwrap_or_default(), "text/x-diff; charset=utf-8", "the patch's type");
    check_eq!(header("x-content-type-options").unwrap_or_default(), "nosniff", "no sniffing");
    check_eq!(response.text().await?, PATCH, "the patch");
    for (path, status, code) in [
        (format!("/api/sessions/{session}/diff/old/files/lib"), 409, "diff_revision_stale"),
        (format!("/api/sessions/{session}/diff/{revision}/files/logo"), 404, "diff_file_not_found"),
        (format!("/api/sessions/{session}/diff/{revision}/files/a%20b"), 400, "INVALID_PARAMETER"),
    ] {
        let refused = ada.call(Method::GET, &path, None).await?;
        check_eq!(refused.status.as_u16(), status, "{path} ({})", refused.text);
        check_eq!(refused.json["code"], code, "{path}");
        if status != 400 {
            check_eq!(refused.json["currentRevisionId"], json!(revision), "{path}");
        }
    }
    let by_sandbox = raw(ready, Method::GET, &upload, &[("Authorization", format!("Bearer {token}"))], None).await?;
    check_eq!(by_sandbox.status.as_u16(), 401, "a sandbox reads no diff ({})", by_sandbox.text);

    let failure = format!("{upload}/failure");
    let long = json!({"error": "x".repeat(DIFF_FAILURE_MAX_BYTES)}).to_string().into_bytes();
    let refused = send(ready, Method::POST, &failure, &token, long).await?;
    check_eq!(refused.status.as_u16(), 413, "a failure that is too long ({})", refused.text);
    check_eq!(refused.json["error"], "Session diff failure bodies must be 16384 bytes or smaller", "and its sentence");
    let refused = send(ready, Method::POST, &failure, &token, br#"{"error":""}"#.to_vec()).await?;
    check_eq!(refused.status.as_u16(), 400, "a failure without a reason ({})", refused.text);
    let taken = send(ready, Method::POST, &failure, &token, br#"{"error":"git failed"}"#.to_vec()).await?;
    check_eq!((taken.status.as_u16(), taken.text.as_str()), (204, ""), "a failure");
    let shown = state(&ada, &session).await?;
    check_eq!(shown["lastError"]["message"], "git failed", "the reason");
    check_eq!(shown["current"]["revisionId"], json!(revision), "the last good one stays");

    let retry = format!("/api/sessions/{session}/diff/retry");
    let asked = ada.call(Method::POST, &retry, Some(&json!({}))).await?;
    check_eq!((asked.status.as_u16(), asked.json), (202, json!({"accepted": true})), "a retry");
    command(&mut bridge, "refresh_diff").await?;
    bridge.drop_socket();
    let mut answer = ada.call(Method::POST, &retry, Some(&json!({}))).await?;
    for _ in 0..50 {
        if answer.status.as_u16() == 409 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = ada.call(Method::POST, &retry, Some(&json!({}))).await?;
    }
    check_eq!(answer.status.as_u16(), 409, "nobody is there to ask ({})", answer.text);
    Ok(())
}
