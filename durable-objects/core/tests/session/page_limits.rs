//! What a page may ask for, how long it may stay, and how much it is told.

use oi_protocol::limits;
use oi_protocol::session_state::PromptSource;
use oi_session::call::{EnqueuePrompt, SessionCall};
use oi_session::input::SocketId;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, person, value};

fn limited(frames: &[Value]) -> usize {
    frames.iter().filter(|frame| frame["code"] == "RATE_LIMITED").count()
}

#[test]
fn a_page_that_floods_is_told_and_others_are_not_held_up() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let grace = s.page("Grace", 2);
    let tab = s.page("Ada", 2);
    let flood = |s: &mut Session, socket: SocketId, frame: &Value, times: usize| {
        let _ = s.take(socket);
        for _ in 0..times {
            s.say(socket, frame);
        }
        limited(&s.take(socket))
    };
    let presence = json!({"type": "presence", "status": "active"});
    for (frame, burst) in [(json!({"type": "typing"}), 20), (presence, 20), (json!({"type": "stop"}), 20)] {
        assert_eq!(flood(&mut s, page, &frame, burst + 5), 5, "{frame}");
        assert_eq!(flood(&mut s, grace, &frame, 1), 0, "each has their own: {frame}");
    }
    assert_eq!(flood(&mut s, tab, &json!({"type": "stop"}), 1), 1, "what a person does is counted over their tabs");
    assert_eq!(s.closed(page), None, "the socket stays");
    s.host.advance(1_100);
    assert_eq!(flood(&mut s, page, &json!({"type": "stop"}), 1), 0);
    // Nothing is stored of it, so an eviction forgets it.
    assert!(flood(&mut s, page, &json!({"type": "stop"}), 30) > 0);
    s.host.evict();
    assert_eq!(flood(&mut s, page, &json!({"type": "stop"}), 1), 0);
}

#[test]
fn prompts_that_come_too_fast_are_refused_with_their_request_id() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let mut refused = Value::Null;
    for n in 0..70 {
        let answer = s.prompt(page, &format!("r{n}"), "x");
        if answer["code"] == "RATE_LIMITED" {
            refused = answer;
        }
    }
    assert_eq!(refused["clientRequestId"], "r69");
    assert_eq!(s.count("SELECT COUNT(*) FROM messages"), 10);
}

#[test]
fn calls_that_come_too_often_are_refused_with_the_time_to_wait() {
    let mut s = Session::new();
    let prompt = |author: &str| {
        SessionCall::Prompt(Box::new(EnqueuePrompt {
            author: person(author),
            content: "x".to_owned(),
            source: PromptSource::Slack,
            model: None,
            reasoning_effort: None,
            attachments: Vec::new(),
            idempotency_key: None,
            callback_context: None,
        }))
    };
    let mint = |name: &str| SessionCall::MintClientToken { person: Box::new(person(name)) };
    for (call, other, burst) in [
        (mint("Ada"), mint("Grace"), 120),
        (prompt("Ada"), prompt("Grace"), 60),
        (SessionCall::Stop, mint("Grace"), 20),
    ] {
        for _ in 0..burst {
            assert_ne!(value(&s.call(call.clone()).body)["code"], "RATE_LIMITED");
        }
        let before = s.dump();
        let refused = s.call(call);
        let body = value(&refused.body);
        assert_eq!(
            (refused.status, &body["code"], &body["retryAfterSeconds"]),
            (429, &json!("RATE_LIMITED"), &json!(1))
        );
        assert_eq!(s.dump(), before);
        assert_ne!(value(&s.call(other).body)["code"], "RATE_LIMITED", "others may");
    }
}

#[test]
fn presence_that_changes_fast_is_told_together_and_ends_up_right() {
    let mut s = Session::new();
    let ada = s.page("Ada", 2);
    let tabs: Vec<_> = (0..3).map(|_| s.page("Grace", 2)).collect();
    s.host.advance(60_000);
    let _ = s.take(ada);
    for n in 0..45 {
        let status = if (n / 3) % 2 == 0 { "idle" } else { "active" };
        s.say(tabs[n % 3], &json!({"type": "presence", "status": status}));
    }
    assert!(s.take_of(ada, "presence_update").len() <= 20, "a fan-out is not made for each");
    s.host.advance(300);
    let last = s.take_of(ada, "presence_update");
    assert_eq!(last.len(), 1);
    let grace = last[0]["participants"].as_array().and_then(|all| all.iter().find(|p| p["name"] == "Grace"));
    assert_eq!(grace.expect("she is here")["status"], "idle");
    s.host.advance(5_000);
    assert!(s.take_of(ada, "presence_update").is_empty());
}

#[test]
fn a_new_page_is_told_who_is_here_before_the_others_hear_of_it() {
    let mut s = Session::new();
    let ada = s.page("Ada", 2);
    let _ = s.take(ada);
    let token = s.token("Grace");
    let socket = s.host.open_client().expect("no fault is planned");
    s.say(socket, &json!({"type": "subscribe", "token": token, "clientId": "page"}));
    let frames = s.take(socket);
    let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds[..2], ["subscribed", "presence_sync"]);
    assert_eq!(frames[1]["participants"].as_array().map(Vec::len), Some(2));
    assert!(s.take_of(ada, "presence_sync").is_empty());
}

