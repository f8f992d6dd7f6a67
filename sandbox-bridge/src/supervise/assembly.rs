//! `.opencode` of a workspace with several repositories: what each of them brings, together, since OpenCode reads the
//! folder that it works in. Sandbox.md, section 3.3.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::git::{Checkout, Workspace};

const FOLDER: &str = ".opencode";
/// Folders that are made, not written.
const LEFT_OUT: [&str; 2] = ["node_modules", "__pycache__"];
/// More files than this are no configuration.
const FILES_MAX: usize = 10_000;
/// Deeper folders are no configuration.
const DEPTH_MAX: usize = 32;

/// Builds it anew, in the order of the repositories: a later one's file takes the place of an earlier one's, which each
/// sentence tells. What cannot be copied is told too.
pub fn assemble(root: &Path, workspace: &Workspace) -> Vec<String> {
    if workspace.directory != root || workspace.checkouts.is_empty() {
        return Vec::new();
    }
    let target = root.join(FOLDER);
    let mut assembly = Assembly { target, owners: HashMap::new(), warnings: Vec::new() };
    if let Err(error) = clear(&assembly.target) {
        return vec![format!("The agent's configuration of an earlier start could not be removed: {error}")];
    }
    for checkout in &workspace.checkouts {
        let source = checkout.path.join(FOLDER);
        if source.symlink_metadata().is_ok_and(|found| found.is_dir())
            && let Err(error) = assembly.copy(checkout, &source, Path::new(""), 0)
        {
            let label = label(checkout);
            assembly.warnings.push(format!("`.opencode` of {label} could not be copied as a whole: {error}"));
        }
    }
    assembly.warnings
}

fn label(checkout: &Checkout) -> String {
    format!("{}/{}", checkout.owner, checkout.name)
}

fn clear(target: &Path) -> std::io::Result<()> {
    let Ok(found) = target.symlink_metadata() else { return Ok(()) };
    if !found.is_dir() {
        return std::fs::remove_file(target);
    }
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        if entry.file_name() == "node_modules" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

struct Assembly {
    target: PathBuf,
    /// Whose file is at a path.
    owners: HashMap<PathBuf, String>,
    warnings: Vec<String>,
}

impl Assembly {
    fn copy(&mut self, checkout: &Checkout, source: &Path, within: &Path, depth: usize) -> std::io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(std::io::Error::other("its folders are too deep"));
        }
        let mut entries = std::fs::read_dir(source)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if LEFT_OUT.iter().any(|left_out| name == *left_out) {
                continue;
            }
            let within = within.join(&name);
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.copy(checkout, &entry.path(), &within, depth + 1)?;
            } else if kind.is_file() || kind.is_symlink() {
                self.place(checkout, &entry.path(), within, kind.is_symlink())?;
            }
        }
        Ok(())
    }

    fn place(&mut self, checkout: &Checkout, source: &Path, within: PathBuf, is_link: bool) -> std::io::Result<()> {
        if self.owners.len() >= FILES_MAX {
            return Err(std::io::Error::other(format!("there are more than {FILES_MAX} files")));
        }
        let target = self.target.join(&within);
        let ours = label(checkout);
        if let Some(folder) = target.parent() {
            self.make_folder(&within, &ours)?;
            std::fs::create_dir_all(folder)?;
        }
        if let Ok(there) = target.symlink_metadata() {
            let shown = within.display();
            let earlier = self.owners.get(&within).cloned().unwrap_or_else(|| "an earlier repository".to_owned());
            self.warnings.push(format!("`.opencode/{shown}` of {ours} takes the place of that of {earlier}."));
            if there.is_dir() { std::fs::remove_dir_all(&target)? } else { std::fs::remove_file(&target)? }
        }
        if is_link {
            std::os::unix::fs::symlink(std::fs::read_link(source)?, &target)?;
        } else {
            std::fs::copy(source, &target)?;
        }
        self.owners.insert(within, ours);
        Ok(())
    }

    /// Where an earlier repository has a file, a later one may have a folder.
    fn make_folder(&mut self, within: &Path, ours: &str) -> std::io::Result<()> {
        for folder in within.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            if let Some(earlier) = self.owners.remove(folder) {
                let shown = folder.display();
                self.warnings.push(format!("`.opencode/{shown}` of {ours} takes the place of that of {earlier}."));
                std::fs::remove_file(self.target.join(folder))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(root: &Path, position: u32, name: &str, files: &[(&str, &str)]) -> Checkout {
        let path = root.join(name);
        for (file, text) in files {
            let file = path.join(FOLDER).join(file);
            std::fs::create_dir_all(file.parent().expect("has one")).expect("made");
            std::fs::write(file, text).expect("written");
        }
        let (owner, name, branch) = ("acme".to_owned(), name.to_owned(), "main".to_owned());
        Checkout { position, owner, name, branch, path, base_sha: None }
    }

    #[test]
    fn a_later_repositorys_file_wins_and_both_owners_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let first =
            [("agent/a.md", "one"), ("agent/both.md", "one"), ("node_modules/x/index.js", "x"), ("thing", "a file")];
        let second = [("agent/both.md", "two"), ("tool/__pycache__/c.pyc", "x"), ("thing/is/folder.md", "now")];
        let checkouts = vec![checkout(root, 0, "api", &first), checkout(root, 1, "web", &second)];
        std::os::unix::fs::symlink("/etc", root.join("web/.opencode/outside")).expect("linked");
        std::fs::create_dir_all(root.join(".opencode/node_modules/kept")).expect("made");
        std::fs::write(root.join(".opencode/gone.md"), "of an earlier start").expect("written");
        let workspace = Workspace { directory: root.to_owned(), checkouts };
        let warnings = assemble(root, &workspace);
        let read = |path: &str| std::fs::read_to_string(root.join(FOLDER).join(path)).ok();
        assert_eq!(read("agent/a.md").as_deref(), Some("one"));
        assert_eq!(read("agent/both.md").as_deref(), Some("two"));
        assert_eq!(read("thing/is/folder.md").as_deref(), Some("now"));
        assert!(read("node_modules/x/index.js").is_none() && read("gone.md").is_none());
        assert!(!root.join(".opencode/tool").exists() && root.join(".opencode/node_modules/kept").exists());
        assert!(root.join(".opencode/outside").symlink_metadata().expect("there").is_symlink(), "it is not followed");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("agent/both.md") && warnings[0].contains("acme/web takes"), "{warnings:?}");
        assert!(warnings[0].contains("of acme/api."), "{warnings:?}");
        assert_eq!(assemble(root, &workspace).len(), 2, "each start builds it anew");
    }

    #[test]
    fn one_repository_keeps_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let only = checkout(folder.path(), 0, "api", &[("a.md", "one")]);
        let workspace = Workspace { directory: only.path.clone(), checkouts: vec![only] };
        assert!(assemble(folder.path(), &workspace).is_empty());
        assert!(!folder.path().join(FOLDER).exists());
    }
}
