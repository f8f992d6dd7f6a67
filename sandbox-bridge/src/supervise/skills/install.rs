//! Puts managed skills where the agent looks, as a whole or not at all.
//!
//! They are written beside the place and put into it by two renames. A journal says that a swap is on its way, so that
//! the next boot ends or undoes one that was interrupted.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::SkillsError;
use super::page::{Skill, is_name};
use crate::private_folder;

/// The folders of one installation.
#[derive(Debug, Clone)]
pub struct SkillFolders {
    parent: PathBuf,
}

impl SkillFolders {
    /// In the agent's global configuration folder.
    pub fn new(config_folder: &Path) -> Self {
        Self { parent: config_folder.to_owned() }
    }

    /// Where the agent looks.
    pub fn installed(&self) -> PathBuf {
        self.parent.join("skills")
    }

    fn staging(&self) -> PathBuf {
        self.parent.join(".managed-skills-staging")
    }

    fn backup(&self) -> PathBuf {
        self.parent.join(".managed-skills-backup")
    }

    fn journal(&self) -> PathBuf {
        self.parent.join(".managed-skills-swap")
    }

    /// Ends what an earlier boot began: the new skills stay where they are in place, else the old ones come back.
    pub fn repair(&self) -> std::io::Result<()> {
        private_folder::create(&self.parent)?;
        if self.journal().symlink_metadata().is_ok() {
            if !is_there(&self.installed()) && is_there(&self.backup()) {
                std::fs::rename(self.backup(), self.installed())?;
            }
            remove_tree(&self.backup())?;
            std::fs::remove_file(self.journal())?;
        }
        remove_tree(&self.staging())
    }

    /// An empty place for new skills.
    pub fn stage(&self) -> std::io::Result<()> {
        remove_tree(&self.staging())?;
        private_folder::create(&self.staging())
    }

    /// Writes a skill that was checked.
    pub fn add(&self, skill: &Skill) -> Result<(), SkillsError> {
        let folder = self.staging().join(&skill.name);
        private_folder::create(&folder)?;
        for file in &skill.files {
            let path = folder.join(&file.path);
            if let Some(within) = path.parent() {
                private_folder::create(within)?;
            }
            let mode = if file.executable { 0o500 } else { 0o400 };
            let mut new = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            new.write_all(file.content.as_bytes())?;
            new.sync_all()?;
        }
        Ok(())
    }

    /// Takes out skills whose names are used already, and says which.
    pub fn drop_collisions(&self, taken: &HashSet<String>) -> std::io::Result<Vec<String>> {
        let mut dropped = Vec::new();
        for name in names_in(&self.staging()) {
            if taken.contains(&name) {
                remove_tree(&self.staging().join(&name))?;
                dropped.push(name);
            }
        }
        dropped.sort();
        Ok(dropped)
    }

    /// Puts the new skills in the place of the old ones.
    pub fn swap(&self) -> std::io::Result<()> {
        remove_tree(&self.backup())?;
        let mut journal = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.journal())?;
        journal.write_all(b"1\n")?;
        journal.sync_all()?;
        sync_folder(&self.parent)?;
        if is_there(&self.installed()) {
            std::fs::rename(self.installed(), self.backup())?;
        }
        std::fs::rename(self.staging(), self.installed())?;
        sync_folder(&self.parent)?;
        remove_tree(&self.backup())?;
        std::fs::remove_file(self.journal())
    }
}

