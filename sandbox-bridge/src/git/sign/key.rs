//! The public key that git was told to sign with, and what a signature looks like.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Longest text of a key, and of a signature.
pub const TEXT_MAX_BYTES: usize = 16 * 1024;
const KIND: &str = "ssh-ed25519";
/// How git marks a key that is given itself, and not by the name of its file.
const LITERAL: &str = "key::";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";

/// An Ed25519 key of SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    base64: String,
    blob: Vec<u8>,
}

impl PublicKey {
    /// `ssh-ed25519 AAAA…`, with a comment or without, with `key::` before it or without.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX_BYTES {
            return None;
        }
        let text = text.trim();
        let mut words = text.strip_prefix(LITERAL).unwrap_or(text).split_ascii_whitespace();
        let (kind, base64) = (words.next()?, words.next()?);
        let blob = STANDARD.decode(base64).ok()?;
        // PROTOCOL of OpenSSH: the kind and 32 bytes, each with its length before it.
        let mut head = (KIND.len() as u32).to_be_bytes().to_vec();
        head.extend_from_slice(KIND.as_bytes());
        head.extend_from_slice(&32_u32.to_be_bytes());
        let whole = blob.len() == head.len() + 32 && blob.starts_with(&head);
        (kind == KIND && whole).then(|| Self { base64: base64.to_owned(), blob })
    }

    /// As git takes it in `user.signingkey`.
    pub fn literal(&self) -> String {
        format!("{LITERAL}{KIND} {}", self.base64)
    }

    /// `SHA256:…`, as `ssh-keygen -l` names it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

/// Whether a text is a signature of SSH in its armour, and nothing beside it.
pub fn is_signature(text: &str) -> bool {
    let inside = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let Some(inside) = inside.filter(|_| text.len() <= TEXT_MAX_BYTES) else { return false };
    let lines_end = inside.ends_with('\n') && !inside.contains("\n\n");
    lines_end && STANDARD.decode(inside.replace('\n', "")).is_ok_and(|bytes| bytes.starts_with(b"SSHSIG"))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519`.
    pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBD2OcABpNVUHyj+Nxr+4DpM9vjDY5AYqC3pSRTR0s6c";

    #[test]
    fn a_key_is_read_as_git_gives_it_and_no_other_kind() {
        let key = PublicKey::parse(KEY).expect("a key");
        for form in [format!("key::{KEY}"), format!("{KEY} someone@host\n"), key.literal()] {
            assert_eq!(PublicKey::parse(&form).as_ref(), Some(&key), "{form}");
        }
        let rsa = "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIBD2OcABpNVUHyj+Nxr+4DpM9vjDY5AYqC3pSRTR0s6c";
        let long = format!("{KEY} {}", "x".repeat(TEXT_MAX_BYTES));
        for bad in
            ["", "key::", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 ????", rsa, &long, &KEY[..KEY.len() - 4]]
        {
            assert_eq!(PublicKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_signature_is_armour_around_sshsig_and_nothing_else() {
        let armour = |bytes: &[u8]| format!("{BEGIN}{}\n{END}", STANDARD.encode(bytes));
        assert!(is_signature(&armour(b"SSHSIG and more")));
        let good = armour(b"SSHSIG and more");
        for bad in [
            armour(b"something else"),
            format!("x{good}"),
            format!("{good}x"),
            format!("{good}\n"),
            good.replace('\n', "\r\n"),
            format!("{BEGIN}{END}"),
            format!("{BEGIN}U1NIU0lH\n\nU1NI\n{END}"),
            armour(&[b"SSHSIG".as_slice(), &[0; TEXT_MAX_BYTES]].concat()),
        ] {
            assert!(!is_signature(&bad), "{bad:.80}");
        }
    }
}
