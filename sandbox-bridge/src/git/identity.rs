//! Who a commit is by: the person who sent the prompt.

use std::path::Path;
use std::time::Duration;

use oi_protocol::sandbox_socket::GitIdentity;

use super::{Git, GitError};

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

/// Sets the identity for all commits in a checkout from now on.
pub async fn apply(git: &Git, checkout: &Path, identity: &Identity) -> Result<(), GitError> {
    for (key, value) in [("user.name", &identity.name), ("user.email", &identity.email)] {
        git.run(checkout, &["config", "--local", "--replace-all", key, value], LIMIT).await?;
    }
    // A leftover of the repository or of an earlier setting would win over `user.*`.
    for key in ["author.name", "author.email", "committer.name", "committer.email"] {
        let output = git.output(checkout, &["config", "--local", "--get", key], LIMIT).await?;
        if output.status.success() {
            git.run(checkout, &["config", "--local", "--unset-all", key], LIMIT).await?;
        }
    }
    Ok(())
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
