//! `oi-git-sign`: git's `gpg.ssh.program` within a sandbox. It holds no key; it asks the supervisor, which asks the
//! control plane. Whatever is no signing of git's is left to `ssh-keygen`.

pub mod key;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::broker::ask;
use crate::broker::wire::{Answer, Question};
use key::{PublicKey, TEXT_MAX_BYTES, is_signature};

/// Largest payload, which is a commit without its files. Source: `POST /sessions/:id/commit-signing`.
pub const PAYLOAD_MAX_BYTES: usize = 1 << 20;

/// Why nothing was signed. Git shows it to whoever commits.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A file of git's.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Another kind of key, or none.
    #[error("user.signingkey is no Ed25519 key; this sandbox signs with the platform's key alone")]
    Key,
    /// Nothing, or too much.
    #[error("only 1 byte to 1 MiB can be signed")]
    Payload,
    /// The supervisor is not there.
    #[error("the supervisor cannot be reached: {0}")]
    Unreachable(std::io::Error),
    /// It gave no signature.
    #[error("{0}")]
    Refused(String),
}

/// What git wants signed.
#[derive(Debug, PartialEq, Eq)]
struct Order<'a> {
    key: &'a OsStr,
    buffer: &'a Path,
}

impl<'a> Order<'a> {
    /// `-Y sign -n git -f <key> [-U] <buffer>`; git leaves `-U` out up to 2.39.
    fn read(arguments: &'a [OsString]) -> Option<Self> {
        let (options, rest) = arguments.split_at_checked(5)?;
        let (key, buffer) = match rest {
            [key, buffer] => (key, buffer),
            [key, flag, buffer] if flag == "-U" => (key, buffer),
            _ => return None,
        };
        (options == ["-Y", "sign", "-n", "git", "-f"]).then(|| Self { key, buffer: Path::new(buffer) })
    }

    fn signature(&self) -> PathBuf {
        let mut path = self.buffer.as_os_str().to_owned();
        path.push(".sig");
        path.into()
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> SignError {
    let path = path.to_owned();
    move |source| SignError::File { path, source }
}

/// A file's bytes, of which one more than `max` is read.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, SignError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(at(path))?;
    Ok(bytes)
}

fn public_key(given: &OsStr) -> Result<PublicKey, SignError> {
    let text = match given.to_str() {
        Some(literal) if literal.starts_with("key::") => literal.to_owned(),
        _ => String::from_utf8(read(Path::new(given), TEXT_MAX_BYTES)?).map_err(|_| SignError::Key)?,
    };
    PublicKey::parse(&text).ok_or(SignError::Key)
}

/// Puts the signature in its place as a whole, or not at all.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let write = || {
        let mut file = File::create_new(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    let written = write();
    if written.is_err() {
        drop(std::fs::remove_file(&unfinished));
    }
    written
}

fn sign(order: &Order<'_>, asker: &dyn Fn(&Question) -> std::io::Result<Answer>) -> Result<(), SignError> {
    let signature = order.signature();
    // One of an earlier attempt would be taken for this one's.
    match std::fs::remove_file(&signature) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&signature)(error)),
        _ => {}
    }
    let fingerprint = public_key(order.key)?.fingerprint();
    let payload = read(order.buffer, PAYLOAD_MAX_BYTES)?;
    if payload.is_empty() || payload.len() > PAYLOAD_MAX_BYTES {
        return Err(SignError::Payload);
    }
    let question = Question::SignCommit { fingerprint, payload: STANDARD.encode(payload) };
    match asker(&question).map_err(SignError::Unreachable)? {
        Answer::Text { text, failed: false } if is_signature(&text) => {
            write_whole(&signature, &text).map_err(at(&signature))
        }
        Answer::Text { text, failed: true } | Answer::Refused { text } => Err(SignError::Refused(text)),
        _ => Err(SignError::Refused("the supervisor's answer is not understood".to_owned())),
    }
}

/// Runs the signer and gives its exit code.
pub fn run(arguments: &[OsString], complaints: &mut impl Write) -> u8 {
    let Some(order) = Order::read(arguments) else {
        // Verification, and what else git has ssh-keygen do. This returns only when there is none.
        let error = std::process::Command::new("ssh-keygen").args(arguments).exec();
        drop(writeln!(complaints, "open-inspect: ssh-keygen cannot be started: {error}"));
        return 1;
    };
    match sign(&order, &ask) {
        Ok(()) => 0,
        Err(error) => {
            drop(writeln!(complaints, "open-inspect: the commit was not signed: {error}"));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::key::tests::KEY;
    use super::*;

    const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAA\n-----END SSH SIGNATURE-----\n";

    fn arguments(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_gits_own_signing_is_taken() {
        for taken in ["-Y sign -n git -f k b", "-Y sign -n git -f k -U b"] {
            let arguments = arguments(taken);
            let order = Order::read(&arguments).expect("an order");
            assert_eq!((order.key, order.buffer), (OsStr::new("k"), Path::new("b")));
        }
        for left in [
            "",
            "-Y verify -n git -f signers -I someone -s sig",
            "-Y find-principals -f signers -s sig",
            "-Y sign -n file -f k b",
            "-Y sign -n git -f k -q b",
            "-Y sign -n git -f k",
            "-Y sign -n git -f k -U b c",
        ] {
            assert_eq!(Order::read(&arguments(left)), None, "{left}");
        }
    }

    fn outcome(key: &str, payload: &[u8], answer: &Answer) -> (Result<(), SignError>, Option<String>, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let buffer = folder.path().join("buffer");
        std::fs::write(&buffer, payload).expect("written");
        std::fs::write(folder.path().join("buffer.sig"), "of an earlier attempt").expect("written");
        let order = Order { key: OsStr::new(key), buffer: &buffer };
        let result = sign(&order, &|_| Ok(answer.clone()));
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        (result, std::fs::read_to_string(folder.path().join("buffer.sig")).ok(), left)
    }

    #[test]
    fn a_signature_is_written_whole_and_a_failure_leaves_none() {
        let text = |text: &str, failed| Answer::Text { text: text.to_owned(), failed };
        let key = format!("key::{KEY}");
        let (result, signature, left) = outcome(&key, b"tree", &text(SIGNATURE, false));
        assert!(result.is_ok() && left == 2, "{result:?}");
        assert_eq!(signature.as_deref(), Some(SIGNATURE));
        let too_much = vec![b'x'; PAYLOAD_MAX_BYTES + 1];
        for (key, payload, answer) in [
            (key.as_str(), b"tree".as_slice(), text("turned off", true)),
            (&key, b"tree", text("no armour", false)),
            (&key, b"tree", Answer::Refused { text: "no".to_owned() }),
            (&key, b"tree", Answer::Nothing),
            (&key, b"", text(SIGNATURE, false)),
            (&key, &too_much, text(SIGNATURE, false)),
            ("key::ssh-rsa AAAA", b"tree", text(SIGNATURE, false)),
            ("/no/such/key", b"tree", text(SIGNATURE, false)),
        ] {
            let (result, signature, left) = outcome(key, payload, &answer);
            assert!(result.is_err() && signature.is_none() && left == 1, "{result:?}");
        }
    }

    #[test]
    fn a_key_may_be_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{KEY} someone\n")).expect("written");
        assert!(public_key(path.as_os_str()).is_ok());
        std::fs::write(&path, [0xff; 40]).expect("written");
        assert!(matches!(public_key(path.as_os_str()), Err(SignError::Key)));
    }
}
