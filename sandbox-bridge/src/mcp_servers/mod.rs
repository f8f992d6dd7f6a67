//! The MCP servers of a session, and how the agent reaches them without seeing their secrets.
//!
//! The agent's configuration is in its environment, which its shell inherits, and anything in a file that the agent can
//! read, its shell can read too: so neither holds a secret. A remote server is reached through a proxy on loopback
//! (`model_gateway::mcp_proxy`) that adds its headers; they never leave the supervisor. A local server is started as
//! `sandbox-bridge mcp-launch <id>`, which asks the supervisor for its command and variables and becomes it.
//!
//! What this cannot do: a local server runs as the same user as the agent's shell, so a shell that looks into
//! `/proc/<pid>/environ` of the running server reads its variables, and one that imitates the agent's start of it (see
//! `broker::peer`) is told them. The variables of a local server are for the agent's eyes if it insists. Those of a
//! remote server are not: at worst its shell calls that one server, as the agent may anyway.

pub mod launch;
pub mod packages;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use oi_protocol::local_backend::SandboxMcpServer;
use tokio::sync::watch;

use crate::broker::wire::Answer;
use crate::model_gateway::mcp_proxy;
use crate::secret::Secret;

/// The agent's own tools, which are always there.
pub const OWN: &str = "oi";

/// How the agent reaches a server.
#[derive(Debug, Clone)]
pub enum Reach {
    /// It starts this.
    Command(Vec<String>),
    /// It calls this, with the token as bearer.
    Http {
        /// On loopback.
        url: String,
        /// Opens the proxy.
        token: Secret,
    },
}

/// A server, as the agent is told of it.
#[derive(Debug, Clone)]
pub struct AgentServer {
    /// Prefix of its tools' names.
    pub name: String,
    /// Where it is.
    pub reach: Reach,
}

#[derive(Clone)]
struct Local {
    command: Vec<String>,
    variables: BTreeMap<String, String>,
    /// Waits for its package.
    needs_packages: bool,
}

/// The local servers, as `mcp-launch` asks for them.
#[derive(Clone)]
pub struct LocalServers {
    servers: HashMap<String, Local>,
    /// Becomes `true` when packages are there, or are not going to be.
    settled: watch::Receiver<bool>,
}

/// The servers of a session, ready to be told to the agent.
pub struct SessionServers {
    /// All that can be reached, our own first.
    pub for_agent: Vec<AgentServer>,
    /// Those that are started in the sandbox.
    pub local: LocalServers,
    /// What people should know: which servers are missing, and why.
    pub warnings: Vec<String>,
    /// Packages that must be there before their servers start.
    pub packages: Vec<String>,
    /// Raised when they are.
    pub settled: watch::Sender<bool>,
}

/// A name that no other server of the session has.
fn free_name(wanted: &str, taken: &[AgentServer]) -> String {
    let is_free = |name: &str| taken.iter().all(|server| server.name != name);
    let mut name = wanted.to_owned();
    let mut number = 2;
    while !is_free(&name) {
        name = format!("{wanted}-{number}");
        number += 1;
    }
    name
}

/// Prepares a session's servers: proxies are started, packages are listed.
pub async fn prepare(servers: &[SandboxMcpServer], program: &Path, token: &Secret) -> SessionServers {
    let program = program.display().to_string();
    let own = AgentServer { name: OWN.to_owned(), reach: Reach::Command(vec![program.clone(), "mcp".to_owned()]) };
    let mut for_agent = vec![own];
    let (mut local, mut warnings, mut packages) = (HashMap::new(), Vec::new(), Vec::new());
    // One without a name cannot be told apart from others.
    for server in servers.iter().filter(|server| !server.name.trim().is_empty()) {
        let name = server.name.trim();
        let reach = match server.kind.as_str() {
            "remote" => remote(server, token).await,
            _ => match server.command.as_deref().filter(|command| !command.is_empty()) {
                Some(command) => {
                    let package = packages::needed_by(command);
                    let needs_packages = package.is_some();
                    packages.extend(package);
                    let described = Local { command: command.to_vec(), variables: server.env.clone(), needs_packages };
                    local.insert(server.id.clone(), described);
                    Ok(Reach::Command(vec![program.clone(), "mcp-launch".to_owned(), server.id.clone()]))
                }
                None => Err("it has no command".to_owned()),
            },
        };
        match reach {
            Ok(reach) => for_agent.push(AgentServer { name: free_name(name, &for_agent), reach }),
            Err(reason) => warnings.push(format!("The MCP server `{name}` is left out: {reason}.")),
        }
    }
    packages.sort();
    packages.dedup();
    let (settled, seen) = watch::channel(packages.is_empty());
    SessionServers { for_agent, local: LocalServers { servers: local, settled: seen }, warnings, packages, settled }
}

