//! `docs/CONFORMANCE.md` names tests that exist, and leaves no code, weakness or race out.

use std::fs;
use std::path::{Path, PathBuf};

use oi_protocol::ErrorCode;
use oi_protocol::client_socket::close;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table() -> String {
    fs::read_to_string(root().join("docs/CONFORMANCE.md")).expect("the table is there")
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
    root().join(path)
}

#[test]
fn every_test_that_the_table_names_exists() {
    let table = table();
    let named: Vec<(&str, &str)> =
        table.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once("::")).collect();
    assert!(named.len() > 100, "the table names {} tests", named.len());
    let missing: Vec<String> = named
        .into_iter()
        .filter(|(file, test)| {
            *test != "test" && {
                let path = file_of(file);
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                !text.contains(&format!("fn {test}("))
            }
        })
        .map(|(file, test)| format!("{file}::{test}"))
        .collect();
    assert!(missing.is_empty(), "these are gone: {missing:#?}");
}

#[test]
fn no_code_weakness_or_race_is_left_out() {
    let table = table();
    let has_row = |cell: &str| table.lines().any(|line| line.starts_with("| ") && line.contains(cell));
    let codes = [
        ErrorCode::InvalidMessage,
        ErrorCode::InvalidPrompt,
        ErrorCode::InvalidAttachments,
        ErrorCode::SessionNotPromptable,
        ErrorCode::PromptQueueFull,
        ErrorCode::PromptRequestConflict,
        ErrorCode::PromptNotCancellable,
        ErrorCode::PromptNotWaiting,
        ErrorCode::InputNotWaiting,
        ErrorCode::BudgetExceeded,
        ErrorCode::InvalidCursor,
        ErrorCode::RateLimited,
        ErrorCode::Forbidden,
        ErrorCode::InvalidBody,
        ErrorCode::InvalidParameter,
        ErrorCode::Unauthorized,
        ErrorCode::NotFound,
        ErrorCode::Conflict,
        ErrorCode::TooLarge,
        ErrorCode::MethodNotAllowed,
        ErrorCode::SandboxGone,
        ErrorCode::UpstreamFailed,
        ErrorCode::Retry,
        ErrorCode::NotConfigured,
        ErrorCode::NotImplemented,
        ErrorCode::Internal,
    ];
    for code in codes {
        let word = serde_json::to_value(code).expect("a word");
        let word = word.as_str().expect("a word");
        assert!(has_row(&format!("`{word}`")), "{word} is left out");
    }
    for code in [
        close::NORMAL,
        close::INTERNAL,
        close::UNAUTHENTICATED,
        close::EXPIRED,
        close::ALREADY_SUBSCRIBED,
        close::AUTH_TIMEOUT,
        close::SYNC_FAILED,
    ] {
        assert!(has_row(&format!("| {code} |")), "close code {code} is left out");
    }
    for number in 1..=36 {
        assert!(has_row(&format!("| W-{number} |")), "W-{number} is left out");
    }
    for number in 1..=14 {
        assert!(has_row(&format!("| Race {number} |")), "race {number} is left out");
    }
}
