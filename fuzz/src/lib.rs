//! What must hold of the sockets' frames, whatever the bytes. One function a target of `cargo xtask fuzz`.
//!
//! The ordinary tests include `frames` and `session` by path and feed them the files of `seeds/`, so a crashing input
//! that is put there stays a test.

pub mod frames;
pub mod session;

#[path = "../../durable-objects/core/tests/support/mod.rs"]
mod support;
