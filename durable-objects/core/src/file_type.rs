//! Kinds of files that people and sandboxes may store, told by a file's first bytes and never by its name.

use oi_protocol::limits;
use oi_protocol::session_state::ArtifactType;
use serde::{Deserialize, Serialize};

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileType {
    /// PNG
    #[serde(rename = "image/png")]
    Png,
    /// JPEG
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// WebP
    #[serde(rename = "image/webp")]
    Webp,
    /// GIF
    #[serde(rename = "image/gif")]
    Gif,
    /// MP4
    #[serde(rename = "video/mp4")]
    Mp4,
}

/// Bytes from a file's beginning that suffice to tell its kind. A longer list of brands is not read to its end.
pub const HEAD_BYTES: usize = 256;

/// Brands of MP4 that browsers play.
const BRANDS: [&[u8; 4]; 6] = [b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"M4V "];

impl FileType {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Png, Self::Jpeg, Self::Webp, Self::Gif, Self::Mp4];

    /// The MIME type.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
            Self::Mp4 => "video/mp4",
        }
    }

    /// The ending of a name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Mp4 => "mp4",
        }
    }

    /// The kind of a MIME type, which may have parameters.
    pub fn of_mime(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|kind| kind.mime().eq_ignore_ascii_case(essence))
    }

    /// The kind of a file of which this is the beginning: [`HEAD_BYTES`], or all of a shorter file.
    pub fn of_head(head: &[u8]) -> Option<Self> {
        match head {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => has_known_brand(head).then_some(Self::Mp4),
            _ => None,
        }
    }

    /// Whether a prompt may have it.
    pub const fn is_attachment(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Webp | Self::Gif)
    }

    /// Whether an artifact of this kind may be such a file.
    pub const fn fits(self, artifact_type: ArtifactType) -> bool {
        match artifact_type {
            ArtifactType::Screenshot => matches!(self, Self::Png | Self::Jpeg | Self::Webp),
            ArtifactType::Video => matches!(self, Self::Mp4),
            ArtifactType::Pr | ArtifactType::Preview | ArtifactType::Branch => false,
        }
    }

    /// Largest file of this kind, in bytes.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Mp4 => limits::VIDEO_MAX_BYTES,
            Self::Png | Self::Jpeg | Self::Webp => limits::SCREENSHOT_MAX_BYTES,
            Self::Gif => limits::ATTACHMENT_MAX_BYTES,
        }
    }
}

/// The first box: its length, `ftyp`, the major brand, a version, and compatible brands until its end.
fn has_known_brand(head: &[u8]) -> bool {
    let Some((length, _)) = head.split_first_chunk::<4>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    if length < 16 {
        return false;
    }
    let brands = head.get(8..length.min(head.len())).unwrap_or_default();
    // The second word is the version.
    let mut words = brands.chunks_exact(4).enumerate().filter(|(place, _)| *place != 1);
    words.any(|(_, brand)| BRANDS.iter().any(|known| known.as_slice() == brand))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mp4(length: u32, words: &[&[u8; 4]]) -> Vec<u8> {
        let mut head = length.to_be_bytes().to_vec();
        head.extend_from_slice(b"ftyp");
        head.extend(words.iter().flat_map(|word| word.iter()));
        head
    }

    #[test]
    fn a_files_first_bytes_tell_its_kind() {
        for (head, expected) in [
            (b"\x89PNG\r\n\x1a\n....".to_vec(), Some(FileType::Png)),
            (b"\x89PNG\n\x1a\n....".to_vec(), None),
            (b"\xff\xd8\xff\xe0".to_vec(), Some(FileType::Jpeg)),
            (b"GIF89a..".to_vec(), Some(FileType::Gif)),
            (b"GIF87a".to_vec(), Some(FileType::Gif)),
            (b"GIF88a".to_vec(), None),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ".to_vec(), Some(FileType::Webp)),
            (b"RIFF\x01\x02\x03\x04WAVE".to_vec(), None),
            (b"<svg xmlns=''/>".to_vec(), None),
            (b"<!doctype html>".to_vec(), None),
            (Vec::new(), None),
            (mp4(24, &[b"isom", b"\0\0\0\0", b"xxxx"]), Some(FileType::Mp4)),
            (mp4(24, &[b"qt  ", b"\0\0\0\0", b"mp42"]), Some(FileType::Mp4)),
            (mp4(20, &[b"qt  ", b"isom", b"qt  "]), None),
            (mp4(20, &[b"qt  ", b"\0\0\0\0", b"qt  ", b"isom"]), None),
            (mp4(8, &[b"isom"]), None),
            (mp4(u32::MAX, &[b"qt  ", b"\0\0\0\0"]), None),
        ] {
            assert_eq!(FileType::of_head(&head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_mime_type_may_have_parameters_and_any_case() {
        for kind in FileType::ALL {
            assert_eq!(FileType::of_mime(kind.mime()), Some(kind));
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.mime());
        }
        assert_eq!(FileType::of_mime("Image/PNG; charset=binary"), Some(FileType::Png));
        for other in ["", "image/svg+xml", "image/pngx", "text/html"] {
            assert_eq!(FileType::of_mime(other), None, "{other}");
        }
    }
}
