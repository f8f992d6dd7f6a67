//! Who a commit is by: the person who sent the prompt.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use oi_protocol::sandbox_socket::GitIdentity;

use super::settings_file::{self, Section, SettingsError};
use super::{Git, GitError};
use crate::control_plane::commit_signing::{Signer, SigningSetting};

const AGENT_NAME: &str = "OpenInspect";
const AGENT_EMAIL: &str = "open-inspect@noreply.github.com";
const LIMIT: Duration = Duration::from_secs(10);

/// The identity of a prompt cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid prompt Git identity")]
pub struct InvalidIdentity;

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `user.name`
    pub name: String,
    /// `user.email`
    pub email: String,
}

/// The identity for a prompt's author.
pub fn resolve(author: &GitIdentity) -> Result<Identity, InvalidIdentity> {
    let (name, email) = match author {
        GitIdentity::AgentOnly => (AGENT_NAME, AGENT_EMAIL),
        GitIdentity::AttributedUser { name, email } => (name.trim(), email.trim()),
    };
    let usable = |text: &str| !text.is_empty() && text.len() <= 512 && !text.chars().any(char::is_control);
    if !usable(name) || !usable(email) {
        return Err(InvalidIdentity);
    }
    Ok(Identity { name: name.to_owned(), email: email.to_owned() })
}

/// Whose the next commits are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// Who wrote them.
    author: Identity,
    /// Who made them and signs them; the author, unsigned, without one.
    signer: Option<Signer>,
}

/// The author of a prompt's commits, and who signs them. What nobody is the author of is the signer's own.
pub fn commits_by(author: &GitIdentity, setting: &SigningSetting) -> Result<Commits, InvalidIdentity> {
    let resolved = resolve(author)?;
    Ok(match (setting, author) {
        (SigningSetting::Disabled, _) => Commits { author: resolved, signer: None },
        (SigningSetting::Enabled(signer), GitIdentity::AttributedUser { .. }) => {
            Commits { author: resolved, signer: Some(signer.clone()) }
        }
        (SigningSetting::Enabled(signer), GitIdentity::AgentOnly) => Commits {
            author: Identity { name: signer.name.clone(), email: signer.email.clone() },
            signer: Some(signer.clone()),
        },
    })
}

/// Why a checkout did not take it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Its settings were not written.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Left-over settings were not removed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It took longer than 10 s.
    #[error("it took too long")]
    TimedOut,
}

/// Settles all commits in a checkout from now on: one write, and no process of git.
pub async fn apply(git: &Git, checkout: &Path, commits: &Commits, signer: &Path) -> Result<(), ApplyError> {
    let (path, wanted, program) = (checkout.to_owned(), commits.clone(), signer.display().to_string());
    let write = tokio::task::spawn_blocking(move || settings_file::write(&path, &sections(&wanted, &program)));
    let rest = match tokio::time::timeout(LIMIT, write).await {
        Ok(Ok(written)) => written?,
        Ok(Err(fault)) => return Err(SettingsError::File(std::io::Error::other(fault)).into()),
        Err(_) => return Err(ApplyError::TimedOut),
    };
    if commits.signer.is_some() {
        // All keys have a value of ours, and the last value wins.
        return Ok(());
    }
    // A leftover of the repository or of an earlier runtime would win over `user.*`, or go on signing.
    for (section, keys) in LEFTOVERS {
        if rest.mentions(section) {
            for key in *keys {
                unset(git, checkout, key).await?;
            }
        }
    }
    Ok(())
}

/// Words by which a leftover shows itself, with its keys.
const LEFTOVERS: &[(&str, &[&str])] = &[
    ("[author", &["author.name", "author.email"]),
    ("[committer", &["committer.name", "committer.email"]),
    ("[gpg", &["gpg.format", "gpg.ssh.program"]),
    ("signingkey", &["user.signingkey"]),
    ("gpgsign", &["commit.gpgsign"]),
];

async fn unset(git: &Git, checkout: &Path, key: &str) -> Result<(), GitError> {
    let output = git.output(checkout, &["config", "--local", "--unset-all", key], LIMIT).await?;
    match output.status.code() {
        // 5: there was none. 1: not even its section.
        Some(0 | 1 | 5) => Ok(()),
        code => Err(GitError::Failed { message: super::telling(&output.stderr), code }),
    }
}

fn sections<'a>(commits: &'a Commits, program: &'a str) -> Vec<Section<'a>> {
    fn named<'a>(name: &'a str, email: &'a str) -> Vec<(&'static str, Cow<'a, str>)> {
        vec![("name", name.into()), ("email", email.into())]
    }
    let author = || named(&commits.author.name, &commits.author.email);
    let Some(signer) = &commits.signer else { return vec![("user", author())] };
    let mut user = author();
    user.push(("signingkey", signer.key.literal().into()));
    vec![
        ("user", user),
        ("author", author()),
        ("committer", named(&signer.name, &signer.email)),
        ("gpg", vec![("format", "ssh".into())]),
        ("gpg \"ssh\"", vec![("program", program.into())]),
        ("commit", vec![("gpgsign", "true".into())]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_without_a_name_or_address_is_refused() {
        let user = |name: &str, email: &str| GitIdentity::AttributedUser { name: name.into(), email: email.into() };
        assert_eq!(resolve(&user(" Ada Lovelace ", "ada@example.com")).map(|i| i.name).as_deref(), Ok("Ada Lovelace"));
        for (name, email) in [("", "a@b"), ("a", "  "), ("a\nb", "a@b"), ("a", "x\0y")] {
            assert_eq!(resolve(&user(name, email)), Err(InvalidIdentity));
        }
        assert_eq!(resolve(&GitIdentity::AgentOnly).map(|i| i.email).as_deref(), Ok(AGENT_EMAIL));
    }
}
