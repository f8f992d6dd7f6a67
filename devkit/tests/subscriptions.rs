//! The two vendors' sign-in endpoints, as their own programs use them: OpenAI's by
//! `codex-rs/login/src/device_code_auth.rs` of openai/codex, xAI's by RFC 8628.

use devkit::subscriptions::{Subscriptions, Vendor};
use serde_json::{Value, json};

const OPENAI_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
const XAI_CLIENT: &str = "b1a00492-073a-47ea-816f-4c329264a828";

async fn running() -> (Subscriptions, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let all = Subscriptions::new(&base);
    tokio::spawn(all.clone().serve(listener));
    (all, base)
}

async fn json_post(url: String, body: Value) -> (u16, Value) {
    let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

async fn form_post(url: String, fields: &[(&str, &str)]) -> (u16, Value) {
    let answer = reqwest::Client::new().post(url).form(fields).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn openais_device_is_authorised_and_its_code_is_exchanged_once() {
    let (all, base) = running().await;
    let (status, device) =
        json_post(format!("{base}/api/accounts/deviceauth/usercode"), json!({"client_id": OPENAI_CLIENT})).await;
    assert_eq!((status, &device["interval"]), (200, &json!("1")), "the interval is a text: {device}");
    let poll = json!({"device_auth_id": device["device_auth_id"], "user_code": device["user_code"]});
    let url = format!("{base}/api/accounts/deviceauth/token");
    assert_eq!(json_post(url.clone(), poll.clone()).await.0, 403, "pending");
    assert!(all.approve(device["user_code"].as_str().expect("a code"), "account-1"));
    let (status, code) = json_post(url.clone(), poll.clone()).await;
    assert!(status == 200 && code["code_challenge"].is_string(), "{code}");
    assert_eq!(json_post(url, poll).await.0, 404, "it is taken");
    let redirect = format!("{base}/deviceauth/callback");
    let exchange = [
        ("grant_type", "authorization_code"),
        ("code", code["authorization_code"].as_str().expect("a code")),
        ("redirect_uri", &redirect),
        ("client_id", OPENAI_CLIENT),
        ("code_verifier", code["code_verifier"].as_str().expect("a verifier")),
    ];
    let (status, tokens) = form_post(format!("{base}/oauth/token"), &exchange).await;
    assert!(status == 200 && tokens["id_token"].is_string() && tokens["refresh_token"].is_string(), "{tokens}");
    assert_eq!(form_post(format!("{base}/oauth/token"), &exchange).await.0, 400);
}

#[tokio::test]
async fn a_refresh_token_is_good_once() {
    let (all, base) = running().await;
    let first = all.refresh_token(Vendor::Openai, "account-1");
    let refresh = async |token: &str| {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", OPENAI_CLIENT)];
        form_post(format!("{base}/oauth/token"), &fields).await
    };
    let (status, tokens) = refresh(&first).await;
    assert_eq!(status, 200);
    let (status, reused) = refresh(&first).await;
    assert_eq!((status, &reused["error"]["code"]), (401, &json!("refresh_token_reused")));
    all.trouble(Some(503));
    let second = tokens["refresh_token"].as_str().expect("a token");
    assert_eq!(refresh(second).await.0, 503);
    all.trouble(None);
    assert_eq!(refresh(second).await.0, 200, "trouble spends nothing");
    assert_eq!(all.counts().0, 4);
}

#[tokio::test]
async fn xais_device_follows_rfc_8628() {
    let (all, base) = running().await;
    let (status, device) = form_post(
        format!("{base}/oauth2/device/code"),
        &[("client_id", XAI_CLIENT), ("scope", "openid profile email offline_access grok-cli:access api:access")],
    )
    .await;
    assert_eq!((status, device["expires_in"].as_i64()), (200, Some(600)), "{device}");
    let poll = async || {
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device["device_code"].as_str().expect("a code")),
            ("client_id", XAI_CLIENT),
        ];
        form_post(format!("{base}/oauth2/token"), &fields).await
    };
    assert_eq!(poll().await, (400, json!({"error": "authorization_pending"})));
    assert!(all.approve(device["user_code"].as_str().expect("a code"), "user-1"));
    let (status, tokens) = poll().await;
    assert_eq!(status, 200);
    assert_eq!(poll().await, (400, json!({"error": "expired_token"})));
    let info = reqwest::Client::new()
        .get(format!("{base}/oauth2/userinfo"))
        .bearer_auth(tokens["access_token"].as_str().expect("a token"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(info.json::<Value>().await.expect("JSON")["sub"], "user-1");
    assert!(!all.deny("no such code"));
}
