//! Secrets of the deployment, of a repository and of an environment: names, limits and REST shapes (control-plane.md 4).
//! No shape that is answered has a value in it.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::serde_rules::absent;
use crate::time::UnixMillis;

/// Longest name, in bytes.
pub const NAME_MAX_BYTES: usize = 256;
/// Longest value, in bytes.
pub const VALUE_MAX_BYTES: usize = 16_384;
/// Most bytes of values that a scope has.
pub const SCOPE_MAX_BYTES: usize = 65_536;
/// Most secrets that a scope has.
pub const SCOPE_MAX_COUNT: usize = 50;
/// Most bytes of values that a sandbox gets.
pub const MERGED_MAX_BYTES: usize = 131_072;

/// Why a text is no name of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Other characters, or none, or too many.
    #[error(
        "a name has letters, digits and `_`, begins with no digit, and is at most {NAME_MAX_BYTES} characters long"
    )]
    Form,
    /// The platform sets it, or it would change how programs start.
    #[error("the name is reserved")]
    Reserved,
}

/// Names that the platform sets in a sandbox, or that its programs are steered by.
const RESERVED: &[&str] = &[
    "PYTHONUNBUFFERED",
    "SANDBOX_ID",
    "CONTROL_PLANE_URL",
    "SANDBOX_AUTH_TOKEN",
    "SANDBOX_TIMEOUT_SECONDS",
    "REPO_OWNER",
    "REPO_NAME",
    "GITHUB_APP_TOKEN",
    "SESSION_CONFIG",
    "RESTORED_FROM_SNAPSHOT",
    "OPENCODE_CONFIG_CONTENT",
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "TERM",
    "PWD",
    "LANG",
    "TMPDIR",
    "IMAGE_BUILD_MODE",
    "FROM_REPO_IMAGE",
    "REPO_IMAGE_SHA",
    "VNC_PASSWORD",
    "NOVNC_PORT",
    "CODE_SERVER_PORT",
    "CODE_SERVER_PASSWORD",
    "AGENT_SLACK_NOTIFY_ENABLED",
    "VCS_HOST",
    "VCS_CLONE_USERNAME",
    "OPENAI_OAUTH_REFRESH_TOKEN",
    "OPENAI_OAUTH_ACCESS_TOKEN",
    "OPENAI_OAUTH_ACCESS_TOKEN_EXPIRES_AT",
    "OPENAI_OAUTH_ACCOUNT_ID",
    "OPENAI_OAUTH_MANAGED",
    "XAI_OAUTH_REFRESH_TOKEN",
    "XAI_OAUTH_ACCESS_TOKEN",
    "XAI_OAUTH_ACCESS_TOKEN_EXPIRES_AT",
    "XAI_OAUTH_MANAGED",
    // What these say is run, or loaded, by programs that ask for nothing of the kind; or decides where calls go.
    "BASH_ENV",
    "BASHOPTS",
    "SHELLOPTS",
    "PROMPT_COMMAND",
    "PS4",
    "IFS",
    "NODE_OPTIONS",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_EDITOR",
    "GIT_PAGER",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Beginnings of such names.
const RESERVED_PREFIXES: &[&str] =
    &["LD_", "DYLD_", "OI_", "OPENCODE_", "OPENINSPECT_", "GIT_CONFIG", "GIT_AUTHOR_", "GIT_COMMITTER_", "XDG_"];

/// Whether a name, in upper case, is not the users' to set.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The name of a secret: upper case, not reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SecretName(String);

impl SecretName {
    /// From what somebody wrote: in upper case, blanks not left out.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = Self::stored(text).ok_or(InvalidName::Form)?;
        if is_reserved(&name.0) { Err(InvalidName::Reserved) } else { Ok(name) }
    }

    /// The same for one that is stored, whatever was reserved since.
    pub fn stored(text: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX_BYTES).contains(&text.len())
            && !text.as_bytes()[0].is_ascii_digit()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        fits.then(|| Self(text.to_ascii_uppercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `{"KEY": "value"}` as it came: in order, keys that are there twice twice.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NamedValues(pub Vec<(String, String)>);

impl fmt::Debug for NamedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl<'de> Deserialize<'de> for NamedValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = NamedValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedValues, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(NamedValues(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// `PUT …/secrets`: one of `secrets` and `text`. What is not named stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PutSecrets {
    /// Values by name.
    #[serde(default, deserialize_with = "absent")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<std::collections::BTreeMap<String, String>>"))]
    pub secrets: Option<NamedValues>,
    /// The same as a `.env` text; a name that is there twice has its last value.
    #[serde(default, deserialize_with = "absent")]
    pub text: Option<EnvText>,
    /// The version that was read; refused with 409 when it is another by now.
    #[serde(default, deserialize_with = "absent")]
    pub version: Option<i64>,
}

/// A pasted `.env` text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct EnvText(pub String);

impl fmt::Debug for EnvText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvText({} bytes)", self.0.len())
    }
}

/// `POST /environments/:id/secrets/import`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImportSecrets {
    /// A repository of the environment.
    pub repo_owner: String,
    /// A repository of the environment.
    pub repo_name: String,
    /// Which; all when absent.
    #[serde(default, deserialize_with = "absent")]
    pub keys: Option<Vec<String>>,
    /// The environment's version that was read.
    #[serde(default, deserialize_with = "absent")]
    pub version: Option<i64>,
}

/// A secret in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SecretInfo {
    /// Its name.
    pub key: String,
    /// When it was first set.
    pub created_at: UnixMillis,
    /// When it was last set.
    pub updated_at: UnixMillis,
}

