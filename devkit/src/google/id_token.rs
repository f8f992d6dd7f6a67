//! ID tokens, good ones and, for tests, ones that are wrong in one way; and the keys behind them.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Google, Person, now};

const KEY_ID: &str = "devkit-1";
/// Life of a token, in seconds.
const LIFE_SECONDS: i64 = 3_600;

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// Signed by nobody: `alg` is `none`.
    AlgNone,
    /// `HS256`, with the public key as the secret.
    AlgHs256,
    /// By a key that nobody published, under the id of one that was.
    OtherKey,
    /// Under an id that nobody published.
    UnknownKey,
    /// Changed after it was signed.
    Tampered,
    /// Of another issuer.
    Issuer,
    /// For another client.
    Audience,
    /// Of another sign-in.
    Nonce,
    /// Of yesterday.
    Expired,
}

/// Made when they are first needed: that takes a second or two.
#[derive(Default)]
pub struct Keys {
    published: OnceLock<rsa::RsaPrivateKey>,
    unpublished: OnceLock<rsa::RsaPrivateKey>,
}

fn make_key() -> rsa::RsaPrivateKey {
    rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("2048 bits is a size that RSA has")
}

fn encoding(key: &rsa::RsaPrivateKey) -> EncodingKey {
    let pem = key.to_pkcs8_pem(LineEnding::LF).expect("a new key can be encoded");
    EncodingKey::from_rsa_pem(pem.as_bytes()).expect("what was encoded can be read")
}

impl Keys {
    fn published(&self) -> &rsa::RsaPrivateKey {
        self.published.get_or_init(make_key)
    }

    fn unpublished(&self) -> &rsa::RsaPrivateKey {
        self.unpublished.get_or_init(make_key)
    }

    /// A JWK set: RFC 7517.
    pub fn published_as_json(&self) -> Value {
        let key = self.published();
        let number = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
        json!({"keys": [
            {"kty": "RSA", "kid": KEY_ID, "alg": "RS256", "use": "sig", "n": number(key.n()), "e": number(key.e())},
        ]})
    }
}

/// An ID token for a person.
pub fn make(google: &Google, person: &Person, nonce: Option<&str>, flaw: Option<Flaw>) -> String {
    let now = now();
    let issued_at = if flaw == Some(Flaw::Expired) { now - 86_400 } else { now };
    let mut claims = json!({
        "iss": if flaw == Some(Flaw::Issuer) { "https://accounts.evil.example" } else { google.issuer() },
        "azp": google.config.client_id,
        "aud": if flaw == Some(Flaw::Audience) { "another-client" } else { google.config.client_id.as_str() },
        "sub": person.subject(),
        "email": person.email,
        "email_verified": person.email_verified,
        "name": person.name,
        "iat": issued_at,
        "exp": issued_at + LIFE_SECONDS,
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = Value::from(if flaw == Some(Flaw::Nonce) { "another" } else { nonce });
    }
    let keys = &google.keys;
    let sign = |header: &Header, key: &EncodingKey| {
        jsonwebtoken::encode(header, &claims, key).expect("plain claims can be signed")
    };
    let rs256 = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::RS256) };
    match flaw {
        Some(Flaw::AlgNone) => {
            let header = json!({"alg": "none", "typ": "JWT", "kid": KEY_ID}).to_string();
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()))
        }
        Some(Flaw::AlgHs256) => {
            let public = keys.published().to_public_key().to_public_key_pem(LineEnding::LF);
            let public = public.expect("a public key can be encoded");
            let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::HS256) };
            sign(&header, &EncodingKey::from_secret(public.as_bytes()))
        }
        Some(Flaw::OtherKey) => sign(&rs256, &encoding(keys.unpublished())),
        Some(Flaw::UnknownKey) => {
            sign(&Header { kid: Some("nobody-knows".into()), ..rs256 }, &encoding(keys.unpublished()))
        }
        Some(Flaw::Tampered) => {
            let token = sign(&rs256, &encoding(keys.published()));
            let parts: Vec<&str> = token.split('.').collect();
            claims["email"] = Value::from("admin@example.com");
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
        }
        Some(Flaw::Issuer | Flaw::Audience | Flaw::Nonce | Flaw::Expired) | None => {
            sign(&rs256, &encoding(keys.published()))
        }
    }
}
