//! OpenCode's HTTP API.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::questions::Asked;
use super::sse::SseParser;
use super::wire::{MessageInfo, Part, SessionInfo, SseFrame, StoredMessage};
use crate::agent::TurnFile;
use crate::secret::Secret;

/// Any call but the stream.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// OpenCode sends a heartbeat every 10 s; a stream that is silent for longer than this is dead.
const STREAM_SILENCE: Duration = Duration::from_secs(35);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenCodeError {
    /// No connection, or it broke.
    #[error("OpenCode cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// It answered with an error.
    #[error("OpenCode answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it says, cut.
        text: String,
    },
    /// Its answer is not understood.
    #[error("OpenCode's answer is not understood: {0}")]
    Odd(String),
}

/// One running OpenCode server.
#[derive(Debug, Clone)]
pub struct OpenCodeClient {
    http: reqwest::Client,
    base: String,
    password: Secret,
}

/// A prompt for `prompt_async`.
pub struct PromptBody<'a> {
    /// Starts with `msg`.
    pub message_id: &'a str,
    /// The text.
    pub text: &'a str,
    /// Files.
    pub files: &'a [TurnFile],
    /// Provider.
    pub provider: &'a str,
    /// Model.
    pub model: &'a str,
    /// Named set of the model's options, which carries the effort.
    pub variant: Option<&'a str>,
}

/// The text and then the files, as OpenCode takes them. A text that is blank is left out where there are files.
fn parts(body: &PromptBody<'_>) -> Vec<Value> {
    let says_something = body.files.is_empty() || !body.text.trim().is_empty();
    let text = says_something.then(|| json!({"type": "text", "text": body.text}));
    let files = body.files.iter().map(|file| {
        let url = format!("data:{};base64,{}", file.mime_type, STANDARD.encode(&file.bytes));
        json!({"type": "file", "mime": file.mime_type, "filename": file.name, "url": url})
    });
    text.into_iter().chain(files).collect()
}

impl OpenCodeClient {
    /// A client of the server at `base`.
    pub fn new(http: reqwest::Client, base: String, password: Secret) -> Self {
        Self { http, base, password }
    }

