//! What becomes of a bridge's events: which are stored, where they stand, and who is shown what.

use oi_protocol::MessageId;
use oi_session::call::SessionCall;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, tool, value};

fn sandbox_events(frames: &[Value], kind: &str) -> Vec<Value> {
    frames
        .iter()
        .filter(|frame| frame["type"] == "sandbox_event" && frame["event"]["type"] == kind)
        .map(|frame| frame["event"].clone())
        .collect()
}

fn places(s: &mut Session) -> Vec<(String, i64)> {
    let (socket, subscribed) = s.subscribe("Linus", 2, None);
    s.host.disconnect(socket);
    let events = subscribed["timeline"]["events"].as_array().cloned().unwrap_or_default();
    events
        .iter()
        .map(|e| (e["eventId"].as_str().expect("an id").to_owned(), e["timelineSequence"].as_i64().expect("a place")))
        .collect()
}

#[test]
fn a_tool_call_keeps_its_first_place_through_its_changes() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, tool(&id, "early", "running"));
    s.frame(bridge, 4, tool(&id, "late", "running"));
    let before = places(&mut s);
    s.frame(bridge, 5, tool(&id, "late", "completed"));
    s.frame(bridge, 6, tool(&id, "early", "completed"));
    assert_eq!(places(&mut s), before);
    let statuses: Vec<_> = s.events("tool_call").iter().map(|e| e["status"].clone()).collect();
    assert_eq!(statuses, ["completed", "completed"]);
}

#[test]
fn heartbeats_and_steps_make_no_event_and_steps_are_shown() {
    let (mut s, page, bridge, id) = Session::with_run();
    let old = s.page("Grace", 1);
    let _ = (s.take(page), s.take(old));
    let rows = s.count("SELECT COUNT(*) FROM events");
    s.plain(bridge, &json!({"type": "heartbeat", "sandboxId": "s", "timestamp": 1.0, "status": "ready"}));
    s.frame(bridge, 3, json!({"type": "step_start", "messageId": id, "sandboxId": "s", "timestamp": 1.0}));
    s.frame(
        bridge,
        4,
        json!({"type": "step_finish", "messageId": id, "sandboxId": "s", "timestamp": 1.0, "reason": "stop"}),
    );
    assert_eq!(s.count("SELECT COUNT(*) FROM events"), rows);
    for socket in [page, old] {
        let frames = s.take(socket);
        assert_eq!(sandbox_events(&frames, "step_start").len(), 1, "{frames:?}");
        assert_eq!(sandbox_events(&frames, "step_finish").len(), 1, "{frames:?}");
        assert!(sandbox_events(&frames, "heartbeat").is_empty());
    }
    let (_, subscribed) = s.subscribe("Linus", 2, None);
    assert!(!subscribed["timeline"].to_string().contains("step_"), "what is not stored is never replayed");
}

#[test]
fn a_compaction_is_stored_after_the_text_before_it() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, crate::support::session::delta(&id, "p", 0, "before"));
    s.frame(bridge, 4, json!({"type": "context_compacted", "messageId": id, "sandboxId": "s", "timestamp": 1.0}));
    s.frame(bridge, 5, crate::support::session::delta(&id, "q", 0, "after"));
    s.frame(bridge, 6, complete(&id, true));
    assert_eq!(s.events("context_compacted").len(), 1);
    assert_eq!(sandbox_events(&s.take(page), "context_compacted").len(), 1);
    let order: Vec<String> = s
        .rows("SELECT type FROM events WHERE type IN ('part', 'context_compacted') ORDER BY seq")
        .into_iter()
        .map(|row| format!("{:?}", row[0]))
        .collect();
    assert_eq!(order.len(), 3, "{order:?}");
    assert!(order[1].contains("context_compacted"), "{order:?}");
}

