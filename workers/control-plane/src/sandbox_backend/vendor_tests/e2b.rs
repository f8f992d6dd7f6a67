use std::collections::BTreeMap;

use devkit::vendors::e2b::{E2b as Cloud, Process};
use devkit::vendors::edge::{Fake, Trouble};

use super::*;
use crate::sandbox_backend::e2b::E2b;
use crate::sandbox_backend::{Fate, Restored};

async fn start(more: &[(&str, &str)]) -> (Fake<Cloud>, E2b<Native>) {
    let fake = Fake::start(Cloud::new(KEY, "tmpl")).await.expect("listens");
    let mut vars = BTreeMap::from([
        ("E2B_API_URL", fake.url.as_str()),
        ("E2B_SANDBOX_URL", fake.url.as_str()),
        ("E2B_API_KEY", KEY),
        ("E2B_TEMPLATE_ID", "tmpl"),
    ]);
    vars.extend(more.iter().copied());
    let backend = E2b::of(&vars, Native::new()).expect("configured");
    (fake, backend)
}

#[tokio::test]
async fn a_sandbox_is_created_and_its_runtime_started() {
    let (fake, backend) = start(&[]).await;
    let sandbox = backend.create(&request()).await.expect("starts");
    let id = &sandbox.provider_object_id;
    assert_eq!(codes(&sandbox).0, format!("https://8080-{id}.e2b.example"));
    fake.with(|cloud| {
        let made = &cloud.sandboxes[0];
        assert_eq!((made.timeout, made.env["SANDBOX_AUTH_TOKEN"].as_str()), (7_200, TOKEN));
        assert_eq!(
            (made.env["HOME"].as_str(), made.metadata["openinspect_sandbox_id"].as_str()),
            ("/home/user", "sandbox-acme-app-1")
        );
        assert!(made.scripts[0].contains("sandbox-bridge supervise --config-env"), "{:?}", made.scripts);
        let told = format!("TUNNEL_SANDBOX_ID=sandbox-acme-app-1\nTUNNEL_3000=https://3000-{id}.e2b.example\n");
        let at = |text: &str| made.scripts[0].find(text).expect("it is there");
        assert!(at(&told) < at("sandbox-bridge supervise --config-env"), "what it reads is there before it");
        assert_eq!(made.env["EXPECTED_TUNNEL_PORTS"], "3000");
        assert!(!made.scripts[0].contains(TOKEN), "what a process is started with is logged");
    });
    no_secret_is_in_an_address(&fake);
}

#[tokio::test]
async fn one_whose_runtime_does_not_start_is_killed() {
    let (fake, backend) = start(&[]).await;
    for how in [Process::Fails, Process::CutOff, Process::StreamError] {
        fake.with(|cloud| cloud.process = how);
        let error = backend.create(&request()).await.expect_err("it does not start");
        assert!(!error.is_transient(), "{how:?}: {error}");
        assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 0, "{how:?}");
    }
    fake.with(|cloud| (cloud.process, cloud.gives_tokens) = (Process::Good, false));
    let error = backend.create(&request()).await.expect_err("it has no token");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 0);
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_found_and_its_runtime_started() {
    let (fake, backend) = start(&[SHORT]).await;
    fake.order_after("POST", "/sandboxes", Trouble::Hang, 1);
    assert!(backend.create(&request()).await.is_err_and(|error| error.is_transient()));
    let found = backend.find(&request()).await.expect("answers").expect("it is there");
    assert!(found.running);
    assert_eq!(fake.with(|cloud| (cloud.sandboxes.len(), cloud.sandboxes[0].scripts.len())), (1, 1));
    assert_eq!(backend.find(&named("sandbox-of-others?x=1&y")).await, Ok(None));
    backend.create(&named("odd/na me&=%1")).await.expect("starts");
    assert!(
        backend.find(&named("odd/na me&=%1")).await.is_ok_and(|found| found.is_some()),
        "a label of any letters is found"
    );
    backend.stop("odd/na me&=%1", None, Fate::Discarded).await.expect("killed");
    // Nor is one that nobody's handle was heard of left running.
    backend.stop(&request().sandbox_id, None, Fate::Discarded).await.expect("killed");
    backend.stop(&request().sandbox_id, None, Fate::Discarded).await.expect("is gone");
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 0);
}

#[tokio::test]
async fn a_paused_one_goes_on_and_a_running_one_gets_more_time() {
    let (fake, backend) = start(&[]).await;
    let asked = CreateSandboxRequest { timeout_seconds: 600, ..request() };
    let sandbox = backend.create(&asked).await.expect("starts");
    let id = sandbox.provider_object_id;
    for _ in 0..2 {
        backend.stop(&asked.sandbox_id, Some(&id), Fate::Parked).await.expect("pauses, and is paused");
        assert_eq!(fake.with(|cloud| cloud.sandboxes[0].state.clone()), "paused");
    }
    let longer = CreateSandboxRequest { timeout_seconds: 90_000, ..request() };
    backend.restore(&longer, Restored::Parked(&id)).await.expect("goes on");
    assert_eq!(
        fake.with(|cloud| (cloud.sandboxes[0].state.clone(), cloud.sandboxes[0].timeout)),
        ("running".to_owned(), 7_200)
    );
    backend.restore(&asked, Restored::Parked(&id)).await.expect("is up");
    assert_eq!(fake.with(|cloud| cloud.sandboxes[0].timeout), 600);
    backend.stop(&asked.sandbox_id, Some(&id), Fate::Discarded).await.expect("killed");
    let error = backend.restore(&asked, Restored::Parked(&id)).await.expect_err("gone");
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
    assert_eq!(backend.capabilities().max_life_seconds, Some(7_200));
}

#[tokio::test]
async fn failures_are_classed() {
    let (fake, backend) = start(&[SHORT]).await;
    every_failure_of_a_create_is_classed(&fake, &backend, "/sandboxes").await;
    every_failure_of_a_stop_is_classed(&fake, &backend, ("DELETE", "/sandboxes"), true).await;
    for (trouble, transient) in
        [(Trouble::Hang, true), (Trouble::Page(502), true), (Trouble::Status(401, String::new()), false)]
    {
        fake.order("POST", "/process.Process/Start", trouble.clone(), 1);
        let error = backend.create(&named("sandbox-envd")).await.expect_err("it does not start");
        assert_eq!(error.is_transient(), transient, "{trouble:?}: {error}");
    }
    no_secret_is_in_an_address(&fake);
}
