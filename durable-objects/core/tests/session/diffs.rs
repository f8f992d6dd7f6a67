//! What a session changed since its start: baselines, bundles, patches.

use oi_protocol::diff::DiffBundle;
use oi_protocol::limits;
use oi_session::call::{CallReply, Principal, SessionCall};
use oi_session::input::SocketId;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, ready, ready_at, value};

fn base() -> String {
    "a".repeat(40)
}

fn file(id: &str, patch: Option<&str>) -> Value {
    let mut file = json!({"id": id, "path": format!("src/{id}.rs"), "status": "modified", "additions": 1,
        "deletions": null, "renderState": "binary"});
    if let Some(patch) = patch {
        file["renderState"] = json!("renderable");
        file["patch"] = json!(patch);
    }
    file
}

fn bundle_json(base_sha: &str, files: &[(&str, Option<&str>)]) -> Value {
    let files: Vec<_> = files.iter().map(|(id, patch)| file(id, *patch)).collect();
    json!({"version": 1, "triggerMessageId": null, "capturedAt": 1_800_000_000_000_i64, "repositories": [
        {"status": "ready", "position": 0, "repoOwner": "acme", "repoName": "Sample", "baseSha": base_sha,
            "headSha": "b".repeat(40), "truncated": false, "omittedFileCount": 0, "files": files}]})
}

/// A bundle of the test session's one repository.
pub fn bundle(base_sha: &str, files: &[(&str, Option<&str>)]) -> DiffBundle {
    serde_json::from_value(bundle_json(base_sha, files)).expect("a bundle")
}

/// A session whose sandbox said where the work started.
fn with_baseline() -> (Session, SocketId, SocketId) {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.say(page, &json!({"type": "typing"}));
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready_at(&base()));
    let _ = (s.take(page), s.take(bridge));
    (s, page, bridge)
}

fn by_sandbox(s: &mut Session, call: SessionCall) -> CallReply {
    let token = s.sandbox().token;
    s.call_as(Principal::Sandbox { token }, call)
}

fn store(s: &mut Session, bundle: DiffBundle) -> CallReply {
    by_sandbox(s, SessionCall::StoreDiff(Box::new(bundle)))
}

fn stored(s: &mut Session, bundle: DiffBundle) -> String {
    let reply = store(s, bundle);
    assert_eq!(reply.status, 200, "{}", reply.body);
    value(&reply.body)["revisionId"].as_str().expect("a revision").to_owned()
}

fn state(s: &mut Session) -> Value {
    value(&s.call(SessionCall::DiffState).body)
}

fn patch(s: &mut Session, revision: &str, file: &str) -> CallReply {
    s.call(SessionCall::DiffFile { revision_id: revision.to_owned(), file_id: file.to_owned() })
}

fn base_of(s: &mut Session) -> Value {
    value(&s.call(SessionCall::Snapshot { dialect: 1 }).body)["session"]["repositories"][0]["baseSha"].clone()
}

#[test]
fn a_baseline_is_pinned_once() {
    let (mut s, _page, bridge) = with_baseline();
    assert_eq!(base_of(&mut s), json!(base()));
    s.frame(bridge, 2, ready_at(&"c".repeat(40)));
    assert_eq!(base_of(&mut s), json!(base()));
    assert!(s.host.log.iter().any(|line| line.contains("stays")), "the log tells of the other one");
    s.host.evict();
    assert_eq!(base_of(&mut s), json!(base()));
}

#[test]
fn baselines_of_other_repositories_pin_nothing() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.say(page, &json!({"type": "typing"}));
    let bridge = s.connect(2);
    let named = |position: u32, owner: &str, name: &str, sha: &str| json!({"position": position, "repoOwner": owner, "repoName": name, "baseSha": sha});
    let ours = named(0, "acme", "sample", &base());
    for (seq, repositories) in [
        json!([]),
        json!([ours, named(1, "acme", "more", &base())]),
        json!([named(1, "acme", "sample", &base())]),
        json!([named(0, "acme", "other", &base())]),
        json!([named(0, "other", "sample", &base())]),
        json!([named(0, "acme", "sample", "main")]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = ready();
        event["repositories"] = repositories;
        s.frame(bridge, seq as i64 + 1, event);
        assert_eq!(base_of(&mut s), Value::Null);
    }
    assert_eq!(state(&mut s)["unavailableReason"], "Changes unavailable for this session");
    let refused = store(&mut s, bundle(&base(), &[]));
    assert_eq!(refused.status, 409);
    assert_eq!(value(&refused.body)["error"], "Session start baseline is unavailable");
    s.frame(bridge, 7, ready_at(&base()));
    assert_eq!(base_of(&mut s), json!(base()));
    assert_eq!(state(&mut s)["unavailableReason"], Value::Null);
}

