use std::collections::BTreeMap;

use devkit::vendors::edge::{Fake, Trouble};
use devkit::vendors::vercel::Vercel as Cloud;

use oi_protocol::local_backend::SandboxLimits;

use super::*;
use crate::sandbox_backend::vercel::Vercel;
use crate::sandbox_backend::{Fate, Restored};

async fn start(more: &[(&str, &str)]) -> (Fake<Cloud>, Vercel<Native>) {
    let fake = Fake::start(Cloud::new(KEY, "prj_1", "snap_base")).await.expect("listens");
    let mut vars = BTreeMap::from([
        ("VERCEL_SANDBOX_API_BASE_URL", fake.url.as_str()),
        ("VERCEL_TOKEN", KEY),
        ("VERCEL_PROJECT_ID", "prj_1"),
        ("VERCEL_BASE_SNAPSHOT_ID", "snap_base"),
    ]);
    vars.extend(more.iter().copied());
    let backend = Vercel::of(&vars, Native::new()).expect("configured");
    (fake, backend)
}

#[tokio::test]
async fn a_machine_is_as_large_as_the_settings_want_it() {
    let (fake, backend) = start(&[]).await;
    let limits = |cpu_cores, memory_mib| SandboxLimits { cpu_cores, memory_mib };
    let table = [
        (limits(None, None), None),
        (limits(Some(0.5), None), Some(1)),
        (limits(Some(1.5), Some(2_048)), Some(2)),
        (limits(Some(2.0), Some(4_097)), Some(4)),
        (limits(None, Some(16_384)), Some(8)),
    ];
    for (index, (limits, vcpus)) in table.into_iter().enumerate() {
        let asked = CreateSandboxRequest { limits, ..named(&format!("sandbox-{index}")) };
        backend.create(&asked).await.expect("starts");
        assert_eq!(fake.with(|cloud| cloud.sandboxes[index].vcpus), vcpus, "{:?}", asked.limits);
    }
    let too_much = CreateSandboxRequest { limits: limits(Some(8.5), None), ..named("sandbox-large") };
    let error = backend.create(&too_much).await.expect_err("there is none");
    // One repository's setting says nothing of the vendor.
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
}

#[tokio::test]
async fn a_sandbox_is_created_told_its_ports_and_started() {
    let (fake, backend) = start(&[]).await;
    let sandbox = backend.create(&request()).await.expect("starts");
    assert_eq!((sandbox.provider_object_id.as_str(), sandbox.running), ("sbx_1", true));
    assert_eq!(codes(&sandbox).0, "https://sbx-1-8080.vercel.run");
    fake.with(|cloud| {
        let made = &cloud.sandboxes[0];
        assert_eq!((made.name.as_str(), made.source.as_deref()), ("sandbox-acme-app-1", Some("snap_base")));
        assert_eq!(
            (made.ports.as_slice(), made.env["EXPECTED_TUNNEL_PORTS"].as_str()),
            ([8080, 6080, 3000].as_slice(), "3000")
        );
        // The file of addresses is there before what reads it.
        let (file, runtime) = (&made.ran[0], &made.ran[1]);
        assert!(
            file.wait && file.args.iter().any(|arg| arg.contains("TUNNEL_3000=https://sbx-1-3000.vercel.run\n")),
            "{file:?}"
        );
        assert_eq!((runtime.command.as_str(), runtime.wait), ("sudo", false));
        assert!(
            runtime.args.iter().any(|arg| arg.ends_with("exec sandbox-bridge supervise --config-env")),
            "{runtime:?}"
        );
        assert!(made.ran.iter().all(|ran| !format!("{ran:?}").contains(TOKEN)));
    });
    no_secret_is_in_an_address(&fake);
}

