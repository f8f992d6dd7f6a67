//! Calls to one session: one request, one enum, never a path.

use std::time::Duration;

use oi_protocol::{ErrorBody, ErrorCode, SessionId};
use oi_session::call::{CallEnvelope, Principal, SessionCall};
use oi_worker_kit::deadline::Deadline;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, Fault, Refusal, reply};
use serde::de::DeserializeOwned;
use worker::durable::Stub;
use worker::web_sys::{AbortSignal, RequestInit};
use worker::{Env, Headers, Request, Response};

/// A call that waits for nothing outside.
const QUICK: Duration = Duration::from_secs(30);
/// A call that waits for a push and the forge: a little longer than the session itself waits.
const PATIENT: Duration = Duration::from_secs(390);
const CALL_URL: &str = "http://session/call";

fn stub(env: &Env, id: &SessionId) -> Result<Stub, Failure> {
    let namespace = env.durable_object("SESSION").map_err(while_doing("finding SESSION"))?;
    namespace.get_by_name(id.as_str()).map_err(while_doing("finding a session's object"))
}

/// Hands an upgrade to the session. A refusal is copied, since the headers of an object's answer cannot be added to.
pub async fn upgrade(env: &Env, id: &SessionId, request: Request) -> Result<Response, Failure> {
    let answer = stub(env, id)?.fetch_with_request(request).await;
    let mut answer = answer.map_err(while_doing("upgrading to a WebSocket"))?;
    if answer.status_code() == 101 {
        return Ok(answer);
    }
    let sentence = answer.text().await.map_err(while_doing("reading a refused upgrade"))?;
    reply::text(answer.status_code(), sentence)
}

/// How long a call may take, its answer's reading included.
const fn deadline_of(call: &SessionCall) -> Duration {
    if matches!(call, SessionCall::CreatePullRequest { .. }) { PATIENT } else { QUICK }
}

fn envelope(principal: Principal, call: SessionCall, signal: &AbortSignal) -> Result<Request, Failure> {
    let body = serde_json::to_string(&CallEnvelope { principal, call }).map_err(while_doing("writing a call"))?;
    post(CALL_URL, &body, signal)
}

/// A request to one of our objects. The platform's own types: those of `worker` take no signal.
pub(crate) fn post(url: &str, body: &str, signal: &AbortSignal) -> Result<Request, Failure> {
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&body.into());
    init.set_signal(Some(signal));
    let request = worker::web_sys::Request::new_with_str_and_init(url, &init);
    request.map(Request::from).map_err(|error| Fault::new("writing a call", format!("{error:?}")).into())
}

async fn send(
    env: &Env,
    id: &SessionId,
    principal: Principal,
    call: SessionCall,
    signal: &AbortSignal,
) -> Result<Response, Failure> {
    let request = envelope(principal, call, signal)?;
    stub(env, id)?.fetch_with_request(request).await.map_err(|error| {
        oi_worker_kit::log::Line::error("control-plane", "session.unreachable")
            .with("session_id", id.as_str())
            .with("error", error.to_string())
            .write();
        // It may have been taken all the same: a repetition with the same key meets it.
        Refusal::new(503, ErrorCode::Retry, "The session could not be reached. Try again.").into()
    })
}

/// A session's answer, read.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

impl Answer {
    /// Whether the status is 2xx.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The session's refusal, as ours.
    pub fn refusal(&self) -> Failure {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Refused {
            #[serde(flatten)]
            body: ErrorBody,
            #[serde(default)]
            retry_after_seconds: Option<u32>,
        }
        match serde_json::from_str::<Refused>(&self.body) {
            Ok(Refused { body, retry_after_seconds }) => {
                Refusal::new(self.status, body.code, body.error).retry_after(retry_after_seconds).into()
            }
            Err(error) => Fault::new("reading a session's refusal", error).into(),
        }
    }

    /// What a success holds.
    pub fn read<T: DeserializeOwned>(&self, doing: &'static str) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(while_doing(doing))
    }
}

/// Calls a session and reads its answer.
pub async fn call(env: &Env, id: &SessionId, principal: Principal, call: SessionCall) -> Result<Answer, Failure> {
    let deadline = Deadline::after(deadline_of(&call)).map_err(while_doing("setting a deadline"))?;
    let mut response = send(env, id, principal, call, &deadline.signal()).await?;
    let body = response.text().await.map_err(while_doing("reading a session's answer"))?;
    Ok(Answer { status: response.status_code(), body })
}

/// What the session's object says of its statements. This wakes nothing in it.
pub async fn costs(env: &Env, id: &SessionId) -> Result<Answer, Failure> {
    let answer = stub(env, id)?.fetch_with_str("http://session/costs").await;
    let mut response = answer.map_err(while_doing("asking a session for its costs"))?;
    let body = response.text().await.map_err(while_doing("reading a session's answer"))?;
    Ok(Answer { status: response.status_code(), body })
}

/// Calls a session for what only a success answers: its refusal is ours.
pub async fn ask(env: &Env, id: &SessionId, principal: Principal, wanted: SessionCall) -> Result<Answer, Failure> {
    let answer = call(env, id, principal, wanted).await?;
    if answer.is_success() { Ok(answer) } else { Err(answer.refusal()) }
}

/// Calls a session and passes its answer on: what succeeded as a stream, a refusal with the request's id in it.
pub async fn relay(env: &Env, id: &SessionId, principal: Principal, call: SessionCall) -> Result<Response, Failure> {
    // Its timer outlives this function, as the streaming of the answer does.
    let signal = AbortSignal::timeout_with_u32(deadline_of(&call).as_millis() as u32);
    let mut response = send(env, id, principal, call, &signal).await?;
    let status = response.status_code();
    if status >= 400 {
        let body = response.text().await.map_err(while_doing("reading a session's answer"))?;
        return Err(Answer { status, body }.refusal());
    }
    if matches!(response.body(), worker::ResponseBody::Empty) {
        return reply::json_text(status, "{}".to_owned());
    }
    let headers = Headers::new();
    headers.set("Content-Type", "application/json; charset=utf-8").map_err(while_doing("writing an answer"))?;
    Ok(response.with_headers(headers))
}
