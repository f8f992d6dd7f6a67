//! Laws of `.env` texts.

use oi_protocol::dotenv::{Assignment, parse};
use proptest::prelude::*;

#[path = "../../fuzz/src/dotenv.rs"]
mod dotenv;

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z_][A-Za-z0-9_]{0,12}"
}

/// Texts that are likely to be taken for something else.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\\\\"'#$ =\r\nnrt\tA-C]{0,24}",
        "-----BEGIN KEY-----\n[A-Za-z0-9+/=]{0,64}\n-----END KEY-----\n"
    ]
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let assignments = parse(text).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}"));
    assignments.into_iter().map(|one| (one.name, one.value)).collect()
}

fn in_single_quotes(value: &str) -> bool {
    !value.contains(['\'', '\r'])
}

fn bare(value: &str) -> bool {
    let trimmed = value.trim() == value && !value.contains(['\n', '\r']) && !value.starts_with(['"', '\'']);
    let characters: Vec<char> = value.chars().collect();
    trimmed && !characters.windows(2).any(|pair| pair[0].is_whitespace() && pair[1] == '#')
}

proptest! {
    #[test]
    fn any_values_that_are_written_are_read(written in prop::collection::vec((name(), value()), 0..12)) {
        let text: String = written
            .iter()
            .map(|(name, value)| dotenv::write(&Assignment { name: name.clone(), value: value.clone(), line: 0 }))
            .collect();
        prop_assert_eq!(pairs(&text), written);
    }

    #[test]
    fn a_value_is_the_same_in_each_form_that_can_hold_it(name in name(), value in value(), export in any::<bool>()) {
        let before = if export { "export " } else { "" };
        if in_single_quotes(&value) {
            prop_assert_eq!(pairs(&format!("{before}{name}='{value}' # why")), [(name.clone(), value.clone())]);
        }
        if bare(&value) {
            prop_assert_eq!(pairs(&format!("{before}{name}={value}\n# why")), [(name.clone(), value.clone())]);
        }
    }

    #[test]
    fn texts_that_are_read_are_read_the_same_one_after_another(
        first in prop::collection::vec((name(), value()), 0..4),
        second in prop::collection::vec((name(), value()), 0..4),
    ) {
        let write = |all: &[(String, String)]| -> String {
            let quotable = all.iter().filter(|(_, value)| in_single_quotes(value));
            quotable.flat_map(|(name, value)| [name, "='", value, "'\n"]).collect()
        };
        let (one, two) = (write(&first), write(&second));
        let apart = [pairs(&one), pairs(&two)].concat();
        prop_assert_eq!(pairs(&format!("{one}\n# between\n{two}")), apart);
    }

    #[test]
    fn a_bad_line_is_found_where_it_is(before in prop::collection::vec((name(), value()), 0..6), after in name()) {
        let good: String = before
            .iter()
            .map(|(name, value)| dotenv::write(&Assignment { name: name.clone(), value: value.clone(), line: 0 }))
            .collect();
        let problems = parse(&format!("{good}no assignment\n{after}=1\n")).expect_err("a bad line");
        prop_assert_eq!(problems.len(), 1);
        prop_assert_eq!(problems[0].line, before.len() + 1);
    }

    #[test]
    fn whatever_the_bytes_the_properties_of_the_fuzz_target_hold(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[A-C=\"'#\\\\\n\r export]{0,60}") {
        dotenv::dotenv(&bytes);
        dotenv::dotenv(text.as_bytes());
    }
}
