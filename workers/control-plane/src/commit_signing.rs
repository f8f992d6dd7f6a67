//! The key that commits are signed with: one unencrypted OpenSSH key of Ed25519.
//!
//! Formats: OpenSSH's PROTOCOL.key and PROTOCOL.sshsig.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signer, SigningKey, Verifier};
use oi_worker_kit::Refusal;
use oi_worker_kit::mac;

const KIND: &[u8] = b"ssh-ed25519";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// A key that was read whole.
pub struct Key {
    signing: SigningKey,
}

/// Reads fields that have their length before them.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = self.number()? as usize;
        self.take(length)
    }
}

fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(field);
}

/// The public key as SSH writes it.
fn public_blob(public: &[u8; 32]) -> Vec<u8> {
    let mut blob = Vec::new();
    put(&mut blob, KIND);
    put(&mut blob, public);
    blob
}

fn read(bytes: &[u8]) -> Option<SigningKey> {
    let mut fields = Fields(bytes.strip_prefix(MAGIC)?);
    let (cipher, kdf, options) = (fields.text()?, fields.text()?, fields.text()?);
    if cipher != b"none" || kdf != b"none" || !options.is_empty() || fields.number()? != 1 {
        return None;
    }
    let public = fields.text()?;
    let mut inside = Fields(fields.text()?);
    if !fields.0.is_empty() || inside.number()? != inside.number()? || inside.text()? != KIND {
        return None;
    }
    let named: [u8; 32] = inside.text()?.try_into().ok()?;
    let pair: [u8; 64] = inside.text()?.try_into().ok()?;
    let _comment = inside.text()?;
    // What is left fills a block of eight: 1, 2, 3, ...
    let padded = inside.0.len() < 8 && inside.0.iter().zip(1..).all(|(byte, expected)| *byte == expected);
    let signing = SigningKey::from_keypair_bytes(&pair).ok()?;
    let own = signing.verifying_key().to_bytes();
    let probe = signing.sign(b"probe");
    let works = signing.verifying_key().verify(b"probe", &probe).is_ok();
    (padded && works && own == named && public == public_blob(&own)).then_some(signing)
}

impl Key {
    /// From the text of a key file.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = || Refusal::invalid_body("privateKey must be an OpenSSH Ed25519 private key without a passphrase");
        let inside = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or_else(wrong)?;
        let base64: String = inside.chars().filter(|character| !character.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(base64).map_err(|_| wrong())?;
        read(&bytes).map(|signing| Self { signing }).ok_or_else(wrong)
    }

    fn blob(&self) -> Vec<u8> {
        public_blob(&self.signing.verifying_key().to_bytes())
    }

    /// `ssh-ed25519 AAAA…`
    pub fn public_key(&self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(self.blob()))
    }

    /// `SHA256:…`
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(mac::sha256(&self.blob())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519 -N '' -C test` for this test.
    const KEY: &str = include_str!("commit_signing/test_key");
    const PUBLIC: &str = include_str!("commit_signing/test_key.pub");
    const FINGERPRINT: &str = include_str!("commit_signing/test_key.fingerprint");

    #[test]
    fn a_key_of_ssh_keygen_is_read_and_named_as_ssh_names_it() {
        let key = Key::parse(KEY).expect("a key");
        assert_eq!(key.public_key(), PUBLIC.trim().rsplit_once(' ').expect("a comment").0);
        assert_eq!(key.fingerprint(), FINGERPRINT.trim());
        let windows = KEY.replace('\n', "\r\n");
        assert!(Key::parse(&windows).is_ok());
    }

    #[test]
    fn what_is_no_such_key_is_refused() {
        let body: String = KEY.trim().lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD.decode(body).expect("base64");
        let wrapped = |bytes: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes));
        assert!(Key::parse(&wrapped(&bytes)).is_ok());
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            // Of the comment, which says nothing, any byte will do.
            let comment = bytes.windows(4).rposition(|window| window == b"test").expect("the comment");
            assert_eq!(Key::parse(&wrapped(&broken)).is_ok(), (comment..comment + 4).contains(&at), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(Key::parse(&wrapped(&bytes[..cut])).is_err(), "{cut} bytes");
        }
        for bad in ["", BEGIN, "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----", PUBLIC] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
