//! Outputs that are too long for an event: who may store them, and what an event may refer to.

use oi_protocol::limits;
use oi_session::call::{Principal, SessionCall};
use serde_json::{Value, json};

use crate::support::session::{Session, tool};

fn store(s: &mut Session, token: &str, output_id: &str, bytes: i64) -> (u16, Value) {
    let principal = Principal::Sandbox { token: token.to_owned() };
    let call = SessionCall::AuthorizeOutput { output_id: output_id.to_owned(), bytes };
    let reply = s.host.call(principal, call).expect("no fault");
    let reply = s.host.replies.remove(&reply).expect("answered at once");
    (reply.status, serde_json::from_str(&reply.body).expect("JSON"))
}

#[test]
fn an_event_refers_only_to_an_output_that_this_session_stored() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let token = s.sandbox().token;
    assert_eq!(store(&mut s, &token, "known", 40_000).0, 200);
    let mut call = tool(&id, "c", "completed");
    for (seq, output_ref, kept) in [(3, "known", true), (4, "unknown", false), (5, "../media/x", false)] {
        call["callId"] = json!(output_ref);
        call["outputRef"] = json!(output_ref);
        s.frame(bridge, seq, call.clone());
        let stored = s.events("tool_call").pop().expect("the call is kept");
        assert_eq!(stored.get("outputRef").is_some(), kept, "{output_ref}");
    }
}

#[test]
fn only_the_sandbox_that_may_act_stores_outputs() {
    let (mut s, _page, _bridge, _id) = Session::with_run();
    assert_eq!(store(&mut s, &"0".repeat(32), "o", 1).0, 401);
    let token = s.sandbox().token;
    assert_eq!(store(&mut s, &token, "a/b", 1).0, 400);
    assert_eq!(store(&mut s, &token, "o", limits::OUTPUT_FILE_MAX_BYTES as i64 + 1).0, 413);
    assert_eq!(store(&mut s, &token, "o", -1).0, 413);
    assert_eq!(s.count("SELECT COUNT(*) FROM outputs"), 0, "a refusal writes nothing");
}

#[test]
fn an_output_that_is_stored_twice_counts_once_and_there_is_an_end_to_them() {
    let (mut s, _page, _bridge, _id) = Session::with_run();
    let token = s.sandbox().token;
    for bytes in [10, 10, 30] {
        assert_eq!(store(&mut s, &token, "o", bytes).0, 200);
    }
    assert_eq!(s.count("SELECT objects * 1000 + bytes FROM storage_use WHERE kind = 'output'"), 1030);
    let each = limits::OUTPUT_FILE_MAX_BYTES as i64;
    let fit = limits::OUTPUT_FILES_MAX_BYTES / each;
    let taken = (0..=fit).filter(|n| store(&mut s, &token, &format!("big-{n}"), each).0 == 200).count() as i64;
    assert_eq!(taken, fit - 1, "30 bytes are taken already");
    let (status, refused) = store(&mut s, &token, "more", each);
    assert_eq!((status, refused["code"].clone()), (429, json!("RATE_LIMITED")));
    assert_eq!(store(&mut s, &token, "o", 20).0, 200, "what is there may come again");
}