    /// An HTTP client that reaches loopback directly, whatever proxy the environment names.
    pub fn http() -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()
    }

    fn request(&self, method: Method, path: &str, directory: Option<&Path>) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .basic_auth("opencode", Some(self.password.reveal()));
        match directory {
            Some(directory) => request.query(&[("directory", directory.as_os_str().to_string_lossy())]),
            None => request,
        }
    }

    async fn call(&self, request: RequestBuilder) -> Result<Response, OpenCodeError> {
        let response = request.timeout(CALL_TIMEOUT).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = bounded(response, 4096).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Err(OpenCodeError::Refused { status, text: text.unwrap_or_default() })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, OpenCodeError> {
        let bytes = bounded(self.call(request).await?, ANSWER_MAX_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|error| OpenCodeError::Odd(error.to_string()))
    }

    /// Whether the server is up.
    pub async fn is_healthy(&self) -> bool {
        let request = self.request(Method::GET, "/global/health", None).timeout(Duration::from_secs(2));
        request.send().await.is_ok_and(|response| response.status().is_success())
    }

    /// Makes OpenCode load what the first prompt needs.
    pub async fn warm(&self, directory: &Path, provider: &str, model: &str) -> Result<(), OpenCodeError> {
        self.call(self.request(Method::GET, "/config/providers", Some(directory))).await?;
        let tools = self.request(Method::GET, "/experimental/tool", Some(directory));
        self.call(tools.query(&[("provider", provider), ("model", model)])).await?;
        Ok(())
    }

    /// A new session that works in `directory`.
    pub async fn create_session(&self, directory: &Path) -> Result<SessionInfo, OpenCodeError> {
        self.json(self.request(Method::POST, "/session", Some(directory)).json(&json!({}))).await
    }

    /// What OpenCode asks to be allowed, by id. Of whatever session: a sub-agent's sub-agent asks too, and
    /// the stream does not say whose it is.
    pub async fn permissions(&self, directory: &Path) -> Result<Vec<String>, OpenCodeError> {
        let list: Vec<Value> = self.json(self.request(Method::GET, "/permission", Some(directory))).await?;
        let id = |asked: &Value| asked.get("id").and_then(Value::as_str).map(str::to_owned);
        Ok(list.iter().filter_map(id).collect())
    }

    /// A session, or `None` when there is none of this name.
    pub async fn session(&self, id: &str) -> Result<Option<SessionInfo>, OpenCodeError> {
        match self.json(self.request(Method::GET, &format!("/session/{id}"), None)).await {
            Ok(session) => Ok(Some(session)),
            // A malformed id is a 500 there.
            Err(OpenCodeError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a prompt. The same message id again starts no second run.
    pub async fn prompt(&self, session: &str, body: &PromptBody<'_>) -> Result<(), OpenCodeError> {
        let mut json = json!({
            "messageID": body.message_id,
            "model": {"providerID": body.provider, "modelID": body.model},
            "parts": parts(body),
        });
        if let Some(variant) = body.variant {
            json["variant"] = variant.into();
        }
        let request = self.request(Method::POST, &format!("/session/{session}/prompt_async"), None).json(&json);
        self.call(request).await.map(drop)
    }

    /// Stops what the session does.
    pub async fn abort(&self, session: &str) -> Result<(), OpenCodeError> {
        self.call(self.request(Method::POST, &format!("/session/{session}/abort"), None)).await.map(drop)
    }

    /// Whether the session is working.
    pub async fn is_busy(&self, session: &str, directory: &Path) -> Result<bool, OpenCodeError> {
        let statuses: Value = self.json(self.request(Method::GET, "/session/status", Some(directory))).await?;
        let kind = statuses.get(session).and_then(|status| status.get("type")).and_then(Value::as_str);
        Ok(kind.is_some_and(|kind| kind != "idle"))
    }

    /// The session's messages, oldest first. What is not understood is left out.
    pub async fn messages(&self, session: &str) -> Result<Vec<StoredMessage>, OpenCodeError> {
        let list: Vec<Value> =
            self.json(self.request(Method::GET, &format!("/session/{session}/message"), None)).await?;
        Ok(list.into_iter().filter_map(stored_message).collect())
    }

    /// Allows what OpenCode asks for: the sandbox is the boundary.
    pub async fn allow(&self, permission: &str, directory: &Path) -> Result<(), OpenCodeError> {
        let request = self.request(Method::POST, &format!("/permission/{permission}/reply"), Some(directory));
        self.call(request.json(&json!({"reply": "once"}))).await.map(drop)
    }

    /// Answers a question: for each of its parts, what was chosen.
    pub async fn reply(&self, question: &str, answers: &[Vec<String>], directory: &Path) -> Result<(), OpenCodeError> {
        // Only routes of a session know its folder by themselves.
        let request = self.request(Method::POST, &format!("/question/{question}/reply"), Some(directory));
        self.call(request.json(&json!({"answers": answers}))).await.map(drop)
    }

    /// Questions that wait.
    pub async fn questions(&self, directory: &Path) -> Result<Vec<Asked>, OpenCodeError> {
        let list: Vec<Value> = self.json(self.request(Method::GET, "/question", Some(directory))).await?;
        Ok(list.into_iter().filter_map(|asked| serde_json::from_value(asked).ok()).collect())
    }

    /// Tells OpenCode that nobody answers its question.
    pub async fn reject(&self, question: &str, directory: &Path) -> Result<(), OpenCodeError> {
        let request = self.request(Method::POST, &format!("/question/{question}/reject"), Some(directory));
        self.call(request.json(&json!({}))).await.map(drop)
    }

    /// Subscribes to what happens in `directory`. There is no replay.
    pub async fn events(&self, directory: &Path) -> Result<EventStream, OpenCodeError> {
        let request = self.request(Method::GET, "/event", Some(directory));
        let response = tokio::time::timeout(CALL_TIMEOUT, request.send())
            .await
            .map_err(|_| OpenCodeError::Odd("no event stream within 30 s".to_owned()))??;
        if !response.status().is_success() {
            return Err(OpenCodeError::Refused { status: response.status(), text: String::new() });
        }
        Ok(EventStream { response, parser: SseParser::default(), ready: Vec::new().into_iter() })
    }
}

fn stored_message(value: Value) -> Option<StoredMessage> {
    let Value::Object(mut object) = value else { return None };
    let info: MessageInfo = serde_json::from_value(object.remove("info")?).ok()?;
    let parts = match object.remove("parts") {
        Some(Value::Array(parts)) => {
            parts.into_iter().filter_map(|part| serde_json::from_value::<Part>(part).ok()).collect()
        }
        _ => Vec::new(),
    };
    Some(StoredMessage { info, parts })
}

async fn bounded(response: Response, max: usize) -> Result<Vec<u8>, OpenCodeError> {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > max {
            return Err(OpenCodeError::Odd(format!("the answer has more than {max} bytes")));
        }
    }
    Ok(bytes)
}

/// The stream of `GET /event`.
pub struct EventStream {
    response: Response,
    parser: SseParser,
    ready: std::vec::IntoIter<SseFrame>,
}

impl EventStream {
    /// The next frame, or `None` when the stream ended, broke or fell silent. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<SseFrame> {
        loop {
            if let Some(frame) = self.ready.next() {
                return Some(frame);
            }
            match tokio::time::timeout(STREAM_SILENCE, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => self.ready = self.parser.push(&chunk).into_iter(),
                Ok(Ok(None) | Err(_)) | Err(_) => return None,
            }
        }
    }
}
