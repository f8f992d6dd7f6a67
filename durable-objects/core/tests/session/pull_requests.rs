//! Pull requests: push, forge, answer.

use oi_protocol::MessageId;
use oi_protocol::rest::CreatePullRequestRequest;
use oi_session::call::{Principal, SessionCall};
use oi_session::input::{ReplyId, SocketId};
use oi_session::job::{ClaimedJob, Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Session, complete, session_id, value};

fn ask(s: &mut Session, key: Option<&str>) -> ReplyId {
    ask_for(s, key, None)
}

fn ask_for(s: &mut Session, key: Option<&str>, head: Option<&str>) -> ReplyId {
    ask_into(s, key, head, None)
}

fn ask_into(s: &mut Session, key: Option<&str>, head: Option<&str>, base: Option<&str>) -> ReplyId {
    let token = s.sandbox().token;
    let request = CreatePullRequestRequest {
        title: "Mend it".to_owned(),
        body: "It was broken.".to_owned(),
        base_branch: base.map(str::to_owned),
        head_branch: head.map(str::to_owned),
        repo_owner: None,
        repo_name: None,
        draft: None,
    };
    let call = SessionCall::CreatePullRequest { request, idempotency_key: key.map(str::to_owned) };
    s.begin(Principal::Sandbox { token }, call)
}

fn pushed(branch: &Value) -> Value {
    json!({"type": "push_complete", "branchName": branch, "repoOwner": "ACME", "repoName": "sample", "timestamp": 1})
}

fn opened(claimed: &ClaimedJob, number: i64) -> JobResult {
    let Job::OpenPullRequest(open) = &claimed.job else { panic!("a pull request") };
    JobResult::PullRequestOpened {
        number,
        url: format!("https://forge/acme/sample/pull/{number}"),
        state: "open".to_owned(),
        head: open.head.clone(),
        base: open.base.clone(),
        title: open.title.clone(),
        updated: open.existing_number.is_some(),
    }
}

/// Opens one from ask to answer, with the bridge's frame `seq`; gives its address.
pub fn open_one(s: &mut Session, bridge: SocketId, _id: &MessageId, seq: i64) -> String {
    let reply = ask(s, Some("key"));
    let push = s.take_of(bridge, "push").pop().expect("a push");
    s.frame(bridge, seq, pushed(&push["pushSpec"]["targetBranch"]));
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    s.host.report(&job, opened(&job, 5));
    s.frame(bridge, seq + 1, json!({"type": "warning", "scope": "setup", "message": "-", "timestamp": 1}));
    let answer = s.answer(reply).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    value(&answer.body)["prUrl"].as_str().expect("an address").to_owned()
}

#[test]
fn a_pull_request_goes_from_push_to_forge_to_answer() {
    let (mut s, page, bridge, _) = Session::with_run();
    let reply = ask(&mut s, Some("key"));
    assert_eq!(s.answer(reply), None);
    let push = s.take_of(bridge, "push").pop().expect("a push");
    let spec = &push["pushSpec"];
    let branch = spec["targetBranch"].clone();
    assert_eq!(spec["remoteUrl"], "https://github.com/acme/sample.git", "without credentials");
    assert_eq!(spec["refspec"], json!(format!("HEAD:refs/heads/{}", branch.as_str().expect("a branch"))));
    s.frame(bridge, 3, pushed(&branch));
    assert_eq!(s.take_of(page, "session_branch")[0]["branchName"], branch);
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    let Job::OpenPullRequest(open) = &job.job else { panic!("a pull request") };
    assert_eq!((open.author_name.as_str(), open.base.as_str()), ("Ada", "main"));
    s.host.report(&job, opened(&job, 5));
    let answer = s.answer(reply).expect("an answer");
    assert_eq!((answer.status, value(&answer.body)["prNumber"].clone()), (200, json!(5)));
    let artifact = s.take_of(page, "artifact_created").pop().expect("an artifact");
    assert_eq!(artifact["artifact"]["metadata"]["number"], 5);
    assert_eq!(s.events("artifact").len(), 1);
    let snapshot = value(&s.call(SessionCall::Snapshot { dialect: 2 }).body);
    assert_eq!(snapshot["session"]["repositories"][0]["prUrl"], "https://forge/acme/sample/pull/5");
    assert_eq!(snapshot["session"]["repositories"][0]["branchName"], branch);
}

