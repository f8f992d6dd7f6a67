//! Boots that fail, that are slow, and that cannot begin.

use oi_protocol::client_socket::close;
use oi_session::call::{CallReply, Principal, SessionCall};
use oi_session::input::SocketId;
use oi_session::job::JobResult;
use serde_json::{Value, json};

use crate::support::session::{Sandbox, Session, complete, ready, value};

const REASON: &str = "git sync failed for acme/sample";

fn says(s: &mut Session, sandbox: &Sandbox, call: SessionCall) -> CallReply {
    s.call_as(Principal::Sandbox { token: sandbox.token.clone() }, call)
}

fn error(fatal: bool) -> SessionCall {
    SessionCall::SandboxError { error: REASON.to_owned(), fatal }
}

fn boot_ends(status: &str) -> Value {
    json!({"type": "boot_progress", "phase": "ready", "status": status, "startedAt": 1, "detail": REASON,
        "sandboxId": "s", "timestamp": 1.0})
}

#[test]
fn a_fatal_boot_error_fails_the_boot_at_once_and_the_next_is_tried_until_the_budget_is_used_up() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    for attempt in 1..=3 {
        let sandbox = s.sandbox();
        assert_eq!(s.started.len(), attempt);
        assert_eq!(says(&mut s, &sandbox, error(true)).status, 200);
        assert_eq!(s.sandbox_status(), "failed", "nobody waits for the deadline");
        let told = s.take_of(page, "sandbox_error").pop().expect("people are told");
        assert!(told["error"].as_str().is_some_and(|text| text.contains(REASON)), "{told}");
        let snapshot = value(&s.call(SessionCall::Snapshot { dialect: 2 }).body);
        assert_eq!(snapshot["spawnError"], told["error"]);
        s.run_jobs();
        assert_eq!(s.stopped.len(), attempt, "what is left of it is stopped");
        assert_eq!(says(&mut s, &sandbox, error(true)).status, 410);
        assert_eq!(s.state(&id).0, if attempt < 3 { "pending" } else { "failed" });
        s.host.advance(20_000);
    }
    s.run_jobs();
    assert_eq!(s.started.len(), 3);
    assert!(s.events("execution_complete")[0]["error"].as_str().is_some_and(|text| text.contains(REASON)));
}

#[test]
fn a_connected_sandbox_that_cannot_boot_fails_its_prompt_and_counts_as_a_failed_start() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    for n in 0..3 {
        let id = s.queue(page, &format!("r{n}"), "x");
        s.host.advance(20_000);
        let bridge = s.connect(2);
        s.frame(bridge, 1, boot_ends("failed"));
        assert_eq!((s.outcome(&id).as_str(), s.sandbox_status().as_str()), ("failed", "failed"));
        assert_eq!(s.closed(bridge).map(|(code, _)| code), Some(close::NORMAL));
    }
    let told = s.take_of(page, "sandbox_error");
    assert!(told.iter().all(|told| told["error"].as_str().is_some_and(|text| text.contains(REASON))), "{told:?}");
    let refused = s.queue(page, "last", "x");
    assert_eq!(s.outcome(&refused), "failed", "connecting is no success: the breaker is open");
    assert_eq!(s.started.len(), 3);
    s.host.advance(300_000);
    s.queue(page, "later", "x");
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    assert_eq!(s.count("SELECT failure_count FROM sandbox"), 0, "a boot that ends well is");
}

#[test]
fn a_sandbox_that_is_up_is_not_ended_by_what_its_boot_said() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, boot_ends("failed"));
    assert_eq!((s.state(&id).0.as_str(), s.sandbox_status().as_str()), ("processing", "ready"));
    s.frame(bridge, 4, complete(&id, true));
    let _ = page;
}

