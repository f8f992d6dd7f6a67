//! The default script: what an engineer would do to the sample repository. It reads the greeting, changes it as the
//! prompt asks, runs the check, commits, opens or updates the pull request and sums up. When the greeting already is
//! as asked (a follow-up), it notes the prompt in the changelog, so that every prompt ends in a commit.
//!
//! Where the run stands is read from the calls that were made since the prompt.

use serde_json::json;

use super::reply::Answer;
use super::request::{Request, Step};

const GREETING_FILE: &str = "src/greeting.js";
const CHANGELOG: &str = "CHANGELOG.md";
const DECLARATION: &str = "const GREETING = ";
const CHECK: &str = "sh check.sh";
const CHECK_PASSED: &str = "All checks passed.";
/// Longest commit title, in characters.
const MAX_COMMIT_CHARS: usize = 72;
/// Longest greeting, in characters.
const MAX_GREETING_CHARS: usize = 60;
/// What the greeting becomes when the prompt names nothing.
const USUAL_GREETING: &str = "Hello";

/// The next answer of the run.
pub fn answer(request: &Request, prompt: &str) -> Answer {
    let (Some(bash), Some(folder)) = (request.tool("bash"), request.working_directory()) else {
        return Answer::text(
            "I am the demo model and follow a script that works on the sample repository. I was given no folder or no `bash` tool to work with.",
        );
    };
    let steps = request.steps();
    let run = Run {
        request,
        bash,
        folder,
        title: match headline(prompt, MAX_COMMIT_CHARS) {
            title if title.is_empty() => "Update the greeting".into(),
            title => title,
        },
        prompt,
        steps,
    };
    run.next()
}

struct Run<'a> {
    request: &'a Request,
    bash: &'a str,
    folder: String,
    title: String,
    prompt: &'a str,
    steps: Vec<Step>,
}

