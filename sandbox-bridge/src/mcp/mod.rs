//! `sandbox-bridge mcp`: the agent's tools as an MCP server on standard input and output.
//!
//! Written by hand, since what a stdio server with plain tools needs of the protocol is four methods on lines of
//! JSON. The `rmcp` crate brings an async runtime, schema generation and transports, and more memory than this
//! whole process; one such process lives beside every agent.

mod tools;

use std::io::{BufRead, Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::broker::ask;
use crate::broker::wire::{Answer, Question};
use tools::{BadCall, Offered};

/// Versions that this server speaks, newest first; nothing that it uses differs between them.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Longest message.
const LINE_MAX_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Value,
}

/// Asks the supervisor.
pub type Asker = dyn Fn(&Question) -> std::io::Result<Answer> + Send + Sync;

/// A list that asks in vain is the list of what every session has.
fn offered(asker: &Asker) -> Offered {
    match asker(&Question::AgentTools) {
        Ok(Answer::Tools { repository, slack }) => Offered { repository, slack },
        _ => Offered::default(),
    }
}

fn call_tool(params: &Value, asker: &Asker) -> Result<Value, (i64, String)> {
    let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
    // No arguments may be written as nothing, or as `null`.
    let arguments = params.get("arguments").filter(|arguments| !arguments.is_null());
    let question = match tools::question(name, arguments.cloned().unwrap_or_else(|| json!({}))) {
        Ok(question) => question,
        Err(BadCall::Unknown) => return Err((-32602, format!("Unknown tool: {name}"))),
        Err(BadCall::Arguments(text)) => return Ok(content(&text, true)),
    };
    Ok(match asker(&question) {
        Ok(Answer::Text { text, failed }) => content(&text, failed),
        Ok(Answer::Refused { text }) => content(&text, true),
        Ok(Answer::Uploaded { artifact_id, .. }) => {
            content(&format!("Uploaded as artifact {artifact_id}. People see it in the session."), false)
        }
        Ok(Answer::Credential { .. } | Answer::Nothing | Answer::Tools { .. } | Answer::Program { .. }) => {
            content("The supervisor's answer is not understood.", true)
        }
        Err(error) => content(&format!("The supervisor cannot be reached: {error}"), true),
    })
}

fn content(text: &str, failed: bool) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": failed})
}

fn handle(request: &Request, asker: &Asker) -> Result<Value, (i64, String)> {
    match request.method.as_str() {
        "initialize" => {
            let asked = request.params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
            let version = VERSIONS.iter().find(|version| **version == asked).unwrap_or(&VERSIONS[0]);
            Ok(json!({
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "open-inspect", "version": env!("CARGO_PKG_VERSION")},
            }))
        }
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": tools::list(offered(asker))})),
        "tools/call" => call_tool(&request.params, asker),
        other => Err((-32601, format!("Method not found: {other}"))),
    }
}

/// Serves until the input ends. A tool call runs beside the loop, so that a ping is answered meanwhile.
pub fn serve(mut input: impl BufRead, output: impl Write + Send + 'static, asker: &Arc<Asker>) -> std::io::Result<()> {
    let output = Arc::new(Mutex::new(output));
    loop {
        let mut line = String::new();
        if input.by_ref().take(LINE_MAX_BYTES).read_line(&mut line)? == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                reply(&output, &error_reply(&Value::Null, -32700, &format!("Parse error: {error}")))?;
                continue;
            }
        };
        // A notification has no id and wants no answer.
        let Some(id) = request.id.clone() else { continue };
        if request.method == "tools/call" {
            let (output, asker) = (Arc::clone(&output), Arc::clone(asker));
            std::thread::spawn(move || drop(answer(&request, &id, &output, asker.as_ref())));
        } else {
            answer(&request, &id, &output, asker.as_ref())?;
        }
    }
    Ok(())
}

fn answer(request: &Request, id: &Value, output: &Mutex<impl Write>, asker: &Asker) -> std::io::Result<()> {
    let message = match handle(request, asker) {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, text)) => error_reply(id, code, &text),
    };
    reply(output, &message)
}

fn error_reply(id: &Value, code: i64, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
}

fn reply(output: &Mutex<impl Write>, message: &Value) -> std::io::Result<()> {
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(output, "{message}")?;
    output.flush()
}

/// Serves standard input and output.
pub fn run() -> std::io::Result<()> {
    let asker: Arc<Asker> = Arc::new(ask);
    serve(std::io::stdin().lock(), std::io::stdout(), &asker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn converse(
        input: &str,
        asker: impl Fn(&Question) -> std::io::Result<Answer> + Send + Sync + 'static,
    ) -> Vec<Value> {
        let (output, asker): (_, Arc<Asker>) = (Shared::default(), Arc::new(asker));
        serve(input.as_bytes(), output.clone(), &asker).expect("served");
        // The last tool call may still be writing.
        for _ in 0..200 {
            let text = String::from_utf8(output.0.lock().expect("not poisoned").clone()).expect("text");
            let wanted = input.lines().filter(|line| !line.contains("notifications/")).count();
            if text.lines().count() >= wanted {
                return text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no answer came");
    }

    #[test]
    fn a_client_learns_the_version_and_the_tools() {
        let answers = converse(
            concat!(
                r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}"#,
                "\n",
                r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                "\n",
                r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#,
                "\n",
                r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
                "\n",
                r#"{"jsonrpc":"2.0","id":3,"method":"resources/list"}"#,
                "\n",
            ),
            |question| match question {
                Question::AgentTools => Ok(Answer::Tools { repository: true, slack: false }),
                _ => Ok(Answer::Nothing),
            },
        );
        assert_eq!(answers[0]["result"]["protocolVersion"], "2025-06-18");
        assert_eq!(answers[1]["id"], "a");
        assert_eq!(answers[1]["result"]["tools"][6]["name"], "create-pull-request");
        assert_eq!(answers[2]["result"], json!({}));
        assert_eq!(answers[3]["error"]["code"], -32601);
    }

    #[test]
    fn the_tool_passes_its_arguments_on_and_tells_the_answer() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create-pull-request","arguments":{"title":"T","body":"B","baseBranch":"dev","draft":true},"_meta":{"progressToken":1}}}"#;
        let answers = converse(&format!("{call}\n"), |question| {
            let Question::CreatePullRequest(asked) = question else {
                return Err(std::io::Error::other("another question"));
            };
            let (base, repo) = (asked.base_branch.as_deref(), asked.repo.as_deref());
            assert_eq!((asked.title.as_str(), base, asked.draft, repo), ("T", Some("dev"), Some(true), None));
            Ok(Answer::Text { text: "Opened".to_owned(), failed: false })
        });
        assert_eq!(answers[0]["result"], json!({"content": [{"type": "text", "text": "Opened"}], "isError": false}));
    }

    #[test]
    fn bad_input_gets_an_error_and_the_server_goes_on() {
        let input = concat!(
            "not json\n",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create-pull-request","arguments":{"title":1}}}"#,
            "\n",
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"nope"}}"#,
            "\n",
        );
        let mut answers = converse(input, |_| Err(std::io::Error::other("not reached")));
        // Calls answer in any order.
        answers.sort_by_key(|answer| answer["id"].as_i64());
        assert_eq!(answers[0]["error"]["code"], -32700);
        assert_eq!(answers[1]["result"]["isError"], true);
        assert_eq!(answers[2]["error"]["code"], -32602);
    }
}