/// Names of the skills below these folders, which the repositories and the person's home bring.
pub fn discovered(folders: &[PathBuf]) -> HashSet<String> {
    const PLACES: [&str; 3] = [".opencode", ".claude", ".agents"];
    let places = folders.iter().flat_map(|folder| PLACES.map(|place| folder.join(place).join("skills")));
    places.flat_map(|place| names_in(&place)).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_name(name)).collect()
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::page::SkillFile;
    use super::*;

    fn skill(name: &str, text: &str) -> Skill {
        let file = |path: &str, executable| SkillFile {
            path: path.to_owned(),
            content: text.to_owned(),
            sha256: String::new(),
            size_bytes: 0,
            executable,
        };
        Skill { name: name.to_owned(), files: vec![file("SKILL.md", false), file("scripts/deep/run.sh", true)] }
    }

    fn install(folders: &SkillFolders, skills: &[Skill]) {
        folders.repair().expect("repaired");
        folders.stage().expect("staged");
        for skill in skills {
            folders.add(skill).expect("added");
        }
        folders.swap().expect("swapped");
    }

    fn text(folders: &SkillFolders, name: &str) -> Option<String> {
        std::fs::read_to_string(folders.installed().join(name).join("SKILL.md")).ok()
    }

    #[test]
    fn new_skills_take_the_place_of_the_old_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = SkillFolders::new(&folder.path().join("opencode"));
        install(&folders, &[skill("a", "one"), skill("b", "one")]);
        install(&folders, &[skill("a", "two")]);
        assert_eq!((text(&folders, "a").as_deref(), text(&folders, "b")), (Some("two"), None));
        let mode =
            |path: &str| std::fs::metadata(folders.installed().join(path)).expect("there").permissions().mode() & 0o777;
        assert_eq!([mode("a"), mode("a/SKILL.md"), mode("a/scripts/deep/run.sh")], [0o700, 0o400, 0o500]);
        let left: Vec<_> = std::fs::read_dir(&folders.parent).expect("there").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_swap_that_was_interrupted_is_ended_or_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = SkillFolders::new(folder.path());
        install(&folders, &[skill("a", "old")]);
        // Between the two renames.
        std::fs::write(folders.journal(), "1\n").expect("written");
        std::fs::rename(folders.installed(), folders.backup()).expect("moved");
        folders.stage().expect("staged");
        folders.repair().expect("repaired");
        assert_eq!(text(&folders, "a").as_deref(), Some("old"), "it comes back");
        // After both.
        folders.stage().expect("staged");
        folders.add(&skill("a", "new")).expect("added");
        std::fs::write(folders.journal(), "1\n").expect("written");
        std::fs::rename(folders.installed(), folders.backup()).expect("moved");
        std::fs::rename(folders.staging(), folders.installed()).expect("moved");
        folders.repair().expect("repaired");
        assert_eq!(text(&folders, "a").as_deref(), Some("new"), "it stays");
        assert!(!folders.backup().exists() && !folders.journal().exists() && !folders.staging().exists());
        // What was staged and never swapped is nobody's.
        folders.stage().expect("staged");
        folders.repair().expect("repaired");
        assert!(!folders.staging().exists() && text(&folders, "a").as_deref() == Some("new"));
    }

    #[test]
    fn a_name_that_is_used_already_is_left_to_whoever_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = SkillFolders::new(&folder.path().join("config"));
        for place in ["repo/.claude/skills/review", "home/.agents/skills/deploy", "repo/.opencode/skills/.hidden"] {
            std::fs::create_dir_all(folder.path().join(place)).expect("made");
        }
        let taken = discovered(&[folder.path().join("repo"), folder.path().join("home")]);
        assert_eq!(taken.len(), 2, "{taken:?}");
        folders.stage().expect("staged");
        for name in ["review", "deploy", "other"] {
            folders.add(&skill(name, "x")).expect("added");
        }
        assert_eq!(folders.drop_collisions(&taken).expect("dropped"), ["deploy", "review"]);
        folders.swap().expect("swapped");
        assert_eq!(names_in(&folders.installed()), ["other"]);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = SkillFolders::new(&folder.path().join("config"));
        folders.stage().expect("staged");
        let inside = folders.staging().join("a");
        std::fs::create_dir_all(&inside).expect("made");
        std::os::unix::fs::symlink(folder.path().join("outside"), inside.join("SKILL.md")).expect("linked");
        assert!(folders.add(&skill("a", "x")).is_err());
        assert!(!folder.path().join("outside").exists());
    }
}
