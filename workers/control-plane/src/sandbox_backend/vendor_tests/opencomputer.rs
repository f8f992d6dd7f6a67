use std::collections::BTreeMap;

use devkit::vendors::edge::{Fake, Trouble};
use devkit::vendors::opencomputer::OpenComputer as Cloud;

use super::*;
use crate::sandbox_backend::opencomputer::OpenComputer;
use crate::sandbox_backend::{Fate, Restored};

async fn start(more: &[(&str, &str)]) -> (Fake<Cloud>, OpenComputer<Native>) {
    let fake = Fake::start(Cloud::new(KEY, "open-inspect")).await.expect("listens");
    let mut vars = BTreeMap::from([
        ("OPENCOMPUTER_API_URL", fake.url.as_str()),
        ("OPENCOMPUTER_API_KEY", KEY),
        ("OPENCOMPUTER_TEMPLATE", "open-inspect"),
    ]);
    vars.extend(more.iter().copied());
    let backend = OpenComputer::of(&vars, Native::new()).expect("configured");
    (fake, backend)
}

#[tokio::test]
async fn a_sandbox_is_created_and_its_runtime_started() {
    let (fake, backend) = start(&[]).await;
    let sandbox = backend.create(&request()).await.expect("starts");
    assert_eq!(codes(&sandbox).0, "https://sb-000001-p8080.workers.opencomputer.example");
    fake.with(|cloud| {
        let made = &cloud.sandboxes[0];
        assert_eq!((made.source.as_str(), made.timeout), ("open-inspect", 7_200));
        assert_eq!(
            (made.envs["SANDBOX_AUTH_TOKEN"].as_str(), made.envs["IMAGE_BUILD_MODE"].as_str()),
            (TOKEN, "false")
        );
        assert_eq!(
            (made.envs["VCS_CLONE_TOKEN"].as_str(), made.envs["OI_REPO_IMAGE_CALLBACK_TOKEN"].as_str()),
            ("", "")
        );
        assert!(made.scripts[0].contains("\nTUNNEL_3000=https://sb-000001-p3000.workers.opencomputer.example\n"));
        assert!(made.scripts[0].contains("sandbox-bridge supervise --config-env") && !made.scripts[0].contains(TOKEN));
    });
    no_secret_is_in_an_address(&fake);
}

#[tokio::test]
async fn addresses_are_asked_for_where_no_domain_is_told() {
    let (fake, backend) = start(&[]).await;
    fake.with(|cloud| cloud.domain = None);
    let sandbox = backend.create(&request()).await.expect("starts");
    assert_eq!(codes(&sandbox).0, "https://sb-000001-p8080.preview.opencomputer.example");
    fake.order("POST", "/preview", Trouble::Status(500, String::new()), 1);
    let access = backend.create(&named("sandbox-2")).await.expect("starts").access.expect("the other ports");
    assert!(access.code_server.is_none() && access.vnc.is_some() && access.tunnel_urls.contains_key(&3000));
}

#[tokio::test]
async fn one_whose_runtime_does_not_start_is_deleted() {
    let (fake, backend) = start(&[SHORT]).await;
    fake.with(|cloud| cloud.exit_code = 127);
    let error = backend.create(&request()).await.expect_err("it does not start");
    assert!(!error.is_transient() && error.to_string().contains("it failed"), "{error}");
    fake.with(|cloud| cloud.exit_code = 0);
    // Nobody could find it later, so that it goes even where another try may help.
    fake.order("POST", "/exec/run", Trouble::Hang, 1);
    assert!(backend.create(&request()).await.is_err_and(|error| error.is_transient()));
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 0);
    assert!(!backend.capabilities().find);
}

#[tokio::test]
async fn a_hibernated_one_wakes_and_a_discarded_one_is_gone() {
    let (fake, backend) = start(&[]).await;
    let asked = request();
    let sandbox = backend.create(&asked).await.expect("starts");
    let id = sandbox.provider_object_id.clone();
    for _ in 0..2 {
        backend.stop(&asked.sandbox_id, Some(&id), Fate::Parked).await.expect("hibernates, and does");
        assert_eq!(fake.with(|cloud| cloud.sandboxes[0].status.clone()), "hibernated");
    }
    for scripts in [2, 3] {
        let on = backend.restore(&asked, Restored::Parked(&id)).await.expect("wakes, and is up");
        assert_eq!(codes(&on), codes(&sandbox));
        assert_eq!(fake.with(|cloud| cloud.sandboxes[0].scripts.len()), scripts, "the runtime is looked after");
    }
    for _ in 0..2 {
        backend.stop(&asked.sandbox_id, Some(&id), Fate::Discarded).await.expect("deleted, and is gone");
    }
    let error = backend.restore(&asked, Restored::Parked(&id)).await.expect_err("gone");
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
    backend.stop(&asked.sandbox_id, None, Fate::Discarded).await.expect("there is nothing to stop");
}

#[tokio::test]
async fn files_are_kept_restored_and_deleted() {
    let (fake, backend) = start(&[]).await;
    let sandbox = backend.create(&request()).await.expect("starts");
    let object = &sandbox.provider_object_id;
    fake.order_after("POST", "/checkpoints", Trouble::CutOff, 1);
    assert!(backend.take_snapshot(object, "s-1", false).await.is_err_and(|error| error.is_transient()));
    let image = backend.take_snapshot(object, "s-1", true).await.expect("the one that was made");
    assert_eq!(fake.with(|cloud| cloud.checkpoints.len()), 1);
    let restored = backend.restore(&named("sandbox-2"), Restored::Image(&image)).await.expect("starts");
    assert!(restored.running);
    fake.with(|cloud| {
        assert_eq!(cloud.sandboxes[1].source, cloud.checkpoints[0].id);
        assert_eq!(cloud.sandboxes[1].envs["RESTORED_FROM_SNAPSHOT"], "true");
        "failed".clone_into(&mut cloud.checkpoints_become);
    });
    let error = backend.take_snapshot(object, "s-2", false).await.expect_err("failed");
    assert!(!error.is_transient(), "{error}");
    for _ in 0..2 {
        backend.delete_snapshot(&image).await.expect("deleted, and is gone");
    }
    assert!(backend.restore(&named("sandbox-3"), Restored::Image(&image)).await.is_err());
    assert!(backend.delete_snapshot("of another backend").await.is_err());
}

#[tokio::test]
async fn failures_are_classed() {
    let (fake, backend) = start(&[SHORT]).await;
    every_failure_of_a_create_is_classed(&fake, &backend, "/api/sandboxes").await;
    every_failure_of_a_stop_is_classed(&fake, &backend, ("DELETE", "/sandboxes"), true).await;
    no_secret_is_in_an_address(&fake);
}
