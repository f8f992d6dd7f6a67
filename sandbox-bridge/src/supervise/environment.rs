//! The environment of what runs in the sandbox: built from nothing, so that nothing of the platform is in it.

use std::ffi::OsString;
use std::path::Path;

use oi_protocol::local_backend::CreateSandboxRequest;

use super::own_programs;
use super::places::Places;
use crate::broker::SOCKET_VARIABLE;
use crate::services::browser;

/// Marks every process of a sandbox, so that a host without a process namespace finds them.
pub const SANDBOX_VARIABLE: &str = "OI_SANDBOX_ID";

/// Gives OpenCode its tool to ask people.
pub const QUESTION_VARIABLE: &str = "OPENCODE_ENABLE_QUESTION_TOOL";

/// Names that users' variables cannot take: they would change what the sandbox promises, such as whose name is on a
/// commit, or where the agent's state is.
fn is_reserved(name: &str) -> bool {
    const PREFIXES: [&str; 7] =
        ["OI_", "OPENCODE_", "GIT_CONFIG", "GIT_AUTHOR_", "GIT_COMMITTER_", "XDG_", "OPENINSPECT_"];
    matches!(name, "PATH" | "HOME" | "TMPDIR" | "LD_PRELOAD" | "LD_LIBRARY_PATH")
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_usable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') && !is_reserved(name)
}

/// Who runs in a sandbox. What a recipient starts has its environment: the agent's shell and MCP servers the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// Git that the platform runs: clone, fetch, push, diff.
    PlatformGit,
    /// Scripts of a repository.
    Hook,
    /// OpenCode, its shell, its MCP servers.
    Agent,
    /// A person's terminal.
    Terminal,
    /// A person's editor.
    CodeServer,
    /// The desktop's own programs. What is shown on it is started by the agent or a person.
    Desktop,
}

/// Groups of variables. The platform's own secrets are in none: they are in the supervisor's memory alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Folders, language, the sandbox's mark.
    System,
    /// How the network is reached, out of the users' variables.
    Reach,
    /// The users' variables, secrets among them.
    Users,
    /// The supervisor's socket, and the credential helper that asks there.
    Broker,
    /// How the sandbox came up, and of what.
    Boot,
    /// Which browser is there, and the display that it is shown on.
    Browser,
    /// Our names first on the PATH. The agent can write to their folder, so that the platform runs nothing from it.
    OwnPrograms,
}

impl Recipient {
    /// What a recipient gets, and nothing else.
    const fn groups(self) -> &'static [Group] {
        match self {
            Self::PlatformGit => &[Group::System, Group::Reach, Group::Broker],
            Self::Hook | Self::Agent | Self::Terminal | Self::CodeServer => {
                &[Group::System, Group::Users, Group::Broker, Group::Boot, Group::Browser, Group::OwnPrograms]
            }
            Self::Desktop => &[Group::System],
        }
    }
}

/// What environments are built from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Folders.
    pub places: &'a Places,
    /// The sandbox, with the users' variables.
    pub config: &'a CreateSandboxRequest,
    /// The supervisor's socket.
    pub socket: &'a Path,
    /// This program.
    pub program: &'a Path,
}

/// By which the code host is reached.
const REACH: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// The whole environment of a recipient.
pub fn of(recipient: Recipient, sources: &Sources<'_>) -> Vec<(OsString, OsString)> {
    let gets = |group: Group| recipient.groups().contains(&group);
    let passes =
        |name: &str| gets(Group::Users) || (gets(Group::Reach) && REACH.contains(&name.to_ascii_uppercase().as_str()));
    let mut variables: Vec<(OsString, OsString)> = sources
        .config
        .env
        .iter()
        .filter(|(name, value)| passes(name) && is_usable(name, value))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    if gets(Group::System) {
        system(&mut variables, sources, gets(Group::OwnPrograms));
    }
    if gets(Group::Broker) {
        // Nobody sits at a terminal: without a credential git shall fail, not ask.
        variables.push(("GIT_TERMINAL_PROMPT".into(), "0".into()));
        variables.push((SOCKET_VARIABLE.into(), sources.socket.into()));
        variables.extend(git_configuration(sources.program));
    }
    if gets(Group::Boot) {
        boot(&mut variables, sources.config);
    }
    if gets(Group::Browser) {
        variables = browser::with_browser(variables, sources.config.services.vnc_password.is_some());
    }
    variables
}

