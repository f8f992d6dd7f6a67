//! The agent's tools, asked as the agent asks them.

use std::io::{BufRead as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, config, program, says_it_listens, stand_in};
use crate::support::session::Session;

async fn world(slack: bool, repository: bool) -> (Session, Forge, Sandbox) {
    let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
    let mut config = config(&session, repository.then_some(&forge), "http://127.0.0.1:9/v1");
    config.slack_notify = slack;
    let folder = tempfile::tempdir().expect("a folder").keep();
    let stand_in = stand_in(&folder, &says_it_listens(&opencode.url));
    let sandbox = Sandbox::configured(config, &stand_in, &[]);
    session.booted().await;
    (session, forge, sandbox)
}

/// One request to the MCP server, as the agent starts it.
fn request(sandbox: &Sandbox, method: &str, params: &Value) -> Value {
    let mut child = Command::new(program())
        .arg("mcp")
        .env_clear()
        .env("OI_SOCKET", sandbox.path("run/bridge.sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{}", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).expect("written");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("answered");
    drop(input);
    child.wait().expect("it ends with its input");
    serde_json::from_str::<Value>(&line).expect("JSON")["result"].clone()
}

/// A tool's text, and whether it failed.
fn call(sandbox: &Sandbox, name: &str, arguments: &Value) -> (String, bool) {
    let result = request(sandbox, "tools/call", &json!({"name": name, "arguments": arguments}));
    let text = result["content"][0]["text"].as_str().expect("a text").to_owned();
    (text, result["isError"] == true)
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let list = request(sandbox, "tools/list", &json!({}));
    list["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| tool["name"].as_str().expect("named").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_started_asked_after_prompted_and_cancelled() {
    let (session, _forge, sandbox) = world(false, true).await;
    assert!(names(&sandbox).contains(&"create-pull-request".to_owned()));
    {
        let calls = &mut session.taken().calls;
        calls.answer("POST children", 201, json!({"sessionId": "c1", "status": "created"}));
        calls.answer(
            "POST children",
            429,
            json!({"error": "Maximum concurrent children (5) reached", "code": "RATE_LIMITED"}),
        );
        calls.answer("GET children", 200, json!({"children": [{"id": "c1", "status": "active", "title": "One"}]}));
        let detail = json!({"session": {"id": "c1", "status": "completed"}, "sandbox": {"status": "stopped"},
            "hasUnfinishedPrompt": false, "artifacts": [], "recentEvents": [], "finalResponse": {"textContent": "Made it."}});
        calls.answer("GET children/c%2F1", 200, detail);
        calls.answer("POST children/c1/prompt", 409, json!({"error": "Session already cancelled"}));
        calls.answer(
            "POST children/c1/cancel",
            200,
            json!({"status": "cancelled", "cancelledDescendantIds": ["x", "y"]}),
        );
    }
    let task = json!({"title": "One", "prompt": "Do it", "reasoning": "high"});
    let (text, failed) = call(&sandbox, "spawn-task", &task);
    assert!(!failed && text.contains("c1 (PENDING)"), "{text}");
    let (text, failed) = call(&sandbox, "spawn-child", &task);
    assert!(failed && text.contains("Maximum concurrent children (5) reached"), "{text}");
    let (text, _) = call(&sandbox, "get-task-status", &json!({}));
    assert!(text.starts_with("1 tasks: 1 RUNNING"), "{text}");
    let asked = json!({"taskId": "c/1", "includeResponse": true, "includeTrajectory": true, "trajectoryLimit": 5});
    let (text, _) = call(&sandbox, "get-task-status", &asked);
    assert!(text.contains("DONE") && text.contains("Made it."), "{text}");
    let (text, failed) = call(&sandbox, "send-task-prompt", &json!({"taskId": "c1", "prompt": "More"}));
    assert!(failed && text.contains("already cancelled"), "{text}");
    let (text, failed) = call(&sandbox, "cancel-task", &json!({"taskId": "c1"}));
    assert!(!failed && text.contains("and 2 that it had started"), "{text}");
    let (text, failed) = call(&sandbox, "cancel-task", &json!({"taskId": "other"}));
    assert!(failed && text.contains("no such task"), "{text}");
    let calls = &session.taken().calls;
    let spawned = calls.of("POST children").first().expect("asked").json();
    assert_eq!(spawned, json!({"title": "One", "prompt": "Do it", "reasoningEffort": "high"}));
    assert_eq!(
        calls.of("GET children/c%2F1")[0].what,
        "GET children/c%2F1?include=result%2Ctrajectory&trajectoryLimit=5"
    );
    assert_eq!(calls.of("POST children/c1/cancel")[0].json(), json!({"cancelNested": true}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tasks_id_leads_to_no_other_route() {
    let (session, _forge, sandbox) = world(false, true).await;
    for route in ["POST prompt", "POST cancel"] {
        session.taken().calls.answer(route, 200, json!({"messageId": "m"}));
    }
    // Without an id `get-task-status` lists all tasks.
    let status = ["..", "."].map(|id| ("get-task-status", json!({"taskId": id})));
    let others = ["..", ".", ""].into_iter().flat_map(|id| {
        [("send-task-prompt", json!({"taskId": id, "prompt": "More"})), ("cancel-task", json!({"taskId": id}))]
    });
    for (name, arguments) in status.into_iter().chain(others) {
        let (text, failed) = call(&sandbox, name, &arguments);
        assert!(failed && text.contains("no such task"), "{name} {arguments}: {text}");
    }
    let made: Vec<String> = session.taken().calls.made.iter().map(|call| call.what.clone()).collect();
    assert!(made.is_empty(), "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_screenshot_is_uploaded_as_a_form_and_files_elsewhere_are_not() {
    let (session, _forge, sandbox) = world(false, true).await;
    session.taken().calls.answer(
        "POST media",
        201,
        json!({"artifactId": "0123456789abcdef0123456789abcdef", "objectKey": "k"}),
    );
    std::fs::write(sandbox.path("workspace/api/shot.png"), b"\x89PNG of the page").expect("written");
    let arguments = json!({"path": "api/shot.png", "caption": "The page", "fullPage": true,
        "viewport": {"width": 800, "height": 600}});
    let (text, failed) = call(&sandbox, "upload-screenshot", &arguments);
    assert!(!failed && text.contains("0123456789abcdef0123456789abcdef"), "{text}");
    std::os::unix::fs::symlink("/etc/hostname", sandbox.path("workspace/api/link.png")).expect("linked");
    let (text, failed) = call(&sandbox, "upload-screenshot", &json!({"path": "api/link.png"}));
    assert!(failed && text.contains("Only files of the workspace"), "{text}");
    let calls = session.taken().calls.of("POST media");
    assert_eq!(calls.len(), 1);
    assert!(calls[0].content_type.starts_with("multipart/form-data; boundary="));
    let form = String::from_utf8_lossy(&calls[0].body).into_owned();
    for part in [
        "name=\"fullPage\"\r\n\r\ntrue",
        "name=\"artifactType\"\r\n\r\nscreenshot",
        "filename=\"shot.png\"",
        "Content-Type: image/png",
        "{\"height\":600,\"width\":800}",
        "PNG of the page",
    ] {
        assert!(form.contains(part), "{part} in {form}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_are_sent_where_they_are_allowed_and_a_failure_says_what_to_do() {
    let (session, _forge, sandbox) = world(true, false).await;
    let listed = names(&sandbox);
    assert!(listed.contains(&"slack-notify".to_owned()) && !listed.contains(&"create-pull-request".to_owned()));
    {
        let calls = &mut session.taken().calls;
        calls.answer("POST slack-notify", 200, json!({"ok": true, "channelId": "C1"}));
        calls.answer("POST slack-notify", 429, json!({"error": "rate_limited", "retryAfter": 7}));
    }
    let notice = json!({"channel": " #dev ", "text": "Done"});
    let (text, failed) = call(&sandbox, "slack-notify", &notice);
    assert_eq!(
        (serde_json::from_str::<Value>(&text).expect("JSON")["channelId"].as_str(), failed),
        (Some("C1"), false)
    );
    let (text, failed) = call(&sandbox, "slack-notify", &notice);
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert!(failed && told["ok"] == false);
    assert_eq!((&told["reason"], &told["retryAfterSeconds"]), (&json!("rate_limited"), &json!(7)));
    assert_eq!(session.taken().calls.of("POST slack-notify")[0].json(), json!({"channel": "#dev", "text": "Done"}));
    let (session, _forge, sandbox) = world(false, false).await;
    let (text, _) = call(&sandbox, "slack-notify", &notice);
    assert!(text.contains("feature_disabled"), "{text}");
    assert!(session.taken().calls.of("POST slack-notify").is_empty());
}
