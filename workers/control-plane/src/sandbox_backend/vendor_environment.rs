//! What a sandbox at a vendor is told: Open-Inspect's variables, which `sandbox-bridge supervise --config-env` reads and
//! then takes out of its environment.

use std::collections::BTreeMap;

use oi_protocol::local_backend::{BootFrom, CheckoutRepository, CreateSandboxRequest};
use serde_json::{Value, json};

use super::builds::BuildRequest;
use super::vendor_doors::{Doors, Passwords};

/// What the image runs.
pub const RUNTIME: [&str; 3] = ["sandbox-bridge", "supervise", "--config-env"];

/// Variables by name.
pub type Environment = BTreeMap<String, String>;

/// The version of the runtime that our images have, where the vendor does not tell it from the image's own variables:
/// Open-Inspect's manifest has the same.
pub const RUNTIME_VERSION: &str = "v61-sandbox-sbin-path";

/// Variables that decide how a sandbox boots, and those of its pages. The users' own of these names are dropped, and so
/// are all that begin with `OI_`.
const OURS: [&str; 14] = [
    "VNC_PASSWORD",
    "NOVNC_PORT",
    "CODE_SERVER_PASSWORD",
    "CODE_SERVER_PORT",
    "IMAGE_BUILD_MODE",
    "RESTORED_FROM_SNAPSHOT",
    "FROM_REPO_IMAGE",
    "REPO_IMAGE_SHA",
    "EXPECTED_TUNNEL_PORTS",
    "TERMINAL_ENABLED",
    "AGENT_SLACK_NOTIFY_ENABLED",
    "OPENAI_OAUTH_MANAGED",
    "XAI_OAUTH_MANAGED",
    "SANDBOX_VERSION",
];

fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("OI_")
}

/// What a sandbox begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// The image's.
    Fresh,
    /// Those that were kept of another.
    Kept,
}

/// The image of the session's repositories that a sandbox begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepoImage<'a> {
    /// The vendor's name of it.
    pub image: &'a str,
    /// The commit of the primary repository in it, where it is known.
    pub sha: Option<&'a str>,
}

/// That of a request.
pub fn repo_image(request: &CreateSandboxRequest) -> Option<RepoImage<'_>> {
    match &request.boot {
        BootFrom::RepoImage { image_id: Some(image), sha } => Some(RepoImage { image, sha: sha.as_deref() }),
        _ => None,
    }
}

/// The user name that a code host takes a token with.
fn clone_user(vcs_host: &str) -> &'static str {
    match vcs_host {
        "gitlab.com" => "oauth2",
        "bitbucket.org" => "x-token-auth",
        _ => "x-access-token",
    }
}

/// `SESSION_CONFIG`.
pub fn session_config(request: &CreateSandboxRequest) -> Value {
    let (provider, model) = request.model.split_once('/').unwrap_or(("anthropic", &request.model));
    let primary = request.repositories.first();
    let mut config = json!({
        "session_id": request.session_id,
        "repo_owner": primary.map(|repository| &repository.repo_owner),
        "repo_name": primary.map(|repository| &repository.repo_name),
        "branch": primary.map(|repository| &repository.branch),
        "provider": provider,
        "model": model,
    });
    if let Some(sha) = primary.and_then(|repository| repository.base_sha.as_ref()) {
        config["base_sha"] = json!(sha);
    }
    if request.repositories.len() > 1 {
        config["repositories"] = repositories(&request.repositories);
    }
    if let Some(branch) = &request.working_branch_name {
        config["working_branch_name"] = json!(branch);
    }
    if !request.mcp_servers.is_empty() {
        config["mcp_servers"] = json!(request.mcp_servers);
    }
    config
}

/// The repositories, as the vendors' sandboxes are told them.
pub fn repositories(repositories: &[CheckoutRepository]) -> Value {
    let each = repositories.iter().map(|repository| {
        let mut described = json!({
            "repo_owner": repository.repo_owner,
            "repo_name": repository.repo_name,
            "branch": repository.branch,
        });
        if let Some(sha) = &repository.base_sha {
            described["base_sha"] = json!(sha);
        }
        described
    });
    each.collect()
}