impl Run<'_> {
    fn next(&self) -> Answer {
        let Some(read) = self.made("read") else {
            return match self.request.tool("read") {
                Some(tool) if self.steps.is_empty() => {
                    Answer::text(format!("I'll start with `{GREETING_FILE}`, where the greeting is made."))
                        .and_call(tool, json!({ "filePath": format!("{}/{GREETING_FILE}", self.folder) }))
                }
                _ => self.after_reading(None),
            };
        };
        self.after_reading(declaration(&read.result))
    }

    fn after_reading(&self, current: Option<&str>) -> Answer {
        if self.changed_file().is_none() {
            return self.change(current);
        }
        if current.is_some() && self.ran(CHECK).is_none() {
            return Answer::text("Now the check.")
                .and_call(self.bash, json!({ "command": CHECK, "description": "Runs the repository's check" }));
        }
        if self.ran("git commit").is_none() {
            return self.commit();
        }
        match self.request.tool("create-pull-request") {
            Some(tool) if self.made("create-pull-request").is_none() => {
                let next = if self.request.has_called(tool) {
                    "bring the pull request up to date"
                } else {
                    "open the pull request"
                };
                Answer::text(format!("Committed. I'll {next}."))
                    .and_call(tool, json!({ "title": self.title, "body": self.description() }))
            }
            _ => Answer::text(self.summary()),
        }
    }

    /// Edits the greeting, or notes the prompt in the changelog when there is nothing to edit.
    fn change(&self, current: Option<&str>) -> Answer {
        let wanted = wanted_greeting(self.prompt);
        let edit = self.request.tool("edit").zip(current).and_then(|(tool, line)| {
            let value = line.strip_prefix(DECLARATION)?.trim_end_matches(';').trim_matches('"');
            let wanted = wanted.as_deref().unwrap_or(USUAL_GREETING);
            // With no words named, only the misspelt one is worth a change.
            (value != wanted && (self.named() || value == "Helo")).then_some((tool, line, value, wanted))
        });
        if let Some((tool, line, value, wanted)) = edit
            && self.made("edit").is_none()
        {
            return Answer::thinking(format!(
                "The greeting is one constant, and it says \"{value}\". It should say \"{wanted}\". The tests look only at the \
                 shape of the answer, so one line changes and nothing else has to."
            ))
            .and_text(format!("The greeting says \"{value}\". I'll make it \"{wanted}\"."))
            .and_call(
                tool,
                json!({
                    "filePath": format!("{}/{GREETING_FILE}", self.folder),
                    "oldString": line,
                    "newString": format!("{DECLARATION}\"{wanted}\";"),
                }),
            );
        }
        Answer::thinking("Nothing in the greeting has to change for this, so the changelog gets a line about it.")
            .and_text(format!("There is nothing to change in the greeting for this. I'll note it in `{CHANGELOG}`."))
            .and_call(
                self.bash,
                json!({
                    "command": format!(
                        "[ -f {CHANGELOG} ] || printf '# Changelog\\n\\n' > {CHANGELOG}; printf '%s\\n' {} >> {CHANGELOG}",
                        quoted(&format!("* {}", self.title))
                    ),
                    "description": "Adds a line to the changelog",
                }),
            )
    }

    fn commit(&self) -> Answer {
        let file = self.changed_file().unwrap_or(GREETING_FILE);
        let verdict = match self.ran(CHECK) {
            Some(step) if step.result.contains(CHECK_PASSED) => "The check passes. I'll commit.",
            Some(_) => "The check does not pass here, which I'll say in the pull request. I'll commit what I have.",
            None => "I'll commit.",
        };
        Answer::text(verdict).and_call(
            self.bash,
            json!({
                "command": format!("git add {file} && git commit -m {}", quoted(&self.title)),
                "description": "Commits the change",
            }),
        )
    }

    /// The body of the pull request.
    fn description(&self) -> String {
        let change = match self.edited() {
            Some(step) => format!(
                "In `{GREETING_FILE}`:\n\n```diff\n-{}\n+{}\n```",
                step.argument("oldString"),
                step.argument("newString")
            ),
            None => format!("A line in `{CHANGELOG}`."),
        };
        format!("{}.\n\n## What changed\n\n{change}\n\n## Checks\n\n{}", self.title, self.checks())
    }

    fn summary(&self) -> String {
        let change = match self.edited() {
            Some(step) => format!("`{GREETING_FILE}` now has `{}`", step.argument("newString")),
            None => format!("`{CHANGELOG}` has a new line"),
        };
        let commit = match self.ran("git commit") {
            Some(step) if step.result.contains("] ") => format!("committed: {}", self.title),
            _ => "the commit did not go through; its output above says why".into(),
        };
        let pull = match self.made("create-pull-request") {
            Some(step) => match link(&step.result) {
                Some(url) => format!("the pull request is {url}"),
                None => format!("the pull request tool said: {}", step.result.trim()),
            },
            None => "there is no tool here to open a pull request".into(),
        };
        format!(
            "Done.\n\n* {change}.\n* {}\n* {}.\n* {}.\n\nThis was the demo model: its answers follow a script.",
            self.checks(),
            capitalised(&commit),
            capitalised(&pull)
        )
    }

    fn checks(&self) -> &'static str {
        match self.ran(CHECK) {
            Some(step) if step.result.contains(CHECK_PASSED) => "`check.sh` passes.",
            Some(_) => "`check.sh` does **not** pass.",
            None => "No check was run.",
        }
    }

    /// The edit that went through.
    fn edited(&self) -> Option<&Step> {
        self.made("edit").filter(|step| !failed(&step.result))
    }

    /// The file that this run has changed.
    fn changed_file(&self) -> Option<&'static str> {
        if self.edited().is_some() {
            Some(GREETING_FILE)
        } else if self.ran(&format!(">> {CHANGELOG}")).is_some() {
            Some(CHANGELOG)
        } else {
            None
        }
    }

    /// Whether the prompt names a greeting.
    fn named(&self) -> bool {
        wanted_greeting(self.prompt).is_some()
    }

    /// The latest call of a tool.
    fn made(&self, tool: &str) -> Option<&Step> {
        let name = self.request.tool(tool)?;
        self.steps.iter().rev().find(|step| step.tool == name)
    }

    /// The latest command that holds this text.
    fn ran(&self, text: &str) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.tool == self.bash && step.argument("command").contains(text))
    }
}

/// The line that declares the greeting, from what the `read` tool answered (`3: const GREETING = "…";`).
fn declaration(read: &str) -> Option<&str> {
    let start = read.find(DECLARATION)?;
    let line = read[start..].lines().next()?.trim_end();
    let value = line.strip_prefix(DECLARATION)?;
    (value.starts_with('"') && value.ends_with("\";")).then_some(line)
}

