//! Signatures of commits, for git's signer.

use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::Answer;
use crate::git::commit_settings::CommitSettings;
use crate::git::sign::PAYLOAD_MAX_BYTES;

/// Has commits signed.
pub struct SignatureBroker {
    commits: Arc<CommitSettings>,
}

impl SignatureBroker {
    /// For the checkouts that `commits` settles.
    pub fn new(commits: Arc<CommitSettings>) -> Self {
        Self { commits }
    }

    /// The signature of a payload in base64, or the reason why there is none.
    pub async fn sign(&self, fingerprint: &str, payload: &str) -> Answer {
        let payload = STANDARD.decode(payload).ok().filter(|bytes| (1..=PAYLOAD_MAX_BYTES).contains(&bytes.len()));
        let Some(payload) = payload else {
            return Answer::Refused { text: "only 1 byte to 1 MiB can be signed".to_owned() };
        };
        match self.commits.sign(fingerprint, Bytes::from(payload)).await {
            Ok(signature) => Answer::said(signature),
            Err(error) => {
                tracing::warn!(event = "signing.failed", %error);
                Answer::failed(error.to_string())
            }
        }
    }
}
