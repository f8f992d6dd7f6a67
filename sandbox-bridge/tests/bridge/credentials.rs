//! Git with the credential helper, pushes and the pull-request tool, against a forge that wants a password.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, program};
use crate::support::session::{GIT_PASSWORD, Session};
use crate::support::{eventually, sh};

async fn world() -> (Session, Forge, FakeOpenCode, Sandbox) {
    let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
    let sandbox = Sandbox::with_stand_in(&session, Some(&forge), &opencode.url);
    session.booted().await;
    (session, forge, opencode, sandbox)
}

fn push_spec(forge: &Forge, branch: &str) -> Value {
    json!({"type": "push", "pushSpec": {"remoteUrl": forge.clone_url(), "redactedRemoteUrl": "the forge",
        "refspec": format!("HEAD:refs/heads/{branch}"), "targetBranch": branch, "repoOwner": "acme",
        "repoName": "api", "force": true}})
}

#[tokio::test]
async fn a_clone_and_a_push_go_through_the_helper() {
    let (session, forge, _opencode, sandbox) = world().await;
    let checkout = sandbox.path("workspace/api");
    let ready = session.frame("ready", |frame| frame["type"] == "ready").await;
    assert_eq!(ready["repositories"][0]["baseSha"], forge.git("rev-parse main"));
    sh(&checkout, "echo more >> a.txt; git commit -qam more");
    session.send(&push_spec(&forge, "open-inspect/x"));
    let pushed = session.frame("the push's end", |f| f["type"] == "push_complete" || f["type"] == "push_error").await;
    assert_eq!(pushed["type"], "push_complete", "{pushed}");
    assert_eq!(
        (&pushed["branchName"], &pushed["repoOwner"], &pushed["repoName"]),
        (&json!("open-inspect/x"), &json!("acme"), &json!("api"))
    );
    assert_eq!(forge.git("log -1 --format=%s open-inspect/x"), "more");
    assert_eq!(session.inner.credential_calls.load(Ordering::Relaxed), 1, "one answer serves clone and push");
    let config = std::fs::read_to_string(checkout.join(".git/config")).expect("read");
    let with_user = |line: &str| line.contains("://") && line.contains('@');
    assert!(!config.contains(GIT_PASSWORD) && !config.lines().any(with_user), "{config}");
}

#[tokio::test]
async fn a_credential_in_the_address_of_a_push_is_left_out_and_the_helper_asked() {
    let (session, forge, _opencode, sandbox) = world().await;
    sh(&sandbox.path("workspace/api"), "echo more >> a.txt; git commit -qam more");
    let mut spec = push_spec(&forge, "x");
    // The forge would refuse this one.
    spec["pushSpec"]["remoteUrl"] = json!(forge.clone_url().replace("http://", "http://x-access-token:wrong@"));
    session.send(&spec);
    let pushed = session.frame("the push's end", |f| f["type"] == "push_complete" || f["type"] == "push_error").await;
    assert_eq!(pushed["type"], "push_complete", "{pushed}");
    assert_eq!(forge.git("log -1 --format=%s x"), "more");
}

#[tokio::test]
async fn a_push_that_cannot_be_made_says_why_and_names_the_branch() {
    let (session, forge, _opencode, _sandbox) = world().await;
    let mut spec = push_spec(&forge, "b");
    spec["pushSpec"]["repoName"] = json!("elsewhere");
    session.send(&spec);
    let failed = session.frame("the push's end", |frame| frame["type"] == "push_error").await;
    assert_eq!(failed["error"], "Repository acme/elsewhere is not part of this session");
    assert_eq!(failed["branchName"], "b");
}