#[test]
fn a_bundle_is_stored_told_and_read_patch_by_patch() {
    let (mut s, page, _bridge) = with_baseline();
    let old = s.page("Grace", 1);
    let _ = (s.take(page), s.take(old));
    assert_eq!(state(&mut s), json!({"version": 1, "current": null, "lastError": null, "unavailableReason": null}));
    let revision =
        stored(&mut s, bundle(&base().to_uppercase(), &[("f1", Some("@@ -1 +1 @@\n-a\n+ä\n")), ("f2", None)]));
    for socket in [page, old] {
        let told = s.take_of(socket, "diff_state_changed");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["revisionId"], json!(revision));
        assert_eq!(told[0]["updatedAt"], json!(s.host.now.0));
    }
    s.host.evict();
    let shown = state(&mut s);
    let mut expected = bundle_json(&base().to_uppercase(), &[("f1", None), ("f2", None)]);
    expected["repositories"][0]["files"][0]["renderState"] = json!("renderable");
    expected.as_object_mut().expect("an object").remove("version");
    expected["revisionId"] = json!(revision);
    assert_eq!(shown["current"], expected, "everything but the patch");
    let read = patch(&mut s, &revision, "f1");
    assert_eq!((read.status, read.body.as_str()), (200, "@@ -1 +1 @@\n-a\n+ä\n"));
    for missing in ["f2", "f3"] {
        let reply = patch(&mut s, &revision, missing);
        let body =
            json!({"error": "Diff file not found", "code": "diff_file_not_found", "currentRevisionId": revision});
        assert_eq!((reply.status, value(&reply.body)), (404, body));
    }
    for bad in ["", "a b", "../f1", &"x".repeat(201)] {
        assert_eq!((patch(&mut s, &revision, bad).status, patch(&mut s, bad, "f1").status), (400, 400), "{bad}");
    }
}

#[test]
fn a_newer_bundle_takes_the_place_of_the_one_before() {
    let (mut s, ..) = with_baseline();
    let reply = patch(&mut s, "any", "f1");
    assert_eq!(
        (reply.status, value(&reply.body)["currentRevisionId"].clone()),
        (409, Value::Null),
        "there is none yet"
    );
    let first = stored(&mut s, bundle(&base(), &[("f1", Some("one")), ("gone", Some("x"))]));
    let second = stored(&mut s, bundle(&base(), &[("f1", Some("two"))]));
    assert_ne!(first, second);
    let stale = patch(&mut s, &first, "f1");
    let body = json!({"error": "Diff revision is stale", "code": "diff_revision_stale", "currentRevisionId": second});
    assert_eq!((stale.status, value(&stale.body)), (409, body));
    assert_eq!(patch(&mut s, &second, "f1").body, "two");
    assert_eq!(patch(&mut s, &second, "gone").status, 404);
    assert_eq!(s.count("SELECT COUNT(*) FROM session_diff_patches"), 1, "only the newest is kept");
}

