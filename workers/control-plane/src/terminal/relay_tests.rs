use super::*;
use serde_json::{Value, json};

const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

fn bridge(relay: &mut Relay, generation: i64, incarnation: &str) -> (u32, Vec<Output>) {
    let id = relay.mint();
    let bridge = Bridge { id, generation, incarnation: incarnation.to_owned(), running: vec![] };
    (id, relay.bridge_connected(bridge))
}

fn viewer(relay: &mut Relay, user: &str, generation: i64) -> (u32, Vec<Output>) {
    let id = relay.mint();
    let outputs = relay.viewer_connected(id, user.to_owned(), generation);
    (id, outputs)
}

/// What a viewer is told: types of JSON frames, and bytes as text.
fn told(outputs: &[Output], viewer: u32) -> Vec<Value> {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::ToViewer(to, payload) if *to == viewer => Some(payload),
        _ => None,
    });
    frames.map(value).collect()
}

fn asked(outputs: &[Output]) -> Vec<Value> {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::ToBridge(payload) => Some(payload),
        _ => None,
    });
    frames.map(value).collect()
}

fn value(payload: &Payload) -> Value {
    match payload {
        Payload::Text(text) => serde_json::from_str(text).expect("JSON"),
        Payload::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes)),
    }
}

fn say(relay: &mut Relay, viewer: u32, message: &Value) -> Vec<Output> {
    relay.viewer_text(viewer, &message.to_string())
}

fn open(relay: &mut Relay, bridge: u32, viewer: u32, terminal: u8) -> Vec<Output> {
    let mut outputs = say(relay, viewer, &json!({"type": "open", "terminal": terminal, "size": SIZE}));
    let opened = TerminalReport::Opened { viewer, terminal, size: SIZE, started: true };
    outputs.extend(relay.bridge_text(bridge, &serde_json::to_string(&opened).expect("JSON")));
    outputs.extend(relay.bridge_bytes(bridge, &Frame::Picture { terminal, viewer, bytes: b"picture" }.encode()));
    outputs
}

fn output(terminal: u8, bytes: &[u8]) -> Vec<u8> {
    Frame::Output { terminal, bytes }.encode()
}

fn ends(outputs: &[Output]) -> Vec<(u32, TerminalEnd)> {
    let closes = outputs.iter().filter_map(|output| match output {
        Output::CloseViewer(id, reason) => Some((*id, *reason)),
        _ => None,
    });
    closes.collect()
}

#[test]
fn who_opens_a_terminal_gets_its_picture_and_then_what_follows_and_their_keys_go_there() {
    let mut relay = Relay::default();
    let (b, _) = bridge(&mut relay, 1, "a");
    let (one, outputs) = viewer(&mut relay, "ada", 1);
    assert_eq!(told(&outputs, one), [json!({"type": "sandbox", "reachable": true, "running": []})]);
    let asked_for = say(&mut relay, one, &json!({"type": "open", "terminal": 2, "size": SIZE}));
    assert_eq!(asked(&asked_for), [json!({"type": "watch", "viewer": one, "terminal": 2, "size": SIZE})]);
    // Output from before the picture is in the picture.
    assert_eq!(relay.bridge_bytes(b, &output(2, b"early")), []);
    let outputs = open(&mut relay, b, one, 2);
    let seen = told(&outputs, one);
    assert_eq!((&seen[0]["type"], &seen[1]), (&json!("opened"), &json!("picture")));
    assert_eq!(told(&relay.bridge_bytes(b, &output(2, b"later")), one), [json!("later")]);
    assert_eq!(told(&relay.bridge_bytes(b, &output(1, b"of another")), one), Vec::<Value>::new());
    let keys = relay.viewer_bytes(one, b"ls\n");
    assert_eq!(
        keys,
        [Output::ToBridge(Payload::Bytes(Frame::Input { terminal: 2, viewer: one, bytes: b"ls\n" }.encode()))]
    );
}

