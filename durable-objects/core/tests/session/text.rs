//! Streamed text: deltas, gathers, writes, both dialects.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::host::START;
use crate::support::session::{Session, complete, delta, done, tool};

fn part_text(s: &Session, part: &str) -> Option<String> {
    s.events("part").into_iter().find(|event| event["partId"] == part)?["text"].as_str().map(str::to_owned)
}

#[test]
fn text_is_gathered_for_50_ms_and_written_within_250() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "a"));
    s.host.advance(60);
    let _ = s.take(page);
    let statements = s.host.sql.statements();
    for n in 0..5 {
        s.frame(bridge, 4 + n, delta(&id, "p", 1 + n as usize, "b"));
    }
    assert_eq!(s.host.sql.statements(), statements, "a token touches no SQL");
    assert!(s.take(page).is_empty());
    s.host.advance(50);
    let shown = s.take_of(page, "part_delta");
    assert_eq!(shown.len(), 1, "five deltas in one frame");
    assert_eq!((shown[0]["offset"].clone(), shown[0]["text"].clone()), (json!(1), json!("bbbbb")));
    s.host.advance(200);
    assert_eq!(part_text(&s, "p").as_deref(), Some("abbbbb"));
    assert_eq!(s.take_of(bridge, "ack").last().expect("an ack follows the write")["seq"], 8);
}

#[test]
fn an_ack_never_covers_text_that_is_only_in_memory() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "a"));
    s.frame(bridge, 4, delta(&id, "p", 1, "b"));
    let _ = s.take(bridge);
    // Each of these commits and answers with a mark.
    s.frame(bridge, 9, tool(&id, "c", "running"));
    let hello = s.take_of(bridge, "hello");
    assert_eq!(hello[0]["ackedSeq"], 4);
    assert_eq!(part_text(&s, "p").as_deref(), Some("ab"), "what a hello covers is written");
    s.frame(bridge, 5, delta(&id, "p", 2, "c"));
    s.frame(bridge, 6, json!({"type": "nonsense"}));
    assert_eq!(part_text(&s, "p").as_deref(), Some("abc"), "what a rejection's mark covers is written");
    s.frame(bridge, 7, delta(&id, "p", 3, "d"));
    s.frame(bridge, 8, json!({"type": "heartbeat", "status": "ready"}));
    assert_eq!(part_text(&s, "p").as_deref(), Some("abcd"));
}

#[test]
fn a_part_that_is_done_takes_its_place_and_its_revision() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "Hello"));
    s.frame(bridge, 4, tool(&id, "c", "running"));
    s.frame(bridge, 5, delta(&id, "p", 5, " world"));
    s.frame(bridge, 6, done(&id, "p", None, 11));
    let frames = s.take(page);
    let done = frames.iter().find(|frame| frame["type"] == "part_done").expect("it is told");
    assert_eq!((done["length"].clone(), done.get("text")), (json!(11), None));
    let call = frames.iter().find(|frame| frame["event"]["type"] == "tool_call").expect("it is told");
    assert!(done["timelineSequence"].as_i64() < call["timelineSequence"].as_i64(), "text began before the call");
    assert!(done["revision"].as_i64() > call["revision"].as_i64());
    assert_eq!(part_text(&s, "p").as_deref(), Some("Hello world"));
}

#[test]
fn text_between_tool_calls_is_kept_part_by_part() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let mut seq = 2;
    for part in ["p1", "p2", "p3"] {
        for event in [delta(&id, part, 0, part), done(&id, part, None, 2), tool(&id, part, "completed")] {
            seq += 1;
            s.frame(bridge, seq, event);
        }
    }
    assert_eq!(s.events("part").len(), 3);
}

#[test]
fn a_delta_cuts_at_its_offset_and_appends() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "Hello world"));
    s.frame(bridge, 4, delta(&id, "p", 6, "there"));
    s.frame(bridge, 5, done(&id, "p", None, 11));
    assert_eq!(part_text(&s, "p").as_deref(), Some("Hello there"));
    let mut text = String::new();
    for shown in s.take_of(page, "part_delta") {
        text.truncate(shown["offset"].as_u64().expect("an offset") as usize);
        text.push_str(shown["text"].as_str().expect("a text"));
    }
    assert_eq!(text, "Hello there");
}

#[test]
fn an_offset_beyond_the_text_is_answered_by_hello_and_then_rejected() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "abc"));
    s.frame(bridge, 4, delta(&id, "p", 9, "x"));
    let hello = s.take_of(bridge, "hello");
    assert_eq!(
        (hello[0]["ackedSeq"].clone(), hello[0]["parts"].clone()),
        (json!(3), json!([{"partId": "p", "length": 3}]))
    );
    s.frame(bridge, 4, delta(&id, "p", 9, "x"));
    assert_eq!(s.take_of(bridge, "event_rejected")[0]["code"], "OFFSET_GAP");
    s.frame(bridge, 5, delta(&id, "p", 3, "d"));
    s.frame(bridge, 6, done(&id, "p", Some("abcdefghijx"), 11));
    assert_eq!(part_text(&s, "p").as_deref(), Some("abcdefghijx"), "the whole text mends it");
}

