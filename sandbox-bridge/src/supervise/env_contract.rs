//! Open-Inspect's own way of configuring a sandbox, by environment variables, for backends that can do no other.
//!
//! The variables hold the token, and a process's first environment stays readable in `/proc`. So the configuration
//! is put into a memory file and this program starts itself again, with that as its input and an empty environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use oi_protocol::local_backend::{CheckoutRepository, CreateSandboxRequest, ModelProvider};
use serde::Deserialize;

/// Why the variables are no configuration.
#[derive(Debug, thiserror::Error)]
pub enum EnvContractError {
    /// A variable is missing.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A variable is malformed.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The program could not start itself again.
    #[error("cannot start again: {0}")]
    Restart(#[from] std::io::Error),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SessionConfig {
    session_id: Option<String>,
    #[serde(rename = "sessionId")]
    session_id_camel: Option<String>,
    repo_owner: Option<String>,
    repo_name: Option<String>,
    branch: Option<String>,
    base_sha: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    repositories: Vec<SessionRepository>,
}

#[derive(Deserialize)]
struct SessionRepository {
    repo_owner: String,
    repo_name: String,
    #[serde(default)]
    branch: Option<String>,
    #[serde(default)]
    base_sha: Option<String>,
}

/// Variables of the contract, and those of the image, which are not the users'.
const CONTRACT: [&str; 14] = [
    "SANDBOX_ID",
    "CONTROL_PLANE_URL",
    "SANDBOX_AUTH_TOKEN",
    "SESSION_CONFIG",
    "REPO_OWNER",
    "REPO_NAME",
    "VCS_HOST",
    "VCS_CLONE_TOKEN",
    "VCS_CLONE_USERNAME",
    "SANDBOX_TIMEOUT_SECONDS",
    "SANDBOX_VERSION",
    "OPENCODE_BIN",
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
];

/// The configuration that the variables describe.
pub fn read(variables: &BTreeMap<String, String>) -> Result<CreateSandboxRequest, EnvContractError> {
    let present = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let required = |name: &'static str| present(name).ok_or(EnvContractError::Missing(name));
    let session: SessionConfig = match present("SESSION_CONFIG") {
        Some(text) => serde_json::from_str(&text).map_err(|_| EnvContractError::Malformed("SESSION_CONFIG"))?,
        None => SessionConfig::default(),
    };
    let vcs_host = present("VCS_HOST").unwrap_or_else(|| "github.com".to_owned());
    let mut named = session.repositories;
    let owner = present("REPO_OWNER").or(session.repo_owner);
    let name = present("REPO_NAME").or(session.repo_name);
    if let (true, Some(repo_owner), Some(repo_name)) = (named.is_empty(), owner, name) {
        named.push(SessionRepository { repo_owner, repo_name, branch: session.branch, base_sha: session.base_sha });
    }
    let repositories = named.into_iter().zip(0..).map(|(repository, position)| CheckoutRepository {
        position,
        clone_url: format!("https://{vcs_host}/{}/{}.git", repository.repo_owner, repository.repo_name),
        repo_owner: repository.repo_owner,
        repo_name: repository.repo_name,
        branch: repository.branch.filter(|branch| !branch.is_empty()).unwrap_or_else(|| "main".to_owned()),
        base_sha: repository.base_sha.filter(|sha| !sha.is_empty()),
    });
    let timeout_seconds = match present("SANDBOX_TIMEOUT_SECONDS") {
        Some(text) => {
            text.parse().ok().filter(|n| *n > 0).ok_or(EnvContractError::Malformed("SANDBOX_TIMEOUT_SECONDS"))?
        }
        None => 7200,
    };
    let provider = session.provider.unwrap_or_else(|| "anthropic".to_owned());
    let model = session.model.unwrap_or_else(|| "claude-sonnet-4-6".to_owned());
    Ok(CreateSandboxRequest {
        sandbox_id: required("SANDBOX_ID")?,
        session_id: session
            .session_id_camel
            .or(session.session_id)
            .ok_or(EnvContractError::Missing("session_id in SESSION_CONFIG"))?,
        generation: 0,
        control_plane_url: required("CONTROL_PLANE_URL")?,
        auth_token: required("SANDBOX_AUTH_TOKEN")?,
        timeout_seconds,
        vcs_host: vcs_host.clone(),
        repositories: repositories.collect(),
        model: if model.contains('/') { model } else { format!("{provider}/{model}") },
        model_providers: providers(&present),
        env: users(variables),
        ..CreateSandboxRequest::default()
    })
}

fn providers(present: &impl Fn(&str) -> Option<String>) -> Vec<ModelProvider> {
    [
        ("anthropic", "Anthropic", "@ai-sdk/anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("openai", "OpenAI", "@ai-sdk/openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ]
    .into_iter()
    .filter_map(|(id, name, npm, base_url, variable)| {
        Some(ModelProvider {
            id: id.to_owned(),
            name: name.to_owned(),
            npm: npm.to_owned(),
            base_url: base_url.to_owned(),
            api_key: Some(present(variable)?),
            models: Vec::new(),
        })
    })
    .collect()
}

/// In this contract the users' variables stand beside the platform's.
fn users(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let ours = |name: &str| CONTRACT.contains(&name) || name.starts_with("OI_") || name == "PWD" || name == "SHLVL";
    variables.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Starts this program again with the configuration as its input. Returns only when that failed.
pub fn restart_with_input(config: &CreateSandboxRequest, args: &[OsString]) -> EnvContractError {
    match memory_file(config) {
        Err(error) => error.into(),
        Ok(file) => {
            let Ok(program) = std::env::current_exe() else { return EnvContractError::Missing("this program") };
            let log = std::env::var_os("OI_LOG").map(|value| ("OI_LOG", value));
            Command::new(program).args(args).env_clear().envs(log).stdin(file).exec().into()
        }
    }
}

fn memory_file(config: &CreateSandboxRequest) -> std::io::Result<std::fs::File> {
    let memory = rustix::fs::memfd_create("sandbox-config", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    serde_json::to_writer(&mut file, config)?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_contract_of_open_inspect_is_understood() {
        let config = read(&variables(&[
            ("SANDBOX_ID", "sandbox-1"),
            ("CONTROL_PLANE_URL", "https://cp.example"),
            ("SANDBOX_AUTH_TOKEN", "t"),
            ("SESSION_CONFIG", r#"{"session_id":"s","branch":"dev","provider":"openai","model":"gpt-5.5","extra":1}"#),
            ("REPO_OWNER", "acme"),
            ("REPO_NAME", "api"),
            ("OPENAI_API_KEY", "sk"),
            ("MY_SECRET", "v"),
        ]))
        .expect("a whole configuration");
        assert_eq!((config.session_id.as_str(), config.model.as_str()), ("s", "openai/gpt-5.5"));
        assert_eq!(config.repositories[0].clone_url, "https://github.com/acme/api.git");
        assert_eq!(config.repositories[0].branch, "dev");
        assert_eq!(config.env, variables(&[("MY_SECRET", "v")]));
        assert_eq!(config.model_providers.len(), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole = [
            ("SANDBOX_ID", "x"),
            ("CONTROL_PLANE_URL", "https://cp"),
            ("SANDBOX_AUTH_TOKEN", "t"),
            ("SESSION_CONFIG", r#"{"session_id":"s"}"#),
        ];
        assert!(read(&variables(&whole)).is_ok());
        for missing in 0..whole.len() {
            let mut some = whole.to_vec();
            let (name, _) = some.remove(missing);
            let error = read(&variables(&some)).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
        let mut odd = whole.to_vec();
        odd[3].1 = "[1]";
        assert!(read(&variables(&odd)).is_err());
    }
}
