//! The API of the local sandbox backend, `sandbox-bridge host`: loopback HTTP with a bearer secret.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// A repository to check out under `/workspace/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutRepository {
    /// 0 is the primary.
    pub position: u32,
    /// Owner.
    pub repo_owner: String,
    /// Name; also the folder.
    pub repo_name: String,
    /// Branch to start from.
    pub branch: String,
    /// Without credentials; the credential helper answers.
    pub clone_url: String,
    /// Commit to start from; the branch's head when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_sha: Option<String>,
}

/// One model within a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderModel {
    /// The provider's id of it.
    pub id: String,
    /// The name to show.
    pub name: String,
    /// Tokens of context; the agent's own catalogue when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Tokens of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u32>,
}

/// How the agent reaches a model provider. The supervisor keeps the key: the agent talks to a loopback gateway
/// that adds it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelProvider {
    /// `anthropic`, `openai`, `demo`, ...
    pub id: String,
    /// The name to show.
    pub name: String,
    /// SDK package that the agent speaks it with, such as `@ai-sdk/openai-compatible`.
    pub npm: String,
    /// Base URL, with its version path.
    pub base_url: String,
    /// The key; absent when none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Models.
    pub models: Vec<ProviderModel>,
}

impl fmt::Debug for ModelProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelProvider").field("id", &self.id).field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// An MCP server of a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxMcpServer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `local` or `remote`
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Of a remote one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Variables of a local one.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Headers of a remote one.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl fmt::Debug for SandboxMcpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxMcpServer").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a sandbox begins with, and so what its boot does: sandbox.md, section 1.2.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum BootFrom {
    /// The image's own files: everything is checked out and set up.
    #[default]
    Fresh,
    /// The files of an image that was built ahead of the session's repositories.
    RepoImage {
        /// The backend's name of the files; a backend that has put them in place says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_id: Option<String>,
        /// Commit of the primary repository when it was built. Only logged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha: Option<String>,
    },
    /// The files of an earlier sandbox of the session.
    SnapshotRestore {
        /// The backend's name of the files; a backend that has put them in place says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_id: Option<String>,
    },
    /// No session: repositories are checked out and set up for an image.
    Build(ImageBuild),
}

impl fmt::Debug for BootFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl BootFrom {
    /// The value of `OPENINSPECT_BOOT_MODE`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::RepoImage { .. } => "repo_image",
            Self::SnapshotRestore { .. } => "snapshot_restore",
            Self::Build(_) => "build",
        }
    }

    fn is_fresh(&self) -> bool {
        *self == Self::Fresh
    }
}

/// The build of an image: sandbox.md, section 1.12.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBuild {
    /// The build.
    pub build_id: String,
    /// Where success is told.
    pub callback_url: String,
    /// Where failure is told.
    pub failure_callback_url: String,
    /// Bearer of both, good for this build alone.
    pub callback_token: String,
    /// The backend's handle of the sandbox, which both tell.
    pub provider_session_id: String,
    /// Longest that checkouts and setup may take together; without it they may take the sandbox's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_timeout_seconds: Option<u32>,
    /// A token of the code host for this build's clones, since there is no session that would mint one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_token: Option<String>,
    /// The user name that goes with it; `x-access-token` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_username: Option<String>,
}

/// Port of code-server, when none is set: sandbox.md, section 5.
pub const CODE_SERVER_PORT: u16 = 8080;
/// Port of the desktop's page, when none is set.
pub const DESKTOP_PORT: u16 = 6080;
/// The file in a sandbox's workspace that says where its ports are reached: sandbox.md, section 1.6.
pub const TUNNELS_FILE: &str = ".tunnels.env";

/// The first line of [`TUNNELS_FILE`]: whose it is.
pub fn tunnels_owner(sandbox_id: &str) -> String {
    format!("TUNNEL_SANDBOX_ID={sandbox_id}")
}

/// What is in [`TUNNELS_FILE`], with addresses by port.
pub fn tunnels_text<'u>(sandbox_id: &str, urls: impl IntoIterator<Item = (&'u u16, &'u String)>) -> String {
    let named = urls.into_iter().map(|(port, url)| format!("TUNNEL_{port}={url}\n"));
    tunnels_owner(sandbox_id) + "\n" + &named.collect::<String>()
}

/// What people reach in a sandbox beside the agent: sandbox.md, section 5.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxServices {
    /// Whether there is a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// The password of code-server, where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_server_password: Option<String>,
    /// Its port; 8080 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_server_port: Option<u16>,
    /// The password of the desktop (8 bytes at most), where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc_password: Option<String>,
    /// Its page's port; 6080 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc_port: Option<u16>,
    /// Ports that are reachable from outside, ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnel_ports: Vec<u16>,
}

impl SandboxServices {
    /// The port of code-server, where it runs.
    pub fn code_server_at(&self) -> Option<u16> {
        self.code_server_password.as_ref().map(|_| self.code_server_port.unwrap_or(CODE_SERVER_PORT))
    }

    /// The port of the desktop's page, where that runs.
    pub fn desktop_at(&self) -> Option<u16> {
        self.vnc_password.as_ref().map(|_| self.vnc_port.unwrap_or(DESKTOP_PORT))
    }
}

