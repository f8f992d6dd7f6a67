//! Behaviours of a session, each a transcript.

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod budgets;
mod callbacks;
mod calls;
mod children;
mod delete;
mod faults;
mod fork;
#[path = "../../../../fuzz/src/session.rs"]
mod fuzz;
mod fuzz_seeds;
mod gather;
mod outputs;
mod prompts;
mod pull_requests;
mod questions;
mod queue_edits;
mod queue_model;
mod sandbox_life;
mod sandbox_model;
mod sandbox_wire;
#[path = "../../../../fuzz/src/seeds.rs"]
mod seeds;
mod snapshots;
mod text;
mod timeline;
mod timeline_model;
