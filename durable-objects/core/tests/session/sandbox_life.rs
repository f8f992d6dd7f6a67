//! Starting, losing, stopping sandboxes.

use oi_session::call::{Principal, SessionCall};
use oi_session::job::JobResult;
use serde_json::json;

use crate::support::session::{Session, complete, delta, init, ready, value};

fn fail_starts(s: &mut Session, times: usize) -> usize {
    let mut failed = 0;
    for _ in 0..times {
        s.host.advance(20_000);
        let starts = s.take_jobs("start_sandbox");
        for start in &starts {
            s.host.report(start, JobResult::Failed { error: "no capacity".to_owned(), transient: false });
            failed += 1;
        }
        s.run_jobs();
    }
    failed
}

#[test]
fn two_prompts_without_a_sandbox_start_one() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    s.queue(page, "b", "y");
    s.run_jobs();
    assert_eq!(s.started.len(), 1);
}

#[test]
fn a_bridge_that_connects_before_its_start_is_reported_stays_ready() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    let starts = s.take_jobs("start_sandbox");
    let oi_session::job::Job::StartSandbox(start) = &starts[0].job else { panic!("a start") };
    let sandbox = crate::support::session::Sandbox::of(start);
    let bridge = s.connect_as(&sandbox, 2).expect("its token is known before the backend answers");
    s.host.report(&starts[0], JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None });
    assert_eq!(s.sandbox_status(), "ready");
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(id));
}

#[test]
fn only_the_current_sandbox_is_let_in() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    let old = s.sandbox();
    assert_eq!(s.host.upgrade("wrong", &old.id, 2), Err((401, "Unauthorized: Invalid auth token".to_owned())));
    assert_eq!(s.host.upgrade(&old.token, "other", 2), Err((403, "Forbidden: Wrong sandbox ID".to_owned())));
    let bridge = s.connect(2);
    s.say(page, &json!({"type": "stop"}));
    s.host.advance(15_100);
    s.queue(page, "b", "y");
    let new = s.sandbox();
    assert_ne!(new.id, old.id);
    assert!(new.generation > old.generation);
    let status = s.connect_as(&old, 2).expect_err("it was replaced").0;
    assert!([401, 403, 410].contains(&status), "{status} makes a bridge leave");
    assert_eq!(s.closed(bridge).map(|(code, _)| code), Some(1011));
}

#[test]
fn an_old_sockets_frames_change_nothing() {
    let (mut s, page, old, id) = Session::with_run();
    let sandbox = s.sandbox();
    let new = s.connect_as(&sandbox, 2).expect("a second socket of the same sandbox replaces the first");
    assert_eq!(s.closed(old), Some((1000, "New sandbox connecting".to_owned())));
    let before = s.dump();
    // The platform may still deliver what the old one sent.
    s.host.sockets.get_mut(&old).expect("still known").closed = None;
    s.frame(old, 3, complete(&id, true));
    assert_eq!(s.dump(), before);
    s.host.disconnect(old);
    assert_eq!(s.state(&id).0, "processing");
    s.frame(new, 3, complete(&id, true));
    assert_eq!(s.outcome(&id), "done");
    let _ = s.take(page);
}

#[test]
fn an_old_token_may_not_call() {
    let (mut s, page, bridge, id) = Session::with_run();
    let old = s.sandbox();
    s.say(page, &json!({"type": "stop"}));
    s.host.advance(15_100);
    s.queue(page, "b", "y");
    let new = s.sandbox();
    for (token, status) in [(old.token, 401), (new.token, 200)] {
        let reply = s.call_as(Principal::Sandbox { token }, SessionCall::SandboxRepositories);
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    let _ = (bridge, id);
}

#[test]
fn what_an_old_start_started_is_stopped() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    let starts = s.take_jobs("start_sandbox");
    s.host.advance(120_100);
    assert_eq!(s.sandbox_status(), "failed", "the boot deadline passed while the backend was asked");
    s.run_jobs();
    let stops = s.stopped.len();
    s.host.report(&starts[0], JobResult::SandboxStarted { provider_object_id: "late".to_owned(), access: None });
    s.run_jobs();
    assert_eq!(s.stopped.len(), stops + 1);
    assert_eq!(s.stopped.last().and_then(|stop| stop.provider_object_id.clone()), Some("late".to_owned()));
    assert_eq!(s.sandbox_status(), "failed");
}

