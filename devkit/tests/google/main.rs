//! The stand-in for Google over real HTTP: its flow, what it refuses, and that its flawed tokens are flawed.
#![allow(clippy::unwrap_used, reason = "a test that can't go on stops")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use devkit::google::{Config, Google, serve};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const VERIFIER: &str = "0123456789012345678901234567890123456789012";
const BACK: &str = "http://127.0.0.1:1/api/auth/callback/google";

struct Run {
    origin: String,
    client: reqwest::Client,
}

impl Run {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let config: Config = serde_json::from_value(json!({
            "publicUrl": origin, "clientId": "client", "clientSecret": "hush", "adminSecret": "admin",
            "redirectOrigins": ["http://127.0.0.1:1/api/auth"],
        }))
        .unwrap();
        tokio::spawn(serve(listener, Google::new(config).unwrap()));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { origin, client }
    }

    async fn consent(&self, change: &[(&str, &str)]) -> (u16, Option<url::Url>) {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut form = vec![
            ("client_id", "client"),
            ("redirect_uri", BACK),
            ("response_type", "code"),
            ("scope", "openid email profile"),
            ("state", "s"),
            ("nonce", "n"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("access_type", "offline"),
            ("login", "ada"),
        ];
        form.retain(|(name, _)| !change.iter().any(|(changed, _)| changed == name));
        form.extend_from_slice(change);
        let answer = self.post("/o/oauth2/v2/auth", &form).await;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        (answer.status().as_u16(), location.map(|location| location.parse().unwrap()))
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.client.post(format!("{}{path}", self.origin));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(body).send().await.unwrap()
    }

    async fn code(&self) -> String {
        let (status, location) = self.consent(&[]).await;
        assert_eq!(status, 302);
        let query: Vec<(String, String)> = location.unwrap().query_pairs().into_owned().collect();
        assert!(query.contains(&("state".into(), "s".into())));
        query.into_iter().find(|(name, _)| name == "code").unwrap().1
    }

    async fn exchange(&self, code: &str, change: &[(&str, &str)]) -> (u16, Value) {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", "client"),
            ("client_secret", "hush"),
            ("code", code),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
        ];
        form.retain(|(name, _)| !change.iter().any(|(changed, _)| changed == name));
        form.extend_from_slice(change);
        let answer = self.post("/token", &form).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn admin(&self, path: &str, body: &Value, secret: &str) -> u16 {
        let request = self.client.post(format!("{}{path}", self.origin)).bearer_auth(secret).json(body);
        request.send().await.unwrap().status().as_u16()
    }

    /// Verifies as a careful client would.
    async fn verified(&self, id_token: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let keys: Value =
            self.client.get(format!("{}/oauth2/v3/certs", self.origin)).send().await.unwrap().json().await.unwrap();
        let key = &keys["keys"][0];
        let key = DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap())?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[&self.origin]);
        validation.set_audience(&["client"]);
        jsonwebtoken::decode(id_token, &key, &validation).map(|token| token.claims)
    }
}

#[tokio::test]
async fn a_code_becomes_an_id_token_once_and_a_refresh_token_many() {
    let run = Run::start().await;
    let code = run.code().await;
    let (status, given) = run.exchange(&code, &[]).await;
    assert_eq!(status, 200, "{given}");
    let claims = run.verified(given["id_token"].as_str().unwrap()).await.unwrap();
    assert_eq!(
        (&claims["email"], &claims["email_verified"], &claims["nonce"]),
        (&json!("ada@example.com"), &json!(true), &json!("n"))
    );
    assert_eq!(run.exchange(&code, &[]).await.1["error"], "invalid_grant", "a code is used once");
    let refresh = given["refresh_token"].as_str().unwrap();
    let again = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    for _ in 0..2 {
        let (status, given) = run.exchange("", &again).await;
        assert_eq!(status, 200, "{given}");
        let refreshed = run.verified(given["id_token"].as_str().unwrap()).await.unwrap();
        assert_eq!((&refreshed["sub"], &refreshed["nonce"]), (&claims["sub"], &Value::Null));
    }
    assert_eq!(run.admin("/_admin/people", &json!({"login": "ada", "closed": true}), "admin").await, 204);
    assert_eq!(run.exchange("", &again).await.1["error"], "invalid_grant", "the account is closed");
}

#[tokio::test]
async fn what_google_refuses_is_refused() {
    let run = Run::start().await;
    for change in [
        ("client_id", "another"),
        ("redirect_uri", "http://127.0.0.1:1/elsewhere"),
        ("redirect_uri", "http://evil.example/api/auth"),
        ("response_type", "token"),
        ("scope", "email"),
        ("code_challenge_method", "plain"),
        ("login", "nobody"),
    ] {
        let (status, location) = run.consent(&[change]).await;
        assert!((400..500).contains(&status) && location.is_none(), "{change:?}: {status}");
    }
    for change in [
        ("client_secret", "wrong"),
        ("code_verifier", "another"),
        ("redirect_uri", "http://127.0.0.1:1/api/auth/callback/github"),
        ("grant_type", "password"),
    ] {
        let code = run.code().await;
        let (status, given) = run.exchange(&code, &[change]).await;
        assert!((400..500).contains(&status) && given["error"].is_string(), "{change:?}: {given}");
    }
    assert_eq!(run.admin("/_admin/flaw", &json!({"flaw": "nonce"}), "wrong").await, 401);
}

#[tokio::test]
async fn a_flawed_token_is_no_good_and_the_next_one_is() {
    let run = Run::start().await;
    for flaw in ["alg-none", "alg-hs256", "other-key", "tampered", "issuer", "audience", "expired"] {
        assert_eq!(run.admin("/_admin/flaw", &json!({ "flaw": flaw }), "admin").await, 204);
        let given = run.exchange(&run.code().await, &[]).await.1;
        assert!(run.verified(given["id_token"].as_str().unwrap()).await.is_err(), "{flaw}");
    }
    let given = run.exchange(&run.code().await, &[]).await.1;
    assert!(run.verified(given["id_token"].as_str().unwrap()).await.is_ok());
}
