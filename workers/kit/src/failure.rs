//! Why a request is not answered as asked: refusals, which are the caller's, and faults, which are ours.

use std::borrow::Cow;
use std::fmt::Display;

use oi_protocol::{ErrorBody, ErrorCode};

/// The caller asked for something that is not given. The sentence is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// HTTP status, 4xx, or 5xx for what is not set up or cannot be reached.
    pub status: u16,
    /// Stable code.
    pub code: ErrorCode,
    /// What happened and what to do.
    pub sentence: Cow<'static, str>,
    /// When to ask again, in seconds: `Retry-After`.
    pub retry_after_seconds: Option<u32>,
}

/// Something of ours failed. The caller learns only that; the rest is for the logs and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {cause}")]
pub struct Fault {
    /// What was being done.
    pub doing: Cow<'static, str>,
    /// What went wrong.
    pub cause: String,
}

/// Either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The caller's.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ours.
    #[error(transparent)]
    Faulted(#[from] Fault),
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, code: ErrorCode, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, sentence: sentence.into(), retry_after_seconds: None }
    }

    /// The same, with the time to wait.
    #[must_use]
    pub fn retry_after(self, seconds: Option<u32>) -> Self {
        Self { retry_after_seconds: seconds, ..self }
    }

    /// 400: the body is not of the expected shape.
    pub fn invalid_body(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, ErrorCode::InvalidBody, sentence)
    }

    /// 400: a path or query parameter is malformed.
    pub fn invalid_parameter(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, ErrorCode::InvalidParameter, sentence)
    }

    /// 401, with the sentence that the wire has for it.
    pub fn unauthorized() -> Self {
        Self::new(401, ErrorCode::Unauthorized, "Unauthorized")
    }

    /// 403
    pub fn forbidden(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, ErrorCode::Forbidden, sentence)
    }

    /// 404
    pub fn not_found(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(404, ErrorCode::NotFound, sentence)
    }

    /// 409: the state does not allow it.
    pub fn conflict(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(409, ErrorCode::Conflict, sentence)
    }

    /// 413
    pub fn too_large() -> Self {
        Self::new(413, ErrorCode::TooLarge, "Request body too large")
    }

    /// 503: the deployment lacks a setting. The sentence names it.
    pub fn not_configured(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, ErrorCode::NotConfigured, sentence)
    }

    /// 502: a vendor refused or failed.
    pub fn upstream(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(502, ErrorCode::UpstreamFailed, sentence)
    }
}

impl Fault {
    /// A fault while doing something.
    pub fn new(doing: impl Into<Cow<'static, str>>, cause: impl Display) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }
}

/// For `map_err`: a fault while `doing`.
pub fn while_doing<E: Display>(doing: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::Faulted(Fault::new(doing, error))
}

impl Failure {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status,
            Self::Faulted(_) => 500,
        }
    }

    /// The body of the answer. Nothing of a fault's cause is in it.
    pub fn body(&self, request_id: &str) -> ErrorBody {
        let (error, code) = match self {
            Self::Refused(refusal) => (refusal.sentence.clone().into_owned(), refusal.code),
            Self::Faulted(_) => ("Internal server error".to_owned(), ErrorCode::Internal),
        };
        ErrorBody { error, code, request_id: Some(request_id.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_tells_the_caller_nothing_of_its_cause() {
        let failure = Failure::from(Fault::new("reading a row", "token gho_123 is bad"));
        let body = failure.body("12345678");
        assert_eq!(failure.status(), 500);
        assert_eq!((body.error.as_str(), body.code), ("Internal server error", ErrorCode::Internal));
        assert!(failure.to_string().contains("reading a row"), "the log says what was being done");
    }
}
