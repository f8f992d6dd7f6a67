//! Local stand-ins for the services that Open-Inspect talks to: a [`forge`] that is GitHub's and GitLab's, [`google`] for
//! signing in, a scripted [`model`], the [`subscriptions`] of two model vendors, and the clouds that sandboxes run at
//! ([`vendors`]). They run on a developer's machine and in tests, and are never deployed.

#![recursion_limit = "256"] // `json!` over GitHub's wide objects.

pub mod forge;
pub mod google;
pub mod model;
pub mod subscriptions;
pub mod vendors;
