//! A vendor of OpenAI's Responses API and of chat completions, by accounts: records what it is asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

#[derive(Clone, Default)]
pub struct Vendor {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    /// Refuses with 401 so many times.
    pub refusals: Arc<Mutex<usize>>,
}

impl Vendor {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let vendor = Self { url, ..Self::default() };
        let router = Router::new().fallback(answer).with_state(vendor.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        vendor
    }
}

fn stream(events: &[Value]) -> Response {
    let frames: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let text = frames.concat();
    ([("content-type", "text/event-stream")], text).into_response()
}

async fn answer(State(vendor): State<Vendor>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    vendor.asked.lock().expect("no test panicked in it").push(Asked { path: uri.path().to_owned(), headers, body });
    let mut refusals = vendor.refusals.lock().expect("no test panicked in it");
    if *refusals > 0 {
        *refusals -= 1;
        return (StatusCode::UNAUTHORIZED, "{\"error\":{\"message\":\"token expired\"}}").into_response();
    }
    let item = |text: Option<&str>| {
        let content: Vec<Value> = text.iter().map(|text| json!({"type": "output_text", "text": text})).collect();
        json!({"type": "message", "id": "msg_1", "role": "assistant", "content": content})
    };
    let usage = json!({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0}});
    if uri.path().ends_with("/responses") {
        return stream(&[
            json!({"type": "response.created", "response": {"id": "resp_1", "created_at": 1, "model": "m"}}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": item(None)}),
            json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
                "delta": "By subscription."}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item(Some("By subscription."))}),
            json!({"type": "response.completed", "response": {"id": "resp_1", "created_at": 1, "model": "m",
                "usage": usage}}),
        ]);
    }
    let chunk = |delta: Value, finish: Option<&str>| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    stream(&[chunk(json!({"role": "assistant", "content": "By subscription."}), None), chunk(json!({}), Some("stop"))])
}
