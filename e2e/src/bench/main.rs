//! `cargo xtask bench`: what a person waits for, and what a sandbox costs, on a whole local system.
//!
//! `bridge`, `streams`, `openings`, `costs`, `waits` or `index` as an argument measures only that part. Prints a Markdown table of medians;
//! docs/PERFORMANCE.md holds a run of it.

mod bridge_programs;
mod costs;
mod echo;
mod index;
mod streams;

use std::time::{Duration, Instant};

use e2e::api::Person;
use e2e::backend::Backend;
use e2e::bridge::Bridge;
use e2e::socket::subscribe;
use e2e::stack::{Options, Stack};
use e2e::{Failed, Outcome};
use serde_json::json;

const ROUNDS: usize = 15;
const RUNS: usize = 5;

#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn say(line: &str) {
    println!("{line}");
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(what: &str, samples: Vec<f64>, unit: &str) {
    let (low, high) = samples.iter().fold((f64::MAX, f64::MIN), |(l, h), s| (l.min(*s), h.max(*s)));
    let count = samples.len();
    say(&format!("| {what} | {:.1} {unit} | {low:.1} to {high:.1} | {count} |", median(samples)));
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn resident_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kb| kb / 1024.0)
}

fn supervisor() -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse::<u32>().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        let first = line.split(' ').next()?.to_owned();
        (first.ends_with("sandbox-bridge") && line.contains(" supervise")).then_some(pid)
    })
}

/// From the click (the frame leaves the page) to `prompt_queued`, and to the prompt at the bridge.
async fn played() -> Outcome {
    let backend = Backend::start().await?;
    let options = Options { backend: Some((backend.url.clone(), backend.secret.clone())), ..Options::default() };
    let stack = Stack::start(options).await?;
    let ready = &stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let (mut created, mut accepted, mut given, mut subscribed) = (vec![], vec![], vec![], vec![]);
    let (mut events, mut rates) = (0_u32, vec![]);
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let session = ada.create_session().await?;
        created.push(ms(begun));
        let mut bridge = Bridge::new(backend.sandbox_of(&session).await?);
        bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
        let token = ada.ws_token(&session).await?;
        let begun = Instant::now();
        let (mut socket, _) = subscribe(ready, &session, &token, None).await?;
        subscribed.push(ms(begun));
        let begun = Instant::now();
        let request = format!("bench-{round}");
        socket.send(&json!({"type": "prompt", "clientRequestId": request, "content": "measure"})).await?;
        socket.wait_for(Duration::from_secs(10), |f| f["type"] == "prompt_queued").await?;
        accepted.push(ms(begun));
        bridge.listen(Duration::from_secs(10), |b| !b.prompts.is_empty()).await?;
        given.push(ms(begun));
        let message = bridge.prompts.first().map(|p| p["messageId"].clone()).unwrap_or_default();
        let begun = Instant::now();
        for call in 0..200 {
            bridge
                .emit(json!({"type": "tool_call", "messageId": message, "tool": "bash", "args": {},
                    "callId": format!("c{call}"), "status": "completed", "output": "x".repeat(500)}))
                .await;
            events += 1;
        }
        bridge.listen(Duration::from_secs(20), Bridge::is_settled).await?;
        rates.push(200.0 / begun.elapsed().as_secs_f64());
    }
    row("create a session (REST)", created, "ms");
    row("open a socket, subscribe, get the snapshot", subscribed, "ms");
    row("click to prompt accepted (`prompt_queued`)", accepted, "ms");
    row("click to prompt at the bridge", given, "ms");
    row("stored tool calls, sent to acknowledged, one watcher", rates, "per s");
    say(&format!("<!-- {events} events -->"));
    stack.stop().await
}

/// From the prompt to the first token, with a sandbox that is warm; and what the supervisor takes.
async fn real() -> Outcome {
    let stack = Stack::start(Options::default()).await?;
    let ready = &stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let (mut connected, mut cold, mut warm, mut memory) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let begun = Instant::now();
        let session = ada.create_session().await?;
        let (mut socket, first) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
        if first["session"]["sandboxStatus"] != "ready" {
            socket
                .wait_for(Duration::from_secs(60), |f| f["type"] == "sandbox_status" && f["status"] == "ready")
                .await?;
        }
        connected.push(ms(begun));
        for prompts in [&mut cold, &mut warm] {
            let begun = Instant::now();
            let message = ada.prompt(&session, "LONG: tell me about the repository").await?;
            let is_text = |f: &serde_json::Value| f["type"] == "part_delta" || f["type"] == "batch";
            socket.wait_for(Duration::from_secs(120), is_text).await?;
            prompts.push(ms(begun));
            ada.wait_for_end(&session, &message, Duration::from_secs(120)).await?;
        }
        memory.extend(supervisor().and_then(resident_mb));
        let path = format!("/api/sessions/{session}/archive");
        ada.call(reqwest::Method::POST, &path, Some(&json!({}))).await?;
    }
    row("create to bridge connected (new sandbox)", connected, "ms");
    row("prompt to first token, first prompt of a new sandbox", cold, "ms");
    row("prompt to first token, warm sandbox", warm, "ms");
    row("supervisor and bridge, resident", memory, "MB");
    stack.stop().await
}

async fn run() -> Outcome {
    say("| what | median | range | samples |\n| --- | --- | --- | --- |");
    let only = std::env::args().nth(1);
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wanted("bridge") {
        Box::pin(bridge_programs::bridge()).await?;
    }
    if wanted("streams") {
        Box::pin(streams::streams()).await?;
    }
    // A part of `streams`, which has it too.
    if only.as_deref() == Some("openings") {
        Box::pin(streams::only_openings()).await?;
    }
    if wanted("costs") {
        Box::pin(costs::all()).await?;
    }
    if wanted("index") {
        Box::pin(index::index()).await?;
    }
    if wanted("waits") {
        Box::pin(played()).await?;
        Box::pin(real()).await?;
    }
    Ok(())
}

fn main() -> Result<(), Failed> {
    tokio::runtime::Runtime::new()?.block_on(run())
}
