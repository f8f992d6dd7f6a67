//! An agent in miniature: it streams answers, runs the tools that they call, and goes on until there is none.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Model {
    url: String,
    http: reqwest::Client,
}

impl Model {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
        tokio::spawn(devkit::model::serve(listener, Duration::ZERO));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { url, http }
    }

    pub async fn post(&self, body: &Value) -> (u16, Value) {
        let response = self.http.post(&self.url).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

pub struct Agent<'a> {
    model: &'a Model,
    folder: TempDir,
    messages: Vec<Value>,
    /// Names of the tools called so far.
    pub calls: Vec<String>,
    /// Arguments of the pull request tool.
    pub pulls: Vec<Value>,
    pub reasoned: bool,
}

impl<'a> Agent<'a> {
    /// An agent in a checkout of the sample service.
    pub fn new(model: &'a Model) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/seed/sample-service/.");
        let copied = Command::new("cp").args(["-R", seed]).arg(folder.path()).status().unwrap();
        assert!(copied.success());
        let system = format!("You are an agent.\n<env>\n  Working directory: {}\n</env>", folder.path().display());
        let agent = Self {
            model,
            messages: vec![json!({ "role": "system", "content": system })],
            folder,
            calls: Vec::new(),
            pulls: Vec::new(),
            reasoned: false,
        };
        for arguments in [&["init", "-q", "-b", "main"][..], &["add", "."], &["commit", "-q", "-m", "Start"]] {
            agent.git(arguments);
        }
        agent
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub fn file(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let (ok, output) = self.run(Command::new("git").args(arguments));
        assert!(ok, "git {arguments:?}: {output}");
        output.trim().to_owned()
    }

    /// Runs a prompt to its end; answers the last text.
    pub async fn prompt(&mut self, text: &str) -> String {
        self.messages.push(json!({ "role": "user", "content": text }));
        for _ in 0..50 {
            let (said, calls) = self.stream().await;
            self.messages.push(json!({ "role": "assistant", "content": said, "tool_calls": calls }));
            if calls.is_empty() {
                return said;
            }
            for call in calls {
                let name = call["function"]["name"].as_str().unwrap().to_owned();
                let arguments = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
                let result = self.tool(&name, &arguments);
                self.calls.push(name);
                self.messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": result }));
            }
        }
        panic!("the run does not end");
    }

    /// One request; answers its text and its tool calls, put together from the stream.
    async fn stream(&mut self) -> (String, Vec<Value>) {
        let names = ["bash", "edit", "glob", "grep", "read", "write", "oi_create-pull-request"];
        let tools: Vec<Value> =
            names.iter().map(|n| json!({ "type": "function", "function": { "name": n, "parameters": {} } })).collect();
        let body = json!({
            "model": "demo",
            "messages": self.messages,
            "tools": tools,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let response = self.model.http.post(&self.model.url).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.text().await.unwrap();
        let frames: Vec<&str> = text.split_terminator("\n\n").map(|f| f.strip_prefix("data: ").unwrap()).collect();
        let (last, frames) = frames.split_last().unwrap();
        assert_eq!(*last, "[DONE]");

        let mut said = String::new();
        let mut calls: Vec<Value> = Vec::new();
        let mut finish = None;
        for frame in frames {
            let frame: Value = serde_json::from_str(frame).unwrap();
            let choice = &frame["choices"][0];
            assert!(finish.is_none(), "a frame after the last");
            said.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            self.reasoned |= choice["delta"]["reasoning_content"].is_string();
            for piece in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                let index = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
                if index == calls.len() {
                    calls.push(piece.clone());
                } else {
                    let more = piece["function"]["arguments"].as_str().unwrap();
                    let whole = format!("{}{more}", calls[index]["function"]["arguments"].as_str().unwrap());
                    calls[index]["function"]["arguments"] = whole.into();
                }
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                finish = Some(reason.to_owned());
                assert!(frame["usage"]["total_tokens"].as_u64().unwrap() > 0);
            }
        }
        let wanted = if calls.is_empty() { "stop" } else { "tool_calls" };
        assert_eq!(finish.as_deref(), Some(wanted));
        (said, calls)
    }

    /// What OpenCode's tools of these names do and answer.
    fn tool(&mut self, name: &str, arguments: &Value) -> String {
        let text = |key: &str| arguments[key].as_str().unwrap().to_owned();
        match name {
            "read" => match std::fs::read_to_string(text("filePath")) {
                Ok(content) => {
                    let lines: Vec<String> =
                        content.lines().enumerate().map(|(n, line)| format!("{}: {line}", n + 1)).collect();
                    format!("<type>file</type>\n<content>\n{}\n</content>", lines.join("\n"))
                }
                Err(_) => format!("File not found: {}", text("filePath")),
            },
            "edit" => {
                let path = text("filePath");
                assert!(path.starts_with('/'), "OpenCode wants absolute paths");
                let content = std::fs::read_to_string(&path).unwrap();
                assert_eq!(content.matches(&text("oldString")).count(), 1);
                std::fs::write(path, content.replace(&text("oldString"), &text("newString"))).unwrap();
                "Edit applied successfully.".into()
            }
            "bash" => self.run(Command::new("sh").args(["-c", &text("command")])).1,
            "oi_create-pull-request" => {
                self.pulls.push(arguments.clone());
                r#"{"prNumber":1,"prUrl":"http://forge.test/acme/sample-service/pull/1"}"#.into()
            }
            _ => "nothing".into(),
        }
    }

    fn run(&self, command: &mut Command) -> (bool, String) {
        let output = command
            .current_dir(self.folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "Ada Lovelace")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_COMMITTER_NAME", "Ada Lovelace")
            .env("GIT_COMMITTER_EMAIL", "ada@example.com")
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }
}
