//! Packages of MCP servers that are started by `npx`: installed once, into a folder of the sandbox's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::process_group::GroupGuard;

/// Longest installation of all of them together.
const INSTALL_WITHIN: Duration = Duration::from_secs(180);

/// Where they are. It lies in the home, so that a snapshot keeps them.
pub fn prefix(kept: &Path) -> PathBuf {
    kept.join("mcp-packages")
}

/// The package of an `npx` command line, when it is one that a registry can have.
pub fn needed_by(command: &[String]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    if Path::new(program).file_name()? != "npx" {
        return None;
    }
    let mut words = arguments.iter();
    let mut named = None;
    while let Some(word) = words.next() {
        if let Some(package) = word.strip_prefix("--package=") {
            named = Some(package);
        } else if word == "-p" || word == "--package" {
            named = words.next().map(String::as_str);
        } else if !word.starts_with('-') {
            named = Some(word.as_str());
        } else {
            continue;
        }
        break;
    }
    named.filter(|name| is_package(name)).map(str::to_owned)
}

/// `^(@[\w.-]+/)?[\w][\w.-]*(@[\w.-]+)?$`: no path, no address, no flag.
fn is_package(text: &str) -> bool {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    let unscoped = match text.strip_prefix('@') {
        Some(scoped) => match scoped.split_once('/') {
            Some((scope, rest)) if plain(scope) => rest,
            _ => return false,
        },
        None => text,
    };
    let (name, version) = unscoped.split_once('@').map_or((unscoped, None), |(name, version)| (name, Some(version)));
    plain(name) && !name.starts_with(['.', '-']) && version.is_none_or(plain)
}

/// Installs what is not there yet. An error is a sentence for people; servers then fetch their package when they start.
pub async fn install(packages: &[String], prefix: &Path, environment: &[(OsString, OsString)]) -> Result<(), String> {
    let mark = prefix.join("installed");
    let known = std::fs::read_to_string(&mark).unwrap_or_default();
    let missing: Vec<&String> = packages.iter().filter(|package| known.lines().all(|line| line != *package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let failed = |what: &str| format!("Packages of MCP servers could not be installed: {what}");
    std::fs::create_dir_all(prefix).map_err(|error| failed(&error.to_string()))?;
    let mut child = Command::new("npm")
        .args(["install", "--global", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
        .arg(prefix)
        .args(&missing)
        .current_dir(prefix)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Its words may hold addresses with tokens of the users' registries.
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&format!("npm cannot be started ({error})")))?;
    let mut group = GroupGuard::of(&child);
    let ended = tokio::time::timeout(INSTALL_WITHIN, child.wait()).await;
    if ended.is_ok() {
        group.let_go();
    }
    match ended {
        Ok(Ok(status)) if status.success() => {
            let text = missing.iter().fold(known, |text, package| text + package + "\n");
            std::fs::write(mark, text).map_err(|error| failed(&error.to_string()))
        }
        Ok(Ok(status)) => Err(failed(&format!("npm ended with {status}"))),
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(_) => Err(failed(&format!("npm did not end within {} s", INSTALL_WITHIN.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::processes::ProcessId;

    #[test]
    fn the_package_of_an_npx_command_is_found_unless_it_is_something_else() {
        let cases = [
            ("npx -y @acme/docs@1.2.3 --port 1", Some("@acme/docs@1.2.3")),
            ("/usr/bin/npx --package=tool serve", Some("tool")),
            ("npx -p a.b-c_d run", Some("a.b-c_d")),
            ("npx --yes", None),
            ("npx ./local.js", None),
            ("npx https://evil.example/x.tgz", None),
            ("npx @a/b/c", None),
            ("npx -y ..", None),
            ("node npx", None),
        ];
        for (line, expected) in cases {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(needed_by(&words).as_deref(), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn packages_are_installed_once_and_a_failure_is_a_sentence() {
        let folder = tempfile::tempdir().expect("a folder");
        let npm = folder.path().join("npm");
        let script = "#!/bin/sh\ncase \"$*\" in *broken*) exit 7;; esac\necho \"$*\" >> \"$CALLS\"\n";
        std::fs::write(&npm, script).expect("written");
        std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("set");
        let calls = folder.path().join("calls");
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        // The program is found on the PATH that it is given.
        let environment = [("PATH".into(), path.into()), ("CALLS".into(), calls.clone().into_os_string())];
        let prefix = folder.path().join("prefix");
        for _ in 0..2 {
            install(&["one".to_owned(), "two".to_owned()], &prefix, &environment).await.expect("installed");
        }
        install(&["one".to_owned(), "three".to_owned()], &prefix, &environment).await.expect("installed");
        let said = std::fs::read_to_string(calls).expect("called");
        let packages: Vec<&str> = said.lines().map(|line| line.rsplit_once("/prefix ").expect("its words").1).collect();
        assert_eq!(packages, ["one two", "three"]);
        let failure = install(&["broken".to_owned()], &prefix, &environment).await.expect_err("npm fails");
        assert!(failure.contains("exit status: 7"), "{failure}");
    }

    #[tokio::test]
    async fn an_installation_that_is_given_up_ends_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let npm = folder.path().join("npm");
        std::fs::write(&npm, "#!/bin/sh\nsleep 300 &\necho $! > new; mv new started; wait\n").expect("written");
        std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("set");
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let environment = [("PATH".into(), path.into())];
        let started = async {
            loop {
                if let Ok(pid) = std::fs::read_to_string(folder.path().join("started")) {
                    break ProcessId::of(pid.trim().parse().expect("a number")).expect("it runs");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let packages = ["one".to_owned()];
        let started = tokio::select! {
            _ = install(&packages, folder.path(), &environment) => panic!("it has no end"),
            started = started => started,
        };
        for _ in 0..500 {
            if !started.is_alive() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("what it started lives on");
    }
}