fn ask_helper(sandbox: &Sandbox, text: &str) -> (String, bool) {
    let mut child = Command::new(program())
        .args(["git-credential", "get"])
        .env_clear()
        .env("OI_SOCKET", sandbox.path("run/bridge.sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the helper starts");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

#[tokio::test]
async fn other_hosts_get_no_credential() {
    let (_session, forge, _opencode, sandbox) = world().await;
    let (answer, _) = ask_helper(&sandbox, &format!("protocol=http\nhost={}\n\n", forge.host));
    assert!(answer.contains(&format!("password={GIT_PASSWORD}")));
    for other in ["protocol=https\nhost=evil.example\n\n", "protocol=http\nhost=127.0.0.1:1\n\n", "\n"] {
        let (answer, orderly) = ask_helper(&sandbox, other);
        assert_eq!((answer.as_str(), orderly), ("", true), "{other:?}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(sandbox.path("run/bridge.sock")).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

fn call_tool(sandbox: &Sandbox, arguments: &Value) -> Value {
    let mut child = Command::new(program())
        .arg("mcp")
        .env_clear()
        .env("OI_SOCKET", sandbox.path("run/bridge.sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "create-pull-request", "arguments": arguments}});
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{call}").expect("written");
    let mut line = String::new();
    let output = child.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("answered");
    drop(input);
    child.wait().expect("it ends with its input");
    let answer: Value = serde_json::from_str(&line).expect("JSON");
    answer["result"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pull_request_tool_names_the_branch_and_repeats_with_one_key() {
    let (session, _forge, _opencode, sandbox) = world().await;
    let answers = [
        (503, json!({"error": "The push goes on.", "code": "RETRY"})),
        (503, json!({"error": "The push goes on.", "code": "RETRY"})),
    ];
    session.inner.pull_request_answers.lock().unwrap().extend(answers);
    let result = call_tool(&sandbox, &json!({"title": "T", "body": "B"}));
    assert_eq!(result["isError"], false, "{result}");
    assert!(result["content"][0]["text"].as_str().unwrap().contains("#7"), "{result}");
    {
        let taken = session.taken();
        assert_eq!(taken.pull_requests.len(), 3);
        assert!(taken.pull_requests.iter().all(|(key, _)| *key == taken.pull_requests[0].0));
        assert!(taken.pull_requests[0].1.get("headBranch").is_none(), "on the base branch none is named");
        assert_eq!(taken.pull_requests[0].1["repoName"], "api");
    }
    sh(&sandbox.path("workspace/api"), "git checkout -q -b feature/x");
    call_tool(&sandbox, &json!({"title": "T", "body": "B", "repo": "ACME/api", "draft": true}));
    let (_, body) = session.taken().pull_requests.last().cloned().expect("asked");
    assert_eq!((&body["headBranch"], &body["draft"]), (&json!("feature/x"), &json!(true)));
    let refusal = (409, json!({"error": "A pull request is being opened.", "code": "CONFLICT"}));
    session.inner.pull_request_answers.lock().unwrap().push_back(refusal);
    let result = call_tool(&sandbox, &json!({"title": "T", "body": "B"}));
    assert_eq!(result["isError"], true);
    assert!(result["content"][0]["text"].as_str().unwrap().contains("A pull request is being opened."), "{result}");
}

#[tokio::test]
async fn a_repository_that_cannot_be_cloned_fails_the_boot_and_the_prompt() {
    let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
    let mut sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    sandbox.crash();
    let mut config = crate::support::sandbox::config(&session, Some(&forge), "http://127.0.0.1:9/v1");
    config.repositories[0].branch = "no-such-branch".to_owned();
    sandbox.config = config;
    sandbox.start();
    let failed = session.frame("the clone's end", |f| f["phase"] == "clone" && f["status"] == "failed").await;
    assert!(failed["detail"].as_str().unwrap().contains("no-such-branch"), "{failed}");
    eventually("a connection", Duration::from_secs(10), || (session.taken().connections > 0).then_some(())).await;
    session.prompt(&crate::id(1), "PLAIN");
    let done = session.completed(&crate::id(1)).await;
    assert!(done["error"].as_str().unwrap().contains("git sync failed for acme/api"), "{done}");
}
