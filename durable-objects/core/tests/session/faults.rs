//! A fault, and a panic, at every statement of every transition.

use oi_protocol::rest::CreatePullRequestRequest;
use oi_protocol::session_state::ArtifactType;
use oi_session::call::{Principal, SessionCall};
use oi_session::file_type::FileType;
use oi_session::input::{Input, SocketId};
use oi_session::job::JobResult;
use oi_session::media::NewMedia;
use serde_json::json;

use crate::support::probe::Break;
use crate::support::session::{Session, complete, delta, done, init, ready_at, tool};

type Step = (&'static str, fn(&mut Session));

fn page(s: &Session) -> SocketId {
    *s.host.sockets.iter().find(|(_, socket)| !socket.sandbox && socket.closed.is_none()).expect("a page").0
}

fn bridge(s: &Session) -> SocketId {
    *s.host.sockets.iter().rfind(|(_, socket)| socket.sandbox && socket.closed.is_none()).expect("a bridge").0
}

fn running(s: &Session) -> oi_protocol::MessageId {
    match s.rows("SELECT id FROM messages WHERE status = 'processing'").pop().as_deref() {
        Some([oi_session::sql::Value::Text(id)]) => oi_protocol::MessageId::parse(id).expect("an id"),
        other => panic!("nothing runs: {other:?}"),
    }
}

fn from_bridge(s: &mut Session, seq: i64, frame: serde_json::Value) {
    let socket = bridge(s);
    s.frame(socket, seq, frame);
}

fn say(s: &mut Session, frame: &serde_json::Value) {
    let socket = page(s);
    s.say(socket, frame);
}

fn start_token(s: &Session) -> String {
    let token = s.host.jobs.iter().find_map(|claimed| match &claimed.job {
        oi_session::job::Job::StartSandbox(start) => Some(crate::support::session::Sandbox::of(start).token),
        _ => None,
    });
    token.expect("a token")
}

/// Reports the oldest claimed job of a kind, which stays claimed for a repetition.
fn report(s: &mut Session, kind: &str, result: JobResult) {
    let job = s.host.jobs.iter().find(|claimed| claimed.job.kind() == kind).cloned().expect("a claimed job");
    s.host.report(&job, result);
}

/// One session's life as single inputs, in order.
const LIFE: &[Step] = &[
    ("init", |s| {
        let _ = s.host.call(Principal::Platform, SessionCall::Init(Box::new(init(false))));
    }),
    ("mint", |s| {
        let person = Box::new(crate::support::session::person("Ada"));
        let _ = s.host.call(Principal::Platform, SessionCall::MintClientToken { person });
    }),
    ("prompt without a sandbox", |s| say(s, &json!({"type": "prompt", "clientRequestId": "a", "content": "x"}))),
    ("second prompt", |s| say(s, &json!({"type": "prompt", "clientRequestId": "b", "content": "y"}))),
    ("third prompt", |s| say(s, &json!({"type": "prompt", "clientRequestId": "c", "content": "z"}))),
    ("sandbox started", |s| {
        report(s, "start_sandbox", JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None });
    }),
    ("bridge connects", |s| {
        let sandbox = s.host.jobs.iter().find_map(|claimed| match &claimed.job {
            oi_session::job::Job::StartSandbox(start) => Some(crate::support::session::Sandbox::of(start)),
            _ => None,
        });
        let _ = s.connect_as(&sandbox.expect("a start"), 2);
    }),
    ("ready", |s| from_bridge(s, 1, ready_at(&"a".repeat(40)))),
    ("accepted", |s| {
        let id = running(s);
        from_bridge(s, 2, json!({"type": "prompt_accepted", "messageId": id}));
    }),
    ("text", |s| {
        let id = running(s);
        from_bridge(s, 3, delta(&id, "p", 0, "Hello"));
    }),
    ("tool", |s| {
        let id = running(s);
        from_bridge(s, 4, tool(&id, "c", "running"));
    }),
    ("part done", |s| {
        let id = running(s);
        from_bridge(s, 5, done(&id, "p", None, 5));
    }),
    ("artifact", |s| {
        from_bridge(
            s,
            6,
            json!({"type": "artifact", "artifactType": "screenshot", "url": "https://x/", "timestamp": 1}),
        );
    }),
    ("screenshot", |s| {
        let session = crate::support::session::session_id();
        let artifact_id = "6d".repeat(16);
        let media = NewMedia {
            object_key: format!("sessions/{session}/media/{artifact_id}.png"),
            artifact_id,
            artifact_type: ArtifactType::Screenshot,
            bytes: 5,
            metadata: serde_json::Map::new(),
        };
        let _ = s.host.call(Principal::Platform, SessionCall::CreateMediaArtifact(Box::new(media)));
    }),
    ("attachment", |s| {
        let attachment_id = "a-1".to_owned();
        let call = SessionCall::RecordAttachment { attachment_id, file_type: FileType::Png, bytes: 5 };
        let _ = s.host.call(Principal::Platform, call);
    }),
    ("prompt with an attachment", |s| {
        let files = json!([{"attachmentId": "a-1", "name": "a.png"}]);
        say(s, &json!({"type": "prompt", "clientRequestId": "d", "content": "", "attachments": files}));
    }),
    ("cancel the prompt with the attachment", |s| {
        let id = match s.rows("SELECT id FROM messages WHERE attachments IS NOT NULL").pop().as_deref() {
            Some([oi_session::sql::Value::Text(id)]) => id.clone(),
            other => panic!("no such prompt: {other:?}"),
        };
        say(s, &json!({"type": "cancel_prompt", "clientRequestId": "e", "messageId": id}));
    }),
    ("ask for a pull request", |s| {
        let token = start_token(s);
        let request = CreatePullRequestRequest {
            title: "t".to_owned(),
            body: "b".to_owned(),
            base_branch: None,
            head_branch: Some("fix".to_owned()),
            repo_owner: None,
            repo_name: None,
            draft: None,
        };
        let call = SessionCall::CreatePullRequest { request, idempotency_key: Some("k".to_owned()) };
        let _ = s.host.call(Principal::Sandbox { token }, call);
    }),
    ("pushed", |s| {
        from_bridge(
            s,
            7,
            json!({"type": "push_complete", "branchName": "fix", "repoOwner": "acme", "repoName": "sample", "timestamp": 1}),
        );
    }),
    ("opened", |s| {
        report(
            s,
            "open_pull_request",
            JobResult::PullRequestOpened {
                number: 1,
                url: "https://forge/1".to_owned(),
                state: "open".to_owned(),
                head: "fix".to_owned(),
                base: "main".to_owned(),
                title: "t".to_owned(),
                updated: false,
            },
        );
    }),
    ("diff", |s| {
        let token = start_token(s);
        let bundle = crate::diffs::bundle(&"a".repeat(40), &[("f1", Some("@@")), ("f2", None)]);
        let _ = s.host.call(Principal::Sandbox { token }, SessionCall::StoreDiff(Box::new(bundle)));
    }),
    ("no diff", |s| {
        let token = start_token(s);
        let _ = s.host.call(Principal::Sandbox { token }, SessionCall::DiffFailed { error: "git failed".to_owned() });
    }),
    ("pull requests are to be read", |s| {
        let _ = s.host.call(Principal::Platform, SessionCall::RefreshPullRequests);
    }),
    ("pull requests were read", |s| {
        let wanted = s.host.jobs.iter().find_map(|claimed| match &claimed.job {
            oi_session::job::Job::RefreshPullRequests(refresh) => refresh.pull_requests.first().cloned(),
            _ => None,
        });
        let snapshot = crate::pull_request_snapshots::snapshot(1, "fix", Some(5));
        let read = vec![(wanted.expect("a pull request").artifact_id, snapshot)];
        report(s, "refresh_pull_requests", JobResult::PullRequestsRead { read });
    }),
    ("somebody is added", |s| {
        let new = crate::calls::new_participant("user-Grace", None);
        let _ = s.host.call(Principal::Platform, SessionCall::AddParticipant(new));
    }),
    ("completed, next goes out", |s| {
        let id = running(s);
        from_bridge(s, 8, complete(&id, true));
    }),
    ("stop", |s| say(s, &json!({"type": "stop"}))),
    ("stop not confirmed", |s| {
        s.host.now = s.host.now.plus(20_000);
        s.host.fire_alarm();
    }),
    ("cancel", |s| {
        let _ = s.host.call(Principal::Platform, SessionCall::Cancel);
    }),
    ("history", |s| {
        say(s, &json!({"type": "fetch_history", "cursor": {"timestamp": 1, "id": "x", "sequence": 3}}));
    }),
    ("what nobody took is claimed", |s| {
        s.host.now = s.host.now.plus(oi_protocol::limits::ATTACHMENT_UNUSED_MS);
        let attachment_id = "a-2".to_owned();
        let call = SessionCall::RecordAttachment { attachment_id, file_type: FileType::Png, bytes: 5 };
        let _ = s.host.call(Principal::Platform, call);
    }),
    ("and forgotten", |s| {
        let claimed_at = s.count("SELECT MAX(cleanup_claimed_at) FROM attachments");
        let call = SessionCall::CompleteAttachmentCleanup {
            cleanup_claimed_at: oi_protocol::UnixMillis(claimed_at),
            acknowledged_attachment_ids: vec!["a-1".to_owned()],
            released_attachment_ids: Vec::new(),
        };
        let _ = s.host.call(Principal::Platform, call);
    }),
];