#[test]
fn the_same_branch_again_updates_its_pull_request() {
    let (mut s, page, bridge, id) = Session::with_run();
    open_one(&mut s, bridge, &id, 3);
    for n in 0..250 {
        let shot =
            json!({"type": "artifact", "artifactType": "screenshot", "url": format!("https://x/{n}"), "timestamp": 1});
        s.frame(bridge, 5 + n, shot);
        s.host.advance(1);
    }
    let _ = s.take(page);
    let reply = ask(&mut s, Some("other"));
    let push = s.take_of(bridge, "push").pop().expect("a push");
    s.frame(bridge, 255, pushed(&push["pushSpec"]["targetBranch"]));
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    let Job::OpenPullRequest(open) = &job.job else { panic!("a pull request") };
    assert_eq!(open.existing_number, Some(5), "it is found behind any number of pictures");
    s.host.report(&job, opened(&job, 5));
    assert_eq!(value(&s.answer(reply).expect("an answer").body)["updated"], true);
    assert_eq!(s.take_of(page, "artifact_updated").len(), 1);
    assert_eq!(s.count("SELECT COUNT(*) FROM artifacts WHERE type = 'pr'"), 1);
}

#[test]
fn a_push_that_fails_answers_why() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let reply = ask(&mut s, None);
    let push = s.take_of(bridge, "push").pop().expect("a push");
    let mut error = pushed(&push["pushSpec"]["targetBranch"]);
    error["type"] = json!("push_error");
    error["error"] = json!("rejected");
    s.frame(bridge, 3, error);
    let answer = s.answer(reply).expect("an answer");
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("Failed to push branch: rejected"));
}

#[test]
fn a_push_event_of_another_branch_settles_nothing() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let reply = ask(&mut s, None);
    s.frame(bridge, 3, pushed(&json!("another")));
    s.host.advance(0);
    assert!(s.take_jobs("open_pull_request").is_empty());
    assert_eq!(s.answer(reply), None);
}

#[test]
fn a_prompt_that_ends_ends_its_push() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let reply = ask(&mut s, None);
    s.frame(bridge, 3, complete(&id, true));
    assert_eq!(s.answer(reply).map(|answer| answer.status), Some(409));
    let none = ask(&mut s, None);
    assert_eq!(s.answer(none).map(|answer| answer.status), Some(400), "no prompt runs");
}

#[test]
fn a_repeated_key_meets_the_same_operation() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let replies = [ask(&mut s, Some("key")), ask(&mut s, Some("key"))];
    let pushes = s.take_of(bridge, "push");
    assert_eq!(pushes.len(), 1);
    let other = ask(&mut s, Some("other"));
    assert_eq!(s.answer(other).map(|answer| answer.status), Some(409), "one at a time for a repository");
    s.frame(bridge, 3, pushed(&pushes[0]["pushSpec"]["targetBranch"]));
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    s.host.report(&job, opened(&job, 5));
    for reply in replies {
        assert_eq!(s.answer(reply).map(|answer| answer.status), Some(200));
    }
    let late = ask(&mut s, Some("key"));
    assert_eq!(s.answer(late).map(|answer| answer.status), Some(200), "its answer is kept");
    assert!(s.take_of(bridge, "push").is_empty());
}

#[test]
fn an_eviction_between_ask_and_answer_loses_no_pull_request() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let _lost = ask(&mut s, Some("key"));
    let _ = s.take(bridge);
    s.host.evict();
    let reply = ask(&mut s, Some("key"));
    let push = s.take_of(bridge, "push").pop().expect("the push is repeated");
    s.frame(bridge, 3, pushed(&push["pushSpec"]["targetBranch"]));
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    s.host.evict();
    s.host.report(&job, opened(&job, 5));
    assert_eq!(s.answer(reply), None, "its waiter went with the memory");
    let again = ask(&mut s, Some("key"));
    assert_eq!(s.answer(again).map(|answer| answer.status), Some(200));
    assert_eq!(s.count("SELECT COUNT(*) FROM artifacts"), 1);
}

#[test]
fn an_old_push_that_is_told_again_does_not_settle_a_new_one() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "r", "x");
    let bridge = s.connect(1);
    let reply = ask(&mut s, Some("one"));
    let mut told = pushed(&s.take_of(bridge, "push")[0]["pushSpec"]["targetBranch"]);
    told["ackId"] = json!("push_complete:1");
    s.plain(bridge, &told);
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    s.host.report(&job, opened(&job, 5));
    assert!(s.answer(reply).is_some());
    ask(&mut s, Some("two"));
    s.plain(bridge, &told);
    s.host.advance(0);
    assert!(s.take_jobs("open_pull_request").is_empty(), "the new commit is not pushed yet");
}

#[test]
fn an_operation_that_nobody_answers_ends_in_time() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let reply = ask(&mut s, None);
    for _ in 0..13 {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.host.advance(29_000);
    }
    assert_eq!(s.answer(reply).map(|answer| answer.status), Some(504));
}

