//! What a task made, said and did, as text for a model.

use serde_json::Value;

/// Longest line for one event.
const LINE_MAX_BYTES: usize = 400;

/// A list's items; what is no list has none.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text that says something.
pub fn word<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// How often each word is there, in the order in which they first come.
pub fn counted<'w>(words: impl Iterator<Item = &'w str>) -> Vec<(&'w str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts
}

/// What it made, a line each.
pub fn artifacts(artifacts: &Value) -> impl Iterator<Item = String> {
    let named = |artifact| (word(artifact, "type").unwrap_or("?"), word(artifact, "url").unwrap_or(""));
    items(artifacts).iter().map(named).map(|(kind, url)| format!("Artifact: {kind} {url}"))
}

/// Its last answer and the tools that it used for it.
pub fn response(response: &Value, unfinished: bool) -> Vec<String> {
    if response.is_null() {
        return vec!["\nIt has given no answer yet.".to_owned()];
    }
    let which = if unfinished { "Answer to an earlier prompt (another one is not done):" } else { "Its answer:" };
    let mut lines = vec![format!("\n{which}"), word(response, "textContent").unwrap_or("(no text)").to_owned()];
    lines.extend(word(response, "error").map(|error| format!("It failed: {error}")));
    let counts = counted(items(&response["toolCalls"]).iter().filter_map(|call| word(call, "tool")));
    if !counts.is_empty() {
        let tools: Vec<String> = counts.into_iter().map(|(tool, count)| format!("{tool} ({count})")).collect();
        lines.push(format!("Tools used: {}", tools.join(", ")));
    }
    lines
}

/// One line for an event: what it is, and its most telling words.
fn line(event: &Value) -> String {
    let data = event.get("data").unwrap_or(event);
    let telling = ["tool", "content", "text", "error", "message", "title", "status"];
    let words: Vec<&str> = telling.iter().filter_map(|key| word(data, key)).take(2).collect();
    let line = format!("- {}: {}", word(event, "type").unwrap_or("?"), words.join(" "));
    oi_protocol::text::truncate_bytes(&line.replace('\n', " "), LINE_MAX_BYTES).to_owned()
}

/// Its newest events.
pub fn recent(events: &Value) -> Vec<String> {
    let title = (!items(events).is_empty()).then(|| "\nNewest events:".to_owned());
    title.into_iter().chain(items(events).iter().map(line)).collect()
}

/// A page of all that it did.
pub fn page(page: &Value, with_data: bool) -> Vec<String> {
    let events = items(&page["events"]);
    let mut lines = vec![format!("\nTrajectory ({} events):", events.len())];
    lines.extend(events.iter().map(|event| if with_data { format!("- {event}") } else { line(event) }));
    if let Some(cursor) = word(page, "cursor").filter(|_| page["hasMore"] == true) {
        lines.push(format!("There is more: ask with trajectoryCursor \"{cursor}\"."));
    }
    lines
}
