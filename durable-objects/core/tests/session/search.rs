//! What search is told of a session.

use oi_protocol::MessageId;
use oi_session::call::{Principal, SessionCall};
use oi_session::search::{SearchPage, TurnDocument};
use serde_json::{Value, json};

use crate::support::session::{Session, complete, delta, done, tool, value};

fn ask(s: &mut Session, message_id: Option<MessageId>, after: i64) -> SearchPage {
    let reply = s.call_as(Principal::Platform, SessionCall::SearchTurns { message_id, after });
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("a page")
}

fn turn(s: &mut Session, id: &MessageId) -> TurnDocument {
    ask(s, Some(id.clone()), 0).turns.pop().expect("the turn ended")
}

fn edit(id: &MessageId, call: &str, args: Value, change: Option<&str>) -> Value {
    let mut event = tool(id, call, "completed");
    event["args"] = args;
    if let Some(path) = change {
        event["fileChange"] = json!({"path": path, "added": 1, "removed": 0});
    }
    event
}

#[test]
fn a_turn_that_ended_is_told_to_the_index_once_with_its_words_and_files() {
    let (mut s, _page, bridge, id) = Session::with_run();
    assert!(s.take_jobs("index_turn").is_empty());
    s.frame(bridge, 3, delta(&id, "p1", 0, "I look at the login.\u{2}"));
    s.frame(bridge, 4, done(&id, "p1", None, 21));
    s.frame(bridge, 5, edit(&id, "c1", json!({"filePath": "/work/src/a.rs"}), Some("src/a.rs")));
    s.frame(bridge, 6, edit(&id, "c2", json!({"filePath": "src/b.rs"}), None));
    s.frame(bridge, 7, edit(&id, "c3", json!({"path": 7}), None));
    s.frame(bridge, 8, edit(&id, "c4", json!({"command": "ls"}), Some("src/a.rs")));
    s.frame(bridge, 9, delta(&id, "p2", 0, "It works now."));
    assert!(ask(&mut s, Some(id.clone()), 0).turns.is_empty(), "it runs");
    s.frame(bridge, 10, complete(&id, true));
    let jobs = s.take_jobs("index_turn");
    assert_eq!(jobs.len(), 1);
    let document = turn(&mut s, &id);
    assert_eq!(document.prompt, "do it");
    assert_eq!(document.answer, "I look at the login. \nIt works now.");
    assert_eq!(document.paths, "src/b.rs\nsrc/a.rs");
    // What it was made of may leave.
    s.rows("DELETE FROM events");
    assert_eq!(turn(&mut s, &id), document);
}

#[test]
fn a_turn_of_many_words_and_calls_is_cut_to_its_last_ones() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let mut seq = 2;
    for n in 0..300 {
        seq += 1;
        s.frame(bridge, seq, edit(&id, &format!("c{n}"), json!({}), Some(&format!("{}/{n}.rs", "d".repeat(60)))));
    }
    for n in 0..4 {
        let text = format!("{n} {}", "ö".repeat(4_000));
        seq += 1;
        s.frame(bridge, seq, done(&id, &format!("p{n}"), Some(&text), 4_002));
    }
    s.frame(bridge, seq + 1, complete(&id, true));
    let document = turn(&mut s, &id);
    assert!((8_000..=16 * 1024 + 8).contains(&document.answer.len()), "{}", document.answer.len());
    assert!(document.answer.contains("\n3 ö") && !document.answer.contains("0 ö"));
    assert!(document.paths.len() <= 4 * 1024 && document.paths.ends_with("/299.rs"), "{}", document.paths.len());
}

#[test]
fn turns_are_told_page_by_page_with_those_of_before() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, done(&id, "p", Some("first words"), 11));
    s.frame(bridge, 4, complete(&id, true));
    let mut seq = 4;
    for n in 0..24 {
        let id = s.queue(page, &format!("r{n}"), &format!("prompt {n}"));
        s.frame(bridge, seq + 1, json!({"type": "prompt_accepted", "messageId": id}));
        s.frame(bridge, seq + 2, complete(&id, n % 2 == 0));
        seq += 2;
        s.host.now = s.host.now.plus(60_000);
    }
    let waiting = s.queue(page, "runs", "not ended");
    // A session of an older release kept none.
    s.rows("UPDATE messages SET searchable = NULL");
    let first = ask(&mut s, None, 0);
    assert_eq!((first.turns.len(), first.turns[0].answer.as_str()), (20, "first words"));
    let second = ask(&mut s, None, first.next.expect("more follow"));
    assert_eq!((second.turns.len(), second.next), (5, None));
    assert_eq!(second.turns[4].prompt, "prompt 23");
    assert!(!second.turns.iter().any(|turn| turn.message_id == waiting));
}

#[test]
fn a_prompt_that_was_never_begun_is_no_turn_and_a_deleted_session_says_nothing() {
    let (mut s, page, _bridge, id) = Session::with_run();
    let waiting = s.queue(page, "second", "later");
    s.call(SessionCall::Cancel);
    assert_eq!(s.take_jobs("index_turn").len(), 1);
    assert!(ask(&mut s, Some(waiting), 0).turns.is_empty());
    assert_eq!(turn(&mut s, &id).prompt, "do it");
    s.call_as(Principal::Platform, SessionCall::Delete);
    let reply = s.call_as(Principal::Platform, SessionCall::SearchTurns { message_id: Some(id), after: 0 });
    assert_eq!((reply.status, value(&reply.body)["code"].clone()), (404, json!("NOT_FOUND")));
}