#[test]
fn a_failure_keeps_the_last_good_bundle_and_the_next_bundle_ends_it() {
    let (mut s, page, _bridge) = with_baseline();
    let failed = |s: &mut Session, error: &str| by_sandbox(s, SessionCall::DiffFailed { error: error.to_owned() });
    assert_eq!(failed(&mut s, "git is not there").status, 200);
    assert_eq!(s.take_of(page, "diff_state_changed")[0]["revisionId"], Value::Null);
    let revision = stored(&mut s, bundle(&base(), &[("f1", Some("good"))]));
    assert_eq!(state(&mut s)["lastError"], Value::Null);
    let _ = s.take(page);
    s.host.advance(5);
    assert_eq!(failed(&mut s, "disk full").status, 200);
    let told = s.take_of(page, "diff_state_changed");
    assert_eq!((told[0]["revisionId"].clone(), told[0]["updatedAt"].clone()), (json!(revision), json!(s.host.now.0)));
    let shown = state(&mut s);
    assert_eq!(shown["current"]["revisionId"], json!(revision));
    assert_eq!(shown["lastError"], json!({"message": "disk full", "occurredAt": s.host.now.0}));
    assert_eq!(patch(&mut s, &revision, "f1").body, "good");
    let before = s.dump();
    for bad in [String::new(), "x".repeat(2_001)] {
        let reply = failed(&mut s, &bad);
        assert_eq!((reply.status, value(&reply.body)["error"].clone()), (400, json!("Invalid session diff failure")));
    }
    assert_eq!(s.dump(), before);
    assert_eq!(failed(&mut s, &"x".repeat(2_000)).status, 200);
}

#[test]
fn a_bundle_that_is_not_of_this_session_or_its_baseline_changes_nothing() {
    let (mut s, page, _bridge) = with_baseline();
    stored(&mut s, bundle(&base(), &[("f1", Some("good"))]));
    let _ = s.take(page);
    let with = |pointer: &str, new: Value| {
        let mut whole = bundle_json(&base(), &[("f1", Some("bad"))]);
        *whole.pointer_mut(pointer).expect("a place") = new;
        serde_json::from_value::<DiffBundle>(whole).expect("of the right form")
    };
    let mut two = bundle_json(&base(), &[]);
    let mut other = two["repositories"][0].clone();
    (other["position"], other["repoName"]) = (json!(1), json!("other"));
    two["repositories"].as_array_mut().expect("a list").push(other);
    let (set, baseline) = ("Repository set does not match session", "Repository baseline does not match session");
    let before = s.dump();
    for (bad, sentence) in [
        (with("/version", json!(2)), "Invalid session diff bundle"),
        (with("/repositories/0/files/0/id", json!("a/b")), "Invalid session diff bundle"),
        (with("/repositories/0/position", json!(1)), set),
        (with("/repositories/0/repoOwner", json!("other")), set),
        (with("/repositories/0/repoName", json!("other")), set),
        (serde_json::from_value(two).expect("of the right form"), set),
        (with("/repositories/0/baseSha", json!("c".repeat(40))), baseline),
    ] {
        let reply = store(&mut s, bad);
        assert_eq!((reply.status, value(&reply.body)["error"].clone()), (400, json!(sentence)));
    }
    assert_eq!(s.dump(), before);
    assert!(s.take_of(page, "diff_state_changed").is_empty());
}

#[test]
fn what_is_unavailable_is_stored_with_why() {
    let (mut s, ..) = with_baseline();
    let unavailable = |base_sha: Value| {
        let whole = json!({"version": 1, "triggerMessageId": "m", "capturedAt": 1, "repositories": [
            {"status": "unavailable", "position": 0, "repoOwner": "acme", "repoName": "sample", "baseSha": base_sha,
                "error": "the checkout is gone", "files": []}]});
        serde_json::from_value::<DiffBundle>(whole).expect("a bundle")
    };
    assert_eq!(store(&mut s, unavailable(json!("c".repeat(40)))).status, 400, "of another baseline");
    for base_sha in [json!(base()), Value::Null] {
        stored(&mut s, unavailable(base_sha));
        assert_eq!(state(&mut s)["current"]["repositories"][0]["error"], "the checkout is gone");
    }
}

#[test]
fn only_the_sandbox_that_may_act_uploads_and_it_does_nothing_else() {
    let (mut s, _page, bridge) = with_baseline();
    let old = s.sandbox().token;
    let by = |token: &str| Principal::Sandbox { token: token.to_owned() };
    let calls = || {
        [
            SessionCall::StoreDiff(Box::new(bundle(&base(), &[("f1", Some("x"))]))),
            SessionCall::DiffFailed { error: "no".to_owned() },
        ]
    };
    for call in calls() {
        assert_eq!(s.call_as(by("wrong"), call).status, 401);
    }
    let reads = SessionCall::DiffFile { revision_id: "r".to_owned(), file_id: "f".to_owned() };
    for call in [SessionCall::DiffState, SessionCall::RetryDiff, reads] {
        assert_eq!(s.call_as(by(&old), call).status, 403);
    }
    s.call(SessionCall::Archive);
    let before = s.dump();
    for call in calls() {
        assert_eq!(s.call_as(by(&old), call).status, 410, "its sandbox is gone");
    }
    assert_eq!(s.dump(), before);
    let _ = bridge;
}

