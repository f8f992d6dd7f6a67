//! The stand-ins of the clouds refuse what the vendors would, and fail as they are told to.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use devkit::vendors::daytona::Daytona;
use devkit::vendors::e2b::E2b;
use devkit::vendors::edge::{Fake, Trouble, Vendor};
use devkit::vendors::modal::Modal;
use devkit::vendors::opencomputer::OpenComputer;
use devkit::vendors::vercel::Vercel;
use serde_json::{Value, json};

const KEY: &str = "good-key";

async fn post<V: Vendor>(fake: &Fake<V>, path: &str, header: (&str, String), body: &Value) -> (u16, String) {
    let request = reqwest::Client::new().post(format!("{}{path}", fake.url)).header(header.0, header.1).json(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// A good body passes; the same with an unknown field, and with another key, does not.
async fn is_strict<V: Vendor>(fake: &Fake<V>, path: &str, header: (&'static str, &str), good: Value, refusal: u16) {
    let of = |key: &str| (header.0, format!("{}{key}", header.1));
    let stranger = post(fake, path, of("another"), &good).await;
    assert_eq!(stranger.0, refusal, "{path} with another key: {}", stranger.1);
    let mut odd = good.clone();
    odd["nobodyKnows"] = json!(1);
    let unknown = post(fake, path, of(KEY), &odd).await;
    assert_eq!(unknown.0, 400, "{path} with an unknown field: {}", unknown.1);
    let nowhere = post(fake, "/nowhere", of(KEY), &good).await;
    assert_eq!(nowhere.0, 404, "{}", nowhere.1);
    let done = post(fake, path, of(KEY), &good).await;
    assert!((200..300).contains(&done.0), "{path}: {done:?}");
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn only_the_right_key_path_and_fields_are_taken() {
    let daytona = Fake::start(Daytona::new(KEY, "base")).await.unwrap();
    let new = json!({"name": "a", "snapshot": "base"});
    is_strict(&daytona, "/sandbox", ("authorization", "Bearer "), new, 401).await;
    let e2b = Fake::start(E2b::new(KEY, "base")).await.unwrap();
    is_strict(&e2b, "/sandboxes", ("x-api-key", ""), json!({"templateID": "base"}), 401).await;
    let vercel = Fake::start(Vercel::new(KEY, "prj", "base")).await.unwrap();
    is_strict(&vercel, "/v2/sandboxes", ("authorization", "Bearer "), json!({"projectId": "prj"}), 403).await;
    let opencomputer = Fake::start(OpenComputer::new(KEY, "base")).await.unwrap();
    is_strict(&opencomputer, "/api/sandboxes", ("x-api-key", ""), json!({"snapshot": "base"}), 401).await;
}

#[tokio::test]
async fn modals_app_takes_no_call_without_a_fresh_signature() {
    let modal = Fake::start(Modal::new(KEY)).await.unwrap();
    // Of 2001, and of no time at all.
    for token in ["1000000000000.00", "Bearer", "now.abc"] {
        let header = ("authorization", format!("Bearer {token}"));
        let said = post(&modal, "/api-find-sandbox", header, &json!({"sandbox_id": "a"})).await;
        assert_eq!(said.0, 401, "{token}: {}", said.1);
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_the_work_done_and_an_ordered_failure_does_not() {
    let fake = Fake::start(Daytona::new(KEY, "base")).await.unwrap();
    let header = || ("authorization", format!("Bearer {KEY}"));
    fake.order("POST", "/sandbox", Trouble::Status(503, "later".to_owned()), 1);
    let (status, text) = post(&fake, "/sandbox", header(), &json!({"name": "a", "snapshot": "base"})).await;
    assert!(status == 503 && text.contains("later"), "{status} {text}");
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 0);
    fake.order_after("POST", "/sandbox", Trouble::Hang, 1);
    let body = json!({"name": "a", "snapshot": "base"});
    let request = post(&fake, "/sandbox", header(), &body);
    assert!(tokio::time::timeout(Duration::from_millis(500), request).await.is_err(), "no answer comes");
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 1);
}
