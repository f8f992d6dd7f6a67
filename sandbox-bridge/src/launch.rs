//! `sandbox-bridge launch -- program args…`: puts a child in order before it becomes another program.
//!
//! Rust runs code between fork and exec only through `unsafe`; a second exec of this small binary does the same
//! in about a millisecond, safely.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// What to set before the exec.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LaunchOptions {
    /// Lead a new session, and so a new process group.
    #[arg(long)]
    pub new_session: bool,
    /// Get SIGKILL when the parent, which must have this id, is gone.
    #[arg(long, value_name = "PID")]
    pub die_with: Option<i32>,
    /// Be in the control group whose list of processes this is.
    #[arg(long)]
    pub join: Vec<PathBuf>,
    /// Files that it may have open.
    #[arg(long)]
    pub max_open_files: Option<u64>,
    /// Largest file that it may write.
    #[arg(long)]
    pub max_file_bytes: Option<u64>,
    /// Processes of its user.
    #[arg(long)]
    pub max_processes: Option<u64>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Why the program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The parent was gone before the tie to it existed.
    #[error("the parent process has ended")]
    ParentGone,
    /// The operating system refused a step.
    #[error("cannot {step}: {source}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
}

fn refused(step: &'static str) -> impl Fn(rustix::io::Errno) -> LaunchError {
    move |errno| LaunchError::Refused { step, source: errno.into() }
}

/// Becomes the program. Returns only when that failed.
pub fn launch(options: &LaunchOptions) -> LaunchError {
    if let Err(error) = prepare(options) {
        return error;
    }
    let Some((program, args)) = options.command.split_first() else {
        return LaunchError::Refused { step: "start", source: std::io::ErrorKind::InvalidInput.into() };
    };
    LaunchError::Refused { step: "start the program", source: Command::new(program).args(args).exec() }
}

fn prepare(options: &LaunchOptions) -> Result<(), LaunchError> {
    if options.new_session {
        rustix::process::setsid().map_err(refused("start a session"))?;
    }
    if let Some(parent) = options.die_with {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("tie to the parent"))?;
        // The parent may have ended before the line above: then nobody would send the signal.
        if rustix::process::getppid().map(Pid::as_raw_pid) != Some(parent) {
            return Err(LaunchError::ParentGone);
        }
    }
    for list in &options.join {
        let joined = std::fs::write(list, "0");
        joined.map_err(|source| LaunchError::Refused { step: "join the control group", source })?;
    }
    for (resource, most) in [
        (Resource::Nofile, options.max_open_files),
        (Resource::Fsize, options.max_file_bytes),
        (Resource::Nproc, options.max_processes),
    ] {
        if let Some(most) = most {
            let now = rustix::process::getrlimit(resource);
            let lower = |known: Option<u64>| Some(known.map_or(most, |known| known.min(most)));
            rustix::process::setrlimit(resource, Rlimit { current: lower(now.current), maximum: lower(now.maximum) })
                .map_err(refused("set a limit"))?;
        }
    }
    // A core file of a process that holds a token would be that token in a file.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(refused("forbid core files"))
}

/// The arguments that make this binary launch another program.
pub fn arguments(new_session: bool, die_with: Option<u32>) -> Vec<OsString> {
    arguments_joining(new_session, die_with, &[])
}

/// The same, in control groups.
pub fn arguments_joining(new_session: bool, die_with: Option<u32>, groups: &[PathBuf]) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("launch")];
    if new_session {
        arguments.push("--new-session".into());
    }
    if let Some(parent) = die_with {
        arguments.push("--die-with".into());
        arguments.push(parent.to_string().into());
    }
    for group in groups {
        arguments.extend(["--join".into(), group.into()]);
    }
    arguments.push("--".into());
    arguments
}
