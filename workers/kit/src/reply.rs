//! Answers.

use serde::Serialize;
use worker::{Headers, Response, ResponseBuilder};

use crate::failure::{Failure, Refusal, while_doing};

/// JSON with a status.
pub fn json(status: u16, body: &impl Serialize) -> Result<Response, Failure> {
    let text = serde_json::to_string(body).map_err(while_doing("writing an answer"))?;
    json_text(status, text)
}

/// JSON that is text already.
pub fn json_text(status: u16, text: String) -> Result<Response, Failure> {
    with_type(status, "application/json; charset=utf-8", text)
}

/// Plain text.
pub fn text(status: u16, text: impl Into<String>) -> Result<Response, Failure> {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

fn with_type(status: u16, content_type: &str, text: String) -> Result<Response, Failure> {
    let builder = ResponseBuilder::new()
        .with_status(status)
        .with_header("Content-Type", content_type)
        .map_err(while_doing("writing an answer"))?;
    Ok(builder.fixed(text.into_bytes()))
}

/// The answer to a failure.
pub fn failure(failure: &Failure, request_id: &str) -> Result<Response, Failure> {
    let mut response = json(failure.status(), &failure.body(request_id))?;
    if let Failure::Refused(Refusal { retry_after_seconds: Some(seconds), .. }) = failure {
        let set = response.headers_mut().set("Retry-After", &seconds.to_string());
        set.map_err(while_doing("writing an answer"))?;
    }
    Ok(response)
}

/// 302 to a URL or path that the caller of this has checked.
pub fn redirect(location: &str) -> Result<Response, Failure> {
    let headers = Headers::new();
    headers.set("Location", location).map_err(while_doing("writing a redirect"))?;
    Ok(ResponseBuilder::new().with_status(302).with_headers(headers).empty())
}
