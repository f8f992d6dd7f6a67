//! Near the end of a sandbox's life.

use std::time::Duration;

use crate::id;
use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, config};
use crate::support::session::{SESSION_ID, Session};
use crate::support::sh;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_stopped_as_timed_out_and_work_that_is_nowhere_else_is_pushed() {
    let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
    let mut config = config(&session, Some(&forge), "http://127.0.0.1:9/v1");
    config.timeout_seconds = 8;
    let sandbox = Sandbox::prepared(config, &opencode.url, |_| {});
    session.booted().await;
    let checkout = sandbox.path("workspace/api");
    sh(&checkout, "git checkout -q -b work; echo unfinished > new; git add new; echo more >> a.txt");
    session.prompt(&id(1), "SLOW");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["error"], "Prompt exceeded max duration of 6s.");
    let warned = |frame: &serde_json::Value| frame["type"] == "warning" && frame["scope"] == "sync";
    let warning = session.frame("the warning", warned).await;
    let branch = format!("open-inspect/wip/{SESSION_ID}");
    assert!(warning["message"].as_str().unwrap().contains(&format!("pushed to the branch `{branch}`")), "{warning}");
    assert_eq!(forge.git(&format!("show {branch}:new")), "unfinished");
    assert_eq!(sh(&checkout, "git symbolic-ref --short HEAD; git status --porcelain"), "work\n M a.txt\nA  new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_pushed_where_there_is_nothing() {
    let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
    let mut config = config(&session, Some(&forge), "http://127.0.0.1:9/v1");
    config.timeout_seconds = 4;
    let _sandbox = Sandbox::prepared(config, &opencode.url, |_| {});
    session.booted().await;
    let looks = forge.looks();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(forge.git("for-each-ref --format='%(refname)'"), "refs/heads/main");
    assert_eq!(forge.looks(), looks, "the forge is not even asked");
    assert!(session.warnings("sync").is_empty());
}
