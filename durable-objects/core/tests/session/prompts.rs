//! The queue.

use serde_json::json;

use crate::support::session::{Session, complete, value};

#[test]
fn prompts_run_first_in_first_out_and_one_at_a_time() {
    let (mut s, page, bridge) = Session::with_bridge();
    let ids: Vec<_> = (0..4).map(|n| s.queue(page, &format!("r{n}"), &format!("prompt {n}"))).collect();
    let mut seq = 1;
    for id in &ids {
        let sent = s.take_of(bridge, "prompt");
        assert_eq!(sent.len(), 1, "one prompt is with the agent at a time");
        assert_eq!(sent[0]["messageId"], json!(id));
        assert_eq!(s.count("SELECT COUNT(*) FROM messages WHERE status = 'processing'"), 1);
        seq += 1;
        s.frame(bridge, seq, complete(id, true));
    }
    assert!(ids.iter().all(|id| s.outcome(id) == "done"));
    let order: Vec<_> = s.events("user_message").iter().map(|event| event["messageId"].clone()).collect();
    assert_eq!(order, ids.iter().map(|id| json!(id)).collect::<Vec<_>>());
}

#[test]
fn a_prompt_has_no_row_in_the_timeline_while_it_waits() {
    let (mut s, page, _bridge, _) = Session::with_run();
    let waiting = s.queue(page, "r1", "later");
    assert_eq!(s.events("user_message").len(), 1);
    assert_eq!(s.state(&waiting), ("pending".to_owned(), None));
}

#[test]
fn positions_count_the_running_prompt_as_the_first() {
    let (mut s, page, _bridge) = Session::with_bridge();
    for (n, position) in [(0, 1), (1, 2), (2, 3)] {
        let answer = s.prompt(page, &format!("r{n}"), "x");
        assert_eq!(answer["position"], position);
    }
}

#[test]
fn the_same_request_again_is_the_same_prompt() {
    let (mut s, page, bridge) = Session::with_bridge();
    let id = s.queue(page, "same", "hello");
    let again = s.prompt(page, "same", "hello");
    assert_eq!((again["messageId"].clone(), again["position"].clone()), (json!(id), json!(1)));
    s.frame(bridge, 2, complete(&id, true));
    let finished = s.prompt(page, "same", "hello");
    assert_eq!((finished["messageId"].clone(), finished["position"].clone()), (json!(id), json!(null)));
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), 1);
}

#[test]
fn a_request_id_of_another_prompt_is_a_conflict() {
    let (mut s, page, _bridge) = Session::with_bridge();
    s.queue(page, "same", "hello");
    assert_eq!(s.prompt(page, "same", "other")["code"], "PROMPT_REQUEST_CONFLICT");
    let grace = s.page("Grace", 2);
    assert_eq!(s.prompt(grace, "same", "hello")["code"], "PROMPT_REQUEST_CONFLICT");
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), 1);
}

#[test]
fn a_cancelled_prompt_is_never_dispatched_and_its_request_stays_known() {
    let (mut s, page, bridge, running) = Session::with_run();
    let waiting = s.queue(page, "later", "not this");
    s.say(page, &json!({"type": "cancel_prompt", "messageId": waiting, "clientRequestId": "c"}));
    assert_eq!(s.take_of(page, "prompt_cancelled").len(), 1);
    let again = s.prompt(page, "later", "not this");
    assert_eq!((again["messageId"].clone(), again["position"].clone()), (json!(waiting), json!(null)));
    assert_eq!(s.prompt(page, "later", "something else")["code"], "PROMPT_REQUEST_CONFLICT");
    s.frame(bridge, 3, complete(&running, true));
    assert!(s.take_of(bridge, "prompt").is_empty());
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), 1);
    s.say(page, &json!({"type": "cancel_prompt", "messageId": running, "clientRequestId": "d"}));
    assert_eq!(s.take_of(page, "error")[0]["code"], "PROMPT_NOT_CANCELLABLE");
}

#[test]
fn tombstones_of_cancelled_prompts_are_bounded() {
    let (mut s, page, _bridge, _) = Session::with_run();
    for n in 0..1_050 {
        if n % 50 == 0 {
            // It forgets how fast they come.
            s.host.evict();
        }
        let id = s.queue(page, &format!("r{n}"), "x");
        s.say(page, &json!({"type": "cancel_prompt", "messageId": id, "clientRequestId": "c"}));
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM cancelled_requests"), 1_000);
}

#[test]
fn ten_prompts_may_be_unfinished() {
    let (mut s, page, bridge) = Session::with_bridge();
    let first = s.queue(page, "r0", "x");
    for n in 1..10 {
        s.queue(page, &format!("r{n}"), "x");
    }
    assert_eq!(s.prompt(page, "r10", "x")["code"], "PROMPT_QUEUE_FULL");
    assert_eq!(s.rest_prompt("x", None).status, 429);
    s.frame(bridge, 2, complete(&first, true));
    s.queue(page, "r10", "x");
}

#[test]
fn rest_prompts_are_idempotent_by_their_key() {
    let (mut s, _page, _bridge) = Session::with_bridge();
    let first = value(&s.rest_prompt("hello", Some("key")).body);
    let again = value(&s.rest_prompt("hello", Some("key")).body);
    assert_eq!(first["messageId"], again["messageId"]);
    assert_eq!(s.rest_prompt("other", Some("key")).status, 409);
    assert_eq!(s.rest_prompt("hello", Some("")).status, 400);
    assert_eq!(s.rest_prompt("hello", Some(&"k".repeat(129))).status, 400);
    assert_eq!(s.rest_prompt(" \n", None).status, 400);
    assert_eq!(s.rest_prompt(&"x".repeat(64_001), None).status, 400);
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), 1);
}

