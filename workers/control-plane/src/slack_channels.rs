//! Channels of the Slack workspace, by the bot's token: <https://docs.slack.dev/reference/methods/conversations.list/>.

use oi_worker_kit::http_client::Call;
use serde::{Deserialize, Serialize};

/// Pages that are read: 2000 channels.
const PAGES: usize = 10;
/// A page of 200 channels with all that Slack says of them.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    id: String,
    name: String,
    is_private: bool,
    is_member: bool,
}

#[derive(Deserialize)]
struct Page {
    ok: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    channels: Vec<Listed>,
    #[serde(default)]
    response_metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    next_cursor: String,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    is_private: bool,
    #[serde(default)]
    is_member: bool,
}

/// A word of Slack's that may be shown.
fn word(text: &str) -> String {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !text.is_empty() && text.len() <= 60 && text.bytes().all(fits) { text.to_owned() } else { "failed".to_owned() }
}

fn page(page: Page) -> Result<(Vec<Channel>, String), String> {
    if !page.ok {
        return Err(word(page.error.as_deref().unwrap_or_default()));
    }
    let channels = page.channels.into_iter().map(|listed| Channel {
        id: listed.id,
        name: listed.name,
        is_private: listed.is_private,
        is_member: listed.is_member,
    });
    Ok((channels.collect(), page.response_metadata.next_cursor))
}

/// By name; or Slack's word of why not.
pub async fn list(api: &str, token: &str, encode: impl Fn(&str) -> String) -> Result<Vec<Channel>, String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        let url = format!(
            "{api}/conversations.list?exclude_archived=true&limit=200&types=public_channel,private_channel&cursor={}",
            encode(&cursor)
        );
        let answer = Call::get(url).bearer(token).at_most(PAGE_BYTES).send().await;
        let answer = answer.map_err(|_| "unreachable".to_owned())?;
        if answer.status == 429 {
            return Err("ratelimited".to_owned());
        }
        let (channels, next) = page(answer.json().map_err(|_| "failed".to_owned())?)?;
        all.extend(channels);
        if next.is_empty() {
            break;
        }
        cursor = next;
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_slacks_refusal_is_a_word() {
        let read = |text: &str| page(serde_json::from_str(text).expect("a page"));
        let (channels, next) = read(
            r#"{"ok":true,"channels":[{"id":"C1","name":"ops","is_private":true,"is_member":true,"topic":{}}],
                "response_metadata":{"next_cursor":"dGVhbQ=="}}"#,
        )
        .expect("it is ok");
        assert_eq!((channels[0].id.as_str(), channels[0].is_private, next.as_str()), ("C1", true, "dGVhbQ=="));
        assert_eq!(read(r#"{"ok":false,"error":"missing_scope"}"#), Err("missing_scope".to_owned()));
        assert_eq!(read(r#"{"ok":false,"error":"<b>x"}"#), Err("failed".to_owned()));
        assert_eq!(read(r#"{"ok":true}"#), Ok((vec![], String::new())));
    }
}
