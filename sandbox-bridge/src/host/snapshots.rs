//! Files that are kept of sandboxes, in `snapshots/<image id>`: whole or not there.
//!
//! A snapshot is put together under a name that begins with a dot and gets its own by a rename; what begins with a dot
//! when the host starts is half of something, and is removed. Writing it through to the disk takes longer than anybody
//! should wait: until that is done it counts only while the machine has not been started anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oi_protocol::local_backend::{LocalSnapshot, LocalSnapshotList};
use tokio::sync::Semaphore;

use super::disk_use;
use super::processes::{self, ProcessId};
use super::tree_copy::{self, Budget, CopyError};
use crate::{clock, private_folder, random};

/// What is kept of a sandbox. Never `run`, which has the journal.
pub const KEPT: [&str; 3] = ["workspace", "home", "tmp"];
/// Longest that a sandbox stands still.
const COPY_WITHIN: Duration = Duration::from_secs(120);
/// Copies at a time: more would only share the disk.
const AT_ONCE: usize = 2;
const LABEL_MAX_BYTES: usize = 200;
const DESCRIPTION: &str = "snapshot.json";
/// Names the start of the machine in which the snapshot was made.
const MADE_IN: &str = "made-in";
/// Is there once everything is on the disk.
const DURABLE: &str = "durable";
/// Room that a copy leaves on the disk for everybody else.
const RESERVE_BYTES: u64 = 512 << 20;

/// How much is kept.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct SnapshotOptions {
    /// Snapshots that are kept. Beyond that the oldest of sessions that have newer ones go first.
    #[arg(long, default_value_t = 500)]
    pub max_snapshots: usize,
    /// What snapshots may take together, in MiB.
    #[arg(long, default_value_t = 204_800)]
    pub max_snapshots_mib: u64,
}

/// Why nothing was kept, or put back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The label cannot be one.
    #[error("a label has 1 to {LABEL_MAX_BYTES} characters")]
    Label,
    /// No such image.
    #[error("there is no image `{0}`")]
    Unknown(String),
    /// No such sandbox.
    #[error("there is no sandbox of this name")]
    NoSandbox,
    /// The copy.
    #[error("the files cannot be copied: {0}")]
    Copy(#[from] CopyError),
    /// A folder or the description.
    #[error("the snapshot cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// The sandbox whose files are kept.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its id.
    pub sandbox_id: String,
    /// Its session; empty for a build.
    pub session_id: String,
    /// Its build.
    pub build_id: Option<String>,
    /// Its folder.
    pub folder: PathBuf,
    /// The leader of its processes, while it runs.
    pub process: Option<ProcessId>,
}

struct Kept {
    snapshot: LocalSnapshot,
    /// Copies that are being made of it.
    readers: usize,
}

/// All snapshots of this host.
pub struct Snapshots {
    root: PathBuf,
    options: SnapshotOptions,
    max_bytes_each: u64,
    kept: Mutex<BTreeMap<String, Kept>>,
    places: Semaphore,
    /// One writes to the disk at a time, for all before it.
    writing: Semaphore,
}

/// The kernel's name of this start of the machine.
fn machine_start() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Whether a snapshot's files are what was copied: a machine that went down may have lost what it had not written yet.
fn is_whole(folder: &Path) -> bool {
    let same_start = || std::fs::read_to_string(folder.join(MADE_IN)).is_ok_and(|start| start == machine_start());
    folder.join(DURABLE).exists() || same_start()
}

