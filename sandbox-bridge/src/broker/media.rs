//! Screenshots and recordings on their way from the sandbox's files to the session.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use oi_protocol::limits;

use super::wire::{Answer, MediaKind};
use crate::control_plane::{ControlPlane, ControlPlaneError};
use crate::{open_file, random};

/// What is read of a file at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Longest value of a field, as the control plane takes it.
const FIELD_MAX_BYTES: usize = 8 * 1024;
/// What can be said of a file.
const FIELDS: [&str; 12] = [
    "caption",
    "sourceUrl",
    "endUrl",
    "fullPage",
    "annotated",
    "viewport",
    "durationMs",
    "recordingStartedAt",
    "recordingEndedAt",
    "dimensions",
    "truncated",
    "hasAudio",
];

/// Uploads media for the agent and for `upload-media`.
pub struct MediaBroker {
    control_plane: Arc<ControlPlane>,
    /// Where the agent works: relative paths are from here.
    workspace: PathBuf,
    /// Folders that files may lie in, the workspace among them.
    within: Vec<PathBuf>,
}

struct Checked {
    file: File,
    length: u64,
    name: String,
    mime: &'static str,
}

fn mime_of(path: &Path, kind: MediaKind) -> Result<&'static str, String> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match (kind, extension.as_deref()) {
        (MediaKind::Screenshot, Some("png")) => Ok("image/png"),
        (MediaKind::Screenshot, Some("jpg" | "jpeg")) => Ok("image/jpeg"),
        (MediaKind::Screenshot, Some("webp")) => Ok("image/webp"),
        (MediaKind::Video, Some("mp4")) => Ok("video/mp4"),
        (MediaKind::Screenshot, Some("mp4")) => Err("An MP4 file is uploaded as a video.".to_owned()),
        (MediaKind::Screenshot, _) => Err("A screenshot must be a .png, .jpg, .jpeg or .webp file.".to_owned()),
        (MediaKind::Video, _) => Err("A video must be an .mp4 file.".to_owned()),
    }
}

impl MediaBroker {
    /// A broker for files of these folders; the first is the workspace.
    pub fn new(control_plane: Arc<ControlPlane>, workspace: &Path, temporary: &[&Path]) -> Self {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let within = std::iter::once(workspace).chain(temporary.iter().copied()).map(real).collect();
        Self { control_plane, workspace: workspace.to_owned(), within }
    }

    /// Opens a file that may be uploaded.
    fn open(&self, path: &str, kind: MediaKind) -> Result<Checked, String> {
        let path = self.workspace.join(path);
        let mime = mime_of(&path, kind)?;
        let cannot = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
        let file = open_file::options().read(true).open(&path).map_err(cannot)?;
        let real = open_file::place(&file).map_err(cannot)?;
        if !self.within.iter().any(|folder| real.starts_with(folder)) {
            return Err("Only files of the workspace and of the temporary folder can be uploaded.".to_owned());
        }
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(format!("`{}` is not a file.", path.display()));
        }
        let (most, what) = match kind {
            MediaKind::Screenshot => (limits::SCREENSHOT_MAX_BYTES, "A screenshot may have at most 10 MiB."),
            MediaKind::Video => (limits::VIDEO_MAX_BYTES, "A video may have at most 100 MiB."),
        };
        match metadata.len() {
            0 => Err(format!("`{}` is empty.", path.display())),
            length if length > most as u64 => Err(what.to_owned()),
            length => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().replace(['"', '\r', '\n', '\\'], "_");
                Ok(Checked { file, length, name, mime })
            }
        }
    }

    /// Uploads a file with what is said of it.
    pub async fn upload(&self, path: &str, kind: MediaKind, fields: &BTreeMap<String, String>) -> Answer {
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Answer::failed(format!("`{unknown}` is no field of a {}.", kind.word()));
        }
        if let Some((long, _)) = fields.iter().find(|(_, value)| value.len() > FIELD_MAX_BYTES) {
            return Answer::failed(format!("`{long}` is too long."));
        }
        let checked = match self.open(path, kind) {
            Ok(checked) => checked,
            Err(text) => return Answer::failed(text),
        };
        let boundary = format!("oi-{}", random::hex::<16>());
        let (length, form) = form(&boundary, kind, fields, checked);
        let content_type = format!("multipart/form-data; boundary={boundary}");
        match self.control_plane.store_media(&content_type, length, form).await {
            Ok(stored) => {
                Answer::Uploaded { artifact_id: stored.artifact_id.to_string(), object_key: stored.object_key }
            }
            Err(error) => Answer::failed(explain(&error)),
        }
    }
}

