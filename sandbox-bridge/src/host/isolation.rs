//! Bubblewrap around a sandbox: its own folders, the system's programs read-only, its own processes, nothing else.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::doors::{Doors, NET_FOLDER, NET_INSIDE};
use super::limits::Limits;
use super::network::NetworkChoice;

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
    /// Bubblewrap.
    Bwrap {
        /// Its flags for namespaces.
        flags: Vec<&'static str>,
        /// Whether a sandbox has a network of its own, which ends at its loopback.
        own_network: bool,
    },
    /// A process group in a folder.
    None,
}

/// Where things are inside.
pub const INSIDE: &str = "/opt/open-inspect";

/// System folders that hold programs and libraries.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// Settings that programs need; the rest of `/etc` may hold secrets.
const SETTINGS: [&str; 22] = [
    // The desktop's programs.
    "/etc/X11",
    "/etc/alternatives",
    "/etc/ca-certificates",
    // Debian's Chromium does not start without.
    "/etc/chromium.d",
    "/etc/crypto-policies",
    "/etc/fonts",
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
const CANDIDATES: [&[&str]; 4] = [
    &[
        "--unshare-user",
        // No namespaces within: what they open of the kernel has been a way out before.
        "--disable-userns",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "sandbox",
    ],
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

/// Folders within [`SETTINGS`] and [`SYSTEM`] that hold keys of this machine.
const HIDDEN: [&str; 3] = ["/etc/pki/private", "/etc/pki/tls/private", "/etc/ssl/private"];

/// What a sandbox would fill memory with, or change this machine by, were it writable. `/proc/sys` is the whole
/// machine's: a sandbox of root owns its files, whatever its capabilities.
const READ_ONLY: [&str; 3] = ["/proc", "/dev", "/"];

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
    for path in HIDDEN {
        if Path::new(path).is_dir() {
            arguments.extend(["--tmpfs", path, "--remount-ro", path].map(OsString::from));
        }
    }
    for (flag, path) in [("--proc", "/proc"), ("--dev", "/dev")] {
        arguments.extend([flag.into(), path.into()]);
    }
}

fn read_only(arguments: &mut Vec<OsString>) {
    for path in READ_ONLY {
        arguments.extend(["--remount-ro".into(), path.into()]);
    }
}

impl Isolation {
    /// Finds out once what works here. Without a network of its own a sandbox is better than without anything.
    pub fn probe(choice: IsolationChoice, network: NetworkChoice) -> Option<Self> {
        let networks: &[bool] = if network == NetworkChoice::Host { &[false] } else { &[true, false] };
        let tries = networks.iter().flat_map(|own_network| CANDIDATES.iter().map(move |flags| (*flags, *own_network)));
        let mut tries = tries.filter(|_| choice != IsolationChoice::None);
        let working = tries.find(|(flags, own_network)| works(flags, *own_network));
        match (working, choice) {
            (Some((flags, own_network)), _) => Some(Self::Bwrap { flags: flags.to_vec(), own_network }),
            (None, IsolationChoice::Bwrap) => None,
            (None, _) => Some(Self::None),
        }
    }

    /// Whether a sandbox has a network of its own.
    pub const fn own_network(&self) -> bool {
        matches!(self, Self::Bwrap { own_network: true, .. })
    }
}

fn works(flags: &[&str], own_network: bool) -> bool {
    let mut arguments: Vec<OsString> = flags.iter().map(OsString::from).collect();
    arguments.extend(own_network.then(|| "--unshare-net".into()));
    arguments.extend(NO_CAPABILITIES.map(OsString::from));
    system_folders(&mut arguments);
    arguments.extend(["--tmpfs", "/dev/shm", "--tmpfs", "/tmp"].map(OsString::from));
    read_only(&mut arguments);
    arguments.extend(["--", "/bin/true"].map(OsString::from));
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

/// One sandbox: what it sees and may use.
#[derive(Debug, Clone)]
pub struct Enclosure<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// Whether it goes on when this host ends.
    pub outlives_host: bool,
    /// The way out, where it has a network of its own.
    pub doors: Option<&'a Doors>,
    /// What it may use.
    pub limits: Limits,
}

/// Folders of a sandbox, and where they are inside.
const OWN: [(&str, &str); 4] =
    [("workspace", "/workspace"), ("home", "/home/agent"), ("run", "/run/oi"), ("tmp", "/tmp")];

/// The command line of a sandbox's supervisor.
pub fn command_line(isolation: &Isolation, programs: &Programs, enclosure: &Enclosure<'_>) -> Vec<OsString> {
    match isolation {
        Isolation::None => {
            let mut arguments = launcher(programs.bridge.as_os_str(), enclosure.limits, false);
            let at = |name: &str| enclosure.folder.join(name).into_os_string();
            arguments.extend(supervise(
                OWN.map(|(name, _)| at(name)),
                programs.opencode.as_os_str().into(),
                programs.tools.iter().map(|tool| tool.as_os_str().into()),
            ));
            arguments
        }
        Isolation::Bwrap { flags, own_network } => bwrap(flags, *own_network, programs, enclosure),
    }
}

/// This program twice: to set limits, then to supervise.
fn launcher(bridge: &OsStr, limits: Limits, own_users: bool) -> Vec<OsString> {
    let mut arguments = vec![bridge.to_owned(), "launch".into()];
    arguments.extend(limits.launch_arguments(own_users));
    arguments.extend(["--".into(), bridge.to_owned()]);
    arguments
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

fn bwrap(flags: &[&str], own_network: bool, programs: &Programs, enclosure: &Enclosure<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["bwrap".into()];
    arguments.extend(flags.iter().map(OsString::from));
    arguments.extend(own_network.then(|| "--unshare-net".into()));
    arguments.extend(NO_CAPABILITIES.map(OsString::from));
    if !enclosure.outlives_host {
        arguments.push("--die-with-parent".into());
    }
    system_folders(&mut arguments);
    let folder = enclosure.folder;
    // On the disk, where it is counted, and not in memory.
    for (name, inside) in OWN.into_iter().chain([("shm", "/dev/shm")]) {
        arguments.extend(["--bind".into(), folder.join(name).into_os_string(), inside.into()]);
    }
    if enclosure.doors.is_some() {
        arguments.extend(["--ro-bind".into(), folder.join(NET_FOLDER).into_os_string(), NET_INSIDE.into()]);
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
    read_only(&mut arguments);
    arguments.extend(["--chdir".into(), "/workspace".into(), "--".into()]);
    arguments.extend(launcher(OsStr::new(&bridge), enclosure.limits, flags.contains(&"--unshare-user")));
    let places = OWN.map(|(_, inside)| inside.into());
    arguments.extend(supervise(places, opencode.into(), tools.into_iter()));
    if let Some(doors) = enclosure.doors {
        arguments.extend(doors.arguments());
    }
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
        let bwrap = Isolation::Bwrap { flags: CANDIDATES[0].to_vec(), own_network: true };
        let doors = Doors { port: 3128, forward: vec!["127.0.0.1:8787".parse().expect("a server")] };
        let enclosure = Enclosure {
            folder: Path::new("/state/sandboxes/a"),
            outlives_host: false,
            doors: Some(&doors),
            limits: Limits::default(),
        };
        let line = command_line(&bwrap, &programs, &enclosure);
        let line: Vec<String> = line.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let text = line.join(" ");
        assert!(text.contains("--bind /state/sandboxes/a/workspace /workspace"), "{text}");
        assert!(text.contains("--tool-path /opt/open-inspect/tools/0 --tool-path /usr/local/bin"), "{text}");
        assert!(text.contains("--die-with-parent"), "{text}");
        assert!(text.contains("--unshare-net") && text.contains("--forward 127.0.0.1:8787"), "{text}");
        for path in READ_ONLY {
            assert!(text.contains(&format!("--remount-ro {path} ")), "{path}: {text}");
        }
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
