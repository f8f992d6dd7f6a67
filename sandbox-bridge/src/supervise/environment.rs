//! The environment of what runs in the sandbox: built from nothing, so that nothing of the platform is in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use oi_protocol::local_backend::CreateSandboxRequest;

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

/// Variables for git, hooks, the agent and all that they start.
pub fn base(
    places: &Places,
    sandbox_id: &str,
    users: &BTreeMap<String, String>,
    socket: &Path,
    program: &Path,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = users
        .iter()
        .filter(|(name, value)| is_usable(name, value))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let home = |rest: &str| places.home.join(rest).into_os_string();
    variables.extend([
        ("PATH".into(), places.path_variable()),
        ("HOME".into(), places.home.clone().into_os_string()),
        ("TMPDIR".into(), places.temporary_dir.clone().into_os_string()),
        ("XDG_CONFIG_HOME".into(), home(".config")),
        ("XDG_DATA_HOME".into(), home(".local/share")),
        ("XDG_STATE_HOME".into(), home(".local/state")),
        ("XDG_CACHE_HOME".into(), home(".cache")),
        ("SHELL".into(), "/bin/bash".into()),
        // Nobody sits at a terminal: without a credential git shall fail, not ask.
        ("GIT_TERMINAL_PROMPT".into(), "0".into()),
        (SANDBOX_VARIABLE.into(), sandbox_id.into()),
        (SOCKET_VARIABLE.into(), socket.into()),
    ]);
    for (name, value) in [("LANG", "C.UTF-8"), ("TERM", "xterm-256color"), ("USER", "agent")] {
        if !variables.iter().any(|(known, _)| known == name) {
            variables.push((name.into(), value.into()));
        }
    }
    variables.extend(git_configuration(program));
    variables
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
    let reach = users.iter().filter(|(name, _)| REACH.contains(&name.to_ascii_uppercase().as_str()));
    let reach = reach.map(|(name, value)| (name.clone(), value.clone())).collect();
    base(places, sandbox_id, &reach, socket, program)
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
    use super::*;

    fn variables(users: &[(&str, &str)]) -> BTreeMap<String, String> {
        built(users, base)
    }

    type Build = fn(&Places, &str, &BTreeMap<String, String>, &Path, &Path) -> Vec<(OsString, OsString)>;

    fn built(users: &[(&str, &str)], build: Build) -> BTreeMap<String, String> {
        let places = Places {
            workspace: "/w".into(),
            home: "/h".into(),
            runtime_dir: "/r".into(),
            temporary_dir: "/t".into(),
            opencode: "opencode".into(),
            tool_path: vec!["/tools".into()],
        };
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
        assert!(variables["PATH"].starts_with("/tools:/usr/local"));
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

    #[test]
    fn git_asks_this_program_and_no_other_helper() {
        let variables = variables(&[]);
        assert_eq!(variables["GIT_CONFIG_COUNT"], "3");
        assert_eq!(variables["GIT_CONFIG_VALUE_0"], "");
        assert_eq!(variables["GIT_CONFIG_VALUE_1"], r"!'/it'\''s/sandbox-bridge' git-credential");
    }
}
