//! `xtask guard -- program ...`: becomes that program, after asking the kernel to send it SIGTERM when xtask dies, however
//! it dies. A program of its own, because between fork and exec only `unsafe` code could ask.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::failure::{Failure, Result};

/// Starts `words` in place of this process. Returns only when that fails.
pub fn become_program(parent: u32, words: &[OsString]) -> Result<()> {
    let Some((program, args)) = words.split_first() else {
        return Err(Failure::Missing("`guard` needs a program".into()));
    };
    let failure = |source| Failure::Start {
        what: "a guarded program".into(),
        program: program.to_string_lossy().into_owned(),
        source,
    };
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|errno| failure(errno.into()))?;
    // The parent may have died before the kernel was asked.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get() as u32) != Some(parent) {
        return Err(Failure::Interrupted);
    }
    Err(failure(Command::new(program).args(args).exec()))
}
