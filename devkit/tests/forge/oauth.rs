//! Signing in.

use base64::Engine as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::*;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn challenge() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

#[tokio::test]
async fn a_person_signs_in_with_pkce() {
    let forge = TestForge::start().await;
    let challenge = challenge();
    let query = [
        ("client_id", CLIENT_ID),
        ("redirect_uri", CALLBACK),
        ("state", "a&b\"<"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let shown = forge.http.get(format!("{}/login/oauth/authorize", forge.url)).query(&query).send().await.unwrap();
    let page = Answer::of(shown).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Continue as Ada Lovelace"));
    assert!(page.text.contains("value=\"a&amp;b&quot;&lt;\""), "{}", page.text);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' http://127.0.0.1:9;"), "{policy}");

    let mut form = query.to_vec();
    form.push(("login", "ada"));
    let consent = forge.authorize(&form).await;
    assert_eq!(consent.answer.status, 302);
    let back = url::Url::parse(&consent.location).unwrap();
    assert!(consent.location.starts_with(CALLBACK));
    assert!(back.query_pairs().any(|(name, value)| name == "state" && value == "a&b\"<"));

    let tokens = forge.exchange(&[("code", &consent.code), ("code_verifier", VERIFIER)]).await.expect(200);
    assert_eq!(tokens["token_type"], "bearer");
    assert_eq!((&tokens["scope"], &tokens["expires_in"]), (&json!(""), &json!(28_800)));
    let token = tokens["access_token"].as_str().unwrap();
    assert!(token.starts_with("ghu_") && tokens["refresh_token"].as_str().unwrap().starts_with("ghr_"));

    let user = forge.get("/user", token).await.expect(200);
    assert_eq!((&user["login"], &user["name"], &user["id"]), (&json!("ada"), &json!("Ada Lovelace"), &json!(1815)));
    let emails = forge.get("/user/emails", token).await.expect(200);
    assert_eq!(emails[0]["email"], "ada@example.com");
    assert_eq!(emails[0]["verified"], true);
    let membership = forge.get("/user/memberships/orgs/acme", token).await.expect(200);
    assert_eq!((&membership["state"], &membership["role"]), (&json!("active"), &json!("admin")));
    let linus = forge.user_token("linus").await;
    forge.get("/user/memberships/orgs/acme", &linus).await.expect(404);
    forge.get("/user", "").await.expect(401);
    assert_eq!(forge.get("/users/grace", "").await.expect(200)["id"], 1906);
}

#[tokio::test]
async fn a_code_works_once_and_only_as_it_was_asked_for() {
    let forge = TestForge::start().await;
    let challenge = challenge();
    let with_pkce = [
        ("client_id", CLIENT_ID),
        ("redirect_uri", CALLBACK),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("login", "ada"),
    ];
    let error = |answer: Answer| answer.expect(200)["error"].as_str().unwrap_or("none").to_owned();

    let code = forge.authorize(&with_pkce).await.code;
    assert_eq!(error(forge.exchange(&[("code", &code)]).await), "bad_verification_code", "no verifier");
    assert_eq!(
        error(forge.exchange(&[("code", &code), ("code_verifier", VERIFIER)]).await),
        "bad_verification_code",
        "a failed try uses the code up"
    );
    let code = forge.authorize(&with_pkce).await.code;
    let wrong = "x".repeat(43);
    assert_eq!(error(forge.exchange(&[("code", &code), ("code_verifier", &wrong)]).await), "bad_verification_code");
    let code = forge.authorize(&with_pkce).await.code;
    let other = "http://127.0.0.1:9/api/auth/other";
    assert_eq!(error(forge.exchange(&[("code", &code), ("redirect_uri", other)]).await), "redirect_uri_mismatch");
    let code = forge.authorize(&with_pkce).await.code;
    assert_eq!(
        error(forge.exchange(&[("code", &code), ("client_secret", "wrong")]).await),
        "incorrect_client_credentials"
    );
    let good = [("code", code.as_str()), ("code_verifier", VERIFIER), ("redirect_uri", CALLBACK)];
    assert_eq!(error(forge.exchange(&good).await), "none");
    assert_eq!(error(forge.exchange(&good).await), "bad_verification_code", "used twice");
    assert_eq!(error(forge.exchange(&[("code", "")]).await), "bad_verification_code");
    assert_eq!(error(forge.exchange(&[("grant_type", "password")]).await), "unsupported_grant_type");
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_once_and_ends_the_old_pair() {
    let forge = TestForge::start().await;
    let first = forge.sign_in("grace").await;
    let refresh = first["refresh_token"].as_str().unwrap();
    let grant = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let second = forge.exchange(&grant).await.expect(200);
    let token = second["access_token"].as_str().unwrap();
    assert_eq!(forge.get("/user", token).await.expect(200)["login"], "grace");
    forge.get("/user", first["access_token"].as_str().unwrap()).await.expect(401);
    assert_eq!(forge.exchange(&grant).await.expect(200)["error"], "bad_refresh_token");
    // A refresh token is no access token, and the other way round.
    forge.get("/user", second["refresh_token"].as_str().unwrap()).await.expect(401);
    let swapped = [("grant_type", "refresh_token"), ("refresh_token", token)];
    assert_eq!(forge.exchange(&swapped).await.expect(200)["error"], "bad_refresh_token");
}

#[tokio::test]
async fn nobody_is_sent_where_the_client_did_not_register() {
    let forge = TestForge::start().await;
    for redirect in [
        "http://127.0.0.1:10/api/auth/callback/github",
        "https://127.0.0.1:9/api/auth/callback/github",
        "http://127.0.0.1:9/",
        "http://127.0.0.1:9/api/authority",
        "http://127.0.0.1:9/api/auth/../../x",
        "http://user@127.0.0.1:9/api/auth/x",
        "http://127.0.0.1:9@evil.example/api/auth/x",
        "http://evil.example/api/auth/x",
        "javascript:alert(1)//127.0.0.1:9/api/auth/x",
        "//127.0.0.1:9/api/auth/x",
        "",
    ] {
        let form = [("client_id", CLIENT_ID), ("redirect_uri", redirect), ("login", "ada")];
        let consent = forge.authorize(&form).await;
        assert_eq!((consent.answer.status, consent.location.as_str()), (400, ""), "{redirect}");
    }
    let good = |extra: &[(&'static str, &'static str)]| {
        let mut form = vec![("client_id", CLIENT_ID), ("redirect_uri", CALLBACK), ("login", "ada")];
        form.retain(|(name, _)| extra.iter().all(|(other, _)| other != name));
        form.extend(extra);
        form
    };
    assert_eq!(forge.authorize(&good(&[])).await.answer.status, 302);
    assert_eq!(forge.authorize(&good(&[("client_id", "other")])).await.answer.status, 404);
    assert_eq!(forge.authorize(&good(&[("login", "nobody")])).await.answer.status, 400);
    // Organisations and bots don't sign in.
    assert_eq!(forge.authorize(&good(&[("login", "acme")])).await.answer.status, 400);
    assert_eq!(
        forge.authorize(&good(&[("code_challenge", "short"), ("code_challenge_method", "S256")])).await.answer.status,
        400
    );
    let plain = good(&[("code_challenge", VERIFIER), ("code_challenge_method", "plain")]);
    assert_eq!(forge.authorize(&plain).await.answer.status, 400);
    let cancelled = forge.authorize(&good(&[("login", "-")])).await;
    assert!(cancelled.location.contains("error=access_denied") && cancelled.code.is_empty());
}

#[tokio::test]
async fn another_sites_form_signs_nobody_in() {
    let forge = TestForge::start().await;
    let form = [("client_id", CLIENT_ID), ("redirect_uri", CALLBACK), ("login", "ada")];
    for (origin, status) in [("http://evil.example", 403), ("null", 403), (forge.url.as_str(), 302)] {
        let response = forge
            .http
            .post(format!("{}/login/oauth/authorize", forge.url))
            .header("origin", origin)
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{origin}");
    }
}
