//! Files that are kept, restored and dropped; sandboxes that stop and go on; the end of a sandbox's life.

use oi_protocol::MessageId;
use oi_session::call::SessionCall;
use oi_session::clock::BackendTraits;
use oi_session::input::SocketId;
use oi_session::job::{ClaimedJob, JobResult, StartFrom};
use serde_json::json;

use crate::support::session::{Session, complete, ready, value};

const KEEPS: BackendTraits =
    BackendTraits { snapshots: true, snapshot_ends: false, resumes: false, max_life_seconds: None };
const RESUMES: BackendTraits =
    BackendTraits { snapshots: false, snapshot_ends: false, resumes: true, max_life_seconds: None };

fn with_run(backend: BackendTraits) -> (Session, SocketId, SocketId, MessageId) {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.config.backend = backend;
    (s, page, bridge, id)
}

/// A turn ends, and its snapshot is claimed.
fn snapshot_job(s: &mut Session, bridge: SocketId, id: &MessageId) -> ClaimedJob {
    s.frame(bridge, 3, complete(id, true));
    s.take_jobs("take_snapshot").pop().expect("the files are kept after a turn")
}

fn image(name: &str) -> JobResult {
    JobResult::SnapshotTaken { image_id: name.to_owned() }
}

fn fails(transient: bool) -> JobResult {
    JobResult::Failed { error: "it did not work".to_owned(), transient }
}

fn restores(name: &str, number: i64) -> StartFrom {
    StartFrom::Snapshot { number, image_id: name.to_owned() }
}

#[test]
fn no_prompt_runs_while_the_files_are_kept() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let job = snapshot_job(&mut s, bridge, &id);
    assert_eq!(s.take_of(page, "sandbox_status")[0]["status"], "snapshotting");
    let next = s.queue(page, "next", "go on");
    assert_eq!(s.state(&next).0, "pending");
    let snapshot = value(&s.call(SessionCall::Snapshot { dialect: 2 }).body);
    assert_eq!(snapshot["session"]["sandboxStatus"], "snapshotting");
    s.host.evict();
    s.host.report(&job, image("one"));
    let frames = s.take(page);
    assert!(frames.iter().any(|f| f["type"] == "snapshot_saved" && f["imageId"] == "one"));
    assert!(frames.iter().any(|f| f["type"] == "sandbox_status" && f["status"] == "ready"));
    assert_eq!(s.state(&next).0, "processing");
}

#[test]
fn one_that_its_snapshot_would_end_is_kept_when_it_is_put_away() {
    let (mut s, page, bridge, id) = with_run(BackendTraits { snapshot_ends: true, ..KEEPS });
    s.frame(bridge, 3, complete(&id, true));
    assert!(s.take_jobs("take_snapshot").is_empty(), "the next prompt finds it running");
    s.host.disconnect(page);
    while s.sandbox_status() == "ready" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
        s.run_jobs();
    }
    assert_eq!((s.sandbox_status(), s.images.len()), ("stopped".to_owned(), 1));
}

#[test]
fn a_prompt_that_waits_is_not_held_up_by_a_snapshot() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let next = s.queue(page, "next", "go on");
    s.frame(bridge, 3, complete(&id, true));
    assert_eq!(s.state(&next).0, "processing");
    assert!(s.take_jobs("take_snapshot").is_empty());
}

#[test]
fn an_idle_sandbox_is_kept_stopped_and_restored_for_the_next_prompt() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let job = snapshot_job(&mut s, bridge, &id);
    s.host.report(&job, image("one"));
    s.host.disconnect(page);
    s.plain(bridge, &json!({"type": "warning", "seq": 4, "scope": "setup", "message": "later", "timestamp": 3.0}));
    while s.sandbox_status() == "ready" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
        s.run_jobs();
    }
    assert_eq!(s.sandbox_status(), "stopped");
    assert!(s.images.contains("image-2"), "what happened since is kept too");
    assert_eq!(s.closed(bridge), Some((1000, "Inactivity timeout".to_owned())));
    assert_eq!(s.stopped.last().map(|stop| stop.reason.clone()).as_deref(), Some("inactivity_timeout"));
    let page = s.page("Ada", 2);
    let next = s.queue(page, "next", "go on");
    let bridge = s.connect(2);
    assert_eq!(s.begun.last(), Some(&restores("image-2", 2)));
    assert!(s.take_of(page, "sandbox_restored").is_empty(), "it boots");
    s.frame(bridge, 1, ready());
    assert_eq!(s.take_of(page, "sandbox_restored").len(), 1);
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
}

