//! Tool calls: one row each, replaced as the call proceeds, at the place where it was first seen.

use oi_protocol::event::{Event, ToolCall};
use oi_protocol::limits;
use oi_protocol::text::head_and_tail;
use serde_json::Value;

use crate::core::Turn;
use crate::sandbox_events::{SENTENCE_MAX_BYTES, Verdict, cut_sentence};
use crate::sql::SqlError;
use crate::timeline::body_of;

/// Names that the agent gives to its calls are at most this long.
const NAME_MAX_BYTES: usize = 512;
/// A stored event of a sandbox is at most this large, so that every page holds at least one.
const EVENT_MAX_BYTES: usize = 448 * 1024;

/// JSON writes a character as at most this many times its bytes.
const ESCAPED: usize = 6;

/// About how many bytes a JSON value has, without writing it.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| weight(item) + 1).sum(),
        Value::Object(members) => members.iter().map(|(key, member)| key.len() + weight(member) + 4).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 24,
    }
}

/// Cuts a tool call to what a page can hold: the output first, then the arguments.
fn cut(call: &mut ToolCall) -> Result<(), SqlError> {
    let args: usize = call.args.iter().map(|(key, value)| key.len() + weight(value) + 4).sum();
    let texts = call.output.as_ref().map_or(0, String::len) + call.error.as_ref().map_or(0, String::len);
    if (args + texts) * ESCAPED < EVENT_MAX_BYTES {
        return Ok(());
    }
    for most in [limits::TOOL_OUTPUT_MAX_BYTES, SENTENCE_MAX_BYTES] {
        if let Some(cut) = call.output.as_deref().and_then(|output| head_and_tail(output, most)) {
            call.output = Some(cut);
            call.truncated = Some(true);
        }
        if body_of(&Event::ToolCall(call.clone()))?.len() <= EVENT_MAX_BYTES {
            return Ok(());
        }
    }
    call.args.clear();
    call.error = call.error.take().map(|error| cut_sentence(&error));
    call.truncated = Some(true);
    Ok(())
}

/// The id of a call's row: what comes under the same one is the same call.
pub(crate) fn event_id(call: &ToolCall) -> String {
    let scope = if call.is_subtask == Some(true) {
        call.child_session_id.as_deref().or(call.task_call_id.as_deref()).unwrap_or("unassociated-subtask")
    } else {
        "parent"
    };
    format!("tool_call:{}", serde_json::json!([call.message_id, scope, call.call_id]))
}

impl Turn<'_, '_> {
    pub(crate) fn tool_call(&mut self, mut call: ToolCall) -> Result<Verdict, SqlError> {
        let names = [Some(&call.call_id), call.child_session_id.as_ref(), call.task_call_id.as_ref(), Some(&call.tool)];
        if names.into_iter().flatten().any(|name| name.len() > NAME_MAX_BYTES) {
            return Ok(Verdict::Never("MALFORMED_EVENT"));
        }
        self.touch_activity();
        self.check_output_ref(&mut call)?;
        cut(&mut call)?;
        let (event_id, message_id) = (event_id(&call), call.message_id.clone());
        self.tell_bot_of_tool(&call)?;
        self.put_call(event_id, message_id.as_str(), &Event::ToolCall(call))?;
        Ok(Verdict::Taken)
    }
}