#[test]
fn two_who_watch_see_the_same_and_one_who_left_nothing() {
    let mut relay = Relay::default();
    let (b, _) = bridge(&mut relay, 1, "a");
    let (one, two) = (viewer(&mut relay, "ada", 1).0, viewer(&mut relay, "grace", 1).0);
    open(&mut relay, b, one, 0);
    open(&mut relay, b, two, 0);
    let outputs = relay.bridge_bytes(b, &output(0, b"x"));
    assert_eq!((told(&outputs, one), told(&outputs, two)), (vec![json!("x")], vec![json!("x")]));
    let resized = TerminalReport::Resized { terminal: 0, size: SIZE };
    let outputs = relay.bridge_text(b, &serde_json::to_string(&resized).expect("JSON"));
    assert_eq!(told(&outputs, two), [json!({"type": "resized", "size": SIZE})]);
    assert_eq!(asked(&relay.viewer_closed(two)), [json!({"type": "unwatch", "viewer": two})]);
    assert_eq!(told(&relay.bridge_bytes(b, &output(0, b"y")), two), Vec::<Value>::new());
}

#[test]
fn one_who_is_slow_is_sent_no_more_than_the_window_and_then_a_new_picture() {
    let mut relay = Relay::default();
    let (b, _) = bridge(&mut relay, 1, "a");
    let (slow, quick) = (viewer(&mut relay, "ada", 1).0, viewer(&mut relay, "grace", 1).0);
    open(&mut relay, b, slow, 0);
    open(&mut relay, b, quick, 0);
    let piece = vec![b'x'; 32 * 1024];
    let (mut sent, mut paused) = (0, 0);
    for _ in 0..100 {
        let outputs = relay.bridge_bytes(b, &output(0, &piece));
        sent += told(&outputs, slow).len() * piece.len();
        paused += asked(&outputs).len();
        assert_eq!(told(&outputs, quick).len(), 1, "the other is not held up");
        say(&mut relay, quick, &json!({"type": "shown", "bytes": piece.len()}));
    }
    assert!(sent <= WINDOW_BYTES && sent > WINDOW_BYTES / 2, "{sent}");
    assert_eq!(paused, 1, "and the bridge is told once");
    // Keys pass, so that what floods can be stopped.
    assert_eq!(asked(&relay.viewer_bytes(slow, b"\x03")).len(), 1);
    assert_eq!(asked(&say(&mut relay, slow, &json!({"type": "shown", "bytes": 1000}))), Vec::<Value>::new());
    let outputs = say(&mut relay, slow, &json!({"type": "shown", "bytes": sent}));
    assert_eq!(asked(&outputs)[0]["type"], "watch");
    open(&mut relay, b, slow, 0);
    assert_eq!(told(&relay.bridge_bytes(b, &output(0, b"z")), slow), [json!("z")]);
}

#[test]
fn a_socket_of_the_same_supervisor_that_comes_back_goes_on_and_that_of_another_begins_anew() {
    let mut relay = Relay::default();
    let (b, _) = bridge(&mut relay, 1, "a");
    let (one, _) = viewer(&mut relay, "ada", 1);
    open(&mut relay, b, one, 0);
    let outputs = relay.bridge_closed(b);
    assert_eq!(told(&outputs, one), [json!({"type": "sandbox", "reachable": false, "running": []})]);
    assert_eq!(relay.viewer_bytes(one, b"lost"), []);
    let (again, outputs) = bridge(&mut relay, 1, "a");
    assert_eq!(asked(&outputs)[0]["type"], "watch");
    open(&mut relay, again, one, 0);
    // The late end of the one before changes nothing, nor does what it still says.
    assert_eq!(relay.bridge_closed(b), []);
    assert_eq!(relay.bridge_bytes(b, &output(0, b"x")), []);
    let (_, outputs) = bridge(&mut relay, 1, "b");
    let types: Vec<Value> = told(&outputs, one).iter().map(|event| event["type"].clone()).collect();
    assert_eq!((types, asked(&outputs)), (vec![json!("sandbox"), json!("restarted")], vec![]));
    assert_eq!(asked(&say(&mut relay, one, &json!({"type": "open", "terminal": 0, "size": SIZE}))).len(), 1);
}

