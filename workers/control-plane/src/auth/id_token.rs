//! ID tokens of OpenID Connect: a JWT whose algorithm we choose, not the token: RS256, by a key that the provider
//! publishes. The platform's WebCrypto verifies the signature.

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use js_sys::{Array, Object, Promise, Reflect, Uint8Array};
use oi_protocol::UnixMillis;
use oi_worker_kit::http_client::Call;
use oi_worker_kit::{clock, mac};
use serde::Deserialize;
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
    fn import_key(
        format: &str,
        key: &Object,
        algorithm: &Object,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = verify, catch)]
    fn verify_bytes(
        algorithm: &str,
        key: &JsValue,
        signature: &Uint8Array,
        data: &Uint8Array,
    ) -> Result<Promise, JsValue>;
}

const RSA: &str = "RSASSA-PKCS1-v1_5";
/// Longest token, in bytes.
const MAX_BYTES: usize = 16 * 1024;
/// Shortest modulus of a key, in bytes: 2048 bits.
const MIN_MODULUS_BYTES: usize = 256;
/// Clocks may differ by this much, in seconds.
const LEEWAY_SECONDS: i64 = 60;
/// Published keys are kept in memory for this long, in ms.
const KEYS_LIFE_MS: i64 = 3_600_000;
/// They are not asked for more often than this on account of a key that nobody knows, in ms.
const KEYS_PAUSE_MS: i64 = 60_000;

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not three parts of base64url with JSON in them, or too long.
    #[error("the ID token is malformed")]
    Malformed,
    /// Not RS256.
    #[error("the ID token has another algorithm than RS256")]
    Algorithm,
    /// No published key has this id.
    #[error("the ID token is signed with an unknown key")]
    Key,
    /// The signature is not the key's.
    #[error("the ID token's signature is wrong")]
    Signature,
    /// Of another issuer.
    #[error("the ID token is of another issuer")]
    Issuer,
    /// For another client.
    #[error("the ID token is for another client")]
    Audience,
    /// Too old, or of the future.
    #[error("the ID token is not of this time")]
    Time,
    /// Of another sign-in.
    #[error("the ID token is of another sign-in")]
    Nonce,
    /// Without an e-mail that is known to be theirs.
    #[error("the account has no verified e-mail")]
    Email,
}

/// Why there is no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// The token proves nothing.
    Rejected(Rejected),
    /// The published keys could not be read.
    Keys(String),
}

impl From<Rejected> for TokenError {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// `iss`, with or without its scheme.
    pub issuer: &'a str,
    /// `aud`
    pub audience: &'a str,
    /// `nonce`; not asked of a token that no browser brought.
    pub nonce: Option<&'a str>,
    /// Now.
    pub now: UnixMillis,
}

/// Whom a token is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Never changes.
    pub subject: String,
    /// Verified, in lower case.
    pub email: String,
    /// The name to show.
    pub name: Option<String>,
    /// URL of a picture.
    pub picture: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    iat: i64,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    picture: Option<String>,
}

/// A token whose signature nobody has looked at yet.
struct Unverified<'a> {
    key_id: String,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Vec<u8>,
}

fn decoded(part: &str) -> Result<Vec<u8>, Rejected> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejected::Malformed)
}

/// Takes a token apart. Which algorithm verifies it is decided here, once, and not by the token.
fn take_apart(token: &str) -> Result<Unverified<'_>, Rejected> {
    if token.len() > MAX_BYTES {
        return Err(Rejected::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Rejected::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Rejected::Malformed)?;
    let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Rejected::Malformed)?;
    if header.alg != "RS256" {
        return Err(Rejected::Algorithm);
    }
    // An extension that must be understood, and is not.
    if header.crit.is_some() {
        return Err(Rejected::Malformed);
    }
    let key_id = header.kid.filter(|id| !id.is_empty()).ok_or(Rejected::Key)?;
    Ok(Unverified { key_id, signed, signature: decoded(signature)?, claims: decoded(claims)? })
}

