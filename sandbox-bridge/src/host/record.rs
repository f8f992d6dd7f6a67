//! What the host remembers of a sandbox across its own restarts: who, when and which process. Never how: the
//! configuration holds tokens and stays in memory.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use oi_protocol::UnixMillis;
use oi_protocol::local_backend::{LocalSandbox, LocalSandboxStatus};
use serde::{Deserialize, Serialize};

use super::processes::ProcessId;
use crate::private_folder;

/// A sandbox, in `record.json` of its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What the API shows.
    #[serde(flatten)]
    pub sandbox: LocalSandbox,
    /// The leader of its process group, while it runs.
    #[serde(default)]
    pub process: Option<ProcessId>,
    /// The build that it is for, in place of a session.
    #[serde(default)]
    pub build_id: Option<String>,
    /// When it ended, while it does not run.
    #[serde(default)]
    pub stopped_at: Option<UnixMillis>,
}

impl Record {
    /// A new sandbox, not started yet.
    pub const fn new(sandbox_id: String, session_id: String, generation: i64, created_at: UnixMillis) -> Self {
        let status = LocalSandboxStatus::Running;
        Self {
            sandbox: LocalSandbox {
                sandbox_id,
                session_id,
                generation,
                status,
                created_at,
                ended_because: None,
                access: None,
            },
            process: None,
            build_id: None,
            stopped_at: None,
        }
    }

    /// It runs again.
    pub fn goes_on(&mut self, generation: i64) {
        self.sandbox.status = LocalSandboxStatus::Running;
        self.sandbox.generation = generation;
        self.sandbox.ended_because = None;
        self.stopped_at = None;
    }

    /// It does not run any more.
    pub const fn stopped(&mut self, at: UnixMillis) {
        self.sandbox.status = LocalSandboxStatus::Stopped;
        self.process = None;
        self.stopped_at = Some(at);
    }
}

/// Folders of a sandbox.
const FOLDERS: [&str; 6] = ["workspace", "home", "run", "tmp", "shm", "net"];

/// The folder of all sandboxes.
#[derive(Debug, Clone)]
pub struct Records {
    root: PathBuf,
}

/// Whether a text can be a sandbox's name and so a folder's.
pub fn is_valid_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && !id.starts_with(['.', '-'])
}

/// Begins the name of a folder that is being removed.
const GONE: &str = ".gone-";

impl Records {
    /// The records below a state folder.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        private_folder::create(state_dir)?;
        let root = state_dir.join("sandboxes");
        private_folder::create(&root)?;
        Ok(Self { root })
    }

    /// A sandbox's folder.
    pub fn folder(&self, sandbox_id: &str) -> PathBuf {
        self.root.join(sandbox_id)
    }

    /// Makes a sandbox's folders.
    pub fn create_folders(&self, sandbox_id: &str) -> std::io::Result<()> {
        let folder = self.folder(sandbox_id);
        FOLDERS.iter().try_for_each(|name| private_folder::create(&folder.join(name)))
    }

    /// Removes a sandbox's folder with all that is in it. From its first step on it is not there.
    pub fn remove(&self, sandbox_id: &str) -> std::io::Result<()> {
        let gone = self.root.join(format!("{GONE}{sandbox_id}"));
        match std::fs::rename(self.folder(sandbox_id), &gone) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        // Follows no link, so that only what is in it goes.
        std::fs::remove_dir_all(gone)
    }

    /// Writes a record so that a reader sees the old or the new one, whole.
    pub fn save(&self, record: &Record) -> std::io::Result<()> {
        let folder = self.folder(&record.sandbox.sandbox_id);
        let new = folder.join("record.json.new");
        let mut file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        drop(file);
        std::fs::rename(new, folder.join("record.json"))
    }

    /// All records that can be read. What was being removed is removed.
    pub fn load(&self) -> std::io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(GONE) {
                std::fs::remove_dir_all(entry.path())?;
                continue;
            }
            let path = entry.path().join("record.json");
            let Ok(text) = std::fs::read(&path) else { continue };
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) if is_valid_id(&name) && record.sandbox.sandbox_id == name => records.push(record),
                Ok(_) | Err(_) => tracing::warn!(event = "host.bad_record", path = %path.display()),
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_its_file_holds_no_more_than_it() {
        let state = tempfile::tempdir().expect("a folder");
        let records = Records::open(state.path()).expect("opens");
        let mut record = Record::new("sb-1".to_owned(), "s".to_owned(), 3, UnixMillis(5));
        records.create_folders("sb-1").expect("made");
        records.save(&record).expect("saved");
        record.process = Some(ProcessId { pid: 7, start_time: 9 });
        records.save(&record).expect("saved");
        assert_eq!(records.load().expect("read"), [record]);
        std::fs::write(records.folder("sb-1").join("record.json"), "{half").expect("written");
        assert_eq!(records.load().expect("a bad record is passed over"), []);
    }

    #[test]
    fn removing_a_sandbox_removes_nothing_that_its_links_lead_to() {
        let state = tempfile::tempdir().expect("a folder");
        let records = Records::open(state.path()).expect("opens");
        for id in ["a", "b"] {
            records.create_folders(id).expect("made");
        }
        std::fs::write(records.folder("b").join("workspace/work"), "precious").expect("written");
        let planted = records.folder("a").join("workspace");
        for (name, target) in [("up", "../../b"), ("file", "../../b/workspace/work"), ("root", "/")] {
            std::os::unix::fs::symlink(target, planted.join(name)).expect("linked");
        }
        assert!(planted.join("up/workspace/work").exists(), "the link leads there");
        records.remove("a").expect("removed");
        records.remove("a").expect("removed twice");
        assert!(!records.folder("a").exists());
        assert_eq!(std::fs::read_to_string(records.folder("b").join("workspace/work")).expect("there"), "precious");
    }

    #[test]
    fn a_name_can_never_leave_the_folder() {
        for bad in ["", "..", ".hidden", "a/b", "-x", "a b", "a\0", &"x".repeat(129)] {
            assert!(!is_valid_id(bad), "{bad:?}");
        }
        assert!(is_valid_id("sandbox-acme-api-1700000000000"));
    }
}
