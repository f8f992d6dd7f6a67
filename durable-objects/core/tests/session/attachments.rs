//! Files of prompts: recorded within limits, given to one prompt each, shown with it, swept when nobody took them.

use oi_protocol::UnixMillis;
use oi_protocol::client_socket::AttachmentRef;
use oi_protocol::session_state::PromptSource;
use oi_session::call::{CallReply, EnqueuePrompt, Principal, SessionCall};
use oi_session::file_type::FileType;
use oi_session::input::SocketId;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, person, session_id, value};

const DAY: i64 = 24 * 60 * 60 * 1_000;
const MIB: i64 = 1024 * 1024;
const GONE: &str = "One or more attachments are missing, expired, or already used";

fn record(s: &mut Session, id: &str, bytes: i64) -> CallReply {
    let call = SessionCall::RecordAttachment { attachment_id: id.to_owned(), file_type: FileType::Png, bytes };
    s.call(call)
}

fn upload(s: &mut Session, id: &str) {
    let reply = record(s, id, 10);
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":"ok"}"#));
}

fn refs(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({"attachmentId": id, "name": format!("{id}.png")})).collect()
}

/// A prompt with files by the socket, and its answer.
fn send(s: &mut Session, page: SocketId, request: &str, content: &str, ids: &[&str]) -> Value {
    let _ = s.take(page);
    let files = refs(ids);
    s.say(page, &json!({"type": "prompt", "clientRequestId": request, "content": content, "attachments": files}));
    let answer = s.take(page).into_iter().find(|frame| frame["clientRequestId"] == request);
    answer.expect("a prompt is answered")
}

fn refused(answer: &Value) -> (&str, &str) {
    (answer["code"].as_str().unwrap_or_default(), answer["message"].as_str().unwrap_or_default())
}

fn rest(s: &mut Session, ids: &[&str], key: Option<&str>) -> CallReply {
    let attachments = ids.iter().map(|id| AttachmentRef { attachment_id: (*id).to_owned(), name: "n".to_owned() });
    let attachments = attachments.collect();
    s.call(SessionCall::Prompt(Box::new(EnqueuePrompt {
        author: person("Grace"),
        content: String::new(),
        source: PromptSource::Slack,
        model: None,
        reasoning_effort: None,
        attachments,
        idempotency_key: key.map(str::to_owned),
        callback_context: None,
    })))
}

/// What is claimed for deletion: the name of the clean-up and the ids.
fn cleanup(reply: &CallReply) -> (UnixMillis, Vec<String>) {
    let body = value(&reply.body);
    assert_eq!((reply.status, &body["status"]), (200, &json!("cleanup_required")), "{}", reply.body);
    let stale = body["staleAttachments"].as_array().expect("a list");
    for file in stale {
        let key = format!("sessions/{}/attachments/{}", session_id(), file["attachmentId"].as_str().expect("an id"));
        assert_eq!(file["objectKey"], key);
    }
    let ids = stale.iter().map(|file| file["attachmentId"].as_str().expect("an id").to_owned());
    (UnixMillis(body["cleanupClaimedAt"].as_i64().expect("a time")), ids.collect())
}

fn finish(s: &mut Session, claimed_at: UnixMillis, gone: &[String], kept: &[String]) -> CallReply {
    s.call(SessionCall::CompleteAttachmentCleanup {
        cleanup_claimed_at: claimed_at,
        acknowledged_attachment_ids: gone.to_vec(),
        released_attachment_ids: kept.to_vec(),
    })
}

/// Files and bytes as the session counts them, which must be what its rows are.
fn used(s: &Session) -> (i64, i64) {
    let counted = (
        s.count("SELECT COALESCE(SUM(objects), 0) FROM storage_use WHERE kind = 'attachment'"),
        s.count("SELECT COALESCE(SUM(bytes), 0) FROM storage_use WHERE kind = 'attachment'"),
    );
    let rows =
        (s.count("SELECT COUNT(*) FROM attachments"), s.count("SELECT COALESCE(SUM(bytes), 0) FROM attachments"));
    assert_eq!(counted, rows);
    counted
}