#[test]
fn a_character_is_never_split() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "a😀b"));
    s.frame(bridge, 4, delta(&id, "p", 2, "x"));
    assert_eq!(s.take_of(bridge, "event_rejected")[0]["code"], "INVALID_DELTA");
    s.frame(bridge, 5, delta(&id, "p", 3, "c"));
    s.frame(bridge, 6, done(&id, "p", None, 4));
    assert_eq!(part_text(&s, "p").as_deref(), Some("a😀c"));
}

#[test]
fn text_for_a_part_that_is_done_is_rejected_and_harms_nothing() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "abc"));
    s.frame(bridge, 4, done(&id, "p", None, 3));
    s.frame(bridge, 5, delta(&id, "p", 0, "again"));
    assert_eq!(s.take_of(bridge, "event_rejected")[0]["code"], "PART_FINISHED");
    s.host.advance(1_000);
    assert_eq!(s.host.faults, 0);
    s.frame(bridge, 6, complete(&id, true));
    assert_eq!(part_text(&s, "p").as_deref(), Some("abc"));
}

#[test]
fn text_beyond_the_bound_is_left_out_and_nothing_waits_for_it() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let chunk = "x".repeat(50_000);
    for n in 0..8_usize {
        s.frame(bridge, 3 + n as i64, delta(&id, "p", n * 50_000, &chunk));
    }
    s.frame(bridge, 11, delta(&id, "q", 0, "late"));
    s.frame(bridge, 12, delta(&id, "q", 4, "r"));
    s.frame(bridge, 13, done(&id, "p", None, 400_000));
    s.frame(bridge, 14, complete(&id, true));
    let _ = s.take_of(bridge, "event_rejected");
    assert!(s.take_of(bridge, "hello").is_empty(), "it is not asked for again");
    assert_eq!(part_text(&s, "p").map(|text| text.len()), Some(256 * 1024));
    assert_eq!(s.outcome(&id), "done");
}

#[test]
fn open_parts_are_whole_on_subscribe() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "Hel"));
    s.frame(bridge, 4, delta(&id, "p", 3, "lo"));
    let (late, subscribed) = s.subscribe("Grace", 2, None);
    assert_eq!(subscribed["openParts"], json!([{"messageId": id, "partId": "p", "kind": "text", "text": "Hello"}]));
    let stored: Vec<_> = subscribed["timeline"]["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| e["event"]["type"].clone())
        .collect();
    assert!(!stored.contains(&json!("part")), "an open part is outside of the timeline");
    let _ = s.take(late);
    s.frame(bridge, 5, delta(&id, "p", 5, "!"));
    s.host.advance(60);
    assert_eq!(s.take_of(late, "part_delta")[0]["offset"], 5);
    let _ = page;
}

#[test]
fn a_prompt_that_ends_closes_its_parts() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "half a"));
    s.say(page, &json!({"type": "stop"}));
    assert_eq!(part_text(&s, "p").as_deref(), Some("half a"));
    assert_eq!(s.count("SELECT COUNT(*) FROM events WHERE revision IS NULL"), 0);
    assert_eq!(s.take_of(page, "part_done").len(), 1);
}

#[test]
fn open_text_outlives_the_process() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "abc"));
    s.frame(bridge, 4, delta(&id, "p", 3, "def"));
    let sandbox = s.sandbox();
    s.host.kill();
    let bridge = s.connect_as(&sandbox, 2).expect("the same sandbox");
    let hello = s.take_of(bridge, "hello");
    assert_eq!((hello[0]["ackedSeq"].clone(), hello[0]["parts"][0]["length"].clone()), (json!(3), json!(3)));
    s.frame(bridge, 4, delta(&id, "p", 3, "def"));
    s.frame(bridge, 5, done(&id, "p", None, 6));
    assert_eq!(part_text(&s, "p").as_deref(), Some("abcdef"));
}

#[test]
fn dialect_1_gets_whole_text_at_most_ten_times_a_second() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let old = s.page("Grace", 1);
    let mut tokens: Vec<Value> = Vec::new();
    for n in 0..100_usize {
        s.frame(bridge, 3 + n as i64, delta(&id, "p", n, "x"));
        s.host.advance(10);
    }
    s.frame(bridge, 103, done(&id, "p", None, 100));
    tokens.extend(s.take_of(old, "sandbox_event"));
    assert!((8..=12).contains(&tokens.len()), "{} frames for a second of text", tokens.len());
    let last = tokens.last().expect("the last one");
    assert_eq!(
        (last["event"]["type"].clone(), last["event"]["content"].clone()),
        (json!("token"), json!("x".repeat(100)))
    );
}