fn system(variables: &mut Vec<(OsString, OsString)>, sources: &Sources<'_>, own_programs: bool) {
    let Sources { places, config, .. } = *sources;
    let home = |rest: &str| places.home.join(rest).into_os_string();
    let path = if own_programs { own_programs_first(places) } else { places.path_variable() };
    variables.extend([
        ("PATH".into(), path),
        ("HOME".into(), places.home.clone().into_os_string()),
        ("TMPDIR".into(), places.temporary_dir.clone().into_os_string()),
        ("XDG_CONFIG_HOME".into(), home(".config")),
        ("XDG_DATA_HOME".into(), home(".local/share")),
        ("XDG_STATE_HOME".into(), home(".local/state")),
        ("XDG_CACHE_HOME".into(), home(".cache")),
        ("SHELL".into(), "/bin/bash".into()),
        (SANDBOX_VARIABLE.into(), config.sandbox_id.clone().into()),
    ]);
    for (name, value) in [("LANG", "C.UTF-8"), ("TERM", "xterm-256color"), ("USER", "agent")] {
        if !variables.iter().any(|(known, _)| known == name) {
            variables.push((name.into(), value.into()));
        }
    }
}

fn own_programs_first(places: &Places) -> OsString {
    let path = places.path_variable();
    let folders = std::iter::once(own_programs::folder(places)).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}

/// What is told of the boot. The users' own variables of these names stand.
fn boot(variables: &mut Vec<(OsString, OsString)>, config: &CreateSandboxRequest) {
    variables.push(("OPENINSPECT_BOOT_MODE".into(), config.boot.name().into()));
    let primary = config.repositories.first();
    let facts = [
        ("REPO_OWNER", primary.map(|repository| &repository.repo_owner)),
        ("REPO_NAME", primary.map(|repository| &repository.repo_name)),
        ("VCS_HOST", Some(&config.vcs_host)),
        ("SANDBOX_ID", Some(&config.sandbox_id)),
    ];
    for (name, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty() && !value.contains('\0'))
            && !variables.iter().any(|(known, _)| known == name)
        {
            variables.push((name.into(), value.into()));
        }
    }
}

/// Git's settings as variables: nothing is written to a file. The first, empty helper drops those of the system.
fn git_configuration(program: &Path) -> Vec<(OsString, OsString)> {
    let quoted = program.display().to_string().replace('\'', r"'\''");
    let settings = [
        ("credential.helper", String::new()),
        ("credential.helper", format!("!'{quoted}' git-credential")),
        ("credential.useHttpPath", "true".to_owned()),
    ];
    let mut variables = vec![("GIT_CONFIG_COUNT".into(), settings.len().to_string().into())];
    for (index, (key, value)) in settings.into_iter().enumerate() {
        variables.push((format!("GIT_CONFIG_KEY_{index}").into(), key.into()));
        variables.push((format!("GIT_CONFIG_VALUE_{index}").into(), value.into()));
    }
    variables
}

