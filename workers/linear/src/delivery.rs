//! What a webhook of Linear is, once its signature holds.

use oi_protocol::{ErrorCode, UnixMillis};
use oi_worker_kit::webhook_signature::{is_fresh_by_linear, is_signed_by_linear};
use oi_worker_kit::{Refusal, mac, request_body, webhook_inbox};
use serde::Deserialize;
use serde_json::Value;

/// A webhook that Linear signed within the last minute.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The header `Linear-Delivery`, the same in every repetition. A webhook without a usable one is known by its bytes,
    /// never by the body's `webhookId`: that names the webhook's registration and is the same in all deliveries.
    pub delivery_id: String,
    /// Type and action, such as `AgentSessionEvent.created`.
    pub event: String,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    action: Option<Value>,
}

/// Verifies a webhook and reads what of it is needed to store it. 401 for a signature that is missing, wrong or stale;
/// 400 for a body that is signed but is no JSON object with a type.
pub fn read(
    secret: &str,
    (signature, delivery): (Option<&str>, Option<&str>),
    body: &[u8],
    now: UnixMillis,
) -> Result<Delivery, Refusal> {
    let unauthorized = || Refusal::new(401, ErrorCode::Unauthorized, "Invalid signature");
    let invalid = || Refusal::invalid_body("Invalid payload");
    // Its age is in the body, so whether that can be read is told apart from whether it is fresh.
    if !is_signed_by_linear(secret, signature, body) {
        return Err(unauthorized());
    }
    let Payload { kind, action } = request_body::parse(body, "Invalid payload").map_err(|_| invalid())?;
    if !is_fresh_by_linear(body, now) {
        return Err(unauthorized());
    }
    let event = webhook_inbox::event_name(&kind, action.as_ref().and_then(Value::as_str)).ok_or_else(invalid)?;
    let delivery_id =
        delivery.filter(|id| webhook_inbox::is_storable_id(id)).map_or_else(|| mac::sha256_hex(body), str::to_owned);
    Ok(Delivery { delivery_id, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "lin_wh_secret";
    const SENT: UnixMillis = UnixMillis(1_753_142_400_000);

    fn signed_at(now: UnixMillis, delivery: Option<&str>, body: &[u8]) -> Result<Delivery, Refusal> {
        let signature = mac::hmac_hex(SECRET.as_bytes(), &[body]);
        read(SECRET, (Some(&signature), delivery), body, now)
    }

    fn signed(delivery: Option<&str>, body: &str) -> Result<Delivery, Refusal> {
        signed_at(SENT, delivery, body.as_bytes())
    }

    /// A body of that time with more members.
    fn body(more: &str) -> String {
        format!(r#"{{"webhookTimestamp":{},"webhookId":"w1"{more}}}"#, SENT.0)
    }

    fn status<T>(read: Result<T, Refusal>) -> Result<T, u16> {
        read.map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_webhook_that_another_program_signed_is_read() {
        // By `openssl dgst -sha256 -hmac lin_wh_secret`.
        let body =
            br#"{"type":"AgentSessionEvent","action":"created","webhookTimestamp":1753142400000,"webhookId":"w1"}"#;
        let signature = Some("fa8b5de4ceb456e7139d7fc2a5938757cd016deb35d99bfde2b8f968750a790c");
        let delivery = Delivery { delivery_id: "d-1".to_owned(), event: "AgentSessionEvent.created".to_owned() };
        assert_eq!(read(SECRET, (signature, Some("d-1")), body, SENT), Ok(delivery));
    }

    #[test]
    fn what_linear_did_not_sign_is_refused_whatever_it_says() {
        let body = body(r#","type":"Issue""#);
        let good = mac::hmac_hex(SECRET.as_bytes(), &[body.as_bytes()]);
        let with = |signature: Option<&str>, body: &[u8]| status(read(SECRET, (signature, Some("d")), body, SENT));
        assert!(with(Some(&good), body.as_bytes()).is_ok());
        let prefixed = format!("sha256={good}");
        let other_secret = mac::hmac_hex(b"another", &[body.as_bytes()]);
        let unkeyed = mac::hmac_hex(b"", &[body.as_bytes()]);
        let shouted = good.to_uppercase();
        for bad in
            [None, Some(""), Some(&good[..63]), Some(&shouted), Some(&prefixed), Some(&other_secret), Some(&unkeyed)]
        {
            assert_eq!(with(bad, body.as_bytes()), Err(401), "{bad:?}");
        }
        assert_eq!(with(Some(&good), body.replace("Issue", "Other").as_bytes()), Err(401));
        assert_eq!(with(Some(&good), b""), Err(401));
        assert_eq!(with(Some(&good), b"not JSON"), Err(401), "what is not signed is not looked into");
    }

    #[test]
    fn a_webhook_is_good_for_a_minute_and_needs_a_time() {
        let body = body(r#","type":"Issue""#);
        let at = |offset| status(signed_at(SENT.plus(offset), Some("d"), body.as_bytes())).map(|_| ());
        assert_eq!((at(-60_000), at(60_000)), (Ok(()), Ok(())));
        assert_eq!((at(-60_001), at(60_001)), (Err(401), Err(401)));
        for untimed in [
            r#"{"type":"Issue"}"#,
            r#"{"type":"Issue","webhookTimestamp":null}"#,
            r#"{"type":"Issue","webhookTimestamp":"1753142400000"}"#,
            r#"{"type":"Issue","webhookTimestamp":1753142400000.5}"#,
            r#"{"type":"Issue","webhookTimestamp":-9223372036854775808}"#,
            r#"{"type":"Issue","webhookTimestamp":9223372036854775807}"#,
            r#"{"type":"Issue","webhookTimestamp":1,"webhookTimestamp":1753142400000}"#,
        ] {
            assert_eq!(status(signed(Some("d"), untimed)), Err(401), "{untimed}");
        }
    }

    #[test]
    fn a_webhook_is_known_by_its_delivery_else_by_its_bytes_and_never_by_its_registration() {
        let (one, other) = (body(r#","type":"Issue","action":"create""#), body(r#","type":"Issue","action":"update""#));
        let id = |delivery: Option<&str>, body: &str| signed(delivery, body).expect("is signed").delivery_id;
        assert_eq!(id(Some("d-1"), &one), "d-1");
        let long = "x".repeat(201);
        for unusable in [None, Some(""), Some("a\tb"), Some(&*long)] {
            assert_eq!(id(unusable, &one), mac::sha256_hex(one.as_bytes()));
        }
        assert_ne!(id(None, &one), id(None, &other), "both have the `webhookId` w1");
    }

    #[test]
    fn an_event_is_named_with_its_action() {
        let named = |more: &str| status(signed(Some("d"), &body(more))).map(|delivery| delivery.event);
        assert_eq!(named(r#","type":"Issue","action":"create""#), Ok("Issue.create".to_owned()));
        for actionless in ["", r#","action":null"#, r#","action":1"#, r#","action":"""#] {
            assert_eq!(named(&format!(r#","type":"Issue"{actionless}"#)), Ok("Issue".to_owned()));
        }
        assert_eq!(named(r#","type":"a\u0000","action":"\nb""#), Ok("a.b".to_owned()));
        let long = named(&format!(r#","type":"{}""#, "ä".repeat(80)));
        assert_eq!(long, Ok("ä".repeat(50)));
        assert_eq!(named(r#","type":"\u0000""#), Err(400));
    }

    #[test]
    fn a_signed_body_that_is_no_object_with_a_type_is_refused_as_one() {
        let untyped = body("");
        for bad in [
            &b""[..],
            b"{",
            b"[]",
            br#"["Issue","create"]"#,
            b"null",
            b"\xff",
            br#"{"type":null}"#,
            b"payload=%7B%7D",
            untyped.as_bytes(),
        ] {
            let refused = signed_at(SENT, Some("d"), bad);
            assert_eq!(refused, Err(Refusal::invalid_body("Invalid payload")), "{}", String::from_utf8_lossy(bad));
        }
    }
}