#[test]
fn a_page_is_closed_when_its_token_ends_even_after_an_eviction() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.host.advance(86_000_000);
    assert_eq!(s.closed(page), None);
    s.host.evict();
    s.host.wake().expect("no fault is planned");
    s.host.advance(401_000);
    assert_eq!(s.closed(page), Some((4002, "Session expired, please reconnect".to_owned())));
    // An alarm that is late changes nothing: the next message finds it.
    let page = s.page("Ada", 2);
    s.host.now = s.host.now.plus(86_400_001);
    s.say(page, &json!({"type": "stop"}));
    assert_eq!(s.closed(page).map(|(code, _)| code), Some(4002));
}

#[test]
fn revoking_a_persons_tokens_closes_their_pages_and_nobody_elses() {
    let mut s = Session::new();
    let (ada, tab, grace) = (s.page("Ada", 2), s.page("Ada", 1), s.page("Grace", 2));
    let unused = s.token("Ada");
    let reply = s.call(SessionCall::RevokeClientTokens { user_id: "user-Ada".to_owned() });
    assert_eq!((reply.status, value(&reply.body)), (200, json!({"closed": 2})));
    for page in [ada, tab] {
        assert_eq!(s.closed(page), Some((4002, "Session expired, please reconnect".to_owned())));
    }
    assert_eq!(s.closed(grace), None);
    assert_eq!(s.take_of(grace, "presence_leave").len(), 1);
    let socket = s.host.open_client().expect("no fault is planned");
    s.say(socket, &json!({"type": "subscribe", "token": unused, "clientId": "c"}));
    assert_eq!(s.closed(socket), Some((4001, "Invalid authentication token".to_owned())));
    let reply = s.call(SessionCall::RevokeClientTokens { user_id: "nobody".to_owned() });
    assert_eq!((reply.status, value(&reply.body)), (200, json!({"closed": 0})));
    s.page("Ada", 2);
}

#[test]
fn two_mints_of_one_person_are_one_participant() {
    let mut s = Session::new();
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let person = Box::new(person("Grace"));
            value(&s.call(SessionCall::MintClientToken { person }).body)["participantId"].clone()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(s.count("SELECT COUNT(*) FROM participants"), 2, "and the owner");
}

#[test]
fn people_who_only_watch_keep_a_sandbox_for_half_an_hour_and_no_longer() {
    let (mut s, page, bridge) = Session::with_bridge();
    let mut minutes = 0.0;
    while s.sandbox_status() == "ready" {
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
        s.say(page, &json!({"type": "presence", "status": "active"}));
        s.host.advance(30_000);
        minutes += 0.5;
    }
    assert_eq!((minutes, s.sandbox_status().as_str()), (40.0, "stopped"));
    let warnings: Vec<_> = s.take_of(page, "sandbox_warning").into_iter().map(|w| w["message"].clone()).collect();
    assert_eq!(
        warnings,
        [
            "Sandbox will stop in 5 minutes due to inactivity. Send a message to keep it alive.",
            "Sandbox stopped due to inactivity"
        ]
    );
}

#[test]
fn work_gives_people_who_watch_all_their_time_again() {
    let (mut s, page, bridge) = Session::with_bridge();
    let watch = |s: &mut Session, minutes: i64| {
        for _ in 0..2 * minutes {
            s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
            s.say(page, &json!({"type": "presence", "status": "active"}));
            s.host.advance(30_000);
        }
    };
    watch(&mut s, 35);
    let id = s.queue(page, "a", "x");
    s.frame(bridge, 2, complete(&id, true));
    s.host.evict();
    watch(&mut s, 35);
    assert_eq!(s.sandbox_status(), "ready");
}

#[test]
fn a_queue_of_long_prompts_is_cut_and_the_whole_is_had_by_rest() {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    let old = s.page("Grace", 1);
    let long = "€".repeat(60_000);
    let ids: Vec<_> = (0..10).map(|n| s.queue(page, &format!("r{n}"), &long)).collect();
    let (_, subscribed) = s.subscribe("Linus", 2, None);
    let queue = subscribed["promptQueue"].as_array().expect("a queue").clone();
    assert_eq!(queue.len(), 10);
    let bytes: usize = queue.iter().map(|prompt| prompt["content"].as_str().expect("a text").len()).sum();
    assert!(bytes <= limits::QUEUE_TEXT_MAX_BYTES, "{bytes}");
    assert!(queue[0].get("contentTruncated").is_none(), "the first has its whole text");
    assert_eq!(queue[9]["contentTruncated"], true);
    let told = s.take_of(old, "prompt_queue_updated").pop().expect("a queue");
    assert!(told.to_string().len() < limits::QUEUE_TEXT_MAX_BYTES + 4_096);
    assert!(told["promptQueue"][9].get("contentTruncated").is_none(), "dialect 1 gains no field");
    let listed = value(&s.call(SessionCall::Messages { cursor: None, limit: Some(1), status: None }).body);
    assert_eq!((&listed["messages"][0]["id"], &listed["messages"][0]["content"]), (&json!(ids[9]), &json!(long)));
}

