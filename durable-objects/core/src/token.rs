//! Tokens: what is derived, what is stored, how they are compared.

use hmac::{Hmac, Mac};
use oi_protocol::SessionId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The bearer of a sandbox: an HMAC over session, generation and nonce under the deployment's key, 32 hex digits.
///
/// Derived, not stored, so that an outbox row holds no secret and a repeated start gives the same token.
pub fn sandbox_token(key: &[u8], session: &SessionId, generation: i64, nonce: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes keys of any length") };
    mac.update(b"open-inspect/sandbox-token/v1\0");
    mac.update(session.as_str().as_bytes());
    mac.update(&generation.to_be_bytes());
    mac.update(nonce.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}

/// SHA-256 of a token as hex: what is stored.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Whether `token` is the one whose hash is stored, in constant time.
pub fn matches_hash(token: &str, stored_hash: &str) -> bool {
    token_hash(token).as_bytes().ct_eq(stored_hash.as_bytes()).into()
}
