//! Where a sandbox's things are: all under folders of its own, so that several fit on one machine.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::private_folder;

/// Longest path of a Unix socket, without the final zero.
const SOCKET_PATH_MAX: usize = 107;

/// Begins the name of a folder that exists for a socket alone.
const SHORT_PREFIX: &str = "oi-socket-";

/// Removes the socket, and its folder where it has one of its own.
pub fn remove_socket(socket: &Path) {
    let mut result = std::fs::remove_file(socket);
    if let Some(folder) = socket.parent()
        && folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SHORT_PREFIX))
    {
        result = result.and_then(|()| std::fs::remove_dir(folder));
    }
    if let Err(error) = result {
        tracing::debug!(event = "supervisor.socket_left", %error);
    }
}

/// Options of `supervise` that name places.
#[derive(Debug, Clone, clap::Args)]
pub struct Places {
    /// Folder of the checkouts.
    #[arg(long, default_value = "/workspace")]
    pub workspace: PathBuf,
    /// The sandbox's home. A snapshot keeps it.
    #[arg(long, env = "HOME", default_value = "/root")]
    pub home: PathBuf,
    /// Socket and journal. No snapshot keeps it.
    #[arg(long, default_value = "/run/oi")]
    pub runtime_dir: PathBuf,
    /// For temporary files.
    #[arg(long, default_value = "/tmp")]
    pub temporary_dir: PathBuf,
    /// The OpenCode binary.
    #[arg(long, env = "OPENCODE_BIN", default_value = "opencode")]
    pub opencode: PathBuf,
    /// Folders before the system's on the PATH, separated by colons.
    #[arg(long, env = "OI_TOOL_PATH", value_delimiter = ':')]
    pub tool_path: Vec<PathBuf>,
}

impl Places {
    /// The same places, wherever a child works.
    pub fn absolute(mut self) -> std::io::Result<Self> {
        for path in [&mut self.workspace, &mut self.home, &mut self.runtime_dir, &mut self.temporary_dir] {
            *path = std::path::absolute(&path)?;
        }
        // A bare name is looked for on the PATH.
        if self.opencode.components().count() > 1 {
            self.opencode = std::path::absolute(&self.opencode)?;
        }
        Ok(self)
    }

    /// Makes the folders; those that hold what is the sandbox's own are for its user alone.
    pub fn create(&self) -> std::io::Result<()> {
        private_folder::create(&self.runtime_dir)?;
        private_folder::create(&self.home)?;
        private_folder::create(&self.scratch())?;
        std::fs::create_dir_all(&self.workspace)?;
        std::fs::create_dir_all(&self.temporary_dir)
    }

    /// The command line that names these places.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["supervise".into()];
        for (flag, path) in [
            ("--workspace", &self.workspace),
            ("--home", &self.home),
            ("--runtime-dir", &self.runtime_dir),
            ("--temporary-dir", &self.temporary_dir),
            ("--opencode", &self.opencode),
        ] {
            arguments.extend([flag.into(), path.into()]);
        }
        for folder in &self.tool_path {
            arguments.extend(["--tool-path".into(), folder.into()]);
        }
        arguments
    }

    /// What the bridge keeps with the home: the agent's session, marks of hooks that ran.
    pub fn kept(&self) -> PathBuf {
        self.home.join(".open-inspect")
    }

    /// Names the sandbox whose session began in this workspace. A snapshot brings it along, and another sandbox's name
    /// says nothing.
    fn began(&self) -> PathBuf {
        self.kept().join("began")
    }

    /// Whether the session of this sandbox began already: then its supervisor starts again.
    pub fn has_begun(&self, sandbox_id: &str) -> bool {
        std::fs::read_to_string(self.began()).is_ok_and(|known| known == sandbox_id)
    }

    /// Remembers that the session of this sandbox began.
    pub fn begin(&self, sandbox_id: &str) {
        let written = std::fs::create_dir_all(self.kept()).and_then(|()| std::fs::write(self.began(), sandbox_id));
        if let Err(error) = written {
            tracing::warn!(event = "boot.not_remembered", %error);
        }
    }

    /// OpenCode's global configuration: `XDG_CONFIG_HOME` of the sandbox is in its home.
    pub fn agent_config(&self) -> PathBuf {
        self.home.join(".config/opencode")
    }

    /// What hooks printed. No snapshot keeps it: it may hold the users' secrets.
    pub fn hook_logs(&self) -> PathBuf {
        self.runtime_dir.join("hooks")
    }

    /// The empty folder that OpenCode starts in.
    pub fn scratch(&self) -> PathBuf {
        self.runtime_dir.join("empty")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.runtime_dir.join("journal")
    }

    /// The supervisor's socket. Where the runtime folder's path is too long for a socket, it goes into a folder of
    /// its own under the system's temporary one.
    pub fn socket(&self) -> std::io::Result<PathBuf> {
        let path = self.runtime_dir.join("bridge.sock");
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return Ok(path);
        }
        let folder = std::env::temp_dir().join(format!("{SHORT_PREFIX}{}", crate::random::hex::<8>()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder.join("s"))
    }

    /// The PATH of everything in the sandbox.
    pub fn path_variable(&self) -> OsString {
        let mut folders: Vec<PathBuf> =
            self.tool_path.iter().filter(|folder| !folder.as_os_str().is_empty()).cloned().collect();
        folders
            .extend(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        std::env::join_paths(folders).unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into())
    }
}
