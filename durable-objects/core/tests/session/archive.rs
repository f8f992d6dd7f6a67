//! Old events in files: nothing is lost on the way, and pages go on without a seam.

use std::collections::{BTreeMap, BTreeSet};

use oi_session::archive_file::{self, ArchivePointer, ArchivedRange, ArchivedRanges};
use oi_session::call::{Principal, SessionCall};
use oi_session::fork::TimelinePage;
use oi_session::input::SocketId;
use oi_session::job::{ClaimedJob, Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Session, complete, ready, tool};

const KEPT: i64 = 40;

/// The bucket, and the archive's jobs played by hand.
#[derive(Default)]
struct Bucket {
    files: BTreeMap<String, String>,
}

fn ask(s: &mut Session, call: SessionCall) -> (u16, String) {
    let reply = s.host.call(Principal::Platform, call).expect("no fault");
    let reply = s.host.replies.remove(&reply).expect("answered at once");
    (reply.status, reply.body)
}

fn take_job(s: &mut Session, kind: &str) -> Option<ClaimedJob> {
    let index = s.host.jobs.iter().position(|claimed| claimed.job.kind() == kind)?;
    s.host.jobs.remove(index)
}

impl Bucket {
    fn write(&mut self, s: &mut Session, claimed: &ClaimedJob) -> u16 {
        let Job::ArchiveEvents(job) = &claimed.job else { panic!("not an archive: {claimed:?}") };
        let call = SessionCall::ArchiveFile { first_seq: job.first_seq, last_seq: job.last_seq };
        let (status, text) = ask(s, call);
        if status == 200 {
            assert!(text.len() <= 1 << 20, "{}", text.len());
            self.files.insert(job.key.clone(), text);
        }
        status
    }

    /// Carries out all that is asked of it.
    fn run(&mut self, s: &mut Session) {
        loop {
            if let Some(claimed) = take_job(s, "archive_events") {
                self.write(s, &claimed);
                s.host.report(&claimed, JobResult::Done);
            } else if let Some(claimed) = take_job(s, "read_archive") {
                let Job::ReadArchive(job) = &claimed.job else { panic!("{claimed:?}") };
                let text = self.files.get(&job.key).cloned().expect("the file is there");
                s.host.report(&claimed, JobResult::ArchiveRead { text });
            } else {
                return;
            }
        }
    }

