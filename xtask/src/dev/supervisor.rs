//! Keeps the programs of a stack running: one thread a program starts it, watches it, starts it again after a pause when
//! it dies or stops answering, and ends its whole process group when the stack stops.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

use super::backoff::Backoff;
use super::probe::answers;
use super::processes::{self, Runtimes};
use crate::failure::{Failure, Result};
use crate::program;
use crate::progress;

const TICK: Duration = Duration::from_millis(100);
/// How often the runtimes below wrangler are looked up.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a program that answered once is asked again, how long it may take, and how often it may fail in a row.
/// Generous: a machine that compiles something is slow, not broken.
const ASK_EVERY: Duration = Duration::from_secs(3);
const ASK_PATIENCE: Duration = Duration::from_secs(8);
const ASK_FAILURES: u32 = 3;
/// How long a start may take until the first answer.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Deaths before the first answer that make the whole stack give up.
const START_ATTEMPTS: u32 = 3;
/// A log that grew past this starts over, keeping one old one.
const LOG_BYTES: u64 = 20 * 1024 * 1024;

/// When a program is ended: those that use others first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    Edge = 1,
    Sandboxes = 2,
    Services = 3,
}

impl Stage {
    pub const IN_ORDER: [Self; 3] = [Self::Edge, Self::Sandboxes, Self::Services];

    /// Between SIGTERM and SIGKILL. The sandbox host stops every sandbox first.
    fn grace(self) -> Duration {
        match self {
            Self::Edge => Duration::from_secs(5),
            Self::Sandboxes => Duration::from_secs(12),
            Self::Services => Duration::from_secs(3),
        }
    }
}

/// A program to keep running.
pub struct Spec {
    pub name: &'static str,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Added to our own environment.
    pub env: Vec<(OsString, OsString)>,
    /// Taken out of it.
    pub unset: Vec<&'static str>,
    pub dir: PathBuf,
    pub log: PathBuf,
    /// Asked for a sign of life.
    pub health: String,
    pub stage: Stage,
    /// For `wrangler dev`: the port, by which its runtimes are told apart.
    pub wrangler_port: Option<u16>,
}

/// What the programs are doing, for everybody to see.
#[derive(Debug, Default, Clone)]
pub struct Board {
    /// By program; `workerd` is the runtime with the control plane.
    pub pids: BTreeMap<String, u32>,
    answering: BTreeSet<&'static str>,
    /// A program that could not be started: the stack gives up.
    pub gave_up: Option<String>,
    /// Changes with every pid.
    pub version: u64,
}

impl Board {
    fn set(&mut self, name: &str, pid: Option<u32>) {
        let before = match pid {
            Some(pid) => self.pids.insert(name.to_owned(), pid),
            None => self.pids.remove(name),
        };
        if before != pid {
            self.version += 1;
        }
    }
}

struct Shared {
    board: Mutex<Board>,
    /// Programs of this stage and earlier ones end.
    stopping: AtomicU8,
    /// The longest pause before one that died starts again.
    longest_pause: Duration,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn must_stop(&self, stage: Stage) -> bool {
        self.stopping.load(Ordering::Relaxed) >= stage as u8
    }
}

/// A running stack. Stops when dropped.
pub struct Supervisor {
    shared: Arc<Shared>,
    threads: Vec<(Stage, JoinHandle<()>)>,
    names: Vec<&'static str>,
}

