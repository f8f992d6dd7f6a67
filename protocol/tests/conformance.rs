//! `docs/CONFORMANCE.md` names tests that exist, and leaves nothing of the wire out.

use std::fs;
use std::path::{Path, PathBuf};

use oi_protocol::ErrorCode;
use serde_json::Value;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table() -> String {
    read("docs/CONFORMANCE.md")
}

/// The rows under a heading, each as its first cell and the rest.
fn rows<'a>(table: &'a str, heading: &str) -> Vec<(&'a str, &'a str)> {
    let (_, section) = table.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    rows.skip(1).collect()
}

fn assert_rows<'a>(table: &str, heading: &str, words: impl IntoIterator<Item = &'a str>) {
    let rows = rows(table, heading);
    let left_out: Vec<&str> =
        words.into_iter().filter(|word| !rows.iter().any(|(cell, _)| cell.contains(&format!("`{word}`")))).collect();
    assert!(left_out.is_empty(), "`{heading}` leaves out {left_out:?}");
}

/// The file of a name such as `session/prompts`.
fn file_of(name: &str) -> PathBuf {
    let path = match name.split_once('/') {
        _ if Path::new(name).extension().is_some_and(|extension| extension == "rs") => name.to_owned(),
        Some((folder @ ("session" | "simulator"), module)) => {
            format!("durable-objects/core/tests/{folder}/{module}.rs")
        }
        Some(("e2e", module)) => format!("e2e/tests/e2e/{module}.rs"),
        _ => panic!("{name} is not of a known folder"),
    };
    PathBuf::from(path)
}

/// Whether the file has this test and it runs: by its attribute, or by the list of `e2e`.
fn is_test(file: &str, test: &str) -> bool {
    let text = read(file_of(file));
    if let Some(module) = file.strip_prefix("e2e/") {
        let listed = read("e2e/tests/e2e/main.rs").contains(&format!("{module}::{test},"));
        return listed && text.contains(&format!("pub async fn {test}("));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let begins = [format!("fn {test}("), format!("async fn {test}(")];
    let Some(at) = lines.iter().position(|line| begins.iter().any(|begin| line.starts_with(begin))) else {
        return false;
    };
    let mut attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    attributes.any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
}

#[test]
fn every_test_that_the_table_names_exists() {
    let table = table();
    let named: Vec<(&str, &str)> =
        table.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once("::")).collect();
    assert!(named.len() > 100, "the table names {} tests", named.len());
    let missing: Vec<_> =
        named.into_iter().filter(|named| *named != ("file", "test") && !is_test(named.0, named.1)).collect();
    assert!(missing.is_empty(), "these are gone, or are no tests: {missing:#?}");
}

#[test]
fn every_row_names_a_test_or_says_not_yet() {
    let table = table();
    let empty: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.ends_with("| Shown by |"))
        .filter(|line| !line.contains("::") && !line.contains("not yet"))
        .collect();
    assert!(empty.is_empty(), "{empty:#?}");
}

/// `golden.rs` sees to it that its files have every type.
#[test]
fn no_message_event_or_command_is_left_out() {
    let table = table();
    for (heading, file, key) in [
        ("Messages of a client", "client", None),
        ("Messages to a client", "server", None),
        ("Events of a bridge", "bridge", Some("frame")),
        ("Stored events", "stored", Some("stored")),
        ("Commands to a bridge", "command", None),
    ] {
        let golden = read(format!("protocol/tests/golden/{file}.jsonl"));
        let frames: Vec<Value> = golden.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let frames = frames.iter().map(|line| key.map_or(line, |key| &line[key]));
        assert_rows(&table, heading, frames.map(|frame| frame["type"].as_str().expect("a type")));
    }
}

macro_rules! every_code {
    ($($variant:ident)+) => {{
        // Does not compile when a code is added that is not in the list.
        const fn listed(code: ErrorCode) -> ErrorCode {
            match code { $(ErrorCode::$variant => code,)+ }
        }
        [$(listed(ErrorCode::$variant)),+]
    }};
}

#[test]
fn no_error_code_is_left_out() {
    let codes = every_code![
        InvalidMessage InvalidPrompt InvalidAttachments SessionNotPromptable PromptQueueFull PromptRequestConflict
        PromptNotCancellable PromptNotWaiting InputNotWaiting BudgetExceeded InvalidCursor RateLimited Forbidden
        InvalidBody InvalidParameter Unauthorized NotFound Conflict TooLarge MethodNotAllowed SandboxGone
        UpstreamFailed Retry NotConfigured NotImplemented Internal DiffRevisionStale DiffFileNotFound
    ];
    let words: Vec<Value> = codes.iter().map(|code| serde_json::to_value(code).expect("a word")).collect();
    assert_rows(&table(), "Error codes", words.iter().map(|word| word.as_str().expect("a word")));
}

#[test]
fn no_call_close_code_or_limit_is_left_out() {
    let table = table();
    let core = read("durable-objects/core/src/call.rs");
    let (_, calls) = core.split_once("pub enum SessionCall {\n").expect("the calls");
    let (calls, _) = calls.split_once("\n}\n").expect("their end");
    let calls: Vec<&str> = calls
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split([' ', ',', '(']).next())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase()))
        .collect();
    assert!(calls.len() > 25, "{calls:?}");
    assert_rows(&table, "Section 6: calls", calls);

    let limits = read("protocol/src/limits.rs");
    let limits: Vec<&str> =
        limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    assert!(limits.len() > 15, "{limits:?}");
    assert_rows(&table, "Limits", limits);

    let socket = read("protocol/src/client_socket.rs");
    let (_, closes) = socket.split_once("pub mod close {\n").expect("the close codes");
    let (closes, _) = closes.split_once("\n}\n").expect("their end");
    let closes: Vec<&str> = closes
        .lines()
        .filter_map(|line| line.strip_prefix("    pub const ")?.split_once(" = ")?.1.strip_suffix(';'))
        .collect();
    assert!(closes.len() > 5, "{closes:?}");
    let rows = rows(&table, "Close codes");
    for code in closes {
        assert!(rows.iter().any(|(cell, _)| *cell == code), "close code {code} is left out");
    }
}

#[test]
fn no_invariant_weakness_or_race_is_left_out() {
    let table = table();
    for (heading, prefix, count) in
        [("Invariants (10.1)", "", 25), ("Weaknesses done better (10.2)", "W-", 36), ("Races (10.3)", "Race ", 14)]
    {
        let rows: Vec<String> = rows(&table, heading).into_iter().map(|(cell, _)| cell.to_owned()).collect();
        let expected: Vec<String> = (1..=count).map(|number| format!("{prefix}{number}")).collect();
        assert_eq!(rows, expected, "{heading}");
    }
}