#[test]
fn a_prompts_files_go_with_it_to_the_agent_the_timeline_the_queue_and_the_list() {
    let (mut s, page, bridge, running) = Session::with_run();
    let old = s.page("Grace", 1);
    upload(&mut s, "a-1");
    upload(&mut s, "a-2");
    let answer = send(&mut s, page, "r", " ", &["a-2", "a-1"]);
    assert_eq!(answer["type"], "prompt_queued", "a prompt with files may be blank: {answer}");
    let files = json!([
        {"attachmentId": "a-2", "name": "a-2.png", "mimeType": "image/png"},
        {"attachmentId": "a-1", "name": "a-1.png", "mimeType": "image/png"},
    ]);
    let (_, snapshot) = s.subscribe("Ada", 2, None);
    assert_eq!(snapshot["promptQueue"][1]["attachments"], files);
    let told = s.take_of(old, "prompt_queue_updated").pop().expect("the queue is told");
    assert_eq!(told["promptQueue"][1].get("attachments"), None, "dialect 1 does not know them");
    let listed = value(&s.call(SessionCall::Messages { cursor: None, limit: None, status: None }).body);
    assert_eq!(listed["messages"][0]["attachments"], files);
    assert_eq!(listed["messages"][1]["attachments"], json!(null), "one without files");
    let _ = s.take(bridge);
    s.frame(bridge, 3, complete(&running, true));
    let sent = s.take_of(bridge, "prompt").pop().expect("the prompt is sent");
    assert_eq!(sent["attachments"], files);
    let stored = s.events("user_message").pop().expect("it is in the timeline");
    assert_eq!(stored["attachments"], files);
    let shown = s.take_of(old, "sandbox_event").into_iter().find(|frame| frame["event"]["type"] == "user_message");
    assert_eq!(shown.expect("dialect 1 sees it")["event"]["attachments"], files);
    s.host.evict();
    s.host.advance(31_000);
    let again = s.take_of(bridge, "prompt").pop().expect("it was not accepted and is sent again");
    assert_eq!(again["attachments"], files, "a repetition has them too");
}

#[test]
fn a_file_goes_with_one_prompt_once_and_a_refusal_takes_none() {
    let (mut s, page, _bridge, _) = Session::with_run();
    upload(&mut s, "a-1");
    upload(&mut s, "a-2");
    let messages = s.count("SELECT COUNT(*) FROM messages");
    let twice = send(&mut s, page, "r1", "x", &["a-1", "a-1"]);
    assert_eq!(refused(&twice), ("INVALID_ATTACHMENTS", "An attachment can only be attached once per message"));
    let unknown = send(&mut s, page, "r2", "x", &["a-1", "nowhere"]);
    assert_eq!(refused(&unknown), ("INVALID_ATTACHMENTS", GONE));
    assert_eq!(s.count("SELECT COUNT(*) FROM attachments WHERE message_id IS NOT NULL"), 0);
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), messages);
    assert_eq!(send(&mut s, page, "r3", "x", &["a-1"])["type"], "prompt_queued");
    assert_eq!(refused(&send(&mut s, page, "r4", "x", &["a-2", "a-1"])), ("INVALID_ATTACHMENTS", GONE));
    let by_rest = rest(&mut s, &["a-1"], None);
    assert_eq!((by_rest.status, value(&by_rest.body)["error"].clone()), (400, json!(GONE)));
    assert_eq!(value(&by_rest.body)["code"], "INVALID_ATTACHMENTS");
    assert_eq!(rest(&mut s, &["a-2"], None).status, 200, "blank, with a file");
    assert_eq!(rest(&mut s, &[], None).status, 400, "blank, without one");
}

#[test]
fn a_repetition_is_the_same_prompt_though_its_files_are_taken() {
    let (mut s, page, _bridge, _) = Session::with_run();
    upload(&mut s, "a-1");
    upload(&mut s, "a-2");
    let first = send(&mut s, page, "r", "x", &["a-1"]);
    let again = send(&mut s, page, "r", "x", &["a-1"]);
    assert_eq!((&again["type"], &again["messageId"]), (&json!("prompt_queued"), &first["messageId"]));
    for other in [&["a-2"][..], &["a-1", "a-2"], &[]] {
        let answer = send(&mut s, page, "r", "x", other);
        assert_eq!(answer["code"], "PROMPT_REQUEST_CONFLICT", "its files are part of what it is: {other:?}");
    }
    let by_rest = value(&rest(&mut s, &["a-2"], Some("key")).body);
    assert_eq!(value(&rest(&mut s, &["a-2"], Some("key")).body)["messageId"], by_rest["messageId"]);
    assert_eq!(s.count("SELECT COUNT(*) FROM attachments WHERE message_id IS NOT NULL"), 2);
}

