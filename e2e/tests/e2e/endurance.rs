//! What a session must stand: workerd killed again and again, sleep, and a long life.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::api::Person;
use e2e::bridge::Bridge;
use e2e::socket::{Timeline, subscribe};
use e2e::{Failed, Outcome, check, check_eq};
use serde_json::{Value, json};

use crate::World;
use crate::crashes::{Watcher, delta, reconnect, tool};
use crate::family::bridge_of;

/// Kills of workerd in a test run; `OI_KILLS` asks for more, `OI_KILL_SEED` for other moments.
const KILLS: u64 = 6;
const SEED: u64 = 1;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The same moments under the same seed (splitmix64).
struct Moments(u64);

impl Moments {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Kills it, also when it was started just now and its new id is not known yet.
async fn kill_workerd(world: &World) -> Outcome {
    let begun = Instant::now();
    loop {
        let killed = match world.stack.pid("workerd").await {
            Ok(pid) => world.stack.kill(pid).await,
            Err(failed) => Err(failed),
        };
        match killed {
            Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            killed => return killed,
        }
    }
}

pub async fn killing_workerd_at_seeded_moments_loses_and_doubles_nothing(world: &World) -> Outcome {
    let (kills, seed) = (number("OI_KILLS", KILLS), number("OI_KILL_SEED", SEED));
    Box::pin(kill_often(world, kills, seed))
        .await
        .map_err(|failed| Failed(format!("OI_KILL_SEED={seed}: {}", failed.0)))
}

async fn kill_often(world: &World, kills: u64, seed: u64) -> Outcome {
    let ready = &world.stack.ready;
    let mut moments = Moments(seed);
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let session = ada.create_session().await?;
    let mut bridge = Bridge::new(world.backend()?.sandbox_of(&session).await?);
    bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    let mut watchers = Vec::new();
    for person in [&ada, &grace] {
        let mut watcher = Watcher::new(world, &session, person.ws_token(&session).await?);
        watcher.follow(Duration::from_millis(200)).await?;
        watchers.push(watcher);
    }
    let message = ada.prompt(&session, "stream for a while").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    let (mut text, mut calls) = (String::new(), Vec::new());
    for round in 0..kills {
        let kill_at = moments.below(30);
        for step in 0..=kill_at {
            let piece = format!("r{round}s{step} ");
            bridge.emit(delta(&message, "p1", text.len(), &piece)).await;
            text.push_str(&piece);
            if moments.below(4) == 0 {
                let call = format!("c{round:03}-{step:02}");
                bridge.emit(tool(&message, &call)).await;
                calls.push(call);
            }
            bridge.listen(Duration::from_millis(moments.below(20)), |_| false).await?;
        }
        kill_workerd(world).await?;
        bridge.drop_socket();
        for watcher in &mut watchers {
            watcher.drop_socket();
        }
        reconnect(&mut bridge, world).await?;
        for watcher in &mut watchers {
            watcher.follow(Duration::from_millis(50 + moments.below(100))).await?;
        }
    }
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(15), Bridge::is_settled).await?;
    check!(bridge.is_settled(), "everything was acknowledged, up to {}", bridge.acked);
    check_eq!(bridge.prompts.len(), 1, "the prompt was given once");
    let ended = ada.wait_for_end(&session, &message, Duration::from_secs(10)).await?;
    check_eq!(ended["status"], "completed", "the prompt");

    let (_, subscribed) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    let mut stored = Timeline::default();
    stored.take(&subscribed)?;
    check_eq!(stored.texts(), vec![text.clone()], "the stored text, whole and once");
    let mut kept: Vec<&str> = stored
        .events
        .values()
        .filter(|event| event["type"] == "tool_call")
        .filter_map(|event| event["callId"].as_str())
        .collect();
    kept.sort_unstable();
    check_eq!(kept, calls.iter().map(String::as_str).collect::<Vec<_>>(), "the stored tool calls, each once");
    for watcher in &mut watchers {
        watcher.follow(Duration::from_millis(500)).await?;
        check_eq!(watcher.timeline.texts(), stored.texts(), "a watcher's text");
        let ids = |timeline: &Timeline| timeline.events.keys().cloned().collect::<Vec<_>>();
        check_eq!(ids(&watcher.timeline), ids(&stored), "a watcher's events");
    }
    // A page that knows nothing of us sees each event once too.
    let old = ada.snapshot(&session).await?;
    let events = old["timeline"]["events"].as_array().cloned().unwrap_or_default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for event in events.iter().map(|row| &row["event"]) {
        match event["type"].as_str() {
            Some("tool_call") => *seen.entry(event["callId"].to_string()).or_default() += 1,
            Some("token") => {
                check_eq!(event["content"], json!(text), "the text in dialect 1");
            }
            _ => {}
        }
    }
    check_eq!(seen.len(), calls.len(), "tool calls in dialect 1");
    check!(seen.values().all(|count| *count == 1), "each once: {seen:?}");
    check_eq!(world.backend()?.count_of(&session).await, 1, "no second sandbox was asked for");
    Ok(())
}

/// Longer than the platform waits before it takes an idle object out of memory (10 s).
const SLEEP: Duration = Duration::from_secs(14);

pub async fn a_session_sleeps_and_wakes_with_its_sockets(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let session = ada.create_session().await?;
    let (mut bridge, _) = bridge_of(world, &session).await?;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    let (mut hers, _) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    let (mut other, _) = subscribe(ready, &session, &grace.ws_token(&session).await?, None).await?;
    let hellos = bridge.hellos;
    tokio::time::sleep(SLEEP).await;
    // A rebuilt object greets its bridge: so it is seen that it was gone.
    other.send(&json!({"type": "presence", "status": "idle"})).await?;
    let is_idle = |frame: &Value| {
        frame["type"] == "presence_update"
            && frame["participants"].as_array().into_iter().flatten().any(|person| person["status"] == "idle")
    };
    let presence = hers.wait_for(Duration::from_secs(10), is_idle).await?;
    let people = presence["participants"].as_array().map_or(0, Vec::len);
    check_eq!(people, 2, "both are here still ({presence})");
    bridge.listen(Duration::from_secs(10), |b| b.hellos > hellos).await?;
    check!(bridge.hellos > hellos, "the object was in memory all the time: this shows nothing of its sleep");
    hers.send(&json!({"type": "prompt", "clientRequestId": "awake", "content": "go on"})).await?;
    hers.wait_for(Duration::from_secs(10), |frame| frame["type"] == "prompt_queued").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    check_eq!(bridge.prompts.len(), 1, "the prompt came by the old sockets");
    other.close().await;
    hers.wait_for(Duration::from_secs(10), |frame| frame["type"] == "presence_leave").await?;
    Ok(())
}
