//! What must hold of a single frame: its parser never panics, takes objects alone, reads what it wrote, and holds its
//! limits.

use std::cell::RefCell;

use oi_protocol::ErrorCode;
use oi_protocol::client_socket::{ClientMessage, RejectedClientFrame};
use oi_protocol::limits::{CLIENT_FRAME_MAX_BYTES, CLIENT_REQUEST_ID_MAX_UTF16, SANDBOX_FRAME_MAX_BYTES};
use oi_protocol::sandbox_socket::{RejectedSandboxFrame, SandboxFrame};
use oi_protocol::text::utf16_len;
use serde_json::{Value, json};

/// A frame of a client.
pub fn client_frame(bytes: &[u8]) {
    // The platform refuses text that is not UTF-8.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let too_large = RejectedClientFrame { code: ErrorCode::InvalidMessage, client_request_id: None };
    if text.len() > CLIENT_FRAME_MAX_BYTES {
        assert_eq!(ClientMessage::parse(text), Err(too_large));
        return;
    }
    match ClientMessage::parse(text) {
        Ok(message) => {
            assert!(is_object(text), "a frame is an object: {text}");
            let again = serde_json::to_string(&message).expect("a message is JSON");
            assert_eq!(ClientMessage::parse(&again), Ok(message), "{again}");
        }
        Err(rejected) => {
            assert!(matches!(rejected.code, ErrorCode::InvalidMessage | ErrorCode::InvalidPrompt));
            if let Some(id) = rejected.client_request_id {
                assert!((1..=CLIENT_REQUEST_ID_MAX_UTF16).contains(&utf16_len(&id)), "{id} is no request's");
            }
        }
    }
    with_padding(text, CLIENT_FRAME_MAX_BYTES + 1, |large| assert_eq!(ClientMessage::parse(large), Err(too_large)));
}

/// A frame of a bridge.
pub fn sandbox_frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > SANDBOX_FRAME_MAX_BYTES {
        assert_eq!(SandboxFrame::parse(text), Err(RejectedSandboxFrame::TooLarge));
        return;
    }
    match SandboxFrame::parse(text) {
        Ok(frame) => {
            assert!(is_object(text), "a frame is an object: {text}");
            let again = written(&frame);
            // A number may be written longer than it came: `1e15` as `1000000000000000.0`.
            if again.len() <= SANDBOX_FRAME_MAX_BYTES {
                assert_eq!(SandboxFrame::parse(&again), Ok(frame), "{again}");
            }
        }
        Err(RejectedSandboxFrame::UnknownType { kind, .. }) => assert!(kind.len() <= 64, "{kind} goes to the log"),
        Err(RejectedSandboxFrame::TooLarge) => panic!("{} bytes are not too many", text.len()),
        Err(RejectedSandboxFrame::NotAnEvent | RejectedSandboxFrame::Malformed { .. }) => {}
    }
    with_padding(text, SANDBOX_FRAME_MAX_BYTES + 1, |large| {
        assert_eq!(SandboxFrame::parse(large), Err(RejectedSandboxFrame::TooLarge));
    });
}

/// The frame as a bridge would write it.
fn written(frame: &SandboxFrame) -> String {
    let mut value = serde_json::to_value(&frame.event).expect("an event is JSON");
    if let Some(seq) = frame.seq {
        value["seq"] = json!(seq);
    }
    if let Some(ack_id) = &frame.ack_id {
        value["ackId"] = Value::from(ack_id.as_str());
    }
    value.to_string()
}

fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
}

/// The text with spaces after it, which JSON allows. The spaces are kept from call to call: writing a MiB of them
/// takes longer than all else that is done with a frame.
fn with_padding(text: &str, length: usize, check: impl FnOnce(&str)) {
    thread_local! {
        static PADDED: RefCell<String> = const { RefCell::new(String::new()) };
    }
    PADDED.with_borrow_mut(|padded| {
        if padded.len() != length {
            *padded = " ".repeat(length);
        }
        padded.replace_range(..text.len(), text);
        check(padded);
        padded.replace_range(..text.len(), &" ".repeat(text.len()));
    });
}