#[test]
fn a_full_queue_is_told_before_its_files_are_looked_at() {
    let (mut s, page, _bridge, _) = Session::with_run();
    for n in 1..10 {
        s.queue(page, &format!("r{n}"), "x");
    }
    assert_eq!(send(&mut s, page, "r", "x", &["nowhere"])["code"], "PROMPT_QUEUE_FULL");
}

#[test]
fn a_cancelled_prompt_leaves_its_files_to_another() {
    let (mut s, page, _bridge, _) = Session::with_run();
    upload(&mut s, "a-1");
    let first = send(&mut s, page, "r1", "x", &["a-1"]);
    let cancel = json!({"type": "cancel_prompt", "messageId": first["messageId"], "clientRequestId": "c"});
    s.say(page, &cancel);
    assert_eq!(s.take_of(page, "prompt_cancelled").len(), 1);
    let again = send(&mut s, page, "r1", "x", &["a-1"]);
    assert_eq!((&again["messageId"], &again["position"]), (&first["messageId"], &json!(null)), "it stays cancelled");
    assert_eq!(send(&mut s, page, "r2", "x", &["a-1"])["type"], "prompt_queued");
}

#[test]
fn a_waiting_prompt_may_be_blank_after_a_change_only_if_it_has_files() {
    let (mut s, page, _bridge, _) = Session::with_run();
    upload(&mut s, "a-1");
    let with_file = send(&mut s, page, "r1", "x", &["a-1"])["messageId"].clone();
    let without = s.queue(page, "r2", "y");
    let edit = |request: &str, id: &Value| json!({"type": "edit_prompt", "messageId": id, "clientRequestId": request, "content": "  "});
    s.say(page, &edit("e1", &with_file));
    assert_eq!(s.take_of(page, "prompt_edited").len(), 1);
    s.say(page, &edit("e2", &json!(without)));
    assert_eq!(s.take_of(page, "error")[0]["code"], "INVALID_PROMPT");
    assert_eq!(s.count("SELECT COUNT(*) FROM messages WHERE content = 'y'"), 1);
    assert_eq!(s.count("SELECT COUNT(*) FROM attachments WHERE message_id IS NOT NULL"), 1, "a change keeps its files");
}

#[test]
fn a_session_keeps_a_hundred_files_and_500_mib() {
    let (mut s, _page, _bridge) = Session::with_bridge();
    for n in 0..100 {
        upload(&mut s, &format!("a-{n}"));
    }
    let refusal = record(&mut s, "more", 1);
    let body = value(&refusal.body);
    assert_eq!((refusal.status, &body["code"]), (429, &json!("RATE_LIMITED")));
    assert_eq!(body["error"], "Session attachment limit of 100 files exceeded");
    assert_eq!(record(&mut s, "a-7", 10).status, 200, "what is known may come again");
    assert_eq!(used(&s), (100, 1_000));

    let (mut s, _page, _bridge) = Session::with_bridge();
    for n in 0..49 {
        assert_eq!(record(&mut s, &format!("a-{n}"), 10 * MIB).status, 200);
    }
    assert_eq!(record(&mut s, "a", 10 * MIB - 1).status, 200);
    let refusal = record(&mut s, "b", 2);
    let body = value(&refusal.body);
    assert_eq!((refusal.status, &body["error"]), (429, &json!("Session attachment storage limit exceeded")));
    assert_eq!(record(&mut s, "c", 1).status, 200, "the last byte fits");
    assert_eq!(used(&s), (51, 500 * MIB));
}

#[test]
fn what_cannot_be_a_file_of_a_prompt_is_not_recorded() {
    let (mut s, _page, _bridge) = Session::with_bridge();
    upload(&mut s, "a-1");
    let longest = "x".repeat(129);
    for (id, file_type, bytes) in [
        ("", FileType::Png, 1),
        ("a/b", FileType::Png, 1),
        (longest.as_str(), FileType::Png, 1),
        ("a", FileType::Png, 0),
        ("a", FileType::Png, 10 * MIB + 1),
        ("a", FileType::Mp4, 1),
        ("a-1", FileType::Png, 11),
        ("a-1", FileType::Gif, 10),
    ] {
        let call = SessionCall::RecordAttachment { attachment_id: id.to_owned(), file_type, bytes };
        let reply = s.call(call);
        assert_eq!((reply.status, &value(&reply.body)["error"]), (400, &json!("Invalid attachment command")), "{id}");
    }
    assert_eq!(used(&s), (1, 10));
}

