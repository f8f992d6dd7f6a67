//! The bridge as a whole: the real program, with the session, the forge and OpenCode played by the test, and with
//! the real OpenCode where `OI_OPENCODE` names it.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod accounts;
mod acp;
mod agent_tools;
mod boot_modes;
mod build_mode;
mod canaries;
mod commits;
mod credentials;
mod diffs;
mod environment;
mod escape;
mod host;
mod last_work;
mod limits;
mod mcp_servers;
mod questions;
mod real_opencode;
mod services;
mod skills;
mod small_programs;
mod snapshots;
mod socket;
mod support;
mod terminal;
mod tunnels;
mod turns;

/// An id of ours from a number.
fn id(n: u8) -> String {
    format!("{n:032x}")
}
