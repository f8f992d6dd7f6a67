//! The session itself on the store: what it writes, what a core that is built again reads.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::played::{Break, Played, complete, delta, tool};
use super::{Checked, Failed, Store, count, dump, ensure, ensure_eq, one};
use crate::call::SessionCall;
use crate::input::{Input, SocketId};
use crate::job::{Job, JobResult};
use crate::sql::Columns;

/// `(id, place, revision)` of every stored event.
fn stored(store: &dyn Store) -> Checked<Vec<(String, i64, i64)>> {
    let rows = store.sql().run("SELECT id, seq, revision FROM events ORDER BY seq", &[])?;
    let read = |row| {
        let mut c = Columns::of(row);
        Ok((c.text()?, c.int()?, c.int()?))
    };
    rows.into_iter().map(read).collect()
}

/// One whole turn: a prompt, `calls` tools that begin and end, its end.
fn turn(played: &mut Played<'_>, page: SocketId, bridge: SocketId, name: &str, calls: usize) -> Checked<String> {
    let id = played.prompt(page, &format!("prompt {name}"))?;
    let mut frames = vec![json!({"type": "prompt_accepted", "messageId": id})];
    for call in 0..calls {
        let call = format!("{name}-{call}");
        frames.extend([tool(&id, &call, "running"), tool(&id, &call, "completed")]);
    }
    frames.push(complete(&id));
    played.frames(bridge, frames)?;
    Ok(id)
}

pub(super) fn an_object_stays_empty_until_its_session_is_created(store: &dyn Store) -> Checked {
    let mut played = Played::blank(store);
    let before = dump(store.sql())?;
    played.feed(Input::Alarm)?;
    let reply = played.call(SessionCall::Stop)?;
    ensure_eq!(reply.status, 404, "the answer of a session that is not there");
    ensure_eq!(dump(store.sql())?, before, "what is stored");
    drop(played);
    let mut played = Played::created(store)?;
    let snapshot = played.ask(SessionCall::Snapshot { dialect: 2 })?;
    ensure_eq!(snapshot["session"]["title"], json!("A title \u{1F980}"), "the title");
    Ok(())
}

pub(super) fn events_keep_their_places_and_get_new_revisions(store: &dyn Store) -> Checked {
    let (mut played, page, bridge) = Played::connected(store)?;
    let id = played.prompt(page, "work")?;
    played.frame(bridge, json!({"type": "prompt_accepted", "messageId": id}))?;
    played.frames(bridge, vec![tool(&id, "a", "running"), tool(&id, "b", "running")])?;
    let before = stored(store)?;
    played.frame(bridge, tool(&id, "a", "completed"))?;
    let after = stored(store)?;
    let places = |rows: &[(String, i64, i64)]| rows.iter().map(|(id, seq, _)| (id.clone(), *seq)).collect::<Vec<_>>();
    ensure_eq!(places(&after), places(&before), "places");
    let newest = before.iter().map(|row| row.2).max().unwrap_or(0);
    let changed: Vec<i64> = after.iter().map(|row| row.2).filter(|revision| *revision > newest).collect();
    ensure_eq!(changed, vec![newest + 1], "revisions that are new");
    // A core that is built again goes on where the rows end.
    played.wake()?;
    played.frame(bridge, tool(&id, "c", "completed"))?;
    let last = stored(store)?.pop().map(|row| (row.1, row.2));
    let top = before.iter().map(|row| row.1).max().unwrap_or(0);
    ensure_eq!(last, Some((top + 1, newest + 2)), "the place and the revision of the next event");
    let body = one(store.sql(), "SELECT body FROM events WHERE seq = ?", crate::sql::params![top])?.text()?;
    let body: Json = serde_json::from_str(&body).map_err(|error| Failed(error.to_string()))?;
    ensure_eq!(body["output"], json!("one\u{0}two"), "an output with a NUL in it");
    Ok(())
}

pub(super) fn pages_reach_the_first_event_without_a_gap(store: &dyn Store) -> Checked {
    let (mut played, page, bridge) = Played::connected(store)?;
    for number in 0..6 {
        turn(&mut played, page, bridge, &format!("t{number}"), 20)?;
    }
    let all: Vec<i64> = stored(store)?.iter().map(|row| row.1).collect();
    ensure_eq!(all, (1..=all.len() as i64).collect::<Vec<_>>(), "places");
    let (reader, subscribed) = played.subscribe(None)?;
    let places = |events: &Json| -> Vec<i64> {
        events.as_array().into_iter().flatten().filter_map(|event| event["timelineSequence"].as_i64()).collect()
    };
    let last = places(&subscribed["timeline"]["events"]);
    ensure_eq!(last.last(), all.last(), "the newest event of a snapshot");
    let mut seen = Vec::new();
    let mut cursor = json!({"timestamp": 1, "id": "x", "sequence": all.len() + 1});
    for _ in 0..all.len() {
        played.now = played.now.plus(300);
        played.say(reader, &json!({"type": "fetch_history", "cursor": cursor, "limit": 17}))?;
        let history = played.take(reader, "history_page")?;
        seen.splice(0..0, places(&history["items"]));
        cursor = history["cursor"].clone();
        if history["hasMore"] == false {
            break;
        }
    }
    ensure_eq!(seen, all, "places by pages");
    Ok(())
}

