//! Skipping work whose inputs did not change: a stamp is the hash of the inputs, written after the work succeeded.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::{Failure, Result};

/// Folders whose content is made, not written, where they lie directly in the folder that is hashed.
const MADE: &[&str] = &["node_modules", "dist", "build", "target", ".git", ".wrangler", ".vite"];

/// Hashes files by path and content, so that a fresh clone with other times counts as the same.
#[derive(Default)]
pub struct Inputs {
    hash: Sha256,
}

impl Inputs {
    #[must_use]
    pub fn value(mut self, name: &str, value: &str) -> Self {
        self.field(name.as_bytes());
        self.field(value.as_bytes());
        self
    }

    /// A file, or every file below a folder. One that isn't there counts as such.
    pub fn path(mut self, root: &Path, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        collect(path, true, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(root).unwrap_or(&file);
            self.field(name.as_os_str().as_encoded_bytes());
            let mut content = Vec::new();
            fs::File::open(&file)
                .and_then(|mut open| open.read_to_end(&mut content))
                .map_err(Failure::file("read", &file))?;
            self.field(&content);
        }
        Ok(self)
    }

    pub fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }

    /// Length first, so that two neighbours can't be read as one.
    fn field(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }
}

fn collect(path: &Path, top: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
    } else if path.is_dir() {
        for entry in fs::read_dir(path).map_err(Failure::file("list", path))? {
            let entry = entry.map_err(Failure::file("list", path))?;
            if !(top && MADE.iter().any(|made| entry.file_name() == *made)) {
                collect(&entry.path(), false, files)?;
            }
        }
    }
    Ok(())
}

/// The hash of one file's content, for names of folders in the cache.
pub fn file_hash(path: &Path) -> Result<String> {
    let content = fs::read(path).map_err(Failure::file("read", path))?;
    Ok(hex::encode(Sha256::digest(content)))
}

/// One stamp in a folder of stamps.
pub struct Stamp {
    path: PathBuf,
}

impl Stamp {
    pub fn new(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(name) }
    }

    pub fn matches(&self, inputs: &str) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == inputs)
    }

    pub fn write(&self, inputs: &str) -> Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(Failure::file("make the folder", parent))?;
        }
        fs::write(&self.path, inputs).map_err(Failure::file("write", &self.path))
    }

    /// Before work that leaves the old output half replaced when it fails.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, content).expect("written");
        }
        dir
    }

    fn hash(dir: &tempfile::TempDir) -> String {
        Inputs::default().path(dir.path(), dir.path()).expect("readable").finish()
    }

    #[test]
    fn the_same_content_elsewhere_has_the_same_hash() {
        let files = [("src/a.rs", "a"), ("src/deep/b.rs", "b")];
        assert_eq!(hash(&folder(&files)), hash(&folder(&files)));
    }

    #[test]
    fn a_changed_renamed_or_added_file_changes_the_hash() {
        let base = hash(&folder(&[("a", "1"), ("b", "2")]));
        assert_ne!(base, hash(&folder(&[("a", "1"), ("b", "3")])));
        assert_ne!(base, hash(&folder(&[("a", "1"), ("c", "2")])));
        assert_ne!(base, hash(&folder(&[("a", "1"), ("b", "2"), ("c", "")])));
        assert_ne!(base, hash(&folder(&[("a", "12"), ("b", "")])));
    }

    #[test]
    fn what_a_build_makes_is_no_input() {
        let base = hash(&folder(&[("src/a", "1")]));
        assert_eq!(base, hash(&folder(&[("src/a", "1"), ("node_modules/x/y", "z"), ("build/index.js", "z")])));
        assert_ne!(base, hash(&folder(&[("src/a", "1"), ("src/build/mod.rs", "z")])));
    }

    #[test]
    fn a_stamp_matches_only_the_inputs_it_was_written_for() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let stamp = Stamp::new(&dir.path().join("stamps"), "web");
        assert!(!stamp.matches("one"));
        stamp.write("one").expect("written");
        assert!(stamp.matches("one") && !stamp.matches("two"));
        stamp.forget();
        assert!(!stamp.matches("one"));
    }
}
