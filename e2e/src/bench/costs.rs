//! What sessions cost the runtime: CPU of a creation, rows of a turn, memory of a live session, a cold start; each
//! beside a bare object or a bare Worker under the same workerd in the same run.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::api::{Person, costs};
use e2e::backend::Backend;
use e2e::bridge::Bridge;
use e2e::socket::{Socket, subscribe};
use e2e::stack::{Options, Ready, Stack};
use e2e::workerd::Workerd;
use e2e::{Failed, Outcome, tool};
use serde_json::json;

use crate::echo::Echo;
use crate::streams::{Running, Script, TURN};
use crate::{ms, resident_mb, row};

const PATIENCE: Duration = Duration::from_secs(30);
/// Not the text that the platform answers by itself: the session is built for it.
const PING: &str = r#"{ "type": "ping" }"#;
/// Creations of one measurement: the kernel counts CPU in steps of 10 ms.
const CREATIONS: usize = 200;
const REPEATS: usize = 3;
/// Fewer than one person may send at once.
const PROMPTS: usize = 50;
const COLD_STARTS: usize = 15;
const LIVE: usize = 80;
const TURNS: usize = 10;
/// What a bare object is given, how many sockets, and how it is asked for. A session has 29 tables with 36 indexes, and
/// about 40 statements run until it is live.
const PARTS_OF_AN_OBJECT: [(&str, usize, &str); 4] = [
    ("with a table, a row and a socket", 1, ""),
    ("with two sockets", 2, ""),
    ("with 22 tables of two indexes each, as many as a session has", 2, "tables=22"),
    ("with 40 statements that stay prepared", 2, "tables=22&statements=40"),
];

/// CPU that a process has used, in ms: user and system time of all its threads (proc(5)), in ticks of 10 ms.
fn cpu_ms(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything; what follows it does not.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| rest.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    // Fields 14 and 15, counted from 1; the state behind the bracket is the third.
    let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
    ticks.map(|ticks| ticks * 10.0).ok_or_else(|| Failed(format!("no CPU time of {pid}")))
}

fn memory_mb(pid: u32) -> Outcome<f64> {
    resident_mb(pid).ok_or_else(|| Failed(format!("no memory of {pid}")))
}

fn options(backend: &Backend, folder: &Path, vars: &[(&str, &str)]) -> Options {
    Options {
        backend: Some((backend.url.clone(), backend.secret.clone())),
        below: Some(folder.to_path_buf()),
        vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Options::default()
    }
}

