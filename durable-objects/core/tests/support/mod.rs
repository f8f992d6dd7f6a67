//! What the tests share: a host as the Durable Object's is, with a clock and randomness of its own, and a session in
//! it that reads as a transcript.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod host;
pub mod probe;
pub mod session;
