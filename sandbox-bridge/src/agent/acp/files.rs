//! The agent's file calls: text files of the workspace, and nothing else.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::open_file;

/// Largest file that is read or written.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// `fs/read_text_file`
#[derive(Debug, Deserialize)]
pub struct Read {
    path: PathBuf,
    /// First line, from 1.
    #[serde(default)]
    line: Option<usize>,
    /// Most lines.
    #[serde(default)]
    limit: Option<usize>,
}

/// `fs/write_text_file`
#[derive(Debug, Deserialize)]
pub struct Write {
    path: PathBuf,
    content: String,
}

fn is_within(file: &std::fs::File, workspace: &Path) -> bool {
    let workspace = std::fs::canonicalize(workspace);
    matches!((open_file::place(file), workspace), (Ok(place), Ok(workspace)) if place.starts_with(&workspace))
}

const OUTSIDE: &str = "only files of the workspace can be read and written";

/// A file's text, or some of its lines.
pub fn read(asked: &Read, workspace: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let file = open_file::options().read(true).open(&asked.path).map_err(|error| error.to_string())?;
    if !is_within(&file, workspace) {
        return Err(OUTSIDE.to_owned());
    }
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > FILE_MAX_BYTES {
        return Err("it is no file of at most 16 MiB".to_owned());
    }
    let mut text = String::new();
    file.take(FILE_MAX_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if asked.line.is_none() && asked.limit.is_none() {
        return Ok(text);
    }
    let from = asked.line.unwrap_or(1).saturating_sub(1);
    Ok(text.split_inclusive('\n').skip(from).take(asked.limit.unwrap_or(usize::MAX)).collect())
}

/// Writes a file, with the folders that it needs.
pub fn write(asked: &Write, workspace: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    if asked.content.len() as u64 > FILE_MAX_BYTES {
        return Err("a file may have at most 16 MiB".to_owned());
    }
    let workspace = std::fs::canonicalize(workspace).map_err(failed)?;
    let folder = asked.path.parent().ok_or_else(|| OUTSIDE.to_owned())?;
    // The deepest folder that is there decides where the others would be made.
    let there = folder.ancestors().find_map(|folder| std::fs::canonicalize(folder).ok());
    let climbs = asked.path.components().any(|part| part == std::path::Component::ParentDir);
    if climbs || !there.is_some_and(|folder| folder.starts_with(&workspace)) {
        return Err(OUTSIDE.to_owned());
    }
    let is_link = std::fs::symlink_metadata(&asked.path).is_ok_and(|metadata| metadata.is_symlink());
    if is_link && !std::fs::canonicalize(&asked.path).is_ok_and(|real| real.starts_with(&workspace)) {
        return Err(OUTSIDE.to_owned());
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    let opened = open_file::options().write(true).create(true).truncate(false).open(&asked.path);
    let mut file = opened.map_err(failed)?;
    if !is_within(&file, &workspace) {
        return Err(OUTSIDE.to_owned());
    }
    file.set_len(0).map_err(failed)?;
    file.write_all(asked.content.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_workspace_alone_are_read_and_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = folder.path().join("w");
        std::fs::create_dir(&workspace).expect("made");
        let outside = folder.path().join("secret");
        std::fs::write(&outside, "x").expect("written");
        std::os::unix::fs::symlink(&outside, workspace.join("link")).expect("linked");
        std::os::unix::fs::symlink(folder.path(), workspace.join("up")).expect("linked");
        let put =
            |path: &str| write(&Write { path: workspace.join(path), content: "a\nb\nc\n".to_owned() }, &workspace);
        let get = |path: &str, line, limit| read(&Read { path: workspace.join(path), line, limit }, &workspace);
        assert_eq!(put("new/folder/file"), Ok(()));
        assert_eq!(get("new/folder/file", None, None).as_deref(), Ok("a\nb\nc\n"));
        assert_eq!(get("new/folder/file", Some(2), Some(1)).as_deref(), Ok("b\n"));
        for path in ["link", "up/secret", "up/new", "../secret"] {
            assert_eq!(put(path), Err(OUTSIDE.to_owned()), "{path}");
        }
        assert_eq!(get("link", None, None), Err(OUTSIDE.to_owned()));
        assert_eq!(std::fs::read_to_string(&outside).expect("there"), "x", "what is outside stays as it was");
        assert!(!folder.path().join("new").exists());
    }
}
