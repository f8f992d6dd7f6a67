//! How the App proves to GitHub that it is the App: a JSON Web Token, RS256, good for ten minutes.
//!
//! The platform's own WebCrypto signs: RSA in wasm would be slower, 84 KB larger, and open to timing. It answers with a
//! promise, and `jwt-compact` signs at once, so that the three parts are put together here; the tests read them with it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oi_protocol::UnixMillis;
use serde_json::json;

use crate::source_control::ForgeError;

/// A token for the App, from its private key as PEM (PKCS#8 or PKCS#1).
pub async fn mint(app_id: &str, private_key_pem: &str, now: UnixMillis) -> Result<String, ForgeError> {
    let key = pkcs8_of_pem(private_key_pem)
        .ok_or_else(|| ForgeError::Setup("GITHUB_APP_PRIVATE_KEY is not a private RSA key as PEM".to_owned()))?;
    let unsigned = unsigned(app_id, now);
    // What WebCrypto says of a bad key holds nothing of the key, and is not passed on all the same.
    let signature = platform::sign(&key, unsigned.as_bytes())
        .await
        .ok_or_else(|| ForgeError::Setup("GITHUB_APP_PRIVATE_KEY could not be used for signing".to_owned()))?;
    Ok(format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn unsigned(app_id: &str, now: UnixMillis) -> String {
    let seconds = now.0 / 1000;
    let header = json!({"alg": "RS256", "typ": "JWT"}).to_string();
    // A minute of grace for clocks that differ; GitHub takes at most ten minutes from now.
    let claims = json!({"iat": seconds - 60, "exp": seconds + 540, "iss": app_id}).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

#[cfg(not(test))]
mod platform {
    use js_sys::{Array, Object, Promise, Reflect, Uint8Array};
    use wasm_bindgen::prelude::*;
    use worker::wasm_bindgen_futures::JsFuture;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
        fn import_key(
            format: &str,
            key: &Uint8Array,
            algorithm: &JsValue,
            extractable: bool,
            usages: &Array,
        ) -> Result<Promise, JsValue>;

        #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = sign, catch)]
        fn sign_bytes(algorithm: &str, key: &JsValue, data: &Uint8Array) -> Result<Promise, JsValue>;
    }

    const RSA: &str = "RSASSA-PKCS1-v1_5";

    pub async fn sign(pkcs8: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        try_sign(pkcs8, data).await.ok()
    }

    async fn try_sign(pkcs8: &[u8], data: &[u8]) -> Result<Vec<u8>, JsValue> {
        let algorithm = Object::new();
        Reflect::set(&algorithm, &"name".into(), &RSA.into())?;
        Reflect::set(&algorithm, &"hash".into(), &"SHA-256".into())?;
        let usages = Array::of1(&"sign".into());
        let key = import_key("pkcs8", &Uint8Array::from(pkcs8), &algorithm, false, &usages)?;
        let key = JsFuture::from(key).await?;
        let signature = JsFuture::from(sign_bytes(RSA, &key, &Uint8Array::from(data))?).await?;
        Ok(Uint8Array::new(&signature).to_vec())
    }
}

/// Tests run where there is no WebCrypto.
#[cfg(test)]
mod platform {
    use rsa::pkcs8::DecodePrivateKey as _;
    use rsa::signature::{SignatureEncoding as _, Signer as _};

    #[expect(clippy::unused_async, reason = "the platform's own is")]
    pub async fn sign(pkcs8: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        let key = rsa::RsaPrivateKey::from_pkcs8_der(pkcs8).ok()?;
        Some(rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key).sign(data).to_vec())
    }
}

/// The key's PKCS#8 bytes. Line breaks may be written as `\n`, as they are in environment files.
fn pkcs8_of_pem(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("\\n", "\n");
    let between = |label: &str| {
        let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        STANDARD.decode(base64).ok()
    };
    match between("PRIVATE KEY") {
        Some(pkcs8) => Some(pkcs8),
        None => between("RSA PRIVATE KEY").map(|pkcs1| pkcs8_of_pkcs1(&pkcs1)),
    }
}

/// Wraps an RSA key in `PrivateKeyInfo` (RFC 5208): version 0, algorithm rsaEncryption, the key.
fn pkcs8_of_pkcs1(pkcs1: &[u8]) -> Vec<u8> {
    const VERSION_AND_ALGORITHM: [u8; 18] =
        [0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let key = der(0x04, pkcs1);
    der(0x30, &[VERSION_AND_ALGORITHM.as_slice(), &key].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, bytes: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(bytes))
    }

    #[test]
    fn both_forms_of_a_key_are_read() {
        // What `openssl pkcs8 -topk8` writes before a PKCS#1 key of 608 bytes.
        let header = hex::decode("30820276020100300d06092a864886f70d010101050004820260").expect("hex");
        let pkcs1 = [7; 608];
        let pkcs8 = [header.as_slice(), &pkcs1].concat();
        assert_eq!(pkcs8_of_pem(&pem("RSA PRIVATE KEY", &pkcs1)), Some(pkcs8.clone()));
        assert_eq!(pkcs8_of_pem(&pem("PRIVATE KEY", &pkcs8)), Some(pkcs8.clone()));
        let escaped = pem("PRIVATE KEY", &pkcs8).replace('\n', "\\n");
        assert_eq!(pkcs8_of_pem(&escaped), Some(pkcs8), "line breaks may be escaped");
        for bad in ["", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----"] {
            assert_eq!(pkcs8_of_pem(bad), None, "{bad}");
        }
    }

    #[test]
    fn lengths_are_written_as_der_has_them() {
        assert_eq!(der(4, &[1]), [4, 1, 1]);
        assert_eq!(der(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(der(4, &[0; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn a_token_is_good_for_less_than_ten_minutes() {
        let unsigned = unsigned("123", UnixMillis(1_700_000_000_999));
        let parts: Vec<String> = unsigned
            .split('.')
            .map(|part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("text"))
            .collect();
        assert_eq!(parts[0], r#"{"alg":"RS256","typ":"JWT"}"#);
        assert_eq!(parts[1], r#"{"exp":1700000540,"iat":1699999940,"iss":"123"}"#);
    }
}
