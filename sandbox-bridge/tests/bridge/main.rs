//! The bridge as a whole: the real program, with the session, the forge and OpenCode played by the test, and with
//! the real OpenCode where `OI_OPENCODE` names it.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod credentials;
mod diffs;
mod environment;
mod host;
mod real_opencode;
mod socket;
mod support;
mod terminal;
mod turns;

/// An id of ours from a number.
fn id(n: u8) -> String {
    format!("{n:032x}")
}
