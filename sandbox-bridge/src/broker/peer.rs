//! Who asks on the broker's socket.
//!
//! Everything in a sandbox is one user, so the socket's mode tells nothing. Secrets of local MCP servers are told only
//! to a process that the agent started without a shell between: its shell, and whatever runs in that, are refused. A
//! shell that replaces itself by the asking program looks the same as the agent's own start of a server, and is not:
//! this keeps secrets from being found by accident, and not from an agent that wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Process id of the agent that runs now; 0 while none does.
#[derive(Debug, Clone, Default)]
pub struct AgentPid(Arc<AtomicI32>);

/// Processes between the agent and the one that asks, itself included: an adapter may start the agent proper.
const GENERATIONS: usize = 4;
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"];

impl AgentPid {
    /// The agent was started as this process, or ended.
    pub fn set(&self, pid: Option<u32>) {
        self.0.store(pid.map_or(0, |pid| pid as i32), Ordering::Relaxed);
    }

    /// Whether the agent itself started the process.
    pub fn started(&self, pid: i32) -> bool {
        let agent = self.0.load(Ordering::Relaxed);
        if agent == 0 {
            return false;
        }
        let mut process = pid;
        for generation in 0..GENERATIONS {
            let Some((name, parent)) = name_and_parent(process) else { return false };
            if generation > 0 && SHELLS.contains(&name.as_str()) {
                return false;
            }
            if parent == agent {
                return true;
            }
            process = parent;
        }
        false
    }
}

/// From `/proc/<pid>/stat`: `pid (name) state ppid …`, where the name may hold anything.
fn name_and_parent(pid: i32) -> Option<(String, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let parent = after.split_whitespace().nth(1)?.parse().ok()?;
    Some((name, parent))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_of_the_agent_is_told_apart_from_what_its_shell_starts() {
        let agent = AgentPid::default();
        let mut child = Command::new("sleep").arg("30").spawn().expect("starts");
        assert!(!agent.started(child.id() as i32), "there is no agent");
        agent.set(Some(std::process::id()));
        assert!(agent.started(child.id() as i32));
        assert!(!agent.started(1));
        // The shell stays, since it has something left to do.
        let script = "sleep 30 & echo $!; wait; true";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("starts");
        let mut line = String::new();
        let out = shell.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("its number");
        let grandchild: i32 = line.trim().parse().expect("a number");
        assert!(!agent.started(grandchild));
        for child in [&mut child, &mut shell] {
            child.kill().expect("killed");
            child.wait().expect("waited");
        }
        let grandchild = rustix::process::Pid::from_raw(grandchild).expect("a process");
        let _ = rustix::process::kill_process(grandchild, rustix::process::Signal::KILL);
    }
}
