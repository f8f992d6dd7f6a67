//! Questions of the agent.

use oi_protocol::MessageId;
use serde_json::{Value, json};

use crate::support::session::{Session, complete};

fn question(id: &MessageId, name: &str) -> Value {
    json!({"type": "input_request", "requestId": name, "messageId": id, "kind": "question", "prompt": "Which one?",
        "options": ["this", "that"], "sandboxId": "s", "timestamp": 1.0})
}

fn answer(name: &str, answer: &str, request: &str) -> Value {
    json!({"type": "input_response", "requestId": name, "answer": answer, "clientRequestId": request})
}

#[test]
fn a_question_waits_through_an_eviction_and_is_answered_once() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, question(&id, "q"));
    assert_eq!(s.take_of(page, "sandbox_event")[0]["event"]["state"], "waiting");
    s.host.evict();
    let (grace, subscribed) = s.subscribe("Grace", 2, None);
    assert_eq!(subscribed["inputRequests"][0]["requestId"], "q");
    let _ = s.take(bridge);
    s.say(grace, &answer("q", "that", "a"));
    assert_eq!(s.take_of(grace, "input_accepted").len(), 1);
    let told = s.take_of(bridge, "input_response");
    assert_eq!((told[0]["answer"].clone(), told[0]["state"].clone()), (json!("that"), json!("answered")));
    s.say(page, &answer("q", "this", "b"));
    assert_eq!(s.take_of(page, "error")[0]["code"], "INPUT_NOT_WAITING");
    // The one who answered may not have heard of it.
    s.say(grace, &answer("q", "that", "a"));
    assert_eq!(s.take_of(grace, "input_accepted").len(), 1);
    let stored = &s.events("input_request")[0];
    assert_eq!((stored["answer"].clone(), stored["answeredBy"]["name"].clone()), (json!("that"), json!("Grace")));
    assert!(s.subscribe("Ada", 2, None).1.get("inputRequests").is_none());
}

#[test]
fn a_bridge_that_comes_back_is_told_the_answers_again() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, question(&id, "q"));
    s.host.disconnect(bridge);
    s.say(page, &answer("q", "this", "a"));
    let bridge = s.connect(2);
    assert_eq!(s.take_of(bridge, "input_response")[0]["answer"], "this");
    s.frame(bridge, 4, complete(&id, true));
    s.host.disconnect(bridge);
    let bridge = s.connect(2);
    assert!(s.take_of(bridge, "input_response").is_empty(), "its prompt has ended");
}

#[test]
fn an_unanswered_question_expires_with_its_default() {
    let (mut s, page, bridge, id) = Session::with_run();
    let mut asked = question(&id, "q");
    asked["default"] = json!("this");
    asked["expiresAt"] = json!(s.host.now.0 + 20_000);
    s.frame(bridge, 3, asked);
    let _ = s.take(bridge);
    s.host.advance(20_100);
    let told = s.take_of(bridge, "input_response");
    assert_eq!((told[0]["state"].clone(), told[0]["answer"].clone()), (json!("expired"), json!("this")));
    s.say(page, &answer("q", "that", "late"));
    assert_eq!(s.take_of(page, "error")[0]["code"], "INPUT_NOT_WAITING");
}

#[test]
fn the_end_of_a_prompt_withdraws_its_questions() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, question(&id, "q"));
    s.say(page, &json!({"type": "stop"}));
    assert_eq!(s.events("input_request")[0]["state"], "withdrawn");
    s.say(page, &answer("q", "this", "a"));
    assert_eq!(s.take_of(page, "error")[0]["code"], "INPUT_NOT_WAITING");
}

#[test]
fn a_question_is_asked_once_and_by_the_current_prompt_alone() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, question(&id, "q"));
    s.frame(bridge, 4, question(&id, "q"));
    s.frame(bridge, 5, question(&MessageId::from_bytes([9; 16]), "other"));
    let mut forged = question(&id, "forged");
    forged["state"] = json!("answered");
    forged["answer"] = json!("yes");
    forged["answeredBy"] = json!({"participantId": "0".repeat(32), "name": "Ada"});
    s.frame(bridge, 6, forged);
    let mut long = question(&id, &"x".repeat(200));
    long["seq"] = json!(7);
    let _ = s.take(bridge);
    s.frame(bridge, 7, long);
    assert_eq!(s.take_of(bridge, "event_rejected")[0]["code"], "MALFORMED_EVENT");
    let events = s.events("input_request");
    assert_eq!(events.iter().map(|event| event["requestId"].clone()).collect::<Vec<_>>(), ["q", "forged"]);
    assert!(events.iter().all(|event| event["state"] == "waiting" && event.get("answer").is_none()));
    assert_eq!(s.count("SELECT COUNT(*) FROM questions"), 2);
    // Dialect 1 does not know it.
    let (_, old) = s.subscribe("Grace", 1, None);
    assert!(!old.to_string().contains("input_request") && old.get("inputRequests").is_none());
    let _ = page;
}

#[test]
fn a_bots_person_answers_by_rest() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, question(&id, "q"));
    let ask = || oi_session::call::SessionCall::AnswerQuestion {
        person: Box::new(crate::support::session::person("Grace")),
        request_id: "q".to_owned(),
        answer: "that".to_owned(),
    };
    assert_eq!(s.call(ask()).status, 200);
    assert_eq!(s.take_of(bridge, "input_response")[0]["answer"], "that");
    assert_eq!(s.call(ask()).status, 409);
    assert_eq!(s.events("input_request")[0]["answeredBy"]["name"], "Grace");
}

#[test]
fn the_time_in_which_the_agent_waits_for_a_person_is_not_the_prompts() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.config.execution_timeout_ms = 600_000;
    let alive = |s: &mut Session, ms: i64| {
        for _ in 0..ms / 30_000 {
            s.plain(bridge, &json!({"type": "heartbeat", "status": "working"}));
            s.host.advance(30_000);
        }
    };
    alive(&mut s, 300_000);
    s.frame(bridge, 3, question(&id, "q"));
    s.frame(bridge, 4, question(&id, "second"));
    s.host.evict();
    alive(&mut s, 2_400_000);
    assert_eq!(s.state(&id).0, "processing", "nobody has answered");
    s.say(page, &answer("q", "this", "a"));
    alive(&mut s, 2_400_000);
    assert_eq!(s.state(&id).0, "processing", "it waits for the other one still");
    s.say(page, &answer("second", "this", "b"));
    s.host.evict();
    alive(&mut s, 270_000);
    assert_eq!(s.state(&id).0, "processing");
    alive(&mut s, 60_000);
    assert_eq!(s.outcome(&id), "timed_out", "its own time is over");
}

#[test]
fn waiting_for_a_person_ends_with_the_sandboxs_life() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, question(&id, "q"));
    let mut minutes = 0;
    while s.state(&id).0 == "processing" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "working"}));
        s.host.advance(60_000);
        minutes += 1;
    }
    assert_eq!(s.outcome(&id), "timed_out");
    assert_eq!(minutes, 105, "two hours, less what is kept for putting it away");
    assert_eq!(s.events("input_request")[0]["state"], "withdrawn");
}