#[test]
fn a_snapshot_has_a_page_of_artifacts_and_rest_has_them_all() {
    let (mut s, _page, bridge) = Session::with_bridge();
    for n in 0..130 {
        let event = json!({"type": "artifact", "artifactType": "screenshot", "url": format!("https://x.example/{n}"),
            "metadata": {"caption": "c".repeat(if n < 30 { 10_000 } else { 10 })}, "sandboxId": "s", "timestamp": 1});
        s.frame(bridge, 2 + n, event);
        s.host.advance(i64::from(n % 3 == 0));
    }
    let (_, subscribed) = s.subscribe("Grace", 2, None);
    assert_eq!(subscribed["artifacts"].as_array().map(Vec::len), Some(limits::ARTIFACTS_MAX));
    let (_, old) = s.subscribe("Linus", 1, None);
    assert!(old.get("artifactsCursor").is_none(), "dialect 1 gains no field");
    let mut seen: Vec<Value> = subscribed["artifacts"].as_array().expect("artifacts").clone();
    let mut cursor = subscribed["artifactsCursor"].as_str().map(str::to_owned);
    let mut pages = 0;
    while let Some(from) = cursor {
        let reply = s.call(SessionCall::Artifacts { cursor: Some(from), limit: None });
        assert!(reply.body.len() < limits::ARTIFACTS_MAX_BYTES + 16_384, "{}", reply.body.len());
        let page = value(&reply.body);
        seen.extend(page["artifacts"].as_array().expect("artifacts").clone());
        cursor = page["cursor"].as_str().map(str::to_owned);
        assert_eq!(page["hasMore"], json!(cursor.is_some()));
        pages += 1;
    }
    assert!(pages > 2, "bytes are bounded too: {pages}");
    let mut ids: Vec<_> = seen.iter().map(|artifact| artifact["id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((seen.len(), ids.len()), (130, 130), "none is left out and none comes twice");
    for cursor in ["", "x", "1:", "1:not-an-id"] {
        let refused = s.call(SessionCall::Artifacts { cursor: Some(cursor.to_owned()), limit: None });
        assert_eq!(value(&refused.body)["code"], "INVALID_PARAMETER", "{cursor}");
    }
    assert_eq!(s.call(SessionCall::Artifacts { cursor: None, limit: Some(0) }).status, 400);
    let one = value(&s.call(SessionCall::Artifacts { cursor: None, limit: Some(1) }).body);
    assert_eq!(one["artifacts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_older_page_has_200_events_unless_it_is_asked_otherwise() {
    let (mut s, page, bridge) = Session::with_bridge();
    for n in 0..450 {
        s.frame(bridge, 2 + n, json!({"type": "warning", "scope": "setup", "message": format!("{n}"), "timestamp": 1}));
    }
    let cursor = json!({"timestamp": 1, "id": "x", "sequence": 440});
    for (limit, count) in [(None, limits::HISTORY_DEFAULT_EVENTS), (Some(7), 7), (Some(0), 1), (Some(10_000), 439)] {
        s.host.advance(250);
        let _ = s.take(page);
        let mut frame = json!({"type": "fetch_history", "cursor": cursor});
        if let Some(limit) = limit {
            frame["limit"] = json!(limit);
        }
        s.say(page, &frame);
        let answer = s.take_of(page, "history_page").pop().expect("a page");
        assert_eq!(answer["items"].as_array().map(Vec::len), Some(count), "{limit:?}");
    }
}

#[test]
fn names_and_answers_that_are_too_long_are_refused() {
    let (mut s, page, _bridge) = Session::with_bridge();
    let token = s.token("Grace");
    for (length, fits) in [(limits::CLIENT_ID_MAX_UTF16, true), (limits::CLIENT_ID_MAX_UTF16 + 1, false)] {
        let socket = s.host.open_client().expect("no fault is planned");
        s.say(socket, &json!({"type": "subscribe", "token": token, "clientId": "x".repeat(length)}));
        assert_eq!(s.take(socket)[0]["type"], if fits { "subscribed" } else { "error" });
    }
    for (length, code) in
        [(limits::ANSWER_MAX_UTF16, "INPUT_NOT_WAITING"), (limits::ANSWER_MAX_UTF16 + 1, "INVALID_MESSAGE")]
    {
        let answer = "a".repeat(length);
        s.say(
            page,
            &json!({"type": "input_response", "requestId": "q", "answer": answer, "clientRequestId": format!("r{length}")}),
        );
        assert_eq!(s.take_of(page, "error")[0]["code"], code);
    }
    for (length, kind) in [(limits::CLIENT_REQUEST_ID_MAX_UTF16, "prompt_queued"), (129, "error")] {
        let _ = s.take(page);
        s.say(page, &json!({"type": "prompt", "clientRequestId": "r".repeat(length), "content": "x"}));
        assert!(s.take(page).iter().any(|frame| frame["type"] == kind), "{length}");
    }
}
