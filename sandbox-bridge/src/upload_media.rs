//! `upload-media <file>`: shows people of the session a picture or a recording that the agent made.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser as _;

use crate::broker::ask;
use crate::broker::wire::{Answer, MediaKind, Question};

/// Show the people of this session a picture or a recording.
#[derive(Debug, clap::Parser)]
#[command(name = "upload-media", bin_name = "upload-media")]
struct CommandLine {
    /// A png, jpg, jpeg, webp or mp4 file in the workspace or the temporary folder.
    file: PathBuf,
    /// What it is.
    #[arg(long, value_enum, default_value = "screenshot")]
    artifact_type: MediaKind,
    /// What is to be seen. A video needs it.
    #[arg(long)]
    caption: Option<String>,
    /// The page that it shows.
    #[arg(long)]
    source_url: Option<String>,
    /// The page at the end of a video.
    #[arg(long)]
    end_url: Option<String>,
    /// The picture shows the whole page.
    #[arg(long)]
    full_page: bool,
    /// The picture has marks on it.
    #[arg(long)]
    annotated: bool,
    /// Size of the window as JSON: {"width":1280,"height":720}
    #[arg(long)]
    viewport: Option<String>,
    /// Length of a video in ms.
    #[arg(long)]
    duration_ms: Option<String>,
    /// When a video begins, such as 2026-01-02T03:04:05Z.
    #[arg(long)]
    recording_started_at: Option<String>,
    /// When it ends.
    #[arg(long)]
    recording_ended_at: Option<String>,
    /// Size of a video as JSON: {"width":1280,"height":720}
    #[arg(long)]
    dimensions: Option<String>,
    /// Whether a video was cut at its limit: true or false.
    #[arg(long)]
    truncated: Option<String>,
    /// Whether a video has sound, which none may have: true or false.
    #[arg(long)]
    has_audio: Option<String>,
}

/// What is to be uploaded.
#[derive(Debug, PartialEq, Eq)]
struct Upload {
    path: PathBuf,
    kind: MediaKind,
    fields: BTreeMap<String, String>,
}

impl CommandLine {
    fn upload(self) -> Result<Upload, String> {
        let extension = self.file.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
        let kind = self.artifact_type;
        match (extension.as_str(), kind) {
            ("png" | "jpg" | "jpeg" | "webp", MediaKind::Screenshot) | ("mp4", MediaKind::Video) => {}
            ("mp4", MediaKind::Screenshot) => return Err("An mp4 file needs `--artifact-type video`.".to_owned()),
            ("png" | "jpg" | "jpeg" | "webp", MediaKind::Video) => {
                return Err("A video must be an mp4 file.".to_owned());
            }
            _ => return Err("The file must end in .png, .jpg, .jpeg, .webp or .mp4.".to_owned()),
        }
        let flag = |set: bool| set.then(|| "true".to_owned());
        let (common, own) = (
            [
                ("caption", "--caption", self.caption, kind == MediaKind::Video),
                ("sourceUrl", "--source-url", self.source_url, false),
            ],
            if kind == MediaKind::Video {
                vec![
                    ("durationMs", "--duration-ms", self.duration_ms, true),
                    ("recordingStartedAt", "--recording-started-at", self.recording_started_at, true),
                    ("recordingEndedAt", "--recording-ended-at", self.recording_ended_at, true),
                    ("dimensions", "--dimensions", self.dimensions, true),
                    ("truncated", "--truncated", self.truncated, true),
                    ("hasAudio", "--has-audio", self.has_audio.or_else(|| Some("false".to_owned())), false),
                    ("endUrl", "--end-url", self.end_url, false),
                ]
            } else {
                vec![
                    ("fullPage", "--full-page", flag(self.full_page), false),
                    ("annotated", "--annotated", flag(self.annotated), false),
                    ("viewport", "--viewport", self.viewport, false),
                ]
            },
        );
        let (mut fields, mut missing) = (BTreeMap::new(), Vec::new());
        for (name, option, value, required) in common.into_iter().chain(own) {
            match value.filter(|value| !value.trim().is_empty()) {
                Some(value) => drop(fields.insert(name.to_owned(), value)),
                None if required => missing.push(option),
                None => {}
            }
        }
        if missing.is_empty() {
            Ok(Upload { path: self.file, kind, fields })
        } else {
            Err(format!("A video needs {}.", missing.join(", ")))
        }
    }
}

/// Runs the program with `uploader` behind it and gives its exit code.
fn run_with(
    arguments: &[OsString],
    output: &mut impl Write,
    complaints: &mut impl Write,
    uploader: &dyn Fn(Upload) -> Result<String, String>,
) -> u8 {
    let line = std::iter::once(OsString::from("upload-media")).chain(arguments.iter().cloned());
    let parsed = match CommandLine::try_parse_from(line) {
        Ok(parsed) => parsed,
        // `--help` comes as an error too.
        Err(said) if !said.use_stderr() => return u8::from(write!(output, "{said}").is_err()),
        Err(said) => {
            drop(write!(complaints, "{said}"));
            return 1;
        }
    };
    match parsed.upload().and_then(uploader) {
        Ok(answer) => u8::from(writeln!(output, "{answer}").is_err()),
        Err(reason) => {
            drop(writeln!(complaints, "upload-media: {reason}"));
            1
        }
    }
}

