//! A page of a session's managed skills, and what must hold of it before any of it is written: sandbox.md, section 1.7.

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::SkillsError;

const NAME_MAX: usize = 64;
const FILES_MAX: usize = 100;
const FILE_MAX_BYTES: usize = 256 << 10;
const SKILL_MAX_BYTES: usize = 1 << 20;
const ALL_MAX_BYTES: usize = 5 << 20;
const PATH_MAX_BYTES: usize = 240;
const PATH_MAX_SEGMENTS: usize = 10;
/// What each skill has.
const MAIN_FILE: &str = "SKILL.md";

/// A page.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkillsPage {
    /// 1
    pub schema_version: u32,
    /// By which all of the session's skills are known.
    pub manifest_sha256: String,
    /// In order.
    pub skills: Vec<Skill>,
    /// For the next page.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A skill.
#[derive(Debug, Clone, Deserialize)]
pub struct Skill {
    /// Also its folder.
    pub name: String,
    /// All of them.
    pub files: Vec<SkillFile>,
}

/// A file of a skill.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkillFile {
    /// Within the skill's folder.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Of the text, as hex.
    pub sha256: String,
    /// Of the text.
    pub size_bytes: u64,
    /// Whether it is a program.
    #[serde(default)]
    pub executable: bool,
}

/// Checks page after page of one list.
#[derive(Debug, Default)]
pub struct PageCheck {
    manifest: Option<String>,
    names: HashSet<String>,
    bytes: usize,
    cursors: HashSet<String>,
}

fn invalid<T>(what: impl Into<String>) -> Result<T, SkillsError> {
    Err(SkillsError::Invalid(what.into()))
}

impl PageCheck {
    /// Checks the next page.
    pub fn check(&mut self, page: &SkillsPage) -> Result<(), SkillsError> {
        if page.schema_version != 1 {
            return invalid(format!("its form {} is unknown", page.schema_version));
        }
        let manifest = self.manifest.get_or_insert_with(|| page.manifest_sha256.clone());
        if *manifest != page.manifest_sha256 {
            return invalid("its pages are of different lists");
        }
        if let Some(cursor) = &page.next_cursor {
            if page.skills.is_empty() {
                return invalid("a page before the last is empty");
            }
            if !self.cursors.insert(cursor.clone()) {
                return invalid("its pages go round in a circle");
            }
        }
        for skill in &page.skills {
            check_skill(skill)?;
            if !self.names.insert(skill.name.clone()) {
                return invalid(format!("`{}` is there twice", skill.name));
            }
            self.bytes += skill.files.iter().map(|file| file.content.len()).sum::<usize>();
            if self.bytes > ALL_MAX_BYTES {
                return Err(SkillsError::TooLarge(format!("all skills have more than {ALL_MAX_BYTES} bytes")));
            }
        }
        Ok(())
    }
}

/// Whether a text is a skill's name: lower-case words with single dashes between them.
pub fn is_name(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= NAME_MAX && text.split('-').all(is_word)
}

fn check_skill(skill: &Skill) -> Result<(), SkillsError> {
    let name = &skill.name;
    if !is_name(name) {
        return invalid("a skill's name is no name");
    }
    if skill.files.is_empty() || skill.files.len() > FILES_MAX {
        return invalid(format!("`{name}` has {} files", skill.files.len()));
    }
    let mut paths = HashSet::new();
    let mut bytes = 0;
    for file in &skill.files {
        check_path(name, &file.path)?;
        if !paths.insert(file.path.as_str()) {
            return Err(SkillsError::Path(format!("`{name}` has `{}` twice", file.path)));
        }
        check_file(name, file)?;
        bytes += file.content.len();
    }
    if bytes > SKILL_MAX_BYTES {
        return Err(SkillsError::TooLarge(format!("`{name}` has more than {SKILL_MAX_BYTES} bytes")));
    }
    let mut folders = skill.files.iter().flat_map(|file| file.path.match_indices('/').map(|(at, _)| &file.path[..at]));
    if let Some(both) = folders.find(|folder| paths.contains(folder)) {
        return Err(SkillsError::Path(format!("`{both}` of `{name}` is a file and a folder")));
    }
    let main = skill.files.iter().find(|file| file.path == MAIN_FILE);
    match main.map(|main| frontmatter_name(&main.content)) {
        None => invalid(format!("`{name}` has no {MAIN_FILE}")),
        Some(Some(stated)) if stated == *name => Ok(()),
        Some(_) => invalid(format!("{MAIN_FILE} of `{name}` names another skill")),
    }
}

fn check_file(name: &str, file: &SkillFile) -> Result<(), SkillsError> {
    let path = &file.path;
    if file.content.len() > FILE_MAX_BYTES {
        return Err(SkillsError::TooLarge(format!("`{path}` of `{name}` has more than {FILE_MAX_BYTES} bytes")));
    }
    if file.size_bytes != file.content.len() as u64
        || hex::encode(Sha256::digest(file.content.as_bytes())) != file.sha256
    {
        return Err(SkillsError::Hash(format!("`{path}` of `{name}` is not what its hash says")));
    }
    if file.executable && !path.starts_with("scripts/") {
        return invalid(format!("`{path}` of `{name}` may be no program"));
    }
    Ok(())
}

fn check_path(name: &str, path: &str) -> Result<(), SkillsError> {
    let segments = path.split('/').count();
    let is_plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    let usable = path.len() <= PATH_MAX_BYTES
        && segments <= PATH_MAX_SEGMENTS
        && path.split('/').all(is_plain)
        && !path.contains('\\')
        && !path.chars().any(char::is_control);
    if usable { Ok(()) } else { Err(SkillsError::Path(format!("a path of `{name}` cannot be used"))) }
}

/// The plain `name:` of the lines between the first two `---`.
fn frontmatter_name(text: &str) -> Option<String> {
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim_end);
    if lines.next() != Some("---") {
        return None;
    }
    let mut found = None;
    for line in lines {
        if line == "---" {
            return found;
        }
        if let Some(value) = line.strip_prefix("name:") {
            // Twice is nobody's name.
            if found.is_some() {
                return None;
            }
            found = Some(plain_scalar(value.trim()));
        }
    }
    None
}

fn plain_scalar(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote))
            && (inner.1.trim().is_empty() || inner.1.trim_start().starts_with('#'))
        {
            return inner.0.to_owned();
        }
    }
    text.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
