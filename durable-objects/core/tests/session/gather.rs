//! Frames that arrive together: one commit, one acknowledgement, and nothing that frames one by one would not give.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, delta, done, tool};

fn gathering() -> (Session, oi_session::input::SocketId, oi_session::input::SocketId, oi_protocol::MessageId) {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.gathers = true;
    s.host.patient = true;
    (s, page, bridge, id)
}

#[test]
fn frames_that_arrive_together_are_acknowledged_once_and_shown_in_one_batch() {
    let (mut s, page, bridge, id) = gathering();
    let other = s.page("Grace", 1);
    let _ = s.take(page);
    for seq in 3..13 {
        s.frame(bridge, seq, tool(&id, &format!("c{seq}"), "completed"));
    }
    assert!(s.take(bridge).is_empty(), "nothing is acknowledged before its commit");
    s.host.flush_gather();
    assert_eq!(s.take_of(bridge, "ack"), [json!({"type": "ack", "seq": 12})]);
    let inbox = &s.host.sockets[&page].inbox;
    assert_eq!(inbox.len(), 1, "a watcher of dialect 2 gets one frame");
    assert_eq!(s.take_of(page, "sandbox_event").len(), 10);
    assert_eq!(s.host.sockets[&other].inbox.len(), 10, "a watcher of dialect 1 knows no batch");
    assert_eq!(s.events("tool_call").len(), 10);
}

#[test]
fn anything_else_that_happens_finds_the_frames_before_it_taken() {
    let (mut s, page, bridge, id) = gathering();
    s.frame(bridge, 3, tool(&id, "c", "running"));
    s.frame(bridge, 4, complete(&id, true));
    s.say(page, &json!({"type": "stop"}));
    assert_eq!(s.outcome(&id), "done", "the run had ended before the stop");
}

#[test]
fn frames_that_are_lost_with_the_memory_are_sent_again() {
    let (mut s, _page, bridge, id) = gathering();
    s.frame(bridge, 3, tool(&id, "c", "completed"));
    s.host.evict();
    s.frame(bridge, 4, tool(&id, "d", "completed"));
    s.host.flush_gather();
    let hello = s.take_of(bridge, "hello");
    assert_eq!(hello.first().map(|hello| hello["ackedSeq"].clone()), Some(json!(2)));
    assert!(s.events("tool_call").is_empty());
}

#[test]
fn a_frame_that_always_faults_takes_no_other_with_it_and_is_passed_over_in_the_end() {
    let (mut s, _page, bridge, id) = gathering();
    s.host.sql.poison("venom");
    let send = |s: &mut Session, from: i64| {
        for seq in from..8 {
            let call = if seq == 5 { "venom".to_owned() } else { format!("c{seq}") };
            s.frame(bridge, seq, tool(&id, &call, "completed"));
        }
        s.host.flush_gather();
    };
    send(&mut s, 3);
    assert_eq!(s.events("tool_call").len(), 2, "those before it are stored");
    for _ in 0..2 {
        let hello = s.take_of(bridge, "hello").pop().expect("the bridge is told to go on");
        send(&mut s, hello["ackedSeq"].as_i64().expect("a number") + 1);
    }
    let rejected = s.take_of(bridge, "event_rejected");
    assert_eq!(rejected, [json!({"type": "event_rejected", "seq": 5, "code": "EVENT_FAULTED"})]);
    assert_eq!(s.events("tool_call").len(), 4, "those behind it are stored too");
}

#[test]
fn text_behind_the_last_event_of_a_group_stays_in_memory() {
    let (mut s, page, bridge, id) = gathering();
    s.frame(bridge, 3, delta(&id, "p", 0, "one"));
    s.frame(bridge, 4, tool(&id, "c", "running"));
    s.frame(bridge, 5, delta(&id, "p", 3, " two"));
    s.frame(bridge, 6, delta(&id, "p", 7, " three"));
    s.host.flush_gather();
    assert_eq!(s.take_of(bridge, "ack").pop().map(|ack| ack["seq"].clone()), Some(json!(4)));
    let kinds: Vec<Value> = s.take(page).into_iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(kinds, [json!("part_delta"), json!("sandbox_event")]);
    s.host.advance(300);
    assert_eq!(s.take_of(bridge, "ack").pop().map(|ack| ack["seq"].clone()), Some(json!(6)));
}

