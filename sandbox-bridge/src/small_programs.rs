//! Programs that live for moments, chosen before the command line is parsed: git starts one for every request, and they
//! need neither a runtime nor a description of all options.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::git::{credential, sign};
use crate::supervise::own_programs::{CREDENTIALS, SIGNER, UPLOAD_MEDIA};
use crate::{gh, upload_media};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallProgram {
    /// Git's credential helper.
    Credential,
    /// Git's signer.
    Sign,
    /// GitHub's program.
    Gh,
    /// Uploads a picture or a recording.
    UploadMedia,
}

impl SmallProgram {
    /// By the name under which this binary was started.
    fn by_name(name: &OsStr) -> Option<Self> {
        let name = Path::new(name).file_name()?;
        let known = [
            (CREDENTIALS, Self::Credential),
            (SIGNER, Self::Sign),
            (gh::NAME, Self::Gh),
            (UPLOAD_MEDIA, Self::UploadMedia),
        ];
        known.into_iter().find(|(known, _)| name == *known).map(|(_, program)| program)
    }

    /// By the first argument.
    fn by_command(command: &OsStr) -> Option<Self> {
        let known = [
            ("git-credential", Self::Credential),
            ("git-sign", Self::Sign),
            ("gh", Self::Gh),
            ("upload-media", Self::UploadMedia),
        ];
        known.into_iter().find(|(known, _)| command == *known).map(|(_, program)| program)
    }

    /// The program that a command line is for, and its arguments. Anything else is one for the whole parser.
    pub fn choose(line: &[OsString]) -> Option<(Self, &[OsString])> {
        let (name, rest) = line.split_first()?;
        if let Some(program) = Self::by_name(name) {
            return Some((program, rest));
        }
        let (command, rest) = rest.split_first()?;
        Some((Self::by_command(command)?, rest))
    }

    /// Runs it to its end.
    pub fn run(self, arguments: &[OsString]) -> ExitCode {
        let (mut output, mut complaints) = (std::io::stdout().lock(), std::io::stderr());
        ExitCode::from(match self {
            Self::Credential => {
                let action = arguments.first().and_then(|action| action.to_str()).unwrap_or("get");
                credential::run(action, std::io::stdin().lock(), &mut output, &mut complaints)
            }
            Self::Sign => sign::run(arguments, &mut complaints),
            Self::Gh => gh::run(arguments, &mut complaints),
            Self::UploadMedia => upload_media::run(arguments, &mut output, &mut complaints),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_chosen_by_its_name_or_by_its_first_argument() {
        let choose = |line: &str| {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            SmallProgram::choose(&line).map(|(program, arguments)| (program, arguments.len()))
        };
        for (line, expected) in [
            ("/run/oi/bin/oi-git-sign -Y sign", Some((SmallProgram::Sign, 2))),
            ("oi-git-credentials get", Some((SmallProgram::Credential, 1))),
            ("gh pr list", Some((SmallProgram::Gh, 2))),
            ("upload-media", Some((SmallProgram::UploadMedia, 0))),
            ("/opt/sandbox-bridge git-credential erase", Some((SmallProgram::Credential, 1))),
            ("sandbox-bridge git-sign -Y verify", Some((SmallProgram::Sign, 2))),
            ("sandbox-bridge upload-media a.png --help", Some((SmallProgram::UploadMedia, 2))),
            ("sandbox-bridge supervise", None),
            ("sandbox-bridge", None),
            ("sandbox-bridge --help git-sign", None),
        ] {
            assert_eq!(choose(line), expected, "{line}");
        }
    }
}