/// The greeting that a prompt asks for: the last quoted words of a prompt that is about what is said.
fn wanted_greeting(prompt: &str) -> Option<String> {
    let lower = prompt.to_lowercase();
    if !["greet", "say", "hello", "helo", "welcome"].iter().any(|word| lower.contains(word)) {
        return None;
    }
    let mut found = None;
    for (open, close) in [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»'), ('`', '`')] {
        let mut rest = prompt;
        let mut offset = 0;
        while let Some(start) = rest.find(open) {
            let inner = &rest[start + open.len_utf8()..];
            let Some(end) = inner.find(close) else { break };
            let words: String =
                inner[..end].chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\' | '`' | '$')).collect();
            let words = words.trim().to_owned();
            let at = offset + start;
            let fits = (1..=MAX_GREETING_CHARS).contains(&words.chars().count());
            if fits && found.as_ref().is_none_or(|(before, _)| *before < at) {
                found = Some((at, words));
            }
            let next = start + open.len_utf8() + end + close.len_utf8();
            offset += next;
            rest = &rest[next..];
        }
    }
    found.map(|(_, words)| words)
}

/// The first line of a prompt as a title of at most `most` characters: no full stop, first letter large.
pub fn headline(prompt: &str, most: usize) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && words[0].trim_end_matches(',').eq_ignore_ascii_case("please") {
        words.remove(0);
    }
    let mut title = String::new();
    for word in words {
        let room = most.saturating_sub(title.chars().count() + usize::from(!title.is_empty()));
        if word.chars().count() > room {
            if title.is_empty() {
                title = word.chars().take(most).collect();
            }
            break;
        }
        if !title.is_empty() {
            title.push(' ');
        }
        title.push_str(word);
    }
    let title = title.trim_end_matches(['.', ',', ';', ':', ' ']);
    capitalised(title.trim_start_matches(['-', '*', '#', ' ']))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// As one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether the `edit` tool reported an error.
fn failed(result: &str) -> bool {
    let lower = result.to_lowercase();
    lower.starts_with("error") || lower.contains("not found") || lower.contains("could not find")
}

/// The address of a pull request in a text.
fn link(text: &str) -> Option<&str> {
    text.match_indices("http").find_map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | ')' | '>' | '\\')).unwrap_or(rest.len());
        let address = rest[..end].trim_end_matches(['.', ',']);
        address.contains("/pull/").then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_the_last_quoted_words() {
        for (prompt, wanted) in [
            ("Change the greeting to \"Good morning\"", Some("Good morning")),
            ("Change the greeting from \"Helo\" to \"Hi there\".", Some("Hi there")),
            ("Make it say “Bonjour”", Some("Bonjour")),
            ("greet with `Hey`", Some("Hey")),
            ("The greeting should be \"a\\\" b\"", Some("b")),
            ("Fix the typo in the greeting", None),
            ("Rename \"foo\" to \"bar\"", None),
            ("The greeting \"unclosed", None),
            ("The greeting \"\"", None),
        ] {
            let found = wanted_greeting(prompt);
            if wanted == Some("b") {
                // Odd quoting: whatever comes out must be one harmless string.
                assert!(found.is_none_or(|w| !w.contains(['"', '\\'])));
            } else {
                assert_eq!(found.as_deref(), wanted, "{prompt:?}");
            }
        }
    }

    #[test]
    fn a_title_is_one_short_line() {
        assert_eq!(headline("please fix the greeting.\nMore text", 72), "Fix the greeting");
        assert_eq!(headline("  \n\n- do it", 72), "Do it");
        assert_eq!(headline("one two three", 7), "One two");
        assert_eq!(headline(&"x".repeat(100), 10).len(), 10);
        assert_eq!(headline("", 10), "");
        assert_eq!(headline("übung macht den Meister", 50), "Übung macht den Meister");
    }

    #[test]
    fn a_shell_word_keeps_its_text() {
        let nasty = "it's; $(rm -rf /) `x` \"y\" \\";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(nasty))])
            .output()
            .expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), nasty);
    }

    #[test]
    fn the_declaration_is_found_behind_line_numbers() {
        assert_eq!(
            declaration("<content>\n1: // x\n2: const GREETING = \"Helo\";\n3: \n"),
            Some("const GREETING = \"Helo\";")
        );
        assert_eq!(declaration("File not found"), None);
    }

    #[test]
    fn a_link_ends_where_the_address_ends() {
        assert_eq!(
            link("Opened {\"url\":\"http://127.0.0.1:8788/a/b/pull/1\"}"),
            Some("http://127.0.0.1:8788/a/b/pull/1")
        );
        assert_eq!(
            link("To https://x.example/a.git, see https://x.example/pull/1. Then"),
            Some("https://x.example/pull/1")
        );
        assert_eq!(link("push to https://x.example/a.git failed"), None);
    }
}
