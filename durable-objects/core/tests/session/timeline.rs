//! What pages are given: snapshots, resumes, history, presence.

use oi_session::call::SessionCall;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, delta, done, ready, tool, value};

fn ids(page: &Value) -> Vec<String> {
    page["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| e["eventId"].as_str().expect("an id").to_owned())
        .collect()
}

fn warnings(s: &mut Session, bridge: oi_session::input::SocketId, from: i64, count: i64, size: usize) {
    for n in 0..count {
        let message = format!("{n} {}", "w".repeat(size));
        s.frame(bridge, from + n, json!({"type": "warning", "scope": "setup", "message": message, "timestamp": 1}));
    }
}

#[test]
fn a_page_that_resumes_gets_what_changed_since() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, tool(&id, "c", "running"));
    let (first, subscribed) = s.subscribe("Grace", 2, None);
    assert_eq!((subscribed["dialect"].clone(), subscribed["timeline"]["mode"].clone()), (json!(2), json!("snapshot")));
    let revision = subscribed["revision"].as_i64().expect("a revision");
    s.host.disconnect(first);
    s.frame(bridge, 4, tool(&id, "c", "completed"));
    s.frame(bridge, 5, tool(&id, "d", "running"));
    s.frame(bridge, 6, tool(&id, "d", "completed"));
    let (_, resumed) = s.subscribe("Grace", 2, Some(revision));
    assert_eq!(resumed["timeline"]["mode"], "delta");
    let events = resumed["timeline"]["events"].as_array().expect("events");
    assert_eq!(events.len(), 2, "a row changed twice arrives once");
    assert!(events.iter().all(|e| e["event"]["status"] == "completed"));
    assert_eq!(resumed["revision"], revision + 3);
    let (_, nothing) = s.subscribe("Grace", 2, Some(revision + 3));
    assert_eq!(
        (nothing["timeline"]["mode"].clone(), nothing["timeline"]["events"].clone()),
        (json!("delta"), json!([]))
    );
}

#[test]
fn a_revision_that_cannot_be_resumed_gets_a_snapshot() {
    let (mut s, _page, bridge) = Session::with_bridge();
    let (_, ahead) = s.subscribe("Grace", 2, Some(999_999));
    assert_eq!(ahead["timeline"]["mode"], "snapshot");
    warnings(&mut s, bridge, 2, 501, 1);
    let (_, far) = s.subscribe("Grace", 2, Some(1));
    assert_eq!(far["timeline"]["mode"], "snapshot");
    assert_eq!(
        (far["timeline"]["events"].as_array().map(Vec::len), far["timeline"]["hasMore"].clone()),
        (Some(500), json!(true))
    );
    let (_, near) = s.subscribe("Grace", 2, Some(2));
    assert_eq!(
        (near["timeline"]["mode"].clone(), near["timeline"]["events"].as_array().map(Vec::len)),
        (json!("delta"), Some(500))
    );
}

#[test]
fn too_many_bytes_since_give_a_snapshot_that_is_bounded() {
    let (mut s, _page, bridge) = Session::with_bridge();
    warnings(&mut s, bridge, 2, 60, 15_000);
    let (_, resumed) = s.subscribe("Grace", 2, Some(1));
    assert_eq!(resumed["timeline"]["mode"], "snapshot");
    let size = resumed["timeline"].to_string().len();
    assert!((300_000..560_000).contains(&size), "{size}");
    assert_eq!(resumed["timeline"]["hasMore"], true);
}

#[test]
fn live_revisions_have_no_gaps() {
    let (mut s, page, bridge, id) = Session::with_run();
    let mut seq = 2;
    for n in 0..20 {
        for event in
            [delta(&id, &format!("p{n}"), 0, "x"), tool(&id, "c", "running"), done(&id, &format!("p{n}"), None, 1)]
        {
            seq += 1;
            s.frame(bridge, seq, event);
        }
    }
    s.frame(bridge, seq + 1, complete(&id, true));
    let revisions: Vec<i64> = s.take(page).iter().filter_map(|frame| frame["revision"].as_i64()).collect();
    assert!(revisions.len() > 40);
    assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{revisions:?}");
}

