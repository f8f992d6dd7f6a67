//! Forks.

use oi_session::call::SessionCall;
use oi_session::family::ForkOf;
use oi_session::fork::{ForkPoint, TimelinePage};
use oi_session::job::{ClaimedJob, Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Session, complete, delta, done, init, ready, tool, value};

/// An old session with two turns.
fn old() -> Session {
    let (mut s, page, bridge, first) = Session::with_run();
    s.frame(bridge, 3, delta(&first, "a", 0, "One"));
    s.frame(bridge, 4, done(&first, "a", Some("One."), 4));
    s.frame(bridge, 5, tool(&first, "c", "completed"));
    s.frame(bridge, 6, complete(&first, true));
    let second = s.queue(page, "second", "and then?");
    s.frame(bridge, 7, delta(&second, "b", 0, "Two"));
    s.frame(bridge, 8, done(&second, "b", Some("Two."), 4));
    s.frame(bridge, 9, complete(&second, true));
    s
}

fn point(s: &mut Session, sequence: Option<i64>) -> ForkPoint {
    let reply = s.call(SessionCall::ForkPoint { event_id: None, sequence });
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("a point")
}

fn new_fork(at: &ForkPoint) -> Session {
    let mut s = Session::blank(12);
    let mut new = init(false);
    new.fork_of = Some(ForkOf {
        session_id: new.session_id.clone(),
        from_sequence: at.from_sequence,
        through_sequence: at.through_sequence,
        snapshot: None,
    });
    new.session_id = oi_protocol::SessionId::from_bytes([0x99; 16]);
    assert_eq!(s.call(SessionCall::Init(Box::new(new))).status, 200);
    s
}

fn page_of(old: &mut Session, claimed: &ClaimedJob) -> TimelinePage {
    let Job::CopyTimeline(copy) = &claimed.job else { panic!("a copy: {:?}", claimed.job) };
    let call = SessionCall::ForkPage { from_sequence: copy.from_sequence, through_sequence: copy.through_sequence };
    serde_json::from_str(&old.call(call).body).expect("a page")
}

/// Copies until nothing is left to copy.
fn copy(old: &mut Session, fork: &mut Session) {
    while let Some(claimed) = fork.take_jobs("copy_timeline").pop() {
        let page = page_of(old, &claimed);
        fork.host.report(&claimed, JobResult::Page(page));
    }
}

fn timeline(s: &Session) -> Vec<Vec<oi_session::sql::Value>> {
    s.rows("SELECT seq, id, message_id, type, body FROM events ORDER BY seq")
}

#[test]
fn a_fork_has_the_old_timeline_up_to_its_event_and_goes_on_after_it() {
    let mut old = old();
    let all = timeline(&old);
    let cut = old.count("SELECT seq FROM events WHERE type = 'execution_complete' ORDER BY seq LIMIT 1");
    let at = point(&mut old, Some(cut));
    let mut fork = new_fork(&at);
    let page = fork.page("Ada", 2);
    fork.queue(page, "r", "go on");
    assert!(fork.started.is_empty() && fork.take_jobs("start_sandbox").is_empty(), "its past comes first");
    copy(&mut old, &mut fork);
    let expected: Vec<_> =
        all.into_iter().filter(|row| matches!(row[0], oi_session::sql::Value::Int(seq) if seq <= cut)).collect();
    assert_eq!(timeline(&fork), expected);
    let bridge = fork.connect(2);
    fork.frame(bridge, 1, ready());
    let own = fork.count(
        "SELECT MIN(seq) FROM events WHERE id NOT IN (SELECT id FROM events WHERE seq <= 0)
        AND type = 'user_message' AND body LIKE '%go on%'",
    );
    assert!(own > cut, "{own} after {cut}");
    // Dialect 1 sees ordinary events.
    let (_, subscribed) = fork.subscribe("Grace", 1, None);
    let shown = subscribed["timeline"]["events"].as_array().cloned().unwrap_or_default();
    assert!(shown.iter().any(|e| e["event"]["type"] == "token" && e["event"]["content"] == "One."), "{shown:?}");
    assert!(!shown.iter().any(|e| e["event"]["content"] == "Two."));
}

#[test]
fn a_copy_that_is_repeated_or_cut_off_changes_nothing_twice() {
    let mut old = old();
    let at = point(&mut old, None);
    let mut fork = new_fork(&at);
    let watcher = fork.page("Ada", 2);
    let claimed = fork.take_jobs("copy_timeline").pop().expect("a copy");
    let page = page_of(&mut old, &claimed);
    let count = page.events.len();
    fork.host.report(&claimed, JobResult::Page(page.clone()));
    fork.host.report(&claimed, JobResult::Page(page));
    assert_eq!(fork.take_of(watcher, "sandbox_event").len(), count);
    let whole = timeline(&fork);
    fork.host.evict();
    fork.host.advance(120_000);
    copy(&mut old, &mut fork);
    assert_eq!(timeline(&fork), whole);
    let (_, subscribed) = fork.subscribe("Grace", 2, None);
    let revisions: Vec<i64> = subscribed["timeline"]["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["revision"].as_i64().expect("a revision"))
        .collect();
    assert_eq!(revisions, (1..=count as i64).collect::<Vec<_>>(), "gapless");
}

#[test]
fn a_fork_whose_past_cannot_be_had_goes_on_without_it() {
    let mut old = old();
    let at = point(&mut old, None);
    let mut fork = new_fork(&at);
    let page = fork.page("Ada", 2);
    fork.queue(page, "r", "go on");
    let claimed = fork.take_jobs("copy_timeline").pop().expect("a copy");
    fork.host.report(&claimed, JobResult::Failed { error: "gone".to_owned(), transient: false });
    let bridge = fork.connect(2);
    fork.frame(bridge, 1, ready());
    assert!(fork.take_of(bridge, "prompt").iter().any(|command| command["content"] == "go on"));
}

#[test]
fn the_agent_is_told_what_was_said_before_with_its_first_prompt_only() {
    let mut old = old();
    let at = point(&mut old, None);
    let mut fork = new_fork(&at);
    copy(&mut old, &mut fork);
    let page = fork.page("Ada", 2);
    let first = fork.queue(page, "r", "go on");
    let bridge = fork.connect(2);
    fork.frame(bridge, 1, ready());
    let commands = fork.take_of(bridge, "prompt");
    let content = commands[0]["content"].as_str().expect("a text").to_owned();
    for line in [
        json!({"role": "user", "text": "do it"}),
        json!({"role": "assistant", "text": "One."}),
        json!({"role": "assistant", "text": "Two."}),
    ] {
        assert!(content.contains(&line.to_string()), "{content}");
    }
    assert!(content.ends_with("go on"));
    let shown: Vec<Value> = fork.events("user_message");
    assert!(shown.iter().any(|event| event["content"] == "go on"), "people see the prompt alone");
    fork.frame(bridge, 2, complete(&first, true));
    fork.queue(page, "r2", "more");
    assert_eq!(fork.take_of(bridge, "prompt")[0]["content"], "more");
}

#[test]
fn an_event_that_is_not_there_cannot_be_forked_from() {
    let mut old = old();
    for (event_id, sequence) in [(Some("nothing".to_owned()), None), (None, Some(9_999)), (None, Some(-1))] {
        let reply = old.call(SessionCall::ForkPoint { event_id, sequence });
        assert_eq!(reply.status, 404);
        assert_eq!(value(&reply.body)["code"], "NOT_FOUND");
    }
    let id = "execution_complete:nothing".to_owned();
    assert_eq!(old.call(SessionCall::ForkPoint { event_id: Some(id), sequence: None }).status, 404);
}