#[test]
fn a_superseded_start_is_not_run_again() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    let first = s.take_jobs("start_sandbox");
    // The attempt's result is lost, and the sandbox is given up at the boot deadline.
    s.host.advance(89_000);
    s.run_jobs();
    s.host.advance(400_000);
    let again: Vec<_> = s
        .take_jobs("start_sandbox")
        .into_iter()
        .filter(|claimed| claimed.id == first[0].id && claimed.attempt > 2)
        .collect();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE id = 1 AND state = 'running'"), 0);
}

#[test]
fn a_result_of_an_old_attempt_changes_nothing() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    let first = s.take_jobs("start_sandbox");
    s.run_jobs();
    s.host.advance(90_100);
    let second = s.take_jobs("start_sandbox");
    assert_eq!((second[0].id, second[0].attempt, second[0].look_first), (first[0].id, 2, true));
    let before = s.dump();
    s.host.report(&first[0], JobResult::Failed { error: "late".to_owned(), transient: false });
    assert_eq!(s.dump(), before);
    s.host.report(&second[0], JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None });
    assert_eq!(s.sandbox_status(), "connecting");
    let before = s.dump();
    s.host.report(&second[0], JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None });
    assert_eq!(s.dump(), before, "a doubled result changes nothing");
}

#[test]
fn a_lost_connection_is_waited_for_90_s() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.disconnect(bridge);
    s.host.advance(89_000);
    assert_eq!((s.state(&id).0.as_str(), s.sandbox_status().as_str()), ("processing", "ready"));
    let bridge = s.connect(2);
    s.frame(bridge, 3, complete(&id, true));
    assert_eq!(s.outcome(&id), "done");
    s.host.disconnect(bridge);
    let next = s.queue(page, "next", "y");
    s.run_jobs();
    assert_eq!(s.started.len(), 1, "a sandbox that may come back is not replaced");
    s.host.advance(90_100);
    s.run_jobs();
    assert_eq!((s.started.len(), s.stopped.len()), (2, 1));
    let bridge = s.connect(2);
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
}

#[test]
fn a_silent_sandbox_is_replaced_and_its_prompt_fails_visibly() {
    let (mut s, page, _bridge, id) = Session::with_run();
    s.host.advance(90_100);
    assert_eq!(s.outcome(&id), "failed");
    assert_eq!(s.take_of(page, "sandbox_warning").len(), 1);
    assert_eq!(s.sandbox_status(), "stale");
}

#[test]
fn failed_starts_are_tried_again_and_then_fail_the_waiting_prompts() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let ids = [s.queue(page, "a", "x"), s.queue(page, "b", "y")];
    assert_eq!(fail_starts(&mut s, 5), 3);
    for id in &ids {
        assert_eq!(s.outcome(id), "failed");
    }
    assert_eq!(s.take_of(page, "sandbox_error").len(), 3);
    let told = s.events("execution_complete");
    assert_eq!(told.len(), 2);
    assert!(told[0]["error"].as_str().is_some_and(|error| error.contains("no capacity")), "{told:?}");
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE state IN ('waiting', 'running')"), 0);
}

#[test]
fn a_transient_failure_of_a_start_is_repeated_by_its_job() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    let start = s.take_jobs("start_sandbox");
    s.host.report(&start[0], JobResult::Failed { error: "busy".to_owned(), transient: true });
    s.host.advance(5_000);
    let again = s.take_jobs("start_sandbox");
    assert_eq!((again[0].id, again[0].attempt, again[0].look_first), (start[0].id, 2, true));
    assert_eq!(s.state(&id).0, "pending");
}

#[test]
fn the_breaker_opens_after_three_failures_and_closes_after_five_minutes() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    fail_starts(&mut s, 5);
    let refused = s.queue(page, "b", "y");
    assert_eq!(s.outcome(&refused), "failed");
    s.run_jobs();
    assert!(s.started.is_empty());
    s.host.advance(300_000);
    let accepted = s.queue(page, "c", "z");
    s.run_jobs();
    assert_eq!((s.started.len(), s.state(&accepted).0.as_str()), (1, "pending"));
}

#[test]
fn a_sandbox_that_does_not_connect_in_time_has_failed() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    s.run_jobs();
    s.host.advance(119_000);
    assert_eq!(s.sandbox_status(), "connecting");
    s.host.advance(1_100);
    s.run_jobs();
    assert_eq!((s.sandbox_status().as_str(), s.stopped.len()), ("failed", 0), "it may still come");
    s.host.advance(5_000);
    s.run_jobs();
    assert_eq!((s.started.len(), s.stopped.len()), (2, 1), "it is tried again");
}

