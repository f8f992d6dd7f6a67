//! Open-Inspect's own way of configuring a sandbox, by environment variables, for backends that can do no other.
//!
//! The variables hold the token, and a process's first environment stays readable in `/proc`. So the configuration
//! is put into a memory file and this program starts itself again, with that as its input and an empty environment.

mod build;
mod session;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use oi_protocol::local_backend::{BootFrom, CheckoutRepository, CreateSandboxRequest, ModelProvider, SandboxServices};

use session::SessionConfig;

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

/// Variables of the contract, and those of the image, which are not the users'. Nor is any that begins with `OI_`.
const CONTRACT: [&str; 35] = [
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
    "IMAGE_BUILD_MODE",
    "RESTORED_FROM_SNAPSHOT",
    "FROM_REPO_IMAGE",
    "REPO_IMAGE_SHA",
    "OPENINSPECT_BOOT_MODE",
    "MODAL_SANDBOX_ID",
    "EXPECTED_TUNNEL_PORTS",
    "CODE_SERVER_PASSWORD",
    "CODE_SERVER_PORT",
    "TERMINAL_ENABLED",
    "TTYD_PROXY_PORT",
    "VNC_PASSWORD",
    "NOVNC_PORT",
    "AGENT_SLACK_NOTIFY_ENABLED",
    "OPENAI_OAUTH_MANAGED",
    "XAI_OAUTH_MANAGED",
    "OPENINSPECT_BIN_INSTALL_DIR",
    "PYTHONUNBUFFERED",
    "PWD",
    "OLDPWD",
    "SHLVL",
];

/// The variables of a sandbox's environment.
#[derive(Clone, Copy)]
struct Variables<'a>(&'a BTreeMap<String, String>);

impl Variables<'_> {
    /// A variable that is set and not empty.
    fn present(self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn required(self, name: &'static str) -> Result<String, EnvContractError> {
        self.present(name).ok_or(EnvContractError::Missing(name))
    }

    fn is_true(self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == "true")
    }
}

/// The configuration that the variables describe.
pub fn read(variables: &BTreeMap<String, String>) -> Result<CreateSandboxRequest, EnvContractError> {
    let of = Variables(variables);
    let session: SessionConfig = match of.present("SESSION_CONFIG") {
        Some(text) => serde_json::from_str(&text).map_err(|_| EnvContractError::Malformed("SESSION_CONFIG"))?,
        None => SessionConfig::default(),
    };
    let vcs_host = of.present("VCS_HOST").unwrap_or_else(|| "github.com".to_owned());
    let timeout_seconds = match of.present("SANDBOX_TIMEOUT_SECONDS") {
        Some(text) => {
            text.parse().ok().filter(|n| *n > 0).ok_or(EnvContractError::Malformed("SANDBOX_TIMEOUT_SECONDS"))?
        }
        None => 7200,
    };
    let boot = boot_from(of)?;
    // A build has no session: nobody dials, and nobody is asked.
    let builds = matches!(boot, BootFrom::Build(_));
    let unless_built =
        |name: &'static str| if builds { Ok(of.present(name).unwrap_or_default()) } else { of.required(name) };
    let session_id = match session.id() {
        Some(id) => id,
        None if builds => String::new(),
        None => return Err(EnvContractError::Missing("session_id in SESSION_CONFIG")),
    };
    Ok(CreateSandboxRequest {
        sandbox_id: if builds { of.present("SANDBOX_ID").unwrap_or_else(unknown) } else { of.required("SANDBOX_ID")? },
        session_id,
        control_plane_url: unless_built("CONTROL_PLANE_URL")?,
        auth_token: unless_built("SANDBOX_AUTH_TOKEN")?,
        timeout_seconds,
        repositories: repositories(of, &session, &vcs_host),
        vcs_host,
        model: session.model(),
        model_providers: providers(of)?,
        provider_accounts: accounts(of),
        mcp_servers: session.mcp_servers(),
        // The contract does not say whether there are any: the session is asked.
        skills_manifest_sha256: (!builds).then(String::new),
        env: users(variables),
        boot,
        services: services(of),
        working_branch_name: session.working_branch_name.filter(|name| !name.is_empty()),
        slack_notify: of.present("AGENT_SLACK_NOTIFY_ENABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")),
        ..CreateSandboxRequest::default()
    })
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The first that is said counts.
fn boot_from(of: Variables<'_>) -> Result<BootFrom, EnvContractError> {
    if of.is_true("IMAGE_BUILD_MODE") {
        return build::read(of).map(BootFrom::Build);
    }
    Ok(if of.is_true("RESTORED_FROM_SNAPSHOT") {
        BootFrom::SnapshotRestore { image_id: None }
    } else if of.is_true("FROM_REPO_IMAGE") {
        BootFrom::RepoImage { image_id: None, sha: of.present("REPO_IMAGE_SHA") }
    } else {
        BootFrom::Fresh
    })
}