#[test]
fn files_that_nobody_took_within_a_day_are_swept_in_bounded_pieces() {
    let (mut s, page, _bridge) = Session::with_bridge();
    for n in 0..80 {
        upload(&mut s, &format!("old-{n}"));
    }
    assert_eq!(send(&mut s, page, "r", "x", &["old-7"])["type"], "prompt_queued");
    s.host.now = s.host.now.plus(DAY - 1);
    upload(&mut s, "young");
    s.host.now = s.host.now.plus(1);
    let (first, ids) = cleanup(&record(&mut s, "new", 10));
    assert_eq!(ids.len(), 50);
    assert_eq!(finish(&mut s, first, &ids, &[]).status, 200);
    let (second, rest) = cleanup(&record(&mut s, "new", 10));
    assert_eq!(rest.len(), 29);
    assert!(!ids.iter().chain(&rest).any(|id| id == "old-7" || id == "young"), "used and young ones stay");
    assert_eq!(finish(&mut s, second, &rest, &[]).status, 200);
    upload(&mut s, "new");
    assert_eq!(used(&s), (3, 30));
    assert_eq!(finish(&mut s, second, &vec!["x".to_owned(); 51], &[]).status, 400, "more than a clean-up has");
}

#[test]
fn a_claim_holds_five_minutes_and_only_its_own_end_counts() {
    let (mut s, _page, _bridge) = Session::with_bridge();
    upload(&mut s, "a");
    upload(&mut s, "b");
    s.host.now = s.host.now.plus(DAY);
    let page = s.page("Ada", 2);
    let (first, mut ids) = cleanup(&record(&mut s, "new-1", 10));
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(refused(&send(&mut s, page, "r", "x", &["a"])).1, GONE, "what is being deleted cannot be taken");
    let found = s.call(SessionCall::Attachment { attachment_id: "a".to_owned() });
    assert_eq!((found.status, &value(&found.body)["error"]), (404, &json!("Attachment not found")));
    upload(&mut s, "new-1");
    s.host.now = s.host.now.plus(5 * 60 * 1_000);
    let (second, _) = cleanup(&record(&mut s, "new-2", 10));
    finish(&mut s, first, &ids, &[]);
    assert_eq!(used(&s).0, 3, "the first claim was taken over");
    finish(&mut s, second, &["a".to_owned()], &["b".to_owned()]);
    assert_eq!(used(&s).0, 2);
    let taken = send(&mut s, page, "r2", "x", &["b"]);
    assert_eq!(taken["type"], "prompt_queued", "one that was not deleted may be used: {taken}");
    finish(&mut s, second, &["b".to_owned(), "new-1".to_owned()], &[]);
    assert_eq!(used(&s).0, 2, "what is used is not forgotten");
}

#[test]
fn a_sandbox_reads_the_files_of_its_session_and_records_none() {
    let (mut s, _page, _bridge) = Session::with_bridge();
    upload(&mut s, "a-1");
    let token = s.sandbox().token;
    let sandbox = |token: &str| Principal::Sandbox { token: token.to_owned() };
    let read = |id: &str| SessionCall::Attachment { attachment_id: id.to_owned() };
    let found = s.call_as(sandbox(&token), read("a-1"));
    assert_eq!((found.status, value(&found.body)), (200, json!({"mimeType": "image/png"})));
    assert_eq!(s.call_as(sandbox(&token), read("a-2")).status, 404);
    assert_eq!(s.call_as(sandbox(&"0".repeat(32)), read("a-1")).status, 401);
    let record = SessionCall::RecordAttachment { attachment_id: "b".to_owned(), file_type: FileType::Png, bytes: 1 };
    assert_eq!(s.call_as(sandbox(&token), record).status, 403);
    s.call(SessionCall::Cancel);
    assert_eq!(s.call_as(sandbox(&token), read("a-1")).status, 410, "it is stopped");
}