    /// A page of the listing, from wherever it is.
    fn list(&self, s: &mut Session, cursor: Option<String>, limit: u32, kind: Option<&str>) -> Value {
        let event_type = kind.map(str::to_owned);
        let call = SessionCall::Events { cursor, limit: Some(limit), event_type, message_id: None };
        let (status, body) = ask(s, call);
        if status == archive_file::ELSEWHERE {
            let pointer: ArchivePointer = serde_json::from_str(&body).expect("a pointer");
            let page = archive_file::list(&self.files[&pointer.key], &pointer, kind, None).expect("a file");
            return serde_json::from_str(&page.body).expect("JSON");
        }
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

fn session() -> (Session, SocketId, SocketId, Bucket) {
    let (mut s, page, bridge) = Session::with_bridge();
    s.host.config.retention_rows = KEPT;
    (s, page, bridge, Bucket::default())
}

/// `turns` turns of six rows each; gives the next frame's number.
fn work(s: &mut Session, page: SocketId, bridge: SocketId, mut seq: i64, turns: usize) -> i64 {
    for turn in 0..turns {
        let id = s.queue(page, &format!("request-{seq}"), &format!("turn {turn}"));
        for call in ["a", "b", "c", "d"] {
            s.frame(bridge, seq, tool(&id, call, "completed"));
            seq += 1;
        }
        s.frame(bridge, seq, complete(&id, true));
        seq += 1;
        let _ = (s.take(page), s.take(bridge));
    }
    seq
}

fn stored(s: &Session) -> BTreeSet<i64> {
    let rows = s.rows("SELECT seq FROM events");
    rows.iter().map(|row| if let oi_session::sql::Value::Int(seq) = row[0] { seq } else { panic!("{row:?}") }).collect()
}

fn archived(bucket: &Bucket) -> Vec<i64> {
    let lines = bucket.files.values().flat_map(|text| text.lines());
    lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_i64().expect("a place")).collect()
}

#[test]
fn old_events_leave_for_a_file_and_every_row_is_in_one_place() {
    let (mut s, page, bridge, mut bucket) = session();
    work(&mut s, page, bridge, 2, 20);
    let top = *stored(&s).last().expect("rows");
    bucket.run(&mut s);
    let held = stored(&s);
    assert!(held.len() as i64 <= KEPT + KEPT / 10 + 6, "{} rows are held", held.len());
    let mut all = archived(&bucket);
    assert!(!all.is_empty());
    assert!(all.iter().all(|seq| !held.contains(seq)), "a row is in one place");
    all.extend(&held);
    all.sort_unstable();
    assert_eq!(all, (1..=top).collect::<Vec<_>>(), "and none is lost");
    for text in bucket.files.values() {
        let last: Value = serde_json::from_str(text.lines().last().expect("rows")).expect("JSON");
        assert_eq!(last["type"], "execution_complete", "turns stay whole");
    }
}

#[test]
fn rows_leave_only_when_the_file_is_confirmed() {
    let (mut s, page, bridge, mut bucket) = session();
    work(&mut s, page, bridge, 2, 12);
    let before = stored(&s);
    let claimed = take_job(&mut s, "archive_events").expect("a file is asked for");
    assert_eq!(bucket.write(&mut s, &claimed), 200);
    assert_eq!(stored(&s), before, "the file alone changes nothing");
    // The answer is lost with the process; the next attempt writes the same file.
    s.host.kill();
    s.host.wake().expect("no fault");
    s.host.advance(60_000);
    let again = take_job(&mut s, "archive_events").expect("it is tried again");
    assert!(again.look_first && again.attempt == 2);
    let text = bucket.files.clone();
    assert_eq!(bucket.write(&mut s, &again), 200);
    assert_eq!(bucket.files, text, "the same file");
    s.host.report(&again, JobResult::Done);
    assert!(stored(&s).len() < before.len());
    let after = stored(&s);
    s.host.report(&claimed, JobResult::Done);
    s.host.report(&again, JobResult::Done);
    assert_eq!(stored(&s), after, "a late or doubled result changes nothing");
    assert_eq!(bucket.write(&mut s, &again), 404, "and the session does not give the rows again");
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_rows_and_is_tried_later() {
    let (mut s, page, bridge, mut bucket) = session();
    let seq = work(&mut s, page, bridge, 2, 12);
    let before = stored(&s);
    let claimed = take_job(&mut s, "archive_events").expect("a file is asked for");
    s.host.report(&claimed, JobResult::Failed { error: "no bucket".to_owned(), transient: false });
    assert_eq!(stored(&s), before);
    assert_eq!(s.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up'"), 1, "it is to be seen");
    work(&mut s, page, bridge, seq, 3);
    bucket.run(&mut s);
    assert!((stored(&s).len() as i64) < KEPT + 10, "later it works");
}

#[test]
fn the_rows_of_the_prompt_that_runs_stay() {
    let (mut s, page, bridge, mut bucket) = session();
    let id = s.queue(page, "long", "a long turn");
    for seq in 2..202 {
        s.frame(bridge, seq, tool(&id, &format!("call-{seq}"), "running"));
    }
    bucket.run(&mut s);
    assert!(archived(&bucket).iter().all(|seq| *seq <= 1), "nothing of it may leave: {:?}", archived(&bucket));
    s.frame(bridge, 202, tool(&id, "call-2", "completed"));
    let changed = s.events("tool_call").into_iter().filter(|call| call["status"] == "completed").count();
    assert_eq!((changed, s.events("tool_call").len()), (1, 200), "its rows change in their places");
    s.frame(bridge, 203, complete(&id, true));
    work(&mut s, page, bridge, 204, 10);
    bucket.run(&mut s);
    assert!((stored(&s).len() as i64) < KEPT + 10);
}

#[test]
fn the_listing_goes_on_through_the_files_without_a_seam() {
    let (mut s, page, bridge, mut bucket) = session();
    let expected = {
        let (mut whole, page, bridge, bucket) = session();
        whole.host.config.retention_rows = 1_000_000;
        work(&mut whole, page, bridge, 2, 20);
        (bucket.list(&mut whole, None, 200, None), bucket.list(&mut whole, None, 200, Some("tool_call")))
    };
    work(&mut s, page, bridge, 2, 20);
    bucket.run(&mut s);
    assert!(!bucket.files.is_empty());
    for (kind, expected) in [(None, &expected.0), (Some("tool_call"), &expected.1)] {
        for limit in [1, 7, 50, 200] {
            let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let answer = bucket.list(&mut s, cursor, limit, kind);
                listed.extend(answer["events"].as_array().expect("events").clone());
                pages += 1;
                assert!(pages < 400, "it ends");
                match answer["hasMore"].as_bool() {
                    Some(true) => cursor = Some(answer["cursor"].as_str().expect("a cursor").to_owned()),
                    _ => break,
                }
            }
            let ids = |events: &[Value]| events.iter().map(|e| e["data"]["callId"].clone()).collect::<Vec<_>>();
            let expected = expected["events"].as_array().expect("events");
            assert_eq!(listed.len(), expected.len(), "pages of {limit} of {kind:?}");
            assert_eq!(ids(&listed), ids(expected));
            let distinct: BTreeSet<_> = listed.iter().map(|e| e["id"].to_string()).collect();
            assert_eq!(distinct.len(), listed.len(), "no event comes twice");
        }
    }
}

#[test]
fn a_page_scrolls_through_the_files_to_the_first_event() {
    for dialect in [1, 2] {
        let (mut s, page, bridge, mut bucket) = session();
        work(&mut s, page, bridge, 2, 20);
        let top = *stored(&s).last().expect("rows");
        bucket.run(&mut s);
        let (reader, subscribed) = s.subscribe("Grace", dialect, None);
        let _ = s.take(reader);
        let place = |event: &Value| event["timelineSequence"].as_i64().expect("a place");
        let mut seen: Vec<i64> =
            subscribed["timeline"]["events"].as_array().expect("events").iter().map(place).collect();
        assert_eq!(subscribed["timeline"]["hasMore"], true);
        let mut cursor = subscribed["timeline"]["cursor"].clone();
        for _ in 0..200 {
            s.host.advance(300);
            s.say(reader, &json!({"type": "fetch_history", "cursor": cursor, "limit": 7}));
            bucket.run(&mut s);
            let history = s.take(reader).into_iter().find(|m| m["type"] == "history_page").expect("a page");
            let items: Vec<i64> = history["items"].as_array().expect("items").iter().map(place).collect();
            assert!(items.windows(2).all(|pair| pair[0] < pair[1]));
            seen.splice(0..0, items);
            cursor = history["cursor"].clone();
            if history["hasMore"] == false {
                break;
            }
        }
        assert_eq!(seen, (1..=top).collect::<Vec<_>>(), "dialect {dialect}: each once, in order");
    }
}

#[test]
fn history_that_cannot_be_read_is_said_to_the_page_that_waits() {
    let (mut s, page, bridge, mut bucket) = session();
    work(&mut s, page, bridge, 2, 20);
    bucket.run(&mut s);
    let cursor = json!({"timestamp": 1, "id": "x", "sequence": 5});
    s.say(page, &json!({"type": "fetch_history", "cursor": cursor}));
    let claimed = take_job(&mut s, "read_archive").expect("the file is read outside");
    s.host.report(&claimed, JobResult::Failed { error: "gone".to_owned(), transient: false });
    let told = s.take(page);
    assert_eq!(told.iter().find(|m| m["type"] == "error").expect("an error")["code"], "RETRY");
    // And one whose page has gone is told to nobody.
    s.host.advance(1_000);
    s.say(page, &json!({"type": "fetch_history", "cursor": cursor}));
    let claimed = take_job(&mut s, "read_archive").expect("the file is read outside");
    s.host.disconnect(page);
    s.host.report(&claimed, JobResult::ArchiveRead { text: String::new() });
    assert_eq!(s.host.faults, 0);
}

#[test]
fn a_revision_below_the_archive_gets_a_snapshot() {
    let (mut s, page, bridge, mut bucket) = session();
    work(&mut s, page, bridge, 2, 20);
    bucket.run(&mut s);
    let floor = s.count("SELECT floor FROM retention");
    assert!(floor > 1);
    for (after, mode) in [(floor - 1, "snapshot"), (1, "snapshot"), (floor, "delta"), (floor + 1, "delta")] {
        let (socket, subscribed) = s.subscribe("Grace", 2, Some(after));
        assert_eq!(subscribed["timeline"]["mode"], mode, "after {after} with the floor at {floor}");
        s.host.disconnect(socket);
    }
}

#[test]
fn what_a_sandbox_says_again_after_it_was_archived_is_not_stored_twice() {
    let (mut s, page, bridge, mut bucket) = session();
    let seq = work(&mut s, page, bridge, 2, 20);
    bucket.run(&mut s);
    assert!(archived(&bucket).contains(&1), "the first row, `ready`, is in a file");
    s.frame(bridge, seq, ready());
    assert_eq!(s.events("ready").len(), 0);
    assert_eq!(s.count("SELECT seq FROM received"), seq, "it is taken all the same");
}

#[test]
fn the_archive_outlives_an_eviction() {
    let (mut s, page, bridge, mut bucket) = session();
    let seq = work(&mut s, page, bridge, 2, 20);
    bucket.run(&mut s);
    let (held, top) = (stored(&s).len(), *stored(&s).last().expect("rows"));
    s.host.evict();
    s.frame(bridge, seq, json!({"type": "warning", "scope": "setup", "message": "next", "timestamp": 1}));
    assert_eq!((stored(&s).len(), *stored(&s).last().expect("rows")), (held + 1, top + 1), "places go on");
    let (_, subscribed) = s.subscribe("Grace", 2, Some(1));
    assert_eq!(subscribed["timeline"]["mode"], "snapshot");
}

#[test]
fn a_turn_that_is_longer_than_a_file_is_cut_and_stays_readable() {
    let (mut s, page, bridge, mut bucket) = session();
    let id = s.queue(page, "long", "a long turn");
    for seq in 2..42 {
        let mut call = tool(&id, &format!("call-{seq}"), "completed");
        call["output"] = json!("o".repeat(100_000));
        s.frame(bridge, seq, call);
    }
    s.frame(bridge, 42, complete(&id, true));
    work(&mut s, page, bridge, 43, 10);
    bucket.run(&mut s);
    assert!(bucket.files.len() > 2, "{} files", bucket.files.len());
    let mut all = archived(&bucket);
    all.extend(stored(&s));
    all.sort_unstable();
    assert_eq!(all.len() as i64, *all.last().expect("rows"));
}

/// What the Worker does for a fork: asks the session, and reads the file that it is pointed to.
fn copied_page(s: &mut Session, bucket: &Bucket, from: i64, through: i64) -> TimelinePage {
    let (status, body) = ask(s, SessionCall::ForkPage { from_sequence: from, through_sequence: through });
    if status != archive_file::ELSEWHERE {
        assert_eq!(status, 200, "{body}");
        return serde_json::from_str(&body).expect("a page");
    }
    let file: ArchivedRange = serde_json::from_str(&body).expect("a file");
    archive_file::copied(&bucket.files[&file.key], &file, from, through).expect("a file of events")
}

#[test]
fn a_fork_copies_on_through_the_files_without_a_seam() {
    let (mut s, page, bridge, mut bucket) = session();
    let places = |s: &Session| -> Vec<(i64, String)> {
        s.rows("SELECT seq, id FROM events ORDER BY seq")
            .into_iter()
            .map(|row| match (&row[0], &row[1]) {
                (oi_session::sql::Value::Int(seq), oi_session::sql::Value::Text(id)) => (*seq, id.clone()),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let mut seq = 2;
    let mut all = std::collections::BTreeMap::new();
    for _ in 0..40 {
        seq = work(&mut s, page, bridge, seq, 1);
        all.extend(places(&s));
        bucket.run(&mut s);
    }
    assert!(bucket.files.len() > 1, "several files are crossed");
    let left = s.count("SELECT MIN(seq) FROM events");
    assert!(left > 50, "{left}");
    let through = *all.keys().last().expect("events");
    for through in [through, left + 3, left - 1, 7] {
        let (mut from, mut copied) = (1, Vec::new());
        loop {
            let page = copied_page(&mut s, &bucket, from, through);
            copied.extend(page.events.into_iter().map(|event| (event.sequence, event.id)));
            match page.next_sequence {
                Some(next) => {
                    assert!(next > from, "it goes on");
                    from = next;
                }
                None => break,
            }
        }
        let expected: Vec<_> = all.iter().filter(|(seq, _)| **seq <= through).map(|(s, id)| (*s, id.clone())).collect();
        assert_eq!(copied, expected, "through {through}");
    }
}

#[test]
fn a_fork_begins_at_an_event_that_is_in_a_file() {
    let (mut s, page, bridge, mut bucket) = session();
    let mut seq = 2;
    for _ in 0..20 {
        seq = work(&mut s, page, bridge, seq, 1);
        bucket.run(&mut s);
    }
    let (status, body) = ask(&mut s, SessionCall::ForkPoint { event_id: None, sequence: Some(9) });
    assert_eq!(status, 200, "{body}");
    let point: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((point["fromSequence"].clone(), point["throughSequence"].clone()), (json!(1), json!(9)));
    // By its id: the Worker looks into the files that it is told, newest first.
    let (_, oldest) = bucket.files.iter().next().expect("a file");
    let row: Value = serde_json::from_str(oldest.lines().nth(3).expect("a row")).expect("JSON");
    let id = row["id"].as_str().expect("an id").to_owned();
    let (status, body) = ask(&mut s, SessionCall::ForkPoint { event_id: Some(id.clone()), sequence: None });
    assert_eq!(status, archive_file::ELSEWHERE, "{body}");
    let ranges: ArchivedRanges = serde_json::from_str(&body).expect("files");
    assert!(ranges.files.windows(2).all(|pair| pair[0].first_seq > pair[1].last_seq), "newest first");
    let found = ranges
        .files
        .iter()
        .find_map(|file| archive_file::place_of(&bucket.files[&file.key], &id).expect("a file of events"));
    assert_eq!(found.map(|place| json!(place)), Some(row["seq"].clone()));
}

#[test]
fn history_goes_on_through_the_files_over_a_place_that_is_empty() {
    for dialect in [1, 2] {
        let (mut s, page, bridge, mut bucket) = session();
        work(&mut s, page, bridge, 2, 20);
        bucket.run(&mut s);
        let floor = archived(&bucket).into_iter().max().expect("rows in files");
        // As a part that ended without text leaves one.
        s.rows(&format!("DELETE FROM events WHERE seq = {}", floor + 1));
        let (reader, subscribed) = s.subscribe("Grace", dialect, None);
        let _ = s.take(reader);
        let cursor = &subscribed["timeline"]["cursor"];
        assert_eq!(cursor["sequence"], floor + 2, "nothing else is left in SQLite");
        s.say(reader, &json!({"type": "fetch_history", "cursor": cursor, "limit": 7}));
        bucket.run(&mut s);
        let history = s.take(reader).into_iter().find(|m| m["type"] == "history_page").expect("a page");
        let places: Vec<_> =
            history["items"].as_array().expect("items").iter().map(|item| item["timelineSequence"].as_i64()).collect();
        assert_eq!(places, (floor - 6..=floor).map(Some).collect::<Vec<_>>(), "dialect {dialect}");
    }
}

#[test]
fn what_a_long_run_kept_leaves_when_it_ends() {
    let (mut s, page, bridge, mut bucket) = session();
    let id = s.queue(page, "long", "call many tools");
    // More than a file holds, since a turn that fits is not cut.
    let calls = 1_200;
    for call in 0..calls {
        s.frame(bridge, 2 + call, tool(&id, &format!("c{call}"), "completed"));
    }
    assert!(take_job(&mut s, "archive_events").is_none(), "its rows change still");
    s.frame(bridge, 2 + calls, complete(&id, true));
    bucket.run(&mut s);
    assert!(!bucket.files.is_empty(), "the next look is not waited for");
}
