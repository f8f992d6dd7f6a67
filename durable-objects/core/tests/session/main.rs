//! Behaviours of a session, each a transcript.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod allowed_models;
mod archive;
mod attachments;
mod boot_errors;
mod budgets;
mod callbacks;
mod calls;
mod children;
mod delete;
mod diffs;
mod environments;
mod events;
mod faults;
mod fork;
#[path = "../../../../fuzz/src/session.rs"]
mod fuzz;
mod fuzz_seeds;
mod gather;
mod latest_output;
mod limits;
mod media;
mod outputs;
mod page_limits;
mod prompts;
mod pull_request_snapshots;
mod pull_requests;
mod questions;
mod queue_edits;
mod queue_model;
mod sandbox_life;
mod sandbox_model;
mod sandbox_wire;
mod search;
#[path = "../../../../fuzz/src/seeds.rs"]
mod seeds;
mod set_timeouts;
mod snapshots;
mod text;
mod timeline;
mod timeline_model;
