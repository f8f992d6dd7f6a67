//! Pull requests as the forge tells of them, and when it is asked.

use oi_protocol::{ArtifactId, UnixMillis};
use oi_session::call::{Principal, SessionCall};
use oi_session::input::SocketId;
use oi_session::job::{ClaimedJob, Job, JobResult};
use oi_session::pull_request_snapshots::{LifecycleState, PullRequestSnapshot, RecordPullRequest};
use serde_json::{Value, json};

use crate::pull_requests::open_one;
use crate::support::session::{Session, session_id, value};

/// An open pull request of the test session's repository.
pub fn snapshot(number: i64, head: &str, provider_updated_at: Option<i64>) -> PullRequestSnapshot {
    PullRequestSnapshot {
        number,
        url: format!("https://forge/acme/sample/pull/{number}"),
        lifecycle_state: LifecycleState::Open,
        is_draft: false,
        head_branch: head.to_owned(),
        base_branch: "main".to_owned(),
        head_sha: Some("b".repeat(40)),
        repo_owner: "Acme".to_owned(),
        repo_name: "sample".to_owned(),
        repository_external_id: Some("7".to_owned()),
        title: None,
        provider_created_at: Some(UnixMillis(1)),
        provider_updated_at: provider_updated_at.map(UnixMillis),
        merged_at: None,
        closed_at: None,
    }
}

/// A session with pull request 5, a page of dialect 2, and its bridge; what was sent so far is taken.
fn with_pull_request() -> (Session, SocketId, SocketId) {
    let (mut s, page, bridge, id) = Session::with_run();
    open_one(&mut s, bridge, &id, 3);
    s.run_jobs();
    let _ = (s.take(page), s.take(bridge));
    (s, page, bridge)
}

fn artifact(s: &mut Session) -> Value {
    value(&s.call(SessionCall::Artifacts { cursor: None, limit: None }).body)["artifacts"][0].clone()
}

fn head(s: &mut Session) -> String {
    artifact(s)["metadata"]["head"].as_str().expect("a head").to_owned()
}

fn told(s: &mut Session, snapshot: PullRequestSnapshot) -> Value {
    let call = SessionCall::PullRequestSnapshot { artifact_id: None, snapshot: Box::new(snapshot) };
    let reply = s.call_as(Principal::Platform, call);
    assert_eq!(reply.status, 200, "{}", reply.body);
    value(&reply.body)["applied"].clone()
}

fn refreshes(s: &mut Session) -> Vec<ClaimedJob> {
    s.take_jobs("refresh_pull_requests")
}

