//! Sessions and their children, forks and deletion, over the wire.

use std::time::{Duration, Instant};

use e2e::api::{Answer, Person, raw};
use e2e::bridge::Bridge;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::World;

const SOON: Duration = Duration::from_secs(20);

/// A bridge that is connected and ready, and its token.
pub async fn bridge_of(world: &World, session: &str) -> Outcome<(Bridge, String)> {
    let sandbox = world.backend()?.sandbox_of(session).await?;
    let token = sandbox.auth_token.clone();
    let mut bridge = Bridge::new(sandbox);
    if let Err(status) = bridge.connect(&world.stack.ready).await? {
        return Err(Failed(format!("the bridge was refused with {status}")));
    }
    bridge.emit(json!({"type": "ready", "runtimeVersion": "v100-e2e"})).await;
    Ok((bridge, token))
}

async fn prompted(bridge: &mut Bridge, count: usize) -> Outcome<Value> {
    bridge.listen(SOON, |bridge| bridge.prompts.len() >= count).await?;
    let prompt = bridge.prompts.get(count - 1).cloned();
    prompt.ok_or_else(|| Failed(format!("prompt {count} did not come: {:?}", bridge.prompts)))
}

/// Answers a prompt with a text and ends it well.
async fn answer(bridge: &mut Bridge, prompt: &Value, text: &str) -> Outcome {
    let id = &prompt["messageId"];
    bridge
        .emit(json!({"type": "part_delta", "messageId": id, "partId": "p", "kind": "text", "offset": 0, "text": text}))
        .await;
    let length = text.encode_utf16().count();
    bridge
        .emit(json!({"type": "part_done", "messageId": id, "partId": "p", "kind": "text", "text": text, "length": length}))
        .await;
    bridge.emit(json!({"type": "execution_complete", "messageId": id, "success": true})).await;
    bridge.listen(SOON, Bridge::is_settled).await?;
    check!(bridge.is_settled(), "the end is acknowledged");
    Ok(())
}

/// Calls as a sandbox.
pub async fn by_sandbox(
    world: &World,
    token: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Outcome<Answer> {
    let headers = [("Authorization", format!("Bearer {token}")), ("Content-Type", "application/json".to_owned())];
    raw(&world.stack.ready, method, path, &headers, body.map(|body| body.to_string().into_bytes())).await
}

pub async fn a_childs_result_reaches_its_parents_agent_as_a_prompt(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let parent = ada.create_session().await?;
    let (mut bridge, token) = bridge_of(world, &parent).await?;
    let children = format!("/sessions/{parent}/children");
    let spawn = json!({"title": "A part", "prompt": "do a part"});
    let idle = by_sandbox(world, &token, Method::POST, &children, Some(spawn.clone())).await?;
    check_eq!(idle.status.as_u16(), 400, "a child without a prompt that runs ({})", idle.text);
    ada.prompt(&parent, "use a child").await?;
    let first = prompted(&mut bridge, 1).await?;
    let spawned = by_sandbox(world, &token, Method::POST, &children, Some(spawn.clone())).await?;
    check_eq!(spawned.status.as_u16(), 201, "a child is spawned ({})", spawned.text);
    let child = spawned.json["sessionId"].as_str().unwrap_or_default().to_owned();

    // A stranger, and the child itself, are not the parent's sandbox.
    let (mut childs_bridge, childs_token) = bridge_of(world, &child).await?;
    for (wrong, who) in [(childs_token.as_str(), "its child"), ("forged", "a stranger")] {
        for (method, path) in [
            (Method::POST, children.clone()),
            (Method::GET, children.clone()),
            (Method::GET, format!("{children}/{child}")),
            (Method::POST, format!("{children}/{child}/cancel")),
        ] {
            let body = (method == Method::POST).then(|| spawn.clone());
            let refused = by_sandbox(world, wrong, method, &path, body).await?;
            check_eq!(refused.status.as_u16(), 401, "{who} at {path} ({})", refused.text);
        }
    }
    let elsewhere = json!({"title": "t", "prompt": "p", "repoOwner": "acme", "repoName": "other"});
    let refused = by_sandbox(world, &token, Method::POST, &children, Some(elsewhere)).await?;
    check_eq!(refused.status.as_u16(), 403, "another repository ({})", refused.text);

    let task = prompted(&mut childs_bridge, 1).await?;
    check_eq!(task["content"], "do a part", "the child's prompt");
    answer(&mut childs_bridge, &task, "The part is done.").await?;
    answer(&mut bridge, &first, "I wait for my child.").await?;
    let offered = prompted(&mut bridge, 2).await?;
    let content = offered["content"].as_str().unwrap_or_default();
    check!(content.contains("The part is done.") && content.contains(&child), "the result is offered: {content}");
    check_eq!(offered["author"], first["author"], "in the name of who prompted");
    let detail = by_sandbox(world, &token, Method::GET, &format!("{children}/{child}?include=result"), None).await?;
    check_eq!(
        detail.json["finalResponse"]["textContent"],
        "The part is done.",
        "the child's summary ({})",
        detail.text
    );
    let listed = ada.call(Method::GET, &format!("/api/sessions/{parent}/children"), None).await?;
    check_eq!(listed.json["children"][0]["id"], child.as_str(), "the list ({})", listed.text);
    check_eq!(listed.json["children"][0]["spawnDepth"], 1, "its depth");
    Ok(())
}

pub async fn a_fork_goes_on_and_a_deleted_session_is_gone(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let (mut bridge, _) = bridge_of(world, &session).await?;
    ada.prompt(&session, "remember this").await?;
    let first = prompted(&mut bridge, 1).await?;
    answer(&mut bridge, &first, "I do.").await?;
    let fork =
        ada.call(Method::POST, &format!("/api/sessions/{session}/fork"), Some(&json!({"title": "Fork"}))).await?;
    check_eq!(fork.status.as_u16(), 201, "a fork ({})", fork.text);
    let fork = fork.json["sessionId"].as_str().unwrap_or_default().to_owned();
    ada.prompt(&fork, "go on").await?;
    let (mut forks_bridge, _) = bridge_of(world, &fork).await?;
    let next = prompted(&mut forks_bridge, 1).await?;
    let content = next["content"].as_str().unwrap_or_default();
    check!(content.contains("I do.") && content.ends_with("go on"), "the agent knows what was said: {content}");
    let snapshot = ada.snapshot(&fork).await?;
    let events = snapshot["timeline"]["events"].to_string();
    check!(events.contains("remember this") && events.contains("I do."), "the past is shown: {events}");

    let deleted = ada.call(Method::DELETE, &format!("/api/sessions/{session}"), None).await?;
    check_eq!(deleted.json, json!({"status": "deleted", "sessionId": session}), "deleted ({})", deleted.text);
    let begun = Instant::now();
    loop {
        let gone = ada.call(Method::GET, &format!("/api/sessions/{session}"), None).await?;
        if gone.status.as_u16() == 404 {
            break;
        }
        check!(begun.elapsed() < SOON, "it is still there: {}", gone.text);
        sleep(Duration::from_millis(100)).await;
    }
    let again = ada.call(Method::DELETE, &format!("/api/sessions/{session}"), None).await?;
    check_eq!(again.status.as_u16(), 200, "deleting again");
    let unknown = ada.call(Method::DELETE, "/api/sessions/00000000000000000000000000000000", None).await?;
    check_eq!(unknown.status.as_u16(), 404, "deleting nothing");
    let list = ada.call(Method::GET, "/api/sessions?limit=100", None).await?.text;
    check!(!list.contains(&session) && list.contains(&fork), "the list has the fork alone");
    Ok(())
}
