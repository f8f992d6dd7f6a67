//! Uploads of pictures and recordings from the sandbox's own folders.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oi_protocol::limits;
use rustix::fs::OFlags;

use super::wire::Answer;
use crate::control_plane::ControlPlane;
use crate::control_plane::media::MediaFile;

/// Uploads files.
pub struct MediaBroker {
    control_plane: Arc<ControlPlane>,
    folders: Vec<PathBuf>,
}

/// What a file is by its name, and how large it may be.
fn kind_of(path: &Path) -> Option<(&'static str, &'static str, u64)> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let picture = |mime| Some(("screenshot", mime, limits::SCREENSHOT_MAX_BYTES as u64));
    match extension.as_str() {
        "png" => picture("image/png"),
        "jpg" | "jpeg" => picture("image/jpeg"),
        "webp" => picture("image/webp"),
        "mp4" => Some(("video", "video/mp4", limits::VIDEO_MAX_BYTES as u64)),
        _ => None,
    }
}

/// A file's last name as it may stand between quotes in a head.
fn plain_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c }).collect()
}

impl MediaBroker {
    /// For files below these folders.
    pub fn new(control_plane: Arc<ControlPlane>, folders: &[&Path]) -> Self {
        Self { control_plane, folders: folders.iter().map(|folder| (*folder).to_owned()).collect() }
    }

    /// Uploads a file. The answer's text is that of the control plane.
    pub async fn upload(&self, path: &str, kind: &str, fields: &BTreeMap<String, String>) -> Answer {
        let opened = tokio::task::spawn_blocking({
            let (folders, path, kind) = (self.folders.clone(), PathBuf::from(path), kind.to_owned());
            move || open(&folders, &path, &kind)
        });
        let file = match opened.await {
            Ok(Ok(file)) => file,
            Ok(Err(text)) => return Answer::Text { text, failed: true },
            Err(fault) => return Answer::Text { text: format!("The file could not be read: {fault}"), failed: true },
        };
        let mut fields = fields.clone();
        fields.insert("artifactType".to_owned(), kind.to_owned());
        match self.control_plane.upload_media(&fields, file).await {
            Ok(text) => Answer::Text { text, failed: false },
            Err(error) => Answer::Text { text: format!("Nothing was uploaded: {error}"), failed: true },
        }
    }
}

/// Opens a plain file of one of the folders, however it is called.
fn open(folders: &[PathBuf], path: &Path, kind: &str) -> Result<MediaFile, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let real = std::fs::canonicalize(path).map_err(unreadable)?;
    let within = |folder: &PathBuf| std::fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder));
    if !folders.iter().any(within) {
        return Err("The file must be in the workspace or in the temporary folder.".to_owned());
    }
    let (known, mime, max) =
        kind_of(&real).ok_or_else(|| "The file must end in .png, .jpg, .jpeg, .webp or .mp4.".to_owned())?;
    if known != kind {
        return Err(format!("A .{} file is no {kind}.", real.extension().unwrap_or_default().display()));
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err("The file is empty, or no file.".to_owned());
    }
    if metadata.len() > max {
        return Err(format!("The file has {} bytes; a {kind} may have at most {max}.", metadata.len()));
    }
    Ok(MediaFile { name: plain_name(&real), mime, bytes: metadata.len(), file: file.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_of_the_sandboxs_folders_within_the_limits_are_opened() {
        let root = tempfile::tempdir().expect("a folder");
        let (inside, outside) = (root.path().join("workspace"), root.path().join("home"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).expect("made");
            std::fs::write(folder.join("a.png"), "picture").expect("written");
        }
        std::fs::write(inside.join("v.mp4"), "video").expect("written");
        std::fs::write(inside.join("empty.png"), "").expect("written");
        std::fs::write(inside.join("a.gif"), "picture").expect("written");
        std::fs::create_dir(inside.join("folder.png")).expect("made");
        let large = std::fs::File::create(inside.join("large.png")).expect("made");
        large.set_len(limits::SCREENSHOT_MAX_BYTES as u64 + 1).expect("made larger");
        std::os::unix::fs::symlink(outside.join("a.png"), inside.join("link.png")).expect("linked");
        let opened = |path: &str, kind: &str| open(std::slice::from_ref(&inside), &inside.join(path), kind);
        let file = opened("a.png", "screenshot").expect("a picture");
        assert_eq!((file.name.as_str(), file.mime, file.bytes), ("a.png", "image/png", 7));
        assert_eq!(opened("v.mp4", "video").map(|file| file.mime).ok(), Some("video/mp4"));
        for (path, kind) in [
            ("../home/a.png", "screenshot"),
            ("link.png", "screenshot"),
            ("none.png", "screenshot"),
            ("a.gif", "screenshot"),
            ("a.png", "video"),
            ("v.mp4", "screenshot"),
            ("empty.png", "screenshot"),
            ("folder.png", "screenshot"),
            ("large.png", "screenshot"),
        ] {
            assert!(opened(path, kind).is_err(), "{path}");
        }
    }

    #[test]
    fn a_files_name_cannot_break_out_of_its_head() {
        assert_eq!(plain_name(Path::new("/w/a\"b\\c\r\nd.png")), "a_b_c__d.png");
    }
}