#[test]
fn an_idle_sandbox_that_did_nothing_since_is_not_kept_twice() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let job = snapshot_job(&mut s, bridge, &id);
    s.host.report(&job, image("one"));
    s.host.disconnect(page);
    while s.sandbox_status() == "ready" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    assert!(s.take_jobs("take_snapshot").is_empty());
    assert_eq!(s.sandbox_status(), "stopped");
}

#[test]
fn a_prompt_during_the_final_snapshot_gets_the_files_of_it() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    s.host.config.backend.snapshots = false;
    s.frame(bridge, 3, complete(&id, true));
    s.host.config.backend.snapshots = true;
    s.call(SessionCall::Archive);
    let job = s.take_jobs("take_snapshot").pop().expect("the files are kept first");
    s.call(SessionCall::Unarchive);
    let next = s.queue(page, "next", "go on");
    assert!(s.take_jobs("start_sandbox").is_empty(), "nothing starts beside it");
    s.host.report(&job, image("final"));
    assert_eq!(s.sandbox_status(), "spawning");
    let bridge = s.connect(2);
    assert_eq!(s.begun.last(), Some(&restores("final", 1)));
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
}

#[test]
fn a_silent_sandbox_is_kept_before_it_is_given_up() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    s.host.disconnect(bridge);
    s.host.advance(91_000);
    assert_eq!(s.outcome(&id), "failed");
    let job = s.take_jobs("take_snapshot").pop().expect("the files are kept first");
    assert!(s.take_jobs("stop_sandbox").is_empty());
    s.host.report(&job, image("last"));
    assert_eq!(s.sandbox_status(), "stale");
    assert_eq!(s.take_jobs("stop_sandbox").len(), 1);
    let _ = page;
}

#[test]
fn a_snapshot_that_fails_lets_the_session_go_on_and_says_so() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let job = snapshot_job(&mut s, bridge, &id);
    let next = s.queue(page, "next", "go on");
    s.host.report(&job, fails(false));
    assert_eq!(s.take_of(page, "sandbox_warning").len(), 1);
    assert_eq!(s.state(&next).0, "processing");
    assert_eq!(s.count("SELECT COUNT(*) FROM snapshots"), 0);
}

#[test]
fn a_snapshot_whose_outcome_stays_unknown_is_given_up() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let job = snapshot_job(&mut s, bridge, &id);
    let next = s.queue(page, "next", "go on");
    for _ in 0..24 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(30_000);
    }
    assert_eq!(s.state(&next).0, "processing");
    // The image was made after all.
    s.host.report(&job, image("late"));
    assert_eq!(s.take_jobs("delete_snapshot").len(), 1);
}

#[test]
fn a_cancelled_session_stops_its_sandbox_at_once_and_drops_a_late_image() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    s.queue(page, "more", "more");
    s.frame(bridge, 3, complete(&id, true));
    let more = s.take_of(bridge, "prompt")[0]["messageId"].clone();
    let more = MessageId::parse(more.as_str().expect("an id")).expect("a minted id");
    s.frame(bridge, 4, complete(&more, true));
    let job = s.take_jobs("take_snapshot").pop().expect("the files are kept");
    s.queue(page, "again", "again");
    assert_eq!(s.call(SessionCall::Cancel).status, 200);
    assert_eq!(s.sandbox_status(), "stopped");
    assert_eq!(s.take_jobs("stop_sandbox").len(), 1);
    s.host.report(&job, image("late"));
    assert_eq!(s.take_jobs("delete_snapshot").len(), 1);
    assert_eq!(s.sandbox_status(), "stopped", "nothing is written back");
}

#[test]
fn three_snapshots_are_held_and_the_others_deleted() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let mut running = id;
    for turn in 0..5 {
        s.frame(bridge, 3 + turn, complete(&running, true));
        s.run_jobs();
        running = s.queue(page, &format!("r{turn}"), "more");
    }
    s.run_jobs();
    assert_eq!(s.images.iter().map(String::as_str).collect::<Vec<_>>(), ["image-3", "image-4", "image-5"]);
    s.call(SessionCall::Delete);
    s.run_jobs();
    assert!(s.images.is_empty(), "a deleted session keeps nothing");
}

/// A session whose sandbox is stopped and whose files are kept as `one`.
fn stopped_with_files() -> (Session, SocketId) {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let job = snapshot_job(&mut s, bridge, &id);
    s.host.report(&job, image("one"));
    s.call(SessionCall::Archive);
    s.run_jobs();
    s.call(SessionCall::Unarchive);
    assert_eq!(s.sandbox_status(), "stopped");
    let _ = s.take(page);
    (s, page)
}

