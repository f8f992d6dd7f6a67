//! Answers, and how they look on the wire: whole, or streamed word by word.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::MODEL_ID;
use super::request::Request;

/// Most frames that a text is streamed in; the words of a longer one are grouped.
const MAX_TEXT_FRAMES: usize = 400;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Reasoning(String),
    Text(String),
    /// A text that comes slowly: `count` ticks, one per `every`.
    Ticks {
        count: u32,
        every: Duration,
    },
    ToolCall {
        tool: String,
        arguments: Value,
    },
}

/// What the model answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    pub parts: Vec<Part>,
}

/// An answer that is an error of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl Answer {
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().and_text(text)
    }

    pub fn and_text(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    pub fn thinking(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Reasoning(text.into())] }
    }

    pub fn and_call(mut self, tool: &str, arguments: Value) -> Self {
        self.parts.push(Part::ToolCall { tool: tool.to_owned(), arguments });
        self
    }

    fn calls(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::ToolCall { .. }))
    }

    fn finish_reason(&self) -> &'static str {
        if self.calls() { "tool_calls" } else { "stop" }
    }

    /// The frames of the stream, each with the pause before it; the last is `[DONE]`.
    pub fn frames(&self, request: &Request, delay: Duration) -> Vec<(Duration, String)> {
        let id = id_of(request);
        let chunk = |delta: Value, finish: Option<&str>| {
            json!({
                "id": id,
                "object": "chat.completion.chunk",
                "created": 0,
                "model": model_name(request),
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
            })
        };
        let mut frames = vec![(Duration::ZERO, chunk(json!({ "role": "assistant", "content": "" }), None))];
        let mut calls = 0;
        for part in &self.parts {
            match part {
                Part::Reasoning(text) => {
                    for piece in pieces(text) {
                        frames.push((delay, chunk(json!({ "reasoning_content": piece }), None)));
                    }
                }
                Part::Text(text) => {
                    for piece in pieces(text) {
                        frames.push((delay, chunk(json!({ "content": piece }), None)));
                    }
                }
                Part::Ticks { count, every } => {
                    for number in 1..=*count {
                        frames.push((*every, chunk(json!({ "content": tick(number) }), None)));
                    }
                }
                Part::ToolCall { tool, arguments } => {
                    let arguments = arguments.to_string();
                    // In two pieces, as vendors do: who reads it must put it together.
                    let cut = arguments.floor_char_boundary(arguments.len() / 2);
                    let (first, rest) = arguments.split_at(cut);
                    frames.push((
                        delay,
                        chunk(
                            json!({ "tool_calls": [{
                                "index": calls,
                                "id": call_id(&id, calls),
                                "type": "function",
                                "function": { "name": tool, "arguments": first },
                            }]}),
                            None,
                        ),
                    ));
                    frames.push((
                        delay,
                        chunk(json!({ "tool_calls": [{ "index": calls, "function": { "arguments": rest } }] }), None),
                    ));
                    calls += 1;
                }
            }
        }
        let mut last = chunk(json!({}), Some(self.finish_reason()));
        last["usage"] = self.usage(request);
        frames.push((Duration::ZERO, last));
        let mut frames: Vec<(Duration, String)> =
            frames.into_iter().map(|(pause, frame)| (pause, frame.to_string())).collect();
        frames.push((Duration::ZERO, "[DONE]".into()));
        frames
    }

    /// The whole answer at once.
    pub fn completion(&self, request: &Request) -> Value {
        let id = id_of(request);
        let mut content = String::new();
        let mut reasoning = String::new();
        let mut calls = Vec::new();
        for part in &self.parts {
            match part {
                Part::Reasoning(text) => reasoning.push_str(text),
                Part::Text(text) => content.push_str(text),
                Part::Ticks { count, .. } => {
                    content.extend((1..=*count).map(tick));
                }
                Part::ToolCall { tool, arguments } => calls.push(json!({
                    "id": call_id(&id, calls.len()),
                    "type": "function",
                    "function": { "name": tool, "arguments": arguments.to_string() },
                })),
            }
        }
        let mut message = json!({ "role": "assistant", "content": content });
        if !reasoning.is_empty() {
            message["reasoning_content"] = reasoning.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        json!({
            "id": id,
            "object": "chat.completion",
            "created": 0,
            "model": model_name(request),
            "choices": [{ "index": 0, "message": message, "finish_reason": self.finish_reason() }],
            "usage": self.usage(request),
        })
    }

    /// Token counts, at four characters a token. What came before the last user message counts as cached.
    fn usage(&self, request: &Request) -> Value {
        let tokens =
            |messages: &[super::request::Message]| messages.iter().map(|m| m.length().div_ceil(4) + 4).sum::<usize>();
        let prompt = tokens(&request.messages);
        let cached = tokens(&request.messages[..request.last_user().unwrap_or(0)]);
        let length = |part: &Part| match part {
            Part::Reasoning(text) | Part::Text(text) => text.len(),
            Part::Ticks { count, .. } => *count as usize * 8,
            Part::ToolCall { tool, arguments } => tool.len() + arguments.to_string().len(),
        };
        let count = |wanted: &dyn Fn(&Part) -> bool| {
            self.parts.iter().filter(|p| wanted(p)).map(|p| length(p).div_ceil(4)).sum::<usize>()
        };
        let completion = count(&|_| true).max(1);
        let reasoning = count(&|p| matches!(p, Part::Reasoning(_)));
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": { "cached_tokens": cached },
            "completion_tokens_details": { "reasoning_tokens": reasoning },
        })
    }
}

fn tick(number: u32) -> String {
    format!("tick {number}\n")
}

fn model_name(request: &Request) -> &str {
    if request.model.is_empty() { MODEL_ID } else { &request.model }
}

/// The same request gets the same id; another message in it makes another.
fn id_of(request: &Request) -> String {
    let mut hash = Sha256::new();
    for message in &request.messages {
        hash.update(message.role.as_bytes());
        hash.update([0]);
        hash.update(message.text().as_bytes());
        hash.update([0]);
        hash.update(message.length().to_le_bytes());
    }
    hash.update(request.tools.len().to_le_bytes());
    format!("chatcmpl-{}", &hex::encode(hash.finalize())[..24])
}

fn call_id(id: &str, index: usize) -> String {
    format!("call_{}_{index}", id.trim_start_matches("chatcmpl-"))
}

/// The text in words with the space after them, grouped when there are very many.
fn pieces(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
    words.chunks(words.len().div_ceil(MAX_TEXT_FRAMES).max(1)).map(<[&str]>::concat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_put_together_are_the_text() {
        for text in ["", "a", "a b\n\nc  d ", &"ü – ".repeat(5_000)] {
            let pieces = pieces(text);
            assert!(pieces.len() <= MAX_TEXT_FRAMES);
            assert_eq!(pieces.concat(), text);
        }
    }
}
