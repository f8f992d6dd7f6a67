//! Sizes of pages, bounds of what is sent, and the words of refusals.

use oi_protocol::limits;
use oi_session::call::{CallReply, Principal, SessionCall};
use oi_session::child_summary::SummaryQuery;
use oi_session::sql::Sql;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, value};

fn code(reply: &CallReply) -> (u16, Value) {
    (reply.status, value(&reply.body)["code"].clone())
}

fn listed(s: &mut Session, limit: Option<u32>) -> usize {
    let call = SessionCall::Events { cursor: None, limit, event_type: None, message_id: None };
    value(&s.call(call).body)["events"].as_array().map_or(0, Vec::len)
}

#[test]
fn pages_of_events_have_50_rows_unless_asked_and_200_at_most() {
    let (mut s, _page, bridge) = Session::with_bridge();
    for n in 0..1_050 {
        s.frame(bridge, 2 + n, json!({"type": "warning", "scope": "setup", "message": "w", "timestamp": 1}));
    }
    assert_eq!([listed(&mut s, None), listed(&mut s, Some(7)), listed(&mut s, Some(9_999))], [50, 7, 200]);
    let trajectory = |s: &mut Session, limit: Option<&str>| {
        let call = SessionCall::ChildSummary(SummaryQuery {
            include: vec!["trajectory".to_owned()],
            trajectory_limit: limit.map(str::to_owned),
            trajectory_cursor: None,
        });
        value(&s.call_as(Principal::Platform, call).body)["trajectory"]["events"].as_array().map_or(0, Vec::len)
    };
    assert_eq!([trajectory(&mut s, None), trajectory(&mut s, Some("1000"))], [200, 1_000]);
    assert_eq!(trajectory(&mut s, Some("1001")), 0, "it is refused");
}

#[test]
fn pages_of_messages_have_50_rows_unless_asked_and_100_at_most() {
    let (mut s, page, bridge) = Session::with_bridge();
    for n in 0..103 {
        let id = s.queue(page, &format!("r{n}"), "x");
        s.frame(bridge, 2 + n, complete(&id, true));
        s.host.advance(1_000);
    }
    let listed = |s: &mut Session, limit| {
        let body = value(&s.call(SessionCall::Messages { cursor: None, limit, status: None }).body);
        (body["messages"].as_array().map_or(0, Vec::len), body["hasMore"] == json!(true))
    };
    assert_eq!(listed(&mut s, None), (50, true));
    assert_eq!(listed(&mut s, Some(3)), (3, true));
    assert_eq!(listed(&mut s, Some(9_999)), (100, true));
}

#[test]
fn a_request_id_of_128_characters_is_the_longest() {
    let (mut s, page, _bridge) = Session::with_bridge();
    s.queue(page, &"r".repeat(128), "x");
    let before = s.dump();
    let _ = s.take(page);
    for id in ["r".repeat(129), String::new()] {
        s.say(page, &json!({"type": "prompt", "clientRequestId": id, "content": "x"}));
        let refused = s.take(page).pop().expect("an answer");
        assert_eq!(refused["code"], "INVALID_PROMPT");
        assert!(refused.get("clientRequestId").is_none(), "one that is not valid is not echoed");
    }
    assert_eq!(s.dump(), before);
}

#[test]
fn a_session_stores_so_many_outputs_and_no_more() {
    let (mut s, _page, _bridge, _id) = Session::with_run();
    let token = s.sandbox().token;
    let store = |s: &mut Session, output_id: &str| {
        let call = SessionCall::AuthorizeOutput { output_id: output_id.to_owned(), bytes: 1 };
        code(&s.call_as(Principal::Sandbox { token: token.clone() }, call))
    };
    assert_eq!(store(&mut s, "one").0, 200);
    let all_but_one =
        format!("UPDATE storage_use SET objects = {} WHERE kind = 'output'", limits::OUTPUT_FILES_MAX - 1);
    s.host.sql.inner.run(&all_but_one, &[]).expect("a test's own statement is right");
    assert_eq!(store(&mut s, "last").0, 200);
    assert_eq!(store(&mut s, "one too many"), (400, json!("INVALID_PARAMETER")), "a name with spaces is none");
    assert_eq!(store(&mut s, "one-too-many"), (429, json!("RATE_LIMITED")));
}

#[test]
fn a_prompt_that_does_not_fit_makes_nobody_a_participant() {
    let (mut s, page, _bridge) = Session::with_bridge();
    for n in 0..10 {
        s.queue(page, &format!("r{n}"), "x");
    }
    let people = s.count("SELECT COUNT(*) FROM participants");
    assert_eq!(code(&s.rest_prompt("from Grace", None)), (429, json!("PROMPT_QUEUE_FULL")));
    assert_eq!(s.count("SELECT COUNT(*) FROM participants"), people);
}

#[test]
fn refusals_say_their_kind_in_a_word() {
    let (mut s, _page, _bridge, _id) = Session::with_run();
    let token = s.sandbox().token;
    assert_eq!(code(&s.call(SessionCall::Archive)), (409, json!("CONFLICT")));
    let large = SessionCall::AuthorizeOutput { output_id: "o".to_owned(), bytes: i64::MAX };
    assert_eq!(code(&s.call_as(Principal::Sandbox { token: token.clone() }, large)), (413, json!("TOO_LARGE")));
    let stranger = Principal::Sandbox { token: "0".repeat(32) };
    assert_eq!(code(&s.call_as(stranger, SessionCall::VerifySandbox)), (401, json!("UNAUTHORIZED")));
    assert_eq!(s.call(SessionCall::Cancel).status, 200);
    s.run_jobs();
    let gone = s.call_as(Principal::Sandbox { token }, SessionCall::VerifySandbox);
    assert_eq!(code(&gone), (410, json!("SANDBOX_GONE")));
}
