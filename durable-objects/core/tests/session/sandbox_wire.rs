//! The bridge's frames: numbered, acknowledged, projected, refused.

use serde_json::json;

use crate::support::session::{Session, complete, delta, ready, tool};

#[test]
fn a_numbered_frame_has_its_effect_once() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, tool(&id, "c1", "running"));
    assert_eq!(s.take_of(bridge, "ack").last().expect("an ack")["seq"], 3);
    let before = s.dump();
    s.frame(bridge, 3, tool(&id, "c2", "running"));
    s.frame(bridge, 1, ready());
    assert_eq!(s.dump(), before);
    let _ = page;
}

#[test]
fn a_gap_in_the_numbers_is_answered_by_hello() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 5, tool(&id, "c1", "running"));
    s.frame(bridge, 6, tool(&id, "c2", "running"));
    let hello = s.take_of(bridge, "hello");
    assert_eq!(hello.len(), 1, "once");
    assert_eq!(hello[0]["ackedSeq"], 2);
    assert!(s.events("tool_call").is_empty());
    for (seq, call) in [(3, "a"), (4, "b"), (5, "c1")] {
        s.frame(bridge, seq, tool(&id, call, "running"));
    }
    assert_eq!(s.events("tool_call").len(), 3);
}

#[test]
fn what_can_never_be_accepted_is_rejected_and_counted() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let large = "x".repeat(1_100_000);
    let frames = [
        (json!({"type": "user_message", "messageId": id, "content": "forged", "timestamp": 1}), "UNKNOWN_TYPE"),
        (json!({"type": "nonsense"}), "UNKNOWN_TYPE"),
        (json!({"type": "step_finish", "messageId": id, "timestamp": 1, "cost": 1.0, "tokens": {}}), "MALFORMED_EVENT"),
        (json!({"type": "git_sync", "status": "done", "timestamp": 1}), "MALFORMED_EVENT"),
        (json!({"type": "session_title", "title": "x", "ackId": null}), "MALFORMED_EVENT"),
        (json!({"type": "tool_call", "messageId": id}), "MALFORMED_EVENT"),
        (
            json!({"type": "artifact", "artifactType": "pr", "url": "https://x/pull/1", "timestamp": 1}),
            "UNKNOWN_ARTIFACT",
        ),
        (json!({"type": "warning", "scope": "setup", "message": large, "timestamp": 1}), "TOO_LARGE"),
        (delta(&id, "", 0, "x"), "INVALID_DELTA"),
    ];
    let mut seq = 2;
    for (frame, code) in frames {
        seq += 1;
        s.frame(bridge, seq, frame);
        let rejected = s.take_of(bridge, "event_rejected");
        assert_eq!(rejected.len(), 1, "{code}");
        assert_eq!((rejected[0]["seq"].clone(), rejected[0]["code"].clone()), (json!(seq), json!(code)));
    }
    assert_eq!(s.events("user_message").len(), 1, "only the session says who prompted");
    s.frame(bridge, seq + 1, complete(&id, true));
    assert_eq!(s.outcome(&id), "done", "nothing waits behind what was rejected");
}

#[test]
fn frames_of_another_prompt_change_nothing() {
    let (mut s, _page, bridge, first) = Session::with_run();
    s.frame(bridge, 3, complete(&first, true));
    let events = s.count("SELECT COUNT(*) FROM events");
    for (seq, frame) in
        [(4, tool(&first, "late", "completed")), (5, delta(&first, "p", 0, "late")), (6, complete(&first, false))]
    {
        s.frame(bridge, seq, frame);
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM events"), events);
    assert_eq!(s.outcome(&first), "done");
}

#[test]
fn a_bridge_of_dialect_1_gets_no_hello_and_acks_by_its_own_ids() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "r", "x");
    let bridge = s.connect(1);
    let sent: Vec<_> = s.take(bridge).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(sent, [json!("prompt")]);
    s.plain(bridge, &json!({"type": "error", "messageId": id, "error": "boom", "ackId": "error:1", "sandboxId": "s", "timestamp": 1.0}));
    let acks = s.take(bridge);
    assert_eq!(acks, [json!({"type": "ack", "ackId": "error:1"})]);
    let mut end = complete(&id, true);
    end["ackId"] = json!("execution_complete:1");
    s.plain(bridge, &end);
    assert_eq!(s.take_of(bridge, "ack"), [json!({"type": "ack", "ackId": "execution_complete:1"})]);
    assert_eq!(s.outcome(&id), "done");
    assert!(s.events("execution_complete")[0].get("ackId").is_none(), "an ackId is nobody else's business");
}

#[test]
fn a_critical_event_of_dialect_1_that_comes_again_is_stored_and_shown_once() {
    let mut s = Session::new();
    let page = s.page("Ada", 1);
    let id = s.queue(page, "r", "x");
    let bridge = s.connect(1);
    let error = json!({"type": "error", "messageId": id, "error": "boom", "ackId": "error:1", "sandboxId": "s", "timestamp": 1.0});
    s.plain(bridge, &error);
    s.host.disconnect(bridge);
    let bridge = s.connect(1);
    let _ = (s.take(page), s.take(bridge));
    s.plain(bridge, &error);
    assert_eq!(s.take_of(bridge, "ack").len(), 1, "it is acknowledged again");
    assert_eq!(s.events("error").len(), 1);
    assert!(s.take_of(page, "sandbox_event").is_empty());
}

