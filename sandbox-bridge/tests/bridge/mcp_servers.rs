//! MCP servers of a session with the real OpenCode, which `OI_OPENCODE` names: they work, and their secrets are not seen.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use oi_protocol::local_backend::SandboxMcpServer;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::environment::{assert_files_hold_none_of, assert_processes_hold_none_of};
use crate::id;
use crate::real_opencode::opencode;
use crate::support::model;
use crate::support::sandbox::{Sandbox, config, program};
use crate::support::session::Session;

const REMOTE_SECRET: &str = "the-secret-header-of-a-remote-server";
const LOCAL_SECRET: &str = "the-secret-variable-of-a-local-server";

async fn answer(headers: HeaderMap, Json(request): Json<Value>) -> (StatusCode, Json<Value>) {
    if headers.get("x-key").is_none_or(|key| key != REMOTE_SECRET) {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    let result = match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "wiki", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "look", "description": "x", "inputSchema": {"type": "object"}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "the wiki answers"}]}),
        _ => return (StatusCode::ACCEPTED, Json(json!({}))),
    };
    (StatusCode::OK, Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})))
}

async fn remote() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/mcp", post(answer))).await });
    url
}

/// A server that says whether it has its variable.
const LOCAL: &str = r#"#!/bin/bash
while read -r line; do
  id=$(sed -n 's/.*"id":\([0-9]*\).*/\1/p' <<< "$line")
  [ -n "$id" ] || continue
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"look","description":"x","inputSchema":{"type":"object"}}]}' ;;
    *) result="{\"content\":[{\"type\":\"text\",\"text\":\"it has ${#SERVER_SECRET} letters, and OpenCode's are gone: ${OPENCODE_CONFIG_CONTENT:-yes}\"}]}" ;;
  esac
  echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
done
"#;

fn server(name: &str) -> SandboxMcpServer {
    SandboxMcpServer {
        id: format!("id-{name}"),
        name: name.to_owned(),
        kind: "local".to_owned(),
        command: None,
        url: None,
        env: BTreeMap::new(),
        headers: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn servers_work_and_the_agents_shell_sees_no_secret_of_theirs() {
    let session = Session::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("server.sh");
    std::fs::write(&script, LOCAL).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut config = config(&session, None, &model::start().await);
    config.mcp_servers = vec![
        SandboxMcpServer {
            kind: "remote".to_owned(),
            url: Some(remote().await),
            headers: [("X-Key".to_owned(), REMOTE_SECRET.to_owned())].into(),
            ..server("wiki")
        },
        SandboxMcpServer {
            command: Some(vec![script.display().to_string()]),
            env: [("SERVER_SECRET".to_owned(), LOCAL_SECRET.to_owned())].into(),
            ..server("docs")
        },
        server("broken"),
    ];
    let sandbox = Sandbox::configured(config, &opencode(), &[]);
    session.booted().await;
    let warned = session.frame("a warning", |frame| frame["type"] == "warning").await;
    assert!(warned["message"].as_str().expect("text").contains("`broken`"), "{warned}");
    let last = |n: u8| session.texts(&id(n)).last().cloned().unwrap_or_default();
    session.prompt(&id(1), "CALL wiki_look {}");
    assert_eq!(session.completed(&id(1)).await["success"], true);
    assert_eq!(last(1), "It said: the wiki answers");
    session.prompt(&id(2), "CALL docs_look {}");
    assert_eq!(session.completed(&id(2)).await["success"], true);
    assert_eq!(last(2), format!("It said: it has {} letters, and OpenCode's are gone: yes", LOCAL_SECRET.len()));
    // A shell that does not replace itself is known as one.
    let command = format!("env; {} mcp-launch id-docs; true", program().display());
    session.prompt(&id(3), &format!("CALL bash {}", json!({"command": command, "description": "look"})));
    assert_eq!(session.completed(&id(3)).await["success"], true);
    let output = last(3);
    assert!(output.contains("OPENCODE_CONFIG_CONTENT") && output.contains("only the agent starts"), "{output}");
    for secret in [LOCAL_SECRET, REMOTE_SECRET] {
        assert!(!output.contains(secret));
    }
    assert_files_hold_none_of(sandbox.folder.path(), &[LOCAL_SECRET, REMOTE_SECRET]);
    assert_processes_hold_none_of(&sandbox, &[REMOTE_SECRET]);
}
