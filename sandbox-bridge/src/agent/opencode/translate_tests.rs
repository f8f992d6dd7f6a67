use std::path::Path;
use std::time::Duration;

use oi_protocol::event::FileChange;
use serde_json::json;

use super::*;

const NO_FILES: ReadFile = |_| None;

fn frames(text: &str) -> Vec<SseFrame> {
    text.lines().map(|line| serde_json::from_str(line).expect("a recorded frame")).collect()
}

fn messages(text: &str) -> Vec<StoredMessage> {
    let list: Vec<serde_json::Value> = serde_json::from_str(text).expect("a recorded answer");
    list.into_iter()
        .map(|mut entry| StoredMessage {
            info: serde_json::from_value(entry["info"].take()).expect("a message"),
            parts: serde_json::from_value(entry["parts"].take()).expect("parts"),
        })
        .collect()
}

fn session_of(frames: &[SseFrame]) -> String {
    let created = frames.iter().find(|frame| frame.kind == "session.created").expect("a session was made");
    created.properties["info"]["id"].as_str().expect("an id").to_owned()
}

fn translator(frames: &[SseFrame], prompt: &str) -> Translator {
    Translator::new(&session_of(frames), prompt, "/workspace/repo".into(), 0.0, NO_FILES)
}

/// Plays a recorded turn as the runner does, every frame half a second after the one before.
fn play(frames: Vec<SseFrame>, stored: Vec<StoredMessage>, prompt: &str) -> (Vec<AgentEvent>, Translator) {
    let mut translator = translator(&frames, prompt);
    let mut now = Instant::now();
    for frame in frames {
        translator.frame(frame, now);
        now += Duration::from_millis(500);
    }
    translator.stored(stored, true, now);
    (translator.take(), translator)
}

/// The text of each part as a receiver would hold it, in order of appearance; checks that the end agrees.
fn texts(events: &[AgentEvent]) -> Vec<(PartKind, String)> {
    let mut parts: Vec<(String, PartKind, String, bool)> = Vec::new();
    for event in events {
        match event {
            AgentEvent::Text { part_id, kind, text } => match parts.iter_mut().find(|part| part.0 == *part_id) {
                Some(part) => part.2.push_str(text),
                None => parts.push((part_id.clone(), *kind, text.clone(), false)),
            },
            AgentEvent::PartDone { part_id, kind, text } => match parts.iter_mut().find(|part| part.0 == *part_id) {
                Some(part) => {
                    assert!(!part.3, "a part ends once");
                    assert_eq!(part.2, *text, "the deltas join to the whole");
                    part.3 = true;
                }
                None => parts.push((part_id.clone(), *kind, text.clone(), true)),
            },
            _ => {}
        }
    }
    assert!(parts.iter().all(|part| part.3), "every part ends");
    parts.into_iter().map(|(_, kind, text, _)| (kind, text)).collect()
}

fn tools(events: &[AgentEvent]) -> Vec<&ToolUpdate> {
    events
        .iter()
        .filter_map(|event| if let AgentEvent::Tool(update) = event { Some(update.as_ref()) } else { None })
        .collect()
}

