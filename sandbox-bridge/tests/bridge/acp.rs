//! An agent that speaks the Agent Client Protocol: the real `opencode acp`. `OI_OPENCODE` names the binary.

use std::time::Duration;

use sandbox_bridge::agent::acp::AcpProcess;
use sandbox_bridge::agent::keeper::{Endpoint, keep};
use sandbox_bridge::broker::peer::AgentPid;
use sandbox_bridge::host::processes::ProcessId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::environment::{assert_files_are_clean, assert_processes_are_clean};
use crate::id;
use crate::real_opencode::opencode;
use crate::support::sandbox::{Sandbox, config, program};
use crate::support::session::Session;
use crate::support::{eventually, model};

async fn world() -> (Session, Sandbox) {
    world_with(&["--agent", "acp"]).await
}

async fn world_with(arguments: &[&str]) -> (Session, Sandbox) {
    let session = Session::start().await;
    let config = config(&session, None, &model::start().await);
    let sandbox = Sandbox::configured(config, &opencode(), arguments);
    session.booted().await;
    (session, sandbox)
}

fn last_text(session: &Session, n: u8) -> String {
    session.texts(&id(n)).last().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn text_tool_calls_and_a_second_prompt_in_the_same_session() {
    let (session, sandbox) = world().await;
    let command = json!({"command": "echo it works", "description": "try"});
    session.prompt(&id(1), &format!("CALL bash {command}"));
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    assert_eq!(session.texts(&id(1)), ["I call it. ", "It said: it works\n"]);
    {
        let taken = session.taken();
        let call: Vec<&Value> = taken.frames.iter().filter(|frame| frame["type"] == "tool_call").collect();
        let ended = call.last().expect("a call");
        assert_eq!(
            (&ended["tool"], &ended["status"], &ended["exitCode"]),
            (&json!("bash"), &json!("completed"), &json!(0))
        );
        assert_eq!((&ended["args"]["command"], &ended["output"]), (&json!("echo it works"), &json!("it works\n")));
        let step = taken.frames.iter().find(|frame| frame["type"] == "step_finish").expect("a step");
        assert_eq!((&step["reason"], &step["tokens"]["total"]), (&json!("end_turn"), &json!(15)));
    }
    session.send(&json!({"type": "prompt", "messageId": id(2), "content": "EFFORT", "model": "demo/scripted",
        "reasoningEffort": "high", "author": {"userId": "u", "gitIdentity": {"mode": "agent-only"}}}));
    assert_eq!(session.completed(&id(2)).await["success"], true);
    assert_eq!(last_text(&session, 2), "effort \"high\"");
    session.prompt(&id(3), "COUNT");
    session.completed(&id(3)).await;
    assert_eq!(last_text(&session, 3), "asked 3 times");
    // Our own tools come to it by the protocol.
    session.prompt(&id(4), "CALL oi_get-task-status {}");
    session.completed(&id(4)).await;
    assert!(last_text(&session, 4).contains("could not be listed"), "{}", last_text(&session, 4));
    assert!(assert_processes_are_clean(&sandbox) >= 2);
    assert_files_are_clean(sandbox.folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_stop_ends_the_prompt_and_keeps_what_was_said() {
    let (session, _sandbox) = world().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    session.send(&json!({"type": "stop"}));
    assert_eq!(session.completed(&id(1)).await["error"], "Task was cancelled");
    assert!(last_text(&session, 1).starts_with("tick0 "));
    session.prompt(&id(2), "hello");
    assert_eq!(session.completed(&id(2)).await["success"], true);
    assert_eq!(last_text(&session, 2), "Good day to you.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_restored_sandbox_loads_the_session_and_tells_nothing_of_it_again() {
    let (session, mut sandbox) = world().await;
    session.prompt(&id(1), "hello");
    session.completed(&id(1)).await;
    sandbox.crash();
    // A snapshot keeps the home and the workspace, not this.
    std::fs::remove_dir_all(sandbox.path("run")).expect("removed");
    session.forget_to(0);
    sandbox.start();
    session.booted().await;
    session.prompt(&id(2), "COUNT");
    session.completed(&id(2)).await;
    assert_eq!(session.texts(&id(2)), ["asked 2 times"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn where_people_decide_a_command_waits_for_their_leave() {
    let (session, _sandbox) = world_with(&["--agent", "acp", "--agent-permissions", "ask"]).await;
    for (n, answer, said) in [(1, "Allow once", "It said: it ran\n"), (2, "Reject", "")] {
        let command = json!({"command": "echo it ran", "description": "try"});
        session.prompt(&id(n), &format!("CALL bash {command}"));
        let asked = session.frame("a question", |f| f["type"] == "input_request" && f["messageId"] == id(n)).await;
        assert_eq!(asked["kind"], "approval");
        assert!(asked["prompt"].as_str().expect("text").contains("echo it ran"), "{asked}");
        session.send(&json!({"type": "input_response", "requestId": asked["requestId"], "messageId": id(n),
            "state": "answered", "answer": answer}));
        session.completed(&id(n)).await;
        assert_eq!(last_text(&session, n).contains("it ran"), !said.is_empty(), "{}", last_text(&session, n));
    }
    let ended = session.taken().frames.iter().filter(|f| f["type"] == "tool_call" && f["status"] == "error").count();
    assert_eq!(ended, 1, "what was rejected is told as failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_none_fails_the_boot_with_its_last_words() {
    let session = Session::start().await;
    let config = config(&session, None, "http://127.0.0.1:9/v1");
    let arguments =
        ["--agent", "acp", "--agent-command=sh", "--agent-command=-c", "--agent-command=echo no licence >&2"];
    let _sandbox = Sandbox::configured(config, std::path::Path::new("opencode"), &arguments);
    let told = |frame: &Value| frame["phase"] == "agent" && frame["status"] == "failed";
    let frame = session.frame("the phase's end", told).await;
    assert!(frame["detail"].as_str().expect("a reason").contains("no licence"), "{frame}");
}

#[tokio::test]
async fn an_agent_that_is_given_up_leaves_nothing_at_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "sleep 600 & echo $! >child; read line; echo '{\"id\":1,\"result\":{\"protocolVersion\":1}}'; wait";
    let process = AcpProcess {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        launcher: program(),
        environment: vec![("PATH".into(), std::env::var_os("PATH").expect("a path"))],
        directory: folder.path().to_owned(),
        pid: AgentPid::default(),
    };
    let (endpoint, mut seen) = watch::channel(Endpoint::Starting);
    let (_stop, shutdown) = watch::channel(false);
    let kept = tokio::spawn(keep(process, endpoint, shutdown));
    let agent = {
        let up = timeout(Duration::from_secs(20), seen.wait_for(|e| matches!(e, Endpoint::Up { .. }))).await;
        let Endpoint::Up { agent, .. } = &*up.expect("in time").expect("kept") else { panic!("it is up") };
        agent.clone()
    };
    let child = std::fs::read_to_string(folder.path().join("child")).expect("written before the answer");
    let child = ProcessId::of(child.trim().parse().expect("a number")).expect("it runs");
    agent.peer.abandon();
    eventually("its child's end", Duration::from_secs(10), || (!child.is_alive()).then_some(())).await;
    kept.abort();
}
