//! Whole sessions under a seed: people, bridges, backends, crashes, and messages that are lost, doubled and late.
//!
//! `cargo xtask simulate` runs many; `OI_SIM_SEEDS=5000` sets how many, `OI_SIM_FROM` where they begin, and
//! `OI_SIM_SEED=17` replays one and says what happened.

#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod checks;
mod client;
mod outside;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::host::Bug;
use crate::world::{Tally, World};

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
        world.live()?;
        Ok(world.tally)
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
                Err(reason) => failed.push(format!("OI_SIM_SEED={seed}: {reason}")),
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
    say(&format!("{seeds} seeds from {from}: {} failed; {:?}", failed.len(), all.list()));
    assert!(failed.is_empty(), "replay with OI_SIM_SEED:\n{}", failed.join("\n"));
    // A simulator in which nothing happens finds nothing.
    if seeds >= SEEDS {
        for (what, count) in all.list() {
            assert!(count >= seeds / 10, "too little of `{what}`: {count} in {seeds} seeds\n{:?}", all.list());
        }
    }
}

/// A planted bug must be found within this many seeds.
fn finds(bug: Bug) {
    let found = (0..4_000).find_map(|seed| run(seed, Some(bug)).err());
    assert!(found.is_some(), "the simulator does not see {bug:?}");
}

#[test]
fn it_sees_a_host_that_sends_before_the_commit() {
    finds(Bug::SendsBeforeCommit);
}

#[test]
fn it_sees_a_host_that_keeps_its_core_after_a_fault() {
    finds(Bug::KeepsCoreAfterFault);
}

#[test]
fn it_sees_a_host_that_mixes_sandboxes_up() {
    finds(Bug::MixesSandboxesUp);
}

#[test]
fn it_sees_a_host_that_forgets_the_alarm() {
    finds(Bug::ForgetsTheAlarm);
}

#[test]
fn it_sees_a_host_that_drops_jobs() {
    finds(Bug::DropsJobs);
}