#[test]
fn a_new_bundle_is_asked_of_a_sandbox_that_is_there() {
    let (mut s, _page, bridge) = with_baseline();
    let reply = s.call(SessionCall::RetryDiff);
    assert_eq!((reply.status, value(&reply.body)), (202, json!({"accepted": true})));
    assert_eq!(s.take(bridge), [json!({"type": "refresh_diff"})]);
    s.host.disconnect(bridge);
    let before = s.dump();
    let reply = s.call(SessionCall::RetryDiff);
    assert_eq!((reply.status, value(&reply.body)["error"].clone()), (409, json!("Sandbox is not connected")));
    assert_eq!(s.dump(), before);
}

#[test]
fn the_largest_bundle_fits_rows_and_its_state_is_read_without_a_patch() {
    let (mut s, ..) = with_baseline();
    // A mebibyte of patches, the rest of the bundle in names.
    let half = "x".repeat(limits::DIFF_PATCH_MAX_BYTES);
    let ids: Vec<String> = (0..1_000).map(|n| format!("f{n}")).collect();
    let files: Vec<(&str, Option<&str>)> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            (
                id.as_str(),
                if n < 2 {
                    Some(half.as_str())
                } else if n % 2 == 0 {
                    Some("")
                } else {
                    None
                },
            )
        })
        .collect();
    let mut whole = bundle_json(&base(), &files);
    let room = (limits::DIFF_BUNDLE_MAX_BYTES - whole.to_string().len()) / 1_000;
    for (n, id) in ids.iter().enumerate() {
        whole["repositories"][0]["files"][n]["path"] = json!(format!("{}{id}", "p".repeat(room)));
    }
    let revision = stored(&mut s, serde_json::from_value(whole).expect("a bundle"));
    let longest = s.count(
        "SELECT MAX(length) FROM (SELECT MAX(LENGTH(patch)) AS length FROM session_diff_patches
            UNION ALL SELECT LENGTH(manifest) FROM session_diff)",
    );
    assert!(longest <= limits::DIFF_BUNDLE_MAX_BYTES as i64, "{longest}");
    assert_eq!(patch(&mut s, &revision, "f1").body.len(), half.len());
    assert_eq!(patch(&mut s, &revision, "f998").body, "");
    let statements = s.host.sql.statements();
    assert_eq!(state(&mut s)["current"]["repositories"][0]["files"].as_array().map(Vec::len), Some(1_000));
    assert!(s.host.sql.statements() - statements <= 2);
    let plan = format!("{:?}", s.rows("EXPLAIN QUERY PLAN SELECT patch FROM session_diff_patches WHERE file_id = 'x'"));
    assert!(plan.contains("SEARCH"), "{plan}");
}

#[test]
fn prompts_go_on_whatever_becomes_of_diffs() {
    let (mut s, page, bridge) = with_baseline();
    let first = s.queue(page, "a", "x");
    let second = s.queue(page, "b", "y");
    let listed = value(&s.call(SessionCall::Messages { cursor: None, limit: None, status: None }).body);
    let updated = s.count("SELECT updated_at FROM session");
    s.host.advance(10);
    stored(&mut s, bundle(&base(), &[("f1", Some("x"))]));
    assert_eq!(store(&mut s, bundle(&"c".repeat(40), &[])).status, 400);
    by_sandbox(&mut s, SessionCall::DiffFailed { error: "no".to_owned() });
    assert_eq!(value(&s.call(SessionCall::Messages { cursor: None, limit: None, status: None }).body), listed);
    assert_eq!(s.count("SELECT updated_at FROM session"), updated, "the list is not put in another order");
    s.frame(bridge, 2, complete(&first, true));
    assert_eq!((s.outcome(&first).as_str(), s.state(&second).0.as_str()), ("done", "processing"));
}
