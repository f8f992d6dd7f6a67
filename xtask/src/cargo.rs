//! Calls of the native cargo, the one that runs us.

use std::ffi::OsString;
use std::time::Duration;

use crate::places::Places;
use crate::program::Program;

/// cargo in the repository. The toolchain is the one that built us.
pub fn native(places: &Places, what: impl Into<String>, deadline: Duration) -> Program {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    Program::new(what, cargo, deadline).dir(&places.root)
}
