//! A key of `ssh-keygen`'s that signs as the control plane does, and the control plane's answers with it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::session::{Session, has_token};
use super::sh;

pub const COMMITTER: &str = "Signing Bot";
pub const COMMITTER_EMAIL: &str = "bot@acme.example";

pub struct SigningKey {
    folder: tempfile::TempDir,
    pub public_key: String,
    pub fingerprint: String,
}

impl SigningKey {
    pub fn generate() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        sh(folder.path(), "ssh-keygen -q -t ed25519 -N '' -C '' -f key");
        let public_key = sh(folder.path(), "cat key.pub");
        let fingerprint = sh(folder.path(), "ssh-keygen -lf key.pub | cut -d ' ' -f 2");
        Self { folder, public_key, fingerprint }
    }

    /// A line of the private key.
    pub fn secret(&self) -> String {
        sh(self.folder.path(), "sed -n 3p key")
    }

    pub fn setting(&self) -> Value {
        json!({"enabled": true, "committerName": COMMITTER, "committerEmail": COMMITTER_EMAIL,
            "publicKey": self.public_key})
    }

    pub fn sign(&self, payload: &[u8]) -> String {
        let mut child = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", "git", "-f", "key"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh-keygen runs");
        child.stdin.take().expect("piped").write_all(payload).expect("written");
        String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text")
    }

    /// A line for a file of allowed signers.
    pub fn allowed(&self) -> String {
        format!("{COMMITTER_EMAIL} namespaces=\"git\" {}\n", self.public_key)
    }
}

/// As the control plane answers, with an entity tag besides.
pub async fn setting(State(session): State<Session>, headers: HeaderMap) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    session.inner.signing_reads.fetch_add(1, Ordering::Relaxed);
    let signing = session.inner.signing.lock().expect("no test panicked in it");
    let body = signing.as_ref().map_or_else(|| json!({"enabled": false}), SigningKey::setting);
    let tag = format!("\"{}\"", signing.as_ref().map_or("off", |key| &key.fingerprint));
    if headers.get("if-none-match").is_some_and(|known| known == &tag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([("etag", tag)], Json(body)).into_response()
}

/// Signs with the key of the fingerprint that is shown, and with no other.
pub async fn sign(State(session): State<Session>, headers: HeaderMap, payload: axum::body::Bytes) -> Response {
    if !has_token(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(headers["content-type"], "application/octet-stream");
    let refused = |status: u16, text: &str| {
        (StatusCode::from_u16(status).expect("a status"), Json(json!({"error": text}))).into_response()
    };
    if let Some(status) = session.inner.refuse_signing_with.lock().expect("no test panicked in it").pop_front() {
        return refused(status, "No signatures today");
    }
    match &*session.inner.signing.lock().expect("no test panicked in it") {
        None => refused(409, "Commit signing is disabled"),
        Some(key) if headers["x-open-inspect-signing-fingerprint"] != key.fingerprint.as_str() => {
            refused(409, "Commit signing key changed")
        }
        Some(key) => key.sign(&payload).into_response(),
    }
}
