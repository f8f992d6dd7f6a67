//! Every message as peers in the field send and expect it. The files of `golden/` are added to and never changed: an
//! old bridge or page meets a new control plane in them. One JSON value a line.
//!
//! Each type has a form with and one without every field that may be absent. What is stored, as both dialects are shown
//! it, is also read by `durable-objects/core/src/projection.rs`.

use std::collections::BTreeSet;
use std::fmt::Debug;

use oi_protocol::client_socket::{ClientMessage, ServerMessage};
use oi_protocol::diff::{DiffBundle, DiffFailure, DiffState, DiffStored};
use oi_protocol::event::Event;
use oi_protocol::sandbox_socket::{SandboxCommand, SandboxEvent, SandboxFrame};
use oi_protocol::terminal::{TerminalCommand, TerminalEvent, TerminalMessage, TerminalReport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

/// Nulls that mean the same as an absent key are written in one way only, so values are compared as they stand.
fn assert_same(written: &Value, expected: &Value) {
    assert_eq!(written, expected, "\nwritten:  {written}\nexpected: {expected}");
}

macro_rules! words {
    ($kind:ident: $($variant:ident => $word:literal),+ $(,)?) => {
        impl Words for $kind {
            const ALL: &'static [&'static str] = &[$($word),+];

            /// Does not compile when a type is added that has no word here, and so no golden form.
            fn word(&self) -> &'static str {
                match self { $($kind::$variant { .. } => $word,)+ }
            }
        }
    };
}

trait Words {
    const ALL: &'static [&'static str];

    fn word(&self) -> &'static str;
}

words!(ClientMessage:
    Ping => "ping", Subscribe => "subscribe", Prompt => "prompt", CancelPrompt => "cancel_prompt",
    EditPrompt => "edit_prompt", ReorderPrompts => "reorder_prompts", SendNow => "send_now",
    InputResponse => "input_response", Stop => "stop", Typing => "typing", Presence => "presence",
    FetchHistory => "fetch_history");
words!(ServerMessage:
    Pong => "pong", Subscribed => "subscribed", PromptQueued => "prompt_queued", PromptCancelled => "prompt_cancelled",
    PromptEdited => "prompt_edited", PromptsReordered => "prompts_reordered", PromptSentNow => "prompt_sent_now",
    InputAccepted => "input_accepted", PromptQueueUpdated => "prompt_queue_updated", SandboxEvent => "sandbox_event",
    PartDelta => "part_delta", PartDone => "part_done", Batch => "batch", PresenceSync => "presence_sync",
    PresenceUpdate => "presence_update", PresenceLeave => "presence_leave", Typing => "typing",
    SandboxWarming => "sandbox_warming", SandboxSpawning => "sandbox_spawning", SandboxStatus => "sandbox_status",
    SandboxError => "sandbox_error", SandboxWarning => "sandbox_warning", SandboxRestored => "sandbox_restored",
    SnapshotSaved => "snapshot_saved", SandboxAccessChanged => "sandbox_access_changed",
    TunnelUrls => "tunnel_urls", SandboxDashboardUrl => "sandbox_dashboard_url",
    ArtifactCreated => "artifact_created", ArtifactUpdated => "artifact_updated", SessionBranch => "session_branch",
    SessionStatus => "session_status", SessionTitle => "session_title", ProcessingStatus => "processing_status",
    HistoryPage => "history_page", ChildSessionUpdate => "child_session_update",
    DiffStateChanged => "diff_state_changed", Error => "error");
words!(SandboxEvent:
    Heartbeat => "heartbeat", Ready => "ready", Token => "token", PartDelta => "part_delta", PartDone => "part_done",
    ToolCall => "tool_call", StepStart => "step_start", StepFinish => "step_finish",
    ContextCompacted => "context_compacted", GitSync => "git_sync", Error => "error",
    ExecutionComplete => "execution_complete", PushComplete => "push_complete", PushError => "push_error",
    Artifact => "artifact", Warning => "warning", SessionTitle => "session_title", BootProgress => "boot_progress",
    PromptAccepted => "prompt_accepted", InputRequest => "input_request");
