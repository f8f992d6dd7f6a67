//! What the control plane tells a bot of its prompts: verified over the bytes as they came, stored once, answered.

use oi_protocol::callback::CallbackContext;
use oi_protocol::{ErrorCode, MessageId, SessionId, UnixMillis};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::Refusal;
use crate::service_signature::Service;
use crate::{mac, request_body, webhook_inbox};

/// A start is good for this long, in ms; and may come from this far ahead.
const START_FRESH_MS: i64 = 300_000;
const START_AHEAD_MS: i64 = 60_000;
/// Longest id of a tool call, in bytes.
const CALL_ID_MAX_BYTES: usize = 512;

/// Which callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The agent has the prompt; Linear only.
    Start,
    /// The agent uses a tool.
    ToolCall,
    /// The prompt ended.
    Complete,
}

impl Kind {
    /// The callback of a path.
    pub fn of_path(path: &str, service: Service) -> Option<Self> {
        match path {
            "/callbacks/complete" => Some(Self::Complete),
            "/callbacks/tool_call" => Some(Self::ToolCall),
            "/callbacks/start" if service == Service::LinearBot => Some(Self::Start),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ToolCall => "tool_call",
            Self::Complete => "complete",
        }
    }
}

/// A callback that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The same for every delivery of it, and of no other.
    pub key: String,
    /// `callback.complete`, ...
    pub event: String,
    /// Too old to act upon: answered, not stored.
    pub is_stale: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Start {
    session_id: SessionId,
    message_id: MessageId,
    timestamp: i64,
    context: CallbackContext,
    #[serde(rename = "signature")]
    _signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complete {
    session_id: SessionId,
    message_id: MessageId,
    #[serde(rename = "success")]
    _success: bool,
    #[serde(default, rename = "error")]
    _error: Option<String>,
    #[serde(rename = "timestamp")]
    _timestamp: i64,
    context: CallbackContext,
    #[serde(rename = "signature")]
    _signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolCall {
    session_id: SessionId,
    tool: String,
    #[serde(default, rename = "args")]
    _args: Map<String, Value>,
    call_id: String,
    #[serde(default, rename = "status")]
    _status: Option<String>,
    #[serde(rename = "timestamp")]
    _timestamp: i64,
    context: CallbackContext,
    #[serde(rename = "signature")]
    _signature: String,
}

/// What is signed: the body without its last key.
fn unsigned(body: &[u8]) -> Option<(&[u8], &str)> {
    const KEY: &[u8] = b",\"signature\":\"";
    let open = body.strip_suffix(b"\"}")?;
    let at = open.len().checked_sub(64 + KEY.len())?;
    let (front, rest) = open.split_at(at);
    let signature = std::str::from_utf8(rest.strip_prefix(KEY)?).ok()?;
    Some((front, signature))
}

/// Whether a body was signed with `secret`, as it is.
fn is_signed(body: &[u8], secret: &str) -> bool {
    unsigned(body).is_some_and(|(front, signature)| mac::is_hmac_hex(secret.as_bytes(), &[front, b"}"], signature))
}

fn is_of(context: &CallbackContext, service: Service) -> bool {
    let fits = match context {
        // The Slack bot gets what is no other bot's.
        CallbackContext::Slack(_) => service == Service::SlackBot,
        CallbackContext::Linear(_) => matches!(service, Service::LinearBot | Service::SlackBot),
    };
    fits && context.is_valid()
}

/// Reads a callback: 400 for a wrong shape, 500 without a secret, 401 for a signature that is not ours.
pub fn read(
    service: Service,
    kind: Kind,
    secret: Option<&str>,
    body: &[u8],
    now: UnixMillis,
) -> Result<Callback, Refusal> {
    let invalid = || Refusal::invalid_body("invalid payload");
    let mut is_stale = false;
    let (session, name, context) = match kind {
        Kind::Start => {
            let start: Start = request_body::parse(body, "").map_err(|_| invalid())?;
            let age = now.since(UnixMillis(start.timestamp));
            is_stale = !(-START_AHEAD_MS..=START_FRESH_MS).contains(&age);
            (start.session_id, start.message_id.to_string(), start.context)
        }
        Kind::Complete => {
            let complete: Complete = request_body::parse(body, "").map_err(|_| invalid())?;
            (complete.session_id, complete.message_id.to_string(), complete.context)
        }
        Kind::ToolCall => {
            let call: ToolCall = request_body::parse(body, "").map_err(|_| invalid())?;
            if call.tool.is_empty() || !(1..=CALL_ID_MAX_BYTES).contains(&call.call_id.len()) {
                return Err(invalid());
            }
            (call.session_id, call.call_id, call.context)
        }
    };
    if !is_of(&context, service) {
        return Err(invalid());
    }
    let secret = secret.ok_or_else(|| Refusal::new(500, ErrorCode::NotConfigured, "not configured"))?;
    if !is_signed(body, secret) {
        return Err(Refusal::new(401, ErrorCode::Unauthorized, "unauthorized"));
    }
    let key = format!("callback:{}:{session}:{name}", kind.as_str());
    let key = if webhook_inbox::is_storable_id(&key) { key } else { mac::sha256_hex(key.as_bytes()) };
    Ok(Callback { key, event: format!("callback.{}", kind.as_str()), is_stale })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const SLACK: &str =
        r#"{"source":"slack","channel":"C","threadTs":"1.2","repoFullName":"a/b","model":"demo/scripted"}"#;
    const LINEAR: &str =
        r#"{"source":"linear","issueId":"i","issueIdentifier":"A-1","issueUrl":"https://l","model":"demo/scripted"}"#;

    fn ids() -> String {
        format!(r#""sessionId":"{}","messageId":"{}""#, "01".repeat(16), "02".repeat(16))
    }

    fn complete(context: &str) -> String {
        format!(r#"{{{},"success":true,"timestamp":{},"context":{context}}}"#, ids(), NOW.0)
    }

    fn start(at: i64) -> String {
        format!(r#"{{{},"timestamp":{at},"context":{LINEAR}}}"#, ids())
    }

    fn tool(call: &str) -> String {
        let session = "01".repeat(16);
        format!(
            r#"{{"sessionId":"{session}","tool":"bash","args":{{"b":1,"a":[1.5]}},"callId":"{call}","timestamp":1,"context":{SLACK}}}"#
        )
    }

    fn sign(unsigned: &str, secret: &str) -> Vec<u8> {
        let signature = mac::hmac_hex(secret.as_bytes(), &[unsigned.as_bytes()]);
        format!(r#"{},"signature":"{signature}"}}"#, &unsigned[..unsigned.len() - 1]).into_bytes()
    }

    fn taken(service: Service, kind: Kind, body: &[u8]) -> Result<Callback, u16> {
        read(service, kind, Some("secret"), body, NOW).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_signed_callback_is_taken_under_one_key() {
        let body = sign(&complete(SLACK), "secret");
        let got = taken(Service::SlackBot, Kind::Complete, &body).expect("it is signed");
        let (session, message) = ("01".repeat(16), "02".repeat(16));
        assert_eq!(
            (got.key, got.event.as_str()),
            (format!("callback:complete:{session}:{message}"), "callback.complete")
        );
        let got = taken(Service::SlackBot, Kind::ToolCall, &sign(&tool("c1"), "secret")).expect("it is signed");
        assert_eq!(got.key, format!("callback:tool_call:{session}:c1"));
        let long = taken(Service::SlackBot, Kind::ToolCall, &sign(&tool(&"x".repeat(400)), "secret"));
        assert_eq!(long.expect("it is signed").key.len(), 64);
        assert!(taken(Service::LinearBot, Kind::Complete, &sign(&complete(LINEAR), "secret")).is_ok());
    }

    #[test]
    fn a_forged_callback_is_refused() {
        let unsigned = complete(SLACK);
        let good = String::from_utf8(sign(&unsigned, "secret")).expect("text");
        let forged = [
            // Of another secret; changed after; signed and then moved; with no or a short signature.
            String::from_utf8(sign(&unsigned, "other")).expect("text"),
            good.replace("\"success\":true", "\"success\":false"),
            good.replace("\"channel\":\"C\"", "\"channel\":\"D\""),
            good.replace(&"02".repeat(16), &"03".repeat(16)),
            good.to_ascii_uppercase().replace("\"SIGNATURE\"", "\"signature\""),
            format!(r#"{},"signature":"{}"}}"#, &unsigned[..unsigned.len() - 1], "0".repeat(64)),
            format!(r#"{},"signature":""}}"#, &unsigned[..unsigned.len() - 1]),
            good.replace("\"}", "\" }"),
        ];
        for body in forged {
            let status = taken(Service::SlackBot, Kind::Complete, body.as_bytes()).expect_err(&body);
            assert!(matches!(status, 400 | 401), "{status} {body}");
        }
        assert_eq!(taken(Service::SlackBot, Kind::ToolCall, good.as_bytes()), Err(400), "one kind is no other");
        let refusal = read(Service::SlackBot, Kind::Complete, None, good.as_bytes(), NOW).expect_err("no secret");
        assert_eq!((refusal.status, refusal.sentence.as_ref()), (500, "not configured"));
        // The shape is looked at first.
        for bad in ["", "[]", "{}", r#"{"signature":"x"}"#] {
            assert_eq!(read(Service::SlackBot, Kind::Complete, None, bad.as_bytes(), NOW).expect_err(bad).status, 400);
        }
    }

    #[test]
    fn a_context_is_that_of_its_bot() {
        assert_eq!(taken(Service::LinearBot, Kind::Complete, &sign(&complete(SLACK), "secret")), Err(400));
        let partial = r#"{"source":"slack","channel":"C"}"#;
        assert_eq!(taken(Service::SlackBot, Kind::Complete, &sign(&complete(partial), "secret")), Err(400));
        let extra = LINEAR.replace('}', r#","unknown":1}"#);
        assert_eq!(taken(Service::LinearBot, Kind::Complete, &sign(&complete(&extra), "secret")), Err(400));
        assert_eq!(Kind::of_path("/callbacks/start", Service::SlackBot), None);
        assert_eq!(Kind::of_path("/callbacks/start", Service::LinearBot), Some(Kind::Start));
        assert_eq!(Kind::of_path("/callbacks/", Service::LinearBot), None);
    }

    #[test]
    fn a_start_is_good_for_five_minutes() {
        for (age, stale) in [(0, false), (300_000, false), (300_001, true), (-60_000, false), (-60_001, true)] {
            let body = sign(&start(NOW.0 - age), "secret");
            let got = taken(Service::LinearBot, Kind::Start, &body).expect("it is signed");
            assert_eq!(got.is_stale, stale, "{age}");
        }
        assert_eq!(taken(Service::LinearBot, Kind::Start, &sign(&start(1), "other")), Err(401), "forged is no stale");
    }
}