#[test]
fn a_sandbox_that_connects_and_never_gets_ready_ends_at_the_hard_limit() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    let bridge = s.connect(2);
    s.frame(
        bridge,
        1,
        json!({"type": "boot_progress", "phase": "clone", "status": "started", "startedAt": 1,
        "sandboxId": "s", "timestamp": 1.0}),
    );
    for _ in 0..31 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "booting"}));
        s.host.advance(30_000);
    }
    assert_eq!(s.outcome(&id), "failed");
    assert_eq!(s.sandbox_status(), "failed");
}

#[test]
fn an_idle_sandbox_is_stopped_and_a_working_one_is_not() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.disconnect(page);
    let beat = |s: &mut Session| {
        for _ in 0..21 {
            s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
            s.host.advance(30_000);
        }
    };
    beat(&mut s);
    assert_eq!(s.sandbox_status(), "ready", "a silent run is no idleness");
    s.frame(bridge, 3, complete(&id, true));
    beat(&mut s);
    assert_eq!(s.sandbox_status(), "stopped");
    s.run_jobs();
    assert_eq!(s.stopped.last().map(|stop| stop.reason.as_str()), Some("inactivity_timeout"));
}

#[test]
fn idleness_counts_from_the_last_activity_even_after_an_eviction() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.disconnect(page);
    for _ in 0..19 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    s.frame(bridge, 3, complete(&id, true));
    s.host.evict();
    for _ in 0..4 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    assert_eq!(s.sandbox_status(), "ready");
}

#[test]
fn a_watched_sandbox_is_kept_five_minutes_more() {
    let (mut s, page, bridge) = Session::with_bridge();
    for _ in 0..21 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.say(page, &json!({"type": "presence", "status": "active"}));
        s.host.advance(30_000);
    }
    assert_eq!(s.sandbox_status(), "ready");
    for _ in 0..21 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    assert_eq!(s.sandbox_status(), "stopped", "a page that says nothing for long keeps nothing");
}

#[test]
fn typing_warms_a_sandbox_at_most_once_a_minute_and_only_where_a_prompt_may_follow() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    for _ in 0..5 {
        s.say(page, &json!({"type": "typing"}));
    }
    assert_eq!(s.take_of(page, "sandbox_warming").len(), 1);
    s.run_jobs();
    assert_eq!(s.started.len(), 1);

    let mut s = Session::new();
    let page = s.page("Ada", 2);
    assert_eq!(s.call(SessionCall::Archive).status, 200);
    s.say(page, &json!({"type": "typing"}));
    s.run_jobs();
    assert!(s.started.is_empty(), "an archived session warms nothing");
}

#[test]
fn whoever_types_and_prompts_gets_the_one_sandbox_that_warms() {
    let mut s = Session::blank(4);
    s.call(SessionCall::Init(Box::new(init(true))));
    let (ada, grace) = (s.page("Ada", 2), s.page("Grace", 2));
    s.say(ada, &json!({"type": "typing"}));
    s.say(grace, &json!({"type": "typing"}));
    let id = s.queue(ada, "r1", "hello");
    s.run_jobs();
    s.host.advance(61_000);
    s.say(grace, &json!({"type": "typing"}));
    s.run_jobs();
    assert_eq!(s.started.len(), 1, "while it comes up nothing else is started");
    let bridge = s.connect(2);
    s.say(grace, &json!({"type": "typing"}));
    s.frame(bridge, 1, ready());
    assert_eq!(s.take_of(bridge, "prompt").len(), 1);
    s.frame(bridge, 2, complete(&id, true));
    s.host.advance(61_000);
    s.say(grace, &json!({"type": "typing"}));
    s.run_jobs();
    assert_eq!((s.started.len(), s.outcome(&id).as_str()), (1, "done"), "nor while it is there");
    assert!(s.stopped.is_empty());
}

#[test]
fn a_warm_sandbox_that_nobody_uses_is_put_away_within_minutes() {
    let mut s = Session::blank(4);
    s.call(SessionCall::Init(Box::new(init(true))));
    s.run_jobs();
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    for _ in 0..21 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    s.run_jobs();
    assert_eq!((s.sandbox_status().as_str(), s.started.len()), ("stopped", 1));
    assert_eq!(s.stopped.last().map(|stop| stop.reason.as_str()), Some("inactivity_timeout"));
}

