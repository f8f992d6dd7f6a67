//! Pictures and recordings: a form whose file is streamed, so that none is in memory whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::{ANSWER_MAX_BYTES, ControlPlane, ControlPlaneError, read, refusal};
use crate::random;

const WITHIN: Duration = Duration::from_secs(300);
const PIECE_BYTES: u64 = 64 * 1024;

/// A file to show.
pub struct MediaFile {
    /// Its last name, without quotes or line breaks.
    pub name: String,
    /// Such as `image/png`.
    pub mime: &'static str,
    /// The file, at its beginning.
    pub file: File,
    /// How much of it is sent.
    pub bytes: u64,
}

/// What stands before the file: the fields, and its own head.
fn head(boundary: &str, fields: &BTreeMap<String, String>, file: &MediaFile) -> String {
    let mut text = String::new();
    let names = fields.iter().filter(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric()));
    for (name, value) in names {
        // Writing to a string does not fail.
        let _ = write!(text, "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    let _ = write!(
        text,
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        file.name, file.mime
    );
    text
}

impl ControlPlane {
    /// Sends a file with its fields and gives the answer, JSON. It is sent once: a repetition would be a second file.
    pub async fn upload_media(
        &self,
        fields: &BTreeMap<String, String>,
        file: MediaFile,
    ) -> Result<String, ControlPlaneError> {
        let boundary = random::hex::<24>();
        let (head, tail) = (head(&boundary, fields, &file), format!("\r\n--{boundary}--\r\n"));
        let length = head.len() as u64 + file.bytes + tail.len() as u64;
        let pieces = stream::try_unfold((file.file, file.bytes), |(mut file, left)| async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let mut piece = vec![0; PIECE_BYTES.min(left) as usize];
            let count = file.read(&mut piece).await?;
            if count == 0 {
                return Err(std::io::Error::other("the file became shorter"));
            }
            piece.truncate(count);
            Ok(Some((Bytes::from(piece), (file, left - count as u64))))
        });
        let ends = |text: String| stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        let body = futures_util::StreamExt::chain(ends(head), pieces);
        let body = futures_util::StreamExt::chain(body, ends(tail));
        let request = self
            .post("/media")
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(body));
        let sent = async { read(request.send().await, ANSWER_MAX_BYTES).await };
        let (status, bytes) =
            timeout(WITHIN, sent).await.map_err(|_| ControlPlaneError::TimedOut(WITHIN.as_secs()))??;
        if !status.is_success() {
            return Err(refusal(status.as_u16(), &bytes));
        }
        String::from_utf8(bytes).map_err(|_| ControlPlaneError::Odd)
    }
}
