//! Which agent a sandbox has, and what it needs before it starts: the gateway, MCP servers, a configuration.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use oi_protocol::local_backend::CreateSandboxRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::acp::{AcpAgent, AcpProcess, Permissions};
use super::any::AnyAgent;
use super::keeper::{Endpoint, keep};
use super::opencode::OpenCode;
use super::opencode::config::{self, Parts};
use super::opencode::process::OpenCodeProcess;
use crate::broker::peer::AgentPid;
use crate::control_plane::ControlPlane;
use crate::mcp_servers::{self, AgentServer, SessionServers, packages};
use crate::model_gateway::account::{AccountEndpoints, AccountProvider, AccountTokens};
use crate::model_gateway::{self, Accounts, GatewayAddress, GatewayError};
use crate::supervise::environment;
use crate::supervise::places::Places;

/// Which agent does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AgentKind {
    /// OpenCode, by its own API.
    #[default]
    Opencode,
    /// One that speaks the Agent Client Protocol, started by `--agent-command`.
    Acp,
}

impl AgentKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Acp => "acp",
        }
    }
}

/// Options of `supervise` that choose the agent.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AgentOptions {
    /// The agent.
    #[arg(long, value_enum, default_value_t)]
    pub agent: AgentKind,
    /// Program and arguments of an agent that speaks the Agent Client Protocol, a word each time; `opencode acp` when
    /// absent.
    #[arg(long, allow_hyphen_values = true)]
    pub agent_command: Vec<String>,
    /// Whether such an agent may do what it asks leave for.
    #[arg(long, value_enum, default_value_t)]
    pub agent_permissions: Permissions,
    /// In place of the address where OpenAI accounts are good; for tests, which have no other way to say it.
    #[arg(long, hide = true)]
    pub account_codex_url: Option<String>,
    /// The same of xAI.
    #[arg(long, hide = true)]
    pub account_xai_url: Option<String>,
}

impl AgentOptions {
    /// The command line that says the same.
    pub fn arguments(&self) -> Vec<OsString> {
        let permissions = match self.agent_permissions {
            Permissions::Allow => "allow",
            Permissions::Ask => "ask",
        };
        let mut arguments: Vec<OsString> =
            vec!["--agent".into(), self.agent.word().into(), "--agent-permissions".into(), permissions.into()];
        for word in &self.agent_command {
            // With `=`, since the word may begin with a hyphen.
            arguments.push(format!("--agent-command={word}").into());
        }
        arguments
    }

    fn endpoints(&self) -> AccountEndpoints {
        let usual = AccountEndpoints::default();
        AccountEndpoints {
            codex: self.account_codex_url.clone().unwrap_or(usual.codex),
            xai: self.account_xai_url.clone().unwrap_or(usual.xai),
        }
    }
}

/// What the agent reaches.
pub struct Reached {
    gateway: GatewayAddress,
    accounts: Vec<AccountProvider>,
    /// MCP servers.
    pub servers: SessionServers,
}

/// Starts what the agent reaches beyond its sandbox.
pub async fn reach(
    config: &CreateSandboxRequest,
    options: &AgentOptions,
    program: &Path,
    control_plane: &Arc<ControlPlane>,
) -> Result<Reached, GatewayError> {
    let mut accounts = Vec::new();
    for word in &config.provider_accounts {
        if let Some(account) = AccountProvider::parse(word) {
            accounts.push(account);
        } else {
            tracing::warn!(event = "gateway.unknown_account", provider = word);
        }
    }
    let tokens = accounts.iter().map(|account| (*account, AccountTokens::new(Arc::clone(control_plane), *account)));
    let by_account = Accounts { tokens: tokens.collect(), endpoints: options.endpoints() };
    let gateway = model_gateway::start(&config.model_providers, by_account).await?;
    let servers = mcp_servers::prepare(&config.mcp_servers, program, &gateway.token).await;
    Ok(Reached { gateway, accounts, servers })
}

