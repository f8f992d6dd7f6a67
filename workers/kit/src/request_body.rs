//! Bodies of requests, read up to a limit.

use futures_util::StreamExt;
use oi_protocol::ErrorCode;
use serde::de::DeserializeOwned;
use worker::Request;

use crate::failure::{Failure, Refusal, while_doing};

/// Reads the whole body, or refuses with 413 as soon as it is known to be longer than `max` bytes.
pub async fn read(request: &mut Request, max: usize) -> Result<Vec<u8>, Failure> {
    let announced = request.headers().get("Content-Length").map_err(while_doing("reading a header"))?;
    if announced.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > max) {
        return Err(Refusal::too_large().into());
    }
    if request.inner().body().is_none() {
        return Ok(Vec::new());
    }
    let mut stream = request.stream().map_err(while_doing("reading a body"))?;
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::invalid_body("The request body was cut off"))?;
        if body.len() + chunk.len() > max {
            return Err(Refusal::too_large().into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// For a body that is passed on as a stream: its length must be announced, and be at most `max` bytes. The platform
/// holds the sender to it.
pub fn require_length(request: &Request, max: usize) -> Result<usize, Failure> {
    let announced = request.headers().get("Content-Length").map_err(while_doing("reading a header"))?;
    match announced.and_then(|text| text.parse::<usize>().ok()) {
        Some(length) if length <= max => Ok(length),
        Some(_) => Err(Refusal::too_large().into()),
        None => Err(Refusal::new(411, ErrorCode::InvalidBody, "Content-Length is required").into()),
    }
}

/// A body as a JSON object of a known shape. `sentence` is what a wrong shape is refused with.
pub fn parse<T: DeserializeOwned>(body: &[u8], sentence: &'static str) -> Result<T, Refusal> {
    // Whether it is JSON at all is told apart from whether it fits. A list would fit a shape by its order.
    let not_json = |_| Refusal::invalid_body("Invalid JSON body");
    let text = std::str::from_utf8(body).map_err(|_| Refusal::invalid_body("Invalid JSON body"))?;
    let raw: &serde_json::value::RawValue = serde_json::from_str(text).map_err(not_json)?;
    if !raw.get().starts_with('{') {
        return Err(Refusal::invalid_body("JSON body must be an object"));
    }
    serde_json::from_str(text).map_err(|_| Refusal::invalid_body(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Shape {
        content: String,
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_a_wrong_shape() {
        let parsed = parse::<Shape>(br#"{"content":"a"}"#, "content is required");
        assert_eq!(parsed, Ok(Shape { content: "a".to_owned() }));
        for (body, sentence) in [
            (&b""[..], "Invalid JSON body"),
            (b"{", "Invalid JSON body"),
            (b"{} x", "Invalid JSON body"),
            (b"\xff", "Invalid JSON body"),
            (b" [\"a\"]", "JSON body must be an object"),
            (b"null", "JSON body must be an object"),
            (b" {} ", "content is required"),
            (br#"{"content":1}"#, "content is required"),
        ] {
            assert_eq!(parse::<Shape>(body, "content is required"), Err(Refusal::invalid_body(sentence)));
        }
    }
}
