//! What a sandbox offers beside the agent, and what it may use, by the settings of its repository and environment.

use oi_protocol::SessionId;
use oi_protocol::local_backend::{SandboxLimits, SandboxServices};
use oi_session::call::InitRepository;
use oi_session::job::StartSandbox;
use oi_worker_kit::Failure;
use oi_worker_kit::vars::Vars;
use serde_json::{Map, Value};

use crate::integration_settings::{Integration, Layers};
use crate::sandbox_backend::Passwords;
use crate::store::children::ChildLimits;
use crate::store::integration_settings::{self, OfTarget};
use crate::store::{D1, Database, sessions};

/// Settings of one target, by integration.
struct Settings {
    sandbox: Map<String, Value>,
    code_server: bool,
    desktop: bool,
}

fn layers(documents: &[OfTarget], integration: Integration) -> Layers {
    let of = |scope: &str| {
        let is_it = |document: &&OfTarget| document.integration == integration.as_str() && document.scope == scope;
        documents.iter().find(is_it).map(|document| document.settings.clone())
    };
    Layers { global: of("global"), repository: of("repository"), environment: of("environment") }
}

fn resolve(documents: &[OfTarget], repository: Option<&str>) -> Settings {
    let settings = |integration| {
        let layers = layers(documents, integration);
        if layers.holds_for(repository) { layers.merged(integration) } else { Map::new() }
    };
    let enabled = |integration| settings(integration).get("enabled").and_then(Value::as_bool).unwrap_or(false);
    Settings {
        sandbox: settings(Integration::Sandbox),
        code_server: enabled(Integration::CodeServer),
        desktop: enabled(Integration::Vnc),
    }
}

impl Settings {
    fn port(&self, name: &str) -> Option<u16> {
        self.sandbox.get(name)?.as_u64().and_then(|port| u16::try_from(port).ok())
    }

    fn services(&self, passwords: Option<Passwords>) -> SandboxServices {
        let (code_server, desktop) = passwords.map(|both| (both.code_server, both.desktop)).unzip();
        let tunnels = self.sandbox.get("tunnelPorts").and_then(Value::as_array);
        let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
        SandboxServices {
            terminal: self.sandbox.get("terminalEnabled").and_then(Value::as_bool).unwrap_or(false),
            code_server_password: code_server.filter(|_| self.code_server),
            code_server_port: self.port("codeServerPort"),
            vnc_password: desktop.filter(|_| self.desktop),
            vnc_port: self.port("vncPort"),
            tunnel_ports: tunnels.into_iter().flatten().filter_map(port).collect(),
        }
    }

    fn build_seconds(&self) -> Option<u32> {
        self.sandbox.get("buildTimeoutSeconds")?.as_u64().and_then(|seconds| u32::try_from(seconds).ok())
    }

    fn timeout_ms(&self) -> Option<i64> {
        self.sandbox.get("sandboxTimeoutMs")?.as_i64()
    }

    fn child_limits(&self) -> ChildLimits {
        let usual = ChildLimits::default();
        let count = |name: &str| self.sandbox.get(name).and_then(Value::as_i64);
        let total = count("maxTotalChildSessions").unwrap_or(usual.total);
        let concurrent = count("maxConcurrentChildSessions").unwrap_or(usual.concurrent);
        // Each is within the other where it was set; lying on each other, they need not be.
        ChildLimits { concurrent: concurrent.min(total), total }
    }

    fn limits(&self) -> SandboxLimits {
        let number = |name: &str| self.sandbox.get(name);
        SandboxLimits {
            cpu_cores: number("cpuCores").and_then(Value::as_f64),
            memory_mib: number("memoryMib").and_then(Value::as_u64).and_then(|mib| u32::try_from(mib).ok()),
        }
    }
}

async fn of_target(
    db: &impl Database,
    repository: Option<&str>,
    environment: Option<&str>,
) -> Result<Settings, Failure> {
    let documents = integration_settings::of_target(db, repository, environment).await?;
    Ok(resolve(&documents, repository))
}

/// Of a sandbox that starts. Passwords are the same however often it is asked.
pub async fn of_start(
    db: &D1,
    vars: &impl Vars,
    start: &StartSandbox,
) -> Result<(SandboxServices, SandboxLimits), Failure> {
    let repository = start.repositories.first().map(InitRepository::path);
    let environment = start.environment_id.as_ref().map(oi_protocol::EnvironmentId::as_str);
    let settings = of_target(db, repository.as_deref(), environment).await?;
    // A session cannot start without this key at all.
    let passwords = vars.get("SANDBOX_TOKEN_KEY").map(|key| Passwords::of(&key, &start.sandbox_id));
    Ok((settings.services(passwords), settings.limits()))
}

/// Longest that a build of an image may take, in seconds, where it is set.
pub async fn build_seconds(
    db: &impl Database,
    repository: Option<&str>,
    environment: Option<&str>,
) -> Result<Option<u32>, Failure> {
    Ok(of_target(db, repository, environment).await?.build_seconds())
}