/// The users' variables without those that are ours, and the model providers' keys. A provider that is no vendor's own
/// goes as a whole into `OI_MODEL_PROVIDERS`.
pub fn users(request: &CreateSandboxRequest) -> Environment {
    let mut environment: Environment =
        request.env.iter().filter(|(name, _)| !is_ours(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    // Of these the sandbox asks the control plane for tokens.
    for (provider, variable) in [("openai", "OPENAI_OAUTH_MANAGED"), ("xai", "XAI_OAUTH_MANAGED")] {
        if request.provider_accounts.iter().any(|id| id == provider) {
            environment.insert(variable.to_owned(), "1".to_owned());
        }
    }
    let mut others = Vec::new();
    for provider in &request.model_providers {
        let variable = match provider.id.as_str() {
            "anthropic" => "ANTHROPIC_API_KEY",
            "openai" => "OPENAI_API_KEY",
            _ => {
                others.push(provider);
                continue;
            }
        };
        if let Some(key) = &provider.api_key {
            environment.entry(variable.to_owned()).or_insert_with(|| key.clone());
        }
    }
    // Providers have string keys and finite numbers, so writing them cannot fail.
    if let (false, Ok(text)) = (others.is_empty(), serde_json::to_string(&others)) {
        environment.insert("OI_MODEL_PROVIDERS".to_owned(), text);
    }
    environment
}

/// The whole environment.
pub fn environment(request: &CreateSandboxRequest, files: Files, passwords: &Passwords) -> Environment {
    let (mut environment, doors) = (users(request), Doors::of(&request.services));
    let primary = request.repositories.first();
    let mut set = |name: &str, value: &str| drop(environment.insert(name.to_owned(), value.to_owned()));
    set("PYTHONUNBUFFERED", "1");
    set("SANDBOX_ID", &request.sandbox_id);
    set("CONTROL_PLANE_URL", &request.control_plane_url);
    set("SANDBOX_AUTH_TOKEN", &request.auth_token);
    set("SANDBOX_TIMEOUT_SECONDS", &request.timeout_seconds.to_string());
    set("REPO_OWNER", primary.map_or("", |repository| &repository.repo_owner));
    set("REPO_NAME", primary.map_or("", |repository| &repository.repo_name));
    set("SESSION_CONFIG", &session_config(request).to_string());
    set("VCS_HOST", &request.vcs_host);
    set("VCS_CLONE_USERNAME", clone_user(&request.vcs_host));
    set("SANDBOX_VERSION", RUNTIME_VERSION);
    match (files, repo_image(request)) {
        (Files::Kept, _) => set("RESTORED_FROM_SNAPSHOT", "true"),
        (Files::Fresh, Some(image)) => {
            set("FROM_REPO_IMAGE", "true");
            set("REPO_IMAGE_SHA", image.sha.unwrap_or_default());
        }
        (Files::Fresh, None) => {}
    }
    if request.services.terminal {
        set("TERMINAL_ENABLED", "true");
    }
    if request.slack_notify {
        set("AGENT_SLACK_NOTIFY_ENABLED", "true");
    }
    if let Some(port) = doors.code_server {
        set("CODE_SERVER_PORT", &port.to_string());
        set("CODE_SERVER_PASSWORD", &passwords.code_server);
    }
    if let Some(port) = doors.desktop {
        set("NOVNC_PORT", &port.to_string());
        set("VNC_PASSWORD", &passwords.desktop);
    }
    // Its boot waits for their addresses: it is told them here, or asks.
    if !doors.tunnels.is_empty() {
        let ports: Vec<String> = doors.tunnels.iter().map(u16::to_string).collect();
        set("EXPECTED_TUNNEL_PORTS", &ports.join(","));
    }
    environment
}

/// The environment of a build's machine: nothing of a session, and nothing that outlives the build. The vendor's handle
/// of the machine comes when it is started.
pub fn of_build(request: &BuildRequest) -> Environment {
    let mut environment: Environment =
        request.env.iter().filter(|(name, _)| !is_ours(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let primary = request.repositories.first();
    let config = json!({
        "branch": primary.map(|repository| &repository.branch),
        "repositories": repositories(&request.repositories),
    });
    let mut set = |name: &str, value: &str| drop(environment.insert(name.to_owned(), value.to_owned()));
    set("PYTHONUNBUFFERED", "1");
    set("SANDBOX_ID", &request.sandbox_id());
    set("SANDBOX_VERSION", RUNTIME_VERSION);
    set("REPO_OWNER", primary.map_or("", |repository| &repository.repo_owner));
    set("REPO_NAME", primary.map_or("", |repository| &repository.repo_name));
    set("SESSION_CONFIG", &config.to_string());
    set("VCS_HOST", &request.vcs_host);
    set("VCS_CLONE_USERNAME", &request.clone_username);
    set("VCS_CLONE_TOKEN", &request.clone_token);
    set("IMAGE_BUILD_MODE", "true");
    set("OI_IMAGE_BUILD_EXECUTION_TIMEOUT_SECONDS", &request.execution_timeout_seconds.to_string());
    set("OI_REPO_IMAGE_BUILD_ID", &request.build_id);
    set("OI_REPO_IMAGE_CALLBACK_URL", &request.callback_url);
    set("OI_REPO_IMAGE_FAILURE_CALLBACK_URL", &request.failure_callback_url);
    set("OI_REPO_IMAGE_CALLBACK_TOKEN", &request.callback_token);
    environment
}

/// A shell script that lets a build's machine begin, once. The handle is none of its own variables, since it is known
/// only when it is there.
pub fn build_script(request: &BuildRequest, machine: &str, start: Start) -> String {
    let script = start_script(&request.machine_name(), start);
    format!("export OI_REPO_IMAGE_PROVIDER_SESSION_ID={}; {script}", quoted(machine))
}

/// As one word, into which no shell reads anything.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// How the runtime is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It takes the place of the script, which the vendor keeps running.
    InPlace,
    /// The script ends at once and leaves it running.
    Detached,
}

/// A shell script that starts the runtime in a sandbox, once: a second one would be a second bridge. The mark is named
/// after the sandbox, so that one which a snapshot brought along counts for nothing; and a process that a wake left
/// dead is started again.
pub fn start_script(sandbox_id: &str, start: Start) -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let name: String = sandbox_id.chars().map(safe).collect();
    let runtime = RUNTIME.join(" ");
    let guard = format!(
        "mark=/tmp/oi-runtime-{name}.pid; \
         if [ -s \"$mark\" ] && grep -qs sandbox-bridge \"/proc/$(cat \"$mark\")/cmdline\"; then exit 0; fi; "
    );
    let run = match start {
        Start::InPlace => format!("echo $$ >\"$mark\"; exec {runtime}"),
        Start::Detached => {
            format!("nohup {runtime} >/tmp/oi-supervisor.log 2>&1 </dev/null & echo $! >\"$mark\"")
        }
    };
    guard + &run
}

/// What of a request a vendor must not repeat in its errors.
pub fn secrets(environment: &Environment) -> impl Iterator<Item = &str> {
    // What is told to everybody anyway makes errors readable.
    const TOLD: [&str; 14] = [
        "SANDBOX_ID",
        "SANDBOX_VERSION",
        "REPO_IMAGE_SHA",
        "OI_REPO_IMAGE_BUILD_ID",
        "OI_REPO_IMAGE_CALLBACK_URL",
        "OI_REPO_IMAGE_FAILURE_CALLBACK_URL",
        "CONTROL_PLANE_URL",
        "SANDBOX_TIMEOUT_SECONDS",
        "REPO_OWNER",
        "REPO_NAME",
        "VCS_HOST",
        "VCS_CLONE_USERNAME",
        "HOME",
        "PATH",
    ];
    environment.iter().filter(|(name, _)| !TOLD.contains(&name.as_str())).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox_backend::vendor_tests::request;
    use oi_protocol::local_backend::{ModelProvider, SandboxMcpServer};

    fn built(request: &CreateSandboxRequest, files: Files) -> Environment {
        environment(request, files, &Passwords::of("key", &request.sandbox_id))
    }

    #[test]
    fn the_platforms_variables_stand_over_the_users() {
        let mut asked = request();
        for name in OURS.iter().chain(&["SANDBOX_AUTH_TOKEN", "SESSION_CONFIG", "OI_REPO_IMAGE_CALLBACK_TOKEN"]) {
            asked.env.insert((*name).to_owned(), "forged".to_owned());
        }
        asked.env.insert("VCS_CLONE_TOKEN".to_owned(), "theirs".to_owned());
        let environment = built(&asked, Files::Fresh);
        let of = |name: &str| environment.get(name).map(String::as_str);
        assert_eq!(of("SANDBOX_AUTH_TOKEN"), Some(asked.auth_token.as_str()));
        assert_eq!((of("RESTORED_FROM_SNAPSHOT"), of("IMAGE_BUILD_MODE"), of("REPO_IMAGE_SHA")), (None, None, None));
        assert_eq!((of("VCS_CLONE_TOKEN"), of("VCS_CLONE_USERNAME")), (Some("theirs"), Some("x-access-token")));
        assert_eq!((of("REPO_OWNER"), of("SANDBOX_TIMEOUT_SECONDS")), (Some("acme"), Some("7200")));
        assert!(environment.values().all(|value| value != "forged"), "{:?}", environment.keys());
        assert_eq!(built(&asked, Files::Kept).get("RESTORED_FROM_SNAPSHOT").map(String::as_str), Some("true"));
    }

    #[test]
    fn a_session_without_a_repository_says_so() {
        let mut asked = request();
        asked.repositories.clear();
        let environment = built(&asked, Files::Fresh);
        assert_eq!((environment["REPO_OWNER"].as_str(), environment["REPO_NAME"].as_str()), ("", ""));
        let config: Value = serde_json::from_str(&environment["SESSION_CONFIG"]).expect("JSON");
        assert_eq!(config["repo_owner"], Value::Null);
        assert_eq!((&config["provider"], &config["model"]), (&json!("anthropic"), &json!("claude-sonnet-4-6")));
    }

    #[test]
    fn a_session_is_told_with_what_it_begins_and_what_it_has() {
        let plain = built(&request(), Files::Fresh);
        let names = [
            "FROM_REPO_IMAGE",
            "REPO_IMAGE_SHA",
            "TERMINAL_ENABLED",
            "AGENT_SLACK_NOTIFY_ENABLED",
            "OPENAI_OAUTH_MANAGED",
            "XAI_OAUTH_MANAGED",
        ];
        for name in names {
            assert!(!plain.contains_key(name), "{name}");
        }
        assert_eq!(plain["SANDBOX_VERSION"], RUNTIME_VERSION);
        let mut asked = request();
        asked.boot = BootFrom::RepoImage { image_id: Some("image".to_owned()), sha: Some("abc".to_owned()) };
        asked.services.terminal = true;
        asked.slack_notify = true;
        asked.provider_accounts = vec!["openai".to_owned(), "xai".to_owned()];
        asked.working_branch_name = Some("open-inspect/1".to_owned());
        asked.mcp_servers = vec![SandboxMcpServer {
            id: "m".to_owned(),
            name: "docs".to_owned(),
            kind: "remote".to_owned(),
            command: None,
            url: Some("https://mcp.example".to_owned()),
            env: BTreeMap::new(),
            headers: BTreeMap::from([("Authorization".to_owned(), "Bearer x".to_owned())]),
        }];
        let told = built(&asked, Files::Fresh);
        let values = names.map(|name| told.get(name).map(String::as_str).unwrap_or_default());
        assert_eq!(values, ["true", "abc", "true", "true", "1", "1"]);
        let config: Value = serde_json::from_str(&told["SESSION_CONFIG"]).expect("JSON");
        assert_eq!(config["working_branch_name"], "open-inspect/1");
        assert_eq!(
            (&config["mcp_servers"][0]["type"], &config["mcp_servers"][0]["id"]),
            (&json!("remote"), &json!("m"))
        );
        assert!(secrets(&told).any(|value| value.contains("Bearer x")), "what holds them is not repeated");
        // Files of its own earlier sandbox are more than an image's.
        let kept = built(&asked, Files::Kept);
        assert_eq!((kept.get("FROM_REPO_IMAGE"), kept["RESTORED_FROM_SNAPSHOT"].as_str()), (None, "true"));
    }

    #[test]
    fn several_repositories_are_listed_in_order() {
        let mut asked = request();
        let mut second = asked.repositories[0].clone();
        second.repo_name = "lib".to_owned();
        second.base_sha = Some("abc".to_owned());
        asked.repositories.push(second);
        let config = session_config(&asked);
        assert_eq!(
            config["repositories"],
            json!([{"repo_owner": "acme", "repo_name": "app", "branch": "main"},
                {"repo_owner": "acme", "repo_name": "lib", "branch": "main", "base_sha": "abc"}])
        );
        assert_eq!(session_config(&request())["repositories"], Value::Null);
    }

    /// Runs the scripts with a `sandbox-bridge` that notes that it was started, and stays.
    #[test]
    fn the_runtime_is_started_once_a_sandbox() {
        use std::process::{Child, Command};
        let folder = std::env::temp_dir().join(format!("oi-start-script-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (program, starts) = (folder.join("sandbox-bridge"), folder.join("starts"));
        let text = format!("#!/bin/sh\necho \"$@\" >>{}\nsleep 3\n", starts.display());
        std::fs::write(&program, text).expect("a program");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let run = |script: &str| -> Child {
            Command::new("sh").args(["-c", script]).env("PATH", &path).spawn().expect("a shell")
        };
        assert!(run(&format!("chmod +x {}", program.display())).wait().expect("ends").success());
        for (start, name) in [(Start::Detached, "detached"), (Start::InPlace, "in place")] {
            let script = start_script(&format!("it's $(a) {name}/{}", std::process::id()), start);
            let mut first = run(&script);
            std::thread::sleep(std::time::Duration::from_millis(500));
            assert!(run(&script).wait().expect("ends").success(), "{name}: the second has nothing to do");
            let noted = std::fs::read_to_string(&starts).expect("it was started");
            assert_eq!(noted, "supervise --config-env\n", "{name}");
            assert!(first.wait().expect("ends").success(), "{name}");
            std::fs::remove_file(&starts).expect("removed");
            let mark = format!("/tmp/oi-runtime-it_s___a__{}_{}.pid", name.replace(' ', "_"), std::process::id());
            assert!(std::fs::remove_file(&mark).is_ok(), "{mark}");
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn model_keys_go_as_the_vendors_name_them_and_own_providers_whole() {
        let mut asked = request();
        let provider = |id: &str, key: &str| ModelProvider {
            id: id.to_owned(),
            name: id.to_owned(),
            npm: "x".to_owned(),
            base_url: "https://m.example".to_owned(),
            api_key: Some(key.to_owned()),
            models: Vec::new(),
        };
        asked.env.insert("OPENAI_API_KEY".to_owned(), "the user's own".to_owned());
        asked.model_providers = vec![provider("anthropic", "a"), provider("openai", "o"), provider("own", "w")];
        let environment = users(&asked);
        assert_eq!(environment["ANTHROPIC_API_KEY"], "a");
        assert_eq!(environment["OPENAI_API_KEY"], "the user's own");
        assert!(environment["OI_MODEL_PROVIDERS"].contains("m.example"));
        assert!(secrets(&environment).any(|value| value == "a"));
    }
}
