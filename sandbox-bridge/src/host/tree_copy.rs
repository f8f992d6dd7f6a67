//! Copies folders that a sandbox wrote. Whatever is in them, nothing outside is read or written: every step goes from an
//! open folder to a name in it, and no link is followed.
//!
//! Where the file system can (btrfs, XFS), files share their blocks with the copy.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, copy_file_range, fchmod, fstat,
    ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, openat, readlinkat, seek, statat, symlinkat,
};
use rustix::io::Errno;

/// Deepest folder. Each level holds two descriptors while it is copied.
const DEPTH_MAX: usize = 200;
/// Files at a time.
const WORKERS: usize = 4;
/// Files that wait for a worker.
const WAITING: usize = 64;
/// Between two looks at the clock within a large file.
const PIECE_BYTES: u64 = 64 << 20;
/// Reads the folder whatever a link in its place says.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why a copy was given up.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Time is up.
    #[error("it took too long")]
    TooLong,
    /// There is more than may be copied.
    #[error("the files take more than {0} MiB")]
    TooLarge(u64),
    /// Folders within folders.
    #[error("folders are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Errno> for CopyError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What a copy may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// When it is given up.
    pub deadline: Instant,
    /// Bytes on the disk.
    pub max_bytes: u64,
}

struct FileJob {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    name: CString,
}

struct Walk<'a> {
    budget: Budget,
    jobs: mpsc::SyncSender<FileJob>,
    failed: &'a AtomicBool,
    bytes: u64,
    /// Files of several names: where the first is.
    first_names: HashMap<(u64, u64), CString>,
    /// Further names, and the first.
    links: Vec<(CString, CString)>,
}

/// Copies a folder into a new one and gives the bytes on the disk that were read. Sockets, pipes and devices are left
/// out; no file gets a right to act as another user.
pub fn copy(source: &Path, destination: &Path, budget: Budget) -> Result<u64, CopyError> {
    let from = Arc::new(openat(CWD, source, FOLDER, Mode::empty())?);
    mkdirat(CWD, destination, Mode::RWXU)?;
    let to = Arc::new(openat(CWD, destination, FOLDER, Mode::empty())?);
    let (failed, first_error) = (AtomicBool::new(false), Mutex::new(None));
    let (jobs, waiting) = mpsc::sync_channel(WAITING);
    let waiting = Mutex::new(waiting);
    let fail = |error: CopyError| {
        failed.store(true, Ordering::Relaxed);
        first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    };
    let walked = std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    if failed.load(Ordering::Relaxed) {
                        continue;
                    }
                    if let Err(error) = copy_file(&job, budget.deadline) {
                        fail(error);
                    }
                }
            });
        }
        let mut walk = Walk { budget, jobs, failed: &failed, bytes: 0, first_names: HashMap::new(), links: Vec::new() };
        let result = walk.folder(&from, &to, b"", 0);
        // With it the channel ends, and so do the workers.
        result.map(|()| (walk.bytes, walk.links))
    });
    if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let (bytes, links) = walked?;
    for (name, first) in links {
        linkat(&to, &first, &to, &name, AtFlags::empty())?;
    }
    Ok(bytes)
}

