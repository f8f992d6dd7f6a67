//! Calls from the sandbox to the control plane, with the sandbox's bearer.

mod boot;
pub mod commit_signing;
pub mod provider_token;
pub mod tools;

use std::time::Duration;

use futures_util::StreamExt as _;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use oi_protocol::diff::{DiffBundle, DiffFailure};
use oi_protocol::limits;
use oi_protocol::rest::{CreatePullRequestRequest, CreatePullRequestResponse, ScmCredentials};
use oi_protocol::text::truncate_bytes;
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::secret::Secret;

const CREDENTIALS_WITHIN: Duration = Duration::from_secs(15);
/// The agent's next events wait for it.
const OUTPUT_WITHIN: Duration = Duration::from_secs(30);
/// A prompt waits for its files.
const ATTACHMENT_WITHIN: Duration = Duration::from_secs(120);
/// It waits for a push, which may take five minutes.
const PULL_REQUEST_WITHIN: Duration = Duration::from_secs(400);
/// Repetitions of a call that was not answered.
const CALLED_AGAIN: u32 = 4;
const DIFF_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// It could not be reached, or broke off. The address is left out: it says nothing to people.
    #[error("the control plane cannot be reached")]
    Unreachable,
    /// It took too long.
    #[error("the control plane did not answer within {0} s")]
    TimedOut(u64),
    /// It refused.
    #[error("{text} (status {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable code, when there is one.
        code: String,
        /// The sentence.
        text: String,
    },
    /// Its answer is not understood.
    #[error("the control plane's answer is not understood")]
    Odd,
    /// It was not asked: what would have been sent could not be made.
    #[error("{0}")]
    Local(String),
}

impl ControlPlaneError {
    /// Whether it does not know what was asked for.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// What became of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullRequestAnswer {
    /// It is open.
    Done(CreatePullRequestResponse),
    /// A person must open it.
    Manual {
        /// Where.
        create_pr_url: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PullRequestBody {
    Done(CreatePullRequestResponse),
    Manual {
        #[serde(rename = "createPrUrl")]
        create_pr_url: String,
    },
}

/// The control plane, as one session's sandbox sees it.
#[derive(Debug)]
pub struct ControlPlane {
    http: reqwest::Client,
    /// `…/sessions/{id}`
    session_url: String,
    sandbox_id: String,
    token: Secret,
}

impl ControlPlane {
    /// For the session of a sandbox.
    pub fn new(base: &str, session_id: &str, sandbox_id: String, token: Secret) -> Result<Self, reqwest::Error> {
        // A redirect would carry the bearer elsewhere.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        let session_url = format!("{}/sessions/{session_id}", base.trim_end_matches('/'));
        Ok(Self { http, session_url, sandbox_id, token })
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.at(method, format!("{}{path}", self.session_url))
    }

    fn at(&self, method: Method, url: String) -> RequestBuilder {
        let request = self.http.request(method, url).header("X-Sandbox-ID", &self.sandbox_id);
        match self.token.bearer() {
            Some(bearer) => request.header(AUTHORIZATION, bearer),
            None => request,
        }
    }

    /// A credential for git. Asked for again when the control plane was just being restarted: git asks once.
    pub async fn scm_credentials(&self) -> Result<ScmCredentials, ControlPlaneError> {
        until_answered(CREDENTIALS_WITHIN, Duration::from_millis(250), is_passing, || async {
            let credentials: ScmCredentials = answer(self.post("/scm-credentials").send().await).await?;
            if credentials.expires_at_epoch_ms > 0 { Ok(credentials) } else { Err(ControlPlaneError::Odd) }
        })
        .await
    }

    /// Stores what a tool printed, under a name that is the same when it is told again.
    pub async fn store_output(&self, output_id: &str, text: String) -> Result<(), ControlPlaneError> {
        let text = axum::body::Bytes::from(text);
        until_answered(OUTPUT_WITHIN, Duration::from_millis(500), is_passing, || {
            let request = self.request(Method::PUT, &format!("/outputs/{output_id}"));
            let request = request.header(CONTENT_TYPE, "text/plain; charset=utf-8").body(text.clone());
            async { done(request.send().await).await }
        })
        .await
    }

    /// A file that goes with a prompt, whole.
    pub async fn attachment(&self, attachment_id: &str) -> Result<Vec<u8>, ControlPlaneError> {
        let path = format!("/attachments/{attachment_id}");
        until_answered(ATTACHMENT_WITHIN, Duration::from_millis(500), is_passing, || async {
            body(self.request(Method::GET, &path).send().await, limits::ATTACHMENT_MAX_BYTES).await
        })
        .await
    }

    /// What changed; it takes the place of what was stored before.
    pub async fn store_diff(&self, bundle: &DiffBundle) -> Result<(), ControlPlaneError> {
        let json = serde_json::to_vec(bundle).map_err(|error| ControlPlaneError::Local(error.to_string()))?;
        let json = axum::body::Bytes::from(json);
        until_answered(DIFF_WITHIN, Duration::from_millis(500), is_passing, || {
            let request = self.request(Method::PUT, "/diff").header(CONTENT_TYPE, "application/json");
            let request = request.body(json.clone());
            async { done(request.send().await).await }
        })
        .await
    }

    /// Why there is no newer bundle.
    pub async fn report_diff_failure(&self, error: &str) -> Result<(), ControlPlaneError> {
        let error = truncate_bytes(error, limits::DIFF_ERROR_MAX_UTF16).to_owned();
        let failure = DiffFailure { error };
        until_answered(DIFF_WITHIN, Duration::from_millis(500), is_passing, || async {
            done(self.post("/diff/failure").json(&failure).send().await).await
        })
        .await
    }

    /// Opens or updates a pull request. `key` makes a repetition harmless, so a lost or unfinished answer is asked
    /// for again.
    pub async fn create_pull_request(
        &self,
        request: &CreatePullRequestRequest,
        key: &str,
    ) -> Result<PullRequestAnswer, ControlPlaneError> {
        let again = |error: &ControlPlaneError, attempt: u32| match error {
            ControlPlaneError::Unreachable => attempt < 5,
            ControlPlaneError::Refused { status: 503, code, .. } => code == "RETRY" && attempt < 20,
            _ => false,
        };
        let body = until_answered(PULL_REQUEST_WITHIN, Duration::from_millis(500), again, || async {
            answer::<PullRequestBody>(self.post("/pr").header("Idempotency-Key", key).json(request).send().await).await
        })
        .await?;
        Ok(match body {
            PullRequestBody::Done(done) => PullRequestAnswer::Done(done),
            PullRequestBody::Manual { create_pr_url } => PullRequestAnswer::Manual { create_pr_url },
        })
    }
}

/// What a call that is quick is repeated for: the control plane is not there, or has a fault of its own.
const fn is_passing(error: &ControlPlaneError, attempt: u32) -> bool {
    let passes = match error {
        ControlPlaneError::Unreachable => true,
        ControlPlaneError::Refused { status, .. } => *status >= 500,
        ControlPlaneError::TimedOut(_) | ControlPlaneError::Odd | ControlPlaneError::Local(_) => false,
    };
    passes && attempt < CALLED_AGAIN
}

/// Calls again, at growing intervals, while `again` says so of the error and of the repetitions so far. For calls whose
/// repetition is harmless.
async fn until_answered<T, F: Future<Output = Result<T, ControlPlaneError>>>(
    within: Duration,
    first_wait: Duration,
    again: impl Fn(&ControlPlaneError, u32) -> bool,
    call: impl Fn() -> F,
) -> Result<T, ControlPlaneError> {
    let deadline = Instant::now() + within;
    let mut attempt = 0_u32;
    loop {
        let result = timeout_at(deadline, call()).await.unwrap_or(Err(ControlPlaneError::TimedOut(within.as_secs())));
        let wait = first_wait * 2_u32.pow(attempt.min(4));
        let ends = result.as_ref().map_or_else(|error| !again(error, attempt), |_| true);
        if ends || Instant::now() + wait >= deadline {
            return result;
        }
        attempt += 1;
        sleep(wait).await;
    }
}

/// A call that is made once.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, ControlPlaneError>>,
) -> Result<T, ControlPlaneError> {
    timeout(limit, call).await.unwrap_or(Err(ControlPlaneError::TimedOut(limit.as_secs())))
}

/// An answer's status and its body, when that is no longer than `max` bytes.
async fn read(
    sent: Result<Response, reqwest::Error>,
    max: usize,
) -> Result<(http::StatusCode, Vec<u8>), ControlPlaneError> {
    let response = sent.map_err(|_| ControlPlaneError::Unreachable)?;
    let status = response.status();
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| ControlPlaneError::Unreachable)?);
        if bytes.len() > max {
            return Err(ControlPlaneError::Odd);
        }
    }
    Ok((status, bytes))
}