pub(super) fn a_page_that_resumes_gets_what_changed(store: &dyn Store) -> Checked {
    let (mut played, page, bridge) = Played::connected(store)?;
    turn(&mut played, page, bridge, "old", 5)?;
    let known = stored(store)?.iter().map(|row| row.2).max().unwrap_or(0);
    turn(&mut played, page, bridge, "new", 5)?;
    played.evict();
    let (_, subscribed) = played.subscribe(Some(known))?;
    ensure_eq!(subscribed["timeline"]["mode"], json!("delta"), "the mode");
    let told = subscribed["timeline"]["events"].as_array().cloned().unwrap_or_default();
    let told: BTreeSet<(i64, i64)> =
        told.iter().filter_map(|e| Some((e["timelineSequence"].as_i64()?, e["revision"].as_i64()?))).collect();
    let changed: BTreeSet<(i64, i64)> =
        stored(store)?.iter().filter(|row| row.2 > known).map(|row| (row.1, row.2)).collect();
    ensure!(!changed.is_empty(), "something changed");
    ensure_eq!(told, changed, "what is told");
    Ok(())
}

pub(super) fn text_is_written_and_goes_on_after_a_rebuild(store: &dyn Store) -> Checked {
    let (mut played, page, bridge) = Played::connected(store)?;
    let id = played.prompt(page, "write")?;
    played.frame(bridge, json!({"type": "prompt_accepted", "messageId": id}))?;
    let first = "first \u{1F980}\0 ";
    played.frame(bridge, delta(&id, "p", 0, first))?;
    played.feed(Input::FlushText)?;
    played.wake()?;
    let (_, subscribed) = played.subscribe(None)?;
    ensure_eq!(subscribed["openParts"][0]["text"], json!(first), "the open text after a rebuild");
    let length = first.encode_utf16().count();
    played.frame(bridge, delta(&id, "p", length, "second"))?;
    let done = json!({"type": "part_done", "messageId": id, "partId": "p", "kind": "text", "length": length + 6});
    played.frame(bridge, done)?;
    let body = one(store.sql(), "SELECT body FROM events WHERE type = 'part'", &[])?.text()?;
    let body: Json = serde_json::from_str(&body).map_err(|error| Failed(error.to_string()))?;
    ensure_eq!(body["text"], json!(format!("{first}second")), "the text");
    ensure_eq!(count(store.sql(), "SELECT COUNT(*) FROM events WHERE revision IS NULL")?, 0, "rows that are open");
    Ok(())
}

pub(super) fn a_job_is_claimed_again_when_its_lease_ends(store: &dyn Store) -> Checked {
    let mut played = Played::created(store)?;
    let (first, _) = played.take_start()?;
    ensure_eq!((first.attempt, first.look_first), (1, false), "the first claim");
    played.feed(Input::Alarm)?;
    ensure!(played.take_job("start_sandbox").is_err(), "a job that runs is not claimed twice");
    played.evict();
    played.now = played.now.plus(first.job.attempt_deadline_ms());
    played.feed(Input::Alarm)?;
    let (second, _) = played.take_start()?;
    ensure_eq!((second.id, second.attempt, second.look_first), (first.id, 2, true), "the second claim");
    let running = "SELECT COUNT(*) FROM outbox WHERE state = 'running' AND attempt = 2";
    played.report(&first, JobResult::Failed { error: "late".to_owned(), transient: false })?;
    ensure_eq!(count(store.sql(), running)?, 1, "a late failure changes nothing");
    played.report(&second, JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: None })?;
    ensure_eq!(count(store.sql(), running)?, 0, "rows that run");
    let object = one(store.sql(), "SELECT provider_object_id FROM sandbox", &[])?.text()?;
    ensure_eq!(object, "box", "the sandbox");
    Ok(())
}

