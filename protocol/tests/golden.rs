//! Every message as peers in the field send and expect it. The files of `golden/` are added to and never changed: an
//! old bridge or page meets a new control plane in them. One JSON value a line.

use std::collections::BTreeSet;

use oi_protocol::client_socket::{ClientMessage, ServerMessage};
use oi_protocol::event::Event;
use oi_protocol::sandbox_socket::{SandboxCommand, SandboxEvent, SandboxFrame};
use serde_json::Value;

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

/// Nulls that mean the same as an absent key are written in one way only, so values are compared as they stand.
fn assert_same(written: &Value, expected: &Value) {
    assert_eq!(written, expected, "\nwritten:  {written}\nexpected: {expected}");
}

macro_rules! words {
    ($name:ident, $kind:ident: $($variant:ident => $word:literal),+ $(,)?) => {
        /// Does not compile when a type is added that has no word here, and so no golden form.
        const fn $name(message: &$kind) -> &'static str {
            match message { $($kind::$variant { .. } => $word,)+ }
        }
        impl Words for $kind {
            const ALL: &'static [&'static str] = &[$($word),+];
        }
    };
}

trait Words {
    const ALL: &'static [&'static str];
}

words!(client_word, ClientMessage:
    Ping => "ping", Subscribe => "subscribe", Prompt => "prompt", CancelPrompt => "cancel_prompt",
    EditPrompt => "edit_prompt", ReorderPrompts => "reorder_prompts", SendNow => "send_now",
    InputResponse => "input_response", Stop => "stop", Typing => "typing", Presence => "presence",
    FetchHistory => "fetch_history");
words!(server_word, ServerMessage:
    Pong => "pong", Subscribed => "subscribed", PromptQueued => "prompt_queued", PromptCancelled => "prompt_cancelled",
    PromptEdited => "prompt_edited", PromptsReordered => "prompts_reordered", PromptSentNow => "prompt_sent_now",
    InputAccepted => "input_accepted", PromptQueueUpdated => "prompt_queue_updated", SandboxEvent => "sandbox_event",
    PartDelta => "part_delta", PartDone => "part_done", Batch => "batch", PresenceSync => "presence_sync",
    PresenceUpdate => "presence_update", PresenceLeave => "presence_leave", Typing => "typing",
    SandboxWarming => "sandbox_warming", SandboxSpawning => "sandbox_spawning", SandboxStatus => "sandbox_status",
    SandboxError => "sandbox_error", SandboxWarning => "sandbox_warning", SandboxRestored => "sandbox_restored",
    SnapshotSaved => "snapshot_saved", SandboxAccessChanged => "sandbox_access_changed",
    ArtifactCreated => "artifact_created", ArtifactUpdated => "artifact_updated", SessionBranch => "session_branch",
    SessionStatus => "session_status", SessionTitle => "session_title", ProcessingStatus => "processing_status",
    HistoryPage => "history_page", ChildSessionUpdate => "child_session_update", Error => "error");
words!(bridge_word, SandboxEvent:
    Heartbeat => "heartbeat", Ready => "ready", Token => "token", PartDelta => "part_delta", PartDone => "part_done",
    ToolCall => "tool_call", StepStart => "step_start", StepFinish => "step_finish",
    ContextCompacted => "context_compacted", GitSync => "git_sync", Error => "error",
    ExecutionComplete => "execution_complete", PushComplete => "push_complete", PushError => "push_error",
    Artifact => "artifact", Warning => "warning", SessionTitle => "session_title", BootProgress => "boot_progress",
    PromptAccepted => "prompt_accepted", InputRequest => "input_request");
words!(command_word, SandboxCommand:
    Hello => "hello", Prompt => "prompt", Stop => "stop", Push => "push", Ack => "ack",
    EventRejected => "event_rejected", InputResponse => "input_response", Shutdown => "shutdown",
    RefreshDiff => "refresh_diff");
words!(stored_word, Event:
    UserMessage => "user_message", Part => "part", ToolCall => "tool_call", StepStart => "step_start",
    StepFinish => "step_finish", ContextCompacted => "context_compacted", Error => "error",
    ExecutionComplete => "execution_complete", Ready => "ready", BootProgress => "boot_progress",
    Warning => "warning", GitSync => "git_sync", PushComplete => "push_complete", PushError => "push_error",
    Artifact => "artifact", InputRequest => "input_request");

/// Each type has a golden form, under the word that it has on the wire.
fn assert_all<K: Words>(seen: &BTreeSet<&'static str>) {
    let all: BTreeSet<_> = K::ALL.iter().copied().collect();
    assert_eq!(*seen, all);
}

#[test]
fn what_pages_send_is_understood() {
    let mut seen = BTreeSet::new();
    for frame in lines(include_str!("golden/client.jsonl")) {
        let message = ClientMessage::parse(&frame.to_string()).unwrap_or_else(|error| panic!("{error}: {frame}"));
        assert_eq!(frame["type"], client_word(&message));
        seen.insert(client_word(&message));
        assert_same(&serde_json::to_value(&message).expect("JSON"), &frame);
    }
    assert_all::<ClientMessage>(&seen);
}

#[test]
fn what_pages_get_keeps_its_form() {
    let mut seen = BTreeSet::new();
    for frame in lines(include_str!("golden/server.jsonl")) {
        let message: ServerMessage =
            serde_json::from_value(frame.clone()).unwrap_or_else(|error| panic!("{error}: {frame}"));
        assert_eq!(frame["type"], server_word(&message));
        seen.insert(server_word(&message));
        assert_same(&serde_json::to_value(&message).expect("JSON"), &frame);
    }
    assert_all::<ServerMessage>(&seen);
}

#[test]
fn what_bridges_send_is_understood() {
    let mut seen = BTreeSet::new();
    for line in lines(include_str!("golden/bridge.jsonl")) {
        let (sent, reads) = (&line["frame"], &line["reads"]);
        let frame = SandboxFrame::parse(&sent.to_string()).unwrap_or_else(|error| panic!("{error}: {sent}"));
        assert_eq!(sent["type"], bridge_word(&frame.event));
        seen.insert(bridge_word(&frame.event));
        assert_same(&serde_json::to_value(&frame.event).expect("JSON"), reads);
        assert_eq!((frame.seq, frame.ack_id.as_deref()), (sent["seq"].as_i64(), sent["ackId"].as_str()));
    }
    assert_all::<SandboxEvent>(&seen);
}

#[test]
fn what_bridges_get_keeps_its_form() {
    let mut seen = BTreeSet::new();
    for frame in lines(include_str!("golden/command.jsonl")) {
        let command: SandboxCommand =
            serde_json::from_value(frame.clone()).unwrap_or_else(|error| panic!("{error}: {frame}"));
        assert_eq!(frame["type"], command_word(&command));
        seen.insert(command_word(&command));
        assert_same(&serde_json::to_value(&command).expect("JSON"), &frame);
    }
    assert_all::<SandboxCommand>(&seen);
}

#[test]
fn what_is_stored_is_read_again() {
    let mut seen = BTreeSet::new();
    for line in lines(include_str!("golden/stored.jsonl")) {
        let stored = &line["stored"];
        let event: Event = serde_json::from_value(stored.clone()).unwrap_or_else(|error| panic!("{error}: {stored}"));
        assert_eq!(stored["type"], stored_word(&event));
        seen.insert(stored_word(&event));
        assert_same(&serde_json::to_value(&event).expect("JSON"), stored);
    }
    assert_all::<Event>(&seen);
}
