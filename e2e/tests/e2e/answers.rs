//! Routes that no other test calls, doing what they are for.

use e2e::api::{Answer, Person, raw};
use e2e::{Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;
use crate::family::{bridge_of, by_sandbox};

async fn ask(person: &Person, status: u16, method: Method, path: &str, body: Option<Value>) -> Outcome<Answer> {
    let answer = person.call(method.clone(), path, body.as_ref()).await?;
    check_eq!(answer.status.as_u16(), status, "{method} {path} ({})", answer.text);
    Ok(answer)
}

pub async fn routes_that_nothing_else_calls_do_their_work(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);

    let failed = raw(ready, Method::GET, "/api/auth/error?error=not_allowed", &[], None).await?;
    check_eq!(failed.status.as_u16(), 302, "where a failed sign-in ends");
    let legacy = ask(&ada, 200, Method::GET, "/api/model-provider-accounts/legacy-credentials", None).await?;
    check_eq!(legacy.json, json!({"legacyKeys": []}), "tokens in secrets");
    let of_repository = "/api/integration-settings/github/repos/acme/sample-service";
    ask(&ada, 200, Method::PUT, of_repository, Some(json!({"settings": {}}))).await?;
    ask(&ada, 200, Method::GET, of_repository, None).await?;

    let session = ada.create_session().await?;
    let path = |rest: &str| format!("/api/sessions/{session}{rest}");
    let (mut bridge, token) = bridge_of(world, &session).await?;
    let them = grace.call(Method::GET, "/api/auth/get-session", None).await?.json["user"]["id"].clone();
    ask(&ada, 200, Method::POST, &path("/participants"), Some(json!({"userId": them, "role": "member"}))).await?;
    let profiles = ask(&ada, 200, Method::GET, &path("/participant-profiles"), None).await?;
    let of_grace = &profiles.json["profiles"][them.as_str().unwrap_or_default()];
    check!(of_grace["displayName"].is_string(), "Grace's profile: {}", profiles.text);

    let message = ada.prompt(&session, "ask me something").await?;
    bridge.listen(std::time::Duration::from_secs(20), |bridge| bridge.prompts.len() == 1).await?;
    let question = json!({"type": "input_request", "requestId": "q1", "messageId": message, "kind": "question",
        "prompt": "Which one?", "options": ["this", "that"]});
    bridge.emit(question).await;
    bridge.listen(std::time::Duration::from_secs(20), e2e::bridge::Bridge::is_settled).await?;
    ask(&ada, 200, Method::GET, &path("/sandbox-access"), None).await?;
    ask(&ada, 200, Method::POST, &path("/input-responses"), Some(json!({"requestId": "q1", "answer": "that"}))).await?;

    // A tool's long output goes beside the timeline.
    let (id, long) = ("0a".repeat(16), "a long line\n".repeat(4_000));
    let outputs = format!("/sessions/{session}/outputs/{id}");
    let headers = [("Authorization", format!("Bearer {token}")), ("Content-Type", "text/plain".to_owned())];
    let put = raw(ready, Method::PUT, &outputs, &headers, Some(long.clone().into_bytes())).await?;
    check!(put.status.is_success(), "the output is stored: {} {}", put.status, put.text);
    let tool = json!({"type": "tool_call", "messageId": message, "tool": "bash", "args": {}, "callId": "c1",
        "status": "completed", "output": "a long", "truncated": true, "outputRef": put.json["outputRef"]});
    bridge.emit(tool).await;
    bridge.listen(std::time::Duration::from_secs(20), e2e::bridge::Bridge::is_settled).await?;
    let read = ask(&ada, 200, Method::GET, &path(&format!("/outputs/{id}")), None).await?;
    check_eq!(read.text, long, "the output as it was");
    ask(&ada, 202, Method::POST, &path("/pull-requests/refresh"), Some(json!({}))).await?;

    let children = format!("/sessions/{session}/children");
    let spawn = json!({"title": "A part", "prompt": "do a part"});
    let child = by_sandbox(world, &token, Method::POST, &children, Some(spawn)).await?;
    check_eq!(child.status.as_u16(), 201, "a child ({})", child.text);
    let child = child.json["sessionId"].as_str().unwrap_or_default().to_owned();
    let more = json!({"content": "and another part"});
    let told = by_sandbox(world, &token, Method::POST, &format!("{children}/{child}/prompt"), Some(more)).await?;
    check!(told.status.is_success(), "a prompt for the child: {} {}", told.status, told.text);
    ask(&ada, 200, Method::POST, &path(&format!("/children/{child}/cancel")), Some(json!({}))).await?;

    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(std::time::Duration::from_secs(20), e2e::bridge::Bridge::is_settled).await?;
    for step in ["/archive", "/unarchive"] {
        ask(&ada, 200, Method::POST, &path(step), Some(json!({}))).await?;
    }
    let other = ada.create_session().await?;
    ada.prompt(&other, "never mind").await?;
    ask(&ada, 200, Method::POST, &format!("/api/sessions/{other}/cancel"), Some(json!({}))).await?;

    // An admin signs somebody out everywhere; everybody signs themselves out.
    let person = them.as_str().unwrap_or_default();
    let out = ada.call(Method::POST, &format!("/api/people/{person}/sign-out"), Some(&json!({}))).await?;
    check!(out.status.is_success(), "Grace is signed out: {} {}", out.status, out.text);
    ask(&grace, 401, Method::GET, "/api/sessions", None).await?;
    ask(&ada, 200, Method::POST, "/api/auth/sign-out", Some(json!({}))).await?;
    ask(&ada, 401, Method::GET, "/api/sessions", None).await.map(drop)
}
