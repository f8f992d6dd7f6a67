use std::collections::BTreeMap;

use devkit::vendors::daytona::Daytona as Cloud;
use devkit::vendors::edge::{Fake, Trouble};

use super::*;
use crate::sandbox_backend::daytona::Daytona;
use crate::sandbox_backend::{Fate, Restored};

async fn start(more: &[(&str, &str)]) -> (Fake<Cloud>, Daytona<Native>) {
    let fake = Fake::start(Cloud::new(KEY, "base-1")).await.expect("listens");
    let mut vars = BTreeMap::from([
        ("DAYTONA_API_URL", fake.url.as_str()),
        ("DAYTONA_API_KEY", KEY),
        ("DAYTONA_BASE_SNAPSHOT", "base-1"),
    ]);
    vars.extend(more.iter().copied());
    let backend = Daytona::of(&vars, Native::new()).expect("configured");
    (fake, backend)
}

#[tokio::test]
async fn a_sandbox_is_created_with_its_environment_and_reached() {
    let (fake, backend) = start(&[]).await;
    let sandbox = backend.create(&request()).await.expect("starts");
    assert!(sandbox.running);
    fake.with(|cloud| {
        let made = &cloud.sandboxes[0];
        assert_eq!((made.id.as_str(), made.name.as_str()), (sandbox.provider_object_id.as_str(), "sandbox-acme-app-1"));
        assert_eq!(made.env["SANDBOX_AUTH_TOKEN"], TOKEN);
        assert_eq!(made.env["USER_SECRET"], USER_SECRET);
        assert_eq!(made.env.get("RESTORED_FROM_SNAPSHOT"), None);
        assert_eq!(made.labels["openinspect_session_id"], request().session_id);
        assert_eq!(made.labels["openinspect_repo"], "acme/app");
        assert_eq!(made.env["CODE_SERVER_PASSWORD"], codes(&sandbox).1);
    });
    assert_eq!(codes(&sandbox).0, "https://8080-tok7500.proxy.daytona.example");
    assert_eq!(sandbox.access.as_ref().map(|access| access.tunnel_urls.len()), Some(1));
    assert_eq!(fake.with(|cloud| cloud.sandboxes[0].env["EXPECTED_TUNNEL_PORTS"].clone()), "3000");
    let create = &fake.seen()[0];
    assert_eq!((create.method.as_str(), create.path.as_str()), ("POST", "/sandbox"));
    no_secret_is_in_an_address(&fake);
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_found_and_not_doubled() {
    let (fake, backend) = start(&[]).await;
    fake.order_after("POST", "/sandbox", Trouble::CutOff, 1);
    let error = backend.create(&request()).await.expect_err("the answer is lost");
    assert!(error.is_transient());
    let found = backend.find(&request()).await.expect("answers").expect("it is there");
    assert!(found.running);
    let again = backend.create(&request()).await.expect("it is taken up");
    assert_eq!((&again.provider_object_id, codes(&again).1), (&found.provider_object_id, codes(&found).1));
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 1);
    assert_eq!(backend.find(&named("another")).await, Ok(None));
}

#[tokio::test]
async fn a_name_that_is_somebody_elses_is_not_taken_up() {
    let (fake, backend) = start(&[]).await;
    backend.create(&request()).await.expect("starts");
    fake.with(|cloud| cloud.sandboxes[0].labels.clear());
    let error = backend.create(&request()).await.expect_err("it is not ours");
    assert!(matches!(error, BackendError::Status { status: 409, .. }), "{error}");
    assert_eq!(backend.find(&request()).await, Ok(None));
}

#[tokio::test]
async fn a_stopped_one_goes_on_and_a_discarded_one_is_gone() {
    let (fake, backend) = start(&[]).await;
    let asked = request();
    let sandbox = backend.create(&asked).await.expect("starts");
    let id = sandbox.provider_object_id.clone();
    let state = |fake: &Fake<Cloud>| fake.with(|cloud| cloud.sandboxes[0].state.clone());
    for _ in 0..2 {
        backend.stop(&asked.sandbox_id, Some(&id), Fate::Parked).await.expect("stops, and is stopped");
        assert_eq!(state(&fake), "stopped");
    }
    for _ in 0..2 {
        let on = backend.restore(&asked, Restored::Parked(&id)).await.expect("goes on, and is up");
        assert_eq!((state(&fake).as_str(), codes(&on).1), ("started", codes(&sandbox).1));
    }
    fake.with(|cloud| {
        "error".clone_into(&mut cloud.sandboxes[0].state);
        cloud.sandboxes[0].recoverable = true;
    });
    backend.restore(&asked, Restored::Parked(&id)).await.expect("recovers");
    assert_eq!(state(&fake), "started");
    fake.with(|cloud| {
        "error".clone_into(&mut cloud.sandboxes[0].state);
        cloud.sandboxes[0].recoverable = false;
    });
    let error = backend.restore(&asked, Restored::Parked(&id)).await.expect_err("broken for good");
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
    for _ in 0..2 {
        backend.stop(&asked.sandbox_id, None, Fate::Discarded).await.expect("deleted, and is gone");
        assert_eq!(state(&fake), "destroyed");
    }
    let error = backend.restore(&asked, Restored::Parked(&id)).await.expect_err("gone");
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
}

#[tokio::test]
async fn files_are_kept_restored_and_deleted() {
    let (fake, backend) = start(&[("DAYTONA_SNAPSHOTS", "true")]).await;
    assert!(backend.capabilities().snapshot);
    let sandbox = backend.create(&request()).await.expect("starts");
    let object = &sandbox.provider_object_id;
    fake.order_after("POST", "/snapshot", Trouble::CutOff, 1);
    assert!(backend.take_snapshot(object, "s-1", false).await.is_err_and(|error| error.is_transient()));
    let image = backend.take_snapshot(object, "s-1", true).await.expect("the one that was made");
    assert_eq!(image, "oi-s-1");
    let restored = backend.restore(&named("sandbox-2"), Restored::Image(&image)).await.expect("starts");
    assert!(restored.running);
    fake.with(|cloud| {
        assert_eq!(cloud.sandboxes[1].snapshot, image);
        assert_eq!(cloud.sandboxes[1].env["RESTORED_FROM_SNAPSHOT"], "true");
        cloud.doomed.insert("oi-s-2".to_owned());
    });
    let error = backend.take_snapshot(object, "s-2", false).await.expect_err("it fails at the vendor");
    assert!(!error.is_transient(), "{error}");
    for _ in 0..2 {
        backend.delete_snapshot(&image).await.expect("deleted, and is gone");
    }
    let error = backend.restore(&named("sandbox-3"), Restored::Image(&image)).await.expect_err("gone");
    assert!(!error.is_transient(), "{error}");
    assert!(!start(&[]).await.1.capabilities().snapshot, "only where it is wanted");
}

#[tokio::test]
async fn a_port_without_an_address_keeps_no_sandbox_from_its_work() {
    let (fake, backend) = start(&[SHORT]).await;
    fake.order("GET", "/ports/8080", Trouble::Hang, 1);
    let sandbox = backend.create(&request()).await.expect("starts");
    let access = sandbox.access.expect("the other port");
    assert!(access.code_server.is_none() && access.tunnel_urls.contains_key(&3000));
}

#[tokio::test]
async fn failures_are_classed() {
    let (fake, backend) = start(&[SHORT]).await;
    every_failure_of_a_create_is_classed(&fake, &backend, "/sandbox").await;
    every_failure_of_a_stop_is_classed(&fake, &backend, ("DELETE", "/sandbox"), true).await;
    no_secret_is_in_an_address(&fake);
}
