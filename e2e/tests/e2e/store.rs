//! The session's store checks, which also run on `rusqlite` (`durable-objects/core/tests/store.rs`), on the storage of a
//! real Durable Object: in workerd, in wasm, by the host's own statements and transactions.

use std::path::Path;
use std::time::Duration;

use e2e::workerd::Workerd;
use e2e::{Failed, Outcome, check, check_eq, tool};
use oi_session::store_checks::{CHECKS, Check, PLANTED};
use serde_json::{Value, json};

use crate::World;

/// A running probe and its files.
struct Probe {
    workerd: Workerd,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Probe {
    async fn start() -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("oi-store-").tempdir()?;
        let build = tool("storeProbe")?;
        let object = Some(("StoreProbe", "PROBE"));
        let (workerd, _) = Workerd::start_built(folder.path(), Path::new(&build), object, &[]).await?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { workerd, client, _folder: folder })
    }

    async fn run(&self, name: &str) -> Outcome<Value> {
        let url = self.workerd.url(&format!("/run?{name}"));
        let answer = self.client.post(url).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        serde_json::from_str(&text).map_err(|_| Failed(format!("{name}: {status} {text}")))
    }
}

fn names(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().map(|check| check.name).collect()
}

pub async fn every_store_check_passes_on_the_storage_of_a_durable_object(_world: &World) -> Outcome {
    let probe = Probe::start().await?;
    let listed: Value = probe.client.get(probe.workerd.url("/checks")).send().await?.json().await?;
    check_eq!(listed, json!({"checks": names(CHECKS), "planted": names(PLANTED)}), "the checks that were built in");
    let mut failed = Vec::new();
    for name in names(CHECKS) {
        let answer = probe.run(name).await?;
        check_eq!(answer["name"], name, "the check that ran");
        if answer["passed"] != true {
            failed.push(format!("{name}: {}", answer["reason"]));
        }
    }
    check!(failed.is_empty(), "{} of {} checks fail:\n{}", failed.len(), CHECKS.len(), failed.join("\n"));
    Ok(())
}

pub async fn a_store_check_that_fails_or_panics_is_seen(_world: &World) -> Outcome {
    let probe = Probe::start().await?;
    for name in names(PLANTED) {
        let answer = probe.run(name).await?;
        check_eq!(answer["passed"], false, "{name} ({answer})");
        check!(answer["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "it says why: {answer}");
    }
    // A store that was used before is no empty one, which a check that needs one sees.
    let name = CHECKS[0].name;
    check_eq!(probe.run(name).await?["passed"], true, "the first time");
    check_eq!(probe.run(name).await?["passed"], false, "the second time on the same object");
    Ok(())
}
