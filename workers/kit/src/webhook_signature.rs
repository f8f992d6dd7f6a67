//! Whether a webhook comes from whom it says it does. Each is computed over the raw bytes, compared in constant time.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use crate::mac;

/// A Slack request is good for this long, in seconds.
const SLACK_WINDOW_SECONDS: i64 = 300;
/// A Linear webhook is good for this long, in ms, as Linear's own SDK has it.
const LINEAR_WINDOW_MS: i64 = 60_000;

/// GitHub: `X-Hub-Signature-256`. There is no time in it, so repetitions are known by their delivery id.
pub fn is_from_github(secret: &str, signature: Option<&str>, body: &[u8]) -> bool {
    let Some(hex) = signature.and_then(|header| header.strip_prefix("sha256=")) else { return false };
    mac::is_hmac_hex(secret.as_bytes(), &[body], hex)
}

/// Slack: `X-Slack-Signature` and `X-Slack-Request-Timestamp`, at most five minutes off.
pub fn is_from_slack(
    secret: &str,
    signature: Option<&str>,
    timestamp: Option<&str>,
    body: &[u8],
    now: UnixMillis,
) -> bool {
    let (Some(signature), Some(timestamp)) = (signature, timestamp) else { return false };
    let digits = (1..=15).contains(&timestamp.len()) && timestamp.bytes().all(|b| b.is_ascii_digit());
    let fresh =
        digits && timestamp.parse::<i64>().is_ok_and(|seconds| (now.0 / 1000 - seconds).abs() <= SLACK_WINDOW_SECONDS);
    let Some(hex) = signature.strip_prefix("v0=").filter(|_| fresh) else { return false };
    mac::is_hmac_hex(secret.as_bytes(), &[b"v0:", timestamp.as_bytes(), b":", body], hex)
}

#[derive(Deserialize)]
struct LinearTime {
    #[serde(rename = "webhookTimestamp")]
    webhook_timestamp: i64,
}

/// Linear: `Linear-Signature`. Not enough alone: an old webhook is signed too, see [`is_fresh_by_linear`].
pub fn is_signed_by_linear(secret: &str, signature: Option<&str>, body: &[u8]) -> bool {
    signature.is_some_and(|signature| mac::is_hmac_hex(secret.as_bytes(), &[body], signature))
}

/// Linear: `webhookTimestamp` in the body, at most a minute off. It says something of a body that Linear signed only.
pub fn is_fresh_by_linear(body: &[u8], now: UnixMillis) -> bool {
    let Some(text) = std::str::from_utf8(body).ok() else { return false };
    let Ok(LinearTime { webhook_timestamp }) = serde_json::from_str(text) else { return false };
    now.since(UnixMillis(webhook_timestamp)).abs() <= LINEAR_WINDOW_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn githubs_published_vector_holds() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let secret = "It's a Secret to Everybody";
        assert!(is_from_github(secret, Some(signature), b"Hello, World!"));
        assert!(!is_from_github(secret, Some(signature), b"Hello, World"));
        assert!(!is_from_github("another", Some(signature), b"Hello, World!"));
        for bad in [None, Some(""), Some("sha256="), signature.strip_prefix("sha256="), Some("sha1=aa")] {
            assert!(!is_from_github(secret, bad, b"Hello, World!"), "{bad:?}");
        }
    }

    #[test]
    fn slacks_published_vector_holds_within_five_minutes() {
        let secret = "8f742231b10e8888abcd99yyyzzz85a5";
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
            &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
            &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
            &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let signature = Some("v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
        let at = |seconds: i64| UnixMillis(seconds * 1000);
        let sent = 1_531_420_618;
        let good = |timestamp, now| is_from_slack(secret, signature, timestamp, body, now);
        assert!(good(Some("1531420618"), at(sent)));
        assert!(good(Some("1531420618"), at(sent + 300)));
        assert!(!good(Some("1531420618"), at(sent + 301)));
        assert!(!good(Some("1531420618"), at(sent - 301)));
        for bad in [None, Some(""), Some("NaN"), Some("1531420619"), Some("-1531420618")] {
            assert!(!good(bad, at(sent)), "{bad:?}");
        }
        assert!(!is_from_slack(secret, None, Some("1531420618"), body, at(sent)));
    }

    fn is_from_linear(secret: &str, signature: Option<&str>, body: &[u8], now: UnixMillis) -> bool {
        is_signed_by_linear(secret, signature, body) && is_fresh_by_linear(body, now)
    }

    #[test]
    fn a_linear_webhook_is_good_for_a_minute() {
        let body = br#"{"action":"created","webhookTimestamp":1753142400000}"#;
        let signature = Some("80f79f45f910d1f5efa57dc6bfa67bd89e513bc697007ac1614bc9434494654c");
        let good = |now| is_from_linear("lin_wh_secret", signature, body, UnixMillis(now));
        assert!(good(1_753_142_400_000) && good(1_753_142_460_000));
        assert!(!good(1_753_142_460_001) && !good(1_753_142_339_999));
        let untimed = br#"{"action":"created"}"#;
        let signature = mac::hmac_hex(b"s", &[untimed]);
        assert!(!is_from_linear("s", Some(&signature), untimed, UnixMillis(0)), "without a time it can be replayed");
    }
}
