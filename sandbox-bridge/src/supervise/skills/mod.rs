//! A session's managed skills, once a boot: sandbox.md, section 1.7.

pub mod install;
pub mod page;

use std::collections::HashSet;
use std::path::PathBuf;

use crate::control_plane::ControlPlane;
use install::{SkillFolders, discovered};
use page::PageCheck;

/// Skills that come with this program's image.
const BUNDLED: [&str; 4] = ["agent-browser", "record-video", "upload-screenshot", "visual-verification"];

/// Why the skills are not installed. What was installed before stays.
#[derive(Debug, thiserror::Error)]
pub enum SkillsError {
    /// The control plane did not give them.
    #[error("they could not be fetched: {0}")]
    Fetch(String),
    /// A rule is broken.
    #[error("the list is not valid: {0}")]
    Invalid(String),
    /// More than there may be.
    #[error("the list is too large: {0}")]
    TooLarge(String),
    /// A path that could leave its folder, or that two files claim.
    #[error("the list is not valid: {0}")]
    Path(String),
    /// A text that is not what it says to be.
    #[error("the list is not whole: {0}")]
    Hash(String),
    /// They could not be written.
    #[error("they could not be written: {0}")]
    Install(#[from] std::io::Error),
}

impl SkillsError {
    /// Stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch_failed",
            Self::Invalid(_) => "installation_invalid",
            Self::TooLarge(_) => "installation_too_large",
            Self::Path(_) => "path_invalid",
            Self::Hash(_) => "hash_mismatch",
            Self::Install(_) => "install_failed",
        }
    }
}

/// Fetches them page by page and writes them beside the place that they are for. Says how many there are.
pub async fn download(control_plane: &ControlPlane, folders: &SkillFolders) -> Result<usize, SkillsError> {
    folders.repair()?;
    folders.stage()?;
    let mut check = PageCheck::default();
    let mut cursor: Option<String> = None;
    let mut count = 0;
    loop {
        let fetched = control_plane.skills(cursor.as_deref()).await;
        let page = fetched.map_err(|error| SkillsError::Fetch(error.to_string()))?;
        check.check(&page)?;
        for skill in &page.skills {
            folders.add(skill)?;
            count += 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(count);
        }
    }
}

/// Puts what was downloaded in place, without skills whose names the workspace or the person's home has already; those
/// are told back.
pub fn put_in_place(folders: &SkillFolders, looked_in: &[PathBuf]) -> Result<Vec<String>, SkillsError> {
    let taken: HashSet<String> = discovered(looked_in).into_iter().chain(BUNDLED.map(str::to_owned)).collect();
    let dropped = folders.drop_collisions(&taken)?;
    if !dropped.is_empty() {
        tracing::warn!(event = "managed_skills.collisions_dropped", names = ?dropped);
    }
    folders.swap()?;
    Ok(dropped)
}
