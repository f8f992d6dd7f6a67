//! What a crash must not lose: whatever was acknowledged.

use std::time::{Duration, Instant};

use e2e::api::{Person, signed};
use e2e::bridge::Bridge;
use e2e::socket::{Received, Socket, Timeline, subscribe};
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;

pub async fn a_panic_is_answered_and_the_next_call_works(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let begun = Instant::now();
    let answer = signed(ready, "web", Method::POST, "/internal/faults/panic", Some(&json!({}))).await?;
    check_eq!(answer.status.as_u16(), 500, "a panic's answer ({})", answer.text);
    check!(begun.elapsed() < Duration::from_secs(5), "it was answered at once, not after {:?}", begun.elapsed());
    let health = reqwest::get(format!("{}/health", ready.base_url)).await?;
    check_eq!(health.status().as_u16(), 200, "the next call");
    let person = Person::sign_in(ready, "ada").await?;
    person.create_session().await?;
    Ok(())
}

pub async fn a_panic_in_a_session_loses_nothing_acknowledged(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let mut bridge = Bridge::new(world.backend()?.sandbox_of(&session).await?);
    bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    let message = ada.prompt(&session, "work").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    bridge.emit(delta(&message, "p1", 0, "before the panic, ")).await;
    bridge.emit(tool(&message, "c1")).await;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    let title = ada.snapshot(&session).await?["session"]["title"].clone();
    let hellos = bridge.hellos;
    let path = format!("/internal/faults/panic?sessionId={session}&where=session");
    let answer = signed(ready, "web", Method::POST, &path, Some(&json!({}))).await?;
    check_eq!(answer.status.as_u16(), 500, "the panic's answer");
    // The bridge gets a new hello on the same socket and goes on.
    bridge.listen(Duration::from_secs(10), |b| b.hellos > hellos).await?;
    check_eq!(bridge.hellos, hellos + 1, "greetings: the session was built again, once");
    bridge.emit(delta(&message, "p1", 18, "after it")).await;
    let done = json!({"type": "execution_complete", "messageId": message, "success": true});
    bridge.emit(done).await;
    bridge.listen(Duration::from_secs(15), Bridge::is_settled).await?;
    check!(bridge.is_settled(), "everything was acknowledged, up to {}", bridge.acked);
    let ended = ada.wait_for_end(&session, &message, Duration::from_secs(10)).await?;
    check_eq!(ended["status"], "completed", "the prompt after the panic");
    let snapshot = ada.snapshot(&session).await?;
    check_eq!(snapshot["session"]["title"], title, "what the panicking call wrote was rolled back");
    let (_, subscribed) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    let mut timeline = Timeline::default();
    timeline.take(&subscribed)?;
    check_eq!(timeline.texts(), vec!["before the panic, after it".to_owned()], "the text");
    Ok(())
}

pub fn delta(message: &str, part: &str, offset: usize, text: &str) -> Value {
    json!({"type": "part_delta", "messageId": message, "partId": part, "kind": "text", "offset": offset, "text": text})
}

pub fn tool(message: &str, call: &str) -> Value {
    json!({"type": "tool_call", "messageId": message, "tool": "bash", "args": {"command": "true"}, "callId": call,
        "status": "completed", "output": call})
}

