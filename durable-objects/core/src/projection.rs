//! One total function from stored events to what a dialect is shown.

use std::borrow::Cow;

use oi_protocol::event::{Part, PartKind};
use serde::Serialize;
use serde_json::Value;

/// Which wire a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Open-Inspect's.
    One,
    /// Ours.
    Two,
}

impl Dialect {
    /// From the number that a peer asks for; anything but 2 is dialect 1.
    pub const fn granted(asked: Option<u32>) -> Self {
        match asked {
            Some(2) => Self::Two,
            _ => Self::One,
        }
    }
}

/// Keys of `tool_call` that dialect 1 does not know.
const TOOL_CALL_ADDITIONS: [&str; 7] =
    ["error", "exitCode", "startedAt", "endedAt", "truncated", "outputRef", "fileChange"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message_id: &'a str,
    content: &'a str,
    sandbox_id: &'a str,
    timestamp: f64,
}

/// `token` of dialect 1 with the whole text of a part.
pub(crate) fn token_json(message_id: &str, content: &str, sandbox_id: &str, timestamp: f64) -> String {
    let token = Token { kind: "token", message_id, content, sandbox_id, timestamp };
    serde_json::to_string(&token).unwrap_or_default()
}

fn without(body: &str, keys: &[&str]) -> Option<String> {
    let mut value: Value = serde_json::from_str(body).ok()?;
    let object = value.as_object_mut()?;
    for key in keys {
        object.remove(*key);
    }
    Some(value.to_string())
}

/// The body of a stored event as `dialect` is shown it; `None` when the dialect does not see it.
pub(crate) fn project<'a>(event_type: &str, body: &'a str, dialect: Dialect) -> Option<Cow<'a, str>> {
    match (dialect, event_type) {
        (Dialect::One, "boot_progress" | "input_request") => None,
        (Dialect::One, "part") => {
            let part: Part = serde_json::from_str(body).ok()?;
            (part.kind == PartKind::Text)
                .then(|| token_json(part.message_id.as_str(), &part.text, &part.sandbox_id, part.timestamp).into())
        }
        (Dialect::One, "tool_call") => without(body, &TOOL_CALL_ADDITIONS).map(Cow::Owned),
        (Dialect::One, "execution_complete") => without(body, &["outcome"]).map(Cow::Owned),
        (Dialect::One | Dialect::Two, _) => Some(Cow::Borrowed(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_one_sees_text_as_token_and_no_additions() {
        let id = "0".repeat(32);
        let part = format!(
            r#"{{"type":"part","messageId":"{id}","partId":"p","kind":"text","text":"hi","sandboxId":"s","timestamp":1.5}}"#
        );
        let token: Value =
            serde_json::from_str(&project("part", &part, Dialect::One).expect("text is shown")).expect("JSON");
        assert_eq!(
            token,
            serde_json::json!({"type":"token","messageId":id,"content":"hi","sandboxId":"s","timestamp":1.5})
        );
        let reasoning = part.replace("\"text\",\"text\"", "\"reasoning\",\"text\"");
        assert_eq!(project("part", &reasoning, Dialect::One), None);
        let call = r#"{"type":"tool_call","tool":"bash","exitCode":1,"startedAt":5,"args":{}}"#;
        let shown: Value =
            serde_json::from_str(&project("tool_call", call, Dialect::One).expect("shown")).expect("JSON");
        assert_eq!(shown, serde_json::json!({"type":"tool_call","tool":"bash","args":{}}));
        assert_eq!(project("boot_progress", "{}", Dialect::One), None);
    }

    /// Both forms of every stored type, as peers in the field know them; see `protocol/tests/golden.rs`.
    #[test]
    fn every_stored_type_keeps_its_form_in_both_dialects() {
        let golden = include_str!("../../../protocol/tests/golden/stored.jsonl");
        let mut seen = std::collections::BTreeSet::new();
        for line in golden.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let kind = line["stored"]["type"].as_str().expect("a type");
            seen.insert(crate::timeline::known_type(kind).expect("a type that is stored"));
            let body = line["stored"].to_string();
            let event = serde_json::from_str(&body).expect("an event");
            assert_eq!(crate::timeline::type_of(&event), kind);
            let shown = |dialect| {
                project(kind, &body, dialect).map_or(Value::Null, |text| serde_json::from_str(&text).expect("JSON"))
            };
            assert_eq!(shown(Dialect::One), line["one"], "{body}");
            assert_eq!(shown(Dialect::Two), line["stored"]);
        }
        assert_eq!(seen, crate::timeline::TYPES.into_iter().collect(), "every stored type has a golden form");
    }
}
