//! What a session must stand: workerd killed again and again, sleep, and a long life.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::api::{Costs, Person, costs};
use e2e::bridge::Bridge;
use e2e::socket::{Received, Socket, Timeline, open, subscribe};
use e2e::{Failed, Outcome, check, check_eq};
use serde_json::{Value, json};

use crate::World;
use crate::crashes::{Watcher, delta, reconnect, tool};
use crate::family::bridge_of;

/// Kills of workerd in a test run; `OI_KILLS` asks for more, `OI_KILL_SEED` for other moments.
const KILLS: u64 = 6;
const SEED: u64 = 1;

/// How many were asked for.
pub fn kills() -> u32 {
    u32::try_from(number("OI_KILLS", KILLS)).unwrap_or(u32::MAX)
}

/// A variable of the test run.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The same moments under the same seed (splitmix64).
pub struct Moments(u64);

impl Moments {
    /// Those of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn below(&mut self, bound: u64) -> u64 {
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
    let seed = number("OI_KILL_SEED", SEED);
    Box::pin(kill_often(world, u64::from(kills()), seed))
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
    let mut old = OldPage::new(world, &session, grace.ws_token(&session).await?);
    old.follow(Duration::from_millis(200)).await?;
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
        old.drop_socket();
        reconnect(&mut bridge, world).await?;
        for watcher in &mut watchers {
            watcher.follow(Duration::from_millis(50 + moments.below(100))).await?;
        }
        old.follow(Duration::from_millis(50 + moments.below(100))).await?;
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
        same(&watcher.timeline.events, &stored.events, "a watcher's events")?;
        check_eq!(watcher.timeline.places, stored.places, "their places");
        check_eq!(watcher.timeline.revision, stored.revision, "a watcher's revision");
        check!(watcher.timeline.open.is_empty(), "open still: {:?}", watcher.timeline.open);
        check!(watcher.timeline.repeated.is_empty(), "text came twice: {:?}", watcher.timeline.repeated);
    }
    old.follow(Duration::from_millis(500)).await?;
    // A page that knows nothing of us sees each event once too.
    let snapshot = ada.snapshot(&session).await?;
    let events = snapshot["timeline"]["events"].as_array().cloned().unwrap_or_default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut whole = OldTimeline::default();
    for event in events.iter().map(|row| &row["event"]) {
        whole.take(event)?;
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
    same(&old.timeline.events, &whole.events, "the events of a page of dialect 1")?;
    check_eq!(old.timeline.text, text, "the text of a page of dialect 1");
    check_eq!(world.backend()?.count_of(&session).await, 1, "no second sandbox was asked for");
    Ok(())
}

/// Fails with what differs, not with all there is.
fn same(have: &BTreeMap<String, Value>, stored: &BTreeMap<String, Value>, what: &str) -> Outcome {
    for (id, event) in stored {
        check_eq!(have.get(id), Some(event), "{what}: {id}");
    }
    check_eq!(have.len(), stored.len(), "{what}: how many");
    Ok(())
}

/// What a page of dialect 1 makes of its frames: events have no ids there, and a text comes whole each time.
#[derive(Default)]
struct OldTimeline {
    /// Tool calls by id, and the other events by their type and content.
    events: BTreeMap<String, Value>,
    text: String,
}

impl OldTimeline {
    /// Takes an event that is new to the page.
    fn take(&mut self, event: &Value) -> Outcome {
        if event["type"] == "token" {
            let content = event["content"].as_str().unwrap_or_default();
            check!(content.starts_with(&self.text), "the text goes back from {:?} to {content:?}", self.text);
            content.clone_into(&mut self.text);
            return Ok(());
        }
        let key = match event["type"].as_str() {
            Some("tool_call") => format!("tool_call {}", event["callId"]),
            _ => event.to_string(),
        };
        check!(self.events.insert(key, event.clone()).is_none(), "an event came twice: {event}");
        Ok(())
    }
}

/// A page of dialect 1 that comes back by itself, with everything anew each time.
struct OldPage<'w> {
    world: &'w World,
    session: String,
    token: String,
    socket: Option<Socket>,
    timeline: OldTimeline,
}

impl<'w> OldPage<'w> {
    fn new(world: &'w World, session: &str, token: String) -> Self {
        Self { world, session: session.to_owned(), token, socket: None, timeline: OldTimeline::default() }
    }

    fn drop_socket(&mut self) {
        self.socket = None;
    }

