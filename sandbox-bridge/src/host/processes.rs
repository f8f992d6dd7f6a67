//! Processes of this machine, by what `/proc` says of them.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

use crate::supervise::environment::SANDBOX_VARIABLE;

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it began, in the kernel's ticks since boot.
    pub start_time: u64,
}

struct Stat {
    parent: u32,
    group: i32,
    session: i32,
    start_time: u64,
    zombie: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything, brackets too.
    let rest = &text[text.rfind(')')? + 2..];
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Stat {
        zombie: fields.first() == Some(&"Z"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

impl ProcessId {
    /// The process of this number, as it is now.
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_time: stat.start_time })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.zombie)
    }
}

fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        // It may have ended in between, which is what is wanted.
        let _ = kill_process(pid, signal);
    }
}

fn signal_group(leader: u32, signal: Signal) {
    if let Some(group) = Pid::from_raw(leader as i32) {
        let _ = kill_process_group(group, signal);
    }
}

/// Hangs up on all processes of the session that `leader` leads, as closing a terminal does.
pub fn hang_up(leader: u32) {
    for pid in all().filter(|pid| stat(*pid).is_some_and(|stat| stat.session == leader as i32)) {
        signal(pid, Signal::HUP);
    }
}

/// The supervisors in a process group: bubblewrap's own processes are in it too.
fn supervisors(group: u32) -> Vec<u32> {
    let is_supervisor = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"sandbox-bridge") && words.next() == Some(b"supervise")
    };
    all().filter(|pid| stat(*pid).is_some_and(|stat| stat.group == group as i32)).filter(is_supervisor).collect()
}

/// A process and all that descend from it. In a process namespace none leaves its family; without one, a process whose
/// parent ended is the system's.
pub fn family(leader: ProcessId) -> Vec<u32> {
    if !leader.is_alive() {
        return Vec::new();
    }
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let (mut family, mut at) = (vec![leader.pid], 0);
    while let Some(pid) = family.get(at) {
        family.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    family
}

/// A number from one of a process's files in `/proc`, where lines are `Name: number ...`.
fn numbers<const N: usize>(pid: u32, file: &str, names: [&str; N]) -> [Option<u64>; N] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    names.map(|name| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

/// Threads of a process; 0 when it is gone.
pub fn threads(pid: u32) -> u32 {
    let [threads] = numbers(pid, "status", ["Threads"]);
    threads.unwrap_or_default() as u32
}

/// Memory of a process that is no file's, in bytes, with what it shares with others.
pub fn resident_bytes(pid: u32) -> u64 {
    let kinds = numbers(pid, "status", ["RssAnon", "RssShmem"]);
    kinds.into_iter().flatten().sum::<u64>() * 1024
}

/// The same, with its share of what is shared. Costs a walk through its memory.
pub fn own_share_bytes(pid: u32) -> u64 {
    match numbers(pid, "smaps_rollup", ["Pss_Anon", "Pss_Shmem"]) {
        [Some(anonymous), shared] => (anonymous + shared.unwrap_or_default()) * 1024,
        // The supervisor shows its memory to nobody.
        [None, _] => resident_bytes(pid),
    }
}

/// Processes that carry a sandbox's mark. Those that have left its group survive it where there is no process namespace.
pub fn marked(sandbox_id: &str) -> Vec<u32> {
    let mark = format!("{SANDBOX_VARIABLE}={sandbox_id}").into_bytes();
    let carries = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    all().filter(carries).collect()
}

/// Processes that were stopped for a moment. They go on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<ProcessId>);

/// Stops what runs in a sandbox, but for the supervisor, who keeps the session's connection alive.
pub fn freeze(leader: ProcessId, sandbox_id: &str) -> Frozen {
    let mut spared = supervisors(leader.pid);
    // With what is between it and the leader.
    let mut at = 0;
    while let Some(pid) = spared.get(at).copied() {
        if pid != leader.pid
            && let Some(stat) = stat(pid)
        {
            spared.push(stat.parent);
        }
        at += 1;
    }
    let mut frozen = Frozen(Vec::new());
    // Until none is new: what is not stopped yet may start others.
    for _ in 0..10 {
        let found: Vec<ProcessId> = family(leader)
            .into_iter()
            .chain(marked(sandbox_id))
            .filter(|pid| !spared.contains(pid))
            .filter_map(ProcessId::of)
            .filter(|process| process.is_alive() && !frozen.0.contains(process))
            .collect();
        if found.is_empty() {
            break;
        }
        for process in found {
            signal(process.pid, Signal::STOP);
            frozen.0.push(process);
        }
    }
    frozen
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in self.0.iter().filter(|process| process.is_alive()) {
            signal(process.pid, Signal::CONT);
        }
    }
}

/// Kills at once all that is left of a sandbox whose leader has ended.
pub fn sweep(sandbox_id: &str) {
    for _ in 0..5 {
        let left = marked(sandbox_id);
        if left.is_empty() {
            return;
        }
        // Stopped first, so that none starts another while the list is walked.
        for what in [Signal::STOP, Signal::KILL] {
            for pid in &left {
                signal(*pid, what);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends a sandbox: its supervisor may close its socket within `grace`, then everything is killed.
pub async fn stop(leader: ProcessId, sandbox_id: &str, grace: Duration) {
    if leader.is_alive() {
        for pid in supervisors(leader.pid) {
            signal(pid, Signal::TERM);
        }
        let deadline = Instant::now() + grace;
        while leader.is_alive() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }
    kill(leader, sandbox_id).await;
}

/// Ends a sandbox at once.
pub async fn kill(leader: ProcessId, sandbox_id: &str) {
    if leader.is_alive() {
        // With a process namespace its first process takes all others with it.
        signal_group(leader.pid, Signal::KILL);
        let deadline = Instant::now() + Duration::from_secs(5);
        while leader.is_alive() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
    }
    sweep(sandbox_id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let id = ProcessId::of(child.id()).expect("runs");
        assert!(id.is_alive());
        assert!(!ProcessId { start_time: id.start_time + 1, ..id }.is_alive(), "another process of the same number");
        child.kill().expect("killed");
        assert!(child.wait().is_ok() && !id.is_alive());
    }

    #[test]
    fn a_sweep_kills_what_carries_the_mark_and_nothing_else() {
        let start = |id: &str| {
            let mut command = std::process::Command::new("setsid");
            command.args(["sleep", "60"]).env(SANDBOX_VARIABLE, id).spawn().expect("runs")
        };
        let (mut ours, mut other) = (start("sweep-test-a"), start("sweep-test-ab"));
        while marked("sweep-test-a").is_empty() || marked("sweep-test-ab").is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        sweep("sweep-test-a");
        assert!(!ours.wait().expect("waited").success());
        assert!(ProcessId::of(other.id()).is_some_and(ProcessId::is_alive));
        other.kill().expect("killed");
        drop(other.wait());
    }
}
