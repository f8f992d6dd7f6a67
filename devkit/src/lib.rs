//! Local stand-ins for the services that Open-Inspect talks to: a GitHub-compatible [`forge`], a scripted [`model`],
//! and the clouds that sandboxes run at ([`vendors`]). They run on a developer's machine and in tests, and are never
//! deployed.

#![recursion_limit = "256"] // `json!` over GitHub's wide objects.

pub mod forge;
pub mod model;
pub mod vendors;
