//! The signer's side of `sig1`, written from its specification apart from the Worker's own code.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// What is signed.
pub struct Signed<'a> {
    /// `web`, `slack-bot`, `github-bot` or `linear-bot`.
    pub service: &'a str,
    /// Its key.
    pub secret: &'a str,
    /// Upper case.
    pub method: &'a str,
    /// Path without a query.
    pub path: &'a str,
    /// Names in their order, without the question mark.
    pub query: &'a str,
    /// The body's bytes.
    pub body: &'a [u8],
    /// `namespace:id`, or empty.
    pub actor: &'a str,
    /// Milliseconds since the epoch.
    pub timestamp_ms: u128,
    /// Lowercase hex.
    pub nonce: &'a str,
}

impl Signed<'_> {
    /// The signature header's value.
    pub fn header(&self) -> String {
        let text = [
            "sig1",
            self.service,
            &self.timestamp_ms.to_string(),
            self.nonce,
            self.method,
            self.path,
            self.query,
            &hex::encode(Sha256::digest(self.body)),
            self.actor,
        ]
        .join("\n");
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return String::new() };
        mac.update(text.as_bytes());
        format!("sig1.{}.{}.{}", self.timestamp_ms, self.nonce, hex::encode(mac.finalize().into_bytes()))
    }
}

/// Now, as `sig1` counts.
pub fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

/// 8 random bytes as hex.
pub fn nonce() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}