/// Time and CPU of a creation.
async fn creations(ready: &Ready, pid: u32, echo: &Echo, place: &str) -> Outcome {
    let ada = Person::sign_in(ready, "ada").await?;
    let (mut times, mut cpu, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    // The first ones compile what they run.
    for _ in 0..CREATIONS / 4 {
        ada.create_session().await?;
    }
    for round in 0..REPEATS {
        let before = cpu_ms(pid)?;
        for _ in 0..CREATIONS {
            let begun = Instant::now();
            ada.create_session().await?;
            times.push(ms(begun));
        }
        // What it leaves to be done counts too.
        tokio::time::sleep(Duration::from_millis(500)).await;
        cpu.push((cpu_ms(pid)? - before) / CREATIONS as f64);
        let before = cpu_ms(echo.pid()?)?;
        for number in 0..CREATIONS {
            echo.create(&format!("{round}-{number}")).await?;
        }
        bare.push((cpu_ms(echo.pid()?)? - before) / CREATIONS as f64);
    }
    row(&format!("create a session, past the proxy, {place}"), times, "ms");
    row(&format!("create a session, CPU of workerd with its D1, {place}"), cpu, "ms");
    row(&format!("bare object: created with a table and a row, CPU, {place}"), bare, "ms");
    Ok(())
}

/// From the frame that leaves the page to the prompt at the bridge.
async fn prompts(ready: &Ready, backend: &Backend, echo: &Echo, place: &str) -> Outcome {
    let Running { mut page, mut bridge, message, .. } = Running::begin(ready, backend).await?;
    let mut message = message;
    let mut talk = echo.talk().await?;
    let (mut given, mut bare) = (Vec::new(), Vec::new());
    for number in 0..PROMPTS {
        bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
        bridge.listen(PATIENCE, Bridge::is_settled).await?;
        let known = bridge.prompts.len();
        // The page's frames so far are none of what is measured.
        page.send_text(PING.to_owned()).await?;
        page.wait_for(PATIENCE, |frame| frame["type"] == "pong").await?;
        let begun = Instant::now();
        page.send(&json!({"type": "prompt", "clientRequestId": format!("p{number}"), "content": "measure"})).await?;
        bridge.listen(PATIENCE, |b| b.prompts.len() > known).await?;
        if bridge.prompts.len() == known {
            return Err(Failed("a prompt did not reach the bridge".to_owned()));
        }
        given.push(ms(begun));
        message = bridge.prompts.last().map(|prompt| prompt["messageId"].clone()).unwrap_or_default();
        let begun = Instant::now();
        talk.answer("w").await?;
        bare.push(ms(begun));
    }
    row(&format!("prompt to sandbox: click to prompt at the bridge, past the proxy, {place}"), given, "ms");
    row(&format!("bare object: a message stored and answered, {place}"), bare, "ms");
    Ok(())
}

/// Rows that a turn of the agent writes, in the platform's own count.
async fn rows_of_turns(ready: &Ready, backend: &Backend) -> Outcome {
    for (what, pause) in [("that arrive together", 0), ("20 ms apart", 20)] {
        let Running { session, bridge, message, page: _page, .. } = Running::begin(ready, backend).await?;
        let (mut socket, next) = bridge.into_socket()?;
        let mut script = Script { message, next, part: 0 };
        let mut written = Vec::new();
        for _ in 0..TURNS {
            let before = costs(ready, &session).await?;
            let turn = script.turn();
            let last = script.next - 1;
            for frame in turn {
                socket.send_text(frame.to_text().unwrap_or_default().to_owned()).await?;
                if pause > 0 {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
            socket.wait_for(PATIENCE, |f| f["type"] == "ack" && f["seq"].as_i64() >= Some(last)).await?;
            tokio::time::sleep(Duration::from_millis(400)).await;
            written.push(costs(ready, &session).await?.since(before).rows_written as f64);
        }
        row(&format!("rows written by a turn of {TURN} events {what}"), written, "rows");
    }
    Ok(())
}

/// Memory that sessions with a bridge and a page take, while they work and when they are asleep.
async fn memory(ready: &Ready, pid: u32, backend: &Backend, echo: &Echo) -> Outcome {
    let ada = Person::sign_in(ready, "ada").await?;
    let mut open = Vec::new();
    let mut before = 0.0;
    // The first quarter grows what all share.
    for number in 0..LIVE + LIVE / 4 {
        if number == LIVE / 4 {
            touch(&mut open).await?;
            before = memory_mb(pid)?;
        }
        let session = ada.create_session().await?;
        let mut bridge = Bridge::new(backend.sandbox_of(&session).await?);
        bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
        bridge.emit(json!({"type": "ready", "runtimeVersion": "v100-bench"})).await;
        let (page, _) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
        open.push((bridge, page));
    }
    touch(&mut open).await?;
    let live = memory_mb(pid)? - before;
    row("memory of a live session with its bridge and a page", vec![live / LIVE as f64], "MB");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let asleep = memory_mb(pid)? - before;
    row("the same, asleep", vec![asleep / LIVE as f64], "MB");

    // What of it is the platform's: each line adds one thing to the one before.
    for (round, (what, sockets, with)) in PARTS_OF_AN_OBJECT.into_iter().enumerate() {
        let mut held = Vec::new();
        let mut before = 0.0;
        for number in 0..LIVE + LIVE / 4 {
            if number == LIVE / 4 {
                before = memory_mb(echo.pid()?)?;
            }
            for _ in 0..sockets {
                held.push(echo.open_live(&format!("live-{round}-{number}"), with).await?);
            }
        }
        let live = memory_mb(echo.pid()?)? - before;
        row(&format!("bare object: memory of a live one {what}"), vec![live / LIVE as f64], "MB");
    }
    Ok(())
}

/// All of them are in memory after it.
async fn touch(open: &mut [(Bridge, Socket)]) -> Outcome {
    for (_, page) in open.iter_mut() {
        page.send_text(PING.to_owned()).await?;
        page.wait_for(PATIENCE, |frame| frame["type"] == "pong").await?;
    }
    Ok(())
}

/// CPU of the threads that a process has now, in ms, to the nanosecond.
fn threads_cpu_ms(pid: u32) -> Outcome<f64> {
    let mut spent = 0.0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = std::fs::read_to_string(entry.path().join("schedstat"))?;
        spent += text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e6;
    }
    Ok(spent)
}

/// From the process to the first answer: time and CPU.
async fn cold_start(build: &str, object: Option<(&str, &str)>) -> Outcome<(f64, f64)> {
    let folder = tempfile::Builder::new().prefix("oi-cold-").tempdir()?;
    let (workerd, begun) = Workerd::start_built(folder.path(), Path::new(build), object, &[]).await?;
    let answer = reqwest::get(workerd.url("/health")).await?;
    let status = answer.status();
    let text = answer.text().await?;
    let took = ms(begun);
    let spent = threads_cpu_ms(workerd.pid().ok_or_else(|| Failed("workerd ended".to_owned()))?)?;
    let healthy = status.is_success() && text.contains("healthy");
    if healthy { Ok((took, spent)) } else { Err(Failed(format!("{status} {text}"))) }
}

async fn cold_starts() -> Outcome {
    let (ours, bare) = (tool("controlPlane")?, tool("bareWorker")?);
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for round in 0..=COLD_STARTS {
        let (mine, its) = (cold_start(&ours, Some(("SessionDO", "SESSION"))).await?, cold_start(&bare, None).await?);
        // The first reads the files from the disk.
        if round > 0 {
            of_ours.push(mine);
            of_bare.push(its);
        }
    }
    for (what, starts) in [("the control plane", of_ours), ("a bare Worker in Rust", of_bare)] {
        let (times, spent): (Vec<_>, Vec<_>) = starts.into_iter().unzip();
        row(&format!("first answer of a cold process: {what}"), times, "ms");
        row(&format!("the same, CPU of the process: {what}"), spent, "ms");
    }
    Ok(())
}

/// Sessions that slept: from a page's frame to its answer.
async fn waking(ready: &Ready, backend: &Backend) -> Outcome {
    for events in [100, 20_000] {
        let Running { mut page, mut bridge, message, .. } = Running::begin(ready, backend).await?;
        for call in 0..events {
            bridge
                .emit(json!({"type": "tool_call", "messageId": message, "tool": "bash", "args": {},
                    "callId": format!("c{call}"), "status": "completed", "output": "x".repeat(300)}))
                .await;
            if call % 500 == 499 {
                bridge.listen(PATIENCE, Bridge::is_settled).await?;
            }
        }
        bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
        bridge.listen(PATIENCE, Bridge::is_settled).await?;
        let mut woken = Vec::new();
        for _ in 0..REPEATS {
            // What came before is read, so that it is not what is waited for.
            page.send_text(PING.to_owned()).await?;
            page.wait_for(PATIENCE, |frame| frame["type"] == "pong").await?;
            tokio::time::sleep(Duration::from_secs(14)).await;
            let begun = Instant::now();
            page.send_text(PING.to_owned()).await?;
            page.wait_for(PATIENCE, |frame| frame["type"] == "pong").await?;
            woken.push(ms(begun));
        }
        row(&format!("a session of {events} events that slept: one message answered"), woken, "ms");
    }
    Ok(())
}

async fn below(folder: &Path, place: &str) -> Outcome {
    let scratch = tempfile::Builder::new().prefix("oi-echo-").tempdir_in(folder)?;
    let echo = Echo::start(scratch.path()).await?;
    let backend = Backend::start().await?;
    let mut stack = Stack::start(options(&backend, folder, &[])).await?;
    stack.connect_directly().await?;
    let pid = stack.pid("workerd").await?;
    Box::pin(prompts(&stack.ready, &backend, &echo, place)).await?;
    Box::pin(creations(&stack.ready, pid, &echo, place)).await?;
    stack.stop().await
}

async fn memory_and_waking() -> Outcome {
    let disk = std::env::temp_dir();
    let scratch = tempfile::Builder::new().prefix("oi-echo-").tempdir()?;
    let echo = Echo::start(scratch.path()).await?;
    let backend = Backend::start().await?;
    let mut stack = Stack::start(options(&backend, &disk, &[("EVENT_RETENTION_ROWS", "50000")])).await?;
    stack.connect_directly().await?;
    let pid = stack.pid("workerd").await?;
    Box::pin(memory(&stack.ready, pid, &backend, &echo)).await?;
    Box::pin(waking(&stack.ready, &backend)).await?;
    stack.stop().await
}

async fn rows() -> Outcome {
    let backend = Backend::start().await?;
    let mut stack = Stack::start(options(&backend, &std::env::temp_dir(), &[("COUNT_COSTS", "true")])).await?;
    stack.connect_directly().await?;
    Box::pin(rows_of_turns(&stack.ready, &backend)).await?;
    stack.stop().await
}

/// Past wrangler's proxy; creations and prompts with the state in memory and on disk, the rest on disk. A second
/// argument (`cold`, `rows`, `memory`, `creations`) measures only that.
pub async fn all() -> Outcome {
    let only = std::env::args().nth(2);
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wanted("rows") {
        Box::pin(rows()).await?;
    }
    if wanted("memory") {
        Box::pin(memory_and_waking()).await?;
    }
    if wanted("cold") {
        cold_starts().await?;
    }
    if wanted("creations") {
        let tmpfs = Path::new("/dev/shm");
        if tmpfs.is_dir() {
            Box::pin(below(tmpfs, "tmpfs")).await?;
        }
        Box::pin(below(&std::env::temp_dir(), "disk")).await?;
    }
    Ok(())
}
