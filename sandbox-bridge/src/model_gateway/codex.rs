//! A request of the Responses API as the endpoint of a ChatGPT subscription wants it.
//!
//! It takes the system prompt as `instructions` and not among the input, keeps nothing, and knows no bound of the
//! output. An agent that believes it speaks with the public API writes none of that.

use axum::body::Bytes;
use serde_json::{Value, json};

/// Whether a path is one of those that go there.
pub fn serves(path: &str) -> bool {
    path.ends_with("responses") || path.ends_with("chat/completions")
}

fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect();
            texts.map(|texts| texts.join("\n"))
        }
        _ => None,
    }
}

/// The body to send. One that is no request of that API goes as it is: the endpoint says what is wrong with it.
pub fn body(body: Bytes) -> Bytes {
    let Ok(Value::Object(mut request)) = serde_json::from_slice::<Value>(&body) else { return body };
    let has_instructions = request.get("instructions").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !has_instructions && let Some(Value::Array(input)) = request.get_mut("input") {
        let is_system = |item: &Value| matches!(item["role"].as_str(), Some("system" | "developer"));
        let leading = input.iter().take_while(|item| is_system(item) && text_of(&item["content"]).is_some()).count();
        let texts: Vec<String> = input.drain(..leading).filter_map(|item| text_of(&item["content"])).collect();
        request.insert("instructions".to_owned(), json!(texts.join("\n\n")));
    }
    request.insert("store".to_owned(), json!(false));
    request.remove("max_output_tokens");
    serde_json::to_vec(&request).map_or(body, Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_prompt_becomes_the_instructions() {
        let request = json!({"model": "gpt-5.5", "max_output_tokens": 32_000, "stream": true, "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"role": "developer", "content": "A later word stays where it is."}]});
        let sent: Value = serde_json::from_slice(&body(request.to_string().into())).expect("JSON");
        assert_eq!(sent["instructions"], "Be brief.\n\nBe kind.");
        assert_eq!(sent["input"].as_array().map(Vec::len), Some(2));
        assert_eq!((&sent["store"], sent.get("max_output_tokens")), (&json!(false), None));
    }

    #[test]
    fn what_is_no_request_of_that_api_is_left_alone() {
        assert_eq!(body(Bytes::from_static(b"not json")), Bytes::from_static(b"not json"));
        let own = json!({"instructions": "mine", "input": [{"role": "system", "content": "x"}]});
        let sent: Value = serde_json::from_slice(&body(own.to_string().into())).expect("JSON");
        assert_eq!((&sent["instructions"], sent["input"].as_array().map(Vec::len)), (&json!("mine"), Some(1)));
    }
}
