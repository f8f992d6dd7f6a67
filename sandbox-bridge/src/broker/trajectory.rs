//! What a task made, said and did, as text for a model.

use serde_json::Value;

/// Longest line for one event.
const LINE_MAX_BYTES: usize = 400;

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What it made.
pub fn append_artifacts(text: &mut String, artifacts: &Value) {
    for artifact in items(artifacts) {
        *text +=
            &format!("Artifact: {} {}\n", word(artifact, "type").unwrap_or("?"), word(artifact, "url").unwrap_or(""));
    }
}

/// Its last answer and the tools that it used for it.
pub fn append_response(text: &mut String, response: &Value, unfinished: bool) {
    if response.is_null() {
        *text += "\nIt has given no answer yet.\n";
        return;
    }
    *text += if unfinished { "\nAnswer to an earlier prompt (another one is not done):\n" } else { "\nIts answer:\n" };
    *text += word(response, "textContent").unwrap_or("(no text)");
    text.push('\n');
    if let Some(error) = word(response, "error") {
        *text += &format!("It failed: {error}\n");
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for tool in items(&response["toolCalls"]).iter().filter_map(|call| word(call, "tool")) {
        match counts.iter_mut().find(|(known, _)| *known == tool) {
            Some((_, count)) => *count += 1,
            None => counts.push((tool, 1)),
        }
    }
    if !counts.is_empty() {
        let tools: Vec<String> = counts.into_iter().map(|(tool, count)| format!("{tool} ({count})")).collect();
        *text += &format!("Tools used: {}\n", tools.join(", "));
    }
}

/// One line for an event: what it is, and its most telling word.
fn line(event: &Value) -> String {
    let data = event.get("data").unwrap_or(event);
    let telling = ["tool", "content", "text", "error", "message", "title", "status"];
    let words: Vec<&str> = telling.iter().filter_map(|key| word(data, key)).take(2).collect();
    let line = format!("{}: {}", word(event, "type").unwrap_or("?"), words.join(" "));
    oi_protocol::text::truncate_bytes(&line.replace('\n', " "), LINE_MAX_BYTES).to_owned()
}

/// Its newest events.
pub fn append_recent(text: &mut String, events: &Value) {
    if !items(events).is_empty() {
        *text += "\nNewest events:\n";
    }
    for event in items(events) {
        *text += &format!("- {}\n", line(event));
    }
}

/// A page of all that it did.
pub fn append_page(text: &mut String, page: &Value, with_data: bool) {
    *text += &format!("\nTrajectory ({} events):\n", items(&page["events"]).len());
    for event in items(&page["events"]) {
        if with_data { *text += &format!("- {event}\n") } else { *text += &format!("- {}\n", line(event)) }
    }
    if let Some(cursor) = word(page, "cursor").filter(|_| page["hasMore"] == true) {
        *text += &format!("There is more: ask with trajectoryCursor \"{cursor}\".\n");
    }
}
