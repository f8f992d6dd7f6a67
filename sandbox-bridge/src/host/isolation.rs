//! Bubblewrap around a sandbox: its own folders, the system's programs read-only, its own processes, nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How sandboxes are set apart from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IsolationChoice {
    /// Bubblewrap where it works, else a process group in a folder.
    Auto,
    /// Bubblewrap, or no start.
    Bwrap,
    /// A process group in a folder. Sandboxes can read what this user can read.
    None,
}

/// What was found to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// Bubblewrap with these namespace flags.
    Bwrap(Vec<&'static str>),
    /// A process group in a folder.
    None,
}

/// Where things are inside.
pub const INSIDE: &str = "/opt/open-inspect";

/// System folders that hold programs and libraries.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// Settings that programs need; the rest of `/etc` may hold secrets.
const SETTINGS: [&str; 19] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/terminfo",
];

/// Flags to try, the strictest first. As root in a container a user namespace may be forbidden and not needed.
const CANDIDATES: [&[&str]; 3] = [
    &[
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "sandbox",
    ],
    &["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"],
    &["--unshare-pid", "--unshare-ipc"],
];

/// As root, bubblewrap would leave root's rights, those over other processes' memory among them.
const NO_CAPABILITIES: [&str; 2] = ["--cap-drop", "ALL"];

fn system_folders(arguments: &mut Vec<OsString>) {
    for folder in SYSTEM {
        match std::fs::symlink_metadata(folder) {
            Ok(metadata) if metadata.is_symlink() => {
                if let Ok(target) = std::fs::read_link(folder) {
                    arguments.extend(["--symlink".into(), target.into_os_string(), folder.into()]);
                }
            }
            Ok(_) => arguments.extend(["--ro-bind".into(), folder.into(), folder.into()]),
            Err(_) => {}
        }
    }
    for path in SETTINGS {
        arguments.extend(["--ro-bind-try".into(), path.into(), path.into()]);
    }
    for (flag, path) in [("--proc", "/proc"), ("--dev", "/dev"), ("--tmpfs", "/dev/shm")] {
        arguments.extend([flag.into(), path.into()]);
    }
}

impl Isolation {
    /// Finds out once what works here.
    pub fn probe(choice: IsolationChoice) -> Option<Self> {
        if choice == IsolationChoice::None {
            return Some(Self::None);
        }
        let working = CANDIDATES.iter().find(|flags| works(flags));
        match (working, choice) {
            (Some(flags), _) => Some(Self::Bwrap(flags.to_vec())),
            (None, IsolationChoice::Bwrap) => None,
            (None, _) => Some(Self::None),
        }
    }
}

fn works(flags: &[&str]) -> bool {
    let mut arguments: Vec<OsString> = flags.iter().map(OsString::from).collect();
    arguments.extend(NO_CAPABILITIES.map(OsString::from));
    system_folders(&mut arguments);
    arguments.extend(["--tmpfs", "/tmp", "--", "/bin/true"].map(OsString::from));
    Command::new("bwrap")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The programs that a sandbox gets.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This program.
    pub bridge: PathBuf,
    /// OpenCode.
    pub opencode: PathBuf,
    /// Further folders of its PATH.
    pub tools: Vec<PathBuf>,
}

/// The command line of a sandbox's supervisor.
pub fn command_line(isolation: &Isolation, programs: &Programs, folder: &Path, outlives_host: bool) -> Vec<OsString> {
    match isolation {
        Isolation::None => {
            let mut arguments = vec![programs.bridge.clone().into_os_string()];
            let at = |name: &str| folder.join(name).into_os_string();
            arguments.extend(supervise(
                [at("workspace"), at("home"), at("run"), at("tmp")],
                programs.opencode.as_os_str().into(),
                programs.tools.iter().map(|tool| tool.as_os_str().into()),
            ));
            arguments
        }
        Isolation::Bwrap(flags) => bwrap(flags, programs, folder, outlives_host),
    }
}

fn supervise(
    [workspace, home, run, tmp]: [OsString; 4],
    opencode: OsString,
    tools: impl Iterator<Item = OsString>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["supervise".into()];
    let pairs = [
        ("--workspace", workspace),
        ("--home", home),
        ("--runtime-dir", run),
        ("--temporary-dir", tmp),
        ("--opencode", opencode),
    ];
    for (flag, value) in pairs {
        arguments.extend([flag.into(), value]);
    }
    for tool in tools {
        arguments.extend(["--tool-path".into(), tool]);
    }
    arguments
}

fn bwrap(flags: &[&str], programs: &Programs, folder: &Path, outlives_host: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["bwrap".into()];
    arguments.extend(flags.iter().map(OsString::from));
    arguments.extend(NO_CAPABILITIES.map(OsString::from));
    if !outlives_host {
        arguments.push("--die-with-parent".into());
    }
    system_folders(&mut arguments);
    let own = [("workspace", "/workspace"), ("home", "/home/agent"), ("run", "/run/oi"), ("tmp", "/tmp")];
    for (name, inside) in own {
        arguments.extend(["--bind".into(), folder.join(name).into_os_string(), inside.into()]);
    }
    let (bridge, opencode) = (format!("{INSIDE}/sandbox-bridge"), format!("{INSIDE}/opencode"));
    for (outside, inside) in [(&programs.bridge, &bridge), (&programs.opencode, &opencode)] {
        arguments.extend(["--ro-bind".into(), outside.as_os_str().into(), inside.into()]);
    }
    let mut tools = Vec::new();
    for (index, tool) in programs.tools.iter().enumerate() {
        if SYSTEM.iter().any(|system| tool.starts_with(system)) {
            tools.push(tool.as_os_str().into());
            continue;
        }
        let inside: OsString = format!("{INSIDE}/tools/{index}").into();
        arguments.extend(["--ro-bind".into(), tool.as_os_str().into(), inside.clone()]);
        tools.push(inside);
    }
    arguments.extend(["--chdir".into(), "/workspace".into(), "--".into(), bridge.into()]);
    let places = own.map(|(_, inside)| inside.into());
    arguments.extend(supervise(places, opencode.into(), tools.into_iter()));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_sees_its_own_folders_and_no_other() {
        let programs = Programs {
            bridge: "/state/bin/sandbox-bridge".into(),
            opencode: "/cache/opencode".into(),
            tools: vec!["/cache/node/bin".into(), "/usr/local/bin".into()],
        };
        let flags = Isolation::Bwrap(CANDIDATES[0].to_vec());
        let line = command_line(&flags, &programs, Path::new("/state/sandboxes/a"), false);
        let line: Vec<String> = line.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let text = line.join(" ");
        assert!(text.contains("--bind /state/sandboxes/a/workspace /workspace"), "{text}");
        assert!(text.contains("--tool-path /opt/open-inspect/tools/0 --tool-path /usr/local/bin"), "{text}");
        assert!(text.contains("--die-with-parent"), "{text}");
        let sources: Vec<&str> = line
            .windows(2)
            .filter(|pair| pair[0].contains("bind"))
            .map(|pair| pair[1].as_str())
            .filter(|path| !path.starts_with("/usr") && !path.starts_with("/etc/") && !SYSTEM.contains(path))
            .collect();
        for source in sources {
            assert!(
                source.starts_with("/state/sandboxes/a/")
                    || source.starts_with("/cache/")
                    || source == "/state/bin/sandbox-bridge",
                "{source} is shown inside"
            );
        }
    }
}
