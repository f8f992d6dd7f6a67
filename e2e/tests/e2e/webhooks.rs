//! The bots' Workers: a signed delivery is stored once, a forged one is not.

use std::time::{Duration, Instant};

use e2e::api::{Person, signed};
use e2e::bridge::Bridge;
use e2e::{Failed, Outcome, check, check_eq};
use hmac::{Hmac, Mac};
use reqwest::Method;
use serde_json::json;
use sha2::Sha256;

use crate::World;

fn sign(secret: &str, text: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(text);
    hex::encode(mac.finalize().into_bytes())
}

struct Delivery {
    url: String,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    forged: Vec<(&'static str, String)>,
}

async fn post(url: &str, headers: &[(&'static str, String)], body: &[u8]) -> Outcome<u16> {
    let mut request = reqwest::Client::new().post(url).header("Content-Type", "application/json").body(body.to_vec());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Ok(request.send().await?.status().as_u16())
}

pub async fn a_signed_delivery_is_stored_once_and_a_forged_one_is_not(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let need = |url: &Option<String>, name: &str| url.clone().ok_or_else(|| Failed(format!("no {name} Worker")));
    let secret = |name: &str| ready.webhook_secrets[name].as_str().unwrap_or_default().to_owned();
    let seconds = (e2e::service_auth::now_ms() / 1000).to_string();
    let millis = e2e::service_auth::now_ms();
    let github =
        br#"{"action":"opened","repository":{"full_name":"acme/sample-service"},"sender":{"login":"ada"}}"#.to_vec();
    let slack =
        br#"{"type":"event_callback","event_id":"Ev-e2e-1","team_id":"T1","event":{"type":"app_mention"}}"#.to_vec();
    let linear =
        format!(r#"{{"type":"AgentSessionEvent","action":"created","webhookTimestamp":{millis},"webhookId":"w1"}}"#)
            .into_bytes();
    let slack_base = [b"v0:", seconds.as_bytes(), b":", &slack[..]].concat();
    let deliveries = [
        Delivery {
            url: need(&ready.github_url, "GitHub")? + "/webhooks/github",
            headers: vec![
                ("X-Hub-Signature-256", format!("sha256={}", sign(&secret("github"), &github))),
                ("X-GitHub-Event", "pull_request".to_owned()),
                ("X-GitHub-Delivery", "e2e-delivery-1".to_owned()),
            ],
            forged: vec![
                ("X-Hub-Signature-256", format!("sha256={}", sign("wrong", &github))),
                ("X-GitHub-Event", "pull_request".to_owned()),
                ("X-GitHub-Delivery", "e2e-delivery-2".to_owned()),
            ],
            body: github,
        },
        Delivery {
            url: need(&ready.slack_url, "Slack")? + "/events",
            headers: vec![
                ("X-Slack-Signature", format!("v0={}", sign(&secret("slack"), &slack_base))),
                ("X-Slack-Request-Timestamp", seconds.clone()),
            ],
            forged: vec![
                ("X-Slack-Signature", format!("v0={}", sign("wrong", &slack_base))),
                ("X-Slack-Request-Timestamp", seconds.clone()),
            ],
            body: slack,
        },
        Delivery {
            url: need(&ready.linear_url, "Linear")? + "/webhook",
            headers: vec![
                ("Linear-Signature", sign(&secret("linear"), &linear)),
                ("Linear-Delivery", "e2e-linear-1".to_owned()),
                ("Linear-Event", "AgentSessionEvent".to_owned()),
            ],
            forged: vec![
                ("Linear-Signature", sign("wrong", &linear)),
                ("Linear-Delivery", "e2e-linear-2".to_owned()),
                ("Linear-Event", "AgentSessionEvent".to_owned()),
            ],
            body: linear,
        },
    ];
    for delivery in &deliveries {
        check_eq!(post(&delivery.url, &delivery.forged, &delivery.body).await?, 401, "forged, {}", delivery.url);
        check_eq!(post(&delivery.url, &[], &delivery.body).await?, 401, "unsigned, {}", delivery.url);
        for attempt in 1..=2 {
            let status = post(&delivery.url, &delivery.headers, &delivery.body).await?;
            check!((200..300).contains(&status), "delivery {attempt} to {}: {status}", delivery.url);
        }
        let health = delivery.url.split('/').take(3).collect::<Vec<_>>().join("/") + "/health";
        check_eq!(reqwest::get(&health).await?.status().as_u16(), 200, "{health}");
    }
    let stored = signed(ready, "web", Method::GET, "/internal/webhook-deliveries", None).await?;
    let rows = stored.json["deliveries"].as_array().cloned().unwrap_or_default();
    let count = |id: &str| rows.iter().filter(|row| row["deliveryId"] == id).count();
    for (id, stored_times) in
        [("e2e-delivery-1", 1), ("e2e-delivery-2", 0), ("Ev-e2e-1", 1), ("e2e-linear-1", 1), ("e2e-linear-2", 0)]
    {
        check_eq!(count(id), stored_times, "{id}: stored once, and a forged one not ({})", stored.text);
    }
    Ok(())
}

pub async fn a_bot_is_told_once_how_its_prompt_ended(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let body = json!({"content": "from Slack", "source": "slack", "callbackContext": {
        "source": "slack", "channel": "C1", "threadTs": "1.2", "repoFullName": "acme/sample-service", "model": "demo/scripted",
    }});
    let path = format!("/sessions/{session}/prompt");
    let queued = signed(ready, "slack-bot", Method::POST, &path, Some(&body)).await?;
    check_eq!(queued.status.as_u16(), 200, "the bot's prompt ({})", queued.text);
    let message = queued.json["messageId"].as_str().unwrap_or_default().to_owned();
    let mut bridge = Bridge::new(world.backend()?.sandbox_of(&session).await?);
    check!(bridge.connect(ready).await?.is_ok(), "the bridge connects");
    bridge.emit(json!({"type": "ready", "runtimeVersion": "v100-e2e"})).await;
    bridge.listen(Duration::from_secs(20), |bridge| !bridge.prompts.is_empty()).await?;
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(20), Bridge::is_settled).await?;
    let key = format!("callback:complete:{session}:{message}");
    let begun = Instant::now();
    loop {
        let stored = signed(ready, "web", Method::GET, "/internal/webhook-deliveries", None).await?;
        let rows = stored.json["deliveries"].as_array().cloned().unwrap_or_default();
        let told = rows.iter().filter(|row| row["event"] == "callback.complete" && row["source"] == "slack").count();
        if told > 0 {
            check_eq!(told, 1, "told once ({})", stored.text);
            check!(stored.text.contains(&key), "under its key: {}", stored.text);
            break;
        }
        check!(begun.elapsed() < Duration::from_secs(20), "the bot was not told: {}", stored.text);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let left = ada.call(Method::GET, &format!("/api/sessions/{session}/deliveries"), None).await?;
    check!(!left.text.contains("bot_callback"), "nothing is left to deliver: {}", left.text);
    Ok(())
}
