//! The web terminal's way from pages to a sandbox: an object of its own for each session, so that its bytes never pass
//! through the session.
//!
//! [`relay`] decides and knows no platform; [`object`] is the Durable Object around it; [`client`] reaches that from the
//! Worker.

pub mod client;
pub mod object;
pub mod relay;

use oi_protocol::terminal::TerminalEnd;
use serde::{Deserialize, Serialize};

/// Header in which the Worker says whom it has let in; no caller's own header reaches the object.
const ADMITTED_HEADER: &str = "X-Terminal-Admitted";

/// Who opens a socket, as the Worker found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Admitted {
    /// The sandbox's bridge, whose token the session knows.
    Bridge {
        /// The session's generation of the sandbox.
        generation: i64,
        /// Names the supervisor's process.
        incarnation: String,
    },
    /// A person.
    Viewer {
        /// Who.
        user_id: String,
        /// The generation of the sandbox that is up.
        generation: i64,
    },
}

/// What the Worker tells the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Notice {
    /// This sandbox, and all before it, are over.
    Ended {
        /// Its generation.
        generation: i64,
    },
    /// A person may not watch any more.
    Revoked {
        /// Who.
        user_id: String,
        /// Why.
        reason: TerminalEnd,
    },
}