fn repositories(of: Variables<'_>, session: &SessionConfig, vcs_host: &str) -> Vec<CheckoutRepository> {
    let one = |owner: &str, name: &str, branch: Option<&str>, base_sha: Option<&str>| CheckoutRepository {
        position: 0,
        clone_url: format!("https://{vcs_host}/{owner}/{name}.git"),
        repo_owner: owner.to_owned(),
        repo_name: name.to_owned(),
        branch: branch.filter(|branch| !branch.is_empty()).unwrap_or("main").to_owned(),
        base_sha: base_sha.filter(|sha| !sha.is_empty()).map(str::to_owned),
    };
    let named = session.repositories.iter().filter_map(|repository| {
        let owner = repository.repo_owner.as_deref().filter(|owner| !owner.is_empty())?;
        let name = repository.repo_name.as_deref().filter(|name| !name.is_empty())?;
        Some(one(owner, name, repository.branch.as_deref(), repository.base_sha.as_deref()))
    });
    let mut all: Vec<CheckoutRepository> = named.collect();
    let owner = of.present("REPO_OWNER").or_else(|| session.repo_owner.clone());
    let name = of.present("REPO_NAME").or_else(|| session.repo_name.clone());
    if let (true, Some(owner), Some(name)) = (session.repositories.is_empty(), owner, name)
        && !owner.is_empty()
        && !name.is_empty()
    {
        all.push(one(&owner, &name, session.branch.as_deref(), session.base_sha.as_deref()));
    }
    for (repository, position) in all.iter_mut().zip(0..) {
        repository.position = position;
    }
    all
}

/// Vendors' own by their keys, others described as a whole.
fn providers(of: Variables<'_>) -> Result<Vec<ModelProvider>, EnvContractError> {
    let vendors = [
        ("anthropic", "Anthropic", "@ai-sdk/anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("openai", "OpenAI", "@ai-sdk/openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ];
    let vendors = vendors.into_iter().filter_map(|(id, name, npm, base_url, variable)| {
        Some(ModelProvider {
            id: id.to_owned(),
            name: name.to_owned(),
            npm: npm.to_owned(),
            base_url: base_url.to_owned(),
            api_key: Some(of.present(variable)?),
            models: Vec::new(),
        })
    });
    let described: Vec<ModelProvider> = match of.present("OI_MODEL_PROVIDERS") {
        Some(text) => serde_json::from_str(&text).map_err(|_| EnvContractError::Malformed("OI_MODEL_PROVIDERS"))?,
        None => Vec::new(),
    };
    let is_described = |vendor: &ModelProvider| described.iter().any(|provider| provider.id == vendor.id);
    Ok(vendors.filter(|vendor| !is_described(vendor)).chain(described.clone()).collect())
}

fn accounts(of: Variables<'_>) -> Vec<String> {
    let managed = [("openai", "OPENAI_OAUTH_MANAGED"), ("xai", "XAI_OAUTH_MANAGED")];
    let managed = managed.into_iter().filter(|(_, variable)| of.present(variable).is_some());
    managed.map(|(provider, _)| provider.to_owned()).collect()
}

fn services(of: Variables<'_>) -> SandboxServices {
    let port = |name: &str| of.present(name).and_then(|text| text.trim().parse().ok()).filter(|port| *port > 0);
    let expected = of.present("EXPECTED_TUNNEL_PORTS").unwrap_or_default();
    let mut tunnel_ports = Vec::new();
    for piece in expected.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        match piece.parse::<u16>() {
            Ok(port) if port > 0 => tunnel_ports.push(port),
            _ => tracing::warn!(event = "tunnel.invalid_port", piece),
        }
    }
    SandboxServices {
        terminal: of.present("TERMINAL_ENABLED").is_some(),
        code_server_password: of.present("CODE_SERVER_PASSWORD"),
        code_server_port: port("CODE_SERVER_PORT"),
        vnc_password: of.present("VNC_PASSWORD"),
        vnc_port: port("NOVNC_PORT"),
        tunnel_ports,
    }
}

/// In this contract the users' variables stand beside the platform's.
fn users(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let ours = |name: &str| CONTRACT.contains(&name) || name.starts_with("OI_");
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
#[path = "env_contract_tests.rs"]
mod tests;