fn records(s: &mut Session) -> Vec<RecordPullRequest> {
    let jobs = s.take_jobs("record_pull_request");
    jobs.iter()
        .map(|claimed| match &claimed.job {
            Job::RecordPullRequest(record) => record.as_ref().clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_the_forge_tells_is_merged_into_the_artifact_and_shown() {
    let (mut s, page, _bridge) = with_pull_request();
    let before = artifact(&mut s);
    let (head, author) = (head(&mut s), before["metadata"]["author"].clone());
    s.host.advance(50);
    let merged = PullRequestSnapshot {
        lifecycle_state: LifecycleState::Merged,
        merged_at: Some(UnixMillis(90)),
        closed_at: Some(UnixMillis(90)),
        title: Some("Mend it well".to_owned()),
        ..snapshot(5, &head, Some(100))
    };
    assert_eq!(told(&mut s, merged.clone()), true);
    let shown = s.take_of(page, "artifact_updated");
    assert_eq!(shown.len(), 1);
    let after = artifact(&mut s);
    assert_eq!(shown[0]["artifact"], after);
    assert_eq!((&after["id"], &after["createdAt"]), (&before["id"], &before["createdAt"]));
    assert_eq!(
        after["metadata"],
        json!({"number": 5, "title": "Mend it well", "state": "merged", "lifecycleState": "merged", "isDraft": false,
            "draft": false, "head": head, "base": "main", "repoOwner": "acme", "repoName": "sample",
            "headSha": "b".repeat(40), "repositoryExternalId": "7", "providerUpdatedAt": 100, "author": author}),
        "what it says nothing of stays, and so does the session's spelling of the repository"
    );
    let record = records(&mut s).pop().expect("D1 is told");
    assert_eq!((record.session_id, record.artifact_id.as_str()), (session_id(), before["id"].as_str().expect("an id")));
    assert_eq!((record.snapshot, record.updated_at), (merged, s.host.now));
}

#[test]
fn an_older_snapshot_and_one_that_says_nothing_new_change_nothing() {
    let (mut s, page, _bridge) = with_pull_request();
    let head = head(&mut s);
    let draft = PullRequestSnapshot { is_draft: true, ..snapshot(5, &head, Some(100)) };
    assert_eq!(told(&mut s, draft.clone()), true);
    assert_eq!(artifact(&mut s)["metadata"]["state"], "draft");
    let _ = (s.take(page), s.host.jobs.clear());
    let before = s.dump();
    s.host.advance(1);
    assert_eq!(told(&mut s, draft.clone()), false, "the same again");
    let closed = PullRequestSnapshot { lifecycle_state: LifecycleState::Closed, ..snapshot(5, &head, Some(99)) };
    assert_eq!(told(&mut s, closed.clone()), false, "an older one");
    assert_eq!(s.dump(), before);
    // The forge changed something that is not shown: only what is older is known anew.
    assert_eq!(told(&mut s, PullRequestSnapshot { provider_updated_at: Some(UnixMillis(200)), ..draft }), false);
    assert!(s.take(page).is_empty() && s.host.jobs.is_empty());
    let between = PullRequestSnapshot { provider_updated_at: Some(UnixMillis(150)), ..closed.clone() };
    assert_eq!(told(&mut s, between), false);
    // Of the same moment, and of no known one, it counts.
    assert_eq!(told(&mut s, PullRequestSnapshot { provider_updated_at: Some(UnixMillis(200)), ..closed }), true);
    assert_eq!(told(&mut s, PullRequestSnapshot { provider_updated_at: None, ..snapshot(5, &head, None) }), true);
    assert_eq!(artifact(&mut s)["metadata"]["state"], "open");
}

#[test]
fn times_that_a_life_does_not_have_are_left_out() {
    let (mut s, ..) = with_pull_request();
    let head = head(&mut s);
    let times = |life, at| {
        let at = Some(UnixMillis(at));
        PullRequestSnapshot { lifecycle_state: life, merged_at: at, closed_at: at, ..snapshot(5, &head, None) }
    };
    for (life, merged, closed) in [
        (LifecycleState::Closed, None, Some(7)),
        (LifecycleState::Open, None, None),
        (LifecycleState::Merged, Some(7), Some(7)),
    ] {
        told(&mut s, times(life, 7));
        let record = records(&mut s).pop().expect("D1 is told").snapshot;
        assert_eq!((record.merged_at.map(|at| at.0), record.closed_at.map(|at| at.0)), (merged, closed), "{life:?}");
    }
}

#[test]
fn a_snapshot_of_something_else_is_refused() {
    let (mut s, page, _bridge) = with_pull_request();
    let (head, id) = (head(&mut s), ArtifactId::parse(artifact(&mut s)["id"].as_str().expect("an id")).expect("an id"));
    let good = || snapshot(5, &head, Some(1));
    let before = s.dump();
    for (artifact_id, bad, status) in [
        (None, snapshot(6, &head, Some(1)), 404),
        (None, PullRequestSnapshot { repo_name: "other".to_owned(), ..good() }, 404),
        (Some(ArtifactId::from_bytes([9; 16])), good(), 404),
        (Some(id.clone()), snapshot(6, &head, Some(1)), 404),
        (Some(id.clone()), snapshot(0, &head, Some(1)), 400),
        (Some(id.clone()), PullRequestSnapshot { url: String::new(), ..good() }, 400),
        (Some(id.clone()), PullRequestSnapshot { title: Some("x".repeat(4_097)), ..good() }, 400),
        (
            Some(id.clone()),
            PullRequestSnapshot { is_draft: true, lifecycle_state: LifecycleState::Merged, ..good() },
            400,
        ),
    ] {
        let call = SessionCall::PullRequestSnapshot { artifact_id, snapshot: Box::new(bad) };
        assert_eq!(s.call_as(Principal::Platform, call).status, status);
    }
    assert_eq!(s.dump(), before);
    assert!(s.take(page).is_empty());
    // A repository that got another name is known by its number.
    told(&mut s, good());
    let renamed = PullRequestSnapshot { repo_name: "renamed".to_owned(), ..snapshot(5, &head, Some(2)) };
    let call = SessionCall::PullRequestSnapshot { artifact_id: Some(id), snapshot: Box::new(renamed) };
    assert_eq!(value(&s.call_as(Principal::Platform, call).body)["applied"], true);
}

#[test]
fn pull_requests_are_read_when_somebody_looks_and_at_most_once_a_minute() {
    let mut s = Session::new();
    s.page("Ada", 2);
    let reply = s.call(SessionCall::RefreshPullRequests);
    assert_eq!((reply.status, value(&reply.body)), (202, json!({"status": "refreshing"})));
    assert!(refreshes(&mut s).is_empty(), "there is none to read");
    let (mut s, ..) = with_pull_request();
    s.host.advance(60_000);
    for name in ["Ada", "Grace", "Ada"] {
        s.page(name, 2);
    }
    assert_eq!(s.call(SessionCall::RefreshPullRequests).status, 202);
    s.host.evict();
    s.page("Ada", 1);
    let asked = refreshes(&mut s);
    assert_eq!(asked.len(), 1, "however many look, also after an eviction");
    let Job::RefreshPullRequests(refresh) = &asked[0].job else { panic!("a refresh") };
    let wanted = &refresh.pull_requests[..];
    assert_eq!(wanted.len(), 1);
    assert_eq!((wanted[0].repo_owner.as_str(), wanted[0].repo_name.as_str(), wanted[0].number), ("acme", "sample", 5));
    s.host.report(&asked[0], JobResult::PullRequestsRead { read: vec![] });
    s.host.advance(59_999);
    s.page("Ada", 2);
    assert!(refreshes(&mut s).is_empty());
    s.host.advance(1);
    assert_eq!(s.call(SessionCall::RefreshPullRequests).status, 202);
    assert_eq!(refreshes(&mut s).len(), 1);
}

#[test]
fn what_was_read_is_applied_without_moving_the_session_in_the_list() {
    let (mut s, page, _bridge) = with_pull_request();
    let (head, id) = (head(&mut s), ArtifactId::parse(artifact(&mut s)["id"].as_str().expect("an id")).expect("an id"));
    let updated = s.count("SELECT updated_at FROM session");
    s.host.advance(60_000);
    s.call(SessionCall::RefreshPullRequests);
    let asked = refreshes(&mut s).pop().expect("a refresh");
    s.host.jobs.clear();
    let stranger = ArtifactId::from_bytes([9; 16]);
    let closed = PullRequestSnapshot { lifecycle_state: LifecycleState::Closed, ..snapshot(5, &head, Some(10)) };
    let read = vec![(stranger, snapshot(6, &head, Some(10))), (id.clone(), snapshot(6, &head, Some(10))), (id, closed)];
    s.host.report(&asked, JobResult::PullRequestsRead { read });
    assert_eq!(s.take_of(page, "artifact_updated").len(), 1);
    assert_eq!(artifact(&mut s)["metadata"]["state"], "closed");
    assert_eq!(s.count("SELECT updated_at FROM session"), updated);
    s.host.advance(0);
    assert!(s.take_jobs("index_session").is_empty(), "the list has nothing to learn");
    assert_eq!(records(&mut s).len(), 1);
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE state = 'waiting'"), 0);
}

#[test]
fn a_read_that_fails_is_tried_once_more_and_says_nothing_to_pages() {
    let (mut s, page, _bridge) = with_pull_request();
    s.host.advance(60_000);
    s.call(SessionCall::RefreshPullRequests);
    let down = || JobResult::Failed { error: "the forge is down".to_owned(), transient: true };
    let first = refreshes(&mut s).pop().expect("a refresh");
    s.host.report(&first, down());
    s.host.advance(5_000);
    let second = refreshes(&mut s).pop().expect("once more");
    s.host.report(&second, down());
    s.host.advance(40_000);
    assert!(refreshes(&mut s).is_empty());
    let frames = s.take(page);
    assert!(frames.iter().all(|frame| frame["type"] != "artifact_updated" && frame["type"] != "error"), "{frames:?}");
    s.host.advance(60_000);
    s.call(SessionCall::RefreshPullRequests);
    assert_eq!(refreshes(&mut s).len(), 1, "the next one who looks has it read");
}

#[test]
fn d1_learns_of_a_pull_request_when_it_is_opened() {
    let (mut s, _page, bridge, id) = Session::with_run();
    open_one(&mut s, bridge, &id, 3);
    let record = records(&mut s).pop().expect("D1 is told");
    assert_eq!((record.snapshot.number, record.snapshot.lifecycle_state), (5, LifecycleState::Open));
    assert_eq!(artifact(&mut s)["metadata"]["lifecycleState"], "open");
    assert_eq!(artifact(&mut s)["id"], json!(record.artifact_id));
}
