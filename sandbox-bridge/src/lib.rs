//! Everything that runs inside a sandbox, and `host`, the local sandbox backend, in one small program.
//!
//! * `supervise` owns a sandbox: it brings up checkouts and the agent and holds the token.
//! * `bridge` (within it) speaks with the session; what it sends is in a journal first.
//! * `git-credential`, `git-sign`, `gh`, `upload-media` `mcp` and `mcp-launch` are small programs that git and the agent start; they
//!   ask the supervisor.
//! * `host` starts supervisors on this machine.

pub mod agent;
pub mod backoff;
pub mod bridge;
pub mod broker;
pub mod clock;
pub mod control_plane;
pub mod diff;
pub mod enclosed;
pub mod gh;
pub mod git;
pub mod host;
pub mod kept_output;
pub mod launch;
pub mod logging;
pub mod mcp;
pub mod mcp_servers;
pub mod model_gateway;
pub mod open_file;
pub mod private_folder;
pub mod process_group;
pub mod random;
pub mod secret;
pub mod services;
pub mod small_programs;
pub mod stop_signal;
pub mod supervise;
pub mod terminal;
pub mod upgrade;
pub mod upload_media;
