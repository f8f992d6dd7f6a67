use std::collections::BTreeMap;

use devkit::vendors::edge::{Fake, Trouble};
use devkit::vendors::modal::Modal as Cloud;

use super::*;
use crate::sandbox_backend::modal::Modal;
use crate::sandbox_backend::{Fate, Restored};

async fn start(more: &[(&str, &str)]) -> (Fake<Cloud>, Modal<Native>) {
    let fake = Fake::start(Cloud::new(KEY)).await.expect("listens");
    let mut vars = BTreeMap::from([("MODAL_API_URL", fake.url.as_str()), ("MODAL_API_SECRET", KEY)]);
    vars.extend(more.iter().copied());
    let backend = Modal::of(&vars, Native::new()).expect("configured");
    (fake, backend)
}

#[tokio::test]
async fn a_sandbox_is_created_by_a_signed_call() {
    let (fake, backend) = start(&[]).await;
    let mut asked = request();
    let mut second = asked.repositories[0].clone();
    second.repo_name = "lib".to_owned();
    asked.repositories.push(second);
    let sandbox = backend.create(&asked).await.expect("starts");
    assert_eq!(codes(&sandbox).0, "https://sb-modal1-8080.modal.example");
    let access = sandbox.access.expect("reached");
    assert_eq!((access.vnc.map(|door| door.secret).as_deref(), access.tunnel_urls.len()), (Some("deskpass"), 1));
    fake.with(|cloud| {
        let body = &cloud.sandboxes[0].body;
        assert_eq!((&body["repo_owner"], &body["branch"]), (&"acme".into(), &"main".into()));
        assert_eq!((&body["provider"], &body["model"]), (&"anthropic".into(), &"claude-sonnet-4-6".into()));
        assert_eq!(body["user_env_vars"]["USER_SECRET"], USER_SECRET);
        assert_eq!(body["repositories"].as_array().map(Vec::len), Some(2));
    });
    let seen = &fake.seen()[0];
    assert_eq!((seen.path.as_str(), seen.header("x-sandbox-id")), ("/api-create-sandbox", "sandbox-acme-app-1"));
    assert!(!seen.header("authorization").contains(KEY), "the key signs, and stays");
    let another = Modal::of(
        &BTreeMap::from([("MODAL_API_URL", fake.url.as_str()), ("MODAL_API_SECRET", "other")]),
        Native::new(),
    );
    let error = another.expect("configured").create(&request()).await.expect_err("its signature is bad");
    assert!(error.is_outage() && !error.is_transient(), "{error}");
    no_secret_is_in_an_address(&fake);
}

#[test]
fn endpoints_are_hosts_of_the_workspace() {
    let urls = |more: &[(&'static str, &'static str)]| {
        let mut vars = BTreeMap::from([("MODAL_API_SECRET", KEY), ("MODAL_WORKSPACE", "acme")]);
        vars.extend(more.iter().copied());
        Modal::of(&vars, Native::new()).expect("configured").url("api-create-sandbox")
    };
    assert_eq!(urls(&[]), "https://acme--open-inspect-api-create-sandbox.modal.run");
    assert_eq!(
        urls(&[("MODAL_ENVIRONMENT_WEB_SUFFIX", "staging")]),
        "https://acme-staging--open-inspect-api-create-sandbox.modal.run"
    );
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_found_and_not_doubled() {
    let (fake, backend) = start(&[]).await;
    fake.order_after("POST", "/api-create-sandbox", Trouble::CutOff, 1);
    assert!(backend.create(&request()).await.is_err_and(|error| error.is_transient()));
    let found = backend.find(&request()).await.expect("answers").expect("it is there");
    assert_eq!(backend.create(&request()).await.expect("it is taken up"), found);
    assert_eq!(backend.find(&named("another")).await, Ok(None));
    for _ in 0..2 {
        backend.stop(&request().sandbox_id, None, Fate::Parked).await.expect("ends, and has ended");
    }
    assert!(!fake.with(|cloud| cloud.sandboxes[0].running));
}

#[tokio::test]
async fn an_app_without_our_endpoints_does_without() {
    let (fake, backend) = start(&[]).await;
    fake.order("POST", "/api-find-sandbox", Trouble::Page(404), 1);
    assert_eq!(backend.find(&named("sandbox-1")).await, Ok(None));
    fake.order("POST", "/api-stop-sandbox", Trouble::Page(404), 1);
    backend.stop("sandbox-1", None, Fate::Parked).await.expect("its time ends it");
}

#[tokio::test]
async fn files_are_kept_restored_and_deleted() {
    let (fake, backend) = start(&[]).await;
    let sandbox = backend.create(&request()).await.expect("starts");
    let label = format!("{}-7", request().session_id);
    let image = backend.take_snapshot(&sandbox.provider_object_id, &label, true).await.expect("kept");
    assert_eq!(fake.seen().last().map(|seen| seen.header("x-session-id").to_owned()), Some(request().session_id));
    backend.restore(&named("sandbox-2"), Restored::Image(&image)).await.expect("starts");
    fake.with(|cloud| assert_eq!(cloud.sandboxes[1].body["session_config"]["session_id"], request().session_id));
    let error = backend.take_snapshot("sb-unknown", &label, false).await.expect_err("it is not there");
    assert!(matches!(error, BackendError::Status { status: 404, .. }) && !error.is_transient(), "{error}");
    for _ in 0..2 {
        backend.delete_snapshot(&image).await.expect("deleted, and is gone");
    }
    let error = backend.restore(&named("sandbox-3"), Restored::Image(&image)).await.expect_err("gone");
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
}

#[tokio::test]
async fn what_the_app_complains_of_is_classed_by_its_words() {
    let (fake, backend) = start(&[]).await;
    let table = [
        ("upstream said 503 Service Unavailable", true),
        ("Bad Gateway", true),
        ("Gateway Timeout", true),
        ("the image does not exist", false),
        ("", false),
    ];
    for (complaint, transient) in table {
        fake.with(|cloud| cloud.complaint = Some(format!("{complaint} {TOKEN}")));
        let error = backend.create(&request()).await.expect_err(complaint);
        assert_eq!((error.is_transient(), error.is_outage()), (transient, transient), "{error}");
        assert!(!error.to_string().contains(TOKEN), "{error}");
    }
}

#[tokio::test]
async fn failures_are_classed() {
    let (fake, backend) = start(&[SHORT]).await;
    every_failure_of_a_create_is_classed(&fake, &backend, "/api-create-sandbox").await;
    no_secret_is_in_an_address(&fake);
}
