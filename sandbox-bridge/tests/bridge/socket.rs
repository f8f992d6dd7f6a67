//! The socket to the session: order, receipts, repetition, both dialects.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::id;
use crate::support::eventually;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::Sandbox;
use crate::support::session::Session;

async fn world() -> (Session, FakeOpenCode, Sandbox) {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    session.connected(1).await;
    (session, opencode, sandbox)
}

#[tokio::test]
async fn the_bridge_dials_first_and_tells_the_boot() {
    let (session, _opencode, _sandbox) = world().await;
    session.booted().await;
    let taken = session.taken();
    let headers = &taken.headers[0];
    assert_eq!(headers["x-bridge-dialect"], "2");
    assert!(headers["x-sandbox-id"].to_str().unwrap().starts_with("sandbox-test-"));
    let phases: Vec<String> = taken
        .frames
        .iter()
        .filter(|frame| frame["type"] == "boot_progress")
        .map(|frame| format!("{} {}", frame["phase"].as_str().unwrap(), frame["status"].as_str().unwrap()))
        .collect();
    assert_eq!(phases, ["workspace completed", "agent started", "agent completed", "ready completed"]);
    let ready = taken.frames.iter().find(|frame| frame["type"] == "ready").expect("ready is told");
    assert!(ready["runtimeVersion"].as_str().unwrap().starts_with("v100-"));
}

#[tokio::test]
async fn a_prompt_is_accepted_at_once_and_runs_to_its_end() {
    let (session, _opencode, _sandbox) = world().await;
    session.prompt(&id(1), "PLAIN and TOOL");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    let story = session.story(&id(1));
    assert_eq!(story[0], "prompt_accepted");
    assert_eq!(story.last().map(String::as_str), Some("execution_complete"));
    for kind in ["step_start", "part_delta", "part_done", "tool_call", "step_finish"] {
        assert!(story.iter().any(|known| known == kind), "{kind} in {story:?}");
    }
    assert_eq!(session.texts(&id(1)), ["word0😀 word1😀 word2😀 word3😀 word4😀 "]);
    assert_eq!(session.taken().gaps, 0);
}

#[tokio::test]
async fn frames_are_kept_through_an_outage_and_taken_once_each() {
    let (session, _opencode, _sandbox) = world().await;
    session.booted().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    for round in 2..5 {
        session.cut();
        session.connected(round).await;
    }
    session.send(&json!({"type": "stop"}));
    let done = session.completed(&id(1)).await;
    assert_eq!(done["error"], "Task was cancelled");
    let taken = session.taken();
    let seqs: Vec<i64> = taken.frames.iter().filter_map(|frame| frame["seq"].as_i64()).collect();
    let expected: Vec<i64> = (1..=seqs.len() as i64).collect();
    assert_eq!(seqs, expected, "numbered without a gap or a repetition");
    assert_eq!(taken.gaps, 0);
    let text = taken.frames.iter().rfind(|frame| frame["type"] == "part_done").expect("the part ends");
    let words: Vec<&str> = text["text"].as_str().unwrap().split_whitespace().collect();
    for (n, word) in words.iter().enumerate() {
        assert_eq!(*word, format!("word{n}😀"), "no text is lost or doubled");
    }
}

#[tokio::test]
async fn what_a_session_forgot_comes_again() {
    let (session, _opencode, _sandbox) = world().await;
    session.booted().await;
    session.inner.acknowledge.store(false, Ordering::Relaxed);
    let mark = session.taken().mark;
    session.prompt(&id(1), "PLAIN");
    session.completed(&id(1)).await;
    let before: Vec<Value> = session.taken().frames[mark as usize..].to_vec();
    // Evicted before it wrote anything of the prompt.
    session.cut();
    session.forget_to(mark);
    session.connected(2).await;
    session.completed(&id(1)).await;
    assert_eq!(session.taken().frames[mark as usize..], before[..]);
}

#[tokio::test]
async fn a_known_prompt_is_answered_with_its_state_and_runs_once() {
    let (session, opencode, _sandbox) = world().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    session.prompt(&id(1), "SLOW");
    eventually("a second acceptance", Duration::from_secs(10), || {
        let accepted = session.story(&id(1)).iter().filter(|kind| *kind == "prompt_accepted").count();
        (accepted == 2).then_some(())
    })
    .await;
    session.send(&json!({"type": "stop"}));
    session.completed(&id(1)).await;
    session.prompt(&id(1), "SLOW");
    eventually("the end again", Duration::from_secs(10), || {
        let ends = session.story(&id(1)).iter().filter(|kind| *kind == "execution_complete").count();
        (ends == 2).then_some(())
    })
    .await;
    let taken = session.taken();
    let ends: Vec<&Value> = taken.frames.iter().filter(|f| f["type"] == "execution_complete").collect();
    assert_eq!((&ends[0]["success"], &ends[0]["error"]), (&ends[1]["success"], &ends[1]["error"]));
    assert_eq!(opencode.prompts(), 1);
}

