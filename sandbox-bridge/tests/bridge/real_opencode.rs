//! The whole of it with the real OpenCode, real git and a scripted model. `OI_OPENCODE` names the binary.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::environment::{assert_files_are_clean, assert_processes_are_clean, holds_secret};
use crate::host::{Host, isolations, supervisor};
use crate::id;
use crate::support::forge::Forge;
use crate::support::model;
use crate::support::sandbox::{Sandbox, config};
use crate::support::session::Session;
use crate::support::sh;

pub fn opencode() -> PathBuf {
    PathBuf::from(std::env::var_os("OI_OPENCODE").expect("OI_OPENCODE names the OpenCode binary"))
}

async fn world() -> (Session, Forge, Sandbox) {
    let (session, forge) = (Session::start().await, Forge::start().await);
    let sandbox = Sandbox::configured(config(&session, Some(&forge), &model::start().await), &opencode(), &[]);
    session.booted().await;
    (session, forge, sandbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_prompt_ends_in_a_commit_of_its_author_and_a_pull_request() {
    let (session, _forge, sandbox) = world().await;
    session.prompt(&id(1), "WORK on it");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    let checkout = sandbox.path("workspace/api");
    let log = sh(&checkout, "git log -1 --format='%an <%ae> %s' change");
    assert_eq!(log, "Ada Lovelace <ada@example.com> Change two");
    {
        let taken = session.taken();
        let calls: Vec<&Value> =
            taken.frames.iter().filter(|f| f["type"] == "tool_call" && f["status"] == "completed").collect();
        let names: Vec<&str> = calls.iter().filter_map(|call| call["tool"].as_str()).collect();
        assert_eq!(names, ["read", "edit", "bash", "oi_create-pull-request"]);
        assert_eq!(calls[1]["fileChange"], json!({"path": "a.txt", "added": 1, "removed": 1}));
        assert_eq!(calls[2]["exitCode"], 0);
        let seen = calls[2]["output"].as_str().expect("output");
        assert_eq!(holds_secret(seen.as_bytes()), None, "the agent looked at every process's environment");
        assert!(seen.contains("MY_OWN=user value"), "the users' variables reach the agent's shell");
        assert!(calls[3]["output"].as_str().unwrap().contains("#7"), "{}", calls[3]);
        assert_eq!(taken.pull_requests[0].1["headBranch"], "change");
        assert_eq!(taken.gaps, 0);
        assert!(taken.frames.iter().any(|f| f["type"] == "part_done" && f["kind"] == "reasoning"));
        assert!(taken.frames.iter().any(|f| f["type"] == "session_title"));
    }
    assert_eq!(session.texts(&id(1)).last().map(String::as_str), Some("All is done."));
    assert!(assert_processes_are_clean(&sandbox) >= 3, "supervisor, OpenCode, tools");
    assert_files_are_clean(sandbox.folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn stop_and_a_killed_agent_both_end_the_turn() {
    let (session, _forge, sandbox) = world().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    session.send(&json!({"type": "stop"}));
    assert_eq!(session.completed(&id(1)).await["error"], "Task was cancelled");
    assert!(session.texts(&id(1))[0].starts_with("tick0 "));
    session.prompt(&id(2), "SLOW");
    session.frame("text", |f| f["type"] == "part_delta" && f["messageId"] == id(2)).await;
    let program = std::env::var("OI_OPENCODE").expect("set");
    let killed = sh(
        sandbox.folder.path(),
        &format!(
            "for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^{program} serve' \
            && tr '\\0' '\\n' < $p/environ | grep -qx 'OI_SANDBOX_ID={}'; then kill -9 ${{p#/proc/}}; echo killed; fi; done",
            sandbox.config.sandbox_id
        ),
    );
    assert_eq!(killed, "killed");
    let done = session.completed(&id(2)).await;
    assert_eq!(done["error"], "OpenCode ended while it worked on the prompt.", "{done}");
    assert!(session.texts(&id(2))[0].starts_with("tick0 "), "what was said stays");
    session.prompt(&id(3), "hello");
    assert_eq!(session.completed(&id(3)).await["success"], true, "it is started again");
}

/// Through the host, under bubblewrap where that works; then the supervisor is killed in the next run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn the_host_runs_it_and_survives_a_killed_supervisor() {
    let (session, forge) = (Session::start().await, Forge::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let host = Host::with_program(isolations()[0], folder, opencode()).await;
    let config = config(&session, Some(&forge), &model::start().await);
    assert_eq!(host.create(&config).await.0, 201);
    session.booted().await;
    session.prompt(&id(1), "WORK on it");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    let folder = host.sandbox_folder(&config.sandbox_id);
    assert_eq!(sh(&folder.join("workspace/api"), "git log -1 --format='%an %s' change"), "Ada Lovelace Change two");
    {
        let taken = session.taken();
        for frame in &taken.frames {
            assert_eq!(holds_secret(frame.to_string().as_bytes()), None, "{frame}");
        }
        let check = taken.frames.iter().rfind(|f| f["type"] == "tool_call" && f["tool"] == "bash").expect("it ran");
        assert_eq!(check["exitCode"], 0, "{check}");
    }
    assert_files_are_clean(&folder.join("home"));
    assert_files_are_clean(&folder.join("run"));
    session.prompt(&id(2), "SLOW");
    session.frame("text", |f| f["type"] == "part_delta" && f["messageId"] == id(2)).await;
    let pid = supervisor(&config.sandbox_id).expect("runs");
    sh(&folder, &format!("kill -9 {pid}"));
    let done = session.completed(&id(2)).await;
    assert_eq!(done["error"], "The bridge restarted while the prompt ran.", "{done}");
    session.prompt(&id(3), "hello");
    assert_eq!(session.completed(&id(3)).await["success"], true, "in the same session of the agent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn the_agent_reads_while_git_is_at_work_and_its_changes_wait() {
    let (session, forge) = (Session::start().await, Forge::start().await);
    let mut config = config(&session, Some(&forge), &model::start().await);
    config.boot = oi_protocol::local_backend::BootFrom::SnapshotRestore { image_id: None };
    let sandbox = Sandbox::prepared_with_opencode(config, &opencode(), |folder| {
        forge.check_out(folder);
        forge.hold(true);
    });
    session.connected(1).await;
    session.prompt(&id(1), "WORK on it");
    let read =
        |frame: &Value| frame["type"] == "tool_call" && frame["tool"] == "read" && frame["status"] == "completed";
    session.frame("the read's end", read).await;
    let edits = |frame: &Value| frame["type"] == "tool_call" && frame["tool"] == "edit";
    session.frame("the edit's beginning", edits).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let file = sandbox.path("workspace/api/a.txt");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "one\ntwo\n", "the edit waits");
    assert_eq!(session.phase("fetch"), None);
    forge.hold(false);
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "one\nzwei\n");
    session.booted().await;
    session.prompt(&id(2), "hello");
    assert_eq!(session.completed(&id(2)).await["success"], true);
}