words!(SandboxCommand:
    Hello => "hello", Prompt => "prompt", Stop => "stop", Push => "push", Ack => "ack",
    EventRejected => "event_rejected", InputResponse => "input_response", Shutdown => "shutdown",
    RefreshDiff => "refresh_diff");
words!(Event:
    UserMessage => "user_message", Part => "part", ToolCall => "tool_call", StepStart => "step_start",
    StepFinish => "step_finish", ContextCompacted => "context_compacted", Error => "error",
    ExecutionComplete => "execution_complete", Ready => "ready", BootProgress => "boot_progress",
    Warning => "warning", GitSync => "git_sync", PushComplete => "push_complete", PushError => "push_error",
    Artifact => "artifact", InputRequest => "input_request");
words!(TerminalMessage: Ping => "ping", Open => "open", Resize => "resize", Shown => "shown");
words!(TerminalEvent:
    Pong => "pong", Sandbox => "sandbox", Opened => "opened", Resized => "resized", Exited => "exited",
    Restarted => "restarted", Refused => "refused", Ended => "ended");
words!(TerminalCommand: Watch => "watch", Resize => "resize", Pause => "pause", Unwatch => "unwatch");
words!(TerminalReport:
    Running => "running", Opened => "opened", Resized => "resized", Exited => "exited", Refused => "refused");