#[test]
fn with_another_generation_those_of_the_one_before_are_told_and_closed() {
    let mut relay = Relay::default();
    bridge(&mut relay, 1, "a");
    let (one, _) = viewer(&mut relay, "ada", 1);
    let (_, outputs) = bridge(&mut relay, 2, "b");
    assert_eq!(ends(&outputs), [(one, TerminalEnd::SandboxReplaced)]);
    assert_eq!(told(&outputs, one).last(), Some(&json!({"type": "ended", "reason": "sandbox_replaced"})));
    // Whoever comes with an older one is refused, and whoever knows of a newer one ends the bridge.
    let (late, outputs) = viewer(&mut relay, "ada", 1);
    assert_eq!(ends(&outputs), [(late, TerminalEnd::SandboxReplaced)]);
    let (_, outputs) = viewer(&mut relay, "ada", 3);
    assert!(outputs.contains(&Output::CloseBridge), "{outputs:?}");
    let (_, outputs) = bridge(&mut relay, 2, "b");
    assert_eq!(outputs, [Output::CloseBridge]);
}

#[test]
fn the_end_of_a_sandbox_closes_its_viewers_and_no_later_ones() {
    let mut relay = Relay::default();
    bridge(&mut relay, 2, "a");
    let (one, _) = viewer(&mut relay, "ada", 2);
    assert_eq!(relay.notice(&Notice::Ended { generation: 1 }), []);
    let outputs = relay.notice(&Notice::Ended { generation: 2 });
    assert!(outputs.contains(&Output::CloseBridge));
    assert_eq!(ends(&outputs), [(one, TerminalEnd::SandboxEnded)]);
}

#[test]
fn a_person_who_was_signed_out_is_closed_and_nobody_else() {
    let mut relay = Relay::default();
    bridge(&mut relay, 1, "a");
    let (ada, _) = viewer(&mut relay, "ada", 1);
    viewer(&mut relay, "grace", 1);
    let notice = Notice::Revoked { user_id: "ada".to_owned(), reason: TerminalEnd::SignedOut };
    assert_eq!(ends(&relay.notice(&notice)), [(ada, TerminalEnd::SignedOut)]);
}

#[test]
fn sixteen_may_watch_and_a_seventeenth_is_told() {
    let mut relay = Relay::default();
    for _ in 0..VIEWERS_MAX {
        assert_eq!(ends(&viewer(&mut relay, "ada", 1).1), []);
    }
    let (late, outputs) = viewer(&mut relay, "ada", 1);
    assert_eq!(ends(&outputs), [(late, TerminalEnd::Full)]);
    assert_eq!(relay.viewer_text(late, r#"{"type":"ping"}"#), []);
}

#[test]
fn what_a_page_may_not_say_is_refused_in_words() {
    let mut relay = Relay::default();
    bridge(&mut relay, 1, "a");
    let (one, _) = viewer(&mut relay, "ada", 1);
    for bad in ["", "[]", r#"{"type":"root"}"#, r#"{"type":"open","terminal":-1}"#] {
        assert_eq!(told(&relay.viewer_text(one, bad), one)[0]["type"], "refused", "{bad}");
    }
    let outputs = say(&mut relay, one, &json!({"type": "open", "terminal": 4, "size": SIZE}));
    assert_eq!((told(&outputs, one)[0]["type"].clone(), asked(&outputs)), (json!("refused"), vec![]));
    let outputs = relay.viewer_bytes(one, &vec![b'x'; INPUT_MAX_BYTES + 1]);
    assert_eq!(told(&outputs, one)[0]["type"], "refused");
}

#[test]
fn an_object_that_slept_goes_on_from_its_sockets() {
    let mut relay = Relay::default();
    let (b, mut outputs) = bridge(&mut relay, 1, "a");
    let (one, more) = viewer(&mut relay, "ada", 1);
    outputs.extend(more);
    outputs.extend(open(&mut relay, b, one, 3));
    let (mut bridges, mut viewers) = (BTreeMap::new(), BTreeMap::new());
    for kept in outputs {
        match kept {
            Output::KeepBridge(bridge) => drop(bridges.insert(bridge.id, bridge)),
            Output::KeepViewer(viewer) => drop(viewers.insert(viewer.id, viewer)),
            _ => {}
        }
    }
    let mut relay = Relay::wake(bridges.into_values().collect(), viewers.into_values().collect());
    assert_eq!(told(&relay.bridge_bytes(b, &output(3, b"on")), one), [json!("on")]);
    assert_eq!(asked(&relay.viewer_bytes(one, b"k")).len(), 1);
    assert!(relay.mint() > one);
}
