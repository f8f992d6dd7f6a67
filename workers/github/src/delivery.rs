//! What a webhook of GitHub is, once its signature holds.

use oi_protocol::ErrorCode;
use oi_worker_kit::webhook_inbox::{self, DELIVERY_ID_MAX_BYTES};
use oi_worker_kit::webhook_signature::is_from_github;
use oi_worker_kit::{Refusal, request_body};
use serde::Deserialize;
use serde_json::Value;

/// The headers of a webhook.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// `X-Hub-Signature-256`
    pub signature: Option<&'a str>,
    /// `X-GitHub-Delivery`
    pub delivery: Option<&'a str>,
    /// `X-GitHub-Event`
    pub event: Option<&'a str>,
}

/// A webhook that GitHub signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// GitHub's id, the same when it is delivered again.
    pub delivery_id: String,
    /// The event and, for those that have one, the action: `pull_request.opened`, `push`.
    pub event: String,
}

#[derive(Deserialize)]
struct Payload {
    action: Option<Value>,
}

/// Verifies a webhook and reads what of it is needed to store it. 401 for a signature that is missing or wrong; 400 for
/// a body that is no JSON object, which a webhook configured as a form has, and for a header that is missing.
pub fn read(secret: &str, headers: Headers<'_>, body: &[u8]) -> Result<Delivery, Refusal> {
    if !is_from_github(secret, headers.signature, body) {
        return Err(Refusal::new(401, ErrorCode::Unauthorized, "invalid signature"));
    }
    let Payload { action } = request_body::parse(body, "").map_err(|_| {
        Refusal::invalid_body("The webhook's body must be a JSON object: set its content type to application/json")
    })?;
    let delivery_id = headers.delivery.filter(|id| webhook_inbox::is_storable_id(id)).ok_or_else(|| {
        Refusal::invalid_body(format!(
            "The header X-GitHub-Delivery is required, at most {DELIVERY_ID_MAX_BYTES} bytes"
        ))
    })?;
    let event = headers
        .event
        .and_then(|event| webhook_inbox::event_name(event, action.as_ref().and_then(Value::as_str)))
        .ok_or_else(|| Refusal::invalid_body("The header X-GitHub-Event is required"))?;
    Ok(Delivery { delivery_id: delivery_id.to_owned(), event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oi_worker_kit::mac;

    const SECRET: &str = "It's a Secret to Everybody";
    const ID: &str = "72d3162e-cc78-11e3-81ab-4c9367dc0958";

    fn signature(secret: &str, body: &[u8]) -> String {
        format!("sha256={}", mac::hmac_hex(secret.as_bytes(), &[body]))
    }

    fn signed(delivery: Option<&str>, event: Option<&str>, body: &[u8]) -> Result<Delivery, Refusal> {
        let signature = signature(SECRET, body);
        read(SECRET, Headers { signature: Some(&signature), delivery, event }, body)
    }

    fn event_of(event: &str, body: &str) -> Result<String, u16> {
        let read = signed(Some(ID), Some(event), body.as_bytes());
        read.map(|delivery| delivery.event).map_err(|refusal| refusal.status)
    }

    #[test]
    fn githubs_published_body_passes_verification_and_is_then_refused_as_no_json() {
        let published = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let status = |signature, body: &[u8]| {
            let headers = Headers { signature, delivery: Some(ID), event: Some("push") };
            read(SECRET, headers, body).map_err(|refusal| refusal.status)
        };
        assert_eq!(status(Some(published), b"Hello, World!"), Err(400));
        assert_eq!(status(Some(published), b"Hello, World"), Err(401));
        assert_eq!(status(Some(published), b"Hello, World!\n"), Err(401));
        assert_eq!(status(None, b"Hello, World!"), Err(401));
    }

    #[test]
    fn what_github_did_not_sign_is_refused_whatever_it_says() {
        let body = br#"{"action":"opened"}"#;
        let good = signature(SECRET, body);
        let status = |secret: &str, signature: Option<&str>, body: &[u8]| {
            let headers = Headers { signature, delivery: Some(ID), event: Some("push") };
            read(secret, headers, body).map(|_| ()).map_err(|refusal| refusal.status)
        };
        assert_eq!(status(SECRET, Some(&good), body), Ok(()));
        let sha1 = format!("sha1={}", &good["sha256=".len()..]);
        let shouted = format!("sha256={}", good["sha256=".len()..].to_uppercase());
        let (other_secret, unkeyed) = (signature("another", body), signature("", body));
        let doubled = format!("{good}, {good}");
        for bad in [
            None,
            Some(""),
            Some("sha256="),
            good.strip_prefix("sha256="),
            Some(&good[..70]),
            Some(&sha1),
            Some(&shouted),
            Some(&doubled),
            Some(&other_secret),
            Some(&unkeyed),
        ] {
            assert_eq!(status(SECRET, bad, body), Err(401), "{bad:?}");
        }
        assert_eq!(status("another", Some(&good), body), Err(401));
        assert_eq!(status(SECRET, Some(&good), br#"{"action":"closed"}"#), Err(401));
        assert_eq!(status(SECRET, Some(&good), b""), Err(401));
    }

    #[test]
    fn an_event_is_named_with_its_action() {
        assert_eq!(event_of("pull_request", r#"{"action":"opened"}"#), Ok("pull_request.opened".to_owned()));
        for body in [r#"{"ref":"refs/heads/main"}"#, r#"{"action":null}"#, r#"{"action":7}"#, r#"{"action":""}"#] {
            assert_eq!(event_of("push", body), Ok("push".to_owned()), "{body}");
        }
    }

    #[test]
    fn an_event_is_stored_under_a_name_that_can_be_stored() {
        let long = format!(r#"{{"action":"{}"}}"#, "ä".repeat(60));
        let named = event_of("repository_dispatch", &long).expect("is cut");
        assert_eq!(named, format!("repository_dispatch.{}", "ä".repeat(40)));
        let lines = event_of("repository_dispatch", r#"{"action":"a\nb\u0000"}"#);
        assert_eq!(lines, Ok("repository_dispatch.ab".to_owned()));
    }

    #[test]
    fn a_delivery_needs_its_id_and_its_event() {
        let body = b"{\"zen\":\"x\"}";
        let read = signed(Some(ID), Some("ping"), body);
        assert_eq!(read, Ok(Delivery { delivery_id: ID.to_owned(), event: "ping".to_owned() }));
        let long = "x".repeat(201);
        for (delivery, event) in [
            (None, Some("ping")),
            (Some(""), Some("ping")),
            (Some(&*long), Some("ping")),
            (Some(ID), None),
            (Some("a\tb"), Some("ping")),
        ] {
            assert_eq!(signed(delivery, event, body).map_err(|refusal| refusal.status), Err(400), "{delivery:?}");
        }
    }

    #[test]
    fn a_signed_body_that_is_no_json_object_is_refused() {
        for bad in [&b""[..], b"{", b"[]", br#"["opened"]"#, b"null", b"\"x\"", b"\xff", b"payload=%7B%7D", b"{} {}"] {
            let refused = signed(Some(ID), Some("push"), bad).map_err(|refusal| (refusal.status, refusal.code));
            assert_eq!(refused, Err((400, ErrorCode::InvalidBody)), "{}", String::from_utf8_lossy(bad));
        }
    }
}
