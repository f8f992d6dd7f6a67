//! Sessions whose time people set.

use oi_session::call::{Principal, SessionCall};
use oi_session::children::SpawnContext;
use oi_session::clock::BackendTraits;
use oi_session::job::Job;
use serde_json::json;

use crate::support::session::{Session, init, ready};

const HOUR_MS: i64 = 3_600_000;

fn session(timeout_ms: i64, most: Option<u32>) -> Session {
    let mut s = Session::blank(3);
    s.host.config.backend = BackendTraits { max_life_seconds: most, ..BackendTraits::default() };
    let mut new = init(true);
    new.sandbox_timeout_ms = Some(timeout_ms);
    assert_eq!(s.call(SessionCall::Init(Box::new(new))).status, 200);
    s
}

fn life(s: &mut Session) -> u32 {
    match s.take_jobs("start_sandbox").pop().expect("a start").job {
        Job::StartSandbox(start) => start.timeout_seconds,
        other => panic!("not a start: {other:?}"),
    }
}

#[test]
fn a_sandbox_lives_as_long_as_was_set_and_as_its_backend_lets_it() {
    assert_eq!(life(&mut session(3 * HOUR_MS, None)), 10_800);
    assert_eq!(life(&mut session(3 * HOUR_MS, Some(2_700))), 2_700);
    assert_eq!(life(&mut session(0, None)), 7_200, "no time at all is no setting");
}

#[test]
fn a_prompt_runs_as_long_as_was_set_also_after_an_eviction_and_a_child_has_the_same() {
    let mut s = session(3 * HOUR_MS, None);
    s.run_jobs();
    let page = s.page("Ada", 2);
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    let id = s.queue(page, "first", "a long one");
    s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": id}));
    s.host.evict();
    let context = s.call_as(Principal::Platform, SessionCall::SpawnContext);
    let context: SpawnContext = serde_json::from_str(&context.body).expect("a context");
    assert_eq!(context.sandbox_timeout_ms, Some(3 * HOUR_MS));
    let began = s.host.now;
    while s.state(&id).0 == "processing" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
        s.run_jobs();
    }
    assert_eq!(s.outcome(&id), "timed_out");
    // The default would have ended it at an hour and a half; the last quarter of an hour of a sandbox is for its files.
    let ran = s.host.now.since(began);
    assert!((3 * HOUR_MS - 1_000_000..=3 * HOUR_MS).contains(&ran), "{ran}");
}