fn at_the_beginning() -> Session {
    Session::blank(9)
}

/// Lives until before `step`.
fn lived(steps: usize) -> Session {
    let mut s = at_the_beginning();
    for (n, (_, step)) in LIFE.iter().enumerate().take(steps) {
        step(&mut s);
        if n == 1 {
            s.page("Ada", 2);
        }
    }
    s
}

fn breaks_are_harmless(how: Break) {
    let mut points = 0;
    for (n, (name, step)) in LIFE.iter().enumerate() {
        let mut whole = lived(n);
        whole.host.wake().expect("no fault is planned");
        let before = whole.host.sql.statements();
        let clean = whole.dump();
        step(&mut whole);
        let statements = whole.host.sql.statements() - before;
        assert!(statements > 0 || clean == whole.dump(), "{name} wrote without a statement");
        for at in 1..=statements {
            let mut s = lived(n);
            s.host.wake().expect("no fault is planned");
            let stored = s.dump();
            s.host.dumps_faults = true;
            let (now, faults) = (s.host.now, s.host.faults);
            for socket in s.host.sockets.values_mut() {
                socket.inbox.clear();
            }
            s.host.sql.break_at(at, how);
            step(&mut s);
            if s.host.faults == faults {
                // A read's statement: it has no transaction, and nothing to undo.
                continue;
            }
            points += 1;
            assert_eq!(s.host.dump_at_fault, Some(stored), "{name}: statement {at} left something behind");
            assert!(!s.host.replies.values().any(|reply| reply.status < 300), "{name}: statement {at} was answered");
            // The same input again has the effect that it has without a fault.
            s.host.now = now;
            step(&mut s);
            s.host.feed(Input::FlushText).expect("no fault is planned");
            whole.host.feed(Input::FlushText).expect("no fault is planned");
            assert_eq!(shape(&s), shape(&whole), "{name}: statement {at}");
        }
    }
    assert!(points > 150, "{points} points");
}

