//! What a request from Slack is, once its signature holds.

use oi_protocol::{ErrorCode, UnixMillis};
use oi_worker_kit::webhook_signature::is_from_slack;
use oi_worker_kit::{Refusal, mac, request_body, webhook_inbox};
use serde::Deserialize;

/// A request that Slack signed within the last five minutes.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Slack asks whether the endpoint is ours: the text is sent back.
    Challenge(String),
    /// Something happened.
    Event {
        /// Slack's id, the same in every repetition. An event without a usable one is known by its bytes.
        delivery_id: String,
        /// The event's type, such as `app_mention`.
        event: String,
    },
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    event_id: Option<String>,
    event: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "type")]
    kind: String,
}

/// Verifies a request and reads what of it is needed to store it. 401 for a signature that is missing, wrong or stale;
/// 400 for a body that is no envelope.
pub fn read(
    secret: &str,
    (signature, timestamp): (Option<&str>, Option<&str>),
    body: &[u8],
    now: UnixMillis,
) -> Result<Incoming, Refusal> {
    if !is_from_slack(secret, signature, timestamp, body, now) {
        return Err(Refusal::new(401, ErrorCode::Unauthorized, "Invalid signature"));
    }
    let invalid = || Refusal::invalid_body("Invalid payload");
    let envelope: Envelope = request_body::parse(body, "Invalid payload").map_err(|_| invalid())?;
    if envelope.kind == "url_verification" {
        return envelope.challenge.map(Incoming::Challenge).ok_or_else(invalid);
    }
    let delivery_id =
        envelope.event_id.filter(|id| webhook_inbox::is_storable_id(id)).unwrap_or_else(|| mac::sha256_hex(body));
    let kind = envelope.event.map_or(envelope.kind, |inner| inner.kind);
    let event = webhook_inbox::event_name(&kind, None).ok_or_else(invalid)?;
    Ok(Incoming::Event { delivery_id, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const SENT: i64 = 1_531_420_618;

    fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
        let hex = mac::hmac_hex(secret.as_bytes(), &[b"v0:", timestamp.as_bytes(), b":", body]);
        format!("v0={hex}")
    }

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    fn signed(body: &[u8]) -> Result<Incoming, Refusal> {
        let timestamp = SENT.to_string();
        read(SECRET, (Some(&signature(SECRET, &timestamp, body)), Some(&timestamp)), body, at(SENT))
    }

    fn event(delivery_id: &str, event: &str) -> Result<Incoming, Refusal> {
        Ok(Incoming::Event { delivery_id: delivery_id.to_owned(), event: event.to_owned() })
    }

    #[test]
    fn slacks_published_request_passes_verification_and_is_then_refused_as_no_json() {
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
            &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
            &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
            &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let published = Some("v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
        let status = |signature, timestamp, now| {
            read(SECRET, (signature, Some(timestamp)), body, now).map_err(|refusal| refusal.status)
        };
        assert_eq!(status(published, "1531420618", at(SENT)), Err(400));
        assert_eq!(status(published, "1531420618", at(SENT + 300)), Err(400));
        assert_eq!(status(published, "1531420618", at(SENT + 301)), Err(401), "stale");
        assert_eq!(status(published, "1531420618", at(SENT - 301)), Err(401), "from the future");
        assert_eq!(status(published, "1531420619", at(SENT)), Err(401), "another time");
    }

    #[test]
    fn what_slack_did_not_sign_is_refused_whatever_it_says() {
        let body = br#"{"type":"url_verification","challenge":"c"}"#;
        let timestamp = SENT.to_string();
        let good = signature(SECRET, &timestamp, body);
        assert_eq!(signed(body), Ok(Incoming::Challenge("c".to_owned())));
        let shouted = format!("v0={}", good["v0=".len()..].to_uppercase());
        let other_secret = signature("another", &timestamp, body);
        let unkeyed = signature("", &timestamp, body);
        for bad in [None, Some(""), Some("v0="), Some(&good[3..]), Some(&good[..66]), Some(&shouted), Some(&unkeyed)] {
            let refused = read(SECRET, (bad, Some(&timestamp)), body, at(SENT));
            assert_eq!(refused.map_err(|refusal| refusal.status), Err(401), "{bad:?}");
        }
        let attacks: [(&str, Option<&str>, &[u8]); 6] = [
            (&good, None, body),
            (&good, Some("NaN"), body),
            (&good, Some("1531420618.0"), body),
            (&good, Some(&timestamp), br#"{"type":"url_verification","challenge":"d"}"#),
            (&good, Some(&timestamp), b""),
            (&other_secret, Some(&timestamp), body),
        ];
        for (signature, timestamp, body) in attacks {
            let refused = read(SECRET, (Some(signature), timestamp), body, at(SENT));
            assert_eq!(refused.map_err(|refusal| refusal.status), Err(401), "{timestamp:?}");
        }
        // The boundary between time and body is signed with them.
        let moved = read(SECRET, (Some(&signature(SECRET, &timestamp, b"1:{}")), Some("15314206181")), b"{}", at(SENT));
        assert_eq!(moved.map_err(|refusal| refusal.status), Err(401));
    }

    #[test]
    fn an_event_is_known_by_its_id_else_by_its_bytes() {
        let mention = br#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention","user":"U1"}}"#;
        assert_eq!(signed(mention), event("Ev1", "app_mention"));
        let limited = br#"{"type":"app_rate_limited"}"#;
        assert_eq!(signed(limited), event(&mac::sha256_hex(limited), "app_rate_limited"));
        let long =
            format!(r#"{{"type":"event_callback","event_id":"{}","event":{{"type":"message"}}}}"#, "E".repeat(201));
        for body in [
            long.as_bytes(),
            br#"{"type":"event_callback","event_id":"","event":{"type":"message"}}"#,
            br#"{"type":"event_callback","event_id":"Ev\n1","event":{"type":"message"}}"#,
            br#"{"type":"event_callback","event_id":null,"event":{"type":"message"}}"#,
        ] {
            assert_eq!(signed(body), event(&mac::sha256_hex(body), "message"));
        }
    }

    #[test]
    fn an_event_is_stored_under_a_name_that_can_be_stored() {
        let named = |kind: &str| signed(format!(r#"{{"type":"{kind}","event_id":"Ev1"}}"#).as_bytes());
        assert_eq!(named("a\\u0000b\\n"), event("Ev1", "ab"));
        assert_eq!(named(&"ä".repeat(80)), event("Ev1", &"ä".repeat(50)));
        for empty in ["", "\\u0000"] {
            assert_eq!(named(empty), Err(Refusal::invalid_body("Invalid payload")));
        }
    }

    #[test]
    fn a_signed_body_that_is_no_envelope_is_refused_as_one() {
        for bad in [
            &b""[..],
            b"{",
            b"[]",
            br#"["event_callback",null,"Ev1",null]"#,
            b"null",
            b"\xff",
            b"{}",
            br#"{"type":1}"#,
            br#"{"type":"event_callback","event":[]}"#,
            br#"{"type":"url_verification"}"#,
            br#"{"type":"a","type":"b"}"#,
            b"payload=%7B%7D",
        ] {
            assert_eq!(signed(bad), Err(Refusal::invalid_body("Invalid payload")), "{}", String::from_utf8_lossy(bad));
        }
    }
}