#[test]
fn a_call_that_begins_and_ends_in_one_group_is_written_once_and_shown_twice() {
    let (mut s, page, bridge, id) = gathering();
    for statement in [
        "CREATE TEMP TABLE writes (id TEXT)",
        "CREATE TEMP TRIGGER inserted AFTER INSERT ON main.events BEGIN INSERT INTO writes VALUES (new.id); END",
        "CREATE TEMP TRIGGER updated AFTER UPDATE ON main.events BEGIN INSERT INTO writes VALUES (new.id); END",
    ] {
        s.rows(statement);
    }
    for (n, call) in ["a", "b", "c"].iter().enumerate() {
        s.frame(bridge, 3 + 2 * n as i64, tool(&id, call, "running"));
        s.frame(bridge, 4 + 2 * n as i64, tool(&id, call, "completed"));
    }
    let _ = s.take(page);
    s.host.flush_gather();
    assert_eq!(s.count("SELECT COUNT(*) FROM writes"), 3);
    let shown: Vec<Value> = s.take_of(page, "sandbox_event");
    let statuses: Vec<Value> = shown.iter().map(|frame| frame["event"]["status"].clone()).collect();
    assert_eq!(statuses, ["running", "completed", "running", "completed", "running", "completed"]);
    assert!(shown.windows(2).all(|pair| pair[1]["revision"].as_i64() == pair[0]["revision"].as_i64().map(|r| r + 1)));
    // One that the run's end comes upon is written with what it last said.
    s.frame(bridge, 9, tool(&id, "d", "running"));
    s.frame(bridge, 10, complete(&id, true));
    s.frame(bridge, 11, tool(&id, "d", "completed"));
    s.host.flush_gather();
    assert_eq!(s.events("tool_call").last().map(|call| call["status"].clone()), Some(json!("running")));
}

/// What is stored of the timeline, without random ids.
fn timeline(s: &Session) -> Vec<String> {
    s.rows("SELECT seq || ' ' || type || ' ' || COALESCE(revision, 0) || ' ' || body FROM events ORDER BY seq")
        .into_iter()
        .map(|row| format!("{row:?}"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_group_stores_and_shows_what_its_frames_one_by_one_do(
        kinds in proptest::collection::vec((0_u8..6, 0_usize..3), 1..40),
        cuts in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut runs = Vec::new();
        for together in [false, true] {
            let (mut s, page, bridge, id) = Session::with_run();
            s.host.gathers = together;
            s.host.patient = true;
            let (mut seq, mut lengths, mut finished) = (2, [0_usize; 3], [false; 3]);
            for (at, (kind, which)) in kinds.iter().enumerate() {
                let part = format!("p{which}");
                let event = match kind {
                    0..=2 => {
                        let event = delta(&id, &part, lengths[*which], "word ");
                        lengths[*which] += 5;
                        event
                    }
                    3 => tool(&id, &format!("c{which}"), "running"),
                    4 => tool(&id, &format!("c{which}"), "completed"),
                    // A finished part's name is not used again.
                    _ if lengths[*which] == 0 || finished[*which] => continue,
                    _ => {
                        finished[*which] = true;
                        done(&id, &part, None, lengths[*which])
                    }
                };
                if *kind <= 2 && finished[*which] {
                    continue;
                }
                seq += 1;
                s.frame(bridge, seq, event);
                if cuts[at] {
                    s.host.flush_gather();
                }
            }
            s.frame(bridge, seq + 1, complete(&id, true));
            s.host.flush_gather();
            let shown: Vec<Value> = s.take(page).into_iter().filter(|f| f.get("revision").is_some()).collect();
            runs.push((timeline(&s), shown, s.outcome(&id)));
        }
        prop_assert_eq!(&runs[0], &runs[1]);
    }
}