fn step_counts(events: &[AgentEvent]) -> (usize, usize) {
    let count = |wanted: fn(&AgentEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
    (
        count(|event| matches!(event, AgentEvent::StepStart { subtask: false })),
        count(|event| matches!(event, AgentEvent::StepFinish { subtask: false, .. })),
    )
}

fn plain() -> (Vec<SseFrame>, Vec<StoredMessage>) {
    (
        frames(include_str!("../../../tests/fixtures/sse_plain.jsonl")),
        messages(include_str!("../../../tests/fixtures/messages_plain.json")),
    )
}

#[test]
fn a_plain_answer_streams_as_deltas_and_ends_once() {
    let (frames, stored) = plain();
    let (events, translator) = play(frames, stored, "msg_oiplain");
    assert_eq!(texts(&events), [(PartKind::Text, "Hello there, friend. 😀 ok ".to_owned())]);
    assert!(events.iter().filter(|event| matches!(event, AgentEvent::Text { .. })).count() >= 5);
    assert_eq!(step_counts(&events), (1, 1));
    let finish = events.iter().find_map(|event| match event {
        AgentEvent::StepFinish { cost, tokens, reason, .. } => Some((*cost, tokens.clone(), reason.clone())),
        _ => None,
    });
    let (cost, tokens, reason) = finish.expect("a step ended");
    assert_eq!((cost, reason.as_deref()), (Some(0.000_51), Some("stop")));
    assert_eq!(tokens.expect("counted")["cache"]["read"], 30);
    assert!(translator.is_idle() && translator.is_settled() && translator.had_output());
    assert_eq!(translator.failure(), None);
}

#[test]
fn tool_calls_carry_exit_code_times_error_and_changed_lines() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_tools.jsonl"));
    let stored = messages(include_str!("../../../tests/fixtures/messages_tools.json"));
    let (events, _) = play(frames, stored, "msg_oitools");
    let ended: Vec<&ToolUpdate> =
        tools(&events).into_iter().filter(|update| matches!(update.status.as_str(), "completed" | "error")).collect();
    let names: Vec<&str> = ended.iter().map(|update| update.tool.as_str()).collect();
    assert_eq!(names, ["write", "read", "edit", "write", "bash", "grep"]);
    let change = |added, removed| Some(FileChange { path: "hello.txt".to_owned(), added, removed });
    assert_eq!(ended[0].file_change, change(3, 0));
    assert_eq!(ended[2].file_change, change(2, 1));
    let bash = ended[4];
    assert_eq!((bash.exit_code, bash.output.as_deref()), (Some(3), Some("start\nmid\nfail\n")));
    assert!(bash.started_at.is_some() && bash.ended_at > bash.started_at);
    assert_eq!((ended[5].status.as_str(), ended[5].error.as_deref()), ("error", Some("ripgrep execution failed")));
    let growing: Vec<_> =
        tools(&events).into_iter().filter(|u| u.tool == "bash" && u.status == "running").map(|u| &u.output).collect();
    assert!(growing.len() >= 3, "output of a running command is shown: {growing:?}");
    let kinds: Vec<PartKind> = texts(&events).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == PartKind::Reasoning).count(), 6);
    let titles: Vec<&AgentEvent> = events.iter().filter(|event| matches!(event, AgentEvent::Title(_))).collect();
    assert_eq!(titles, [&AgentEvent::Title("Naming the work".to_owned())]);
    assert_eq!(step_counts(&events), (7, 7));
}

#[test]
fn an_overwritten_file_counts_the_lines_that_went() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_tools.jsonl"));
    let mut translator = Translator::new(&session_of(&frames), "msg_oitools", "/workspace/repo".into(), 0.0, |path| {
        assert_eq!(path, Path::new("/workspace/repo/hello.txt"));
        Some("one\nzwei\nthree\n".to_owned())
    });
    let now = Instant::now();
    for frame in frames {
        translator.frame(frame, now);
    }
    let events = translator.take();
    let second = tools(&events).into_iter().filter(|u| u.tool == "write" && u.status == "completed").nth(1);
    let change = second.and_then(|update| update.file_change.clone()).expect("a write changes a file");
    assert_eq!((change.added, change.removed), (0, 2));
}

#[test]
fn a_sub_agents_tools_are_told_with_their_task_and_its_words_are_not() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_task.jsonl"));
    let stored = messages(include_str!("../../../tests/fixtures/messages_task.json"));
    let (events, translator) = play(frames, stored, "msg_oitask");
    let words: Vec<String> = texts(&events).into_iter().map(|(_, text)| text).collect();
    assert_eq!(words, ["Hello there, friend. 😀 ok "]);
    let updates = tools(&events);
    let task = updates.iter().rfind(|update| update.tool == "task").expect("the task call");
    let child = task.child_session_id.as_deref().expect("names its sub-agent");
    let inner: Vec<_> = updates.iter().filter(|update| update.tool == "bash").collect();
    assert!(!inner.is_empty());
    for update in inner {
        assert!(update.subtask);
        assert_eq!(update.child_session_id.as_deref(), Some(child));
        assert_eq!(update.task_call_id.as_deref(), Some(task.call_id.as_str()));
    }
    assert!(events.iter().any(|event| matches!(event, AgentEvent::StepFinish { subtask: true, .. })));
    assert!(translator.is_idle(), "a sub-agent's idle does not end the turn, its parent's does");
}

