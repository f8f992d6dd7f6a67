//! `gh` within a sandbox: GitHub's own program, with a token of the platform's where the user gave none.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::git::credential;

/// The name under which this program is `gh`.
pub const NAME: &str = "gh";
/// The only host whose tokens `gh` takes in `GH_TOKEN`.
pub const HOST: &str = "github.com";

/// The first `gh` on a PATH that is not this program.
pub fn find_real(path: &OsStr, this_program: &Path) -> Option<PathBuf> {
    let ours = std::fs::canonicalize(this_program).ok();
    std::env::split_paths(path).map(|folder| folder.join(NAME)).find(|file| {
        let executable = std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        executable && std::fs::canonicalize(file).ok() != ours
    })
}

/// Whether a token is wanted: the users' own comes first, unless it is only there for want of another.
pub fn wants_token(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let elsewhere = variable("VCS_HOST").is_some_and(|host| !host.is_empty() && !host.eq_ignore_ascii_case(HOST));
    let fallback = variable("OI_GITHUB_TOKEN_IS_FALLBACK").is_some_and(|value| value == "1");
    !elsewhere && !set("GH_TOKEN") && (fallback || !(set("GITHUB_TOKEN") || set("GITHUB_APP_TOKEN")))
}

/// Becomes `gh`. Returns only when that failed, with the exit code. The token is in the environment of `gh` alone.
pub fn run(arguments: &[OsString], complaints: &mut impl Write) -> u8 {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(real) = std::env::current_exe().ok().and_then(|program| find_real(&path, &program)) else {
        drop(writeln!(complaints, "open-inspect: gh is not installed in this sandbox"));
        return 127;
    };
    let mut command = Command::new(&real);
    command.args(arguments);
    // Without a socket or a token `gh` runs all the same: much of it needs none.
    if wants_token(|name| std::env::var_os(name))
        && let Some(token) = credential::gh_token()
    {
        command.env("GH_TOKEN", token.reveal());
    }
    let error = command.exec();
    drop(writeln!(complaints, "open-inspect: {} cannot be started: {error}", real.display()));
    126
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_minted_only_where_the_user_gave_none() {
        for (variables, wanted) in [
            (&[][..], true),
            (&[("VCS_HOST", "github.com")], true),
            (&[("VCS_HOST", "GitHub.com")], true),
            (&[("VCS_HOST", "gitlab.com")], false),
            (&[("GH_TOKEN", "t")], false),
            (&[("GH_TOKEN", "")], true),
            (&[("GITHUB_TOKEN", "t")], false),
            (&[("GITHUB_APP_TOKEN", "t")], false),
            (&[("GITHUB_TOKEN", "t"), ("OI_GITHUB_TOKEN_IS_FALLBACK", "1")], true),
            (&[("GITHUB_APP_TOKEN", "t"), ("OI_GITHUB_TOKEN_IS_FALLBACK", "1")], true),
            (&[("GITHUB_TOKEN", "t"), ("OI_GITHUB_TOKEN_IS_FALLBACK", "0")], false),
            (&[("GH_TOKEN", "t"), ("OI_GITHUB_TOKEN_IS_FALLBACK", "1")], false),
        ] {
            let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            assert_eq!(wants_token(of), wanted, "{variables:?}");
        }
    }
}
