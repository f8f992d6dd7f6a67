//! What must hold of a service's signature and of the bodies of REST, whatever the bytes.

use std::fmt::Debug;

use oi_protocol::UnixMillis;
use oi_protocol::callback::CallbackContext;
use oi_protocol::diff::{DiffBundle, DiffFailure};
use oi_protocol::rest::{CreatePullRequestRequest, CreateSessionRequest, PromptRequest};
use oi_worker_kit::request_body;
use oi_worker_kit::service_signature::{
    FRESH_MS, PresentedSignature, Service, SignatureRefusal, Signed, canonical_query,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Some time of which signatures are read.
const NOW: UnixMillis = UnixMillis(1_753_142_400_000);

/// A header of a signature, and a request that is signed: the bytes are both. What is read is well-formed and fresh, and
/// proves nothing without the secret; what is signed is verified, and no other request is.
pub fn service_signature(bytes: &[u8]) {
    // Headers and URLs that are not UTF-8 reach nobody.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let empty = Signed { service: Service::Web, method: "GET", pathname: "/", query: "", body: b"", actor: "" };
    match PresentedSignature::read(text, NOW) {
        Ok(presented) => {
            assert!(text.starts_with("sig1.") && text.is_ascii(), "{text}");
            assert!((1..=64).contains(&presented.nonce.len()), "{text}");
            let until = presented.worthless_after();
            assert!(until.since(NOW) > 0 && until.since(NOW) <= 2 * FRESH_MS + 1, "{text} is fresh until {until:?}");
            assert_eq!(presented.verify("a secret that nobody has", &empty), Err(SignatureRefusal::Mismatch));
        }
        Err(SignatureRefusal::Format | SignatureRefusal::Expired) => {}
        Err(SignatureRefusal::Mismatch) => panic!("{text} was compared with nothing"),
    }
    let canonical = canonical_query(text);
    assert_eq!(canonical_query(&canonical), canonical, "of {text}");
    let (pathname, rest) = text.split_once('?').unwrap_or((text, ""));
    let (query, body) = rest.split_once('\n').unwrap_or((rest, ""));
    for service in Service::ALL {
        let signed = Signed { service, method: "POST", pathname, query, body: body.as_bytes(), actor: "slack:U1" };
        let header = signed.sign("secret", NOW, "0f");
        let presented = PresentedSignature::read(&header, NOW.plus(FRESH_MS)).expect("ours is well-formed and fresh");
        assert_eq!(presented.verify("secret", &signed), Ok(()));
        let longer = format!("{body} ");
        for other in [
            Signed { body: longer.as_bytes(), ..signed },
            Signed { method: "PUT", ..signed },
            Signed { actor: "", ..signed },
        ] {
            assert_eq!(presented.verify("secret", &other), Err(SignatureRefusal::Mismatch), "{other:?}");
        }
    }
}

/// A body of REST, as each type that there is: it is read or refused, and what was read is read again from what it is
/// written as.
pub fn rest_body(bytes: &[u8]) {
    each::<CreateSessionRequest>(bytes);
    each::<PromptRequest>(bytes);
    each::<CreatePullRequestRequest>(bytes);
    each::<CallbackContext>(bytes);
    each::<DiffFailure>(bytes);
    each::<DiffBundle>(bytes);
    if let Ok(bundle) = request_body::parse::<DiffBundle>(bytes, "") {
        // It says what is wrong, or nothing is.
        let _ = bundle.check();
    }
    if let Ok(context) = request_body::parse::<CallbackContext>(bytes, "") {
        let _ = context.is_valid();
    }
}

fn each<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    match request_body::parse::<T>(bytes, "another shape") {
        Ok(body) => {
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            assert_eq!(first, Some(&b'{'), "a body is an object");
            let again = serde_json::to_vec(&body).expect("a body is JSON");
            assert_eq!(request_body::parse::<T>(&again, ""), Ok(body), "{}", String::from_utf8_lossy(&again));
        }
        Err(refusal) => assert_eq!(refusal.status, 400, "{refusal}"),
    }
}