#[test]
fn history_pages_reach_the_beginning_without_gap_or_repetition() {
    let (mut s, page, bridge) = Session::with_bridge();
    warnings(&mut s, bridge, 2, 650, 1_500);
    let (_, subscribed) = s.subscribe("Grace", 2, None);
    let mut seen = ids(&subscribed["timeline"]);
    let mut cursor = subscribed["timeline"]["cursor"].clone();
    let mut pages = 0;
    loop {
        s.host.advance(250);
        let _ = s.take(page);
        s.say(page, &json!({"type": "fetch_history", "cursor": cursor, "limit": 120}));
        let answer = s.take_of(page, "history_page").pop().expect("a page");
        let mut older = ids(&json!({"events": answer["items"]}));
        assert!(!older.is_empty());
        older.extend(seen);
        seen = older;
        cursor = answer["cursor"].clone();
        pages += 1;
        if answer["hasMore"] == json!(false) {
            break;
        }
    }
    assert!(pages > 1);
    let stored: Vec<String> = s
        .rows("SELECT id FROM events WHERE revision IS NOT NULL ORDER BY seq")
        .into_iter()
        .map(|row| match &row[0] {
            oi_session::sql::Value::Text(id) => id.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, stored);
}

#[test]
fn history_is_throttled_and_bad_cursors_are_told() {
    let (mut s, page, bridge) = Session::with_bridge();
    warnings(&mut s, bridge, 2, 5, 1);
    s.host.advance(100);
    let ask = |s: &mut Session, cursor: Value| {
        let _ = s.take(page);
        s.say(page, &json!({"type": "fetch_history", "cursor": cursor}));
        s.take(page).pop().expect("an answer")
    };
    let cursor = json!({"timestamp": 1, "id": "x", "sequence": 4});
    assert_eq!(ask(&mut s, cursor.clone())["type"], "history_page");
    assert_eq!(ask(&mut s, cursor.clone())["code"], "RATE_LIMITED");
    s.host.advance(200);
    assert_eq!(ask(&mut s, json!({"timestamp": 1, "id": "unknown"}))["code"], "INVALID_CURSOR");
    assert_eq!(ask(&mut s, cursor)["type"], "history_page", "a bad cursor costs no turn");
    s.say(page, &json!({"type": "fetch_history"}));
    assert_eq!(s.take(page).pop().expect("an answer")["code"], "INVALID_CURSOR");
}

#[test]
fn dialect_1_is_given_nothing_that_it_does_not_know() {
    let (mut s, page, bridge, id) = Session::with_run();
    let old = s.page("Grace", 1);
    s.queue(page, "next", "waits");
    let mut call = tool(&id, "c", "completed");
    call["exitCode"] = json!(0);
    s.frame(bridge, 3, call);
    s.frame(
        bridge,
        4,
        json!({"type": "part_delta", "messageId": id, "partId": "r", "kind": "reasoning", "offset": 0, "text": "hm"}),
    );
    s.frame(bridge, 5, json!({"type": "part_done", "messageId": id, "partId": "r", "kind": "reasoning", "length": 2}));
    s.frame(bridge, 6, delta(&id, "p", 0, "hi"));
    s.frame(
        bridge,
        7,
        json!({"type": "boot_progress", "phase": "clone", "status": "started", "startedAt": 1, "timestamp": 1}),
    );
    s.frame(bridge, 8, complete(&id, true));
    let (_, subscribed) = s.subscribe("Linus", 1, Some(1));
    let mut all = s.take(old);
    all.push(subscribed.clone());
    let text = json!(all).to_string();
    for addition in [
        "\"dialect\"",
        "\"revision\"",
        "\"mode\"",
        "\"openParts\"",
        "exitCode",
        "outcome",
        "reasoning\"",
        "boot_progress",
        "part_delta",
        "part_done",
        "\"batch\"",
        "\"partId\"",
    ] {
        assert!(!text.contains(addition), "{addition} in {text}");
    }
    let queue = all.iter().rfind(|f| f["type"] == "prompt_queue_updated").expect("a queue");
    let keys: Vec<_> = queue["promptQueue"][0].as_object().expect("a prompt").keys().cloned().collect();
    assert_eq!(keys, ["content", "messageId", "status"]);
    let shown: Vec<_> = subscribed["timeline"]["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| e["event"]["type"].clone())
        .collect();
    assert!(shown.contains(&json!("token")) && shown.contains(&json!("execution_complete")), "{shown:?}");
}

#[test]
fn a_page_must_subscribe_with_a_token_that_is_known_and_fresh() {
    let mut s = Session::new();
    let token = s.token("Ada");
    for (token, reason) in [("", "Authentication required"), ("no", "Invalid authentication token")] {
        let socket = s.host.open_client().expect("no fault");
        s.say(socket, &json!({"type": "subscribe", "token": token, "clientId": "c"}));
        assert_eq!(s.closed(socket), Some((4001, reason.to_owned())));
    }
    let socket = s.host.open_client().expect("no fault");
    s.say(socket, &json!({"type": "prompt", "clientRequestId": "r", "content": "x"}));
    assert_eq!(s.closed(socket).map(|(code, _)| code), Some(4002), "a page that did not subscribe may not prompt");
    let slow = s.host.open_client().expect("no fault");
    s.host.advance(30_100);
    assert_eq!(s.closed(slow), Some((4008, "Authentication timeout".to_owned())));
    s.host.advance(86_400_000);
    let late = s.host.open_client().expect("no fault");
    s.say(late, &json!({"type": "subscribe", "token": token, "clientId": "c"}));
    assert_eq!(s.closed(late), Some((4001, "Token expired".to_owned())));
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), 0);
}

