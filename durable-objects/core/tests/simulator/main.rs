//! Whole sessions under a seed: people, bridges, backends, crashes, and messages that are lost, doubled and late.
//!
//! `cargo xtask simulate` runs many; `OI_SIM_SEEDS=5000` sets how many, `OI_SIM_FROM` where they begin, and
//! `OI_SIM_SEED=17` replays one and says what happened last (`OI_SIM_LINES=500`: more of it).

#[path = "../support/mod.rs"]
mod support;

mod accidents;
mod bots;
mod bridge;
mod checks;
mod client;
mod ends;
mod outside;
mod people;
mod planted;
mod sandboxes;
mod tally;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::host::Bug;
use crate::tally::Tally;
use crate::world::World;

/// Seeds of a normal test run.
const SEEDS: u64 = 2_000;
/// With so many, progress is shown as often.
const SHOWN_EVERY: u64 = 5_000;

#[expect(clippy::print_stderr, reason = "a long run shows its progress")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs one seed to its end; the error says what does not hold.
fn run(seed: u64, bug: Option<Bug>) -> Result<Tally, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, bug);
        let lived = world.live();
        if lived.is_err() && number("OI_SIM_SEED").is_some() {
            // What led to it.
            let from = world.host.log.len().saturating_sub(number("OI_SIM_LINES").unwrap_or(80) as usize);
            world.host.log[from..].iter().for_each(|line| say(line));
        }
        lived.map(|()| world.tally)
    }));
    match result {
        Ok(result) => result,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            Err(text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        }
    }
}

#[test]
fn whole_sessions_hold_under_every_seed() {
    if let Some(seed) = number("OI_SIM_SEED") {
        let result = run(seed, None);
        assert!(result.is_ok(), "seed {seed}: {}", result.err().unwrap_or_default());
        return;
    }
    let seeds = number("OI_SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("OI_SIM_FROM").unwrap_or(0);
    let next = AtomicU64::new(from);
    let share = || {
        let (mut all, mut failed) = (Tally::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                break;
            }
            if seed > from && (seed - from).is_multiple_of(SHOWN_EVERY) {
                say(&format!("{} of {seeds} seeds", seed - from));
            }
            match run(seed, None) {
                Ok(tally) => all.add(&tally),
                Err(reason) => {
                    let failure = format!("OI_SIM_SEED={seed}: {reason}");
                    say(&failure);
                    failed.push(failure);
                }
            }
            if failed.len() >= 5 {
                break;
            }
        }
        (all, failed)
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (mut all, mut failed) = (Tally::default(), Vec::new());
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..workers).map(|_| scope.spawn(share)).collect();
        for joined in shares {
            let (other, more) = joined.join().expect("a seed's panic is its result");
            all.add(&other);
            failed.extend(more);
        }
    });
    say(&format!("{seeds} seeds from {from}: {} failed; {all:?}", failed.len()));
    assert!(failed.is_empty(), "replay with OI_SIM_SEED:\n{}", failed.join("\n"));
    // A simulator in which nothing happens finds nothing.
    if seeds >= SEEDS {
        assert!(all.lacks(seeds).is_empty(), "too little in {seeds} seeds of {:?}\n{all:?}", all.lacks(seeds));
        assert!(all.strangers().is_empty(), "not expected: {:?}", all.strangers());
    }
}
