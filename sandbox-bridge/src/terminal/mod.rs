//! The web terminal: shells on pseudo-terminals, shown to people by way of an object of their own, never the session.
//!
//! The socket to that object is dialled at the start and kept; while nobody watches nothing is sent on it, so that the
//! object sleeps. A shell is started when somebody opens it.

mod connection;
mod shell;
mod terminals;

pub use connection::{TerminalService, terminal_url};
pub use shell::ShellSettings;