#[test]
fn a_sub_agents_idle_does_not_end_the_turn() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_task.jsonl"));
    let session = session_of(&frames);
    let mut translator = translator(&frames, "msg_oitask");
    let idle_child = frames
        .iter()
        .position(|frame| frame.kind == "session.idle" && frame.properties["sessionID"] != session)
        .expect("the sub-agent ends first");
    frames.into_iter().take(idle_child + 1).for_each(|frame| translator.frame(frame, Instant::now()));
    assert!(!translator.is_idle());
}

#[test]
fn a_stopped_turn_keeps_its_text_and_reports_no_error() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_abort.jsonl"));
    let stored = messages(include_str!("../../../tests/fixtures/messages_abort.json"));
    let mut translator = translator(&frames, "msg_oiabort");
    let now = Instant::now();
    let error = frames.iter().position(|frame| frame.kind == "session.error").expect("the abort is an error there");
    let mut frames = frames.into_iter();
    frames.by_ref().take(error).for_each(|frame| translator.frame(frame, now));
    translator.stopping();
    frames.for_each(|frame| translator.frame(frame, now));
    translator.stored(stored, true, now);
    let events = translator.take();
    assert!(!events.iter().any(|event| matches!(event, AgentEvent::Error { .. })));
    assert_eq!(translator.failure(), None);
    let words = texts(&events);
    assert!(words[0].1.starts_with("tick0 ") && words[0].1.ends_with("tick19 "), "{words:?}");
}

#[test]
fn an_abort_that_nobody_asked_for_is_a_failure_told_once() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_abort.jsonl"));
    let (events, translator) = play(frames, Vec::new(), "msg_oiabort");
    let errors: Vec<_> = events.iter().filter(|event| matches!(event, AgentEvent::Error { .. })).collect();
    assert_eq!(errors, [&AgentEvent::Error { text: "Aborted".to_owned(), subtask: false }]);
    assert_eq!(translator.failure(), Some("Aborted"));
}

/// The stream may break at any frame: what OpenCode stored makes it whole, and nothing comes twice.
#[test]
fn a_stream_cut_at_any_frame_is_made_whole_from_what_is_stored() {
    let tools_frames = || frames(include_str!("../../../tests/fixtures/sse_tools.jsonl"));
    let stored = || messages(include_str!("../../../tests/fixtures/messages_tools.json"));
    let (whole, _) = play(tools_frames(), stored(), "msg_oitools");
    let ended = |events: &[AgentEvent]| -> Vec<(String, String)> {
        tools(events)
            .iter()
            .filter(|update| matches!(update.status.as_str(), "completed" | "error"))
            .map(|update| (update.call_id.clone(), update.output.clone().unwrap_or_default()))
            .collect()
    };
    for cut in 1..tools_frames().len() {
        let all = tools_frames();
        let mut translator = translator(&all, "msg_oitools");
        all.into_iter().take(cut).for_each(|frame| translator.frame(frame, Instant::now()));
        translator.interrupted();
        translator.stored(stored(), true, Instant::now());
        let events = translator.take();
        let dones = |events: &[AgentEvent]| -> Vec<String> {
            let mut texts: Vec<String> = events
                .iter()
                .filter_map(|e| if let AgentEvent::PartDone { text, .. } = e { Some(text.clone()) } else { None })
                .collect();
            texts.sort();
            texts
        };
        assert_eq!(dones(&events), dones(&whole), "cut at {cut}");
        assert_eq!(ended(&events), ended(&whole), "cut at {cut}");
        assert_eq!(step_counts(&events), (7, 7), "cut at {cut}");
    }
}