pub(super) fn a_job_of_the_same_key_takes_the_place_of_the_one_that_waits(store: &dyn Store) -> Checked {
    let mut played = Played::created(store)?;
    let waiting = "SELECT COUNT(*) FROM outbox WHERE dedup_key = 'index' AND state = 'waiting'";
    let title = |title: &str| SessionCall::UpdateTitle { title: title.to_owned() };
    ensure_eq!(played.call(title("first"))?.status, 200, "the answer");
    let claimed = played.take_job("index_session")?;
    let transient = JobResult::Failed { error: "away".to_owned(), transient: true };
    played.report(&claimed, transient)?;
    ensure_eq!(count(store.sql(), waiting)?, 1, "rows that wait for their next attempt");
    ensure_eq!(played.call(title("second"))?.status, 200, "the answer");
    let newer = played.take_job("index_session")?;
    ensure!(newer.id > claimed.id, "the newer one has an id of its own");
    ensure_eq!(count(store.sql(), waiting)?, 0, "rows that wait: the older one gave way");
    match &newer.job {
        Job::IndexSession(index) => {
            ensure_eq!(index.title.as_deref(), Some("second"), "the title of the newer one");
        }
        other => return Err(Failed(format!("another job: {other:?}"))),
    }
    played.report(&newer, JobResult::Done)?;
    ensure_eq!(count(store.sql(), "SELECT COUNT(*) FROM outbox WHERE dedup_key = 'index'")?, 0, "rows that are left");
    Ok(())
}

pub(super) fn finished_turns_move_to_a_file_and_the_places_go_on(store: &dyn Store) -> Checked {
    let (mut played, page, bridge) = Played::connected(store)?;
    played.config.retention_rows = 40;
    for number in 0..8 {
        turn(&mut played, page, bridge, &format!("t{number}"), 5)?;
    }
    let before = stored(store)?;
    let claimed = played.take_job("archive_events")?;
    let Job::ArchiveEvents(job) = claimed.job.clone() else { return Err(Failed("another job".to_owned())) };
    let call = SessionCall::ArchiveFile { first_seq: job.first_seq, last_seq: job.last_seq };
    let file = played.call(call)?;
    ensure_eq!(file.status, 200, "the file ({})", file.body);
    let in_file: Vec<i64> =
        file.body.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok()?["seq"].as_i64()).collect();
    ensure_eq!(stored(store)?, before, "rows while the file is not confirmed");
    played.report(&claimed, JobResult::Done)?;
    let mut all = in_file.clone();
    all.extend(stored(store)?.iter().map(|row| row.1));
    ensure_eq!(all, before.iter().map(|row| row.1).collect::<Vec<_>>(), "places in the file and in the store");
    ensure!(!in_file.is_empty() && stored(store)?.len() < before.len(), "rows left");
    played.evict();
    turn(&mut played, page, bridge, "next", 1)?;
    let top = before.last().map_or(0, |row| row.1);
    let next = stored(store)?.iter().map(|row| row.1).find(|place| *place > top);
    ensure_eq!(next, Some(top + 1), "the next place");
    Ok(())
}

/// One input: of the page, of the bridge, about the prompt that runs.
type Step = fn(&mut Played<'_>, SocketId, SocketId, &str) -> Checked;

/// Breaks every statement of some inputs, one after the other; the last time they go through.
fn breaks_everywhere(store: &dyn Store, how: Break) -> Checked {
    let (mut played, page, bridge) = Played::connected(store)?;
    let id = played.prompt(page, "work")?;
    played.frame(bridge, json!({"type": "prompt_accepted", "messageId": id}))?;
    let steps: [(&str, Step); 4] = [
        ("a prompt", |played, page, _, _| {
            played.say(page, &json!({"type": "prompt", "clientRequestId": "next", "content": "next"}))
        }),
        ("a tool call", |played, _, bridge, id| played.frame(bridge, tool(id, "a", "running"))),
        ("the end of a run", |played, _, bridge, id| played.frame(bridge, complete(id))),
        ("a title", |played, _, _, _| played.call(SessionCall::UpdateTitle { title: "new".to_owned() }).map(drop)),
    ];
    for (what, step) in steps {
        let before = dump(store.sql())?;
        let sockets = played.sockets();
        let frames = played.frames_sent();
        let mut at = 1;
        loop {
            // The core is there, so that only the input's own statements are counted.
            played.wake()?;
            played.break_at(at, how);
            let result = step(&mut played, page, bridge, &id);
            if played.disarm() {
                result?;
                break;
            }
            ensure!(result.is_err(), "{what} went through although its statement {at} broke");
            ensure_eq!(dump(store.sql())?, before, "what is stored after statement {at} of {what} broke");
            ensure_eq!(played.sockets(), sockets, "sockets");
            played.rewind(frames);
            at += 1;
            ensure!(at < 100, "{what} has no end");
        }
        ensure!(at > 2, "{what} has statements to break");
        ensure!(dump(store.sql())? != before, "{what} changes something in the end");
    }
    Ok(())
}

pub(super) fn a_fault_at_any_statement_leaves_everything_as_it_was(store: &dyn Store) -> Checked {
    breaks_everywhere(store, Break::Fail)
}

pub(super) fn a_panic_at_any_statement_leaves_everything_as_it_was(store: &dyn Store) -> Checked {
    breaks_everywhere(store, Break::Panic)
}