#[test]
fn a_snapshot_that_cannot_be_restored_is_dropped_and_a_fresh_sandbox_starts() {
    let (mut s, page) = stopped_with_files();
    let next = s.queue(page, "next", "go on");
    for _ in 0..2 {
        let start = s.take_jobs("start_sandbox").pop().expect("a restore");
        let oi_session::job::Job::StartSandbox(asked) = &start.job else { panic!("a start") };
        assert_eq!(asked.from, restores("one", 1));
        s.host.report(&start, fails(false));
    }
    assert!(s.take_of(page, "sandbox_warning")[0]["message"].as_str().is_some_and(|m| m.contains("fresh checkout")));
    assert_eq!(s.take_jobs("delete_snapshot").len(), 1);
    let bridge = s.connect(2);
    assert_eq!(s.begun.last(), Some(&StartFrom::Fresh));
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
    assert_eq!(s.count("SELECT failure_count FROM sandbox"), 0);
}

#[test]
fn a_snapshot_that_does_not_boot_is_dropped_too() {
    let (mut s, page) = stopped_with_files();
    for n in 0..2 {
        s.queue(page, &format!("r{n}"), "go on");
        let bridge = s.connect(2);
        assert_eq!(s.begun.last(), Some(&restores("one", 1)));
        s.frame(
            bridge,
            1,
            json!({"type": "boot_progress", "phase": "ready", "status": "failed", "startedAt": 1, "detail": "no agent",
                "sandboxId": "s", "timestamp": 1}),
        );
    }
    assert!(s.take_of(page, "sandbox_warning").iter().any(|w| w.to_string().contains("fresh checkout")));
    s.queue(page, "last", "go on");
    s.connect(2);
    assert_eq!(s.begun.last(), Some(&StartFrom::Fresh));
}

#[test]
fn an_outage_of_the_backend_drops_no_snapshot() {
    let (mut s, page) = stopped_with_files();
    let next = s.queue(page, "next", "go on");
    for _ in 0..40 {
        for start in s.take_jobs("start_sandbox") {
            s.host.report(&start, fails(true));
        }
        s.host.advance(5_000);
    }
    assert_eq!(s.outcome(&next), "failed", "the prompt fails visibly");
    assert_eq!(s.count("SELECT COUNT(*) FROM snapshots WHERE state = 'held'"), 1);
    s.host.advance(300_000);
    s.queue(page, "later", "again");
    s.connect(2);
    assert_eq!(s.begun.last(), Some(&restores("one", 1)));
}

#[test]
fn a_restored_sandbox_that_never_connects_counts_as_a_failed_restore() {
    let (mut s, page) = stopped_with_files();
    s.queue(page, "next", "go on");
    s.run_jobs();
    for _ in 0..2 {
        s.host.advance(120_100);
        s.run_jobs();
    }
    assert_eq!(s.begun[s.begun.len() - 3..], [restores("one", 1), restores("one", 1), StartFrom::Fresh]);
}

#[test]
fn a_stopped_sandbox_goes_on_with_its_own_name_and_mark() {
    let (mut s, page, bridge, id) = with_run(RESUMES);
    s.frame(bridge, 3, complete(&id, true));
    s.call(SessionCall::Archive);
    s.call(SessionCall::Unarchive);
    let sandbox = s.started.last().cloned().expect("a sandbox");
    let stop = s.take_jobs("stop_sandbox").pop().expect("it is stopped");
    let next = s.queue(page, "next", "go on");
    assert!(s.take_jobs("start_sandbox").is_empty(), "a stop that comes late would end it");
    s.host.report(&stop, JobResult::Done);
    s.run_jobs();
    assert!(matches!(s.begun.last(), Some(StartFrom::Parked { .. })));
    let bridge = s.connect_as(&sandbox, 2).expect("it has its own token");
    assert_eq!(s.take_of(bridge, "hello")[0]["ackedSeq"], 3, "its journal goes on");
    s.frame(bridge, 4, json!({"type": "prompt_accepted", "messageId": next}));
    s.frame(bridge, 5, complete(&next, true));
    assert_eq!(s.outcome(&next), "done");
}