/// What is stored, without what randomness and repetition may change.
fn shape(s: &Session) -> Vec<String> {
    let mut shape = Vec::new();
    if s.count("SELECT COUNT(*) FROM sqlite_master WHERE name = 'session'") == 0 {
        return shape;
    }
    for query in [
        "SELECT status, title, message_count, pr_count, total_cost FROM session",
        "SELECT number, content, status, outcome, stop_deadline IS NULL, accepted FROM messages ORDER BY number",
        "SELECT seq, type, revision FROM events ORDER BY seq",
        "SELECT type, url FROM artifacts",
        "SELECT status, generation, dialect, failure_count FROM sandbox",
        "SELECT generation, seq FROM received",
        "SELECT state, status FROM pull_request_operations",
        "SELECT COUNT(*) FROM outbox WHERE payload NOT LIKE '%index_session%'",
        "SELECT user_id FROM participants",
        "SELECT id, message_id IS NULL, cleanup_claimed_at FROM attachments ORDER BY id",
        "SELECT kind, objects, bytes FROM storage_use ORDER BY kind",
    ] {
        shape.push(format!("{query}: {:?}", s.rows(query)));
    }
    shape
}

#[test]
fn a_failure_at_every_statement_leaves_everything_as_it_was() {
    breaks_are_harmless(Break::Fail);
}

#[test]
fn a_panic_at_every_statement_leaves_everything_as_it_was() {
    breaks_are_harmless(Break::Panic);
}

#[test]
fn after_a_fault_the_bridge_is_greeted_and_goes_on() {
    let (mut s, _page, socket, id) = Session::with_run();
    s.frame(socket, 3, delta(&id, "p", 0, "abc"));
    s.frame(socket, 4, delta(&id, "p", 3, "def"));
    let _ = s.take(socket);
    s.host.sql.break_at(1, Break::Panic);
    s.frame(socket, 5, tool(&id, "c", "running"));
    let hello = s.take_of(socket, "hello");
    assert_eq!(hello.len(), 1);
    assert_eq!(hello[0]["ackedSeq"], 3, "what was only in memory is asked for again");
    s.frame(socket, 4, delta(&id, "p", 3, "def"));
    s.frame(socket, 5, tool(&id, "c", "running"));
    s.frame(socket, 6, complete(&id, true));
    assert_eq!(s.events("part")[0]["text"], "abcdef");
    assert_eq!(s.outcome(&id), "done");
}

#[test]
fn a_fault_that_is_asked_for_is_rolled_back() {
    let (mut s, _page, _bridge, _) = Session::with_run();
    s.host.config.fault_injection = true;
    let before = s.dump();
    assert!(s.host.call(Principal::Platform, SessionCall::Fault).is_err());
    assert_eq!(s.dump(), before);
    s.host.config.fault_injection = false;
    assert_eq!(s.call(SessionCall::Fault).status, 404);
}
