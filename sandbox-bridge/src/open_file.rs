//! Files that others name. What was opened is what is checked: nothing can be put in its place meanwhile, and a link that
//! leads elsewhere does not help.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// For opening one. A pipe without another end would make it wait for ever.
pub fn options() -> OpenOptions {
    let mut options = File::options();
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    options
}

/// Where an open file lies, whatever path led to it.
pub fn place(file: &File) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