fn by_the_supervisor(upload: Upload) -> Result<String, String> {
    let unreachable = |error: std::io::Error| format!("The supervisor cannot be reached: {error}");
    let path = std::path::absolute(&upload.path).map_err(|error| error.to_string())?;
    let path = path.into_os_string().into_string().map_err(|_| "The file's name is no text.".to_owned())?;
    let question = Question::UploadMedia { path, kind: upload.kind, fields: upload.fields };
    match ask(&question).map_err(unreachable)? {
        Answer::Uploaded { artifact_id, object_key } => {
            Ok(serde_json::json!({"artifactId": artifact_id, "objectKey": object_key}).to_string())
        }
        Answer::Text { text, .. } | Answer::Refused { text } => Err(text),
        _ => Err("The supervisor's answer is not understood.".to_owned()),
    }
}

/// Runs the program and gives its exit code. It prints the control plane's answer, JSON with `artifactId` and
/// `objectKey`.
pub fn run(arguments: &[OsString], output: &mut impl Write, complaints: &mut impl Write) -> u8 {
    run_with(arguments, output, complaints, &by_the_supervisor)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const VIDEO: &str = "v.mp4 --artifact-type video --caption c --duration-ms 5 --recording-started-at 1 \
        --recording-ended-at 6 --dimensions {} --truncated false";

    fn called(line: &str) -> (u8, String, String, Option<Upload>) {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let (mut output, mut complaints, seen) = (Vec::new(), Vec::new(), RefCell::new(None));
        let code = run_with(&arguments, &mut output, &mut complaints, &|upload| {
            *seen.borrow_mut() = Some(upload);
            Ok("{}".to_owned())
        });
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (code, text(output), text(complaints), seen.into_inner())
    }

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pictures_fields_are_named_as_the_control_plane_names_them() {
        let line = "a.PNG --caption c --source-url u --full-page --annotated --viewport {} --duration-ms 5";
        let (code, output, _, upload) = called(line);
        assert_eq!((code, output.as_str()), (0, "{}\n"));
        let expected =
            [("caption", "c"), ("sourceUrl", "u"), ("fullPage", "true"), ("annotated", "true"), ("viewport", "{}")];
        let expected = Upload { path: "a.PNG".into(), kind: MediaKind::Screenshot, fields: fields(&expected) };
        assert_eq!(upload, Some(expected));
        let (_, _, _, bare) = called("a.webp");
        assert_eq!(bare.map(|upload| upload.fields), Some(BTreeMap::new()));
    }

    #[test]
    fn a_video_tells_all_that_is_asked_of_one() {
        let (code, _, complaints, upload) = called(VIDEO);
        assert_eq!(code, 0, "{complaints}");
        let expected = [
            ("caption", "c"),
            ("durationMs", "5"),
            ("recordingStartedAt", "1"),
            ("recordingEndedAt", "6"),
            ("dimensions", "{}"),
            ("truncated", "false"),
            ("hasAudio", "false"),
        ];
        assert_eq!(upload.map(|upload| upload.fields), Some(fields(&expected)));
        let (_, _, _, upload) = called(&format!("{VIDEO} --has-audio true --end-url e"));
        let upload = upload.expect("uploaded");
        assert_eq!((upload.fields["hasAudio"].as_str(), upload.fields["endUrl"].as_str()), ("true", "e"));
        for option in [
            "caption c",
            "duration-ms 5",
            "recording-started-at 1",
            "recording-ended-at 6",
            "dimensions {}",
            "truncated false",
        ] {
            let (code, _, complaints, upload) = called(&VIDEO.replace(&format!("--{option}"), ""));
            let name = option.split(' ').next().expect("a name");
            assert_eq!((code, upload), (1, None));
            assert!(complaints.contains(&format!("--{name}")), "{complaints}");
        }
    }

    #[test]
    fn what_cannot_be_uploaded_is_said_and_nothing_is_sent() {
        for (line, told) in [
            ("", "<FILE>"),
            ("a.mp4", "--artifact-type video"),
            ("a.png --artifact-type video", "must be an mp4 file"),
            ("a.gif", "must end in"),
            ("a", "must end in"),
            ("a.png --artifact-type film", "film"),
            ("a.png --unknown", "--unknown"),
        ] {
            let (code, output, complaints, upload) = called(line);
            assert_eq!((code, output.as_str(), upload), (1, "", None), "{line}");
            assert!(complaints.contains(told), "{line}: {complaints}");
        }
        let (code, output, _, upload) = called("--help");
        assert!(code == 0 && upload.is_none() && output.contains("--recording-started-at"), "{output}");
    }
}
