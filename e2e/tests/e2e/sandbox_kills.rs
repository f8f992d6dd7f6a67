//! A sandbox's processes killed at seeded moments, while the real agent works: nothing acknowledged is lost, nothing is
//! doubled, and every prompt ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::api::Person;
use e2e::socket::{Timeline, subscribe};
use e2e::{Failed, Outcome, check, check_eq};
use serde_json::Value;

use crate::World;
use crate::crashes::{Watcher, find_processes};
use crate::endurance::{Moments, number};

/// Kills in a test run; `OI_SANDBOX_KILLS` asks for more, `OI_KILL_SEED` for other moments.
const KILLS: u64 = 4;
/// Kills of one session's sandbox: its host starts a supervisor again five times at most.
const KILLS_OF_ONE: u64 = 4;
/// The latest moment after a prompt, in milliseconds.
const LATEST_MS: u64 = 4_500;
/// What the agent is at. Ticks come every 100 ms.
const PROMPTS: [&str; 3] = ["SLOW 35", "TOOLS 9", "BASH for n in 1 2 3 4 5 6; do echo $n; sleep 0.4; done"];

/// How many were asked for.
pub fn kills() -> u32 {
    u32::try_from(number("OI_SANDBOX_KILLS", KILLS)).unwrap_or(u32::MAX)
}

/// Who is killed.
const VICTIMS: [(&str, &[&[&str]]); 3] = [
    ("the supervisor, which is the bridge", &[&["sandbox-bridge", "supervise"]]),
    ("the agent", &[&["opencode", "serve"]]),
    ("both", &[&["opencode", "serve"], &["sandbox-bridge", "supervise"]]),
];

/// One session, and what a page of it has seen.
struct Watched<'w> {
    session: String,
    page: Watcher<'w>,
    prompts: Vec<String>,
}

pub async fn killing_a_sandboxs_processes_at_seeded_moments_loses_and_doubles_nothing(world: &World) -> Outcome {
    let seed = number("OI_KILL_SEED", 1);
    Box::pin(kill_often(world, u64::from(kills()), seed))
        .await
        .map_err(|failed| Failed(format!("OI_KILL_SEED={seed}: {}", failed.0)))
}

async fn kill_often(world: &World, kills: u64, seed: u64) -> Outcome {
    let mut moments = Moments::new(seed);
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let (mut watched, mut hits): (Option<Watched<'_>>, u64) = (None, 0);
    for kill in 0..kills {
        if kill % KILLS_OF_ONE == 0 {
            if let Some(done) = watched.take() {
                settle(world, &ada, done).await?;
            }
            watched = Some(begin(world, &ada).await?);
        }
        let Some(current) = &mut watched else { continue };
        let (work, (who, victims)) = (PROMPTS[moments.below(3) as usize], VICTIMS[moments.below(3) as usize]);
        let after = Duration::from_millis(moments.below(LATEST_MS));
        let killed = one_kill(world, &ada, current, work, victims, after)
            .await
            .map_err(|failed| Failed(format!("kill {kill} ({who}, {after:?} after `{work}`): {}", failed.0)))?;
        hits += u64::from(killed > 0);
    }
    if let Some(done) = watched {
        settle(world, &ada, done).await?;
    }
    // One that the kill before took along, or that is being started, is not there; most are.
    check!(hits * 2 > kills, "of {kills} kills only {hits} met a process");
    Ok(())
}

/// A session whose sandbox is up.
async fn begin<'w>(world: &'w World, ada: &Person) -> Outcome<Watched<'w>> {
    let session = ada.create_session().await?;
    let token = ada.ws_token(&session).await?;
    let mut watched = Watched { page: Watcher::new(world, &session, token), session, prompts: Vec::new() };
    let first = ada.prompt(&watched.session, "LONG: say something").await?;
    wait(ada, &mut watched, &first).await?;
    watched.prompts.push(first);
    Ok(watched)
}

/// Reads the page until a prompt has ended.
async fn wait(ada: &Person, watched: &mut Watched<'_>, message: &str) -> Outcome<Value> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(150) {
        watched.page.follow(Duration::from_millis(300)).await?;
        let messages = ada.messages(&watched.session).await?;
        let found = messages.into_iter().find(|m| m["id"] == message).unwrap_or(Value::Null);
        if matches!(found["status"].as_str(), Some("completed" | "failed")) {
            return Ok(found);
        }
    }
    Err(Failed(format!("prompt {message} did not end")))
}

async fn one_kill(
    world: &World,
    ada: &Person,
    watched: &mut Watched<'_>,
    work: &str,
    victims: &[&[&str]],
    after: Duration,
) -> Outcome<usize> {
    let message = ada.prompt(&watched.session, work).await?;
    watched.page.follow(after).await?;
    let host = world.stack.pid("sandbox-host").await?;
    let mut killed = 0;
    for words in victims {
        for pid in find_processes(words, host)? {
            killed += usize::from(world.stack.kill(pid).await.is_ok());
        }
    }
    let ended = wait(ada, watched, &message).await?;
    if ended["status"] == "failed" {
        check!(ended["errorMessage"].as_str().is_some_and(|e| !e.is_empty()), "a failure says why: {ended}");
    }
    watched.prompts.push(message);
    Ok(killed)
}

/// What the ticks of a text say: each once, in order, from the first on.
fn ticks_of(text: &str) -> Outcome<usize> {
    let numbers: Vec<usize> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    check_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "the ticks of {text:?}");
    Ok(numbers.len())
}

/// The session goes on, and its timeline holds what its page was shown, all of it once.
async fn settle(world: &World, ada: &Person, mut watched: Watched<'_>) -> Outcome {
    let last = ada.prompt(&watched.session, "LONG: and now?").await?;
    let ended = wait(ada, &mut watched, &last).await?;
    check_eq!(ended["status"], "completed", "a prompt after the kills ({ended})");
    watched.prompts.push(last);
    watched.page.follow(Duration::from_millis(500)).await?;
    let ready = &world.stack.ready;
    let (_, subscribed) = subscribe(ready, &watched.session, &ada.ws_token(&watched.session).await?, None).await?;
    let mut stored = Timeline::default();
    stored.take(&subscribed)?;
    let page = &watched.page.timeline;
    for (id, event) in &page.events {
        check_eq!(stored.events.get(id), Some(event), "what the page was shown is stored: {id}");
    }
    check_eq!(page.events.len(), stored.events.len(), "the page was shown all there is");
    check!(page.open.is_empty(), "parts that nobody ended: {:?}", page.open);
    for message in &watched.prompts {
        let of = |kind: &str| -> Vec<&Value> {
            let events = stored.events.values();
            events.filter(|event| event["type"] == kind && event["messageId"] == *message).collect()
        };
        check_eq!(of("execution_complete").len(), 1, "ends of {message}");
        check_eq!(of("user_message").len(), 1, "beginnings of {message}");
        let calls: Vec<String> = of("tool_call").iter().map(|call| call["callId"].to_string()).collect();
        check_eq!(calls.iter().collect::<BTreeSet<_>>().len(), calls.len(), "tool calls of {message}, each once");
        let errors: Vec<String> = of("error").iter().map(|error| error["error"].to_string()).collect();
        check_eq!(errors.iter().collect::<BTreeSet<_>>().len(), errors.len(), "errors of {message}: {errors:?}");
        for part in of("part") {
            let text = part["text"].as_str().unwrap_or_default();
            if text.starts_with("tick") {
                ticks_of(text)?;
            }
        }
    }
    Ok(())
}
