//! What runs below us, read from `/proc`.

use std::fs;

/// One process, as `/proc/PID/stat` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub zombie: bool,
}

/// Every process of this machine.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| parse_stat(&stat))
        .collect()
}

/// The name in the middle may hold spaces and brackets, so the last `)` ends it.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    let mut fields = rest.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        zombie: matches!(state, "Z" | "X"),
    })
}

/// Everything below a process, children before grandchildren.
pub fn descendants(all: &[Process], of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|p| p.parent == parent && !p.zombie && p.pid != parent).map(|p| p.pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// The two runtimes of one `wrangler dev`: the one in front, which listens on the port, and the one with the Worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runtimes {
    pub front: Option<u32>,
    pub worker: Option<u32>,
}

/// Finds them in wrangler's process group.
pub fn runtimes(group: u32, port: u16) -> Runtimes {
    let mut found = Runtimes::default();
    for process in all().into_iter().filter(|process| process.group == group && !process.zombie) {
        let Ok(line) = fs::read(format!("/proc/{}/cmdline", process.pid)) else { continue };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        match role(&words, port) {
            Some(Role::Front) => found.front = Some(process.pid),
            Some(Role::Worker) => found.worker = Some(process.pid),
            None => {}
        }
    }
    found
}

enum Role {
    Front,
    Worker,
}

fn role(words: &[&[u8]], port: u16) -> Option<Role> {
    if !words.first()?.ends_with(b"/workerd") || words.get(1) != Some(&b"serve".as_slice()) {
        return None;
    }
    let entry = format!("--socket-addr=entry=127.0.0.1:{port}");
    if words.contains(&entry.as_bytes()) { Some(Role::Front) } else { Some(Role::Worker) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_odd_name_is_read_right() {
        let stat = "4711 (a) b (c) S 17 42 42 0 -1 4194304 1 2 3";
        assert_eq!(parse_stat(stat), Some(Process { pid: 4711, parent: 17, group: 42, zombie: false }));
        assert_eq!(parse_stat("1 (init) Z 0 1 1").map(|process| process.zombie), Some(true));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn descendants_are_found_at_every_depth_and_strangers_are_not() {
        let process = |pid, parent, zombie| Process { pid, parent, group: 1, zombie };
        let all = [
            process(2, 1, false),
            process(3, 2, false),
            process(4, 3, false),
            process(5, 2, true),
            process(9, 8, false),
        ];
        assert_eq!(descendants(&all, 2), [3, 4]);
    }

    #[test]
    fn we_are_among_the_processes() {
        assert!(all().iter().any(|process| process.pid == std::process::id()));
    }

    #[test]
    fn the_runtime_on_the_port_is_the_one_in_front() {
        let words = |entry: &'static str| vec![b"/x/workerd".as_slice(), b"serve", b"--binary", entry.as_bytes()];
        assert!(matches!(role(&words("--socket-addr=entry=127.0.0.1:8787"), 8787), Some(Role::Front)));
        assert!(matches!(role(&words("--socket-addr=entry=127.0.0.1:87"), 8787), Some(Role::Worker)));
        assert!(role(&[b"node".as_slice(), b"wrangler.js"], 8787).is_none());
    }
}