/// Checks what a token says. Its signature has been verified.
fn check(claims: &[u8], expected: &Expected<'_>) -> Result<Identity, Rejected> {
    let claims: Claims = serde_json::from_slice(claims).map_err(|_| Rejected::Malformed)?;
    let bare = expected.issuer.strip_prefix("https://");
    if claims.iss != expected.issuer && Some(claims.iss.as_str()) != bare {
        return Err(Rejected::Issuer);
    }
    let audience = match &claims.aud {
        Audience::One(one) => Some(one.as_str()),
        // With several, another party may have been meant.
        Audience::Several(several) => (several.len() == 1).then(|| several[0].as_str()),
    };
    if audience != Some(expected.audience) {
        return Err(Rejected::Audience);
    }
    let now = expected.now.0 / 1000;
    if claims.exp.saturating_add(LEEWAY_SECONDS) <= now || claims.iat.saturating_sub(LEEWAY_SECONDS) > now {
        return Err(Rejected::Time);
    }
    if let Some(nonce) = expected.nonce
        && !claims.nonce.is_some_and(|given| mac::equal(&given, nonce))
    {
        return Err(Rejected::Nonce);
    }
    let subject = Some(claims.sub).filter(|sub| (1..=255).contains(&sub.len())).ok_or(Rejected::Malformed)?;
    let email = claims.email.map(|email| email.trim().to_lowercase());
    let email = email.filter(|email| claims.email_verified && email.len() <= 320 && email.contains('@'));
    Ok(Identity {
        subject,
        email: email.ok_or(Rejected::Email)?,
        name: claims.name.map(|name| oi_protocol::text::truncate_bytes(&name, 300).to_owned()),
        picture: claims.picture.filter(|url| url.len() <= 2_048),
    })
}

/// A published key: RFC 7517.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PublishedKey {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl PublishedKey {
    /// Whether it is one that RS256 verifies with.
    fn fits(&self) -> bool {
        self.kty == "RSA"
            && self.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && decoded(&self.n).is_ok_and(|modulus| modulus.len() >= MIN_MODULUS_BYTES)
            && decoded(&self.e).is_ok()
    }
}

#[derive(Deserialize)]
struct PublishedKeys {
    keys: Vec<PublishedKey>,
}

struct Cached {
    url: String,
    read_at: UnixMillis,
    keys: Vec<PublishedKey>,
}

thread_local! {
    /// The keys as this isolate read them last.
    static KEYS: RefCell<Option<Cached>> = const { RefCell::new(None) };
}

/// A key from memory; and when what is there was read.
fn remembered(url: &str, id: &str, now: UnixMillis) -> (Option<PublishedKey>, Option<UnixMillis>) {
    KEYS.with_borrow(|cached| {
        let cached = cached.as_ref().filter(|cached| cached.url == url && now.since(cached.read_at) < KEYS_LIFE_MS);
        let key = cached.and_then(|cached| cached.keys.iter().find(|key| key.kid == id).cloned());
        (key, cached.map(|cached| cached.read_at))
    })
}

async fn published_key(url: &str, id: &str) -> Result<PublishedKey, TokenError> {
    let now = clock::now();
    let (key, read_at) = remembered(url, id, now);
    if let Some(key) = key {
        return Ok(key);
    }
    if read_at.is_some_and(|at| now.since(at) < KEYS_PAUSE_MS) {
        return Err(Rejected::Key.into());
    }
    let answer = Call::get(url).within(Duration::from_secs(10)).send().await;
    let answer = answer.map_err(|error| TokenError::Keys(error.to_string()))?;
    if !answer.is_success() {
        return Err(TokenError::Keys(format!("status {}", answer.status)));
    }
    let published: PublishedKeys = answer.json().map_err(|error| TokenError::Keys(error.to_string()))?;
    let keys = published.keys.into_iter().filter(PublishedKey::fits).collect();
    KEYS.set(Some(Cached { url: url.to_owned(), read_at: now, keys }));
    remembered(url, id, now).0.ok_or(TokenError::Rejected(Rejected::Key))
}

