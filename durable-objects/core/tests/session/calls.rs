//! Calls of the control plane, and what an object that is no session does.

use oi_protocol::session_state::SessionStatus;
use oi_session::call::{NewParticipant, Principal, SessionCall};
use oi_session::input::Input;
use oi_session::job::{Job, JobResult};
use oi_session::sql::Sql;
use serde_json::json;

use crate::support::host::Host;
use crate::support::session::{Session, complete, init, person, value};

#[test]
fn an_unknown_session_leaves_no_tables() {
    let mut host = Host::new(3);
    let calls = [
        SessionCall::Snapshot { dialect: 2 },
        SessionCall::MintClientToken { person: Box::new(person("Ada")) },
        SessionCall::Stop,
        SessionCall::Archive,
        SessionCall::Unarchive,
        SessionCall::Cancel,
        SessionCall::Events { cursor: None, limit: None, event_type: None, message_id: None },
        SessionCall::Participants,
    ];
    for call in calls {
        let reply = host.call(Principal::Platform, call).expect("a refusal is no fault");
        assert_eq!(host.replies.remove(&reply).map(|reply| reply.status), Some(404));
    }
    let reply =
        host.call(Principal::Sandbox { token: "t".to_owned() }, SessionCall::SandboxRepositories).expect("no fault");
    assert_eq!(host.replies.remove(&reply).map(|reply| reply.status), Some(404));
    let mut bad = init(false);
    bad.model = "nonsense".to_owned();
    let reply = host.call(Principal::Platform, SessionCall::Init(Box::new(bad))).expect("no fault");
    assert_eq!(host.replies.remove(&reply).map(|reply| reply.status), Some(400));
    assert_eq!(host.upgrade("token", "sandbox", 2).map_err(|(status, _)| status), Err(401));
    let socket = host.open_client().expect("no fault");
    host.client_sends(socket, r#"{"type":"subscribe","token":"x","clientId":"c"}"#);
    assert_eq!(host.sockets[&socket].closed.as_ref().map(|(code, _)| *code), Some(4009));
    host.feed(Input::Alarm).expect("no fault");
    host.feed(Input::FlushText).expect("no fault");
    host.feed(Input::JobResult { job: 1, attempt: 1, result: JobResult::Done }).expect("no fault");
    host.disconnect(socket);
    let tables = host.sql.inner.run("SELECT name FROM sqlite_master", &[]).expect("SQLite answers");
    assert!(tables.is_empty(), "{tables:?}");
}

#[test]
fn init_again_answers_what_is_there() {
    let mut s = Session::new();
    let before = s.dump();
    let mut other = init(true);
    other.title = Some("Other".to_owned());
    let reply = s.call(SessionCall::Init(Box::new(other)));
    assert_eq!((reply.status, value(&reply.body)["status"].clone()), (200, json!("created")));
    assert_eq!(s.dump(), before);
}

#[test]
fn a_session_may_be_created_warm() {
    let mut s = Session::blank(4);
    s.call(SessionCall::Init(Box::new(init(true))));
    s.run_jobs();
    assert_eq!(s.started.len(), 1);
}

#[test]
fn an_archived_session_takes_no_prompt_and_comes_back_as_it_was() {
    let (mut s, page, bridge, id) = Session::with_run();
    assert_eq!(s.call(SessionCall::Archive).status, 409, "work is queued");
    s.frame(bridge, 3, complete(&id, true));
    assert_eq!(s.call(SessionCall::Archive).status, 200);
    s.run_jobs();
    assert_eq!((s.sandbox_status().as_str(), s.stopped.len()), ("stopped", 1));
    assert_eq!(s.prompt(page, "r", "x")["code"], "SESSION_NOT_PROMPTABLE");
    assert_eq!(s.rest_prompt("x", None).status, 409);
    let reply = s.call(SessionCall::Unarchive);
    assert_eq!(value(&reply.body), json!({"status": "completed"}));
    assert_eq!(s.call(SessionCall::Unarchive).status, 409);
    s.queue(page, "r", "x");
}

#[test]
fn a_cancelled_session_ends_all_its_prompts_and_its_sandbox() {
    let (mut s, page, bridge, running) = Session::with_run();
    let waiting = s.queue(page, "next", "y");
    assert_eq!(s.call(SessionCall::Cancel).status, 200);
    assert_eq!((s.outcome(&running).as_str(), s.outcome(&waiting).as_str()), ("cancelled", "cancelled"));
    assert_eq!(s.closed(bridge).map(|(code, _)| code), Some(1000));
    s.run_jobs();
    assert_eq!(s.stopped.len(), 1);
    for (call, status) in [(SessionCall::Cancel, 409), (SessionCall::Archive, 409), (SessionCall::Unarchive, 409)] {
        assert_eq!(s.call(call).status, status);
    }
    assert_eq!(s.prompt(page, "r", "x")["code"], "SESSION_NOT_PROMPTABLE");
    s.host.advance(3_600_000);
    assert_eq!(s.started.len(), 1);
}

#[test]
fn cancelling_while_a_sandbox_starts_stops_it_when_it_comes() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.queue(page, "r", "x");
    let start = s.take_jobs("start_sandbox").pop().expect("a start");
    s.call(SessionCall::Cancel);
    s.run_jobs();
    s.host.report(&start, JobResult::SandboxStarted { provider_object_id: "late".to_owned(), access: None });
    s.run_jobs();
    assert_eq!(s.sandbox_status(), "stopped");
    assert_eq!(s.stopped.last().and_then(|stop| stop.provider_object_id.clone()), Some("late".to_owned()));
}