fn explain(error: &ControlPlaneError) -> String {
    match error {
        ControlPlaneError::Refused { status: 409, .. } => {
            "Nothing was uploaded: the session takes media only while one of its prompts runs.".to_owned()
        }
        ControlPlaneError::Refused { status: 413 | 400 | 429, text, .. } => format!("Nothing was uploaded: {text}"),
        other => format!("Nothing was uploaded: {other}"),
    }
}

/// The form as a stream, and its length: the file is read as it is sent.
fn form(
    boundary: &str,
    kind: MediaKind,
    fields: &BTreeMap<String, String>,
    checked: Checked,
) -> (u64, impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) {
    let artifact_type = ("artifactType", kind.word());
    let all = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([artifact_type]);
    let field = |(name, value): (&str, &str)| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        checked.name, checked.mime
    );
    let before = all.map(field).chain([head]).collect::<String>();
    let after = format!("\r\n--{boundary}--\r\n");
    let length = before.len() as u64 + checked.length + after.len() as u64;
    // A file that grows meanwhile is cut at the length that was announced.
    let pieces = stream::try_unfold(checked.file.take(checked.length), |mut file| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let read = tokio::task::spawn_blocking(move || {
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((piece, file))
        });
        let (piece, file) = read.await.map_err(std::io::Error::other)??;
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    });
    let whole = stream::iter([Ok(Bytes::from(before))]).chain(pieces).chain(stream::iter([Ok(Bytes::from(after))]));
    (length, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn broker(workspace: &Path) -> MediaBroker {
        let control_plane = ControlPlane::new("http://127.0.0.1:9", "s", "sb".to_owned(), Secret::new("t"));
        MediaBroker::new(Arc::new(control_plane.expect("a client")), workspace, &[])
    }

    #[test]
    fn only_files_of_the_workspace_are_read_whatever_a_path_pretends() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = folder.path().join("workspace");
        std::fs::create_dir_all(workspace.join("api")).expect("made");
        std::fs::write(workspace.join("api/shot.png"), "\u{89}PNG").expect("written");
        std::fs::write(workspace.join("empty.png"), "").expect("written");
        std::fs::create_dir_all(workspace.join("folder.png")).expect("made");
        std::fs::write(folder.path().join("secret.png"), "x").expect("written");
        std::os::unix::fs::symlink(folder.path().join("secret.png"), workspace.join("link.png")).expect("linked");
        let broker = broker(&workspace);
        let open = |path: &str| broker.open(path, MediaKind::Screenshot).map(|checked| checked.name);
        assert_eq!(open("api/shot.png").as_deref(), Ok("shot.png"));
        assert_eq!(open(&workspace.join("api/../api/shot.png").display().to_string()).as_deref(), Ok("shot.png"));
        for (path, said) in [
            ("../secret.png", "Only files of the workspace"),
            ("link.png", "Only files of the workspace"),
            ("empty.png", "is empty"),
            ("folder.png", "is not a file"),
            ("missing.png", "cannot be read"),
            ("api/shot.gif", "must be a .png"),
            ("film.mp4", "as a video"),
        ] {
            let text = open(path).expect_err(path);
            assert!(text.contains(said), "{path}: {text}");
        }
    }

    #[tokio::test]
    async fn a_form_has_the_length_that_it_announces() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.mp4"), vec![7; 3 * PIECE_BYTES + 1]).expect("written");
        let checked = broker(folder.path()).open("a.mp4", MediaKind::Video).expect("a video");
        let fields = [("caption".to_owned(), "Ein Film 😀".to_owned())].into();
        let (length, stream) = form("b", MediaKind::Video, &fields, checked);
        let pieces: Vec<_> = stream.collect().await;
        let sent: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.expect("read").to_vec()).collect();
        assert_eq!(sent.len() as u64, length);
        assert!(sent.starts_with(b"--b\r\nContent-Disposition: form-data; name=\"caption\"\r\n\r\nEin Film"));
        assert!(sent.ends_with(b"\x07\r\n--b--\r\n"));
    }
}