    async fn connect(&mut self) -> Outcome {
        let ready = &self.world.stack.ready;
        let origin = vec![("Origin", ready.base_url.clone())];
        let mut socket = open(ready, &self.session, "", &origin)
            .await?
            .map_err(|status| Failed(format!("the upgrade was refused with {status}")))?;
        socket.send(&json!({"type": "subscribe", "token": self.token, "clientId": "old"})).await?;
        let subscribed = socket.wait_for(Duration::from_secs(15), |frame| frame["type"] == "subscribed").await?;
        let known = std::mem::take(&mut self.timeline);
        for event in subscribed["timeline"]["events"].as_array().into_iter().flatten() {
            self.timeline.take(&event["event"])?;
        }
        // Nothing that it saw before is gone.
        for (key, event) in &known.events {
            check_eq!(self.timeline.events.get(key), Some(event), "an event that was shown before");
        }
        self.socket = Some(socket);
        Ok(())
    }

    async fn follow(&mut self, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if self.socket.is_none() {
                self.connect().await?;
            }
            let Some(socket) = &mut self.socket else { continue };
            match socket.receive(deadline.saturating_duration_since(Instant::now())).await {
                Ok(Received::Json(frame)) => {
                    check!(frame["type"] != "batch" && frame["type"] != "part_delta", "not of dialect 1: {frame}");
                    if frame["type"] == "sandbox_event" {
                        self.timeline.take(&frame["event"])?;
                    }
                }
                Ok(Received::Closed(..)) => self.socket = None,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
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
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    let message = bridge.prompts[0]["messageId"].clone();
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    let hellos = bridge.hellos;
    tokio::time::sleep(SLEEP).await;
    // Who typed, and to whom it is told, is known from the sockets alone.
    hers.send(&json!({"type": "typing"})).await?;
    let typing = other.wait_for(Duration::from_secs(10), |frame| frame["type"] == "typing").await?;
    check!(typing.to_string().to_lowercase().contains("ada"), "it is told who types: {typing}");
    bridge.listen(Duration::from_secs(10), |b| b.hellos > hellos).await?;
    check!(bridge.hellos > hellos, "the object was in memory all the time: this shows nothing of its sleep");
    other.close().await;
    hers.wait_for(Duration::from_secs(10), |frame| frame["type"] == "presence_leave").await?;
    Ok(())
}

pub async fn a_sleeping_session_answers_a_ping_without_waking(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let (mut bridge, _) = bridge_of(world, &session).await?;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    let (mut page, _) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    check!(costs(ready, &session).await?.statements > 0, "an object in memory has read its session");
    let hellos = bridge.hellos;
    tokio::time::sleep(SLEEP).await;
    for _ in 0..3 {
        page.send_text(r#"{"type":"ping"}"#.to_owned()).await?;
        bridge.raw()?.send_text(r#"{"type":"ping"}"#.to_owned()).await?;
        // The same each time: a time in it would be that of the object's start.
        let pong = page.wait_for(Duration::from_secs(10), |frame| frame["type"] == "pong").await?;
        check_eq!(pong, json!({"type": "pong"}), "the answer");
        let pong = bridge.raw()?.wait_for(Duration::from_secs(10), |frame| frame["type"] == "pong").await?;
        check_eq!(pong, json!({"type": "pong"}), "the bridge's answer");
    }
    let nothing = Costs { statements: 0, rows_read: 0, rows_written: 0 };
    check_eq!(costs(ready, &session).await?, nothing, "what the object did when it was pinged");
    bridge.listen(Duration::from_millis(300), |b| b.hellos > hellos).await?;
    check_eq!(bridge.hellos, hellos, "greetings");
    // A ping that is written in another way is a message like any other: so it is seen that waking shows.
    page.send_text(r#"{ "type": "ping" }"#.to_owned()).await?;
    page.wait_for(Duration::from_secs(10), |frame| frame["type"] == "pong").await?;
    check!(costs(ready, &session).await?.statements > 0, "this one wakes the session");
    bridge.listen(Duration::from_secs(10), |b| b.hellos > hellos).await?;
    check_eq!(bridge.hellos, hellos + 1, "greetings");
    Ok(())
}

/// A session with one finished prompt of so many tool calls, its bridge, and a page.
struct Filled {
    session: String,
    token: String,
    bridge: Bridge,
    page: Socket,
}

async fn filled(world: &World, ada: &Person, events: usize) -> Outcome<Filled> {
    let direct = world.stack.directly().await?;
    let session = ada.create_session().await?;
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    let mut bridge = Bridge::new(sandbox);
    bridge.connect(&direct).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    let token = ada.ws_token(&session).await?;
    let (mut page, _) = subscribe(&direct, &session, &token, None).await?;
    let message = ada.prompt(&session, "work for long").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    for call in 0..events {
        let id = format!("call-{call:05}");
        bridge.emit(tool(&message, &id)).await;
        if call % 500 == 499 {
            bridge.listen(Duration::from_secs(30), Bridge::is_settled).await?;
            // An object whose page does not read what it is sent cannot sleep.
            page.wait_for(Duration::from_secs(30), |frame| frame["event"]["callId"] == json!(id)).await?;
        }
    }
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(30), Bridge::is_settled).await?;
    check!(bridge.is_settled(), "all of it was taken, up to {}", bridge.acked);
    ada.wait_for_end(&session, &message, Duration::from_secs(10)).await?;
    Ok(Filled { session, token, bridge, page })
}

/// Waits until all of them are out of memory at once. An alarm that was set while they worked may wake one for a moment.
async fn fall_asleep(world: &World, sessions: &[&str]) -> Outcome {
    for _ in 0..5 {
        tokio::time::sleep(SLEEP).await;
        let mut awake = 0;
        for session in sessions {
            awake += costs(&world.stack.ready, session).await?.statements;
        }
        if awake == 0 {
            return Ok(());
        }
    }
    Err(Failed("the sessions do not fall asleep".to_owned()))
}

/// What one input of a page costs a session that is asleep, and then what a second page costs it.
async fn wake(world: &World, filled: &mut Filled, events: usize) -> Outcome<(Costs, Costs)> {
    let direct = world.stack.directly().await?;
    let ready = &world.stack.ready;
    check_eq!(costs(ready, &filled.session).await?.statements, 0, "statements of an object that was asleep");
    let hellos = filled.bridge.hellos;
    filled.page.send(&json!({"type": "presence", "status": "idle"})).await?;
    filled.page.wait_for(Duration::from_secs(20), |frame| frame["type"] == "presence_update").await?;
    filled.bridge.listen(Duration::from_secs(10), |b| b.hellos > hellos).await?;
    check_eq!(filled.bridge.hellos, hellos + 1, "greetings: the session was built again");
    let woken = costs(ready, &filled.session).await?;
    let (_, subscribed) = subscribe(&direct, &filled.session, &filled.token, None).await?;
    let places = subscribed["timeline"]["events"].as_array().into_iter().flatten();
    let newest = places.filter_map(|event| event["timelineSequence"].as_i64()).max().unwrap_or(0);
    check!(newest > events as i64, "its events are there, up to place {newest}");
    let opened = costs(ready, &filled.session).await?.since(woken);
    Ok((woken, opened))
}

pub async fn a_session_of_20_000_events_wakes_at_the_cost_of_a_short_one(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let (few, many) = (1_000, 20_000);
    let mut short = filled(world, &ada, few).await?;
    let mut long = filled(world, &ada, many).await?;
    fall_asleep(world, &[&short.session, &long.session]).await?;
    let (woken_short, opened_short) = wake(world, &mut short, few).await?;
    let (woken_long, opened_long) = wake(world, &mut long, many).await?;
    check_eq!(woken_long, woken_short, "what waking costs");
    check!(woken_long.statements > 0 && woken_long.rows_read < 250, "few rows: {woken_long:?}");
    check_eq!(opened_long, opened_short, "what a page that opens costs");
    // Also a page far back costs what it shows.
    let path = |events: usize| format!("/api/sessions/{{}}/events?limit=50&cursor=0:{}:", events / 2);
    let mut listed = Vec::new();
    for (filled, events) in [(&short, few), (&long, many)] {
        let before = costs(&world.stack.ready, &filled.session).await?;
        let path = path(events).replace("{}", &filled.session);
        let answer = ada.call(reqwest::Method::GET, &path, None).await?;
        check_eq!(answer.json["events"].as_array().map(Vec::len), Some(50), "a page from the middle ({})", answer.text);
        listed.push(costs(&world.stack.ready, &filled.session).await?.since(before));
    }
    check_eq!(listed[1], listed[0], "what a page from the middle costs");
    Ok(())
}
