//! `sig1`: how one of our services proves to another who it is (control-plane.md 2.1).
//!
//! The signature covers service, time, nonce, method, path, query, body and actor. Each is good for five minutes and,
//! at the receiver, for one request.

use std::fmt::Write as _;

use oi_protocol::UnixMillis;

use crate::mac;

/// Header that names the service.
pub const SERVICE_HEADER: &str = "X-OpenInspect-Service";
/// Header of the signature.
pub const SIGNATURE_HEADER: &str = "X-OpenInspect-Service-Signature";
/// Header that names for whom the service acts.
pub const ACTOR_HEADER: &str = "X-OpenInspect-Actor";
/// A signature is good for this long before and after its time, in ms.
pub const FRESH_MS: i64 = 300_000;

/// A service that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// The web application.
    Web,
    /// The Slack bot.
    SlackBot,
    /// The GitHub bot.
    GithubBot,
    /// The Linear bot.
    LinearBot,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 4] = [Self::Web, Self::SlackBot, Self::GithubBot, Self::LinearBot];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::SlackBot => "slack-bot",
            Self::GithubBot => "github-bot",
            Self::LinearBot => "linear-bot",
        }
    }

    /// The service of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.as_str() == name)
    }

    /// The namespace of the actors that it may assert, which also names its webhooks; none for the web application.
    pub const fn namespace(self) -> Option<&'static str> {
        match self {
            Self::Web => None,
            Self::SlackBot => Some("slack"),
            Self::GithubBot => Some("github"),
            Self::LinearBot => Some("linear"),
        }
    }

    /// The variable of the control plane that holds its secret.
    pub const fn secret_variable(self) -> &'static str {
        match self {
            Self::Web => "SERVICE_AUTH_SECRET_WEB",
            Self::SlackBot => "SERVICE_AUTH_SECRET_SLACK_BOT",
            Self::GithubBot => "SERVICE_AUTH_SECRET_GITHUB_BOT",
            Self::LinearBot => "SERVICE_AUTH_SECRET_LINEAR_BOT",
        }
    }
}

/// What a signature covers, apart from its own time and nonce.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Who signs.
    pub service: Service,
    /// Upper case.
    pub method: &'a str,
    /// As a WHATWG URL parser writes it.
    pub pathname: &'a str,
    /// Without the question mark, as sent.
    pub query: &'a str,
    /// The exact bytes.
    pub body: &'a [u8],
    /// `namespace:id`, or empty.
    pub actor: &'a str,
}

impl Signed<'_> {
    fn canonical(&self, timestamp: i64, nonce: &str) -> String {
        format!(
            "sig1\n{}\n{timestamp}\n{nonce}\n{}\n{}\n{}\n{}\n{}",
            self.service.as_str(),
            self.method,
            self.pathname,
            canonical_query(self.query),
            mac::sha256_hex(self.body),
            self.actor
        )
    }

    /// The value of [`SIGNATURE_HEADER`]. The nonce is 16 lowercase hex digits, new for every request.
    pub fn sign(&self, secret: &str, now: UnixMillis, nonce: &str) -> String {
        let canonical = self.canonical(now.0, nonce);
        format!("sig1.{}.{nonce}.{}", now.0, mac::hmac_hex(secret.as_bytes(), &[canonical.as_bytes()]))
    }
}

/// A signature header that is well-formed and fresh, and not yet compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedSignature {
    timestamp: i64,
    /// 1 to 64 lowercase hex digits; the receiver refuses to see it twice.
    pub nonce: String,
    signature: String,
}

/// Why a signature is refused, as the log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefusal {
    /// Not `sig1.<ms>.<nonce>.<64 hex>`.
    #[error("format")]
    Format,
    /// Older or newer than five minutes.
    #[error("expired")]
    Expired,
    /// It is of another request, or another secret.
    #[error("mismatch")]
    Mismatch,
}

