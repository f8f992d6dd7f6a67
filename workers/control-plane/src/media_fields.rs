//! What a sandbox says of a screenshot or a recording: the fields of its form, checked, as an artifact keeps them.

use std::collections::BTreeMap;

use oi_protocol::limits;
use oi_protocol::session_state::ArtifactType;
use oi_protocol::text::utf16_len;
use oi_worker_kit::Refusal;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

/// Longest caption, in UTF-16 code units.
const CAPTION_MAX_UTF16: usize = 2_000;
/// Longest address, in bytes.
const URL_MAX_BYTES: usize = 2_048;
/// Largest width and height, in pixels.
const SIDE_MAX: f64 = 32_768.0;
/// A recording's length and the times of its beginning and end may differ by this, in ms.
const TOLERANCE_MS: i64 = 1_000;

/// Reads a time; a seam, since only the platform knows how.
pub type ReadTime = fn(&str) -> Option<i64>;

#[derive(Deserialize)]
struct Size {
    width: f64,
    height: f64,
}

struct Fields<'f>(&'f BTreeMap<String, String>);

fn invalid(sentence: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::invalid_body(sentence)
}

impl Fields<'_> {
    /// A field that is blank counts as absent.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| invalid(format!("{name} is required")))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(invalid(format!("{name} must be true or false"))),
        }
    }

    fn caption(&self) -> Result<Option<&str>, Refusal> {
        let caption = self.text("caption");
        if caption.is_some_and(|caption| utf16_len(caption) > CAPTION_MAX_UTF16) {
            return Err(invalid("caption must be 2000 characters or fewer"));
        }
        Ok(caption)
    }

    /// An absolute address of the web: people are shown it as a link.
    fn url(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = Url::parse(text).ok().filter(|_| text.len() <= URL_MAX_BYTES);
        match parsed.filter(|url| matches!(url.scheme(), "http" | "https")) {
            Some(_) => Ok(Some(text)),
            None => Err(invalid(format!("{name} must be an absolute http or https URL"))),
        }
    }

    fn size(&self, name: &str) -> Result<Option<Size>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let fits = |side: f64| side.round() >= 1.0 && side <= SIDE_MAX;
        // A list would fit the shape by its order.
        let size = serde_json::from_str::<Size>(text)
            .ok()
            .filter(|_| text.starts_with('{'))
            .filter(|size| fits(size.width) && fits(size.height));
        size.map(Some).ok_or_else(|| invalid(format!("{name} must be JSON with a width and a height")))
    }

    /// A time in ms since 1970, or in words; kept as it was sent.
    fn time(&self, name: &str, read: ReadTime) -> Result<(i64, Value), Refusal> {
        let text = self.required(name)?;
        if let Ok(millis) = text.parse::<i64>() {
            return Ok((millis, json!(millis)));
        }
        let millis = read(text).filter(|_| text.len() <= 64);
        millis.map(|millis| (millis, json!(text))).ok_or_else(|| invalid(format!("{name} must be a time")))
    }
}

fn is_whole(side: f64) -> bool {
    side.fract() == 0.0
}

/// Which kind of artifact the form is for.
pub fn artifact_type(fields: &BTreeMap<String, String>) -> Option<ArtifactType> {
    let kind = ArtifactType::parse(Fields(fields).text("artifactType")?)?;
    matches!(kind, ArtifactType::Screenshot | ArtifactType::Video).then_some(kind)
}