impl Walk<'_> {
    fn folder(&mut self, from: &Arc<OwnedFd>, to: &Arc<OwnedFd>, path: &[u8], depth: usize) -> Result<(), CopyError> {
        if depth > DEPTH_MAX {
            return Err(CopyError::TooDeep);
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.failed.load(Ordering::Relaxed) {
                // The worker has said why.
                return Ok(());
            }
            if Instant::now() > self.budget.deadline {
                return Err(CopyError::TooLong);
            }
            self.entry(from, to, name, path, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &Arc<OwnedFd>,
        to: &Arc<OwnedFd>,
        name: &CStr,
        path: &[u8],
        depth: usize,
    ) -> Result<(), CopyError> {
        let stat = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It went in between.
            Err(Errno::NOENT) => return Ok(()),
            found => found?,
        };
        self.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        if self.bytes > self.budget.max_bytes {
            return Err(CopyError::TooLarge(self.budget.max_bytes >> 20));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = open_readable(from, name, FOLDER)?;
                // Its owner may go on writing in it, as the copy must.
                mkdirat(to, name, plain_mode(&stat) | Mode::RWXU)?;
                let made = openat(to, name, FOLDER, Mode::empty())?;
                fchmod(&made, plain_mode(&stat) | Mode::RWXU)?;
                self.folder(&Arc::new(inner), &Arc::new(made), &joined(path, name), depth + 1)
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    let here = CString::new(joined(path, name)).map_err(std::io::Error::other)?;
                    if let Some(first) = self.first_names.get(&(stat.st_dev, stat.st_ino)) {
                        self.links.push((here, first.clone()));
                        return Ok(());
                    }
                    self.first_names.insert((stat.st_dev, stat.st_ino), here);
                }
                let job = FileJob { from: Arc::clone(from), to: Arc::clone(to), name: name.to_owned() };
                self.jobs.send(job).map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())
            }
            FileType::Symlink => Ok(symlinkat(readlinkat(from, name, Vec::new())?, to, name)?),
            _ => Ok(()),
        }
    }
}

fn joined(path: &[u8], name: &CStr) -> Vec<u8> {
    let parts: &[&[u8]] = if path.is_empty() { &[name.to_bytes()] } else { &[path, name.to_bytes()] };
    parts.join(&b'/')
}

/// Rights of a file without those to act as another user.
fn plain_mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o1777)
}

/// Opens what may have been made unreadable by its owner, who is also ours.
fn open_readable(folder: &OwnedFd, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let handle = openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let stat = fstat(&handle)?;
            let itself = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(&*itself, plain_mode(&stat) | Mode::RUSR | Mode::XUSR)?;
            let opened = openat(CWD, &*itself, flags.difference(OFlags::NOFOLLOW), Mode::empty());
            rustix::fs::chmod(&*itself, plain_mode(&stat))?;
            opened
        }
        opened => opened,
    }
}

fn copy_file(job: &FileJob, deadline: Instant) -> Result<(), CopyError> {
    // Without waiting: a pipe may have taken the file's place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let from = match open_readable(&job.from, &job.name, flags) {
        Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
        opened => opened?,
    };
    let stat = fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = openat(&job.to, &job.name, flags, Mode::RUSR | Mode::WUSR)?;
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if size > 0 && ioctl_ficlone(&to, &from).is_err() {
        copy_bytes(&from, &to, size, deadline)?;
    }
    fchmod(&to, plain_mode(&stat))?;
    let nanoseconds = |value| i64::try_from(value).unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: nanoseconds(stat.st_atime_nsec) },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds(stat.st_mtime_nsec) },
    };
    Ok(futimens(&to, &times)?)
}

/// The parts of a file that hold something, in their places.
fn copy_bytes(from: &OwnedFd, to: &OwnedFd, size: u64, deadline: Instant) -> Result<(), CopyError> {
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            // Nothing but a hole follows.
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(size);
        copy_range(from, to, start, end, deadline)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64, deadline: Instant) -> Result<(), CopyError> {
    let mut at = start;
    while at < end {
        if Instant::now() > deadline {
            return Err(CopyError::TooLong);
        }
        let (mut read_at, mut write_at) = (at, at);
        let piece = usize::try_from((end - at).min(PIECE_BYTES)).unwrap_or(usize::MAX);
        let copied = match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), piece) {
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let mut buffer = vec![0; piece.min(1 << 20)];
                let read = rustix::io::pread(from, &mut buffer, at)?;
                write_all(to, &buffer[..read], at)?;
                read
            }
            copied => copied?,
        };
        if copied == 0 {
            // It became shorter.
            return Ok(());
        }
        at += copied as u64;
    }
    Ok(())
}

