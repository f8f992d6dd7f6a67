//! `sandbox-bridge mcp-launch <id>`: asks the supervisor what the server's command and variables are, and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::broker::ask;
use crate::broker::wire::{Answer, Question};

/// Variables of the agent that are no server's business.
fn is_the_agents(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("OPENCODE"))
}

/// Becomes the server. Returns only when that failed.
pub fn run(id: &str) -> std::io::Error {
    let (command, variables, path) = match ask(&Question::McpServer { id: id.to_owned() }) {
        Ok(Answer::Program { command, variables, path }) => (command, variables, path),
        Ok(Answer::Refused { text }) => return std::io::Error::other(text),
        Ok(_) => return std::io::Error::other("the supervisor's answer is not understood"),
        Err(error) => return error,
    };
    let Some((program, arguments)) = command.split_first() else {
        return std::io::Error::other("the MCP server has no command");
    };
    let kept = std::env::vars_os().filter(|(name, _)| !is_the_agents(name));
    let mut becoming = Command::new(program);
    becoming.args(arguments).env_clear().envs(kept).envs(&variables);
    if let Some(first) = path {
        let mut search = OsString::from(first);
        if let Some(known) = std::env::var_os("PATH") {
            search.push(":");
            search.push(known);
        }
        becoming.env("PATH", search);
    }
    becoming.exec()
}