async fn remote(server: &SandboxMcpServer, token: &Secret) -> Result<Reach, String> {
    let url = server.url.as_deref().ok_or_else(|| "it has no address".to_owned())?;
    // Where no headers are named, its variables are them.
    let headers = if server.headers.is_empty() { &server.env } else { &server.headers };
    let url = mcp_proxy::start(url, headers, token).await.map_err(|error| error.to_string())?;
    Ok(Reach::Http { url, token: token.clone() })
}

impl LocalServers {
    /// What to become for a server. Waits until its package is installed.
    pub async fn program(&self, id: &str, prefix: &Path) -> Answer {
        let Some(server) = self.servers.get(id) else {
            return Answer::Refused { text: "the session has no such MCP server".to_owned() };
        };
        let mut variables = server.variables.clone();
        let mut path = None;
        if server.needs_packages {
            let mut settled = self.settled.clone();
            // An end of the other side settles it as well: then the server tries by itself.
            drop(settled.wait_for(|settled| *settled).await.map(drop));
            variables.entry("NPM_CONFIG_PREFIX".to_owned()).or_insert_with(|| prefix.display().to_string());
            // What npm has in its cache is not asked for again.
            variables.entry("NPM_CONFIG_PREFER_OFFLINE".to_owned()).or_insert_with(|| "true".to_owned());
            path = Some(prefix.join("bin").display().to_string());
        }
        Answer::Program { command: server.command.clone(), variables, path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, kind: &str, command: &[&str]) -> SandboxMcpServer {
        SandboxMcpServer {
            id: format!("id-{name}"),
            name: name.to_owned(),
            kind: kind.to_owned(),
            command: (!command.is_empty()).then(|| command.iter().map(|word| (*word).to_owned()).collect()),
            url: (kind == "remote").then(|| "https://mcp.example/mcp?key=secret".to_owned()),
            env: [("TOKEN".to_owned(), "secret".to_owned())].into(),
            headers: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn what_the_agent_is_told_holds_no_secret_and_every_name_once() {
        let servers = [
            server("docs", "local", &["npx", "-y", "@acme/docs@1.2.3"]),
            server("docs", "local", &["python3", "docs.py"]),
            server("oi", "remote", &[]),
            server(" ", "local", &["x"]),
            server("broken", "local", &[]),
        ];
        let prepared = prepare(&servers, Path::new("/b"), &Secret::new("local")).await;
        let names: Vec<&str> = prepared.for_agent.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["oi", "docs", "docs-2", "oi-2"]);
        assert!(!format!("{:?}", prepared.for_agent).contains("secret"), "{:?}", prepared.for_agent);
        assert_eq!(prepared.packages, ["@acme/docs@1.2.3"]);
        assert_eq!(prepared.warnings, ["The MCP server `broken` is left out: it has no command."]);
    }

    #[tokio::test]
    async fn a_server_waits_for_its_package_and_gets_its_variables() {
        let servers = [server("docs", "local", &["npx", "-y", "docs"])];
        let prepared = prepare(&servers, Path::new("/b"), &Secret::new("local")).await;
        let local = prepared.local.clone();
        let asked = tokio::spawn(async move { local.program("id-docs", Path::new("/p")).await });
        tokio::task::yield_now().await;
        assert!(!asked.is_finished());
        prepared.settled.send_replace(true);
        let Ok(Answer::Program { command, variables, path }) = asked.await else { panic!("a program") };
        assert_eq!((command[0].as_str(), path.as_deref()), ("npx", Some("/p/bin")));
        assert_eq!((variables["TOKEN"].as_str(), variables["NPM_CONFIG_PREFIX"].as_str()), ("secret", "/p"));
        assert!(matches!(prepared.local.program("other", Path::new("/p")).await, Answer::Refused { .. }));
    }
}
