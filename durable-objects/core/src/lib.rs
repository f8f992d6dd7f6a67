//! The session: the heart of the system, as a pure and synchronous core.
//!
//! No wasm, network, clock or randomness of its own. All truth is in SQLite behind [`sql::Sql`]; the host (a Durable
//! Object in production, a test or the simulator natively) feeds [`input::Input`]s and carries out
//! [`input::Outputs`] after the commit.
//!
//! * [`core::SessionCore::commit`] runs inside one storage transaction.
//! * [`core::SessionCore::stream`] gets no SQL and changes only memory that a crash may lose.
//! * [`core::SessionCore::read`] gets a read-only view and writes nothing.

pub mod access;
pub mod allowed_models;
pub mod archive_file;
pub mod attachments;
pub mod budgets;
pub mod call;
pub mod callbacks;
pub mod child_summary;
pub mod children;
pub mod clock;
pub mod core;
pub mod family;
pub mod file_type;
pub mod fork;
pub mod gather;
pub mod input;
pub mod job;
pub mod media;
pub mod pull_request_snapshots;
pub mod search;
pub mod sql;
#[cfg(feature = "native")]
pub mod sql_native;
pub mod storage_keys;
#[cfg(feature = "store-checks")]
pub mod store_checks;
pub mod token;

mod archive;
mod artifacts;
mod baselines;
mod calls;
mod client_messages;
mod deadlines;
mod deletion;
mod diff_row;
mod diffs;
mod held_calls;
mod lifecycle;
mod outbox;
mod participants;
mod parts;
mod projection;
mod prompt_end;
mod prompts;
mod pull_request_row;
mod pull_requests;
mod questions;
mod queue_edits;
mod rates;
mod reads;
mod sandbox_events;
mod sandbox_row;
mod schema;
mod session_row;
pub mod snapshots;
mod sockets;
mod start_plan;
mod timeline;
mod tool_calls;
mod uploads;
