//! Request bodies, with GitHub's answers to bad ones.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;

/// Reads JSON bodies.
pub struct Body;

impl Body {
    /// Reads a body that must be a JSON object. A body that isn't JSON gets 400, one of other types 422.
    pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| ApiError::bad_request("Problems parsing JSON"))?;
        if !value.is_object() {
            return Err(ApiError::bad_request("Body should be a JSON object"));
        }
        serde_json::from_value(value).map_err(|error| ApiError::unprocessable(format!("Invalid request.\n\n{error}")))
    }

    /// As [`Self::parse`]; no body is an empty object.
    pub fn parse_optional<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
        if bytes.is_empty() { Self::parse(b"{}") } else { Self::parse(bytes) }
    }
}