#[tokio::test]
async fn a_supervisor_that_is_killed_in_a_run_ends_it_visibly() {
    let (session, opencode, mut sandbox) = world().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    sandbox.crash();
    opencode.die();
    sandbox.start();
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], false);
    assert_eq!(done["error"], "The bridge restarted while the prompt ran.");
    let told = session.frame("an error", |frame| frame["type"] == "error" && frame["messageId"] == id(1)).await;
    assert_eq!(told["error"], done["error"]);
    assert_eq!(opencode.prompts(), 1, "it is not given again");
    session.prompt(&id(2), "PLAIN");
    assert_eq!(session.completed(&id(2)).await["success"], true);
    let seqs: Vec<i64> = session.taken().frames.iter().filter_map(|frame| frame["seq"].as_i64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_supervisor_that_is_killed_between_acceptance_and_start_runs_the_prompt_after_it_returns() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    // OpenCode that is not up yet: the prompt waits.
    let mut sandbox = Sandbox::with_stand_in(&session, None, "http://127.0.0.1:9");
    session.connected(1).await;
    session.prompt(&id(1), "PLAIN");
    session.frame("acceptance", |frame| frame["type"] == "prompt_accepted").await;
    sandbox.crash();
    sandbox.replace_stand_in(&opencode.url);
    sandbox.start();
    assert_eq!(session.completed(&id(1)).await["success"], true);
    assert_eq!(opencode.prompts(), 1);
}

#[tokio::test]
async fn a_refused_upgrade_ends_the_sandbox() {
    for status in [401, 403, 404, 410] {
        let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
        session.inner.refuse_with.store(status, Ordering::Relaxed);
        let mut sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
        assert!(sandbox.ended().await.success(), "{status}: an orderly end, which nobody repeats");
    }
}

#[tokio::test]
async fn other_refusals_are_tried_again() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    session.inner.refuse_with.store(503, Ordering::Relaxed);
    let _sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    session.connected(3).await;
    session.inner.refuse_with.store(0, Ordering::Relaxed);
    session.booted().await;
}

#[tokio::test]
async fn shutdown_ends_the_sandbox_in_order() {
    let (session, _opencode, mut sandbox) = world().await;
    session.booted().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    session.send(&json!({"type": "shutdown"}));
    assert!(sandbox.ended().await.success());
    assert_eq!(session.completed(&id(1)).await["error"], "Task was cancelled");
}

#[tokio::test]
async fn an_open_inspect_session_gets_dialect_1() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    session.inner.dialect_1.store(true, Ordering::Relaxed);
    let _sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    session.connected(1).await;
    session.prompt(&id(1), "PLAIN and TOOL");
    let done = eventually("the end", Duration::from_secs(60), || {
        session.taken().loose.iter().find(|f| f["type"] == "execution_complete").cloned()
    })
    .await;
    assert_eq!(done["ackId"], format!("execution_complete:{}", id(1)));
    let taken = session.taken();
    let kinds: Vec<&str> = taken.loose.iter().filter_map(|frame| frame["type"].as_str()).collect();
    assert_eq!(kinds[0], "ready");
    assert!(!kinds.iter().any(|kind| ["part_delta", "part_done", "prompt_accepted", "boot_progress"].contains(kind)));
    let token = taken.loose.iter().rfind(|frame| frame["type"] == "token").expect("text is told");
    assert_eq!(token["content"], "word0😀 word1😀 word2😀 word3😀 word4😀 ");
    assert!(taken.frames.is_empty(), "nothing is numbered");
}

#[tokio::test]
async fn commands_of_any_shape_leave_the_bridge_standing() {
    let (session, _opencode, _sandbox) = world().await;
    session.booted().await;
    for odd in [
        json!({"type": "unknown"}),
        json!([1, 2]),
        json!("x"),
        json!({"type": "prompt"}),
        json!({"type": "prompt", "messageId": "../../x", "content": 1}),
        json!({"type": "push", "pushSpec": {}}),
        json!({"type": "ack", "seq": 9_000_000}),
        json!({"type": "ack"}),
        json!({"type": "event_rejected", "seq": -1, "code": "X"}),
        json!({"type": "stop"}),
        json!({"type": "refresh_diff"}),
    ] {
        session.send(&odd);
    }
    session.prompt(&id(1), "PLAIN");
    assert_eq!(session.completed(&id(1)).await["success"], true);
    assert_eq!(session.taken().connections, 1);
}