/// Answer of `GET …/secrets`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SecretList {
    /// By name.
    pub secrets: Vec<SecretInfo>,
    /// Of a repository or an environment: those of the deployment, which it can override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub global_secrets: Option<Vec<SecretInfo>>,
    /// Grows with each change of the scope; 0 before the first.
    pub version: i64,
}

/// Answer of `PUT …/secrets` and of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SecretsChanged {
    /// `updated` or `imported`
    pub status: String,
    /// `owner/name`, of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub repo: Option<String>,
    /// Of an environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub environment_id: Option<String>,
    /// `owner/name` that an import took them from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub source: Option<String>,
    /// Names that were set, sorted.
    pub keys: Vec<String>,
    /// How many of them are new.
    pub created: usize,
    /// How many were there.
    pub updated: usize,
    /// The scope's version now.
    pub version: i64,
}

/// Secrets under one key of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SecretKeyUse {
    /// Derived from the key.
    pub key_id: String,
    /// Whether the deployment has the key.
    pub known: bool,
    /// How many secrets it seals.
    pub secrets: i64,
    /// How many of them were tried and do not open.
    pub unreadable: i64,
}

/// Answer of `GET /secret-rotation`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SecretRotation {
    /// The key that new secrets are sealed with.
    pub current_key_id: String,
    /// Secrets that are still under another key. At 0 the old keys can be taken out of the configuration.
    pub remaining: i64,
    /// By key.
    pub keys: Vec<SecretKeyUse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_in_upper_case_and_not_the_platforms() {
        assert_eq!(SecretName::parse("api_Key2").map(|name| name.0), Ok("API_KEY2".to_owned()));
        assert!(SecretName::parse(&"A".repeat(NAME_MAX_BYTES)).is_ok());
        for bad in ["", " A", "A ", "1A", "A-B", "A.B", "ÄB", "A=B", "A\0", &"A".repeat(NAME_MAX_BYTES + 1)] {
            assert_eq!(SecretName::parse(bad), Err(InvalidName::Form), "{bad:?}");
        }
        for bad in RESERVED.iter().copied().chain([
            "path",
            "LD_PRELOAD",
            "ld_anything",
            "OI_SOCKET",
            "Node_Options",
            "GIT_CONFIG_COUNT",
        ]) {
            assert_eq!(SecretName::parse(bad), Err(InvalidName::Reserved), "{bad}");
        }
        for good in ["_", "ENV", "PATHS", "NODE_ENV", "OPENAI_API_KEY", "VCS_CLONE_TOKEN", "LDAP_URL"] {
            assert!(SecretName::parse(good).is_ok(), "{good}");
        }
        assert_eq!(
            SecretName::stored("path").map(|name| name.0).as_deref(),
            Some("PATH"),
            "one that is stored has a name"
        );
    }

    #[test]
    fn a_body_keeps_what_is_there_twice_and_shows_no_value() {
        let body: PutSecrets =
            serde_json::from_str(r#"{"secrets":{"A":"hunter2","a":"x","A":"y"},"version":3,"more":1}"#).expect("fits");
        assert_eq!(body.secrets.as_ref().map(|pairs| pairs.0.len()), Some(3));
        assert!(!format!("{body:?}").contains("hunter2"));
        let body: PutSecrets = serde_json::from_str(r#"{"text":"A=hunter2"}"#).expect("fits");
        assert!(!format!("{body:?}").contains("hunter2"));
        for bad in [
            r#"{"secrets":null}"#,
            r#"{"secrets":[]}"#,
            r#"{"secrets":{"A":1}}"#,
            r#"{"secrets":{"A":null}}"#,
            r#"{"text":1}"#,
            r#"{"version":"1"}"#,
        ] {
            assert!(serde_json::from_str::<PutSecrets>(bad).is_err(), "{bad}");
        }
    }
}