impl Supervisor {
    /// Starts every program at once.
    pub fn start(specs: Vec<Spec>, longest_pause: Duration) -> Result<Self> {
        let shared = Arc::new(Shared { board: Mutex::default(), stopping: AtomicU8::default(), longest_pause });
        let names = specs.iter().map(|spec| spec.name).collect();
        let mut threads = Vec::new();
        for spec in specs {
            let (stage, name, shared) = (spec.stage, spec.name, Arc::clone(&shared));
            // A thread that lives as long as the stack: the kernel ties the child's death signal to it.
            let thread = thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || supervise(&spec, &shared))
                .map_err(|source| Failure::Start { what: name.into(), program: "a thread".into(), source })?;
            threads.push((stage, thread));
        }
        Ok(Self { shared, threads, names })
    }

    pub fn board(&self) -> Board {
        self.shared.board().clone()
    }

    /// Whether every program answers.
    pub fn all_answer(&self) -> bool {
        let board = self.shared.board();
        self.names.iter().all(|name| board.answering.contains(name))
    }

    /// Those that don't.
    pub fn silent(&self) -> Vec<&'static str> {
        let board = self.shared.board();
        self.names.iter().copied().filter(|name| !board.answering.contains(name)).collect()
    }

    /// Buries orphans that died, which nobody else waits for.
    pub fn reap_orphans(&self) {
        // Held, so that no program is between its start and its place on the board.
        let board = self.shared.board();
        let me = std::process::id();
        for process in processes::all() {
            if process.parent == me && process.zombie && !board.pids.values().any(|pid| *pid == process.pid) {
                let _ = waitpid(Pid::from_raw(process.pid as i32), WaitOptions::NOHANG);
            }
        }
    }

    /// Ends every program, those that use others first.
    pub fn stop(&mut self) {
        for stage in Stage::IN_ORDER {
            self.shared.stopping.store(stage as u8, Ordering::Relaxed);
            let (now, later): (Vec<_>, Vec<_>) = self.threads.drain(..).partition(|(of, _)| *of == stage);
            self.threads = later;
            for (_, thread) in now {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop();
        }
    }
}

/// From now on the orphans of our programs become our children, so that none is lost sight of.
pub fn adopt_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Ends everything below us: what our programs left behind.
pub fn sweep() {
    for (signal, patience) in [(Signal::TERM, Duration::from_secs(3)), (Signal::KILL, Duration::from_secs(2))] {
        let until = Instant::now() + patience;
        let mut told = BTreeSet::new();
        loop {
            let left = processes::descendants(&processes::all(), std::process::id());
            if left.is_empty() {
                return;
            }
            for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
                if told.insert(pid.as_raw_nonzero()) {
                    let _ = kill_process(pid, signal);
                }
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            if Instant::now() >= until {
                break;
            }
            thread::sleep(TICK);
        }
    }
}

/// Why a run of a program ended.
enum End {
    Asked,
    Died(String),
}

fn supervise(spec: &Spec, shared: &Shared) {
    let mut backoff = Backoff::up_to(shared.longest_pause);
    let mut answered_ever = false;
    let mut attempts = 0;
    while !shared.must_stop(spec.stage) {
        let started = Instant::now();
        let spawned = {
            // Under the lock: see `reap_orphans`.
            let mut board = shared.board();
            spawn(spec).inspect(|child| board.set(spec.name, Some(child.id())))
        };
        let reason = match spawned {
            Ok(mut child) => {
                let end = watch(spec, shared, &mut child, &mut answered_ever);
                end_run(spec, shared, &mut child);
                match end {
                    End::Asked => return,
                    End::Died(reason) => reason,
                }
            }
            Err(failure) => failure.to_string(),
        };
        attempts += 1;
        if !answered_ever && attempts >= START_ATTEMPTS {
            shared.board().gave_up =
                Some(format!("`{}` does not start: {reason}\n{}", spec.name, program::tail(&spec.log)));
            return;
        }
        let pause = backoff.after(started.elapsed());
        progress::say(format_args!("! {} {reason}; starting it again in {} s", spec.name, pause.as_secs()));
        let until = Instant::now() + pause;
        while Instant::now() < until && !shared.must_stop(spec.stage) {
            thread::sleep(TICK);
        }
    }
}

fn spawn(spec: &Spec) -> Result<Child> {
    let log = open_log(&spec.log)?;
    let err = log.try_clone().map_err(Failure::file("write", &spec.log))?;
    // By this name the running image is found even after a rebuild replaced the file.
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "guard".into(),
        std::process::id().to_string().into(),
        "--".into(),
        spec.program.clone().into_os_string(),
    ]);
    command.args(&spec.args).current_dir(&spec.dir).process_group(0);
    for name in program::LEAKS.iter().chain(&spec.unset) {
        command.env_remove(name);
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log).stderr(err);
    command.spawn().map_err(|source| Failure::Start {
        what: spec.name.into(),
        program: spec.program.display().to_string(),
        source,
    })
}

fn open_log(path: &PathBuf) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Failure::file("make the folder", parent))?;
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("log.1")).map_err(Failure::file("rename", path))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(Failure::file("write", path))
}

