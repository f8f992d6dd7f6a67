//! Whether commits are signed, and signatures: the key stays with the control plane.

use std::time::Duration;

use axum::body::Bytes;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{ControlPlane, ControlPlaneError, body, is_passing, until_answered};
use crate::git::sign::key::{PublicKey, TEXT_MAX_BYTES, is_signature};

/// A prompt, or a commit, waits for it.
const WITHIN: Duration = Duration::from_secs(30);
const SETTING_MAX_BYTES: usize = 32 * 1024;

/// Whose name is on a signed commit, and the key that signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// 1 to 256 characters.
    pub name: String,
    /// 3 to 320 characters.
    pub email: String,
    /// The key.
    pub key: PublicKey,
}

/// What the control plane says of signing. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningSetting {
    /// Commits are not signed.
    Disabled,
    /// Commits are signed.
    Enabled(Signer),
}

/// An answer about the setting.
#[derive(Debug, PartialEq, Eq)]
pub enum SigningAnswer {
    /// It is what it was when this entity tag was given.
    Unchanged,
    /// It is this.
    Setting(SigningSetting, Option<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    enabled: bool,
    committer_name: Option<String>,
    committer_email: Option<String>,
    public_key: Option<String>,
}

fn is_line(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.chars().count())
        && !text.trim().is_empty()
        && !text.contains(|c: char| c.is_control() || c == '<' || c == '>')
}

/// `x@y.z`
fn is_address(text: &str) -> bool {
    let parts = text.split_once('@').and_then(|(local, domain)| Some((local, domain.rsplit_once('.')?)));
    let parts =
        parts.is_some_and(|(local, (domain, last))| !local.is_empty() && !domain.is_empty() && !last.is_empty());
    parts && text.matches('@').count() == 1 && !text.contains(char::is_whitespace)
}

impl SigningSetting {
    /// The setting in an answer: all of it and nothing else.
    fn read(bytes: &[u8]) -> Option<Self> {
        match serde_json::from_slice(bytes).ok()? {
            Body { enabled: false, committer_name: None, committer_email: None, public_key: None } => {
                Some(Self::Disabled)
            }
            Body {
                enabled: true,
                committer_name: Some(name),
                committer_email: Some(email),
                public_key: Some(public_key),
            } if is_line(&name, 1..=256) && is_line(&email, 3..=320) && is_address(&email) => {
                Some(Self::Enabled(Signer { name, email, key: PublicKey::parse(&public_key)? }))
            }
            _ => None,
        }
    }
}

impl ControlPlane {
    /// Whether commits are signed, and as whom. `known` is the entity tag of what is known already.
    pub async fn commit_signing(&self, known: Option<&str>) -> Result<SigningAnswer, ControlPlaneError> {
        until_answered(WITHIN, Duration::from_millis(250), is_passing, || async {
            let mut request = self.request(Method::GET, "/commit-signing");
            if let Some(tag) = known {
                request = request.header(IF_NONE_MATCH, tag);
            }
            let response = request.send().await.map_err(|_| ControlPlaneError::Unreachable)?;
            if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
                return Ok(SigningAnswer::Unchanged);
            }
            let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
            let bytes = body(Ok(response), SETTING_MAX_BYTES).await?;
            let setting = SigningSetting::read(&bytes).ok_or(ControlPlaneError::Odd)?;
            Ok(SigningAnswer::Setting(setting, tag))
        })
        .await
    }

    /// The signature of a commit or a tag, in its armour. The same payload has the same signature, so that a lost
    /// answer is asked for again.
    pub async fn sign_commit(&self, fingerprint: &str, payload: Bytes) -> Result<String, ControlPlaneError> {
        until_answered(WITHIN, Duration::from_millis(250), is_passing, || async {
            let request = self.post("/commit-signing").header(CONTENT_TYPE, "application/octet-stream");
            let request = request.header("X-Open-Inspect-Signing-Fingerprint", fingerprint).body(payload.clone());
            let bytes = body(request.send().await, TEXT_MAX_BYTES).await?;
            String::from_utf8(bytes).ok().filter(|text| is_signature(text)).ok_or(ControlPlaneError::Odd)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::git::sign::key::tests::KEY;

    #[test]
    fn a_setting_is_taken_whole_or_not_at_all() {
        let read = |value: &Value| SigningSetting::read(value.to_string().as_bytes());
        let good = json!({"enabled": true, "committerName": "Bot", "committerEmail": "bot@acme.example",
            "publicKey": KEY});
        let Some(SigningSetting::Enabled(signer)) = read(&good) else { panic!("it is whole") };
        assert_eq!((signer.name.as_str(), signer.email.as_str()), ("Bot", "bot@acme.example"));
        assert_eq!(read(&json!({"enabled": false})), Some(SigningSetting::Disabled));
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        let without = |key: &str| {
            let mut body = good.clone();
            body.as_object_mut().expect("an object").remove(key);
            body
        };
        for bad in [
            json!({}),
            json!([]),
            json!({"enabled": true}),
            with("enabled", json!(false)),
            with("more", json!(1)),
            without("committerName"),
            without("committerEmail"),
            without("publicKey"),
            with("committerName", json!("")),
            with("committerName", json!("a\nb")),
            with("committerName", json!("x".repeat(257))),
            with("committerEmail", json!("a@b")),
            with("committerEmail", json!("a@b@c.d")),
            with("committerEmail", json!("@b.c")),
            with("committerEmail", json!("a b@c.d")),
            with("committerEmail", json!(format!("{}@b.c", "x".repeat(320)))),
            with("publicKey", json!("ssh-rsa AAAA")),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