#[test]
fn titles_are_trimmed_and_bounded() {
    let mut s = Session::new();
    for (title, status) in [(" ", 400), (&*"t".repeat(201), 400), (" Good ", 200)] {
        assert_eq!(s.call(SessionCall::UpdateTitle { title: title.to_owned() }).status, status);
    }
    let snapshot = value(&s.call(SessionCall::Snapshot { dialect: 1 }).body);
    assert_eq!(snapshot["session"]["title"], "Good");
}

#[test]
fn the_index_gets_the_newest_facts_though_older_ones_are_tried_again() {
    let mut s = Session::new();
    s.call(SessionCall::UpdateTitle { title: "one".to_owned() });
    let one = s.take_jobs("index_session").pop().expect("a job");
    s.call(SessionCall::UpdateTitle { title: "two".to_owned() });
    let two = s.take_jobs("index_session").pop().expect("a job");
    // The newer attempt fails first, then the older one.
    for job in [&two, &one] {
        s.host.report(job, JobResult::Failed { error: "down".to_owned(), transient: true });
    }
    s.host.advance(10_000);
    let again = s.take_jobs("index_session");
    assert_eq!(again.len(), 1);
    let Job::IndexSession(facts) = &again[0].job else { panic!("an index job") };
    assert_eq!((facts.title.as_deref(), facts.status), (Some("two"), SessionStatus::Created));
    s.host.report(&again[0], JobResult::Done);
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox"), 0);
}

#[test]
fn a_job_has_an_attempt_budget_and_is_given_up_visibly() {
    let mut s = Session::new();
    s.call(SessionCall::UpdateTitle { title: "one".to_owned() });
    let mut attempts = 0;
    for _ in 0..60 {
        for job in s.take_jobs("index_session") {
            attempts += 1;
            s.host.report(&job, JobResult::Failed { error: "down".to_owned(), transient: true });
        }
        s.host.advance(300_000);
    }
    assert_eq!(attempts, 12);
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up'"), 1);
    assert!(s.host.log.iter().any(|line| line.contains("job given up: index_session")));
}

