//! Local stand-ins for the services that Open-Inspect talks to: a GitHub-compatible [`forge`], [`google`] for signing in,
//! and a scripted [`model`]. They run on a developer's machine and in tests, and are never deployed.

#![recursion_limit = "256"] // `json!` over GitHub's wide objects.

pub mod forge;
pub mod google;
pub mod model;
