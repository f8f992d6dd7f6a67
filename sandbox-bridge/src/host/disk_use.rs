//! How much of the disk a folder takes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::statvfs;

/// Room that is left on a folder's file system, in bytes.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    statvfs(folder).ok().map(|found| found.f_bavail * found.f_frsize)
}

/// What a folder takes, links not followed, in bytes. Stops counting when it is more than `enough`.
pub fn used_bytes(folder: &Path, enough: u64) -> u64 {
    let (mut used, mut folders) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What vanishes in between takes nothing any more.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            // A file of several names is counted in shares.
            used += metadata.blocks() * 512 / if metadata.is_dir() { 1 } else { metadata.nlink().max(1) };
            if used > enough {
                return used;
            }
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_and_two_names_of_one_file_count_once() {
        let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::write(other.path().join("large"), vec![1; 4 << 20]).expect("written");
        std::fs::write(folder.path().join("a"), vec![1; 1 << 20]).expect("written");
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).expect("linked");
        for (name, target) in [("l", other.path().join("large")), ("d", other.path().to_owned()), ("up", "/".into())] {
            std::os::unix::fs::symlink(target, folder.path().join(name)).expect("linked");
        }
        let used = used_bytes(folder.path(), u64::MAX);
        assert!((1 << 20..3 << 20).contains(&used), "{used}");
        assert!(free_bytes(folder.path()).is_some_and(|free| free > 0));
    }
}
