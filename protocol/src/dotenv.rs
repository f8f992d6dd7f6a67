//! `.env` files, as people paste them.
//!
//! One assignment a line, `NAME=value`, `export ` before it or not; blank lines and lines that begin with `#` say nothing.
//! * A bare value ends with its line, or before a `#` that follows a blank. It is trimmed, and nothing in it is special.
//! * In single quotes all characters stand for themselves, line ends too.
//! * In double quotes so do all but `\n`, `\r`, `\t`, `\\`, `\"` and `\$`; a backslash before anything else stays.
//! * After a closing quote only blanks and a comment may follow.
//! * No value refers to another: `$NAME` is text.
//!
//! Line ends may be LF, CRLF or CR and are LF in values. A text with any line that is none of this is refused whole.

use std::fmt;

/// Longest text, in bytes.
pub const TEXT_MAX_BYTES: usize = 256 * 1024;
/// Most assignments of a text.
pub const ASSIGNMENTS_MAX: usize = 1_000;
/// Problems that are told of a text.
pub const PROBLEMS_MAX: usize = 10;

/// A line that assigns a value.
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    /// As it stands there.
    pub name: String,
    /// Without its quotes.
    pub value: String,
    /// Where it begins, from 1.
    pub line: usize,
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment").field("name", &self.name).field("line", &self.line).finish_non_exhaustive()
    }
}

/// What is wrong with a line. None of the texts holds what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// No `=`.
    #[error("there is no `=` after a name")]
    NoAssignment,
    /// What is before the `=` cannot be a name.
    #[error("a name has letters, digits and `_` only, and begins with no digit")]
    Name,
    /// A quote that does not end.
    #[error("the quote that begins here does not end")]
    OpenQuote,
    /// Text behind a closing quote.
    #[error("only a comment may follow the closing quote")]
    AfterQuote,
    /// One more assignment than fits.
    #[error("there are more than {ASSIGNMENTS_MAX} assignments")]
    TooMany,
    /// The text as a whole.
    #[error("the text is longer than {TEXT_MAX_BYTES} bytes")]
    TooLong,
}

/// A line that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct Problem {
    /// Where, from 1.
    pub line: usize,
    /// What.
    pub wrong: Wrong,
}

/// The assignments of a text in their order, or the first problems of one that has any.
pub fn parse(text: &str) -> Result<Vec<Assignment>, Vec<Problem>> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(vec![Problem { line: 1, wrong: Wrong::TooLong }]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader { rest: &text, line: 1 };
    let (mut assignments, mut problems) = (Vec::new(), Vec::new());
    while !reader.rest.is_empty() && problems.len() < PROBLEMS_MAX {
        let line = reader.line;
        match reader.assignment() {
            Ok(None) => {}
            Ok(Some(_)) if assignments.len() == ASSIGNMENTS_MAX => {
                problems.push(Problem { line, wrong: Wrong::TooMany });
                break;
            }
            Ok(Some((name, value))) => assignments.push(Assignment { name, value, line }),
            Err(wrong) => problems.push(Problem { line, wrong }),
        }
    }
    if problems.is_empty() { Ok(assignments) } else { Err(problems) }
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl<'t> Reader<'t> {
    /// The rest of this line, which is left behind.
    fn take_line(&mut self) -> &'t str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line
    }

    fn assignment(&mut self) -> Result<Option<(String, String)>, Wrong> {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.take_line();
            return Ok(None);
        }
        let Some((before, after)) = line.split_once('=') else {
            self.take_line();
            return Err(Wrong::NoAssignment);
        };
        let name = before.trim();
        let name = name.strip_prefix("export").filter(|rest| rest.starts_with(is_blank)).map_or(name, str::trim_start);
        if !is_name(name) {
            self.take_line();
            return Err(Wrong::Name);
        }
        let blanks = after.len() - after.trim_start_matches(is_blank).len();
        let value = if let Some(quote @ ('"' | '\'')) = after[blanks..].chars().next() {
            self.quoted(quote, before.len() + 1 + blanks + 1)?
        } else {
            self.take_line();
            bare(after).to_owned()
        };
        Ok(Some((name.to_owned(), value)))
    }

    /// A value whose opening quote ends `skipped` bytes from here.
    fn quoted(&mut self, quote: char, skipped: usize) -> Result<String, Wrong> {
        let body = &self.rest[skipped..];
        let (mut value, mut characters) = (String::new(), body.char_indices());
        while let Some((at, c)) = characters.next() {
            if c == quote {
                let lines = body[..at].matches('\n').count();
                self.rest = &body[at + 1..];
                self.line += lines;
                let tail = self.take_line();
                let comment = tail.trim_start();
                let clean = comment.is_empty() || (comment.starts_with('#') && tail.len() > comment.len());
                return if clean { Ok(value) } else { Err(Wrong::AfterQuote) };
            }
            if c != '\\' || quote == '\'' {
                value.push(c);
                continue;
            }
            // What stays of a backslash before anything else is both.
            let escaped = match body[at + 1..].chars().next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(kept @ ('\\' | '"' | '$')) => kept,
                _ => {
                    value.push('\\');
                    continue;
                }
            };
            value.push(escaped);
            characters.next();
        }
        // The lines below it are not looked at: whether they are in the quote nobody knows.
        self.rest = "";
        Err(Wrong::OpenQuote)
    }
}