#[test]
fn a_second_tab_does_not_invalidate_the_first() {
    let mut s = Session::new();
    let tokens = [s.token("Ada"), s.token("Ada")];
    for token in tokens {
        let socket = s.host.open_client().expect("no fault");
        s.say(socket, &json!({"type": "subscribe", "token": token, "clientId": "c"}));
        assert_eq!(s.closed(socket), None);
    }
    for _ in 0..100 {
        s.token("Ada");
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM client_tokens"), 32);
    let dump = format!("{:?}", s.dump());
    let token = s.token("Ada");
    assert!(!dump.contains(&token) && !format!("{:?}", s.dump()).contains(&token), "only its hash is stored");
}

#[test]
fn presence_is_one_entry_a_person_and_ends_with_the_last_page() {
    let mut s = Session::new();
    let ada = s.page("Ada", 2);
    let grace = [s.page("Grace", 2), s.page("Grace", 1)];
    let people = s.take_of(ada, "presence_update").pop().expect("an update");
    assert_eq!(people["participants"].as_array().map(Vec::len), Some(2));
    s.say(grace[0], &json!({"type": "presence", "status": "idle"}));
    let people = s.take_of(ada, "presence_update").pop().expect("an update");
    assert!(
        people["participants"].as_array().expect("people").iter().all(|p| p["status"] == "active"),
        "another page is active"
    );
    s.host.disconnect(grace[0]);
    assert!(s.take_of(ada, "presence_leave").is_empty());
    s.host.evict();
    s.host.disconnect(grace[1]);
    assert_eq!(s.take_of(ada, "presence_leave").len(), 1, "presence outlives an eviction");
    let again = s.page("Grace", 2);
    let _ = s.take(ada);
    s.say(again, &json!({"type": "subscribe", "token": "x", "clientId": "c"}));
    assert_eq!(s.closed(again), Some((4003, "Already subscribed".to_owned())));
    assert_eq!(s.take_of(ada, "presence_leave").len(), 1, "a page that is closed by us leaves too");
}

#[test]
fn typing_is_told_to_the_others_of_dialect_2() {
    let mut s = Session::new();
    let (ada, grace, old) = (s.page("Ada", 2), s.page("Grace", 2), s.page("Linus", 1));
    s.say(ada, &json!({"type": "typing"}));
    assert_eq!(s.take_of(grace, "typing")[0]["name"], "Ada");
    assert!(s.take_of(old, "typing").is_empty() && s.take_of(ada, "typing").is_empty());
}

#[test]
fn bad_frames_of_a_page_are_told_and_change_nothing() {
    let (mut s, page, _bridge) = Session::with_bridge();
    let before = s.dump();
    let large = format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(300_000));
    for (text, code) in [
        ("{", "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        ("{\"type\":\"nope\"}", "INVALID_MESSAGE"),
        ("{\"type\":\"prompt\",\"clientRequestId\":\"r\",\"content\":\" \"}", "INVALID_PROMPT"),
        (large.as_str(), "INVALID_MESSAGE"),
    ] {
        let _ = s.take(page);
        s.host.client_sends(page, text);
        assert_eq!(s.take(page)[0]["code"], code);
        assert_eq!(s.closed(page), None);
    }
    assert_eq!(s.dump(), before);
}

#[test]
fn rest_lists_events_and_messages_page_by_page() {
    let (mut s, _page, bridge, id) = Session::with_run();
    warnings(&mut s, bridge, 3, 30, 1);
    s.frame(bridge, 33, delta(&id, "p", 0, "hi"));
    s.frame(bridge, 34, done(&id, "p", None, 2));
    s.frame(bridge, 35, complete(&id, true));
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let call = SessionCall::Events { cursor: cursor.clone(), limit: Some(7), event_type: None, message_id: None };
        let body = value(&s.call(call).body);
        seen.extend(
            body["events"].as_array().expect("events").iter().map(|e| e["id"].as_str().expect("an id").to_owned()),
        );
        match body["cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen.len() as i64, s.count("SELECT COUNT(*) FROM events WHERE type <> 'boot_progress'"));
    let list = |s: &mut Session, kind: &str| {
        let call =
            SessionCall::Events { cursor: None, limit: None, event_type: Some(kind.to_owned()), message_id: None };
        s.call(call)
    };
    let tokens = value(&list(&mut s, "token").body);
    assert_eq!(tokens["events"][0]["data"]["content"], "hi");
    assert_eq!(list(&mut s, "bogus").status, 400);
    for (cursor, limit) in [(Some("nonsense"), None), (Some("1:-5:x"), None), (None, Some(0))] {
        let call = SessionCall::Events { cursor: cursor.map(str::to_owned), limit, event_type: None, message_id: None };
        assert_eq!(s.call(call).status, 400);
    }
    let messages =
        value(&s.call(SessionCall::Messages { cursor: None, limit: None, status: Some("completed".to_owned()) }).body);
    assert_eq!(messages["messages"][0]["id"], json!(id));
    let _ = ready();
}