#[test]
fn an_error_after_the_boot_ends_the_sandbox_visibly_and_one_that_is_not_fatal_warns() {
    let (mut s, page, bridge, id) = Session::with_run();
    let sandbox = s.sandbox();
    assert_eq!(says(&mut s, &sandbox, error(false)).status, 200);
    assert_eq!(s.take_of(page, "sandbox_warning")[0]["message"], REASON);
    assert_eq!(s.state(&id).0, "processing");
    let waiting = s.queue(page, "next", "y");
    assert_eq!(says(&mut s, &sandbox, error(true)).status, 200);
    assert_eq!((s.outcome(&id).as_str(), s.closed(bridge).is_some()), ("failed", true));
    assert!(s.take_of(page, "sandbox_warning")[0]["message"].as_str().is_some_and(|text| text.contains(REASON)));
    s.run_jobs();
    assert_eq!((s.started.len(), s.state(&waiting).0.as_str()), (2, "pending"), "what waits gets another");
}

#[test]
fn a_booting_sandbox_that_shows_life_is_waited_for_up_to_the_hard_limit() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    let sandbox = s.sandbox();
    let mut waited = 0;
    while s.sandbox_status() == "connecting" {
        let reply = says(&mut s, &sandbox, SessionCall::SandboxRepositories);
        assert_eq!(reply.status, 200, "{}", reply.body);
        s.host.advance(100_000);
        waited += 100;
    }
    assert_eq!(waited, 900, "15 minutes and no longer");
    assert_eq!(s.state(&id).0, "pending");
    assert_eq!(says(&mut s, &sandbox, SessionCall::SandboxRepositories).status, 410, "and nothing after that");
}

fn late() -> (Session, SocketId, Sandbox) {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.say(page, &json!({"type": "typing"}));
    let sandbox = s.sandbox();
    s.host.advance(120_100);
    assert_eq!(s.sandbox_status(), "failed");
    (s, page, sandbox)
}

#[test]
fn a_late_sandbox_still_gets_its_credentials_and_may_connect() {
    let (mut s, page, sandbox) = late();
    s.host.evict();
    s.host.advance(250_000);
    assert_eq!(says(&mut s, &sandbox, SessionCall::SandboxRepositories).status, 200);
    let bridge = s.connect_as(&sandbox, 1).expect("it heals itself");
    assert_eq!((s.sandbox_status().as_str(), s.stopped.len()), ("ready", 0));
    let id = s.queue(page, "a", "x");
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(id));
    assert_eq!(s.count("SELECT failure_count FROM sandbox"), 0);
}

#[test]
fn a_sandbox_that_is_too_late_is_stopped_and_gone() {
    let (mut s, _page, sandbox) = late();
    s.host.advance(300_100);
    s.run_jobs();
    assert_eq!(s.stopped.iter().map(|stop| stop.reason.as_str()).collect::<Vec<_>>(), ["connecting_timeout"]);
    assert_eq!(s.connect_as(&sandbox, 2), Err((410, "Sandbox is stopped".to_owned())));
    let refused = says(&mut s, &sandbox, SessionCall::SandboxRepositories);
    assert_eq!((refused.status, value(&refused.body)["code"].clone()), (410, json!("SANDBOX_GONE")));
}

#[test]
fn a_late_sandbox_gives_way_to_the_next_one_and_to_the_end_of_the_session() {
    let (mut s, page, old) = late();
    s.queue(page, "a", "x");
    s.host.advance(10_000);
    let new = s.sandbox();
    assert_ne!(new.id, old.id);
    assert_eq!(s.stopped.iter().map(|stop| &stop.sandbox_id).collect::<Vec<_>>(), [&old.id]);
    assert!(s.connect_as(&old, 2).is_err() && s.connect_as(&new, 2).is_ok());

    let (mut s, _page, old) = late();
    assert_eq!(s.call(SessionCall::Cancel).status, 200);
    s.run_jobs();
    assert_eq!((s.stopped.len(), s.connect_as(&old, 2).is_err()), (1, true));
}

#[test]
fn a_booting_sandbox_is_not_judged_by_the_heartbeat_of_the_one_before() {
    let (mut s, page, _bridge, _id) = Session::with_run();
    s.host.advance(90_100);
    assert_eq!(s.sandbox_status(), "stale");
    s.queue(page, "next", "y");
    s.run_jobs();
    s.host.evict();
    for _ in 0..11 {
        s.host.advance(10_000);
        s.host.fire_alarm();
        assert_eq!(s.sandbox_status(), "connecting");
    }
    s.connect(2);
    s.host.fire_alarm();
    assert_eq!(s.sandbox_status(), "ready");
}