/// What the golden forms of a direction hold.
#[derive(Default)]
struct Seen {
    words: BTreeSet<&'static str>,
    /// Optional fields that some form of a type has, and that some form lacks.
    present: BTreeSet<(&'static str, String)>,
    absent: BTreeSet<(&'static str, String)>,
}

impl Seen {
    /// `Debug` names every field of every struct within, also one that is new and has no golden form yet.
    fn add(&mut self, message: &(impl Words + Debug)) {
        let word = message.word();
        let text = format!("{message:?}");
        let named = |mark: &str| -> Vec<_> {
            let ends = text.match_indices(mark).map(|(at, _)| &text[..at]);
            ends.filter_map(|before| before.rsplit([' ', '{']).next()).map(|name| (word, name.to_owned())).collect()
        };
        self.words.insert(word);
        self.present.extend(named(": Some("));
        self.absent.extend(named(": None"));
    }

    /// Each type has a golden form, under the word that it has on the wire, with and without what may be absent.
    fn assert_all<K: Words>(&self, never_sent: &[(&'static str, &str)]) {
        assert_eq!(self.words, K::ALL.iter().copied().collect());
        let never_sent: BTreeSet<_> = never_sent.iter().map(|(word, field)| (*word, (*field).to_owned())).collect();
        let only_absent: BTreeSet<_> = self.absent.difference(&self.present).cloned().collect();
        assert_eq!(only_absent, never_sent, "no golden form has these");
        let only_present: Vec<_> = self.present.difference(&self.absent).collect();
        assert!(only_present.is_empty(), "no golden form lacks these: {only_present:?}");
    }
}

#[test]
fn what_pages_send_is_understood() {
    let mut seen = Seen::default();
    for frame in lines(include_str!("golden/client.jsonl")) {
        let message = ClientMessage::parse(&frame.to_string()).unwrap_or_else(|error| panic!("{error}: {frame}"));
        seen.add(&message);
        assert_eq!(frame["type"], message.word());
        assert_same(&serde_json::to_value(&message).expect("JSON"), &frame);
    }
    seen.assert_all::<ClientMessage>(&[]);
}

/// Keys that only older or newer pages know are passed over.
#[test]
fn what_other_pages_say_more_is_left_out() {
    for line in lines(include_str!("golden/client_more.jsonl")) {
        let (sent, reads) = (&line["frame"], &line["reads"]);
        let message = ClientMessage::parse(&sent.to_string()).unwrap_or_else(|error| panic!("{error}: {sent}"));
        assert_same(&serde_json::to_value(&message).expect("JSON"), reads);
    }
}

/// What we write ourselves is read and written again as it is.
fn assert_kept<K: Words + Debug + Serialize + DeserializeOwned>(forms: impl Iterator<Item = Value>) {
    let mut seen = Seen::default();
    for form in forms {
        let message: K = serde_json::from_value(form.clone()).unwrap_or_else(|error| panic!("{error}: {form}"));
        seen.add(&message);
        assert_eq!(form["type"], message.word());
        assert_same(&serde_json::to_value(&message).expect("JSON"), &form);
    }
    seen.assert_all::<K>(&[]);
}

#[test]
fn what_pages_get_keeps_its_form() {
    assert_kept::<ServerMessage>(lines(include_str!("golden/server.jsonl")));
}

#[test]
fn what_bridges_send_is_understood() {
    let mut seen = Seen::default();
    for line in lines(include_str!("golden/bridge.jsonl")) {
        let (sent, reads) = (&line["frame"], &line["reads"]);
        let frame = SandboxFrame::parse(&sent.to_string()).unwrap_or_else(|error| panic!("{error}: {sent}"));
        seen.add(&frame.event);
        assert_eq!(sent["type"], frame.event.word());
        assert_same(&serde_json::to_value(&frame.event).expect("JSON"), reads);
        assert_eq!((frame.seq, frame.ack_id.as_deref()), (sent["seq"].as_i64(), sent["ackId"].as_str()));
    }
    // The session alone says how a run and a question ended.
    let never_sent = [
        ("execution_complete", "outcome"),
        ("input_request", "answer"),
        ("input_request", "answered_by"),
        ("input_request", "ended_at"),
    ];
    seen.assert_all::<SandboxEvent>(&never_sent);
}

#[test]
fn what_bridges_get_keeps_its_form() {
    assert_kept::<SandboxCommand>(lines(include_str!("golden/command.jsonl")));
}

#[test]
fn what_is_stored_is_read_again() {
    let stored = lines(include_str!("golden/stored.jsonl")).map(|mut line| line["stored"].take());
    assert_kept::<Event>(stored);
}

#[test]
fn what_is_said_of_diffs_keeps_its_form() {
    fn keep<T: Serialize + DeserializeOwned>(form: &Value) -> T {
        let read: T = serde_json::from_value(form.clone()).unwrap_or_else(|error| panic!("{error}: {form}"));
        assert_same(&serde_json::to_value(&read).expect("JSON"), form);
        read
    }
    let mut kinds = BTreeSet::new();
    for line in lines(include_str!("golden/diff.jsonl")) {
        let (kind, form) = line.as_object().and_then(|line| line.iter().next()).expect("one form a line");
        match kind.as_str() {
            "bundle" => assert_eq!(keep::<DiffBundle>(form).check(), Ok(())),
            "state" => drop(keep::<DiffState>(form)),
            "stored" => drop(keep::<DiffStored>(form)),
            "failure" => drop(keep::<DiffFailure>(form)),
            other => panic!("{other} is no form"),
        }
        kinds.insert(kind.clone());
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

#[test]
fn what_is_said_of_terminals_keeps_its_form() {
    fn check<T: Words + Debug + Serialize + DeserializeOwned>(value: &Value, seen: &mut Seen) {
        let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
        assert_same(&serde_json::to_value(&read).expect("JSON"), value);
        assert_eq!(value["type"], read.word());
        seen.add(&read);
    }
    let (mut messages, mut events, mut commands, mut reports) = Default::default();
    for line in lines(include_str!("golden/terminal.jsonl")) {
        match line[0].as_str() {
            Some("message") => check::<TerminalMessage>(&line[1], &mut messages),
            Some("event") => check::<TerminalEvent>(&line[1], &mut events),
            Some("command") => check::<TerminalCommand>(&line[1], &mut commands),
            Some("report") => check::<TerminalReport>(&line[1], &mut reports),
            _ => panic!("{line}"),
        }
    }
    messages.assert_all::<TerminalMessage>(&[]);
    events.assert_all::<TerminalEvent>(&[]);
    commands.assert_all::<TerminalCommand>(&[]);
    reports.assert_all::<TerminalReport>(&[]);
}
