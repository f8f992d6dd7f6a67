//! Control groups, where the host may make them: there the kernel itself bounds what a sandbox takes at once, and how much
//! of the processors.
//!
//! With version 2 the host's own group must be its own to divide (in a systemd unit, `Delegate=yes`); it goes into a group
//! below it, since a group that is divided holds no process. Version 1 needs root.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::{Limits, kernel_memory_bytes};

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "open-inspect-";
/// The host's own group. No sandbox's group begins so.
const OWN: &str = "host-of-open-inspect";
/// Microseconds in which the share of processors is counted.
const PERIOD: u64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The folder in which sandboxes get groups, once for each controller with version 1.
#[derive(Debug, Clone)]
pub struct Cgroups {
    version: Version,
    parents: Vec<PathBuf>,
    /// Begins the names of this host's groups: another host may be on this machine.
    prefix: String,
}

/// The groups of one sandbox. Removed when this is dropped, after its processes.
#[derive(Debug)]
pub struct Group {
    folders: Vec<PathBuf>,
}

/// Files of a group and what they are set to. The kernel's limits are wider than the watched ones: who passes a limit is
/// ended with a reason, and cannot take much more meanwhile.
fn settings(version: Version, limits: &Limits) -> Vec<(&'static str, String)> {
    let (memory, cpu_period, cpu) = match version {
        Version::One => ("memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
        Version::Two => ("memory.max", "", "cpu.max"),
    };
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        settings.push((memory, kernel_memory_bytes(bytes).to_string()));
    }
    if let Some(processes) = limits.processes {
        settings.push(("pids.max", (processes + processes / 4 + 8).to_string()));
    }
    if let Some(cores) = limits.cpu_cores {
        let quota = ((cores * PERIOD as f64) as u64).max(1_000);
        match version {
            Version::One => settings.extend([(cpu_period, PERIOD.to_string()), (cpu, quota.to_string())]),
            Version::Two => settings.push((cpu, format!("{quota} {PERIOD}"))),
        }
    }
    settings
}

/// The host's own groups, as `/proc/self/cgroup` has them: controllers, and the path.
fn own_groups(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?.trim_start_matches('/')))
    })
}

impl Cgroups {
    /// Finds out once what may be done here, and removes what an earlier host left.
    pub fn probe(state_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let prefix = format!("{PREFIX}{:x}-", std::fs::metadata(state_dir).ok()?.ino());
        let two = || Self::two(&text).map(|parent| (Version::Two, vec![parent]));
        let (version, parents) = two().or_else(|| Self::one(&text).map(|parents| (Version::One, parents)))?;
        let found = Self { version, parents, prefix };
        for parent in &found.parents {
            for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&found.prefix) {
                    // Groups with processes stay.
                    drop(std::fs::remove_dir(entry.path()));
                }
            }
        }
        let made = found.make("probe", &Limits { processes: Some(1), ..Limits::default() });
        made.ok().map(|_| found)
    }

    fn two(text: &str) -> Option<PathBuf> {
        let (_, path) = own_groups(text).find(|(controllers, _)| controllers.is_empty())?;
        let path = path.strip_suffix(OWN).map_or(path, |above| above.trim_end_matches('/'));
        let parent = Path::new(ROOT).join(path);
        let has = std::fs::read_to_string(parent.join("cgroup.controllers")).ok()?;
        if !["cpu", "memory", "pids"].iter().all(|wanted| has.split_whitespace().any(|found| found == *wanted)) {
            return None;
        }
        let enable = || std::fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory +pids");
        if enable().is_err() {
            let own = parent.join(OWN);
            drop(std::fs::create_dir(&own));
            std::fs::write(own.join("cgroup.procs"), "0").ok()?;
            if enable().is_err() {
                // Others are in it: it is not the host's to divide.
                drop(std::fs::write(parent.join("cgroup.procs"), "0"));
                drop(std::fs::remove_dir(own));
                return None;
            }
        }
        Some(parent)
    }

    fn one(text: &str) -> Option<Vec<PathBuf>> {
        let parent = |wanted: &str| {
            let (_, path) = own_groups(text).find(|(found, _)| found.split(',').any(|found| found == wanted))?;
            let parent = Path::new(ROOT).join(wanted).join(path);
            parent.join("cgroup.procs").exists().then_some(parent)
        };
        ["cpu", "memory", "pids"].into_iter().map(parent).collect()
    }

    /// Makes a sandbox's group.
    pub fn make(&self, sandbox_id: &str, limits: &Limits) -> std::io::Result<Group> {
        let mut group = Group { folders: Vec::new() };
        for parent in &self.parents {
            let folder = parent.join(format!("{}{sandbox_id}", self.prefix));
            // One that is left of an earlier run has counted what that did.
            drop(std::fs::remove_dir(&folder));
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => group.folders.push(folder),
            }
        }
        for (file, value) in settings(self.version, limits) {
            // With version 1 each controller has its folder.
            let target = group.folders.iter().map(|folder| folder.join(file)).find(|target| target.exists());
            let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, file);
            std::fs::write(target.ok_or_else(missing)?, value)?;
        }
        if self.version == Version::Two && limits.memory_bytes.is_some() {
            // Half of a sandbox is of no use.
            drop(std::fs::write(group.folders[0].join("memory.oom.group"), "1"));
        }
        Ok(group)
    }
}

impl Group {
    /// Where a process writes itself to be in it.
    pub fn entries(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// A look at whether the kernel ended something in it for want of memory.
    pub fn memory_watch(&self) -> MemoryWatch {
        // Version 2 has the first, version 1 the second.
        let of = |file: &str| self.folders.iter().map(|folder| folder.join(file)).find(|file| file.exists());
        MemoryWatch(of("memory.events").or_else(|| of("memory.oom_control")))
    }
}

/// Where the kernel counts what it ended.
#[derive(Debug, Default)]
pub struct MemoryWatch(Option<PathBuf>);

impl MemoryWatch {
    /// Whether it ended something.
    pub fn was_short(&self) -> bool {
        let text = self.0.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let ended = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
        ended.is_some_and(|ended| ended > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // The last of its processes may still be on its way out.
            for _ in 0..10 {
                if std::fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_in_the_words_of_either_version() {
        let limits =
            Limits { memory_bytes: Some(400), processes: Some(100), disk_bytes: Some(1), cpu_cores: Some(1.5) };
        let set = |version| {
            settings(version, &limits).into_iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(set(Version::Two), ["memory.max=500", "pids.max=133", "cpu.max=150000 100000"]);
        assert_eq!(
            set(Version::One),
            ["memory.limit_in_bytes=500", "pids.max=133", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"]
        );
        assert_eq!(settings(Version::Two, &Limits::default()), []);
    }

    #[test]
    fn the_hosts_own_groups_are_read_from_what_the_kernel_says() {
        let text = "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/system.slice/x.service\n";
        let groups: Vec<_> = own_groups(text).collect();
        assert_eq!(groups, [("memory", "a/b"), ("cpu,cpuacct", ""), ("", "system.slice/x.service")]);
    }
}