/// A value without quotes, from behind its `=`.
fn bare(after: &str) -> &str {
    let mut blank_before = false;
    let end = after.find(|c: char| {
        let comment = c == '#' && blank_before;
        blank_before = c.is_whitespace();
        comment
    });
    after[..end.unwrap_or(after.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let assignments = parse(text).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}"));
        assignments.into_iter().map(|assignment| (assignment.name, assignment.value)).collect()
    }

    #[test]
    fn each_form_of_a_line_is_read() {
        for (text, expected) in [
            ("A=1", "1"),
            ("A=", ""),
            ("  A = 1  ", "1"),
            ("export A=1", "1"),
            ("export\tA=1", "1"),
            ("A=a b", "a b"),
            ("A=a # why", "a"),
            ("A=a\t# why", "a"),
            ("A= # why", ""),
            ("A=#f00", "#f00"),
            ("A=a#b", "a#b"),
            ("A=p@ss\\n$HOME'\"", "p@ss\\n$HOME'\""),
            ("A=x=y==", "x=y=="),
            ("A=''", ""),
            ("A=\"\"", ""),
            ("A='a # b'", "a # b"),
            ("A=\"a # b\" # why", "a # b"),
            ("A='a' \t", "a"),
            ("A= 'a'", "a"),
            ("A='$B \\n \"'", "$B \\n \""),
            (r#"A="\n\r\t\\\"\$""#, "\n\r\t\\\"$"),
            (r#"A="C:\dir \'x\'""#, r"C:\dir \'x\'"),
            (r#"A="ends with a backslash\\""#, r"ends with a backslash\"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A=\"one\r\ntwo\r\"", "one\ntwo\n"),
            (
                "A=\"-----BEGIN KEY-----\nMIIB=\n#not a comment\n-----END KEY-----\"",
                "-----BEGIN KEY-----\nMIIB=\n#not a comment\n-----END KEY-----",
            ),
            ("A=ä😀", "ä😀"),
            ("\u{feff}A=1", "1"),
        ] {
            assert_eq!(pairs(text), [("A".to_owned(), expected.to_owned())], "{text:?}");
        }
    }

    #[test]
    fn lines_that_say_nothing_are_passed_over_and_the_order_is_kept() {
        let text = "# a comment\r\n\r\n  # another\n\tB=2\rA=1\n\nexport=3\nB=4\n";
        let expected = [("B", "2"), ("A", "1"), ("export", "3"), ("B", "4")];
        assert_eq!(pairs(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(pairs(""), []);
    }

    #[test]
    fn every_bad_line_is_told_with_its_number_and_none_of_its_text() {
        let text =
            "A=1\nhunter2\nB='a\nb'\n1C=hunter2\nD='hunter2'x\nE=\"x\"#y\nF G=1\n=1\nexport H\nI='hunter2\nJ=1\n";
        let problems = parse(text).expect_err("bad lines");
        let found: Vec<(usize, Wrong)> = problems.iter().map(|problem| (problem.line, problem.wrong)).collect();
        let expected = [
            (2, Wrong::NoAssignment),
            (5, Wrong::Name),
            (6, Wrong::AfterQuote),
            (7, Wrong::AfterQuote),
            (8, Wrong::Name),
            (9, Wrong::Name),
            (10, Wrong::NoAssignment),
            (11, Wrong::OpenQuote),
        ];
        assert_eq!(found, expected);
        assert!(!format!("{problems:?}{}", problems[0]).contains("hunter2"));
    }

    #[test]
    fn a_text_is_bounded() {
        let long = "#".repeat(TEXT_MAX_BYTES + 1);
        assert_eq!(parse(&long), Err(vec![Problem { line: 1, wrong: Wrong::TooLong }]));
        assert_eq!(parse(&long[1..]), Ok(vec![]));
        assert_eq!(parse(&"A=\n".repeat(ASSIGNMENTS_MAX)).map(|all| all.len()), Ok(ASSIGNMENTS_MAX));
        let problems = parse(&"A=\n".repeat(ASSIGNMENTS_MAX + 5)).expect_err("too many");
        assert_eq!(problems, [Problem { line: ASSIGNMENTS_MAX + 1, wrong: Wrong::TooMany }]);
        assert_eq!(parse(&"bad\n".repeat(100)).expect_err("bad").len(), PROBLEMS_MAX);
    }

    #[test]
    fn a_value_is_in_no_debug_text() {
        let assignments = parse("A=hunter2").expect("a line");
        assert!(!format!("{assignments:?}").contains("hunter2"));
    }
}