/// What is kept of a screenshot's or a recording's fields.
pub fn metadata(
    kind: ArtifactType,
    fields: &BTreeMap<String, String>,
    read_time: ReadTime,
) -> Result<Map<String, Value>, Refusal> {
    let fields = Fields(fields);
    let mut kept = Map::new();
    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            kept.insert(name.to_owned(), value);
        }
    };
    keep("caption", fields.caption()?.map(|text| json!(text)));
    keep("sourceUrl", fields.url("sourceUrl")?.map(|text| json!(text)));
    if kind == ArtifactType::Video {
        fields.required("caption")?;
        let duration = fields.required("durationMs")?.parse::<i64>().ok();
        let duration = duration.filter(|duration| (1..=limits::VIDEO_MAX_MS).contains(duration));
        let duration = duration.ok_or_else(|| invalid("durationMs must be a whole number from 1 to 90000"))?;
        let (from, started_at) = fields.time("recordingStartedAt", read_time)?;
        let (to, ended_at) = fields.time("recordingEndedAt", read_time)?;
        let span = to.saturating_sub(from);
        if !(0..=limits::VIDEO_MAX_MS + TOLERANCE_MS).contains(&span) || duration > span + TOLERANCE_MS {
            return Err(invalid("recordingStartedAt, recordingEndedAt and durationMs do not agree"));
        }
        let dimensions = fields.size("dimensions")?.filter(|size| is_whole(size.width) && is_whole(size.height));
        let dimensions = dimensions.ok_or_else(|| invalid("dimensions must be JSON with a whole width and height"))?;
        let truncated = fields.flag("truncated")?.ok_or_else(|| invalid("truncated is required"))?;
        if fields.flag("hasAudio")? == Some(true) {
            return Err(invalid("A video must have no audio"));
        }
        keep("durationMs", Some(json!(duration)));
        keep("recordingStartedAt", Some(started_at));
        keep("recordingEndedAt", Some(ended_at));
        keep("dimensions", Some(json!({"width": dimensions.width as i64, "height": dimensions.height as i64})));
        keep("truncated", Some(json!(truncated)));
        keep("hasAudio", Some(json!(false)));
        keep("endUrl", fields.url("endUrl")?.map(|text| json!(text)));
    } else {
        keep("fullPage", fields.flag("fullPage")?.map(Value::Bool));
        keep("annotated", fields.flag("annotated")?.map(Value::Bool));
        let viewport = fields.size("viewport")?;
        keep(
            "viewport",
            viewport.map(|size| json!({"width": size.width.round() as i64, "height": size.height.round() as i64})),
        );
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_time(text: &str) -> Option<i64> {
        (text == "2026-01-31T12:00:00Z").then_some(1_769_860_800_000)
    }

    fn read(kind: ArtifactType, fields: &[(&str, &str)]) -> Result<Value, String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        metadata(kind, &fields, read_time).map(Value::Object).map_err(|refusal| refusal.sentence.into_owned())
    }

    #[test]
    fn a_screenshots_fields_are_all_optional_and_checked() {
        assert_eq!(read(ArtifactType::Screenshot, &[("unknown", "x"), ("caption", " ")]), Ok(json!({})));
        let all = [
            ("caption", "The page"),
            ("sourceUrl", "https://example.com/a?b"),
            ("fullPage", "true"),
            ("annotated", "false"),
            ("viewport", r#"{"width": 1279.6, "height": 720.2, "scale": 2}"#),
        ];
        let kept = json!({"caption": "The page", "sourceUrl": "https://example.com/a?b", "fullPage": true,
            "annotated": false, "viewport": {"width": 1280, "height": 720}});
        assert_eq!(read(ArtifactType::Screenshot, &all), Ok(kept));
        let long = "x".repeat(2_001);
        for (name, value) in [
            ("fullPage", "yes"),
            ("annotated", "1"),
            ("viewport", "[1,2]"),
            ("viewport", r#"{"width": 0.4, "height": 1}"#),
            ("viewport", r#"{"width": 1e9, "height": 1}"#),
            ("sourceUrl", "/relative"),
            ("sourceUrl", "javascript:alert(1)"),
            ("caption", long.as_str()),
        ] {
            let refused = read(ArtifactType::Screenshot, &[(name, value)]).expect_err("refused");
            assert!(refused.contains(name), "{refused}");
        }
    }

    const VIDEO: [(&str, &str); 6] = [
        ("caption", "A click"),
        ("durationMs", "4000"),
        ("recordingStartedAt", "1769860800000"),
        ("recordingEndedAt", "1769860804000"),
        ("dimensions", r#"{"width":1280,"height":720}"#),
        ("truncated", "false"),
    ];

    fn video(changes: &[(&'static str, &'static str)]) -> Result<Value, String> {
        let mut fields: Vec<(&str, &str)> = VIDEO.to_vec();
        fields.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        fields.extend(changes);
        read(ArtifactType::Video, &fields)
    }

    #[test]
    fn a_recording_says_when_it_was_made_and_has_no_audio() {
        let kept = video(&[]).expect("fits");
        assert_eq!(kept["durationMs"], 4_000);
        assert_eq!(kept["recordingStartedAt"], 1_769_860_800_000_i64);
        assert_eq!(kept["dimensions"], json!({"width": 1280, "height": 720}));
        assert_eq!((&kept["truncated"], &kept["hasAudio"]), (&json!(false), &json!(false)));
        let kept = video(&[("recordingStartedAt", "2026-01-31T12:00:00Z"), ("hasAudio", "false")]).expect("fits");
        assert_eq!(kept["recordingStartedAt"], "2026-01-31T12:00:00Z");
        assert!(video(&[("durationMs", "5000")]).is_ok(), "a second of tolerance");
        for (name, _) in VIDEO {
            assert!(video(&[(name, "")]).is_err(), "{name} is required");
        }
        for change in [
            ("durationMs", "0"),
            ("durationMs", "90001"),
            ("durationMs", "1.5"),
            ("durationMs", "5001"),
            ("recordingEndedAt", "1769860799999"),
            ("recordingEndedAt", "1769860891001"),
            ("recordingEndedAt", "9223372036854775807"),
            ("recordingStartedAt", "-9223372036854775808"),
            ("recordingStartedAt", "yesterday"),
            ("dimensions", r#"{"width":1280.5,"height":720}"#),
            ("truncated", "no"),
            ("hasAudio", "true"),
            ("endUrl", "ftp://example.com"),
        ] {
            assert!(video(&[change]).is_err(), "{change:?}");
        }
    }

    #[test]
    fn only_screenshots_and_videos_are_media() {
        for (word, expected) in [
            (Some("screenshot"), Some(ArtifactType::Screenshot)),
            (Some("video"), Some(ArtifactType::Video)),
            (Some("pr"), None),
            (Some(""), None),
            (None, None),
        ] {
            let fields = word.map(|word| ("artifactType".to_owned(), word.to_owned())).into_iter().collect();
            assert_eq!(artifact_type(&fields), expected, "{word:?}");
        }
    }
}