/// What OpenCode gets beyond that.
pub fn for_opencode(
    base: &[(OsString, OsString)],
    config: &serde_json::Value,
    empty_catalogue: Option<&Path>,
) -> Vec<(OsString, OsString)> {
    let mut variables = base.to_vec();
    variables.push(("OPENCODE_CONFIG_CONTENT".into(), config.to_string().into()));
    // Without a terminal OpenCode has no tool to ask with, unless it is told that somebody answers.
    variables.push(("OPENCODE_CLIENT".into(), "serve".into()));
    for name in [
        QUESTION_VARIABLE,
        "OPENCODE_DISABLE_MODELS_FETCH",
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_LSP_DOWNLOAD",
        "OPENCODE_DISABLE_SHARE",
    ] {
        variables.push((name.into(), "1".into()));
    }
    if let Some(path) = empty_catalogue {
        variables.push(("OPENCODE_MODELS_PATH".into(), path.into()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use oi_protocol::local_backend::SandboxServices;

    use super::*;

    fn variables(users: &[(&str, &str)]) -> BTreeMap<String, String> {
        built(users, Recipient::Agent)
    }

    fn config(users: &[(&str, &str)]) -> CreateSandboxRequest {
        let env = users.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        CreateSandboxRequest { sandbox_id: "sb".to_owned(), env, ..CreateSandboxRequest::default() }
    }

    fn places() -> Places {
        Places {
            workspace: "/w".into(),
            home: "/h".into(),
            runtime_dir: "/r".into(),
            temporary_dir: "/t".into(),
            opencode: "opencode".into(),
            tool_path: vec!["/tools".into()],
        }
    }

    fn built(users: &[(&str, &str)], recipient: Recipient) -> BTreeMap<String, String> {
        let (places, config) = (places(), config(users));
        let (socket, program) = (Path::new("/r/s"), Path::new("/it's/sandbox-bridge"));
        of(recipient, &Sources { places: &places, config: &config, socket, program })
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }

    #[test]
    fn users_variables_pass_and_cannot_change_what_the_sandbox_promises() {
        let variables = variables(&[
            ("API_URL", "x"),
            ("LANG", "de_DE.UTF-8"),
            ("HOME", "/evil"),
            ("GIT_AUTHOR_NAME", "Mallory"),
            ("OI_SOCKET", "/evil"),
            ("OPENCODE_PERMISSION", "x"),
            ("BAD=NAME", "x"),
            ("NUL", "a\0b"),
        ]);
        assert_eq!(variables["API_URL"], "x");
        assert_eq!(variables["LANG"], "de_DE.UTF-8");
        assert_eq!(variables["HOME"], "/h");
        assert_eq!(variables["OI_SOCKET"], "/r/s");
        assert!(variables["PATH"].starts_with("/r/bin:/tools:/usr/local"));
        for absent in ["GIT_AUTHOR_NAME", "OPENCODE_PERMISSION", "BAD=NAME", "NUL"] {
            assert!(!variables.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn the_platforms_own_git_gets_no_variable_of_the_users() {
        let users =
            [("MY_SECRET", "v"), ("GIT_DIR", "/evil"), ("https_proxy", "http://proxy"), ("SSL_CERT_FILE", "/ca")];
        let variables = built(&users, Recipient::PlatformGit);
        assert!(!variables.contains_key("MY_SECRET") && !variables.contains_key("GIT_DIR"));
        assert_eq!((variables["https_proxy"].as_str(), variables["SSL_CERT_FILE"].as_str()), ("http://proxy", "/ca"));
        assert_eq!((variables["HOME"].as_str(), variables["GIT_CONFIG_COUNT"].as_str()), ("/h", "3"));
    }

    const SYSTEM: [&str; 12] = [
        "PATH",
        "HOME",
        "TMPDIR",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
        "SHELL",
        "OI_SANDBOX_ID",
        "LANG",
        "TERM",
        "USER",
    ];
    const BROKER: [&str; 9] = [
        "GIT_TERMINAL_PROMPT",
        "OI_SOCKET",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_KEY_0",
        "GIT_CONFIG_VALUE_0",
        "GIT_CONFIG_KEY_1",
        "GIT_CONFIG_VALUE_1",
        "GIT_CONFIG_KEY_2",
        "GIT_CONFIG_VALUE_2",
    ];

    const BOOT: [&str; 3] = ["OPENINSPECT_BOOT_MODE", "VCS_HOST", "SANDBOX_ID"];

    #[test]
    fn who_gets_which_variables() {
        let places = places();
        let services = SandboxServices { vnc_password: Some("p".to_owned()), ..SandboxServices::default() };
        let users = config(&[("MY_SECRET", "v"), ("HTTPS_PROXY", "http://proxy"), ("OI_X", "v")]);
        let config = CreateSandboxRequest { vcs_host: "git.example".to_owned(), services, ..users };
        let (socket, program) = (Path::new("/r/s"), Path::new("/sandbox-bridge"));
        let sources = Sources { places: &places, config: &config, socket, program };
        let git: &[&[&str]] = &[&SYSTEM, &BROKER, &["HTTPS_PROXY"]];
        let people: &[&[&str]] = &[&SYSTEM, &BROKER, &BOOT, &["HTTPS_PROXY", "MY_SECRET", "DISPLAY"]];
        for (recipient, expected, own_programs) in [
            (Recipient::PlatformGit, git, false),
            (Recipient::Hook, people, true),
            (Recipient::Agent, people, true),
            (Recipient::Terminal, people, true),
            (Recipient::CodeServer, people, true),
            (Recipient::Desktop, &[&SYSTEM], false),
        ] {
            let variables = of(recipient, &sources);
            let names: BTreeSet<&str> = variables.iter().filter_map(|(name, _)| name.to_str()).collect();
            assert_eq!(names.len(), variables.len(), "{recipient:?} has a name twice");
            // Where this machine has a browser.
            let names: BTreeSet<&str> = names.into_iter().filter(|name| !name.starts_with("AGENT_BROWSER_")).collect();
            assert_eq!(names, expected.concat().into_iter().collect(), "{recipient:?}");
            let path = variables.iter().find(|(name, _)| name == "PATH").expect("there");
            assert_eq!(path.1.to_string_lossy().starts_with("/r/bin:"), own_programs, "{recipient:?}");
        }
    }

    #[test]
    fn git_asks_this_program_and_no_other_helper() {
        let variables = variables(&[]);
        assert_eq!(variables["GIT_CONFIG_COUNT"], "3");
        assert_eq!(variables["GIT_CONFIG_VALUE_0"], "");
        assert_eq!(variables["GIT_CONFIG_VALUE_1"], r"!'/it'\''s/sandbox-bridge' git-credential");
    }
}