#[test]
fn a_git_sync_is_stored_and_its_commit_is_the_sessions() {
    let (mut s, page, bridge) = Session::with_bridge();
    let sync =
        json!({"type": "git_sync", "status": "completed", "sha": "a".repeat(40), "sandboxId": "s", "timestamp": 1.0});
    s.frame(bridge, 2, sync);
    assert_eq!(sandbox_events(&s.take(page), "git_sync")[0]["sha"], "a".repeat(40));
    assert_eq!(s.events("git_sync").len(), 1);
    let snapshot = value(&s.call(SessionCall::Snapshot { dialect: 1 }).body);
    assert_eq!(snapshot["session"]["repositories"][0]["currentSha"], "a".repeat(40));
}

#[test]
fn pushes_are_stored_even_when_nobody_asked_for_them() {
    let (mut s, page, bridge) = Session::with_bridge();
    let push = json!({"type": "push_complete", "branchName": "b", "repoOwner": "acme", "repoName": "sample",
        "sandboxId": "s", "timestamp": 1.0});
    s.frame(bridge, 2, push);
    let push = json!({"type": "push_error", "branchName": "b", "repoOwner": "acme", "repoName": "sample",
        "error": "rejected", "sandboxId": "s", "timestamp": 1.0});
    s.frame(bridge, 3, push);
    assert_eq!((s.events("push_complete").len(), s.events("push_error").len()), (1, 1));
    let frames = s.take(page);
    assert_eq!(sandbox_events(&frames, "push_error")[0]["error"], "rejected");
}

#[test]
fn processing_is_told_when_a_run_begins_and_when_it_ends() {
    let (mut s, page, bridge) = Session::with_bridge();
    let id = s.queue(page, "first", "do it");
    s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": id}));
    s.frame(bridge, 3, complete(&id, true));
    let told: Vec<_> = s.take_of(page, "processing_status").iter().map(|f| f["isProcessing"].clone()).collect();
    assert_eq!(told.last(), Some(&json!(false)), "{told:?}");
    s.say(page, &json!({"type": "prompt", "clientRequestId": "second", "content": "again"}));
    let frames = s.take(page);
    let of = |kind: &str| frames.iter().filter(|f| f["type"] == kind).cloned().collect::<Vec<_>>();
    assert_eq!(of("processing_status").last().map(|f| f["isProcessing"].clone()), Some(json!(true)), "{frames:?}");
    let waits = MessageId::parse(of("prompt_queued")[0]["messageId"].as_str().expect("an id")).expect("a minted id");
    s.frame(bridge, 4, complete(&waits, false));
    let told: Vec<_> = s.take_of(page, "processing_status").iter().map(|f| f["isProcessing"].clone()).collect();
    assert_eq!(told.last(), Some(&json!(false)), "{told:?}");
}

/// The pages of dialect 2 are put together by SQLite: whatever an agent names its calls, they are JSON.
#[test]
fn a_page_is_json_whatever_a_call_is_named() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let (_, subscribed) = s.subscribe("Grace", 2, None);
    let revision = subscribed["revision"].as_i64();
    let names =
        ["\"quoted\"", "back\\slash", "new\nline", "nul\u{0}", "astral 🦀", "\u{7f}\u{1}", "'); DROP TABLE events; --"];
    for (n, name) in names.iter().enumerate() {
        s.frame(bridge, 3 + n as i64, tool(&id, name, "completed"));
    }
    let (_, whole) = s.subscribe("Grace", 2, None);
    let (_, since) = s.subscribe("Grace", 2, revision);
    assert_eq!(since["timeline"]["mode"], "delta");
    for page in [&whole, &since] {
        let events = page["timeline"]["events"].as_array().expect("events");
        let seen: Vec<_> = events.iter().filter_map(|e| e["event"]["callId"].as_str()).collect();
        assert_eq!(seen, names);
        for event in events.iter().filter(|e| e["event"]["type"] == "tool_call") {
            let id = event["eventId"].as_str().expect("an id");
            let stored = s.rows("SELECT id FROM events WHERE type = 'tool_call'");
            assert!(stored.iter().any(|row| row[0] == oi_session::sql::Value::Text(id.to_owned())), "{id:?}");
        }
    }
}
