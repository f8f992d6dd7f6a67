//! A key of `ssh-keygen`'s that signs as the control plane does.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

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
