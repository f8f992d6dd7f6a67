//! What must hold of the sockets' frames, of pasted texts, of bodies and of signatures, whatever the bytes. One function a
//! target of `cargo xtask fuzz`.
//!
//! The ordinary tests include these by path and feed them the files of `seeds/`, so a crashing input
//! that is put there stays a test.

pub mod dotenv;
pub mod frames;
pub mod rest;
pub mod session;

#[path = "../../durable-objects/core/tests/support/mod.rs"]
mod support;