/// The bridge comes back once workerd has.
pub async fn reconnect(bridge: &mut Bridge, world: &World) -> Outcome {
    world.stack.wait_healthy().await?;
    let begun = Instant::now();
    loop {
        match bridge.connect(&world.stack.ready).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) if matches!(status, 401 | 403 | 404 | 410) => {
                return Err(Failed(format!("the bridge was locked out with {status}")));
            }
            _ if begun.elapsed() > Duration::from_secs(30) => {
                return Err(Failed("the bridge did not come back".to_owned()));
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A watcher that comes back by itself and resumes where it was.
pub struct Watcher<'w> {
    world: &'w World,
    session: String,
    token: String,
    socket: Option<Socket>,
    /// What it has.
    pub timeline: Timeline,
}

impl<'w> Watcher<'w> {
    /// One that has not looked yet.
    pub fn new(world: &'w World, session: &str, token: String) -> Self {
        Self { world, session: session.to_owned(), token, socket: None, timeline: Timeline::default() }
    }

    /// Its connection breaks.
    pub fn drop_socket(&mut self) {
        self.socket = None;
    }

    /// Reads for so long, connecting again when it must.
    pub async fn follow(&mut self, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if self.socket.is_none() {
                let after = Some(self.timeline.revision).filter(|revision| *revision > 0);
                let Ok((socket, subscribed)) =
                    subscribe(&self.world.stack.ready, &self.session, &self.token, after).await
                else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                self.timeline.take(&subscribed)?;
                self.socket = Some(socket);
            }
            let Some(socket) = &mut self.socket else { continue };
            match socket.receive(deadline.saturating_duration_since(Instant::now())).await {
                Ok(Received::Json(frame)) => self.timeline.take(&frame)?,
                Ok(Received::Closed(..)) => self.socket = None,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

pub async fn killing_workerd_in_a_stream_loses_nothing_acknowledged(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let mut bridge = Bridge::new(world.backend()?.sandbox_of(&session).await?);
    bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    let token = ada.ws_token(&session).await?;
    let mut watcher = Watcher::new(world, &session, token);
    watcher.follow(Duration::from_millis(300)).await?;
    let message = ada.prompt(&session, "stream for a while").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;

    let (mut expected_text, mut expected_calls) = (String::new(), Vec::new());
    for round in 0..3 {
        let kill_at = 7 + round * 5;
        for step in 0..25 {
            let piece = format!("r{round}s{step} ");
            bridge.emit(delta(&message, "p1", expected_text.len(), &piece)).await;
            expected_text.push_str(&piece);
            if step % 5 == 4 {
                let call = format!("c{round}-{step}");
                bridge.emit(tool(&message, &call)).await;
                expected_calls.push(call);
            }
            bridge.listen(Duration::from_millis(15), |_| false).await?;
            if step == kill_at % 25 {
                let pid = world.stack.pid("workerd").await?;
                world.stack.kill(pid).await?;
                bridge.drop_socket();
                watcher.drop_socket();
            }
        }
        reconnect(&mut bridge, world).await?;
        watcher.follow(Duration::from_millis(300)).await?;
    }
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(15), Bridge::is_settled).await?;
    check!(bridge.is_settled(), "everything was acknowledged, up to {}", bridge.acked);
    check_eq!(bridge.prompts.len(), 1, "the prompt was given once");
    watcher.follow(Duration::from_millis(500)).await?;

    let ended = ada.wait_for_end(&session, &message, Duration::from_secs(10)).await?;
    check_eq!(ended["status"], "completed", "the prompt");
    let (_, subscribed) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    let mut stored = Timeline::default();
    stored.take(&subscribed)?;
    check_eq!(stored.texts(), vec![expected_text], "the stored text, whole and once");
    let mut calls: Vec<String> = stored
        .events
        .values()
        .filter(|event| event["type"] == "tool_call")
        .map(|event| event["callId"].as_str().unwrap_or_default().to_owned())
        .collect();
    calls.sort();
    expected_calls.sort();
    check_eq!(calls, expected_calls, "the stored tool calls, each once");
    let kinds = |timeline: &Timeline| timeline.events.keys().cloned().collect::<Vec<_>>();
    check_eq!(kinds(&watcher.timeline), kinds(&stored), "the watcher that came back has every event");
    check_eq!(watcher.timeline.texts(), stored.texts(), "the watcher's text");
    check_eq!(world.backend()?.count_of(&session).await, 1, "no second sandbox was asked for");
    Ok(())
}

/// The process that started another; none when it has ended.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The command line of a process, with spaces between its words; empty when it has ended.
pub fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// All processes of this machine.
pub fn processes() -> Outcome<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Process ids whose command line contains all the words, among what this process started: others of this machine may
/// run the same programs.
pub fn find_processes(words: &[&str], below: u32) -> Outcome<Vec<u32>> {
    let mut found = Vec::new();
    for pid in processes()? {
        let line = command_line(pid);
        let is_ours = || std::iter::successors(Some(pid), |pid| parent(*pid)).take(64).any(|pid| pid == below);
        if words.iter().all(|word| line.contains(word)) && !line.contains("bwrap ") && is_ours() {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Starts a slow run and gives session and prompt once text flows.
async fn slow_run(world: &World, ada: &Person) -> Outcome<(String, String)> {
    let session = ada.create_session().await?;
    let token = ada.ws_token(&session).await?;
    let (mut socket, _) = subscribe(&world.stack.ready, &session, &token, None).await?;
    let message = ada.prompt(&session, "SLOW: think about it").await?;
    socket.wait_for(Duration::from_secs(120), |f| f["type"] == "part_delta" || f["type"] == "batch").await?;
    Ok((session, message))
}

async fn ends_visibly_and_goes_on(ada: &Person, session: &str, message: &str) -> Outcome {
    let ended = ada.wait_for_end(session, message, Duration::from_secs(200)).await?;
    if ended["status"] == "failed" {
        check!(ended["errorMessage"].as_str().is_some_and(|e| !e.is_empty()), "a failure says why: {ended}");
    }
    let next = ada.prompt(session, "LONG: tell me about the repository").await?;
    let ended = ada.wait_for_end(session, &next, Duration::from_secs(150)).await?;
    check_eq!(ended["status"], "completed", "the next prompt of the session ({ended})");
    Ok(())
}

async fn kill_one(world: &World, words: &[&str]) -> Outcome {
    let pids = find_processes(words, world.stack.pid("sandbox-host").await?)?;
    check!(!pids.is_empty(), "no process of {words:?}");
    for pid in pids {
        world.stack.kill(pid).await?;
    }
    Ok(())
}

pub async fn killing_the_bridge_in_a_run_ends_it_visibly(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let (session, message) = slow_run(world, &ada).await?;
    kill_one(world, &["sandbox-bridge", "supervise"]).await?;
    ends_visibly_and_goes_on(&ada, &session, &message).await
}

pub async fn killing_the_agent_in_a_run_ends_it_visibly(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let (session, message) = slow_run(world, &ada).await?;
    kill_one(world, &["opencode", "serve"]).await?;
    ends_visibly_and_goes_on(&ada, &session, &message).await
}

pub async fn killing_workerd_in_a_run_ends_it_visibly(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let (session, message) = slow_run(world, &ada).await?;
    let pid = world.stack.pid("workerd").await?;
    world.stack.kill(pid).await?;
    world.stack.wait_healthy().await?;
    ends_visibly_and_goes_on(&ada, &session, &message).await
}
