//! Deleting a session.

use oi_session::call::{Principal, SessionCall};
use oi_session::input::Input;
use oi_session::job::JobResult;
use oi_session::sql::Sql;

use crate::support::session::{Session, init, person};

fn tables(s: &Session) -> usize {
    s.host.sql.inner.run("SELECT name FROM sqlite_master", &[]).expect("SQLite answers").len()
}

#[test]
fn a_deleted_session_ends_its_work_empties_its_storage_and_is_gone() {
    let (mut s, page, bridge, id) = Session::with_run();
    let reply = s.call(SessionCall::Delete);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(s.outcome(&id), "cancelled");
    assert!(s.closed(page).is_some() && s.closed(bridge).is_some());
    assert_eq!(s.host.erased, 0, "the bucket and the sandbox come first");
    for call in [
        SessionCall::Snapshot { dialect: 2 },
        SessionCall::Cancel,
        SessionCall::MintClientToken { person: Box::new(person("Ada")) },
    ] {
        assert_eq!(s.call(call).status, 404);
    }
    assert_eq!(s.rest_prompt("x", None).status, 404);
    s.run_jobs();
    assert_eq!((s.host.erased, tables(&s), s.stopped.len()), (1, 0, 1));
    assert_eq!(s.host.alarm, None);
    assert_eq!(s.call(SessionCall::Delete).status, 404);
    s.host.feed(Input::Alarm).expect("no fault");
    s.host.feed(Input::JobResult { job: 1, attempt: 1, result: JobResult::Done }).expect("no fault");
    assert_eq!(tables(&s), 0, "an object that is gone makes no storage");
}

#[test]
fn a_deletion_that_a_crash_cut_off_goes_on() {
    let (mut s, _, _, _) = Session::with_run();
    s.call(SessionCall::Delete);
    s.host.kill();
    s.host.advance(60_000);
    s.run_jobs();
    assert_eq!((s.host.erased, tables(&s)), (1, 0));

    // The last commit happened, and nothing after it.
    let mut s = Session::new();
    s.call(SessionCall::Delete);
    let job = s.take_jobs("collect_storage").pop().expect("a job");
    for other in std::mem::take(&mut s.host.jobs) {
        s.host.report(&other, JobResult::Done);
    }
    s.host.die_after_commit = true;
    s.host.report(&job, JobResult::Done);
    assert_eq!((s.host.erased, s.host.deaths), (0, 1));
    s.host.fire_alarm();
    assert_eq!((s.host.erased, tables(&s)), (1, 0));
}

#[test]
fn a_bucket_that_cannot_be_emptied_keeps_the_session_until_it_is_asked_again() {
    let mut s = Session::new();
    s.call(SessionCall::Delete);
    for _ in 0..40 {
        for job in s.take_jobs("collect_storage") {
            s.host.report(&job, JobResult::Failed { error: "down".to_owned(), transient: true });
        }
        s.host.advance(600_000);
    }
    assert_eq!(s.host.erased, 0);
    assert_eq!(s.call_as(Principal::Platform, SessionCall::Delete).status, 200);
    let job = s.take_jobs("collect_storage").pop().expect("it is tried again");
    s.host.report(&job, JobResult::More);
    let job = s.take_jobs("collect_storage").pop().expect("the next page");
    s.host.report(&job, JobResult::Done);
    s.run_jobs();
    assert_eq!(s.host.erased, 1);
}

#[test]
fn nothing_brings_a_session_back_while_it_is_deleted() {
    let (mut s, page, _) = Session::with_bridge();
    let sandbox = s.sandbox();
    s.call(SessionCall::Delete);
    s.call(SessionCall::Delete);
    assert_eq!(s.take_jobs("collect_storage").len(), 1);
    assert_eq!(s.connect_as(&sandbox, 2).map_err(|(status, _)| status), Err(410));
    assert_eq!(s.call(SessionCall::Init(Box::new(init(true)))).status, 404);
    let socket = s.host.open_client().expect("no fault");
    assert!(s.closed(socket).is_some());
    s.host.client_sends(page, r#"{"type":"typing"}"#);
    s.host.evict();
    s.host.advance(7_200_000);
    assert_eq!(s.started.len(), 1, "no sandbox was started");
}