impl fmt::Debug for SandboxServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxServices")
            .field("terminal", &self.terminal)
            .field("code_server", &self.code_server_password.is_some())
            .field("desktop", &self.vnc_password.is_some())
            .field("tunnel_ports", &self.tunnel_ports)
            .finish_non_exhaustive()
    }
}

/// What a sandbox may use of its machine. What is absent is the backend's own.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxLimits {
    /// Cores, more than 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
}

/// `POST /v1/sandboxes`, and what `supervise` reads from its standard input.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSandboxRequest {
    /// Logical id; the same id again answers the sandbox that exists.
    pub sandbox_id: String,
    /// The session it belongs to.
    pub session_id: String,
    /// The session's generation of it.
    pub generation: i64,
    /// What the bridge dials.
    pub control_plane_url: String,
    /// The bridge's bearer, 32 hex digits.
    pub auth_token: String,
    /// The session's own limit on the sandbox's life.
    pub timeout_seconds: u32,
    /// Host (with port, when it has one) that the credential helper answers for.
    pub vcs_host: String,
    /// What to check out.
    pub repositories: Vec<CheckoutRepository>,
    /// `provider/model` of the session.
    pub model: String,
    /// Providers that the agent may use.
    pub model_providers: Vec<ModelProvider>,
    /// Providers that the session reaches by an account: the sandbox asks for tokens at
    /// `/sessions/:id/provider-auth/:provider/access-token`, and has no key of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provider_accounts: Vec<String>,
    /// MCP servers of the session, with their secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<SandboxMcpServer>,
    /// Whether the session has managed skills, to be had at `/sessions/:id/sandbox-skills`: the hash of their manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skills_manifest_sha256: Option<String>,
    /// The users' own variables for hooks and the agent's shell.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it begins with.
    #[serde(default, skip_serializing_if = "BootFrom::is_fresh")]
    pub boot: BootFrom,
    /// What people reach in it.
    #[serde(default)]
    pub services: SandboxServices,
    /// What it may use.
    #[serde(default)]
    pub limits: SandboxLimits,
    /// The branch that the agent is told to work on, the same in all repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_branch_name: Option<String>,
    /// Whether the agent may send notices to Slack.
    #[serde(default)]
    pub slack_notify: bool,
}

impl fmt::Debug for CreateSandboxRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSandboxRequest")
            .field("sandbox_id", &self.sandbox_id)
            .field("session_id", &self.session_id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Status of a local sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalSandboxStatus {
    /// Its process group lives.
    Running,
    /// It was stopped or ended.
    Stopped,
}

/// Addresses at which people reach what runs in a local sandbox. Each opens with a token that is in it, once, and then
/// with a cookie of its own origin.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalAccess {
    /// code-server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_server_url: Option<String>,
    /// The desktop's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc_url: Option<String>,
    /// Ports of the users' own programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tunnel_urls: BTreeMap<u16, String>,
}

impl fmt::Debug for LocalAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAccess").field("ports", &self.tunnel_urls.len()).finish_non_exhaustive()
    }
}

/// A local sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalSandbox {
    /// Logical id; also the provider's handle.
    pub sandbox_id: String,
    /// The session it belongs to.
    pub session_id: String,
    /// The session's generation of it.
    pub generation: i64,
    /// Whether it lives.
    pub status: LocalSandboxStatus,
    /// When it was created.
    pub created_at: UnixMillis,
    /// Why the host ended it, when it did so by itself: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_because: Option<String>,
    /// How people reach what runs in it, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<LocalAccess>,
}

/// `GET /v1/sandboxes`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalSandboxList {
    /// Oldest first.
    pub sandboxes: Vec<LocalSandbox>,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST /v1/sandboxes/:id/snapshots`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeLocalSnapshot {
    /// Finds it again: the same label answers the snapshot that exists. 1 to 200 characters.
    pub label: String,
}

/// Files that were kept of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalSnapshot {
    /// The host's name of it, which a sandbox's `boot` names.
    pub image_id: String,
    /// The caller's name of it.
    pub label: String,
    /// The session whose sandbox it was; empty for a build.
    pub session_id: String,
    /// The sandbox.
    pub sandbox_id: String,
    /// The build, when it is an image that was built ahead. Only a deletion ends such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// When it was taken.
    pub created_at: UnixMillis,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// `GET /v1/snapshots`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalSnapshotList {
    /// Oldest first.
    pub snapshots: Vec<LocalSnapshot>,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST /v1/builds` and `GET /v1/builds/:id`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalBuild {
    /// The build.
    pub build_id: String,
    /// Its sandbox, whose name is also the handle that its callbacks tell.
    pub sandbox: LocalSandbox,
    /// Its image, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
}

/// `GET /v1/capabilities`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalCapabilities {
    /// `bwrap` or `none`
    pub isolation: String,
    /// `open`, `restricted` or `none`; `host` where sandboxes share the host's network.
    pub network: String,
    /// Whether a copy of files shares their blocks.
    pub copy_on_write: bool,
    /// Whether the kernel limits sandboxes' memory, processes and processors.
    pub control_groups: bool,
}