#[test]
fn a_rebuilt_core_knows_its_bridge_by_the_attachment() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.host.evict();
    s.frame(bridge, 3, delta(&id, "p", 0, "hi"));
    let sent: Vec<_> = s.take(bridge).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(sent[..2], [json!("hello"), json!("prompt")], "a rebuilt session greets and repeats what runs");
    s.frame(bridge, 4, complete(&id, true));
    assert_eq!(s.outcome(&id), "done");
}

#[test]
fn a_process_that_dies_waits_for_its_bridge() {
    let (mut s, _page, _bridge, id) = Session::with_run();
    let sandbox = s.sandbox();
    s.host.kill();
    s.host.advance(20_000);
    let bridge = s.connect_as(&sandbox, 2).expect("it is the same sandbox");
    let hello = s.take_of(bridge, "hello");
    assert_eq!(hello[0]["ackedSeq"], 2);
    s.frame(bridge, 3, complete(&id, true));
    assert_eq!(s.outcome(&id), "done");
    assert_eq!(s.started.len(), 1);
}

#[test]
fn a_sandbox_may_call_two_things_and_no_more() {
    let (mut s, _page, _bridge) = Session::with_bridge();
    let token = s.sandbox().token;
    let calls = [
        SessionCall::Snapshot { dialect: 2 },
        SessionCall::Stop,
        SessionCall::Archive,
        SessionCall::Participants,
        SessionCall::UpdateTitle { title: "x".to_owned() },
        SessionCall::DiffState,
        SessionCall::RetryDiff,
        SessionCall::RefreshPullRequests,
        SessionCall::AddParticipant(crate::calls::new_participant("user-Grace", None)),
        SessionCall::Init(Box::new(crate::support::session::init(false))),
        SessionCall::Fault,
    ];
    for call in calls {
        let reply = s.call_as(Principal::Sandbox { token: token.clone() }, call);
        assert_eq!(
            (reply.status, value(&reply.body)["code"].as_str().map(str::to_owned)),
            (403, Some("FORBIDDEN".to_owned()))
        );
    }
    let listed = s.call_as(Principal::Sandbox { token }, SessionCall::SandboxRepositories);
    assert_eq!(
        value(&listed.body),
        json!({"repositories": [{"repoOwner": "acme", "repoName": "sample", "repoId": 7}]})
    );
    let _ = ready();
}

#[test]
fn alarms_that_come_late_or_twice_are_harmless() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.run_jobs();
    let stripped = |s: &Session| -> Vec<_> { s.dump().into_iter().filter(|(name, _)| name != "sandbox").collect() };
    let before = stripped(&s);
    for _ in 0..3 {
        s.host.fire_alarm();
    }
    assert_eq!(stripped(&s), before);
    s.say(page, &json!({"type": "stop"}));
    s.host.now = s.host.now.plus(60_000);
    s.host.fire_alarm();
    s.host.fire_alarm();
    s.run_jobs();
    assert_eq!((s.outcome(&id).as_str(), s.stopped.len()), ("stopped", 1));
    let _ = bridge;
}

#[test]
fn a_silent_sandbox_is_found_out_however_often_the_object_wakes() {
    let (mut s, page, _bridge, id) = Session::with_run();
    for _ in 0..10 {
        s.host.evict();
        s.say(page, &json!({"type": "presence", "status": "active"}));
        s.host.advance(20_000);
    }
    assert_eq!((s.outcome(&id).as_str(), s.sandbox_status().as_str()), ("failed", "stale"));

    let (mut s, page, bridge, id) = Session::with_run();
    s.host.disconnect(bridge);
    for _ in 0..40 {
        s.host.evict();
        s.say(page, &json!({"type": "presence", "status": "active"}));
        s.host.advance(20_000);
    }
    assert_eq!(s.outcome(&id), "failed");
}

#[test]
fn that_a_prompt_waits_for_a_sandbox_is_told_once_for_each_start() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.say(page, &json!({"type": "prompt", "clientRequestId": "r", "content": "x"}));
    s.run_jobs();
    for _ in 0..5 {
        s.host.fire_alarm();
    }
    assert_eq!(s.take_of(page, "sandbox_spawning").len(), 1);
}