#[test]
fn a_start_of_an_earlier_life_that_ends_late_does_not_stop_the_sandbox_that_went_on() {
    let (mut s, page, bridge, id) = with_run(RESUMES);
    s.frame(bridge, 3, complete(&id, true));
    let sandbox = s.started.last().cloned().expect("a sandbox");
    let mut seq = 3;
    let mut unheard = None;
    for life in ["second", "third"] {
        s.call(SessionCall::Archive);
        s.run_jobs();
        s.call(SessionCall::Unarchive);
        let id = s.queue(page, life, "go on");
        let start = s.take_jobs("start_sandbox").pop().expect("it goes on");
        if life == "second" {
            // It comes up, and the backend's answer does not.
            unheard = Some(start);
        } else {
            s.host.report(&start, JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None });
        }
        let bridge = s.connect_as(&sandbox, 2).expect("it has its own token");
        s.frame(bridge, seq + 1, json!({"type": "prompt_accepted", "messageId": id}));
        s.frame(bridge, seq + 2, complete(&id, true));
        seq += 2;
    }
    s.stopped.clear();
    let late = JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None };
    s.host.report(&unheard.expect("the second life's start"), late);
    s.run_jobs();
    assert_eq!(s.stopped, [], "it is in its third life");
    assert_eq!(s.sandbox_status(), "ready");
}

#[test]
fn a_stopped_sandbox_that_does_not_go_on_is_deleted_once_its_successor_is_up() {
    let (mut s, page, bridge, id) = with_run(RESUMES);
    s.frame(bridge, 3, complete(&id, true));
    s.call(SessionCall::Archive);
    s.run_jobs();
    s.call(SessionCall::Unarchive);
    let old = s.started.last().cloned().expect("a sandbox");
    s.stopped.clear();
    s.queue(page, "next", "go on");
    let start = s.take_jobs("start_sandbox").pop().expect("a resume");
    s.host.report(&start, fails(false));
    s.run_jobs();
    assert_eq!(s.begun.last(), Some(&StartFrom::Fresh));
    let stopped = |s: &Session| s.stopped.iter().map(|stop| stop.reason.clone()).collect::<Vec<_>>();
    assert_eq!(stopped(&s), ["resume_failed"], "it has the only copy of the work, and does not run");
    assert!(s.connect_as(&old, 2).is_err(), "and may not act");
    let bridge = s.connect(2);
    s.run_jobs();
    assert_eq!(stopped(&s), ["resume_failed"], "its successor boots, and may fail");
    s.frame(bridge, 1, ready());
    s.run_jobs();
    assert_eq!(
        s.stopped.last().map(|stop| (stop.sandbox_id.clone(), stop.reason.clone())),
        Some((old.id, "respawn".to_owned()))
    );
}

#[test]
fn the_backends_limit_is_never_the_first_to_end_a_sandbox() {
    let (mut s, page, bridge) = Session::with_bridge();
    s.host.config.backend = BackendTraits { max_life_seconds: Some(2_700), ..KEEPS };
    // The limit counts from the start, which was under another configuration: start anew.
    s.call(SessionCall::Archive);
    s.run_jobs();
    s.call(SessionCall::Unarchive);
    let _ = bridge;
    let id = s.queue(page, "late", "a long one");
    let started = s.host.now;
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": id}));
    while s.state(&id).0 == "processing" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(10_000);
    }
    assert_eq!(s.outcome(&id), "timed_out");
    let reserve = 2_700_000 - s.host.now.since(started);
    assert!((640_000..=680_000).contains(&reserve), "{reserve} ms are left to keep the files");
    s.frame(bridge, 3, complete(&id, false));
    let next = s.queue(page, "next", "go on");
    s.run_jobs();
    assert_eq!(s.stopped.last().map(|stop| stop.reason.clone()).as_deref(), Some("time_limit"));
    let bridge = s.connect(2);
    assert!(matches!(s.begun.last(), Some(StartFrom::Snapshot { .. })));
    assert_eq!(s.take_of(bridge, "prompt")[0]["messageId"], json!(next));
}

#[test]
fn a_fork_begins_with_the_files_nearest_to_its_event() {
    let (mut s, page, bridge, id) = with_run(KEEPS);
    let first = snapshot_job(&mut s, bridge, &id);
    s.host.report(&first, image("one"));
    let through = s.count("SELECT MAX(seq) FROM events");
    let next = s.queue(page, "next", "go on");
    s.frame(bridge, 4, complete(&next, true));
    s.run_jobs();
    let point = |s: &mut Session, sequence| {
        value(&s.call(SessionCall::ForkPoint { event_id: None, sequence }).body)["snapshot"]["imageId"].clone()
    };
    assert_eq!(point(&mut s, None), "image-2");
    assert_eq!(point(&mut s, Some(through)), "one");
    assert_eq!(point(&mut s, Some(1)), json!(null));
}