/// Where the agent runs.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// Of the sandbox.
    pub config: &'a CreateSandboxRequest,
    /// Of the sandbox.
    pub places: &'a Places,
    /// Of everything in the sandbox.
    pub environment: &'a [(OsString, OsString)],
    /// This program.
    pub program: &'a Path,
    /// Where the agent may not change anything yet: when it may. Then it asks before each change.
    pub may_change: Option<watch::Receiver<bool>>,
}

/// Starts the agent, and beside it what its MCP servers need.
pub fn start(
    reached: Reached,
    options: AgentOptions,
    around: &Surroundings<'_>,
    pid: AgentPid,
    warn: impl Fn(String) + Send + 'static,
    stop: watch::Receiver<bool>,
) -> std::io::Result<(AnyAgent, JoinHandle<()>)> {
    let Reached { gateway, accounts, servers } = reached;
    let SessionServers { for_agent, warnings, packages, settled, .. } = servers;
    let configured = |servers: &[AgentServer], asks_leave| {
        let parts = Parts {
            model: &around.config.model,
            providers: &around.config.model_providers,
            accounts: &accounts,
            gateway_url: &gateway.url,
            local_token: gateway.token.reveal(),
            servers,
            asks_leave,
        };
        opencode_environment(around, &parts)
    };
    let (agent, task) = match options.agent {
        AgentKind::Opencode => {
            let environment = configured(&for_agent, around.may_change.is_some())?;
            let (endpoint, seen) = watch::channel(Endpoint::Starting);
            let process = OpenCodeProcess {
                program: around.places.opencode.clone(),
                launcher: around.program.to_owned(),
                environment,
                directory: around.places.scratch(),
                pid,
            };
            let task = tokio::spawn(keep(process, endpoint, stop));
            let agent = OpenCode::new(seen, around.places.kept().join("opencode-session"));
            let agent = match &around.may_change {
                Some(may_change) => agent.holding_changes_until(may_change.clone()),
                None => agent,
            };
            (AnyAgent::OpenCode(agent), task)
        }
        AgentKind::Acp => {
            // OpenCode reads its configuration as ever, but has its servers from us by the protocol.
            let mut environment = configured(&[], options.agent_permissions == Permissions::Ask)?;
            // The protocol has no questions: one that OpenCode's own tool asked would wait for ever.
            environment.retain(|(name, _)| name != environment::QUESTION_VARIABLE);
            let mut command = options.agent_command;
            if command.is_empty() {
                command = vec![around.places.opencode.display().to_string(), "acp".to_owned()];
            }
            let process = AcpProcess {
                command,
                launcher: around.program.to_owned(),
                environment,
                directory: around.places.scratch(),
                pid,
            };
            let (endpoint, seen) = watch::channel(Endpoint::Starting);
            let task = tokio::spawn(keep(process, endpoint, stop));
            let (kept, workspace) = (around.places.kept().join("acp-session"), around.places.workspace.clone());
            let agent = AcpAgent::new(seen, kept, for_agent, options.agent_permissions, workspace);
            let agent = match &around.may_change {
                Some(may_change) => agent.beginning_when(may_change.clone()),
                None => agent,
            };
            (AnyAgent::Acp(agent), task)
        }
    };
    let (prefix, environment) = (packages::prefix(&around.places.kept()), around.environment.to_vec());
    tokio::spawn(async move {
        for warning in warnings {
            warn(warning);
        }
        if !packages.is_empty()
            && let Err(warning) = packages::install(&packages, &prefix, &environment).await
        {
            warn(warning);
        }
        settled.send_replace(true);
    });
    Ok((agent, task))
}

/// OpenCode's variables for a configuration.
fn opencode_environment(around: &Surroundings<'_>, parts: &Parts<'_>) -> std::io::Result<Vec<(OsString, OsString)>> {
    config::stub_npm(&around.places.agent_config())?;
    let empty_catalogue = if parts.needs_no_catalogue() {
        let path = around.places.runtime_dir.join("models.json");
        std::fs::write(&path, "{}")?;
        Some(path)
    } else {
        None
    };
    Ok(environment::for_opencode(around.environment, &parts.content(), empty_catalogue.as_deref()))
}
