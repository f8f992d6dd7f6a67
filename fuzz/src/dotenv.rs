//! What must hold of a pasted `.env` text: it is read within its bounds or refused with lines that it has, and what was
//! read is read again when it is written.

use oi_protocol::dotenv::{ASSIGNMENTS_MAX, Assignment, PROBLEMS_MAX, TEXT_MAX_BYTES, Wrong, parse};

/// A text.
pub fn dotenv(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let normal = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines = normal.split('\n').count();
    match parse(text) {
        Ok(assignments) => {
            assert!(assignments.len() <= ASSIGNMENTS_MAX);
            let ascending = assignments.windows(2).all(|pair| pair[0].line < pair[1].line);
            assert!(ascending && assignments.last().is_none_or(|last| last.line <= lines), "{text:?}");
            for assignment in &assignments {
                let name = &assignment.name;
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty(), "{name}");
                assert!(!name.as_bytes()[0].is_ascii_digit(), "{name}");
            }
            let written: String = assignments.iter().map(write).collect();
            // Escapes may make a text longer than what is read.
            if written.len() <= TEXT_MAX_BYTES {
                let again = parse(&written).expect("what is written is read");
                let pairs = |all: &[Assignment]| -> Vec<(String, String)> {
                    all.iter().map(|one| (one.name.clone(), one.value.clone())).collect()
                };
                assert_eq!(pairs(&again), pairs(&assignments));
            }
            assert_eq!(parse(&normal).map(|all| all.len()), Ok(assignments.len()), "line ends are all alike");
        }
        Err(problems) => {
            assert!((1..=PROBLEMS_MAX).contains(&problems.len()));
            for problem in problems {
                assert!((1..=lines).contains(&problem.line), "line {} of {lines}", problem.line);
                assert_eq!(problem.wrong == Wrong::TooLong, text.len() > TEXT_MAX_BYTES);
            }
        }
    }
}

/// An assignment as any value can be written.
pub fn write(assignment: &Assignment) -> String {
    let mut value = String::new();
    for c in assignment.value.chars() {
        match c {
            '\n' => value.push_str("\\n"),
            '\r' => value.push_str("\\r"),
            '\\' | '"' | '$' => value.extend(['\\', c]),
            c => value.push(c),
        }
    }
    format!("{}=\"{value}\"\n", assignment.name)
}
