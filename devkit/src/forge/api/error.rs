//! Refusals and faults in GitHub's shape.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tracing::error;

use crate::forge::git::GitError;
use crate::forge::store::StoreError;

const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// An answer that is no success: `{message, documentation_url, status, errors?}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    errors: Vec<Value>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: Vec::new() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub fn bad_credentials() -> Self {
        Self::unauthorized("Bad credentials")
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// There is no such thing, or the caller may not know of it.
    pub fn not_found() -> Self {
        Self::missing("Not Found")
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 422 with one entry in `errors`: `{resource, code, field?, message?}`.
    pub fn validation(resource: &str, code: &str, field: Option<&str>, message: Option<&str>) -> Self {
        let mut entry = json!({ "resource": resource, "code": code });
        if let Some(field) = field {
            entry["field"] = field.into();
        }
        if let Some(message) = message {
            entry["message"] = message.into();
        }
        Self { errors: vec![entry], ..Self::unprocessable("Validation Failed") }
    }

    /// The status and what it says, for another shape than GitHub's.
    pub fn parts(&self) -> (StatusCode, String) {
        let details = self.errors.iter().filter_map(|entry| entry["message"].as_str().or(entry["field"].as_str()));
        let message = details.fold(self.message.clone(), |text, detail| format!("{text}: {detail}"));
        (self.status, message)
    }

    /// Our own failure: logged with its cause, told without it.
    pub fn fault(cause: impl std::fmt::Display) -> Self {
        error!(%cause, "the forge failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
    }
}

impl From<GitError> for ApiError {
    fn from(error: GitError) -> Self {
        Self::fault(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::fault(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "message": self.message,
            "documentation_url": DOCUMENTATION,
            "status": self.status.as_u16().to_string(),
        });
        if !self.errors.is_empty() {
            body["errors"] = self.errors.into();
        }
        (self.status, Json(body)).into_response()
    }
}
