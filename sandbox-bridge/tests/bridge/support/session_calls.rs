//! Calls that the agent's tools and the gateway make: recorded, and answered as the test says.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::session::{Session, has_token};

/// A call that came.
#[derive(Clone)]
pub struct Call {
    /// `POST children/x?a=b`
    pub what: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Call {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Default)]
pub struct Calls {
    pub made: Vec<Call>,
    /// By method and path without the query; the last of several stays.
    answers: HashMap<String, Vec<(u16, Value)>>,
}

impl Calls {
    pub fn answer(&mut self, what: &str, status: u16, body: Value) {
        self.answers.entry(what.to_owned()).or_default().push((status, body));
    }

    pub fn of(&self, what: &str) -> Vec<Call> {
        self.made.iter().filter(|call| call.what.starts_with(what)).cloned().collect()
    }

    fn next(&mut self, what: &str) -> Option<(u16, Value)> {
        let answers = self.answers.get_mut(what)?;
        if answers.len() > 1 { Some(answers.remove(0)) } else { answers.first().cloned() }
    }
}

pub fn routes() -> Router<Session> {
    // The last two are people's: no call of the sandbox may reach them.
    let paths = ["children", "children/{*rest}", "media", "slack-notify", "provider-auth/{*rest}", "prompt", "cancel"];
    paths.into_iter().fold(Router::new(), |router, path| {
        router.route(&format!("/sessions/{{id}}/{path}"), any(take).layer(DefaultBodyLimit::max(128 << 20)))
    })
}

async fn take(
    State(session): State<Session>,
    method: Method,
    uri: Uri,
    Path(_): Path<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let path = uri.path().splitn(4, '/').nth(3).unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if let Ok(announced) = header("content-length").parse::<usize>() {
        assert_eq!(announced, body.len());
    }
    let call =
        Call { what: format!("{method} {path}{query}"), content_type: header("content-type"), body: body.to_vec() };
    let mut taken = session.taken();
    taken.calls.made.push(call);
    let what = format!("{method} {path}");
    let (status, body) = taken.calls.next(&what).unwrap_or((404, json!({"error": format!("{what} is not there")})));
    (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response()
}
