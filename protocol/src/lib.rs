//! Wire types of Open-Inspect, shared by every program of the house.
//!
//! Names, limits and codes are those of the Open-Inspect wire (dialect 1); what dialect 2 adds is marked so.
//! TypeScript is generated from these types (`cargo xtask types`), so a field exists once.
//!
//! Integers stay below 2^53 and are `number` in TypeScript. `Option` with `absent` means that the key may be
//! absent but is never `null`; a plain `Option` field without it is written as `null`.

pub mod callback;
pub mod client_socket;
pub mod diff;
pub mod dotenv;
pub mod environments;
pub mod error;
pub mod event;
pub mod forges;
pub mod identity;
pub mod ids;
pub mod image_builds;
pub mod inbox;
pub mod js_json;
pub mod limits;
pub mod local_backend;
pub mod rest;
pub mod sandbox_socket;
pub mod search;
pub mod secrets;
pub mod session_state;
pub mod settings;
pub mod terminal;
pub mod text;
pub mod time;

mod serde_rules;

pub use environments::EnvironmentId;
pub use error::{ErrorBody, ErrorCode};
pub use ids::{ArtifactId, MessageId, ParticipantId, SessionId};
pub use time::UnixMillis;