#[tokio::test]
async fn the_newest_good_snapshot_of_a_name_is_the_base() {
    let (fake, _) = start(&[]).await;
    fake.with(|cloud| {
        cloud.team = Some("team_1".to_owned());
        for (id, status) in [("snap_new", "created"), ("snap_bad", "failed")] {
            let mut snapshot = cloud.snapshots[0].clone();
            (snapshot.id, snapshot.status) = (id.to_owned(), status.to_owned());
            cloud.snapshots.push(snapshot);
        }
    });
    let vars = |name: &'static str| {
        BTreeMap::from([
            ("VERCEL_TOKEN", KEY),
            ("VERCEL_PROJECT_ID", "prj_1"),
            ("VERCEL_TEAM_ID", "team_1"),
            ("VERCEL_BASE_SNAPSHOT_NAME", name),
        ])
    };
    let mut named_base = vars("base");
    named_base.insert("VERCEL_SANDBOX_API_BASE_URL", &fake.url);
    let backend = Vercel::of(&named_base, Native::new()).expect("configured");
    backend.create(&request()).await.expect("starts");
    assert_eq!(fake.with(|cloud| cloud.sandboxes[0].source.clone()).as_deref(), Some("snap_new"));
    let mut unknown = vars("nobody's");
    unknown.insert("VERCEL_SANDBOX_API_BASE_URL", &fake.url);
    let backend = Vercel::of(&unknown, Native::new()).expect("configured");
    let error = backend.create(&named("sandbox-2")).await.expect_err("there is none");
    assert!(matches!(error, BackendError::Setup(_)), "{error}");
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_found_and_started_once() {
    let (fake, backend) = start(&[]).await;
    fake.order_after("POST", "/v2/sandboxes", Trouble::CutOff, 1);
    assert!(backend.create(&request()).await.is_err_and(|error| error.is_transient()));
    let found = backend.find(&request()).await.expect("answers").expect("it is there");
    let again = backend.create(&request()).await.expect("it is taken up");
    assert_eq!((&again, fake.with(|cloud| cloud.sandboxes.len())), (&found, 1));
    assert_eq!(backend.find(&named("sandbox/of others")).await, Ok(None));
    backend.stop(&request().sandbox_id, None, Fate::Parked).await.expect("ends");
    assert_eq!(backend.find(&request()).await.expect("answers").map(|found| found.running), Some(false));
    backend.stop(&request().sandbox_id, None, Fate::Parked).await.expect("has ended");
}

#[tokio::test]
async fn files_are_kept_restored_and_deleted() {
    let (fake, backend) = start(&[]).await;
    assert!(backend.capabilities().snapshot_ends);
    let sandbox = backend.create(&request()).await.expect("starts");
    let object = &sandbox.provider_object_id;
    fake.order_after("POST", "/snapshot", Trouble::CutOff, 1);
    assert!(backend.take_snapshot(object, "s-1", false).await.is_err_and(|error| error.is_transient()));
    let image = backend.take_snapshot(object, "s-1", true).await.expect("the one that was made");
    backend.stop(&request().sandbox_id, Some(object), Fate::Parked).await.expect("it ended with its snapshot");
    let restored = backend.restore(&named("sandbox-2"), Restored::Image(&image)).await.expect("starts");
    assert!(restored.running);
    fake.with(|cloud| {
        assert_eq!(cloud.sandboxes[1].source.as_ref(), Some(&image));
        assert_eq!(cloud.sandboxes[1].env["RESTORED_FROM_SNAPSHOT"], "true");
        "failed".clone_into(&mut cloud.snapshots_become);
    });
    let error = backend.take_snapshot(&restored.provider_object_id, "s-2", false).await.expect_err("failed");
    assert!(!error.is_transient(), "{error}");
    for _ in 0..2 {
        backend.delete_snapshot(&image).await.expect("deleted, and is gone");
    }
    let error = backend.restore(&named("sandbox-3"), Restored::Image(&image)).await.expect_err("gone");
    assert!(!error.is_transient() && !error.is_outage(), "{error}");
}

#[tokio::test]
async fn one_that_cannot_be_told_its_ports_is_ended() {
    let (fake, backend) = start(&[]).await;
    fake.with(|cloud| cloud.exit_code = 1);
    let error = backend.create(&request()).await.expect_err("the file is not written");
    assert!(!error.is_transient() && error.to_string().contains("exit code 1"), "{error}");
    assert_eq!(fake.with(|cloud| cloud.sandboxes[0].status.clone()), "stopped");
}

#[tokio::test]
async fn failures_are_classed() {
    let (fake, backend) = start(&[SHORT]).await;
    every_failure_of_a_create_is_classed(&fake, &backend, "/v2/sandboxes").await;
    every_failure_of_a_stop_is_classed(&fake, &backend, ("POST", "/stop"), true).await;
    no_secret_is_in_an_address(&fake);
}
