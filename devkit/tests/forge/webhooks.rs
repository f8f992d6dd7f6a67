//! Events, as a receiver gets them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::*;

#[derive(Clone, Default)]
struct Inbox {
    events: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    refusals: Arc<Mutex<u32>>,
}

impl Inbox {
    /// Starts a receiver that answers 503 this often before it takes anything; answers its address.
    async fn start(refusals: u32) -> (Self, String) {
        let inbox = Self { refusals: Arc::new(Mutex::new(refusals)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(inbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (inbox, url)
    }

    /// Waits for this many events.
    async fn wait(&self, count: usize) -> Vec<(String, Value)> {
        for _ in 0..200 {
            if self.events.lock().unwrap().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let events = self.events.lock().unwrap();
        events
            .iter()
            .map(|(headers, body)| {
                let event = headers["x-github-event"].to_str().unwrap().to_owned();
                (event, serde_json::from_slice(body).unwrap())
            })
            .collect()
    }
}

async fn take(State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes) -> StatusCode {
    {
        let mut refusals = inbox.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
    }
    inbox.events.lock().unwrap().push((headers, body));
    StatusCode::ACCEPTED
}

#[tokio::test]
async fn events_are_signed_and_tell_the_whole_story() {
    let (inbox, url) = Inbox::start(1).await;
    let forge = TestForge::start_with(json!({ "webhook": { "url": url, "secret": "hook-secret" } })).await;
    let token = forge.installation_token(json!({})).await;
    forge.open_pull(&token, "one", "One").await;
    let checkout = forge.clone_sample(&token).await;
    checkout.git(&["checkout", "-q", "one"]).await.ok();
    let head = checkout.commit("b.txt", "b\n", "More").await;
    checkout.git(&["push", "-q", "origin", "one"]).await.ok();
    let pulls = "/repos/acme/sample-service/pulls/1";
    for state in ["closed", "open"] {
        forge.call("PATCH", pulls, &token, Some(json!({ "state": state }))).await.expect(200);
    }
    forge.call("PUT", &format!("{pulls}/merge"), &token, None).await.expect(200);

    let events = inbox.wait(8).await;
    let told: Vec<String> = events
        .iter()
        .map(|(event, body)| match event.as_str() {
            "push" => format!("push {}", body["ref"].as_str().unwrap()),
            _ => format!("{event} {}", body["action"].as_str().unwrap()),
        })
        .collect();
    assert_eq!(
        told,
        [
            "push refs/heads/one",
            "pull_request opened",
            "push refs/heads/one",
            "pull_request synchronize",
            "pull_request closed",
            "pull_request reopened",
            "push refs/heads/main",
            "pull_request closed",
        ]
    );
    let published: Value = serde_json::from_str(include_str!("../fixtures/github-webhooks.json")).unwrap();
    for (event, body) in &events {
        let name = match body["action"].as_str() {
            Some(action) => format!("{}-{action}", event.replace('_', "-")),
            None => event.clone(),
        };
        let mut schema = json!({ "allOf": [published["webhooks"][&name]] });
        assert!(schema["allOf"][0].is_object(), "{name} is not described");
        schema["$defs"] = published["$defs"].clone();
        let validator = jsonschema::options().should_validate_formats(false).build(&schema).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(body).map(|e| format!("{} at {}", e.masked(), e.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
    let (_, created) = &events[0];
    assert_eq!((&created["created"], &created["pusher"]["name"]), (&json!(true), &json!("open-inspect-dev[bot]")));
    let (_, synchronized) = &events[3];
    assert_eq!(synchronized["after"], head);
    assert_eq!(synchronized["pull_request"]["head"]["sha"], head);
    assert_eq!(synchronized["installation"]["id"], INSTALLATION);
    assert_eq!(synchronized["sender"]["type"], "Bot");
    assert_eq!(events[4].1["pull_request"]["merged"], false);
    assert_eq!(events[7].1["pull_request"]["merged"], true);

    let mut ids = std::collections::BTreeSet::new();
    for (headers, body) in inbox.events.lock().unwrap().iter() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"hook-secret").unwrap();
        mac.update(body);
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        assert_eq!(headers["x-hub-signature-256"], signature);
        let id = headers["x-github-delivery"].to_str().unwrap();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
        ids.insert(id.to_owned());
    }
    assert_eq!(ids.len(), 8);
}