#[test]
fn parts_of_a_message_that_is_not_known_yet_are_held() {
    let (recorded, stored) = plain();
    // `message.updated` of the assistant comes after its parts.
    let (mut announcements, mut rest): (Vec<_>, Vec<_>) = recorded
        .into_iter()
        .partition(|frame| frame.kind == "message.updated" && frame.properties["info"]["role"] == "assistant");
    let idle = rest.iter().position(|frame| frame.kind == "session.idle").expect("ends");
    let tail = rest.split_off(idle);
    rest.append(&mut announcements);
    rest.extend(tail);
    let (events, _) = play(rest, stored, "msg_oiplain");
    assert_eq!(texts(&events), [(PartKind::Text, "Hello there, friend. 😀 ok ".to_owned())]);
}

#[test]
fn the_turn_before_is_no_part_of_this_one() {
    let (recorded, stored) = plain();
    // The same session, but our prompt is another one: all of this belongs to an earlier turn.
    let (events, translator) = play(recorded, stored, "msg_oiother");
    assert!(texts(&events).is_empty() && step_counts(&events) == (0, 0));
    assert!(!translator.is_idle(), "the idle of the turn before does not end this one");
}

#[test]
fn looking_back_tells_texts_and_tools_and_no_step_twice() {
    let frames = frames(include_str!("../../../tests/fixtures/sse_tools.jsonl"));
    let mut translator = translator(&frames, "msg_oitools");
    let stored = messages(include_str!("../../../tests/fixtures/messages_tools.json"));
    translator.look_back(stored, Instant::now());
    let events = translator.take();
    assert_eq!(step_counts(&events), (0, 0));
    assert_eq!(tools(&events).len(), 6);
    assert!(!events.iter().any(|event| matches!(event, AgentEvent::Text { .. })));
}

#[expect(clippy::needless_pass_by_value, reason = "reads better at every call")]
fn typed(kind: &str, properties: serde_json::Value) -> SseFrame {
    serde_json::from_value(json!({"type": kind, "properties": properties})).expect("a frame")
}

fn started() -> Translator {
    let mut translator = Translator::new("ses_1", "msg_oi1", "/w".into(), 0.0, NO_FILES);
    let user = json!({"info": {"id": "msg_oi1", "sessionID": "ses_1", "role": "user", "time": {"created": 100}}});
    translator.frame(typed("message.updated", user), Instant::now());
    translator
}

#[test]
fn an_overflow_that_compaction_cures_is_no_failure() {
    let overflow =
        json!({"sessionID": "ses_1", "error": {"name": "ContextOverflowError", "data": {"message": "too long"}}});
    let now = Instant::now();
    let mut cured = started();
    cured.frame(typed("session.error", overflow.clone()), now);
    cured.frame(typed("session.compacted", json!({"sessionID": "ses_1"})), now);
    // The summary is not shown; what is written after it is.
    for (id, created, summary) in [("msg_s", 150, true), ("msg_a", 151, false)] {
        let info = json!({"id": id, "sessionID": "ses_1", "role": "assistant", "parentID": "msg_synthetic",
            "summary": summary, "time": {"created": created}});
        cured.frame(typed("message.updated", json!({"info": info})), now);
        let part = json!({"id": format!("prt_{id}"), "sessionID": "ses_1", "messageID": id, "type": "text",
            "text": id, "time": {"start": 1, "end": 2}});
        cured.frame(typed("message.part.updated", json!({"part": part})), now);
    }
    cured.stored(Vec::new(), true, now);
    let events = cured.take();
    assert!(events.contains(&AgentEvent::Compacted) && cured.failure().is_none());
    assert_eq!(texts(&events), [(PartKind::Text, "msg_a".to_owned())]);

    let mut lasting = started();
    lasting.frame(typed("session.error", overflow), now);
    lasting.stored(Vec::new(), true, now);
    assert_eq!(lasting.failure(), Some("too long"));
}

