//! The key that commits are signed with: one unencrypted OpenSSH key of Ed25519.
//!
//! Formats: OpenSSH's PROTOCOL.key and PROTOCOL.sshsig. Nothing but commits and tags of the committer that people set is
//! signed: a sandbox that asks for another signature is refused.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signer, SigningKey, Verifier};
use oi_worker_kit::Refusal;
use oi_worker_kit::mac;
use sha2::{Digest, Sha512};

const KIND: &[u8] = b"ssh-ed25519";
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Signatures of git, and of nothing else.
const NAMESPACE: &[u8] = b"git";
const HASH: &[u8] = b"sha512";
const ARMOR_COLUMNS: usize = 70;
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

impl Key {
    /// The signature of a payload, as git writes it into the object.
    pub fn sign(&self, payload: &[u8]) -> String {
        let mut signed = b"SSHSIG".to_vec();
        put(&mut signed, NAMESPACE);
        put(&mut signed, b"");
        put(&mut signed, HASH);
        put(&mut signed, &Sha512::digest(payload));
        let mut signature = Vec::new();
        put(&mut signature, KIND);
        put(&mut signature, &self.signing.sign(&signed).to_bytes());
        let mut blob = b"SSHSIG".to_vec();
        blob.extend(1_u32.to_be_bytes());
        put(&mut blob, &self.blob());
        put(&mut blob, NAMESPACE);
        put(&mut blob, b"");
        put(&mut blob, HASH);
        put(&mut blob, &signature);
        let base64 = STANDARD.encode(blob);
        let mut armored = String::from("-----BEGIN SSH SIGNATURE-----\n");
        for line in base64.as_bytes().chunks(ARMOR_COLUMNS) {
            armored.extend(line.iter().map(|byte| char::from(*byte)));
            armored.push('\n');
        }
        armored + "-----END SSH SIGNATURE-----\n"
    }
}

fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `name <email> seconds zone`
fn is_of(line: &str, name: &str, email: &str) -> bool {
    let rest =
        line.strip_prefix(name).and_then(|rest| rest.strip_prefix(" <")?.strip_prefix(email)?.strip_prefix("> "));
    let Some((seconds, zone)) = rest.and_then(|rest| rest.split_once(' ')) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits(seconds) && zone.len() == 5 && zone.starts_with(['+', '-']) && digits(&zone[1..])
}

/// Whether a payload is a commit or a tag that this committer made.
pub fn is_signable(payload: &[u8], name: &str, email: &str) -> bool {
    let head = payload.windows(2).position(|two| two == b"\n\n").map_or(payload, |end| &payload[..end]);
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    if let Some(tree) = first.strip_prefix("tree ") {
        let mut lines = lines.skip_while(|line| line.strip_prefix("parent ").is_some_and(is_object_id));
        let author = lines.next().is_some_and(|line| line.starts_with("author "));
        let committer = lines.next().and_then(|line| line.strip_prefix("committer "));
        return is_object_id(tree) && author && committer.is_some_and(|line| is_of(line, name, email));
    }
    if let Some(object) = first.strip_prefix("object ") {
        let kind = lines.next().is_some_and(|line| line.starts_with("type "));
        let tag = lines.next().is_some_and(|line| line.starts_with("tag "));
        let tagger = lines.next().and_then(|line| line.strip_prefix("tagger "));
        return is_object_id(object) && kind && tag && tagger.is_some_and(|line| is_of(line, name, email));
    }
    false
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

    const COMMIT: &[u8] = include_bytes!("commit_signing/test_commit");
    /// Made by `ssh-keygen -Y sign -n git`: signatures of Ed25519 are always the same.
    const SIGNATURE: &str = include_str!("commit_signing/test_commit.sig");

    #[test]
    fn a_signature_is_the_one_that_ssh_keygen_makes() {
        assert_eq!(Key::parse(KEY).expect("a key").sign(COMMIT), SIGNATURE);
    }

    #[test]
    fn only_commits_and_tags_of_the_committer_are_signed() {
        let fits = |payload: &[u8]| is_signable(payload, "Bot", "bot@example.com");
        assert!(fits(COMMIT));
        let text = std::str::from_utf8(COMMIT).expect("text");
        let id = "1".repeat(40);
        let root = text.replace(&format!("parent {id}\n"), "");
        let merge = text.replace("author ", &format!("parent {}\nauthor ", "2".repeat(40)));
        let tag = format!("object {id}\ntype commit\ntag v1\ntagger Bot <bot@example.com> 1 -0730\n\nv1\n");
        for good in [&root, &merge, &tag] {
            assert!(fits(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "hello",
            &text.replace("committer Bot", "committer Eve"),
            &text.replace("committer Bot <bot@example.com>", "committer Bot <eve@example.com>"),
            &text.replace("committer Bot <bot@example.com>", "committer Bot <bot@example.com> <eve@example.com>"),
            &text.replace("tree 4b82", "tree zzzz"),
            &text.replace("author ", "parent x\nauthor "),
            &tag.replace("tagger Bot", "tagger Eve"),
            &format!("Bot <bot@example.com> 1 +0000\n\n{text}"),
        ] {
            assert!(!fits(bad.as_bytes()), "{bad}");
        }
        assert!(!fits(b"tree \xff\n\n"));
    }

    #[test]
    fn what_is_no_such_key_is_refused() {
        let body: String = KEY.trim().lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD.decode(body).expect("base64");
        let wrapped = |bytes: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes));
        assert!(Key::parse(&wrapped(&bytes)).is_ok());
        // The comment, with its length before it, says nothing.
        let comment = bytes.windows(4).rposition(|window| window == b"test").expect("the comment");
        for at in (0..bytes.len()).filter(|at| !(comment - 4..comment + 4).contains(at)) {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Key::parse(&wrapped(&broken)).is_err(), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(Key::parse(&wrapped(&bytes[..cut])).is_err(), "{cut} bytes");
        }
        for bad in ["", BEGIN, "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----", PUBLIC] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
