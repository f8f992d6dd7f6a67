//! Which models pages may name.

use std::collections::BTreeMap;

use oi_session::allowed_models::AllowedModels;
use oi_session::call::SessionCall;
use serde_json::{Value, json};

use crate::support::session::Session;

fn allow(s: &mut Session, version: i64, models: &[(&str, &[&str])]) {
    let models: BTreeMap<String, Vec<String>> = models
        .iter()
        .map(|(id, efforts)| ((*id).to_owned(), efforts.iter().map(|effort| (*effort).to_owned()).collect()))
        .collect();
    let reply = s.call(SessionCall::AllowModels(Box::new(AllowedModels { version, models })));
    assert_eq!(reply.status, 200, "{}", reply.body);
}

fn ask(s: &mut Session, page: oi_session::input::SocketId, request: &str, model: &str, effort: Option<&str>) -> Value {
    let mut frame = json!({"type": "prompt", "clientRequestId": request, "content": "hi", "model": model});
    if let Some(effort) = effort {
        frame["reasoningEffort"] = json!(effort);
    }
    s.say(page, &frame);
    s.take(page).into_iter().find(|frame| frame["clientRequestId"] == request).expect("it is answered")
}

#[test]
fn a_pages_prompt_names_an_enabled_model_and_one_of_its_efforts_or_none() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    assert_eq!(ask(&mut s, page, "before", "any/model", None)["type"], "prompt_queued", "no list is known yet");
    allow(&mut s, 2, &[("a/one", &["low"]), ("a/two", &[])]);
    assert_eq!(ask(&mut s, page, "r1", "a/one", Some("low"))["type"], "prompt_queued");
    let refused = ask(&mut s, page, "r2", "any/model", None);
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("INVALID_PROMPT")));
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("a/one, a/two")), "{refused}");
    assert_eq!(ask(&mut s, page, "r3", "a/one", Some("max"))["code"], "INVALID_PROMPT");
    // A repetition of what was taken is still the same prompt.
    assert_eq!(ask(&mut s, page, "before", "any/model", None)["type"], "prompt_queued");
    assert_eq!(s.prompt(page, "r4", "the session's own model")["type"], "prompt_queued");
    // An older list that comes late changes nothing.
    allow(&mut s, 1, &[("any/model", &[])]);
    assert_eq!(ask(&mut s, page, "r5", "any/model", None)["code"], "INVALID_PROMPT");
    s.host.evict();
    allow(&mut s, 3, &[("any/model", &[])]);
    let page = s.page("Ada", 2);
    assert_eq!(ask(&mut s, page, "r6", "any/model", None)["type"], "prompt_queued");
    assert_eq!(ask(&mut s, page, "r7", "a/one", None)["code"], "INVALID_PROMPT");
}

#[test]
fn a_waiting_prompt_is_not_changed_to_a_model_that_is_not_enabled() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "r1", "wait");
    allow(&mut s, 1, &[("a/one", &[])]);
    let edit = |request: &str, model: &str| json!({"type": "edit_prompt", "clientRequestId": request, "messageId": id.as_str(), "content": "x", "model": model});
    for (request, model, expected) in [("e1", "b/two", "error"), ("e2", "a/one", "prompt_edited")] {
        s.say(page, &edit(request, model));
        let answer = s.take(page).into_iter().find(|frame| frame["clientRequestId"] == request).expect("an answer");
        assert_eq!(answer["type"], expected, "{answer}");
    }
}