/// The body of an answer that is no refusal, when it is no longer than `max` bytes.
async fn body(sent: Result<Response, reqwest::Error>, max: usize) -> Result<Vec<u8>, ControlPlaneError> {
    let (status, bytes) = read(sent, max).await?;
    if status.is_success() { Ok(bytes) } else { Err(refusal(status.as_u16(), &bytes)) }
}

/// What an answer of at most `max` bytes says.
async fn answer_of<T: DeserializeOwned>(
    sent: Result<Response, reqwest::Error>,
    max: usize,
) -> Result<T, ControlPlaneError> {
    serde_json::from_slice(&body(sent, max).await?).map_err(|_| ControlPlaneError::Odd)
}

async fn answer<T: DeserializeOwned>(sent: Result<Response, reqwest::Error>) -> Result<T, ControlPlaneError> {
    answer_of(sent, ANSWER_MAX_BYTES).await
}

/// An answer that says no more than that it was done.
async fn done(sent: Result<Response, reqwest::Error>) -> Result<(), ControlPlaneError> {
    answer::<IgnoredAny>(sent).await.map(drop)
}

fn refusal(status: u16, bytes: &[u8]) -> ControlPlaneError {
    let body: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let field = |key: &str| body.get(key).and_then(serde_json::Value::as_str);
    let raw = || oi_protocol::text::truncate_bytes(std::str::from_utf8(bytes).unwrap_or_default(), 500).to_owned();
    let text = field("error").or_else(|| field("message")).map_or_else(raw, str::to_owned);
    let text = if text.trim().is_empty() { "the control plane refused".to_owned() } else { text };
    ControlPlaneError::Refused { status, code: field("code").unwrap_or_default().to_owned(), text }
}
