//! Why a sandbox ends, and the exit code that says so: a class has a code of its own, so that whoever sees only the
//! process's end knows what to look for.

use super::skills::SkillsError;
use crate::git::checkout::CheckoutError;

/// Codes of ends that a repetition would only repeat.
pub const MEANT: std::ops::RangeInclusive<i32> = 10..=19;

/// Why a boot failed.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A repository's name, branch or address cannot be right.
    #[error("{0}")]
    Config(String),
    /// The workspace cannot be written.
    #[error("the workspace cannot be written: {0}")]
    Workspace(#[from] std::io::Error),
    /// The repositories cannot be brought up to date.
    #[error("{0}")]
    Sync(String),
    /// A repository's own script.
    #[error("{0}")]
    Hook(String),
    /// Managed skills.
    #[error("managed skills could not be installed: {0}")]
    Skills(#[from] SkillsError),
    /// The agent did not come up.
    #[error("{0}")]
    Agent(String),
    /// An image's build took longer than it may.
    #[error("image build exceeded its {0}-second execution timeout")]
    BuildTimedOut(u32),
    /// Success of an image's build could not be told.
    #[error("repo image build-complete callback failed")]
    Callback,
}

impl From<CheckoutError> for BootError {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Invalid(_) => Self::Config(error.to_string()),
            CheckoutError::Io(error) => Self::Workspace(error),
        }
    }
}

impl BootError {
    /// The process's exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 10,
            Self::Workspace(_) => 11,
            Self::Sync(_) => 12,
            Self::Hook(_) => 13,
            Self::Skills(_) => 14,
            Self::Agent(_) => 15,
            Self::BuildTimedOut(_) => 16,
            Self::Callback => 17,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_code_of_its_own() {
        let text = String::new;
        let all = [
            BootError::Config(text()),
            BootError::Workspace(std::io::Error::other("x")),
            BootError::Sync(text()),
            BootError::Hook(text()),
            BootError::Skills(SkillsError::Fetch(text())),
            BootError::Agent(text()),
            BootError::BuildTimedOut(1),
            BootError::Callback,
        ];
        let codes: std::collections::HashSet<u8> = all.iter().map(BootError::exit_code).collect();
        assert_eq!(codes.len(), all.len());
        assert!(codes.iter().all(|code| MEANT.contains(&i32::from(*code))));
    }
}