#[test]
fn the_same_error_from_two_sources_is_told_once() {
    let now = Instant::now();
    let mut translator = started();
    let error = json!({"name": "APIError", "data": {"message": "denied", "statusCode": 401}});
    translator.frame(typed("session.error", json!({"sessionID": "ses_1", "error": error})), now);
    let info = json!({"id": "msg_a", "sessionID": "ses_1", "role": "assistant", "parentID": "msg_oi1",
        "time": {"created": 101}, "error": error});
    translator.frame(typed("message.updated", json!({"info": info})), now);
    assert_eq!(translator.take(), [AgentEvent::Error { text: "denied".to_owned(), subtask: false }]);
    assert!(translator.is_settled());
}

#[test]
fn leave_and_questions_of_the_turn_are_taken_once() {
    let mut translator = started();
    let now = Instant::now();
    translator.frame(typed("permission.asked", json!({"id": "per_1", "sessionID": "ses_1"})), now);
    translator.frame(typed("permission.asked", json!({"id": "per_2", "sessionID": "ses_other"})), now);
    let question = |id: &str, session: &str| json!({"id": id, "sessionID": session, "questions": [{"question": "Which?", "header": "H", "options": []}]});
    for asked in [question("que_1", "ses_1"), question("que_1", "ses_1"), question("que_2", "ses_other")] {
        translator.frame(typed("question.asked", asked), now);
    }
    let asked = translator.take_asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[0], Asked::Permission("per_1".to_owned()));
    assert!(matches!(&asked[1], Asked::Question(question) if question.id == "que_1"));
    let told = translator.take();
    assert!(matches!(&told[..], [AgentEvent::Question { request_id, .. }] if request_id == "que_1.0"), "{told:?}");
}

#[test]
fn a_provider_that_makes_the_agent_wait_is_told_once_for_each_reason() {
    let mut translator = started();
    for (attempt, reason) in [(1, "Overloaded"), (2, "Overloaded"), (3, "Rate limited")] {
        let status = json!({"type": "retry", "attempt": attempt, "message": reason, "next": 5});
        translator.frame(typed("session.status", json!({"sessionID": "ses_1", "status": status})), Instant::now());
    }
    let told = translator.take();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(matches!(&told[1], AgentEvent::Warning(text) if text.contains("Rate limited")));
}

#[test]
fn a_todo_list_is_told_whole() {
    let mut translator = started();
    let now = Instant::now();
    let info = json!({"id": "msg_a", "sessionID": "ses_1", "role": "assistant", "parentID": "msg_oi1",
        "time": {"created": 101}});
    translator.frame(typed("message.updated", json!({"info": info})), now);
    let todos = json!([{"content": "one", "status": "completed", "priority": "high"},
        {"content": "two", "status": "pending", "priority": "low"}]);
    let state = json!({"status": "completed", "input": {"todos": todos}, "output": "[]", "title": "1 todos"});
    let part = json!({"id": "prt_1", "sessionID": "ses_1", "messageID": "msg_a", "type": "tool", "tool": "todowrite",
        "callID": "call_1", "state": state});
    translator.frame(typed("message.part.updated", json!({"part": part})), now);
    let told = translator.take();
    assert!(matches!(&told[..], [AgentEvent::Tool(update)] if update.args["todos"] == todos), "{told:?}");
}

#[test]
fn frames_of_any_shape_change_nothing_and_never_panic() {
    let mut translator = started();
    for kind in [
        "message.updated",
        "message.part.updated",
        "message.part.delta",
        "session.status",
        "session.error",
        "session.idle",
        "session.created",
        "permission.asked",
        "unknown",
    ] {
        for properties in
            [json!(null), json!([]), json!({}), json!({"part": 1}), json!({"info": {"id": 1}}), json!("x")]
        {
            translator.frame(typed(kind, properties), Instant::now());
        }
    }
    assert!(translator.take().is_empty() && translator.take_asked().is_empty());
}
