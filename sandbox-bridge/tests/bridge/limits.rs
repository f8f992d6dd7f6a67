//! A sandbox that takes more than it may is ended, and its session knows why.

use std::time::Duration;

use serde_json::Value;

use crate::host::{alive, isolations};
use crate::support::eventually;
use crate::support::inmate::{self, Inmate};

/// Runs a script under limits until the sandbox is ended, and gives what its session was told.
async fn ended(isolation: &'static str, options: &[&str], script: &str) -> String {
    let host = inmate::host(isolation, options).await;
    let (inmate, bystander) = (Inmate::start(&host).await, Inmate::start(&host).await);
    bystander.sh("echo here").await;
    inmate.begin(script).await;
    let told: Value =
        eventually("the reason", Duration::from_secs(30), || inmate.session.taken().boot_errors.first().cloned()).await;
    let id = &inmate.config.sandbox_id;
    eventually("its end", Duration::from_secs(10), || alive(id).is_empty().then_some(())).await;
    for _ in 0..200 {
        if host.status(id).await == "stopped" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, shown) = host.call(reqwest::Method::GET, &format!("/v1/sandboxes/{id}"), None).await;
    assert_eq!(
        (&shown["status"], &shown["endedBecause"], &told["fatal"]),
        (&"stopped".into(), &told["error"], &true.into())
    );
    assert_eq!(inmate.session.taken().boot_errors.len(), 1, "it is told once");
    assert_eq!(bystander.sh("echo here").await, "here", "another sandbox goes on");
    told["error"].as_str().expect("a sentence").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_limited() {
    for isolation in isolations() {
        let reason =
            ended(isolation, &["--max-memory-mib", "150"], "perl -e '$x = \"a\" x (300 << 20); sleep 60'").await;
        assert!(reason.contains("of memory; it may use 150 MiB"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_ends_its_own_sandbox_alone() {
    if !isolations().contains(&"bwrap") {
        return;
    }
    // Bounded, should nothing else bound it.
    let bomb = "i=0; while [ $i -lt 400 ]; do sleep 60 & i=$((i+1)); done; wait";
    let reason = ended("bwrap", &["--max-processes", "100"], bomb).await;
    assert!(reason.contains("it may run 100"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_is_limited_in_all_folders_together() {
    for isolation in isolations() {
        let fill = "for n in 1 2 3 4 5; do head -c 8000000 /dev/zero > $TMPDIR/large-$n; done; sleep 60";
        let reason = ended(isolation, &["--max-disk-mib", "30"], fill).await;
        assert!(reason.contains("they may take 30 MiB"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_is_no_larger_than_the_disk_that_its_sandbox_has() {
    let host = inmate::host(isolations()[0], &["--max-disk-mib", "30"]).await;
    let inmate = Inmate::start(&host).await;
    let written = inmate.sh("truncate -s 20M small && echo small; truncate -s 40M large && echo large").await;
    assert!(written.contains("small") && !written.lines().any(|line| line == "large"), "{written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processors_are_shared_out_where_the_kernel_can() {
    for isolation in isolations() {
        let host = inmate::host(isolation, &["--max-cpu-cores", "0.2"]).await;
        let (_, can) = host.call(reqwest::Method::GET, "/v1/capabilities", None).await;
        assert_eq!(can["isolation"], isolation);
        if can["controlGroups"] != true {
            return;
        }
        let inmate = Inmate::start(&host).await;
        // A second of a processor takes five.
        let took = inmate
            .sh("perl -MTime::HiRes=time -e '$at = time; while ((times)[0] < 0.5) { } print time - $at > 1 ? 1 : 0'")
            .await;
        assert_eq!(took, "1", "{isolation}");
    }
}