async fn is_signed_by(key: &PublishedKey, token: &Unverified<'_>) -> Result<bool, JsValue> {
    let jwk = Object::new();
    for (name, value) in [("kty", "RSA"), ("alg", "RS256"), ("n", &key.n), ("e", &key.e)] {
        Reflect::set(&jwk, &name.into(), &value.into())?;
    }
    let algorithm = Object::new();
    Reflect::set(&algorithm, &"name".into(), &RSA.into())?;
    Reflect::set(&algorithm, &"hash".into(), &"SHA-256".into())?;
    let imported = import_key("jwk", &jwk, &algorithm, false, &Array::of1(&"verify".into()))?;
    let imported = JsFuture::from(imported).await?;
    let signature = Uint8Array::from(token.signature.as_slice());
    let verified = verify_bytes(RSA, &imported, &signature, &Uint8Array::from(token.signed.as_bytes()))?;
    Ok(JsFuture::from(verified).await?.as_bool() == Some(true))
}

/// Verifies a token by the keys published at `keys_url`, and checks what it says.
pub async fn verify(token: &str, expected: &Expected<'_>, keys_url: &str) -> Result<Identity, TokenError> {
    let unverified = take_apart(token)?;
    let key = published_key(keys_url, &unverified.key_id).await?;
    if !is_signed_by(&key, &unverified).await.unwrap_or(false) {
        return Err(Rejected::Signature.into());
    }
    Ok(check(&unverified.claims, expected)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn encoded(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn token(header: &Value) -> String {
        format!("{}.{}.{}", encoded(header), encoded(&json!({})), URL_SAFE_NO_PAD.encode([7; 256]))
    }

    fn rejected(token: &str) -> Option<Rejected> {
        take_apart(token).err()
    }

    #[test]
    fn a_token_does_not_choose_its_algorithm() {
        assert_eq!(rejected(&token(&json!({"alg": "RS256", "kid": "k"}))), None);
        // `HS256` with the public key as its secret, and no signature at all, are the classic ones.
        for alg in ["none", "None", "HS256", "HS512", "RS384", "PS256", "ES256", "rs256", ""] {
            assert_eq!(rejected(&token(&json!({"alg": alg, "kid": "k"}))), Some(Rejected::Algorithm), "{alg}");
        }
        assert_eq!(rejected(&token(&json!({"alg": ["RS256"], "kid": "k"}))), Some(Rejected::Malformed));
        assert_eq!(rejected(&token(&json!({"kid": "k"}))), Some(Rejected::Malformed));
    }

    #[test]
    fn a_token_that_is_none_is_rejected() {
        let good = token(&json!({"alg": "RS256", "kid": "k"}));
        for bad in [
            String::new(),
            "a.b".to_owned(),
            "..".to_owned(),
            format!("{good}."),
            format!("{good}.x"),
            format!("{good}="),
            format!(".{good}"),
            "x".repeat(MAX_BYTES + 1),
        ] {
            assert_eq!(rejected(&bad), Some(Rejected::Malformed), "{bad}");
        }
        for header in [json!({"alg": "RS256"}), json!({"alg": "RS256", "kid": ""})] {
            assert_eq!(rejected(&token(&header)), Some(Rejected::Key), "{header}");
        }
        let critical = json!({"alg": "RS256", "kid": "k", "crit": ["b64"], "b64": false});
        assert_eq!(rejected(&token(&critical)), Some(Rejected::Malformed));
        // Keys that the token itself brings are not looked at.
        let own_key = json!({"alg": "RS256", "kid": "k", "jwk": {"kty": "RSA"}, "jku": "https://evil.example"});
        assert_eq!(take_apart(&token(&own_key)).map(|token| token.key_id).ok().as_deref(), Some("k"));
    }

    const EXPECTED: Expected<'_> = Expected {
        issuer: "https://accounts.example.com",
        audience: "client",
        nonce: Some("n1"),
        now: UnixMillis(1_800_000_000_000),
    };

    fn claims() -> Value {
        json!({
            "iss": "https://accounts.example.com", "sub": "42", "aud": "client", "exp": 1_800_003_600,
            "iat": 1_800_000_000, "nonce": "n1", "email": "Ada@X.org", "email_verified": true, "name": "Ada",
        })
    }

    fn checked(change: &[(&str, Value)]) -> Result<Identity, Rejected> {
        let mut claims = claims();
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        check(claims.to_string().as_bytes(), &EXPECTED)
    }

    #[test]
    fn a_token_of_this_sign_in_names_an_account() {
        let ada = Identity {
            subject: "42".to_owned(),
            email: "ada@x.org".to_owned(),
            name: Some("Ada".to_owned()),
            picture: None,
        };
        assert_eq!(checked(&[]), Ok(ada.clone()));
        assert_eq!(checked(&[("iss", json!("accounts.example.com"))]), Ok(ada.clone()));
        assert_eq!(checked(&[("aud", json!(["client"]))]), Ok(ada.clone()));
        assert_eq!(checked(&[("exp", json!(1_799_999_950))]), Ok(ada), "clocks differ a little");
    }

    #[test]
    fn a_token_of_anything_else_names_nobody() {
        for (name, value, reason) in [
            ("iss", json!("https://evil.example"), Rejected::Issuer),
            ("iss", json!("http://accounts.example.com"), Rejected::Issuer),
            ("iss", json!("https://accounts.example.com.evil.example"), Rejected::Issuer),
            ("aud", json!("another"), Rejected::Audience),
            ("aud", json!(["client", "another"]), Rejected::Audience),
            ("aud", json!([]), Rejected::Audience),
            ("exp", json!(1_799_999_940), Rejected::Time),
            ("iat", json!(1_800_000_061), Rejected::Time),
            ("nonce", json!("n2"), Rejected::Nonce),
            ("nonce", json!(null), Rejected::Nonce),
            ("email_verified", json!(false), Rejected::Email),
            ("email_verified", json!("true"), Rejected::Malformed),
            ("email", json!(null), Rejected::Email),
            ("email", json!("nobody"), Rejected::Email),
            ("sub", json!(""), Rejected::Malformed),
            ("sub", json!(42), Rejected::Malformed),
            ("exp", json!("never"), Rejected::Malformed),
        ] {
            assert_eq!(checked(&[(name, value.clone())]), Err(reason), "{name} {value}");
        }
        for name in ["iss", "sub", "aud", "exp", "iat", "nonce", "email", "email_verified"] {
            let mut claims = claims();
            claims.as_object_mut().expect("an object").remove(name);
            assert!(check(claims.to_string().as_bytes(), &EXPECTED).is_err(), "without {name}");
        }
    }

    #[test]
    fn a_token_by_refresh_has_no_nonce_to_check() {
        let mut claims = claims();
        claims["nonce"] = json!(null);
        let expected = Expected { nonce: None, ..EXPECTED };
        assert!(check(claims.to_string().as_bytes(), &expected).is_ok());
    }

    #[test]
    fn only_strong_rsa_keys_for_signatures_are_taken() {
        let key = |change: &[(&str, Value)]| {
            let n = URL_SAFE_NO_PAD.encode([0xff; 256]);
            let mut key = json!({"kty": "RSA", "kid": "k", "alg": "RS256", "use": "sig", "n": n, "e": "AQAB"});
            for (name, value) in change {
                key[*name] = value.clone();
            }
            serde_json::from_value::<PublishedKey>(key).is_ok_and(|key| key.fits())
        };
        assert!(key(&[]) && key(&[("alg", Value::Null), ("use", Value::Null)]));
        for (name, value) in [
            ("kty", json!("oct")),
            ("kty", json!("EC")),
            ("alg", json!("HS256")),
            ("use", json!("enc")),
            ("n", json!(URL_SAFE_NO_PAD.encode([0xff; 128]))),
            ("n", json!("!")),
        ] {
            assert!(!key(&[(name, value.clone())]), "{name} {value}");
        }
    }
}