fn is_lowercase_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl PresentedSignature {
    /// Reads the header. Nothing of the body is needed for this.
    pub fn read(header: &str, now: UnixMillis) -> Result<Self, SignatureRefusal> {
        let parts: Vec<&str> = header.split('.').collect();
        let [tag, timestamp, nonce, signature] = parts[..] else { return Err(SignatureRefusal::Format) };
        let digits = (1..=16).contains(&timestamp.len()) && timestamp.bytes().all(|b| b.is_ascii_digit());
        let well_formed = tag == "sig1"
            && digits
            && (1..=64).contains(&nonce.len())
            && is_lowercase_hex(nonce)
            && signature.len() == 64
            && is_lowercase_hex(signature);
        let timestamp: i64 = timestamp.parse().unwrap_or(0);
        if !well_formed || timestamp <= 0 {
            return Err(SignatureRefusal::Format);
        }
        if now.since(UnixMillis(timestamp)).abs() > FRESH_MS {
            return Err(SignatureRefusal::Expired);
        }
        Ok(Self { timestamp, nonce: nonce.to_owned(), signature: signature.to_owned() })
    }

    /// Compares it with what was received, in constant time.
    pub fn verify(&self, secret: &str, signed: &Signed<'_>) -> Result<(), SignatureRefusal> {
        let canonical = signed.canonical(self.timestamp, &self.nonce);
        let same = mac::is_hmac_hex(secret.as_bytes(), &[canonical.as_bytes()], &self.signature);
        if same { Ok(()) } else { Err(SignatureRefusal::Mismatch) }
    }

    /// From when on a repetition is refused for its age alone.
    pub fn worthless_after(&self) -> UnixMillis {
        UnixMillis(self.timestamp).plus(FRESH_MS + 1)
    }
}

