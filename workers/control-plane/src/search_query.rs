//! What a person types into search, as a query of FTS5 that means what it says: words, "phrases", the beginning of a
//! word with `*`, and words that must not be there with `-`. Whatever is typed, it never becomes an operator.

use std::fmt::Write;

use oi_protocol::limits::SEARCH_QUERY_MAX_UTF16;
use oi_protocol::text::utf16_len;
use oi_worker_kit::Refusal;

/// Words and phrases of one query, at most.
const TERMS_MAX: usize = 16;
/// Columns that people's words are looked for in.
const COLUMNS: &str = "{title prompt answer paths}";

/// A word, a phrase, or the beginning of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    text: String,
    is_prefix: bool,
}

impl Term {
    /// In quotes nothing is an operator, and a quote is the one character that has a meaning.
    fn written(&self) -> String {
        format!("\"{}\"{}", self.text.replace('"', "\"\""), if self.is_prefix { " *" } else { "" })
    }
}

/// A parsed query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    wanted: Vec<Term>,
    unwanted: Vec<Term>,
}

/// Whether the index has a word in it. One without would fit nothing, and with it the whole query.
fn has_a_word(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

impl SearchQuery {
    /// Reads what was typed. The last word may still be on its way, so it stands for all that begin so.
    pub fn parse(typed: &str) -> Result<Self, Refusal> {
        if utf16_len(typed) > SEARCH_QUERY_MAX_UTF16 {
            let sentence = format!("q must be {SEARCH_QUERY_MAX_UTF16} characters or fewer");
            return Err(Refusal::invalid_parameter(sentence));
        }
        // A text with NUL would end there for SQLite.
        let typed: String = typed.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut query = Self { wanted: Vec::new(), unwanted: Vec::new() };
        let mut rest = typed.trim();
        while !rest.is_empty() {
            let is_unwanted = rest.starts_with('-');
            let begun = rest.trim_start_matches('-');
            let (text, after, mut is_prefix) = if let Some(phrase) = begun.strip_prefix('"') {
                // A phrase that is not closed yet goes to the end.
                let (text, after) = phrase.split_once('"').unwrap_or((phrase, ""));
                (text, after, false)
            } else {
                let end = begun.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(begun.len());
                let (word, after) = begun.split_at(end);
                (word, after, word.ends_with('*') || after.is_empty())
            };
            is_prefix = is_prefix && !is_unwanted;
            let term = Term { text: text.trim_matches('*').trim().to_owned(), is_prefix };
            if has_a_word(&term.text) {
                let terms = if is_unwanted { &mut query.unwanted } else { &mut query.wanted };
                terms.push(term);
            }
            rest = after.trim_start();
        }
        if query.wanted.is_empty() {
            return Err(Refusal::invalid_parameter("q must have a word to search for"));
        }
        if query.wanted.len() + query.unwanted.len() > TERMS_MAX {
            return Err(Refusal::invalid_parameter(format!("q may have {TERMS_MAX} words at most")));
        }
        Ok(query)
    }

    /// The query for FTS5, within documents that have every one of `facets`, which are words of ours.
    pub fn matching(&self, facets: &[String]) -> String {
        let all = |terms: &[Term], between: &str| terms.iter().map(Term::written).collect::<Vec<_>>().join(between);
        let mut written = format!("({COLUMNS} : ({}))", all(&self.wanted, " AND "));
        for facet in facets {
            let _ = write!(written, " AND (facets : \"{facet}\")");
        }
        if !self.unwanted.is_empty() {
            written = format!("({written}) NOT ({COLUMNS} : ({}))", all(&self.unwanted, " OR "));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;

    fn written(typed: &str) -> String {
        SearchQuery::parse(typed).expect("a query").matching(&[])
    }

    #[test]
    fn words_phrases_beginnings_and_exclusions_are_read() {
        for (typed, expected) in [
            ("login", "({title prompt answer paths} : (\"login\" *))"),
            ("fix login ", "({title prompt answer paths} : (\"fix\" AND \"login\" *))"),
            ("\"fix login\" now", "({title prompt answer paths} : (\"fix login\" AND \"now\" *))"),
            ("\"fix login\"", "({title prompt answer paths} : (\"fix login\"))"),
            ("auth* flow", "({title prompt answer paths} : (\"auth\" * AND \"flow\" *))"),
            (
                "login -draft",
                "(({title prompt answer paths} : (\"login\"))) NOT ({title prompt answer paths} : (\"draft\"))",
            ),
            ("\"open", "({title prompt answer paths} : (\"open\"))"),
            ("a AND b", "({title prompt answer paths} : (\"a\" AND \"AND\" AND \"b\" *))"),
            ("src/main.rs", "({title prompt answer paths} : (\"src/main.rs\" *))"),
            ("— fix", "({title prompt answer paths} : (\"fix\" *))"),
        ] {
            assert_eq!(written(typed), expected, "{typed}");
        }
        let within = SearchQuery::parse("a").expect("a query").matching(&["rab12".to_owned()]);
        assert_eq!(within, "({title prompt answer paths} : (\"a\" *)) AND (facets : \"rab12\")");
    }

    #[test]
    fn a_query_without_a_word_or_with_too_many_is_refused() {
        let many = "word ".repeat(17);
        let long = "x".repeat(257);
        for bad in ["", " ", "*", "\"\"", "-", "-x", "—", "\0", many.as_str(), long.as_str()] {
            assert_eq!(SearchQuery::parse(bad).map_err(|refusal| refusal.status), Err(400), "{bad:?}");
        }
    }

    /// A table as the index has it, with one text in each column.
    fn table() -> Connection {
        let connection = Connection::open_in_memory().expect("SQLite opens");
        connection
            .execute_batch(
                "CREATE VIRTUAL TABLE search_text USING fts5 (title, prompt, answer, paths, facets,
                    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3');
                 INSERT INTO search_text VALUES ('fix the login', 'please AND now', 'done OR not', 'src/main.rs', 'rff');",
            )
            .expect("a table");
        connection
    }

    fn found(connection: &Connection, query: &str) -> Result<i64, rusqlite::Error> {
        connection.query_row("SELECT COUNT(*) FROM search_text WHERE search_text MATCH ?", [query], |row| row.get(0))
    }

    #[test]
    fn operators_columns_and_facets_cannot_be_typed() {
        let table = table();
        for (typed, count) in [
            ("login", 1),
            ("Login fix", 1),
            ("mai", 1),
            ("src/main.rs", 1),
            ("\"the login\"", 1),
            ("login -please", 0),
            ("login OR absent", 0),
            ("title:login", 0),
            ("NEAR(fix login)", 0),
            ("facets : rff", 0),
            ("rff", 0),
            ("please AND now", 1),
        ] {
            assert_eq!(found(&table, &written(typed)), Ok(count), "{typed}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_typed_is_a_query_or_refused(typed in "[\\PC\"*:(){}^+\\-\\s\0]{0,60}") {
            if let Ok(query) = SearchQuery::parse(&typed) {
                let table = table();
                let text = query.matching(&["rff".to_owned()]);
                prop_assert!(found(&table, &text).is_ok(), "{text}: {:?}", found(&table, &text));
            }
        }

        #[test]
        fn words_of_a_text_find_it(words in proptest::collection::vec("[a-z0-9äéß]{1,12}", 1..8)) {
            let table = table();
            table.execute("INSERT INTO search_text (prompt) VALUES (?)", [words.join(" ")]).expect("a text");
            let typed = words.join(" ");
            prop_assert_eq!(found(&table, &written(&typed)).map(|count| count >= 1), Ok(true));
        }
    }
}
