//! What a sandbox may use of this machine, and watching that it uses no more.
//!
//! The kernel keeps what it can count for one sandbox (the size of a file, open files, and processes where this user is
//! not root). The rest is measured while the sandbox runs, and one that uses more is ended with a reason.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oi_protocol::local_backend::SandboxLimits;
use tokio::time::{Instant, sleep};

use super::cgroup::MemoryWatch;
use super::disk_use;
use super::processes::{self, ProcessId};

const MIB: u64 = 1 << 20;
/// Between two looks at processes and memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two walks through a sandbox's folders, at least; a long walk makes it longer.
const WALK_EVERY: Duration = Duration::from_secs(5);
/// The disk is looked at at once when so much of its room went since the last walk.
const SUDDEN_BYTES: u64 = 128 * MIB;
/// Files that a process may have open.
const OPEN_FILES: u64 = 65_536;

/// Options of `host` that limit each sandbox. 0 is no limit.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LimitOptions {
    /// Memory of a sandbox, in MiB.
    #[arg(long, default_value_t = 8192)]
    pub max_memory_mib: u32,
    /// Processes and threads of a sandbox.
    #[arg(long, default_value_t = 2048)]
    pub max_processes: u32,
    /// Disk of a sandbox, in MiB: its folders together.
    #[arg(long, default_value_t = 32_768)]
    pub max_disk_mib: u32,
    /// Processors of a sandbox, such as 1.5, where the host may make control groups.
    #[arg(long, default_value_t = 0.0)]
    pub max_cpu_cores: f64,
}

/// The lesser of what the host has and what is asked for.
fn within<T: PartialOrd>(most: Option<T>, asked: Option<T>) -> Option<T> {
    match (most, asked) {
        (Some(most), Some(asked)) => Some(if asked < most { asked } else { most }),
        (most, asked) => most.or(asked),
    }
}

/// The limits of one sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Of all processes together.
    pub memory_bytes: Option<u64>,
    /// Threads count as processes.
    pub processes: Option<u32>,
    /// Of all its folders.
    pub disk_bytes: Option<u64>,
    /// Of processors. Only control groups can keep it.
    pub cpu_cores: Option<f64>,
}

impl Limits {
    /// The host's limits, and within them those that were asked for.
    pub fn new(host: LimitOptions, asked: SandboxLimits) -> Self {
        let some = |mib: u32| (mib > 0).then(|| u64::from(mib) * MIB);
        let cores = |cores: f64| (cores.is_finite() && cores > 0.0).then_some(cores);
        Self {
            memory_bytes: within(some(host.max_memory_mib), asked.memory_mib.and_then(some)),
            cpu_cores: within(cores(host.max_cpu_cores), asked.cpu_cores.and_then(cores)),
            processes: (host.max_processes > 0).then_some(host.max_processes),
            disk_bytes: some(host.max_disk_mib),
        }
    }

    /// Options of `launch`, for what the kernel keeps. Processes are counted per user, or, where a sandbox has its own
    /// user namespace, per sandbox: only then are they limited here.
    pub fn launch_arguments(&self, own_users: bool) -> Vec<OsString> {
        let mut arguments = vec!["--max-open-files".into(), OPEN_FILES.to_string().into()];
        if let Some(bytes) = self.disk_bytes {
            arguments.extend(["--max-file-bytes".into(), bytes.to_string().into()]);
        }
        if let Some(processes) = self.processes.filter(|_| own_users) {
            arguments.extend(["--max-processes".into(), processes.to_string().into()]);
        }
        arguments
    }
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Memory.
    #[error("The sandbox used {used_mib} MiB of memory; it may use {most_mib} MiB. It was stopped.")]
    Memory {
        /// What it used.
        used_mib: u64,
        /// What it may use.
        most_mib: u64,
    },
    /// Processes.
    #[error("The sandbox ran {used} processes; it may run {most}. It was stopped.")]
    Processes {
        /// What it ran.
        used: u32,
        /// What it may run.
        most: u32,
    },
    /// Disk.
    #[error("The sandbox's files take {used_mib} MiB; they may take {most_mib} MiB. It was stopped.")]
    Disk {
        /// What they take.
        used_mib: u64,
        /// What they may take.
        most_mib: u64,
    },
}