#[test]
fn the_next_prompt_waits_for_the_confirmation_of_a_stop() {
    let (mut s, page, bridge, running) = Session::with_run();
    let next = s.queue(page, "next", "y");
    s.say(page, &json!({"type": "stop"}));
    assert_eq!(s.outcome(&running), "stopped");
    let sent: Vec<_> = s.take(bridge).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(sent, [json!("stop")], "only the stop is sent");
    s.frame(bridge, 3, complete(&running, false));
    let sent = s.take_of(bridge, "prompt");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["messageId"], json!(next));
    assert_eq!(s.outcome(&running), "stopped", "the confirmation changes nothing that is visible");
    assert_eq!(s.events("execution_complete").len(), 1);
}

#[test]
fn a_stop_that_is_not_confirmed_replaces_the_sandbox() {
    let (mut s, page, bridge, running) = Session::with_run();
    let next = s.queue(page, "next", "y");
    s.say(page, &json!({"type": "stop"}));
    s.run_jobs();
    s.host.advance(14_900);
    assert_eq!(s.closed(bridge), None);
    s.host.advance(200);
    assert_eq!(s.closed(bridge).map(|(code, _)| code), Some(1011));
    s.run_jobs();
    assert_eq!((s.started.len(), s.stopped.len()), (2, 1));
    let bridge = s.connect(2);
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
    assert_eq!(s.outcome(&running), "stopped");
}

#[test]
fn a_stop_with_nothing_to_stop_changes_nothing() {
    let (mut s, page, bridge) = Session::with_bridge();
    s.say(page, &json!({"type": "stop"}));
    assert!(s.take(bridge).is_empty());
    assert_eq!(s.take_of(page, "processing_status").len(), 1);
}

#[test]
fn a_stop_and_a_completion_that_cross_end_the_prompt_once() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, complete(&id, true));
    s.say(page, &json!({"type": "stop"}));
    s.frame(bridge, 4, complete(&id, false));
    assert_eq!(s.outcome(&id), "done");
    assert_eq!(s.events("execution_complete").len(), 1);
}

#[test]
fn a_prompt_that_runs_too_long_is_stopped_as_timed_out() {
    let (mut s, page, bridge, running) = Session::with_run();
    let next = s.queue(page, "next", "y");
    let timeout = s.host.config.execution_timeout_ms;
    let mut left = timeout + 1_000;
    while left > 0 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
        s.run_jobs();
        left -= 30_000;
        if s.state(&running).0 != "processing" {
            break;
        }
    }
    assert_eq!(s.outcome(&running), "timed_out");
    assert_eq!(s.take_of(bridge, "stop").len(), 1, "the agent is told");
    s.frame(bridge, 3, complete(&running, false));
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
}

#[test]
fn a_failing_run_tells_why() {
    let (mut s, page, bridge, id) = Session::with_run();
    let mut end = complete(&id, false);
    end["error"] = json!("e".repeat(100_000));
    s.frame(bridge, 3, end);
    assert_eq!(s.outcome(&id), "failed");
    let told = s.events("execution_complete")[0]["error"].as_str().map(str::len);
    assert!(told.is_some_and(|length| (1_000..20_000).contains(&length)), "cut, and there: {told:?}");
    let statuses = s.take_of(page, "session_status");
    assert_eq!(statuses.last().expect("a status")["status"], "failed");
}

#[test]
fn a_prompt_that_is_not_accepted_is_sent_again_after_30_s_to_dialect_2() {
    let (mut s, page, bridge) = Session::with_bridge();
    let id = s.queue(page, "r", "x");
    assert_eq!(s.take_of(bridge, "prompt").len(), 1);
    s.host.advance(29_900);
    assert!(s.take_of(bridge, "prompt").is_empty());
    s.host.advance(200);
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(id));
    s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": id}));
    s.host.advance(60_000);
    assert!(s.take_of(bridge, "prompt").is_empty());
}

#[test]
fn a_prompt_that_was_accepted_is_repeated_once_for_each_connection() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.host.disconnect(bridge);
    let bridge = s.connect(2);
    assert_eq!(s.take_of(bridge, "prompt").len(), 1);
    s.frame(bridge, 3, json!({"type": "prompt_accepted", "messageId": id}));
    for _ in 0..4 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    assert!(s.take_of(bridge, "prompt").is_empty());
}

#[test]
fn session_status_follows_the_prompts() {
    let (mut s, page, bridge) = Session::with_bridge();
    let status = |s: &mut Session| {
        let reply = s.call(oi_session::call::SessionCall::Snapshot { dialect: 1 });
        value(&reply.body)["session"]["status"].as_str().map(str::to_owned)
    };
    assert_eq!(status(&mut s).as_deref(), Some("created"));
    let id = s.queue(page, "a", "x");
    assert_eq!(status(&mut s).as_deref(), Some("active"));
    s.frame(bridge, 2, complete(&id, true));
    assert_eq!(status(&mut s).as_deref(), Some("completed"));
    let id = s.queue(page, "b", "x");
    s.frame(bridge, 3, complete(&id, false));
    assert_eq!(status(&mut s).as_deref(), Some("failed"));
}

#[test]
fn a_commit_carries_the_prompting_persons_name() {
    let (mut s, _page, bridge) = Session::with_bridge();
    let grace = s.page("Grace", 1);
    s.queue(grace, "r", "x");
    let author = s.take_of(bridge, "prompt")[0]["author"].clone();
    assert_eq!(author["userId"], "user-Grace");
    assert_eq!(
        author["gitIdentity"],
        json!({"mode": "attributed-user", "name": "Grace", "email": "1001+grace@users.noreply.github.com"})
    );
}