#[test]
fn a_forge_that_fails_for_good_is_told() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let reply = ask(&mut s, None);
    let push = s.take_of(bridge, "push").pop().expect("a push");
    s.frame(bridge, 3, pushed(&push["pushSpec"]["targetBranch"]));
    s.host.advance(0);
    let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
    s.host.report(&job, JobResult::Failed { error: "no rights".to_owned(), transient: false });
    let answer = s.answer(reply).expect("an answer");
    let body = value(&answer.body);
    assert_eq!((answer.status, &body["error"], &body["code"]), (502, &json!("no rights"), &json!("UPSTREAM_FAILED")));
}

#[test]
fn bad_requests_are_refused_before_anything_is_pushed() {
    let (mut s, _page, bridge, _) = Session::with_run();
    let token = s.sandbox().token;
    let good = CreatePullRequestRequest {
        title: "t".to_owned(),
        body: "b".to_owned(),
        base_branch: None,
        head_branch: None,
        repo_owner: None,
        repo_name: None,
        draft: None,
    };
    let cases = [
        (CreatePullRequestRequest { title: " ".to_owned(), ..good.clone() }, 400),
        (CreatePullRequestRequest { title: "t".repeat(257), ..good.clone() }, 400),
        (CreatePullRequestRequest { body: "b".repeat(60_001), ..good.clone() }, 400),
        (CreatePullRequestRequest { head_branch: Some("a..b".to_owned()), ..good.clone() }, 400),
        (CreatePullRequestRequest { base_branch: Some("a b".to_owned()), ..good.clone() }, 400),
        (CreatePullRequestRequest { repo_owner: Some("acme".to_owned()), ..good.clone() }, 400),
        (
            CreatePullRequestRequest {
                repo_owner: Some("evil".to_owned()),
                repo_name: Some("x".to_owned()),
                ..good.clone()
            },
            403,
        ),
    ];
    for (request, status) in cases {
        let call = SessionCall::CreatePullRequest { request, idempotency_key: None };
        let reply = s.call_as(Principal::Sandbox { token: token.clone() }, call);
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    assert!(s.take_of(bridge, "push").is_empty());
    let head = ask_for(&mut s, None, Some("main"));
    assert_eq!(s.answer(head), None);
    let branch = s.take_of(bridge, "push")[0]["pushSpec"]["targetBranch"].clone();
    assert_ne!(branch, "main", "the base is never the head");
}

#[test]
fn answers_of_old_operations_are_bounded() {
    let (mut s, _page, bridge, _) = Session::with_run();
    for n in 0..120 {
        ask(&mut s, Some(&format!("k{n}")));
        let push = s.take_of(bridge, "push").pop().expect("a push");
        let mut error = pushed(&push["pushSpec"]["targetBranch"]);
        error["type"] = json!("push_error");
        error["error"] = json!("no");
        s.frame(bridge, 3 + n, error);
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM pull_request_operations"), 100);
}

#[test]
fn a_pull_request_into_the_branch_of_another_is_stacked_on_a_branch_of_its_own() {
    let (mut s, _page, bridge, id) = Session::with_run();
    open_one(&mut s, bridge, &id, 3);
    let first = format!("open-inspect/{}", session_id());
    let mut seq = 5;
    let mut open_into = |s: &mut Session, key: &str, base: Option<&str>, number: i64| {
        let reply = ask_into(s, Some(key), None, base);
        let push = s.take_of(bridge, "push").pop().expect("a push");
        let target = push["pushSpec"]["targetBranch"].clone();
        s.frame(bridge, seq, pushed(&target));
        seq += 1;
        s.host.advance(0);
        let job = s.take_jobs("open_pull_request").pop().expect("the forge is asked");
        let Job::OpenPullRequest(open) = &job.job else { panic!("a pull request") };
        let existing = open.existing_number;
        s.host.report(&job, opened(&job, number));
        assert_eq!(s.answer(reply).expect("an answer").status, 200);
        (target.as_str().expect("a branch").to_owned(), existing)
    };
    // Else the first one's branch would be overwritten with what is stacked on it.
    let second = format!("{first}-2");
    assert_eq!(open_into(&mut s, "b", Some(&first), 6), (second.clone(), None));
    assert_eq!(open_into(&mut s, "c", Some(&second), 7), (format!("{first}-3"), None), "as high as wanted");
    assert_eq!(open_into(&mut s, "d", Some(&first), 6), (second, Some(6)), "the second one again");
    assert_eq!(open_into(&mut s, "e", None, 5), (first, Some(5)), "the first one again");
    assert_eq!(s.count("SELECT COUNT(*) FROM artifacts WHERE type = 'pr'"), 3);
}