/// What the kernel lets a sandbox have: more than the watched limit, so that who passes that is ended with a reason.
pub fn kernel_memory_bytes(most: u64) -> u64 {
    most + most / 4
}

fn of_processes(limits: &Limits, leader: ProcessId) -> Option<Exceeded> {
    let family = processes::family(leader);
    let used = family.iter().map(|pid| processes::threads(*pid)).sum();
    if let Some(most) = limits.processes.filter(|most| used > *most) {
        return Some(Exceeded::Processes { used, most });
    }
    let most = limits.memory_bytes?;
    let over = |used: u64| used > most;
    // What processes share is counted for each of them, which is quick; what seems too much is counted exactly.
    let seems = family.iter().map(|pid| processes::resident_bytes(*pid)).sum();
    if !over(seems) {
        return None;
    }
    let used = family.iter().map(|pid| processes::own_share_bytes(*pid)).sum();
    over(used).then_some(Exceeded::Memory { used_mib: used / MIB, most_mib: most / MIB })
}

/// Watches a sandbox and returns when it passes a limit.
pub async fn exceeded(limits: Limits, leader: ProcessId, folder: PathBuf, kernel: MemoryWatch) -> Exceeded {
    let disk = async {
        match limits.disk_bytes {
            Some(most) => of_disk(most, &folder).await,
            None => std::future::pending().await,
        }
    };
    let processes = async {
        loop {
            sleep(LOOK_EVERY).await;
            if let Some(exceeded) = of_processes(&limits, leader) {
                return exceeded;
            }
            if let Some(most) = limits.memory_bytes.filter(|_| kernel.was_short()) {
                return Exceeded::Memory { used_mib: kernel_memory_bytes(most) / MIB, most_mib: most / MIB };
            }
        }
    };
    tokio::select! {
        exceeded = disk => exceeded,
        exceeded = processes => exceeded,
    }
}

async fn of_disk(most: u64, folder: &Path) -> Exceeded {
    let mut free = disk_use::free_bytes(folder);
    let mut walk_at = Instant::now() + WALK_EVERY;
    loop {
        sleep(LOOK_EVERY).await;
        let now_free = disk_use::free_bytes(folder);
        let sudden = free.zip(now_free).is_some_and(|(before, now)| before.saturating_sub(now) > SUDDEN_BYTES);
        if !sudden && Instant::now() < walk_at {
            continue;
        }
        let (began, walked) = (Instant::now(), folder.to_owned());
        let used = tokio::task::spawn_blocking(move || disk_use::used_bytes(&walked, most)).await.unwrap_or_default();
        if used > most {
            return Exceeded::Disk { used_mib: used / MIB, most_mib: most / MIB };
        }
        free = now_free;
        // At most a twentieth of the time is spent walking.
        walk_at = Instant::now() + WALK_EVERY.max(began.elapsed() * 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_gets_what_it_asks_for_within_the_hosts_limits() {
        let host = |mib| LimitOptions { max_memory_mib: mib, max_processes: 0, max_disk_mib: 0, max_cpu_cores: 1.5 };
        for (most, asked, given) in [
            (100, None, Some(100)),
            (100, Some(50), Some(50)),
            (100, Some(500), Some(100)),
            (0, Some(5), Some(5)),
            (0, None, None),
        ] {
            let limits = Limits::new(host(most), SandboxLimits { memory_mib: asked, ..SandboxLimits::default() });
            assert_eq!(limits.memory_bytes, given.map(|mib: u64| mib * MIB), "{most} {asked:?}");
            assert_eq!((limits.processes, limits.disk_bytes, limits.cpu_cores), (None, None, Some(1.5)));
        }
    }
}