fn make_durable(folder: &Path) -> std::io::Result<()> {
    rustix::fs::syncfs(File::open(folder)?)?;
    File::create(folder.join(DURABLE))?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Copies what is kept from one folder into another and gives its bytes. Time and room are for all of it together.
fn copy_kept(from: &Path, to: &Path, max_bytes: u64) -> Result<u64, CopyError> {
    let deadline = Instant::now() + COPY_WITHIN;
    let mut left = max_bytes;
    for name in KEPT {
        let budget = Budget { deadline, max_bytes: left };
        let copied = tree_copy::copy(&from.join(name), &to.join(name), budget).map_err(|error| match error {
            CopyError::TooLarge(_) => CopyError::TooLarge(max_bytes >> 20),
            other => other,
        });
        left -= copied?.min(left);
    }
    Ok(max_bytes - left)
}

impl Snapshots {
    /// Opens the folder and removes what a crash left half made or half deleted.
    pub fn open(state_dir: &Path, options: SnapshotOptions, max_bytes_each: u64) -> std::io::Result<Self> {
        let root = state_dir.join("snapshots");
        private_folder::create(&root)?;
        let mut kept = BTreeMap::new();
        for entry in std::fs::read_dir(&root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let described = std::fs::read(entry.path().join(DESCRIPTION)).ok().filter(|_| is_whole(&entry.path()));
            let snapshot = described.and_then(|text| serde_json::from_slice::<LocalSnapshot>(&text).ok());
            if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.image_id == name) {
                kept.insert(name, Kept { snapshot, readers: 0 });
            } else {
                tracing::warn!(event = "snapshot.half", name);
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self {
            root,
            options,
            max_bytes_each,
            kept: Mutex::new(kept),
            places: Semaphore::new(AT_ONCE),
            writing: Semaphore::new(1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot by its label.
    pub fn labelled(&self, label: &str) -> Option<LocalSnapshot> {
        self.lock().values().find(|kept| kept.snapshot.label == label).map(|kept| kept.snapshot.clone())
    }

    /// Snapshots, oldest first, of one session or of all; `cursor` is the last id of the page before.
    pub fn list(&self, session_id: Option<&str>, limit: usize, cursor: Option<&str>) -> LocalSnapshotList {
        let mut all: Vec<LocalSnapshot> = self
            .lock()
            .values()
            .map(|kept| kept.snapshot.clone())
            .filter(|snapshot| session_id.is_none_or(|id| snapshot.session_id == id))
            .collect();
        all.sort_by(|a, b| (a.created_at, &a.image_id).cmp(&(b.created_at, &b.image_id)));
        let from = cursor.and_then(|cursor| all.iter().position(|s| s.image_id == cursor)).map_or(0, |at| at + 1);
        let mut snapshots = all.split_off(from.min(all.len()));
        let more = snapshots.len() > limit;
        snapshots.truncate(limit);
        let next_cursor = snapshots.last().filter(|_| more).map(|last| last.image_id.clone());
        LocalSnapshotList { snapshots, next_cursor }
    }

    /// Keeps a sandbox's files. The same label again answers what was kept; `false` says so. One call for one sandbox at
    /// a time; a call that began is to be finished.
    pub async fn take(
        self: &Arc<Self>,
        subject: Subject,
        label: String,
    ) -> Result<(LocalSnapshot, bool), SnapshotError> {
        if label.is_empty() || label.len() > LABEL_MAX_BYTES {
            return Err(SnapshotError::Label);
        }
        if let Some(known) = self.labelled(&label) {
            return Ok((known, false));
        }
        let _place = self.places.acquire().await.map_err(std::io::Error::other)?;
        let image_id = format!("img-{}", random::hex::<12>());
        let store = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || store.make(&image_id, &subject, label)).await;
        let snapshot = taken.map_err(std::io::Error::other)??;
        tracing::info!(event = "snapshot.taken", image_id = snapshot.image_id, bytes = snapshot.bytes);
        self.lock().insert(snapshot.image_id.clone(), Kept { snapshot: snapshot.clone(), readers: 0 });
        self.write_through(snapshot.image_id.clone());
        for image_id in self.expired(&snapshot.image_id) {
            tracing::info!(event = "snapshot.expired", image_id);
            self.delete(&image_id).await?;
        }
        Ok((snapshot, true))
    }

    /// Writes a snapshot to the disk, in its own time.
    fn write_through(self: &Arc<Self>, image_id: String) {
        let store = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(_turn) = store.writing.acquire().await else { return };
            let folder = store.root.join(&image_id);
            let written = tokio::task::spawn_blocking(move || make_durable(&folder)).await;
            match written.map_err(std::io::Error::other).and_then(|written| written) {
                // It was deleted meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(event = "snapshot.not_durable", image_id, %error),
                Ok(()) => {}
            }
        });
    }

    /// What one copy may take.
    fn room(&self) -> u64 {
        let free = disk_use::free_bytes(&self.root).unwrap_or(u64::MAX);
        self.max_bytes_each.min(free.saturating_sub(RESERVE_BYTES))
    }

    fn make(&self, image_id: &str, subject: &Subject, label: String) -> Result<LocalSnapshot, SnapshotError> {
        let staged = self.root.join(format!(".new-{image_id}"));
        let made = self.stage(&staged, image_id, subject, label);
        if made.is_err()
            && let Err(error) = std::fs::remove_dir_all(&staged)
        {
            tracing::warn!(event = "snapshot.half_left", %error);
        }
        made
    }

    fn stage(
        &self,
        staged: &Path,
        image_id: &str,
        subject: &Subject,
        label: String,
    ) -> Result<LocalSnapshot, SnapshotError> {
        private_folder::create(staged)?;
        let bytes = {
            let _still = subject.process.map(|leader| processes::freeze(leader, &subject.sandbox_id));
            copy_kept(&subject.folder, staged, self.room())?
        };
        let snapshot = LocalSnapshot {
            image_id: image_id.to_owned(),
            label,
            session_id: subject.session_id.clone(),
            sandbox_id: subject.sandbox_id.clone(),
            build_id: subject.build_id.clone(),
            created_at: clock::now(),
            bytes,
        };
        std::fs::write(staged.join(DESCRIPTION), serde_json::to_vec(&snapshot).map_err(std::io::Error::other)?)?;
        std::fs::write(staged.join(MADE_IN), machine_start())?;
        std::fs::rename(staged, self.root.join(image_id))?;
        Ok(snapshot)
    }

    /// What goes so that the rest is within the limits: first what a newer one of its session stands for, oldest first.
    fn expired(&self, newest: &str) -> Vec<String> {
        let kept = self.lock();
        let mut candidates: Vec<&LocalSnapshot> = kept
            .values()
            .filter(|kept| kept.readers == 0 && kept.snapshot.build_id.is_none() && kept.snapshot.image_id != newest)
            .map(|kept| &kept.snapshot)
            .collect();
        let is_last = |snapshot: &LocalSnapshot| {
            !kept.values().any(|other| {
                other.snapshot.session_id == snapshot.session_id && other.snapshot.created_at > snapshot.created_at
            })
        };
        candidates.sort_by_key(|snapshot| (is_last(snapshot), snapshot.created_at));
        let mut count = kept.len();
        let mut bytes: u64 = kept.values().map(|kept| kept.snapshot.bytes).sum();
        let mut expired = Vec::new();
        for snapshot in candidates {
            if count <= self.options.max_snapshots && bytes <= self.options.max_snapshots_mib << 20 {
                break;
            }
            count -= 1;
            bytes -= snapshot.bytes.min(bytes);
            expired.push(snapshot.image_id.clone());
        }
        expired
    }

    /// Deletes a snapshot; `false` says that there was none. One that is being put back is deleted after that.
    pub async fn delete(&self, image_id: &str) -> Result<bool, SnapshotError> {
        let deadline = Instant::now() + COPY_WITHIN;
        let gone = self.root.join(format!(".gone-{image_id}"));
        loop {
            {
                let mut kept = self.lock();
                match kept.get(image_id) {
                    None => return Ok(false),
                    Some(found) if found.readers > 0 && Instant::now() < deadline => {}
                    Some(_) => {
                        // Only names of snapshots that exist come here, so none leaves the folder.
                        std::fs::rename(self.root.join(image_id), &gone)?;
                        kept.remove(image_id);
                        break;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(gone)).await;
        removed.map_err(std::io::Error::other)??;
        Ok(true)
    }

    /// Puts a snapshot's files into a sandbox's folder, in place of what is there.
    pub async fn put_back(self: &Arc<Self>, image_id: &str, folder: PathBuf) -> Result<(), SnapshotError> {
        match self.lock().get_mut(image_id) {
            Some(kept) => kept.readers += 1,
            None => return Err(SnapshotError::Unknown(image_id.to_owned())),
        }
        let (image, max_bytes) = (self.root.join(image_id), self.room());
        let copied = tokio::task::spawn_blocking(move || {
            for name in KEPT {
                match std::fs::remove_dir_all(folder.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            copy_kept(&image, &folder, max_bytes)?;
            Ok::<_, SnapshotError>(())
        })
        .await;
        if let Some(kept) = self.lock().get_mut(image_id) {
            kept.readers -= 1;
        }
        copied.map_err(std::io::Error::other)?
    }

    /// Whether a copy on this file system shares blocks.
    pub fn is_copy_on_write(&self) -> bool {
        let probe = |name: &str| self.root.join(format!(".probe-{name}"));
        let tried = || {
            std::fs::write(probe("a"), vec![1; 4096])?;
            rustix::fs::ioctl_ficlone(File::create(probe("b"))?, File::open(probe("a"))?).map_err(std::io::Error::from)
        };
        let works = tried().is_ok();
        for name in ["a", "b"] {
            drop(std::fs::remove_file(probe(name)));
        }
        works
    }
}

#[cfg(test)]
#[path = "snapshots_tests.rs"]
mod tests;
