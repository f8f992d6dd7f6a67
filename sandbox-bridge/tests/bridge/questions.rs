//! Questions of the agent, and what else it waits for, with the real OpenCode: `OI_OPENCODE` names it.

use serde_json::{Value, json};

use crate::id;
use crate::real_opencode::opencode;
use crate::support::model;
use crate::support::sandbox::{Sandbox, config};
use crate::support::session::Session;

async fn world() -> (Session, Sandbox) {
    let session = Session::start().await;
    let config = config(&session, None, &model::start().await);
    let sandbox = Sandbox::configured(config, &opencode(), &[]);
    session.booted().await;
    (session, sandbox)
}

fn ask() -> String {
    let options = json!([{"label": "red", "description": "the red one"}, {"label": "blue", "description": ""}]);
    let questions = json!({"questions": [{"question": "Which one?", "header": "Pick", "options": options}]});
    format!("CALL question {questions}")
}

async fn asked(session: &Session, message_id: &str) -> Value {
    session.frame("a question", |f| f["type"] == "input_request" && f["messageId"] == message_id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_question_reaches_people_and_its_answer_the_agent() {
    let (session, _sandbox) = world().await;
    session.prompt(&id(1), &ask());
    let question = asked(&session, &id(1)).await;
    assert_eq!((&question["kind"], &question["options"]), (&json!("question"), &json!(["red", "blue"])));
    assert_eq!(question["prompt"], "Which one?\n\n- red: the red one");
    let answer = json!({"type": "input_response", "requestId": question["requestId"], "messageId": id(1),
        "state": "answered", "answer": "red"});
    // Said twice, as after a new connection.
    session.send(&answer);
    session.send(&answer);
    assert_eq!(session.completed(&id(1)).await["success"], true);
    let text = session.texts(&id(1)).last().cloned().unwrap_or_default();
    assert!(text.contains("\"Which one?\"=\"red\""), "{text}");
    session.prompt(&id(2), &ask());
    let second = asked(&session, &id(2)).await;
    assert_ne!(second["requestId"], question["requestId"]);
    session.send(&json!({"type": "stop"}));
    assert_eq!(session.completed(&id(2)).await["error"], "Task was cancelled");
    session.prompt(&id(3), "hello");
    assert_eq!(session.completed(&id(3)).await["success"], true, "a rejected question holds nothing up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_list_of_things_to_do_and_the_effort_arrive_whole() {
    let (session, _sandbox) = world().await;
    let todos = json!([{"content": "one", "status": "in_progress", "priority": "high"},
        {"content": "two", "status": "pending", "priority": "low"}]);
    session.prompt(&id(1), &format!("CALL todowrite {}", json!({"todos": todos})));
    assert_eq!(session.completed(&id(1)).await["success"], true);
    let call = session.frame("the list", |f| f["tool"] == "todowrite" && f["status"] == "completed").await;
    assert_eq!(call["args"]["todos"], todos);
    let finished = session.frame("a step", |f| f["type"] == "step_finish").await;
    assert_eq!(finished["tokens"]["total"], 15, "{finished}");
    session.send(&json!({"type": "prompt", "messageId": id(2), "content": "EFFORT", "model": "demo/scripted",
        "reasoningEffort": "high", "author": {"userId": "u", "gitIdentity": {"mode": "agent-only"}}}));
    session.completed(&id(2)).await;
    assert_eq!(session.texts(&id(2)).last().map(String::as_str), Some("effort \"high\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_restored_sandbox_goes_on_in_the_agents_session() {
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
    assert_eq!(session.texts(&id(2)).last().map(String::as_str), Some("asked 2 times"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn a_provider_that_has_too_much_to_do_is_a_warning_and_not_the_end() {
    let (session, _sandbox) = world().await;
    session.prompt(&id(1), "OVERLOADED");
    let warning = session.frame("a warning", |frame| frame["type"] == "warning").await;
    assert!(warning["message"].as_str().expect("text").contains("Too much to do"), "{warning}");
    assert_eq!(session.completed(&id(1)).await["success"], true);
    assert!(!session.story(&id(1)).iter().any(|kind| kind == "error"));
}
