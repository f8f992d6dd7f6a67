//! What people change of waiting prompts.

use serde_json::{Value, json};

use crate::support::session::{Session, complete, value};

fn change(s: &mut Session, page: oi_session::input::SocketId, frame: &Value) -> Value {
    let _ = s.take(page);
    s.say(page, frame);
    let id = frame["clientRequestId"].clone();
    s.take(page).into_iter().find(|frame| frame["clientRequestId"] == id).expect("a change is answered")
}

fn queue_of(s: &mut Session) -> Vec<String> {
    let snapshot = s.call(oi_session::call::SessionCall::Snapshot { dialect: 2 });
    let queue = value(&snapshot.body)["promptQueue"].clone();
    queue.as_array().into_iter().flatten().map(|p| p["content"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_edited_prompt_is_given_to_the_agent_as_it_was_edited() {
    let (mut s, page, bridge, running) = Session::with_run();
    let waiting = s.queue(page, "r1", "old words");
    let edit = json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "e", "content": "new words",
        "model": "demo/other"});
    assert_eq!(change(&mut s, page, &edit)["type"], "prompt_edited");
    assert_eq!(queue_of(&mut s), ["do it", "new words"]);
    // The prompt's own request still names it.
    assert_eq!(s.prompt(page, "r1", "old words")["messageId"], json!(waiting));
    s.frame(bridge, 3, complete(&running, true));
    let sent = s.take_of(bridge, "prompt");
    assert_eq!((sent[0]["content"].clone(), sent[0]["model"].clone()), (json!("new words"), json!("demo/other")));
    assert_eq!(s.events("user_message")[1]["content"], "new words");
}

#[test]
fn only_its_author_edits_a_prompt() {
    let (mut s, page, _bridge, _) = Session::with_run();
    let waiting = s.queue(page, "r1", "Ada's words");
    let grace = s.page("Grace", 2);
    let edit = json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "e", "content": "not hers"});
    let before = s.dump();
    assert_eq!(change(&mut s, grace, &edit)["code"], "FORBIDDEN");
    assert_eq!(s.dump(), before);
    // Order is everybody's.
    let first = json!({"type": "reorder_prompts", "messageIds": [waiting], "clientRequestId": "o"});
    assert_eq!(change(&mut s, grace, &first)["type"], "prompts_reordered");
}

#[test]
fn waiting_prompts_are_put_in_order_and_the_rest_follow() {
    let (mut s, page, _bridge, running) = Session::with_run();
    let ids: Vec<_> = (0..4).map(|n| s.queue(page, &format!("r{n}"), &format!("p{n}"))).collect();
    // The running one was dispatched meanwhile and is passed over.
    let order = json!({"type": "reorder_prompts", "messageIds": [running, ids[3], ids[1]], "clientRequestId": "o"});
    assert_eq!(change(&mut s, page, &order)["type"], "prompts_reordered");
    assert_eq!(queue_of(&mut s), ["do it", "p3", "p1", "p0", "p2"]);
    s.queue(page, "r4", "p4");
    assert_eq!(queue_of(&mut s), ["do it", "p3", "p1", "p0", "p2", "p4"]);
}

#[test]
fn a_new_prompt_goes_behind_all_even_when_a_number_is_free_again() {
    let (mut s, page, _bridge, _) = Session::with_run();
    let first = s.queue(page, "a", "a");
    let second = s.queue(page, "b", "b");
    let order = json!({"type": "reorder_prompts", "messageIds": [second], "clientRequestId": "o"});
    change(&mut s, page, &order);
    s.say(page, &json!({"type": "cancel_prompt", "messageId": second, "clientRequestId": "c"}));
    s.queue(page, "c", "c");
    assert_eq!(queue_of(&mut s), ["do it", "a", "c"]);
    let _ = first;
}

#[test]
fn a_prompt_that_is_sent_now_stops_the_running_one_and_goes_first() {
    let (mut s, page, bridge, running) = Session::with_run();
    s.queue(page, "r1", "later");
    let urgent = s.queue(page, "r2", "urgent");
    let now = json!({"type": "send_now", "messageId": urgent, "clientRequestId": "n"});
    assert_eq!(change(&mut s, page, &now)["type"], "prompt_sent_now");
    assert_eq!(s.outcome(&running), "stopped");
    assert_eq!(s.take_of(bridge, "stop").len(), 1);
    s.frame(bridge, 3, complete(&running, false));
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(urgent));
    // Its repetition finds it done, and does not stop what runs now: itself.
    assert_eq!(change(&mut s, page, &now)["type"], "prompt_sent_now");
    assert_eq!(s.state(&urgent).0, "processing");
}

#[test]
fn a_change_is_made_once_and_its_request_id_is_its_own() {
    let (mut s, page, _bridge, running) = Session::with_run();
    let waiting = s.queue(page, "r1", "words");
    let edit = json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "e", "content": "first"});
    assert_eq!(change(&mut s, page, &edit)["type"], "prompt_edited");
    let other = json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "f", "content": "second"});
    assert_eq!(change(&mut s, page, &other)["type"], "prompt_edited");
    assert_eq!(change(&mut s, page, &edit)["type"], "prompt_edited", "a late repetition is answered");
    assert_eq!(queue_of(&mut s), ["do it", "second"], "and changes nothing");
    for frame in [
        json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "e", "content": "third"}),
        json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "r1", "content": "third"}),
    ] {
        assert_eq!(change(&mut s, page, &frame)["code"], "PROMPT_REQUEST_CONFLICT");
    }
    assert_eq!(s.prompt(page, "e", "a prompt")["code"], "PROMPT_REQUEST_CONFLICT");
    for frame in [
        json!({"type": "edit_prompt", "messageId": running, "clientRequestId": "g", "content": "x"}),
        json!({"type": "send_now", "messageId": running, "clientRequestId": "h"}),
        json!({"type": "reorder_prompts", "messageIds": [running], "clientRequestId": "i"}),
        json!({"type": "send_now", "messageId": "nonsense", "clientRequestId": "j"}),
    ] {
        assert_eq!(change(&mut s, page, &frame)["code"], "PROMPT_NOT_WAITING");
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM client_requests"), 2);
}

#[test]
fn an_old_page_is_not_offered_changes() {
    let (mut s, page, _bridge, _) = Session::with_run();
    let waiting = s.queue(page, "r1", "words");
    let old = s.page("Ada", 1);
    let edit = json!({"type": "edit_prompt", "messageId": waiting, "clientRequestId": "e", "content": "x"});
    assert_eq!(change(&mut s, old, &edit)["code"], "INVALID_MESSAGE");
    assert_eq!(queue_of(&mut s), ["do it", "words"]);
}
