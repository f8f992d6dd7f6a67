//! The development secrets: generated once into the ignored state folder, readable by their owner only.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::env_file::write_private;
use crate::failure::{Failure, Result};
use crate::progress;

/// Every secret of a development stack. No `Debug`: it would show them.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secrets {
    pub browser_auth_secret: String,
    pub token_encryption_key: String,
    pub repo_secrets_encryption_key: String,
    pub provider_accounts_encryption_key: String,
    pub image_callback_token_pepper: String,
    pub service_auth_web: String,
    pub service_auth_slack_bot: String,
    pub service_auth_github_bot: String,
    pub service_auth_linear_bot: String,
    pub sandbox_host_secret: String,
    pub sandbox_token_key: String,
    pub forge_admin_secret: String,
    pub github_app_private_key: String,
    pub github_client_secret: String,
    pub google_client_secret: String,
    pub slack_signing_secret: String,
    pub github_webhook_secret: String,
    pub linear_webhook_secret: String,
}

type Recipe = fn() -> String;

/// How a secret is made, by its name in the file.
const RECIPES: &[(&str, Recipe)] = &[
    ("browserAuthSecret", hex_32),
    ("tokenEncryptionKey", base64_32),
    ("repoSecretsEncryptionKey", base64_32),
    ("providerAccountsEncryptionKey", base64_32),
    ("imageCallbackTokenPepper", hex_32),
    ("serviceAuthWeb", hex_32),
    ("serviceAuthSlackBot", hex_32),
    ("serviceAuthGithubBot", hex_32),
    ("serviceAuthLinearBot", hex_32),
    ("sandboxHostSecret", hex_32),
    ("sandboxTokenKey", hex_32),
    ("forgeAdminSecret", hex_32),
    ("githubAppPrivateKey", rsa_key),
    ("githubClientSecret", hex_32),
    ("googleClientSecret", hex_32),
    ("slackSigningSecret", hex_32),
    ("githubWebhookSecret", hex_32),
    ("linearWebhookSecret", hex_32),
];

impl Secrets {
    /// Reads the file, and adds what it lacks. What is there stays: data is encrypted under it.
    pub fn load_or_generate(path: &Path) -> Result<Self> {
        let mut map: Map<String, Value> = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::content(path, format_args!("{error}; remove the state folder to start over"))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(Failure::file("read", path)(error)),
        };
        let before = map.len();
        for (name, make) in RECIPES {
            map.entry(*name).or_insert_with(|| make().into());
        }
        if map.len() != before {
            let bytes = serde_json::to_vec_pretty(&map).map_err(|error| Failure::content(path, error))?;
            write_private(path, &bytes)?;
            progress::say(format_args!("✓ Generated development secrets in `{}`", path.display()));
        }
        serde_json::from_value(Value::Object(map)).map_err(|error| Failure::content(path, error))
    }

    /// The public half of the GitHub App's key, PEM.
    pub fn github_app_public_key(&self, path: &Path) -> Result<String> {
        rsa::RsaPrivateKey::from_pkcs8_pem(&self.github_app_private_key)
            .map_err(|error| error.to_string())
            .and_then(|key| key.to_public_key().to_public_key_pem(LineEnding::LF).map_err(|error| error.to_string()))
            .map_err(|reason| Failure::content(path, format_args!("`githubAppPrivateKey`: {reason}")))
    }
}

fn random_32() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

fn hex_32() -> String {
    hex::encode(random_32())
}

fn base64_32() -> String {
    STANDARD.encode(random_32())
}

/// 2048 bits, PKCS#8 PEM, as GitHub Apps use.
fn rsa_key() -> String {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("2048 bits is a size that RSA has");
    key.to_pkcs8_pem(LineEnding::LF).expect("a new key can be encoded").to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_kept_and_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("deep/secrets.json");
        let first = Secrets::load_or_generate(&path).expect("generated");
        let second = Secrets::load_or_generate(&path).expect("read");
        assert_eq!(first.sandbox_token_key, second.sandbox_token_key);
        assert_eq!(first.github_app_private_key, second.github_app_private_key);
        assert_ne!(first.service_auth_web, first.service_auth_slack_bot);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let public = first.github_app_public_key(&path).expect("it has one");
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
        assert!(first.github_app_private_key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    }

    #[test]
    fn a_secret_that_a_newer_version_needs_is_added_and_the_others_stay() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("secrets.json");
        let first = Secrets::load_or_generate(&path).expect("generated");
        let mut map: Map<String, Value> = serde_json::from_slice(&fs::read(&path).expect("read")).expect("an object");
        map.remove("linearWebhookSecret");
        fs::write(&path, serde_json::to_vec(&map).expect("encoded")).expect("written");
        let second = Secrets::load_or_generate(&path).expect("completed");
        assert_eq!(first.browser_auth_secret, second.browser_auth_secret);
        assert_ne!(first.linear_webhook_secret, second.linear_webhook_secret);
    }

    #[test]
    fn a_broken_file_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("secrets.json");
        fs::write(&path, "{not json").expect("written");
        assert!(Secrets::load_or_generate(&path).is_err());
        assert_eq!(fs::read_to_string(&path).expect("read"), "{not json");
    }
}
