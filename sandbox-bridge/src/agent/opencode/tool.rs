//! A tool part of OpenCode as a `ToolUpdate`: bounded, with exit code and changed lines.

use std::path::Path;

use oi_protocol::UnixMillis;
use oi_protocol::event::FileChange;
use oi_protocol::text::head_and_tail;
use serde_json::{Map, Value};

use super::wire::ToolState;
use crate::agent::ToolUpdate;

/// Longer output keeps head and tail.
pub const OUTPUT_MAX_BYTES: usize = oi_protocol::limits::TOOL_OUTPUT_INLINE_BYTES;
/// Longer strings within arguments keep head and tail.
const ARGUMENT_MAX_BYTES: usize = 16 * 1024;
/// Arguments that are larger even so are left out.
const ARGUMENTS_MAX_BYTES: usize = 256 * 1024;

/// Reads a file's text as it is now; for counting the lines that a `write` replaces.
pub type ReadFile = fn(&Path) -> Option<String>;

/// Reads a regular file of at most 1 MiB.
pub fn read_small_file(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > 1 << 20 {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

/// The update for a tool part, without what belongs to sub-agents.
pub fn update(tool: &str, call_id: &str, state: &ToolState, directory: &Path) -> ToolUpdate {
    let metadata = state.metadata.as_ref();
    let running_output = || metadata?.get("output")?.as_str().filter(|text| !text.is_empty());
    let output = state.output.as_deref().or_else(running_output);
    let cut = output.and_then(|output| head_and_tail(output, OUTPUT_MAX_BYTES));
    let agent_cut = metadata.and_then(|m| m.get("truncated")).and_then(Value::as_bool).unwrap_or(false);
    let ended = matches!(state.status.as_str(), "completed" | "error");
    let whole_output = cut.as_ref().filter(|_| ended).and(output).map(str::to_owned);
    let moment = |at: Option<f64>| at.map(|ms| UnixMillis(ms as i64));
    ToolUpdate {
        tool: tool.to_owned(),
        args: bounded_arguments(&state.input),
        call_id: call_id.to_owned(),
        status: state.status.clone(),
        truncated: cut.is_some() || agent_cut,
        whole_output,
        output: cut.or_else(|| output.map(str::to_owned)),
        error: state
            .error
            .as_deref()
            .map(|text| head_and_tail(text, OUTPUT_MAX_BYTES).unwrap_or_else(|| text.to_owned())),
        exit_code: metadata.and_then(|m| m.get("exit")).and_then(Value::as_i64).and_then(|code| code.try_into().ok()),
        started_at: moment(state.time.and_then(|time| time.start)),
        ended_at: moment(state.time.and_then(|time| time.end)),
        file_change: (state.status == "completed").then(|| file_change(tool, state, directory)).flatten(),
        ..ToolUpdate::default()
    }
}

pub fn bounded_arguments(input: &Map<String, Value>) -> Map<String, Value> {
    let mut arguments = input.clone();
    for value in arguments.values_mut() {
        cut_strings(value);
    }
    let size = serde_json::to_string(&arguments).map_or(usize::MAX, |text| text.len());
    if size > ARGUMENTS_MAX_BYTES {
        arguments.retain(|_, value| !value.is_array() && !value.is_object());
        arguments.insert("_leftOut".to_owned(), Value::String("Arguments over 256 KiB are not shown.".to_owned()));
    }
    arguments
}

fn cut_strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(cut) = head_and_tail(text, ARGUMENT_MAX_BYTES) {
                *text = cut;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(cut_strings),
        Value::Object(map) => map.values_mut().for_each(cut_strings),
        _ => {}
    }
}

fn file_change(tool: &str, state: &ToolState, directory: &Path) -> Option<FileChange> {
    let metadata = state.metadata.as_ref();
    let text = |key: &str| state.input.get(key).and_then(Value::as_str);
    match tool {
        "edit" => {
            let diff = metadata.and_then(|m| m.get("filediff"));
            let count = |key: &str| diff?.get(key)?.as_u64()?.try_into().ok();
            let (added, removed) = match (count("additions"), count("deletions")) {
                (Some(added), Some(removed)) => (added, removed),
                _ => changed_lines(text("oldString").unwrap_or_default(), text("newString").unwrap_or_default()),
            };
            let path = diff.and_then(|d| d.get("file")).and_then(Value::as_str).or_else(|| text("filePath"))?;
            Some(FileChange { path: relative(path, directory), added, removed })
        }
        "write" => {
            let path = metadata.and_then(|m| m.get("filepath")).and_then(Value::as_str).or_else(|| text("filePath"))?;
            let added = line_count(text("content")?);
            Some(FileChange { path: relative(path, directory), added, removed: 0 })
        }
        _ => None,
    }
}

/// Lines that a `write` adds and removes, given the file before it.
pub fn overwritten_lines(before: &str, state: &ToolState) -> Option<(u32, u32)> {
    Some(changed_lines(before, state.input.get("content").and_then(Value::as_str)?))
}

/// The file that a `write` is about to replace.
pub fn write_target(tool: &str, state: &ToolState, directory: &Path) -> Option<std::path::PathBuf> {
    let path = state.input.get("filePath").and_then(Value::as_str).filter(|_| tool == "write")?;
    Some(directory.join(path))
}

fn line_count(text: &str) -> u32 {
    text.lines().count() as u32
}

/// Lines added and removed, once the common beginning and end are set aside.
pub fn changed_lines(old: &str, new: &str) -> (u32, u32) {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let same_head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same_head;
    let same_tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let same = same_head + same_tail;
    ((new.len() - same) as u32, (old.len() - same) as u32)
}

pub fn relative(path: &str, directory: &Path) -> String {
    Path::new(path).strip_prefix(directory).map_or_else(|_| path.to_owned(), |rest| rest.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(value: Value) -> ToolState {
        serde_json::from_value(value).expect("a tool state")
    }

    #[test]
    fn changed_lines_ignore_what_stayed() {
        let cases = [
            ("", "a\nb\n", (2, 0)),
            ("a\nb\nc\n", "a\nx\ny\nc\n", (2, 1)),
            ("a\na\na\n", "a\na\n", (0, 1)),
            ("a\n", "a\n", (0, 0)),
            ("a\nb", "b\na", (2, 2)),
        ];
        for (old, new, expected) in cases {
            assert_eq!(changed_lines(old, new), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_command_keeps_exit_code_and_the_ends_of_its_output() {
        let long = format!("first{}last", "x".repeat(100_000));
        let state = state(json!({"status": "completed", "input": {"command": "c"}, "output": long.clone(),
            "metadata": {"exit": 3}, "time": {"start": 5, "end": 9}}));
        let update = update("bash", "call", &state, Path::new("/w"));
        let output = update.output.expect("has output");
        assert!(output.len() < OUTPUT_MAX_BYTES + 100 && output.starts_with("first") && output.ends_with("last"));
        assert_eq!((update.exit_code, update.truncated), (Some(3), true));
        assert_eq!(update.whole_output.as_deref(), Some(long.as_str()));
        assert_eq!((update.started_at, update.ended_at), (Some(UnixMillis(5)), Some(UnixMillis(9))));
    }

    #[test]
    fn an_edit_counts_lines_by_the_agents_own_diff() {
        let state = state(json!({"status": "completed", "input": {"filePath": "/w/r/a.txt"},
            "metadata": {"filediff": {"file": "/w/r/a.txt", "additions": 2, "deletions": 1}}}));
        let change = update("edit", "c", &state, Path::new("/w/r")).file_change.expect("an edit changes a file");
        assert_eq!((change.path.as_str(), change.added, change.removed), ("a.txt", 2, 1));
    }

    #[test]
    fn huge_arguments_never_make_a_huge_frame() {
        let many: Vec<String> = (0..2000).map(|_| "y".repeat(1000)).collect();
        let state = state(json!({"status": "running", "input": {"content": "z".repeat(1 << 20), "list": many}}));
        let args = update("x", "c", &state, Path::new("/")).args;
        assert!(serde_json::to_string(&args).expect("JSON").len() < ARGUMENTS_MAX_BYTES);
        assert!(args.contains_key("content") && args.contains_key("_leftOut"));
    }
}
