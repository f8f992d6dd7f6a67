//! `SESSION_CONFIG`: what a vendor's sandbox is told of its session. Sandbox.md, section 1.1.

use std::collections::BTreeMap;

use oi_protocol::local_backend::SandboxMcpServer;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SessionConfig {
    session_id: Option<String>,
    #[serde(rename = "sessionId")]
    session_id_camel: Option<String>,
    pub repo_owner: Option<String>,
    pub repo_name: Option<String>,
    pub branch: Option<String>,
    pub base_sha: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    pub repositories: Vec<SessionRepository>,
    mcp_servers: Option<Vec<SessionMcpServer>>,
    pub working_branch_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SessionRepository {
    pub repo_owner: Option<String>,
    pub repo_name: Option<String>,
    pub branch: Option<String>,
    pub base_sha: Option<String>,
}

#[derive(Deserialize)]
struct SessionMcpServer {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    enabled: Option<bool>,
}

impl SessionConfig {
    pub fn id(&self) -> Option<String> {
        self.session_id_camel.clone().or_else(|| self.session_id.clone()).filter(|id| !id.is_empty())
    }

    /// `provider/model`
    pub fn model(&self) -> String {
        let model = self.model.as_deref().filter(|model| !model.is_empty()).unwrap_or("claude-sonnet-4-6");
        let provider = self.provider.as_deref().filter(|provider| !provider.is_empty()).unwrap_or("anthropic");
        if model.contains('/') { model.to_owned() } else { format!("{provider}/{model}") }
    }

    /// Those that are enabled; one without a name is nobody's.
    pub fn mcp_servers(&self) -> Vec<SandboxMcpServer> {
        let servers = self.mcp_servers.iter().flatten().filter(|server| server.enabled != Some(false));
        let named = servers.filter_map(|server| {
            let name = server.name.clone().filter(|name| !name.is_empty())?;
            let kind = if server.url.is_some() { "remote" } else { "local" };
            Some(SandboxMcpServer {
                id: server.id.clone().unwrap_or_else(|| name.clone()),
                name,
                kind: server.kind.clone().unwrap_or_else(|| kind.to_owned()),
                command: server.command.clone(),
                url: server.url.clone(),
                env: server.env.clone().unwrap_or_default(),
                headers: server.headers.clone().unwrap_or_default(),
            })
        });
        named.collect()
    }
}