#[test]
fn each_end_of_a_sandbox_has_its_own_sentence() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.advance(90_100);
    let silent = s.take_of(page, "sandbox_warning")[0]["message"].clone();
    assert_eq!((s.closed(bridge), s.outcome(&id).as_str()), (Some((1000, "Heartbeat stale".to_owned())), "failed"));
    let (mut s, page, bridge, _id) = Session::with_run();
    s.say(page, &json!({"type": "stop"}));
    s.host.advance(15_100);
    let unconfirmed = s.take_of(page, "sandbox_warning")[0]["message"].clone();
    assert_eq!(s.closed(bridge), Some((1011, "Stop confirmation timed out".to_owned())));
    let (mut s, page, bridge) = Session::with_bridge();
    for _ in 0..21 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    assert_eq!(s.closed(bridge), Some((1000, "Inactivity timeout".to_owned())));
    let idle = s.take_of(page, "sandbox_warning").pop().expect("it is told")["message"].clone();
    assert!(silent != unconfirmed && unconfirmed != idle && idle != silent, "{silent} {unconfirmed} {idle}");
}

#[test]
fn a_failure_that_passes_counts_nothing_towards_the_breaker() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    for _ in 0..2 {
        let start = s.take_jobs("start_sandbox").pop().expect("a start");
        s.host.report(&start, JobResult::Failed { error: "busy".to_owned(), transient: true });
        s.host.advance(10_000);
    }
    assert_eq!(s.count("SELECT failure_count FROM sandbox"), 0);
    assert!(s.take_of(page, "sandbox_error").is_empty());
    s.connect(2);
    assert_eq!(s.started.len(), 1);
}

#[test]
fn a_start_waits_while_the_backend_is_down_for_everybody_and_goes_on_when_it_is_back() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    for _ in 0..6 {
        let start = s.take_jobs("start_sandbox").pop().expect("it is tried again and again");
        let until = s.host.now.plus(120_000);
        s.host.report(&start, JobResult::Held { until, error: "the sandbox host is down".to_owned() });
        let told = s.take_of(page, "sandbox_error").pop().expect("people are told");
        let text = told["error"].as_str().expect("a sentence").to_owned();
        assert!(text.contains("the sandbox host is down") && text.contains("120 seconds"), "{text}");
        assert_eq!((s.state(&id).0.as_str(), s.sandbox_status().as_str()), ("pending", "spawning"));
        s.host.evict();
        s.host.advance(119_000);
        assert!(s.take_jobs("start_sandbox").is_empty(), "nobody asks before the pause is over");
        s.host.advance(1_100);
    }
    let bridge = s.connect(2);
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(id));
    let snapshot = value(&s.call(SessionCall::Snapshot { dialect: 2 }).body);
    assert_eq!(snapshot["spawnError"], Value::Null);
    assert_eq!(s.started.len(), 1);
}

#[test]
fn a_start_that_is_held_ends_after_an_hour_and_with_its_session() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "a", "x");
    let mut asked = 0;
    while s.state(&id).0 == "pending" {
        for start in s.take_jobs("start_sandbox") {
            asked += 1;
            let until = s.host.now.plus(600_000);
            s.host.report(&start, JobResult::Held { until, error: "down".to_owned() });
        }
        s.host.advance(300_000);
        assert!(asked < 40, "every wait has an end");
    }
    assert_eq!(s.outcome(&id), "failed");

    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "a", "x");
    let start = s.take_jobs("start_sandbox").pop().expect("a start");
    let until = s.host.now.plus(60_000);
    s.host.report(&start, JobResult::Held { until, error: "down".to_owned() });
    s.call(SessionCall::Cancel);
    s.host.advance(120_000);
    assert!(s.take_jobs("start_sandbox").is_empty());
    s.run_jobs();
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE state IN ('waiting', 'running')"), 0);
}
