//! The environment of what runs in the sandbox: built from nothing, so that nothing of the platform is in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use oi_protocol::local_backend::CreateSandboxRequest;

use super::own_programs;
use super::places::Places;
use crate::broker::SOCKET_VARIABLE;

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
    /// Our names first on the PATH. The agent can write to their folder, so that the platform runs nothing from it.
    OwnPrograms,
}

impl Recipient {
    /// What a recipient gets, and nothing else.
    const fn groups(self) -> &'static [Group] {
        match self {
            Self::PlatformGit => &[Group::System, Group::Reach, Group::Broker],
            Self::Hook | Self::Agent | Self::Terminal | Self::CodeServer => {
                &[Group::System, Group::Users, Group::Broker, Group::OwnPrograms]
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
    /// The sandbox.
    pub sandbox_id: &'a str,
    /// The users' variables.
    pub users: &'a BTreeMap<String, String>,
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
        .users
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
    variables
}

fn system(variables: &mut Vec<(OsString, OsString)>, sources: &Sources<'_>, own_programs: bool) {
    let Sources { places, sandbox_id, .. } = *sources;
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
        (SANDBOX_VARIABLE.into(), sandbox_id.into()),
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

/// Variables for hooks, the agent and all that they start.
pub fn base(
    places: &Places,
    sandbox_id: &str,
    users: &BTreeMap<String, String>,
    socket: &Path,
    program: &Path,
) -> Vec<(OsString, OsString)> {
    of(Recipient::Agent, &Sources { places, sandbox_id, users, socket, program })
}

/// What hooks and the agent are told of the boot beyond that. The users' own variables of these names stand.
pub fn with_boot(mut base: Vec<(OsString, OsString)>, config: &CreateSandboxRequest) -> Vec<(OsString, OsString)> {
    base.push(("OPENINSPECT_BOOT_MODE".into(), config.boot.name().into()));
    let primary = config.repositories.first();
    let facts = [
        ("REPO_OWNER", primary.map(|repository| &repository.repo_owner)),
        ("REPO_NAME", primary.map(|repository| &repository.repo_name)),
        ("VCS_HOST", Some(&config.vcs_host)),
        ("SANDBOX_ID", Some(&config.sandbox_id)),
    ];
    for (name, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty() && !value.contains('\0'))
            && !base.iter().any(|(known, _)| known == name)
        {
            base.push((name.into(), value.into()));
        }
    }
    base
}

/// The same for git that the platform runs itself: without the users' variables, but with those of a backend's image by
/// which the code host is reached.
pub fn for_git(
    places: &Places,
    sandbox_id: &str,
    users: &BTreeMap<String, String>,
    socket: &Path,
    program: &Path,
) -> Vec<(OsString, OsString)> {
    of(Recipient::PlatformGit, &Sources { places, sandbox_id, users, socket, program })
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
    use std::collections::BTreeSet;

    use super::*;

    fn variables(users: &[(&str, &str)]) -> BTreeMap<String, String> {
        built(users, base)
    }

    type Build = fn(&Places, &str, &BTreeMap<String, String>, &Path, &Path) -> Vec<(OsString, OsString)>;

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

    fn built(users: &[(&str, &str)], build: Build) -> BTreeMap<String, String> {
        let places = places();
        let users = users.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        build(&places, "sb", &users, Path::new("/r/s"), Path::new("/it's/sandbox-bridge"))
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
        let variables = built(&users, for_git);
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

    #[test]
    fn who_gets_which_variables() {
        let places = places();
        let users: BTreeMap<String, String> = [("MY_SECRET", "v"), ("HTTPS_PROXY", "http://proxy"), ("OI_X", "v")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let sources = Sources {
            places: &places,
            sandbox_id: "sb",
            users: &users,
            socket: Path::new("/r/s"),
            program: Path::new("/sandbox-bridge"),
        };
        let git: &[&[&str]] = &[&SYSTEM, &BROKER, &["HTTPS_PROXY"]];
        let people: &[&[&str]] = &[&SYSTEM, &BROKER, &["HTTPS_PROXY", "MY_SECRET"]];
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