/// `encodeURIComponent`
pub fn encode_component(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            _ if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The query as it is signed: read as form data, sorted by the bytes of `key NUL value`, encoded anew.
pub fn canonical_query(query: &str) -> String {
    let mut entries: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    entries.sort_by(|(a, av), (b, bv)| {
        let left = a.bytes().chain([0]).chain(av.bytes());
        left.cmp(b.bytes().chain([0]).chain(bv.bytes()))
    });
    let encoded: Vec<String> =
        entries.iter().map(|(key, value)| format!("{}={}", encode_component(key), encode_component(value))).collect();
    encoded.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        signed: Signed<'static>,
        secret: &'static str,
        at: i64,
        nonce: &'static str,
        canonical_query: &'static str,
        signature: &'static str,
    }

    /// The first two are published with the format; the third was computed by a separate program.
    const VECTORS: [Vector; 3] = [
        Vector {
            signed: Signed {
                service: Service::SlackBot,
                method: "POST",
                pathname: "/sessions",
                query: "",
                body: br#"{"prompt":"fix the bug","repoOwner":"acme","repoName":"app"}"#,
                actor: "slack:U0123456",
            },
            secret: "slack-secret-0002",
            at: 1_753_142_400_001,
            nonce: "00ff00ff00ff00ff",
            canonical_query: "",
            signature: "8eed0bf0933ab3b21c1a6a19b5f7cb7f377b6d01b128973b19fa8a768d4d2c23",
        },
        Vector {
            signed: Signed {
                service: Service::LinearBot,
                method: "PUT",
                pathname: "/integration-config",
                query: "workspace=w1&team=t2",
                body: br#"{"enabled":true}"#,
                actor: "linear:usr_42",
            },
            secret: "linear-secret-0004",
            at: 1_753_142_400_003,
            nonce: "1234abcd5678ef90",
            canonical_query: "team=t2&workspace=w1",
            signature: "3e9ddc2b5c9af4b503e44ea4f177a7343a62ea8fcc023888e9bef29bc7fcdbdc",
        },
        Vector {
            signed: Signed {
                service: Service::Web,
                method: "GET",
                pathname: "/sessions/%C3%A4/events",
                query: "limit=5&cursor=a+b%2Fc&empty&q=x%20y&cursor=%C3%A9",
                body: b"",
                actor: "",
            },
            secret: "web-secret-0001",
            at: 1_753_142_400_005,
            nonce: "abcdef0123456789",
            canonical_query: "cursor=a%20b%2Fc&cursor=%C3%A9&empty=&limit=5&q=x%20y",
            signature: "dc4ac46ca4cca976ef5191cf1f8116b25beca405b9badebf0d325a6760608448",
        },
    ];

    #[test]
    fn signatures_are_those_of_the_golden_vectors() {
        for Vector { signed, secret, at, nonce, canonical_query: query, signature } in VECTORS {
            assert_eq!(canonical_query(signed.query), query);
            let header = signed.sign(secret, UnixMillis(at), nonce);
            assert_eq!(header, format!("sig1.{at}.{nonce}.{signature}"));
            let presented = PresentedSignature::read(&header, UnixMillis(at + FRESH_MS)).expect("fresh");
            assert_eq!(presented.verify(secret, &signed), Ok(()));
        }
    }

    #[test]
    fn a_signature_covers_every_part_of_the_request() {
        let Vector { signed, secret, at, nonce, .. } = VECTORS[1];
        let header = signed.sign(secret, UnixMillis(at), nonce);
        let presented = PresentedSignature::read(&header, UnixMillis(at)).expect("fresh");
        let others = [
            Signed { service: Service::SlackBot, ..signed },
            Signed { method: "POST", ..signed },
            Signed { pathname: "/integration-config/", ..signed },
            Signed { query: "workspace=w1&team=t2&more=1", ..signed },
            Signed { body: br#"{"enabled":false}"#, ..signed },
            Signed { actor: "linear:usr_43", ..signed },
        ];
        for other in others {
            assert_eq!(presented.verify(secret, &other), Err(SignatureRefusal::Mismatch), "{other:?}");
        }
        assert_eq!(presented.verify("another-secret", &signed), Err(SignatureRefusal::Mismatch));
        let reordered = Signed { query: "team=t2&workspace=w1", ..signed };
        assert_eq!(presented.verify(secret, &reordered), Ok(()), "the order of parameters does not matter");
    }

    #[test]
    fn a_header_that_is_not_well_formed_or_not_fresh_is_refused() {
        let (at, hex) = (1_753_142_400_000_i64, "a".repeat(64));
        let read = |text: &str| PresentedSignature::read(text, UnixMillis(at)).map(|_| ());
        assert_eq!(read(&format!("sig1.{at}.0f.{hex}")), Ok(()));
        for bad in [
            String::new(),
            format!("sig2.{at}.0f.{hex}"),
            format!("sig1.{at}.0f.{hex}.x"),
            format!("sig1.{at}..{hex}"),
            format!("sig1.{at}.0F.{hex}"),
            format!("sig1.{at}.{}.{hex}", "a".repeat(65)),
            format!("sig1.{at}.0f.{}", "a".repeat(63)),
            format!("sig1.{at}.0f.{}", "A".repeat(64)),
            format!("sig1.0.0f.{hex}"),
            format!("sig1.-5.0f.{hex}"),
            format!("sig1.+{at}.0f.{hex}"),
            format!("sig1.12345678901234567.0f.{hex}"),
        ] {
            assert_eq!(read(&bad), Err(SignatureRefusal::Format), "{bad}");
        }
        for off in [-FRESH_MS - 1, FRESH_MS + 1] {
            assert_eq!(read(&format!("sig1.{}.0f.{hex}", at + off)), Err(SignatureRefusal::Expired));
        }
    }

    #[test]
    fn queries_are_read_as_browsers_read_them() {
        for (query, canonical) in [
            ("a=%zz", "a=%25zz"),
            ("a=%ff", "a=%EF%BF%BD"),
            ("b&a", "a=&b="),
            ("a=2&a=10", "a=10&a=2"),
            ("a%00b=1&a=2", "a=2&a%00b=1"),
            ("x=!'()*~", "x=!'()*~"),
            ("&&", ""),
        ] {
            assert_eq!(canonical_query(query), canonical, "{query}");
        }
    }
}