#[test]
fn given_up_jobs_are_bounded() {
    let mut s = Session::new();
    for n in 0..130 {
        s.call(SessionCall::UpdateTitle { title: format!("t{n}") });
        for job in s.take_jobs("index_session") {
            s.host.report(&job, JobResult::Failed { error: "no".to_owned(), transient: false });
        }
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up'"), 100);
}

#[test]
fn a_lease_that_ends_is_an_unknown_outcome() {
    let mut s = Session::new();
    s.call(SessionCall::UpdateTitle { title: "one".to_owned() });
    let first = s.take_jobs("index_session").pop().expect("a job");
    assert!(!first.look_first);
    s.host.kill();
    s.host.advance(15_100);
    let second = s.take_jobs("index_session").pop().expect("it is tried again");
    assert_eq!((second.id, second.attempt, second.look_first), (first.id, 2, true));
}

#[test]
fn constructing_is_o1_in_the_length_of_the_session() {
    let statements = |events: i64| {
        let (mut s, _page, bridge, id) = Session::with_run();
        for n in 0..events {
            s.frame(
                bridge,
                3 + n,
                json!({"type": "warning", "scope": "setup", "message": format!("{n}"), "timestamp": 1}),
            );
        }
        s.frame(bridge, 3 + events, complete(&id, true));
        s.run_jobs();
        s.host.evict();
        let before = s.host.sql.statements();
        s.host.wake().expect("no fault");
        s.host.sql.statements() - before
    };
    let (few, many) = (statements(10), statements(5_000));
    assert_eq!(few, many);
    assert!(few < 22, "{few} statements");
}

#[test]
fn no_query_that_runs_often_scans_a_table() {
    let (s, ..) = Session::with_run();
    for query in [
        "SELECT status FROM messages WHERE completed_at IS NOT NULL ORDER BY completed_at DESC, number DESC LIMIT 1",
        "SELECT COUNT(*) FROM messages WHERE status = 'pending'",
        "SELECT id FROM messages WHERE status = 'processing'",
        "SELECT id, stop_deadline FROM messages WHERE stop_deadline IS NOT NULL LIMIT 1",
        "SELECT MAX(revision) FROM events",
        "SELECT MAX(seq) FROM events",
        "SELECT body FROM events WHERE revision IS NULL ORDER BY seq",
        "SELECT seq FROM events WHERE revision > 5 ORDER BY revision LIMIT 5",
        "SELECT MIN(due_at) FROM outbox WHERE state IN ('waiting', 'running')",
        "SELECT MIN(deadline) FROM pull_request_operations WHERE state IN ('pushing', 'opening')",
        "SELECT id FROM artifacts WHERE type = 'pr' ORDER BY created_at DESC LIMIT 200",
        "SELECT id FROM artifacts ORDER BY created_at DESC, id DESC LIMIT 200",
        "SELECT participant_id FROM client_tokens WHERE hash = 'x'",
        "SELECT id FROM attachments WHERE message_id IS NULL AND created_at <= 5 ORDER BY created_at LIMIT 50",
        "SELECT id FROM attachments WHERE message_id = 'x'",
    ] {
        let plan = format!("{:?}", s.rows(&format!("EXPLAIN QUERY PLAN {query}")));
        let indexed = plan.contains("USING INDEX") || plan.contains("USING COVERING INDEX") || plan.contains("SEARCH");
        assert!(indexed && !plan.contains("TEMP B-TREE"), "{query}: {plan}");
    }
}

fn user(name: &str) -> Principal {
    Principal::User { user_id: format!("user-{name}") }
}

pub fn new_participant(user_id: &str, role: Option<&str>) -> NewParticipant {
    NewParticipant {
        user_id: user_id.to_owned(),
        scm_login: Some("grace".to_owned()),
        scm_name: Some("Grace".to_owned()),
        scm_email: None,
        role: role.map(str::to_owned),
    }
}

#[test]
fn only_people_of_the_session_name_it_and_put_it_away() {
    let mut s = Session::new();
    let edits = [
        (SessionCall::UpdateTitle { title: "Mine".to_owned() }, "Not authorized to update the session title"),
        (SessionCall::Archive, "Not authorized to archive this session"),
        (SessionCall::Unarchive, "Not authorized to unarchive this session"),
    ];
    for (edit, sentence) in &edits {
        let before = s.dump();
        let reply = s.call_as(user("Eve"), edit.clone());
        assert_eq!((reply.status, value(&reply.body)["error"].clone()), (403, json!(sentence)));
        let nobody = s.call_as(Principal::Platform, edit.clone());
        assert_eq!((nobody.status, value(&nobody.body)["error"].clone()), (400, json!("userId is required")));
        assert_eq!(s.dump(), before);
    }
    // Who opens the session's page is one of them.
    s.token("Eve");
    for (edit, _) in edits {
        assert_eq!(s.call_as(user("Eve"), edit).status, 200);
    }
}

#[test]
fn somebody_is_added_once_and_stays_as_they_are() {
    let mut s = Session::new();
    let added = s.call(SessionCall::AddParticipant(new_participant("user-Grace", None)));
    assert_eq!((added.status, value(&added.body)["status"].clone()), (200, json!("added")));
    let before = s.dump();
    let forged = NewParticipant { scm_name: Some("Eve".to_owned()), ..new_participant("user-Grace", Some("owner")) };
    let again = s.call(SessionCall::AddParticipant(forged));
    assert_eq!(value(&again.body)["id"], value(&added.body)["id"]);
    assert_eq!(s.dump(), before, "nothing is said of them anew");
    let listed = value(&s.call(SessionCall::Participants).body);
    let shown: Vec<_> =
        listed["participants"].as_array().expect("a list").iter().map(|p| (&p["userId"], &p["role"])).collect();
    assert_eq!(shown, [(&json!("user-Ada"), &json!("owner")), (&json!("user-Grace"), &json!("member"))]);
    assert_eq!(listed["participants"][1]["scmLogin"], "grace");
}

#[test]
fn a_participant_that_is_no_person_is_refused_and_owners_are_made_by_owners() {
    let mut s = Session::new();
    s.token("Eve");
    let before = s.dump();
    let long = "x".repeat(301);
    for (bad, status) in [
        (new_participant("", None), 400),
        (new_participant(" ", None), 400),
        (new_participant(&long, None), 400),
        (new_participant("user-Grace", Some("admin")), 400),
        (NewParticipant { scm_email: Some(long.clone()), ..new_participant("user-Grace", None) }, 400),
        (new_participant("user-Grace", Some("owner")), 403),
    ] {
        assert_eq!(s.call_as(user("Eve"), SessionCall::AddParticipant(bad)).status, status);
    }
    assert_eq!(s.dump(), before);
    assert_eq!(s.call(SessionCall::AddParticipant(new_participant("user-Grace", Some("owner")))).status, 200);
}

#[test]
fn artifacts_are_listed_newest_first_and_one_is_found_by_its_id() {
    let (mut s, _page, bridge, _) = Session::with_run();
    for n in 0..3 {
        let shot =
            json!({"type": "artifact", "artifactType": "screenshot", "url": format!("https://x/{n}"), "timestamp": 1});
        s.frame(bridge, 3 + n, shot);
        s.host.advance(1);
    }
    let listed = value(&s.call(SessionCall::Artifacts { cursor: None, limit: None }).body);
    let urls: Vec<_> = listed["artifacts"].as_array().expect("a list").iter().map(|a| a["url"].clone()).collect();
    assert_eq!(urls, [json!("https://x/2"), json!("https://x/1"), json!("https://x/0")]);
    let artifact_id = listed["artifacts"][1]["id"].as_str().expect("an id").to_owned();
    let found = value(&s.call(SessionCall::Artifact { artifact_id }).body);
    assert_eq!(found["artifact"], listed["artifacts"][1]);
    for artifact_id in ["f".repeat(32), "nonsense".to_owned()] {
        assert_eq!(value(&s.call(SessionCall::Artifact { artifact_id }).body), json!({"artifact": null}));
    }
}

#[test]
fn pages_of_prompts_of_one_millisecond_have_no_gap_and_no_repetition() {
    let mut s = Session::new();
    for n in 0..7 {
        assert_eq!(s.rest_prompt(&format!("p{n}"), None).status, 200);
    }
    let page = |s: &mut Session, cursor: Option<String>| {
        value(&s.call(SessionCall::Messages { cursor, limit: Some(3), status: None }).body)
    };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let listed = page(&mut s, cursor);
        seen.extend(listed["messages"].as_array().expect("a list").iter().map(|m| m["content"].clone()));
        cursor = listed["cursor"].as_str().map(str::to_owned);
        assert_eq!(listed["hasMore"], cursor.is_some());
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..7).rev().map(|n| json!(format!("p{n}"))).collect();
    assert_eq!(seen, expected);
    let bad = [
        SessionCall::Messages { cursor: None, limit: Some(0), status: None },
        SessionCall::Messages { cursor: Some("zzz".to_owned()), limit: None, status: None },
        SessionCall::Messages { cursor: Some("1:-1:x".to_owned()), limit: None, status: None },
        SessionCall::Messages { cursor: None, limit: None, status: Some("lost".to_owned()) },
    ];
    for call in bad {
        assert_eq!(s.call(call).status, 400);
    }
}