#[test]
fn a_page_of_dialect_1_that_comes_in_the_middle_misses_no_text() {
    let (mut s, _page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, delta(&id, "p", 0, "abc"));
    s.frame(bridge, 4, delta(&id, "p", 3, "def"));
    let (old, subscribed) = s.subscribe("Grace", 1, None);
    let events = subscribed["timeline"]["events"].as_array().expect("events").clone();
    let token = events.iter().find(|e| e["event"]["type"] == "token").expect("the text so far");
    assert_eq!(token["event"]["content"], "abcdef");
    s.frame(bridge, 5, done(&id, "p", None, 6));
    let _ = old;
}

#[test]
fn tokens_of_a_dialect_1_bridge_become_parts() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let id = s.queue(page, "r", "x");
    let bridge = s.connect(1);
    for text in ["He", "Hello", "Hello world", "Second", "Second part"] {
        s.plain(
            bridge,
            &json!({"type": "token", "messageId": id, "content": text, "sandboxId": "s", "timestamp": 1.0}),
        );
        s.host.advance(300);
    }
    s.plain(bridge, &complete(&id, true));
    let texts: Vec<_> = s.events("part").iter().map(|event| event["text"].clone()).collect();
    assert_eq!(texts, [json!("Hello world"), json!("Second part")]);
    assert!(s.host.now > START);
}

#[derive(Debug, Clone)]
enum Edit {
    /// Append.
    Add(String),
    /// Cut at a share of the text, in 1/100, and append.
    Mend(u8, String),
    /// Time passes, which may gather or write.
    Wait(u16),
    /// The core is dropped; the bridge goes on from `hello`.
    Evict,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let text = "[a-cäß😀𝄞\\u{1}\"\\\\]{0,8}";
    prop::collection::vec(
        prop_oneof![
            6 => text.prop_map(Edit::Add),
            2 => (0..=100_u8, text).prop_map(|(share, text)| Edit::Mend(share, text)),
            3 => (0..300_u16).prop_map(Edit::Wait),
            1 => Just(Edit::Evict),
        ],
        1..40,
    )
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// However text is cut, mended, gathered, written and lost with the memory, the stored part is what the bridge
    /// wrote, and so is what a page puts together from deltas.
    #[test]
    fn utf16_deltas_put_the_same_text_together_everywhere(edits in edits()) {
        let (mut s, page, bridge, id) = Session::with_run();
        // The bridge's journal: frames and the text after each.
        let mut frames: Vec<Value> = Vec::new();
        let mut text = String::new();
        let mut shown: Vec<u16> = Vec::new();
        let take = |s: &mut Session, shown: &mut Vec<u16>| {
            for frame in s.take(page) {
                match frame["type"].as_str() {
                    Some("part_delta") => {
                        let offset = frame["offset"].as_u64().expect("an offset") as usize;
                        assert!(offset <= shown.len(), "a gap");
                        shown.truncate(offset);
                        shown.extend(frame["text"].as_str().expect("a text").encode_utf16());
                    }
                    Some("part_done") => {
                        if let Some(text) = frame["text"].as_str() {
                            *shown = text.encode_utf16().collect();
                        }
                        assert_eq!(frame["length"], shown.len());
                    }
                    _ => {}
                }
            }
        };
        for edit in edits {
            let (offset, added) = match edit {
                Edit::Add(added) => (units(&text), added),
                Edit::Mend(share, added) => {
                    let cut = text.chars().count() * usize::from(share) / 100;
                    text = text.chars().take(cut).collect();
                    (units(&text), added)
                }
                Edit::Wait(ms) => {
                    s.host.advance(i64::from(ms));
                    take(&mut s, &mut shown);
                    continue;
                }
                Edit::Evict => {
                    s.host.evict();
                    s.host.wake().expect("no fault");
                    let hello = s.take_of(bridge, "hello").pop().expect("a hello");
                    let acked = hello["ackedSeq"].as_u64().expect("a mark") as usize;
                    for (n, frame) in frames.iter().enumerate().skip(acked - 2) {
                        s.frame(bridge, n as i64 + 3, frame.clone());
                    }
                    continue;
                }
            };
            text.push_str(&added);
            let frame = delta(&id, "p", offset, &added);
            frames.push(frame.clone());
            s.frame(bridge, frames.len() as i64 + 2, frame);
        }
        s.frame(bridge, frames.len() as i64 + 3, done(&id, "p", None, units(&text)));
        take(&mut s, &mut shown);
        prop_assert_eq!(s.host.faults, 0);
        prop_assert_eq!(part_text(&s, "p").unwrap_or_default(), text.clone());
        prop_assert_eq!(String::from_utf16(&shown).expect("whole characters"), text);
    }
}
