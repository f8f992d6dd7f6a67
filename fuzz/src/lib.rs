//! What must hold of the sockets' frames and of pasted texts, whatever the bytes. One function a target of `cargo xtask fuzz`.
//!
//! The ordinary tests include `dotenv`, `frames` and `session` by path and feed them the files of `seeds/`, so a crashing input
//! that is put there stays a test.

pub mod dotenv;
pub mod frames;
pub mod session;

#[path = "../../durable-objects/core/tests/support/mod.rs"]
mod support;