/// Watches one run to its end.
fn watch(spec: &Spec, shared: &Shared, child: &mut Child, answered_ever: &mut bool) -> End {
    let started = Instant::now();
    let mut answering = false;
    let mut failures = 0;
    let mut next_ask = Instant::now();
    let mut next_look = Instant::now();
    let mut runtimes = Runtimes::default();
    loop {
        if shared.must_stop(spec.stage) {
            return End::Asked;
        }
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return End::Died(format!("ended ({status})")),
            Err(error) => return End::Died(format!("was lost ({error})")),
        }
        let now = Instant::now();
        if let Some(port) = spec.wrangler_port
            && now >= next_look
        {
            next_look = now + LOOK_EVERY;
            let seen = processes::runtimes(child.id(), port);
            // wrangler brings up a new one behind the port by itself, but a new one in front never answers.
            if runtimes.front.is_some() && runtimes.front != seen.front {
                return End::Died("lost its runtime".into());
            }
            runtimes = seen;
            if spec.name == super::CONTROL_PLANE {
                shared.board().set("workerd", seen.worker);
            }
        }
        if now >= next_ask {
            if answers(&spec.health, ASK_PATIENCE) {
                failures = 0;
                if !answering {
                    answering = true;
                    *answered_ever = true;
                    // Its runtimes are up now: look at once, so that nobody reads an old pid.
                    next_look = Instant::now();
                }
                // Only with the runtime's pid known is a control plane announced.
                if spec.wrangler_port.is_none() || runtimes.worker.is_some() {
                    shared.board().answering.insert(spec.name);
                    next_ask = Instant::now() + ASK_EVERY;
                } else {
                    next_ask = Instant::now() + TICK;
                }
            } else if answering {
                failures += 1;
                if failures >= ASK_FAILURES {
                    return End::Died("stopped answering".into());
                }
                next_ask = Instant::now() + TICK * 5;
            } else if started.elapsed() > START_DEADLINE {
                return End::Died(format!("did not answer within {} s", START_DEADLINE.as_secs()));
            } else {
                next_ask = Instant::now() + TICK * 2;
            }
        }
        thread::sleep(TICK);
    }
}

/// Ends the process group and takes the program off the board.
fn end_run(spec: &Spec, shared: &Shared, child: &mut Child) {
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::TERM);
        let until = Instant::now() + spec.stage.grace();
        while Instant::now() < until && (matches!(child.try_wait(), Ok(None)) || group_lives(child.id())) {
            thread::sleep(Duration::from_millis(30));
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    let mut board = shared.board();
    board.set(spec.name, None);
    board.answering.remove(spec.name);
    if spec.name == super::CONTROL_PLANE {
        board.set("workerd", None);
    }
}

fn group_lives(group: u32) -> bool {
    processes::all().iter().any(|process| process.group == group && !process.zombie)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dev::backoff::LONGEST;

    /// A program that answers nobody, so tests use a health address that never answers and look at pids alone.
    fn sleeper(dir: &Path) -> Spec {
        Spec {
            name: "sleeper",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "sleep 600 & wait".into()],
            env: Vec::new(),
            unset: Vec::new(),
            dir: dir.to_path_buf(),
            log: dir.join("sleeper.log"),
            health: "http://127.0.0.1:9/".into(),
            stage: Stage::Services,
            wrangler_port: None,
        }
    }

    #[test]
    fn a_board_counts_only_real_changes() {
        let mut board = Board::default();
        board.set("forge", Some(7));
        board.set("forge", Some(7));
        assert_eq!(board.version, 1);
        board.set("forge", None);
        board.set("forge", None);
        assert_eq!(board.version, 2);
    }

    #[test]
    fn a_log_that_grew_too_long_starts_over() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("forge.log");
        let file = File::create(&path).expect("made");
        file.set_len(LOG_BYTES + 1).expect("grown");
        open_log(&path).expect("opened");
        assert_eq!(fs::metadata(&path).expect("there").len(), 0);
        assert!(dir.path().join("forge.log.1").is_file());
    }

    #[test]
    fn a_program_that_cannot_be_started_makes_the_stack_give_up() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut spec = sleeper(dir.path());
        // The guard is not this test's binary, so what starts ends at once.
        spec.program = dir.path().join("no-such-program");
        let supervisor = Supervisor::start(vec![spec], LONGEST).expect("started");
        let until = Instant::now() + Duration::from_secs(20);
        while supervisor.board().gave_up.is_none() && Instant::now() < until {
            thread::sleep(TICK);
        }
        let why = supervisor.board().gave_up.expect("it gave up");
        assert!(why.starts_with("`sleeper` does not start: ended"), "{why}");
        assert_eq!(supervisor.silent(), ["sleeper"]);
    }
}