#[test]
fn a_prompt_of_dialect_1_that_may_not_have_left_fails_after_a_rebuild_and_is_never_repeated() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let bridge = {
        s.say(page, &json!({"type": "typing"}));
        s.connect(1)
    };
    // The claim is committed; the process dies before the second commit says that it left.
    s.host.die_after_commit = true;
    s.say(page, &json!({"type": "prompt", "clientRequestId": "r", "content": "x"}));
    assert!(s.host.sockets.is_empty(), "{bridge:?} went with the process");
    let bridge = s.connect(1);
    let sent: Vec<_> = s.take(bridge).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(sent, [json!("stop")], "it may run after all, and must not beside the next one");
    let failed = s.events("execution_complete");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["outcome"], "failed");
    assert_eq!(s.count("SELECT COUNT(*) FROM messages WHERE status = 'processing'"), 0);
}

#[test]
fn a_prompt_of_dialect_1_that_left_goes_on_after_a_rebuild() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "r", "x");
    let bridge = s.connect(1);
    assert_eq!(s.take_of(bridge, "prompt").len(), 1);
    s.host.evict();
    s.plain(bridge, &complete(&id, true));
    assert_eq!(s.outcome(&id), "done");
    assert!(s.take_of(bridge, "prompt").is_empty());
}

#[test]
fn a_sandbox_cannot_overwrite_what_the_forge_made() {
    let (mut s, page, bridge, id) = Session::with_run();
    let pr = crate::pull_requests::open_one(&mut s, bridge, &id, 3);
    let artifact = s.take_of(page, "artifact_created")[0]["artifact"]["id"].clone();
    s.frame(
        bridge,
        5,
        json!({"type": "artifact", "artifactType": "screenshot", "artifactId": artifact,
        "url": "https://evil/", "timestamp": 1}),
    );
    assert_eq!(s.take_of(bridge, "event_rejected")[0]["code"], "FOREIGN_ARTIFACT");
    assert_eq!(s.count(&format!("SELECT COUNT(*) FROM artifacts WHERE type = 'pr' AND url = '{pr}'")), 1);
}

#[test]
fn long_output_is_cut_to_head_and_tail_and_every_event_fits_a_page() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let mut call = tool(&id, "c", "completed");
    call["output"] = json!(format!("HEAD{}TAIL", "x".repeat(600_000)));
    s.frame(bridge, 3, call);
    let stored = s.events("tool_call")[0].clone();
    let output = stored["output"].as_str().expect("an output");
    assert!(output.starts_with("HEAD") && output.ends_with("TAIL") && output.len() < 270_000);
    assert_eq!(stored["truncated"], true);
    // A control character takes six bytes in JSON.
    let mut call = tool(&id, "d", "completed");
    call["output"] = json!("\u{1}".repeat(160_000));
    s.frame(bridge, 4, call);
    let mut call = tool(&id, "e", "completed");
    call["args"] = json!({"content": "y".repeat(700_000)});
    s.frame(bridge, 5, call);
    assert_eq!(s.count("SELECT COUNT(*) FROM events WHERE type = 'tool_call'"), 3);
    assert!(s.count("SELECT MAX(LENGTH(body)) FROM events") < 512 * 1024);
}

#[test]
fn costs_add_up_and_nonsense_costs_nothing() {
    let (mut s, _page, bridge, id) = Session::with_run();
    for (seq, cost) in [(3, 0.25), (4, -1.0), (5, 0.5)] {
        s.frame(bridge, seq, json!({"type": "step_finish", "messageId": id, "cost": cost, "timestamp": 1}));
    }
    assert_eq!(s.rows("SELECT total_cost FROM session"), [vec![oi_session::sql::Value::Real(0.75)]]);
    assert!(s.events("step_finish").is_empty(), "steps are shown and not stored");
}

#[test]
fn an_agents_title_counts_only_while_nobody_gave_one() {
    let (mut s, page, bridge, _) = Session::with_run();
    s.frame(bridge, 3, json!({"type": "session_title", "title": "  Mend it "}));
    s.frame(bridge, 4, json!({"type": "session_title", "title": "Another"}));
    let titles = s.take_of(page, "session_title");
    assert_eq!(titles.len(), 1);
    assert_eq!(titles[0]["title"], "Mend it");
}

#[test]
fn a_binary_frame_of_a_bridge_is_dropped_and_of_a_page_refused() {
    let (mut s, page, bridge, _) = Session::with_run();
    let before = s.dump();
    for socket in [page, bridge] {
        s.host.feed_or_rebuild(oi_session::input::Input::BinaryFrame { socket });
    }
    assert_eq!(s.take_of(page, "error")[0]["code"], "INVALID_MESSAGE");
    assert!(s.take(bridge).is_empty());
    assert_eq!(s.dump(), before);
}

#[test]
fn a_step_of_a_sub_agent_says_whose_it_is() {
    let (mut s, page, bridge, id) = Session::with_run();
    let of_a_child = |mut event: serde_json::Value| {
        event["messageId"] = json!(id);
        (event["isSubtask"], event["childSessionId"], event["taskCallId"]) =
            (json!(true), json!("ses_2"), json!("call_9"));
        (event["sandboxId"], event["timestamp"]) = (json!("s"), json!(1.5));
        event
    };
    let told = [
        of_a_child(json!({"type": "step_start"})),
        of_a_child(json!({"type": "step_finish", "cost": 0.5, "tokens": {"input": 3}})),
        of_a_child(json!({"type": "error", "error": "boom"})),
    ];
    for (seq, event) in (3..).zip(&told) {
        s.frame(bridge, seq, event.clone());
    }
    let shown: Vec<_> = s.take_of(page, "sandbox_event").into_iter().map(|frame| frame["event"].clone()).collect();
    assert_eq!(shown, told);
    assert_eq!(s.events("error"), told[2..]);
    assert!(s.events("step_start").is_empty() && s.events("step_finish").is_empty(), "steps are shown, not stored");
}
