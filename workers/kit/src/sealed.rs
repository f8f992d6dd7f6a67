//! Values that are stored encrypted: AES-256-GCM, layout `base64(12-byte IV ‖ ciphertext ‖ 16-byte tag)`.
//!
//! The layout is the platform's format v0. Our own rows bind each value to its place by additional data, so that a
//! ciphertext that is moved to another row or column does not open.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::random;

const IV_BYTES: usize = 12;

/// Why a value cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not base64 of 32 bytes.
    #[error("the encryption key is not base64 of 32 bytes")]
    Key,
    /// Not of the layout, not of this key, or not of this place.
    #[error("the stored value does not open with this key in this place")]
    Open,
    /// The value is too long for the cipher.
    #[error("the value cannot be encrypted")]
    Seal,
}

/// A key of the deployment, such as `TOKEN_ENCRYPTION_KEY`.
pub struct SealingKey(Aes256Gcm);

impl SealingKey {
    /// From base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealError::Key)?;
        Aes256Gcm::new_from_slice(&bytes).map(Self).map_err(|_| SealError::Key)
    }

    /// Encrypts `plain` for the place that `place` names, such as `user_identities/<id>/access_token`.
    pub fn seal(&self, plain: &str, place: &str) -> Result<String, SealError> {
        self.seal_with_iv(plain, place, random::bytes())
    }

    fn seal_with_iv(&self, plain: &str, place: &str, iv: [u8; IV_BYTES]) -> Result<String, SealError> {
        let payload = Payload { msg: plain.as_bytes(), aad: place.as_bytes() };
        let sealed = self.0.encrypt(Nonce::from_slice(&iv), payload).map_err(|_| SealError::Seal)?;
        Ok(STANDARD.encode([iv.as_slice(), &sealed].concat()))
    }

    /// Decrypts what was sealed for the same place.
    pub fn open(&self, sealed: &str, place: &str) -> Result<String, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Open)?;
        let (iv, sealed) = bytes.split_at_checked(IV_BYTES).ok_or(SealError::Open)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let plain = self.0.decrypt(Nonce::from_slice(iv), payload).map_err(|_| SealError::Open)?;
        String::from_utf8(plain).map_err(|_| SealError::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::from_base64(&STANDARD.encode([byte; 32])).expect("32 bytes")
    }

    #[test]
    fn a_value_opens_only_with_its_key_in_its_place() {
        let sealed = key(1).seal("secret ✓", "a/1").expect("seals");
        assert_eq!(key(1).open(&sealed, "a/1").as_deref(), Ok("secret ✓"));
        assert_eq!(key(2).open(&sealed, "a/1"), Err(SealError::Open));
        assert_eq!(key(1).open(&sealed, "a/2"), Err(SealError::Open));
        assert_ne!(key(1).seal("secret ✓", "a/1").expect("seals"), sealed, "every sealing has its own IV");
    }

    #[test]
    fn bytes_that_are_no_sealed_value_do_not_open() {
        for bad in ["", "AAAA", "not base64!", &STANDARD.encode([0; 40])] {
            assert_eq!(key(1).open(bad, "a"), Err(SealError::Open), "{bad}");
        }
        assert_eq!(SealingKey::from_base64("c2hvcnQ=").err(), Some(SealError::Key));
    }

    /// Computed with Python's `cryptography`: see the constants.
    #[test]
    fn the_layout_is_format_v0() {
        let sealed = key(7).seal_with_iv("gho_token", "", [9; 12]).expect("seals");
        assert_eq!(sealed, V0_WITHOUT_PLACE);
        let sealed = key(7).seal_with_iv("gho_token", "user_identities/1/access_token", [9; 12]).expect("seals");
        assert_eq!(sealed, V0_WITH_PLACE);
    }

    const V0_WITHOUT_PLACE: &str = "CQkJCQkJCQkJCQkJQO3ry8qfqgTOHJT7/IA74JzB9W79jk/P7Q==";
    const V0_WITH_PLACE: &str = "CQkJCQkJCQkJCQkJQO3ry8qfqgTOefU4fmxiyksUv02T6EB6/g==";
}
