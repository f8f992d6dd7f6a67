//! Stand-ins for the clouds that sandboxes run at. Each keeps state, checks path, query, headers and body, and can be
//! told to fail: see [`edge::Trouble`]. Nothing runs in their sandboxes.
//!
//! What the vendors publish decides what is let through: [`published`] holds the parts of Daytona's and E2B's OpenAPI
//! documents that are used here. Vercel and OpenComputer publish clients; the end-to-end tests drive those against
//! these stand-ins. Modal runs an app of ours, whose endpoints [`modal`] has.

pub mod daytona;
pub mod e2b;
pub mod edge;
pub mod modal;
pub mod opencomputer;
pub mod published;
pub mod vercel;