/// How long sandboxes of a new session live and its prompts may run, in ms, where people set it. A session keeps it.
pub async fn timeout_ms(
    db: &impl Database,
    repository: Option<&str>,
    environment: Option<&str>,
) -> Result<Option<i64>, Failure> {
    Ok(of_target(db, repository, environment).await?.timeout_ms())
}

/// How many children a session may have, by the settings as they are now.
pub async fn child_limits(db: &impl Database, id: &SessionId) -> Result<ChildLimits, Failure> {
    let settings = of_session(db, id).await?;
    Ok(settings.map_or_else(ChildLimits::default, |settings| settings.child_limits()))
}

async fn of_session(db: &impl Database, id: &SessionId) -> Result<Option<Settings>, Failure> {
    let Some(target) = sessions::target(db, id).await? else { return Ok(None) };
    of_target(db, target.repository().as_deref(), target.environment_id.as_deref()).await.map(Some)
}

/// Whether a session has terminals, by the settings as they are now; `None` where there is no such session.
pub async fn has_terminal(db: &impl Database, id: &SessionId) -> Result<Option<bool>, Failure> {
    Ok(of_session(db, id).await?.map(|settings| settings.services(None).terminal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(integration: &str, scope: &str, settings: Value) -> OfTarget {
        OfTarget { integration: integration.to_owned(), scope: scope.to_owned(), settings }
    }

    fn passwords() -> Option<Passwords> {
        Some(Passwords::of("key", "sandbox-1"))
    }

    #[test]
    fn without_settings_nothing_is_offered() {
        let settings = resolve(&[], Some("acme/app"));
        assert_eq!(settings.services(passwords()), SandboxServices::default());
        assert_eq!(settings.limits(), SandboxLimits::default());
    }

    #[test]
    fn settings_of_all_of_the_repository_and_of_the_environment_lie_on_each_other() {
        let documents = [
            document(
                "sandbox",
                "global",
                json!({"defaults": {"terminalEnabled": true, "tunnelPorts": [3000], "memoryMib": 2048}}),
            ),
            document("sandbox", "repository", json!({"codeServerPort": 9000, "cpuCores": 1.5})),
            document("sandbox", "environment", json!({"tunnelPorts": [4000, 5900, 9000]})),
            document("code-server", "global", json!({"defaults": {"enabled": true}})),
            document("vnc", "global", json!({"defaults": {"enabled": true}})),
            document("vnc", "repository", json!({"enabled": false})),
        ];
        let settings = resolve(&documents, Some("acme/app"));
        let services = settings.services(passwords());
        assert!(services.terminal && services.vnc_password.is_none());
        assert_eq!(services.code_server_password.map(|password| password.len()), Some(32));
        assert_eq!((services.code_server_port, services.vnc_port), (Some(9000), None));
        assert_eq!(services.tunnel_ports, [4000], "what clashes gives way");
        assert_eq!(settings.limits(), SandboxLimits { cpu_cores: Some(1.5), memory_mib: Some(2048) });
    }

    #[test]
    fn children_and_time_are_bounded_as_people_set_it() {
        let of = |settings: Value| resolve(&[document("sandbox", "repository", settings)], Some("acme/app"));
        let limits = |settings: Value| {
            let limits = of(settings).child_limits();
            (limits.concurrent, limits.total)
        };
        assert_eq!(limits(json!({})), (5, 15));
        assert_eq!(limits(json!({"maxConcurrentChildSessions": 8})), (8, 15));
        assert_eq!(limits(json!({"maxTotalChildSessions": 3})), (3, 3));
        assert_eq!(of(json!({})).timeout_ms(), None);
        assert_eq!(of(json!({"sandboxTimeoutMs": 60_000})).timeout_ms(), Some(60_000));
    }

    #[test]
    fn settings_that_are_limited_to_repositories_hold_for_these_alone() {
        let limited = json!({"enabledRepos": ["acme/app"], "defaults": {"terminalEnabled": true}});
        let documents = [document("sandbox", "global", limited)];
        let terminal = |repository| resolve(&documents, repository).services(None).terminal;
        assert_eq!([Some("acme/app"), Some("acme/other"), None].map(terminal), [true, false, false]);
    }

    #[test]
    fn a_build_of_an_environment_has_the_time_of_its_sessions() {
        let limited = json!({"enabledRepos": ["acme/app"], "defaults": {"buildTimeoutSeconds": 600}});
        let documents = [
            document("sandbox", "global", limited),
            document("sandbox", "environment", json!({"buildTimeoutSeconds": 900})),
        ];
        let seconds = |repository| resolve(&documents, repository).build_seconds();
        assert_eq!([Some("acme/app"), Some("acme/other")].map(seconds), [Some(900), None]);
    }
}
