//! What the Workers share: calls that are bounded, signatures, sealed values, failures that people can read, logging.
//!
//! Everything that can be checked without a Worker is free of the platform and tested natively.

pub mod bot_edge;
pub mod callback_inbox;
pub mod clock;
pub mod deadline;
pub mod failure;
pub mod http_client;
pub mod key_ring;
pub mod log;
pub mod mac;
pub mod random;
pub mod reply;
pub mod request_body;
pub mod sealed;
pub mod service_signature;
pub mod trace;
pub mod vars;
pub mod webhook_inbox;
pub mod webhook_signature;

pub use failure::{Failure, Fault, Refusal};