fn write_all(to: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), CopyError> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(to, bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::time::Duration;

    use super::*;

    fn budget() -> Budget {
        Budget { deadline: Instant::now() + Duration::from_secs(30), max_bytes: 64 << 20 }
    }

    #[test]
    fn a_copy_is_the_same_tree_and_shares_nothing_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).expect("made");
        for n in 0..300 {
            std::fs::write(from.join(format!("a/{n}")), format!("text {n}")).expect("written");
        }
        std::fs::write(from.join("run.sh"), "#!/bin/sh").expect("written");
        std::fs::set_permissions(from.join("run.sh"), std::fs::Permissions::from_mode(0o6755)).expect("set");
        std::fs::hard_link(from.join("run.sh"), from.join("a/b/again")).expect("linked");
        symlink("../a/1", from.join("a/link")).expect("linked");
        let sparse = std::fs::File::create(from.join("sparse")).expect("made");
        sparse.set_len(1 << 40).expect("grown");
        copy(&from, &to, budget()).expect("copied");
        assert_eq!(std::fs::read_to_string(to.join("a/299")).expect("there"), "text 299");
        assert_eq!(std::fs::read_link(to.join("a/link")).expect("a link"), Path::new("../a/1"));
        let (of, again) = (std::fs::metadata(to.join("run.sh")), std::fs::metadata(to.join("a/b/again")));
        let (of, again) = (of.expect("there"), again.expect("there"));
        assert_eq!(
            (of.ino(), of.nlink(), of.mode() & 0o7777),
            (again.ino(), 2, 0o755),
            "one file, nobody else's rights"
        );
        let before = std::fs::metadata(from.join("a/7")).expect("there");
        assert_eq!(std::fs::metadata(to.join("a/7")).expect("there").mtime_nsec(), before.mtime_nsec());
        let sparse = std::fs::metadata(to.join("sparse")).expect("there");
        assert!(sparse.len() == 1 << 40 && sparse.blocks() < 64);
        std::fs::write(from.join("run.sh"), "changed").expect("written");
        assert_eq!(std::fs::read_to_string(to.join("run.sh")).expect("there"), "#!/bin/sh");
    }

    #[test]
    fn nothing_outside_is_read_whatever_was_planted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to, secret) = (folder.path().join("from"), folder.path().join("to"), folder.path().join("secret"));
        std::fs::create_dir_all(&from).expect("made");
        std::fs::create_dir_all(&secret).expect("made");
        std::fs::write(secret.join("key"), "the host's key").expect("written");
        symlink(secret.join("key"), from.join("file")).expect("linked");
        symlink(&secret, from.join("folder")).expect("linked");
        let made = std::process::Command::new("mkfifo").arg(from.join("pipe")).status().expect("runs");
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).expect("bound");
        assert!(made.success());
        copy(&from, &to, budget()).expect("copied");
        let mut names: Vec<_> =
            std::fs::read_dir(&to).expect("read").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "folder"]);
        for name in ["file", "folder"] {
            assert!(std::fs::symlink_metadata(to.join(name)).expect("there").is_symlink(), "{name} is a link still");
        }
        symlink(&secret, folder.path().join("root")).expect("linked");
        assert!(copy(&folder.path().join("root"), &folder.path().join("other"), budget()).is_err());
    }

    #[test]
    fn a_copy_is_bounded_in_time_bytes_and_depth() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), |name: &str| folder.path().join(name));
        std::fs::create_dir(&from).expect("made");
        std::fs::write(from.join("large"), vec![1; 3 << 20]).expect("written");
        let small = Budget { max_bytes: 1 << 20, ..budget() };
        assert!(matches!(copy(&from, &to("a"), small), Err(CopyError::TooLarge(1))));
        let late = Budget { deadline: Instant::now(), ..budget() };
        assert!(matches!(copy(&from, &to("b"), late), Err(CopyError::TooLong)));
        let deep = "x/".repeat(DEPTH_MAX + 2);
        std::fs::create_dir_all(from.join(deep)).expect("made");
        assert!(matches!(copy(&from, &to("c"), budget()), Err(CopyError::TooDeep)));
    }
}
