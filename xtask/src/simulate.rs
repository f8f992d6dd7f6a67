//! `cargo xtask simulate`: whole sessions under many seeds, with optimised code and its assertions.

use std::time::Duration;

use crate::cargo;
use crate::failure::Result;
use crate::places::Places;

const DEADLINE: Duration = Duration::from_secs(12 * 60 * 60);

/// Run whole sessions under many seeds: crashes, lost and doubled messages, late alarms. For every night.
#[derive(clap::Args)]
pub struct Options {
    /// How many.
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

pub fn run(places: &Places, options: &Options) -> Result<()> {
    cargo::native(places, "the simulator", DEADLINE)
        .args(["test", "-q", "--profile", "simulate", "-p", "oi-session", "--test", "simulator", "--"])
        .args(["whole_sessions_hold_under_every_seed", "--nocapture"])
        .env("OI_SIM_SEEDS", options.seeds.to_string())
        .env("OI_SIM_FROM", options.from.to_string())
        .run()
}
