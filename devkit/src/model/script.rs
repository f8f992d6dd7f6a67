//! Which script an answer follows: by the tools of the request and by keywords in the last user message.

use std::fmt::Write as _;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::engineer::{self, headline};
use super::reply::{Answer, Failure, Part};
use super::request::Request;

/// Longest title of a conversation, in characters.
const MAX_TITLE_CHARS: usize = 50;
/// Bounds of what a keyword's number can ask for.
const MAX_TICKS: u32 = 6_000;
const MAX_CALLS: usize = 200;
const MAX_SLEEP_SECONDS: u64 = 3_600;

/// The answer to a request.
pub fn answer(request: &Request) -> Result<Answer, Failure> {
    let prompt = request.prompt();
    if request.tools.is_empty() {
        return Ok(Answer::text(headline(&prompt, MAX_TITLE_CHARS)));
    }
    let mut words = prompt.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let number = words.peek().and_then(|next| next.parse::<u64>().ok());
        match word {
            "SLOW" => {
                return Ok(Answer {
                    parts: vec![Part::Ticks {
                        count: number.map_or(600, |n| n.min(u64::from(MAX_TICKS)) as u32),
                        every: Duration::from_millis(100),
                    }],
                });
            }
            "BASH" => {
                let command =
                    prompt.split_once("BASH").and_then(|(_, rest)| rest.lines().next()).unwrap_or_default().trim();
                return Ok(run(request, command, None));
            }
            "SLEEP" => {
                let seconds = number.unwrap_or(5).min(MAX_SLEEP_SECONDS);
                return Ok(run(request, &format!("sleep {seconds}"), Some((seconds + 30) * 1_000)));
            }
            "ASK" => return Ok(ask(request)),
            "LONG" => return Ok(Answer::text(long_answer())),
            "TOOLS" => {
                let count = number.map_or(12, |n| usize::try_from(n).unwrap_or(MAX_CALLS));
                return Ok(many_tools(request, count.clamp(1, MAX_CALLS)));
            }
            _ => {
                if let Some(failure) = asked_failure(word) {
                    return Err(failure);
                }
            }
        }
    }
    Ok(engineer::answer(request, &prompt))
}

/// `ERR400` and its like.
fn asked_failure(word: &str) -> Option<Failure> {
    let code: u16 = word.strip_prefix("ERR")?.parse().ok()?;
    let status = StatusCode::from_u16(code).ok().filter(|s| s.is_client_error() || s.is_server_error())?;
    Some(Failure { status, code: "asked_for", message: format!("This failure was asked for with `{word}`.") })
}

/// One command, then what it printed.
fn run(request: &Request, command: &str, timeout_ms: Option<u64>) -> Answer {
    let steps = request.steps();
    if let Some(step) = steps.last() {
        let tail: Vec<&str> = step.result.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Answer::text(format!(
            "The command has ended. It printed:\n\n```\n{}\n```",
            tail.join("\n").replace("```", "'''")
        ));
    }
    match request.tool("bash") {
        Some(tool) if !command.is_empty() => {
            let mut arguments = json!({ "command": command, "description": "Runs the command that was asked for" });
            if let Some(timeout) = timeout_ms {
                arguments["timeout"] = timeout.into();
            }
            Answer::text("I'll run that.").and_call(tool, arguments)
        }
        _ => Answer::text("There is no command to run."),
    }
}

/// Asks the person something: by the agent's question tool when there is one, else in words.
fn ask(request: &Request) -> Answer {
    if let Some(step) = request.steps().last() {
        return Answer::text(format!("Thank you. You answered: {}", step.result.trim()));
    }
    let question = "Which greeting should the service use?";
    match request.tool("question") {
        Some(tool) => Answer::text("One question first.").and_call(
            tool,
            json!({ "questions": [{
                "question": question,
                "header": "Greeting",
                "options": [
                    { "label": "Hello", "description": "Short and usual" },
                    { "label": "Good morning", "description": "More polite" },
                ],
            }]}),
        ),
        None => Answer::text(format!(
            "{question}\n\n1. Hello\n2. Good morning\n\nAnswer with the greeting in quotes and I'll change it."
        )),
    }
}

/// Rounds of three calls each, then a sentence.
fn many_tools(request: &Request, count: usize) -> Answer {
    let done = request.steps().len();
    if done >= count {
        return Answer::text(format!("Done: {done} tool calls."));
    }
    let folder = request.working_directory().unwrap_or_else(|| ".".into());
    let call = |number: usize| -> Option<(&str, Value)> {
        let bash = || {
            Some((
                request.tool("bash")?,
                json!({ "command": format!("echo call {number}"), "description": "Counts the calls" }),
            ))
        };
        let chosen = match number % 4 {
            0 => request.tool("glob").map(|tool| (tool, json!({ "pattern": "**/*.js", "path": folder }))),
            1 => request.tool("grep").map(|tool| (tool, json!({ "pattern": "greet", "path": folder }))),
            2 => request.tool("read").map(|tool| (tool, json!({ "filePath": format!("{folder}/README.md") }))),
            _ => None,
        };
        chosen.or_else(bash)
    };
    let mut answer = if done == 0 { Answer::text("I'll look round first.") } else { Answer::default() };
    for number in done..count.min(done + 3) {
        if let Some((tool, arguments)) = call(number) {
            answer = answer.and_call(tool, arguments);
        }
    }
    if answer.parts.is_empty() {
        answer = Answer::text("There are no tools to call.");
    }
    answer
}

/// Some 12 KB of Markdown of every kind.
fn long_answer() -> String {
    let mut text = String::from(
        "# How the service is built\n\nA long answer, so that a long answer can be looked at.\n\n\
         | Part | File | What it does |\n| --- | --- | --- |\n\
         | Greeting | `src/greeting.js` | Makes the text |\n\
         | Server | `src/server.js` | Answers over HTTP |\n\
         | Tests | `test/` | Say what is promised |\n\n",
    );
    for section in 1..=16 {
        let _ = write!(
            text,
            "## {section}. A closer look\n\n\
             The greeting is made in one place, and everything else calls it. That keeps the words that people see \
             in one line of one file, which is why a change to them is a change of one line. **Nothing else** needs \
             to know them, *not even* the tests, which look at the shape of the answer and leave its words free.\n\n\
             * A name is trimmed before it is used.\n\
             * Nobody in particular is the world.\n\
             * The port comes from `PORT`, and is 3000 without it.\n\n\
             ```js\nimport {{ greet }} from \"./greeting.js\";\n\n// Section {section}\nconsole.log(greet(\"Ada\"));\n```\n\n\
             > What is simple now may grow; what grows should stay findable.\n\n"
        );
    }
    text.push_str("That is all.");
    text
}
