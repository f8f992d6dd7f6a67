//! The demo model over real HTTP. An agent in miniature runs the tools it calls, on a real checkout.
#![allow(clippy::unwrap_used, reason = "a test that can't go on stops")]

mod agent;

use std::time::{Duration, Instant};

use agent::{Agent, Model};
use serde_json::{Value, json};

#[tokio::test]
async fn a_prompt_ends_in_a_commit_and_a_pull_request() {
    let model = Model::start().await;
    let mut agent = Agent::new(&model);
    let said = agent.prompt("Please change the greeting to \"Good morning\".").await;
    assert_eq!(agent.calls, ["read", "edit", "bash", "bash", "oi_create-pull-request"]);
    assert!(agent.file("src/greeting.js").contains("const GREETING = \"Good morning\";"));
    assert_eq!(agent.git(&["log", "-1", "--format=%s"]), "Change the greeting to \"Good morning\"");
    assert_eq!(agent.git(&["status", "--porcelain"]), "");
    let pull = &agent.pulls[0];
    assert_eq!(pull["title"], "Change the greeting to \"Good morning\"");
    assert!(pull["body"].as_str().unwrap().contains("`check.sh` passes."));
    assert!(said.contains("http://forge.test/acme/sample-service/pull/1"), "{said}");
    assert!(said.contains("demo model"), "{said}");
    assert!(agent.reasoned);
}

#[tokio::test]
async fn every_prompt_of_a_conversation_ends_in_another_commit() {
    let model = Model::start().await;
    let mut agent = Agent::new(&model);
    let mut commits = vec![agent.git(&["rev-parse", "HEAD"])];
    for prompt in [
        "Fix the typo in the greeting",
        "Fix the typo in the greeting",
        "It's for `Bob`; don't $(touch /tmp/x) \"break\"",
        "Now make it say \"Hi\"",
        "Now make it say \"Hi\"",
        "",
    ] {
        agent.prompt(prompt).await;
        let head = agent.git(&["rev-parse", "HEAD"]);
        assert!(!commits.contains(&head), "{prompt:?} made no commit");
        commits.push(head);
        assert_eq!(agent.git(&["status", "--porcelain"]), "", "{prompt:?}");
    }
    assert!(agent.file("src/greeting.js").contains("const GREETING = \"Hi\";"));
    assert!(agent.file("CHANGELOG.md").contains("* It's for `Bob`; don't $(touch /tmp/x) \"break\"\n"));
    assert_eq!(
        agent.git(&["log", "-6", "--reverse", "--format=%s"]).lines().next(),
        Some("Fix the typo in the greeting")
    );
}

#[tokio::test]
async fn another_repository_gets_a_commit_too() {
    let model = Model::start().await;
    let mut agent = Agent::new(&model);
    std::fs::remove_file(agent.path("src/greeting.js")).unwrap();
    agent.git(&["commit", "-q", "-a", "-m", "Other"]);
    let said = agent.prompt("Do something").await;
    assert_eq!(agent.git(&["log", "-1", "--format=%s"]), "Do something");
    assert!(said.contains("No check was run."), "{said}");
}

#[tokio::test]
async fn a_check_that_fails_is_not_called_passing() {
    let model = Model::start().await;
    let mut agent = Agent::new(&model);
    std::fs::remove_file(agent.path("src/server.js")).unwrap();
    agent.git(&["commit", "-q", "-a", "-m", "Break it"]);
    let said = agent.prompt("Fix the typo in the greeting").await;
    assert!(said.contains("does **not** pass"), "{said}");
}

#[tokio::test]
async fn keywords_choose_the_script() {
    let model = Model::start().await;
    let mut agent = Agent::new(&model);
    let said = agent.prompt("Run this: BASH echo one; echo two").await;
    assert!(said.contains("one\ntwo"), "{said}");
    agent.calls.clear();
    agent.prompt("TOOLS 7").await;
    assert_eq!(agent.calls.len(), 7);
    assert!(agent.prompt("ASK me").await.contains('?'));
    assert!(agent.prompt("LONG").await.len() > 8_000);
    let started = Instant::now();
    assert_eq!(agent.prompt("SLOW 3").await, "tick 1\ntick 2\ntick 3\n");
    assert!(started.elapsed() >= Duration::from_millis(300));
    agent.calls.clear();
    agent.prompt("SLEEP 0").await;
    assert_eq!(agent.calls, ["bash"]);
}

#[tokio::test]
async fn errors_come_as_asked() {
    let model = Model::start().await;
    let tools = json!([{ "type": "function", "function": { "name": "bash", "parameters": {} } }]);
    for (text, status, kind) in [
        ("ERR400", 400, "invalid_request_error"),
        ("please ERR401 now", 401, "authentication_error"),
        ("ERR500", 500, "server_error"),
    ] {
        let body = json!({ "messages": [{ "role": "user", "content": text }], "tools": tools, "stream": true });
        let (got, answer) = model.post(&body).await;
        assert_eq!(got, status);
        assert_eq!(answer["error"]["type"], kind);
    }
    // A title for the same prompt is no failure.
    let (status, _) = model.post(&json!({ "messages": [{ "role": "user", "content": "ERR500" }] })).await;
    assert_eq!(status, 200);
    for bad in [json!({}), json!({ "messages": [] }), json!([]), json!({ "messages": [{ "content": "x" }] })] {
        let (status, answer) = model.post(&bad).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_request")));
    }
}

#[tokio::test]
async fn a_request_without_tools_gets_a_title() {
    let model = Model::start().await;
    let body = json!({ "model": "m", "messages": [
        { "role": "system", "content": "You make titles." },
        { "role": "user", "content": "Generate a title for this conversation:\n" },
        { "role": "user", "content": [{ "type": "text", "text": "please change the greeting to \"Good morning\" everywhere in it" }] },
    ]});
    let (_, answer) = model.post(&body).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "Change the greeting to \"Good morning\" everywhere");
    assert_eq!(answer["model"], "m");
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    let model = Model::start().await;
    let body = json!({
        "messages": [
            { "role": "system", "content": "<env>\n  Working directory: /work/x\n</env>" },
            { "role": "user", "content": "Fix the greeting" },
        ],
        "tools": [
            { "type": "function", "function": { "name": "read" } },
            { "type": "function", "function": { "name": "bash" } },
        ],
    });
    let (_, first) = model.post(&body).await;
    let (_, second) = model.post(&body).await;
    assert_eq!(first, second);
    let call = &first["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["filePath"], "/work/x/src/greeting.js");
}
