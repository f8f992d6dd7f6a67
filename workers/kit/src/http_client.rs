//! The one way out of a Worker: every call has a deadline, a limit on its answer, and no redirects.

use std::time::Duration;

use futures_util::StreamExt;
use js_sys::{Promise, Uint8Array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{AbortSignal, RequestInit, RequestRedirect};
use worker::{Delay, Fetch, Fetcher, Headers, Request, Response};

use crate::clock;
use crate::deadline::Deadline;

/// Attempts of a call that may be repeated.
const ATTEMPTS: u32 = 3;
/// Pause before the second attempt, in ms; doubled for the third.
const FIRST_PAUSE_MS: u64 = 200;

/// Why there is no answer. None of the texts holds a header or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL, a header or the body cannot be sent.
    #[error("the request cannot be made: {0}")]
    Unsendable(String),
    /// No answer came.
    #[error("the server could not be reached: {0}")]
    Network(String),
    /// The deadline passed.
    #[error("no answer within {0} ms")]
    Deadline(u32),
    /// The answer is longer than is read.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The answer is not JSON of the expected shape.
    #[error("the answer has an unexpected shape: {0}")]
    Shape(String),
}

impl CallError {
    /// Whether a repetition may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Deadline(_))
    }
}

/// A call that is about to be made.
#[must_use = "a call is made by `send`"]
pub struct Call {
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    deadline_ms: u32,
    max_answer_bytes: usize,
    attempts: u32,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is 2xx.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// A header's value. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the status says that a repetition may help: 429 and every 5xx.
    pub const fn is_transient(&self) -> bool {
        self.status == 429 || self.status >= 500
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let text = std::str::from_utf8(&self.body).map_err(|error| CallError::Shape(error.to_string()))?;
        serde_json::from_str(text).map_err(|error| CallError::Shape(error.to_string()))
    }
}

