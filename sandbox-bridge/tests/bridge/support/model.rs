//! A scripted OpenAI-compatible model for the real OpenCode. What it answers depends on a word of the prompt and on
//! how many tool results it has seen.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{Stream, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// The key that the gateway must send, and nothing in the sandbox may know.
pub const KEY: &str = "sk-the-real-key-of-the-model-vendor";

/// Starts the model and gives its base URL.
pub async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let router = Router::new().route("/v1/chat/completions", post(complete));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn call(name: &str, arguments: &Value) -> Vec<Value> {
    let text = arguments.to_string();
    let function = json!({"name": name, "arguments": text});
    let id = format!("call_{}", sandbox_bridge::random::hex::<4>());
    vec![json!({"tool_calls": [{"index": 0, "id": id, "type": "function", "function": function}]})]
}

fn words(text: &str) -> Vec<Value> {
    text.split_inclusive(' ').map(|word| json!({"role": "assistant", "content": word})).collect()
}

fn script(request: &Value) -> (Vec<Value>, &'static str) {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    if request.get("tools").is_none() {
        return (words("Change a file"), "stop");
    }
    let last = messages.iter().rposition(|message| message["role"] == "user").unwrap_or_default();
    let prompt = text_of(&messages[last]);
    let results = messages[last..].iter().filter(|message| message["role"] == "tool").count();
    if prompt.contains("SLOW") {
        return ((0..600).map(|n| json!({"role": "assistant", "content": format!("tick{n} ")})).collect(), "stop");
    }
    if prompt.contains("EFFORT") {
        return (words(&format!("effort {}", request["reasoning_effort"])), "stop");
    }
    if prompt.contains("COUNT") {
        let asked = messages.iter().filter(|message| message["role"] == "user").count();
        return (words(&format!("asked {asked} times")), "stop");
    }
    // `CALL tool {"its":"arguments"}`: the model calls it, and says what came back.
    if let Some((_, order)) = prompt.split_once("CALL ") {
        if results > 0 {
            let result = messages.last().map(text_of).unwrap_or_default();
            return (words(&format!("It said: {result}")), "stop");
        }
        let (name, arguments) = order.split_once(' ').expect("a tool and its arguments");
        let arguments: Value = serde_json::from_str(arguments.trim()).expect("arguments are JSON");
        let mut deltas = words("I call it. ");
        deltas.extend(call(name, &arguments));
        return (deltas, "tool_calls");
    }
    if prompt.contains("CANARY") {
        return canary(results);
    }
    if !prompt.contains("WORK") {
        return (words("Good day to you."), "stop");
    }
    let steps = [
        ("read", json!({"filePath": "a.txt"})),
        ("edit", json!({"filePath": "a.txt", "oldString": "two", "newString": "zwei"})),
        // Of much output the end is shown: its own environment comes last.
        (
            "bash",
            json!({"command": "git checkout -q -b change && git commit -qam 'Change two' && cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' && env", "description": "commit"}),
        ),
        ("oi_create-pull-request", json!({"title": "Change two", "body": "As asked."})),
    ];
    match steps.get(results) {
        Some((name, arguments)) => {
            let mut deltas = vec![json!({"role": "assistant", "reasoning_content": "Let me think. "})];
            deltas.extend(words("Now the next step 😀. "));
            deltas.extend(call(name, arguments));
            (deltas, "tool_calls")
        }
        None => (words("All is done."), "stop"),
    }
}

/// Git with its credential and a signature, then a look at what other processes show.
fn canary(results: usize) -> (Vec<Value>, &'static str) {
    let work = "set -e; git fetch -q origin; git checkout -q -b canary; echo more >> a.txt; git commit -qam 'Canary'; \
        git push -q origin canary; git fetch -q origin; echo pushed";
    let look = "( : < /proc/$$/mem ) 2>/dev/null && echo 'own memory: open'; \
        tr '\\0' '\\n' < /proc/self/environ; git config --list --show-origin; \
        for p in /proc/[0-9]*; do cat $p/environ $p/cmdline 2>/dev/null | tr '\\0' '\\n'; \
        if [ \"$(tr '\\0' '\\n' < $p/cmdline 2>/dev/null | sed -n 2p)\" = supervise ]; then \
        e=closed; head -c 1 $p/environ >/dev/null 2>&1 && e=open; \
        m=closed; ( : < $p/mem ) 2>/dev/null && m=open; echo \"supervisor: environ $e, memory $m\"; fi; done; true";
    let bash = |command: &str| ("bash", json!({"command": command, "description": "look"}));
    let steps = [bash(work), bash(look), ("oi_create-pull-request", json!({"title": "Canary", "body": "It sings."}))];
    match steps.get(results) {
        Some((name, arguments)) => (call(name, arguments), "tool_calls"),
        None => (words("All is done."), "stop"),
    }
}

/// Every other request with this word is refused, as by a vendor that has too much to do.
static REFUSED: AtomicBool = AtomicBool::new(false);

async fn complete(headers: http::HeaderMap, Json(request): Json<Value>) -> Response {
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"), "the gateway adds the key");
    let is_turn = request.get("tools").is_some();
    if is_turn && request.to_string().contains("OVERLOADED") && !REFUSED.fetch_not(Ordering::Relaxed) {
        let body = json!({"error": {"message": "Too much to do", "type": "overloaded"}});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    stream_of(&request).into_response()
}

fn stream_of(request: &Value) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let (deltas, finish) = script(request);
    let slow = deltas.len() > 100;
    let chunk = |delta: Value, finish: Option<&str>| {
        let usage = finish.map(|_| json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}));
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "usage": usage,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string()
    };
    let mut lines: Vec<String> = deltas.into_iter().map(|delta| chunk(delta, None)).collect();
    lines.push(chunk(json!({}), Some(finish)));
    lines.push("[DONE]".to_owned());
    Sse::new(stream::unfold(lines.into_iter(), move |mut lines| async move {
        let line = lines.next()?;
        sleep(Duration::from_millis(if slow { 100 } else { 5 })).await;
        Some((Ok(Event::default().data(line)), lines))
    }))
}