impl Call {
    fn new(method: &'static str, url: impl Into<String>, attempts: u32) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            deadline_ms: 10_000,
            max_answer_bytes: 64 * 1024,
            attempts,
        }
    }

    /// Repeated when no answer comes, and on 502, 503 and 504, within the deadline.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url, ATTEMPTS)
    }

    /// Made once.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url, 1)
    }

    /// Made once.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url, 1)
    }

    /// Made once.
    pub fn patch(url: impl Into<String>) -> Self {
        Self::new("PATCH", url, 1)
    }

    /// Repeated like [`Call::get`].
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url, ATTEMPTS)
    }

    /// Lets it be repeated, because the receiver knows a repetition by its key.
    pub fn idempotent(mut self) -> Self {
        self.attempts = ATTEMPTS;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// `Authorization: Bearer …`
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    /// Sends JSON.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        // Our requests have string keys and finite numbers, so writing them cannot fail.
        self.body = Some(serde_json::to_vec(body).unwrap_or_default());
        self.header("Content-Type", "application/json")
    }

    /// Sends bytes.
    pub fn body(self, body: Vec<u8>, content_type: &str) -> Self {
        self.bytes(body).header("Content-Type", content_type)
    }

    /// Sends bytes, whose kind a header says already.
    pub fn bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }

    /// All attempts together end within this; 10 s by default.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// Longest answer that is read; 64 KiB by default.
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Makes the call over the network.
    pub async fn send(self) -> Result<Answer, CallError> {
        #[cfg(not(target_arch = "wasm32"))]
        return native::send(self).await;
        #[cfg(target_arch = "wasm32")]
        self.send_by(None).await
    }

    /// Makes the call to another Worker through its service binding.
    pub async fn send_to(self, service: &Fetcher) -> Result<Answer, CallError> {
        self.send_by(Some(service)).await
    }

    async fn send_by(self, service: Option<&Fetcher>) -> Result<Answer, CallError> {
        let began = clock::now();
        let mut pause = FIRST_PAUSE_MS;
        let mut left = self.attempts;
        loop {
            left -= 1;
            let spent = clock::now().since(began).clamp(0, i64::from(u32::MAX)) as u32;
            let remaining = self.deadline_ms.saturating_sub(spent);
            if remaining == 0 {
                return Err(CallError::Deadline(self.deadline_ms));
            }
            let result = self.attempt(service, remaining).await;
            let again = match &result {
                Ok(answer) => matches!(answer.status, 502..=504),
                Err(error) => matches!(error, CallError::Network(_)),
            };
            if !again || left == 0 || u64::from(remaining) <= pause {
                return result;
            }
            Delay::from(Duration::from_millis(pause)).await;
            pause *= 2;
        }
    }

    async fn attempt(&self, service: Option<&Fetcher>, deadline_ms: u32) -> Result<Answer, CallError> {
        // The signal ends the reading of the body, too.
        let deadline = Deadline::after(Duration::from_millis(u64::from(deadline_ms)))
            .map_err(|error| CallError::Unsendable(error.to_string()))?;
        let signal = deadline.signal();
        let failed = |error: worker::Error| {
            if deadline.is_over() {
                CallError::Deadline(self.deadline_ms)
            } else {
                CallError::Network(error.to_string())
            }
        };
        let request = self.request(&signal)?;
        let mut response = match service {
            None => Fetch::Request(request).send_with_signal(&signal.clone().into()).await.map_err(failed)?,
            Some(service) => fetch_through(service, &request).await.map_err(failed)?,
        };
        let body = self.read(&mut response).await.map_err(|error| match error {
            ReadError::Worker(error) => failed(error),
            ReadError::TooLarge => CallError::TooLarge(self.max_answer_bytes),
        })?;
        // The platform's names are in lower case.
        let headers = response.headers().entries().collect();
        Ok(Answer { status: response.status_code(), headers, body })
    }

    fn request(&self, signal: &AbortSignal) -> Result<Request, CallError> {
        let unsendable = |error: worker::Error| CallError::Unsendable(error.to_string());
        let headers = Headers::new();
        for (name, value) in &self.headers {
            headers.set(name, value).map_err(unsendable)?;
        }
        let init = RequestInit::new();
        init.set_method(self.method);
        init.set_headers(headers.as_ref());
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(Some(signal));
        if let Some(body) = &self.body {
            init.set_body(&Uint8Array::from(body.as_slice()));
        }
        worker::web_sys::Request::new_with_str_and_init(&self.url, &init)
            .map(Request::from)
            .map_err(|error| unsendable(error.into()))
    }

    async fn read(&self, response: &mut Response) -> Result<Vec<u8>, ReadError> {
        match response.body() {
            worker::ResponseBody::Empty => return Ok(Vec::new()),
            worker::ResponseBody::Body(bytes) => return Ok(bytes.clone()),
            worker::ResponseBody::Stream(_) => {}
        }
        let mut stream = response.stream().map_err(ReadError::Worker)?;
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(ReadError::Worker)?;
            if body.len() + chunk.len() > self.max_answer_bytes {
                return Err(ReadError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

#[wasm_bindgen]
extern "C" {
    type RawFetcher;

    #[wasm_bindgen(method, catch)]
    fn fetch(this: &RawFetcher, request: &worker::web_sys::Request) -> Result<Promise, JsValue>;
}

/// Sends a request through a binding: another Worker, or the static assets. The answer is not read.
///
/// The crate's own way converts every answer through a second set of HTTP types, which the Worker else does without.
pub async fn fetch_through(service: &Fetcher, request: &Request) -> worker::Result<Response> {
    let raw: RawFetcher = service.clone().into_rpc();
    let answer = JsFuture::from(raw.fetch(request.inner())?).await?;
    Ok(answer.unchecked_into::<worker::web_sys::Response>().into())
}

/// Outside of a Worker calls go where a test says.
#[cfg(not(target_arch = "wasm32"))]
pub mod native {
    use std::cell::RefCell;
    use std::rc::Rc;

    use futures_util::future::LocalBoxFuture;

    use super::{Answer, Call, CallError};

    /// A call as it leaves.
    #[derive(Debug, Clone)]
    pub struct Outgoing {
        /// Method, in upper case.
        pub method: &'static str,
        /// The whole URL.
        pub url: String,
        /// Headers, as they were given.
        pub headers: Vec<(&'static str, String)>,
        /// The body.
        pub body: Option<Vec<u8>>,
    }

    /// Answers calls.
    pub type Transport = Rc<dyn Fn(Outgoing) -> LocalBoxFuture<'static, Result<Answer, CallError>>>;

    thread_local! {
        static TRANSPORT: RefCell<Option<Transport>> = const { RefCell::new(None) };
    }

    /// All calls of this thread go here from now on.
    pub fn install(transport: Transport) {
        TRANSPORT.with(|slot| *slot.borrow_mut() = Some(transport));
    }

    pub(super) async fn send(call: Call) -> Result<Answer, CallError> {
        let transport = TRANSPORT.with(|slot| slot.borrow().clone());
        let transport = transport.ok_or_else(|| CallError::Network("nothing is reached from here".to_owned()))?;
        transport(Outgoing { method: call.method, url: call.url, headers: call.headers, body: call.body }).await
    }
}

enum ReadError {
    Worker(worker::Error),
    TooLarge,
}
