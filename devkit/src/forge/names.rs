//! Names that arrive in paths and bodies, parsed before anything uses them.

use serde::{Deserialize, Deserializer, de::Error as _};

/// A user's or organisation's login: 1 to 39 of `[A-Za-z0-9-]`, no hyphen at an end, no two in a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerName(String);

/// A repository's name: 1 to 100 of `[A-Za-z0-9._-]`, not `.`, `..`, and not ending in `.git`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoName(String);

/// A branch's short name (`main`, not `refs/heads/main`) that git accepts, of at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BranchName(String);

/// A full object id: 40 lowercase hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sha(String);

impl OwnerName {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=39).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RepoName {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=100).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && text != "."
            && text != ".."
            && !text.to_ascii_lowercase().ends_with(".git");
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BranchName {
    /// The rules of `git check-ref-format --branch`.
    pub fn parse(text: &str) -> Option<Self> {
        // Git looks at `.lock` in these letters only.
        #[expect(clippy::case_sensitive_file_extension_comparisons, reason = "a rule of git's, not a file type")]
        let part_fits = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let fits = (1..=255).contains(&text.len())
            && text != "@"
            && text != "HEAD"
            && !text.starts_with('-')
            && !text.ends_with('.')
            && !text.contains("..")
            && !text.contains("@{")
            && !text
                .bytes()
                .any(|b| b.is_ascii_control() || matches!(b, b' ' | b'~' | b'^' | b':' | b'?' | b'*' | b'[' | b'\\'))
            && text.split('/').all(part_fits);
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `refs/heads/<name>`.
    pub fn full_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl Sha {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        fits.then(|| Self(text.to_owned()))
    }

    /// The all-zero id that git and webhooks use for "no object".
    pub fn zero() -> Self {
        Self("0".repeat(40))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, as people read them.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

macro_rules! display_and_deserialize {
    ($($name:ident: $what:literal),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom(concat!("not a valid ", $what)))
            }
        }
    )*};
}

display_and_deserialize!(OwnerName: "login", RepoName: "repository name", BranchName: "branch name", Sha: "object id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a\0", "x.git", "a b", "%2e%2e"] {
            assert_eq!(RepoName::parse(bad), None, "{bad:?}");
        }
        for bad in ["", "-a", "a-", "a--b", "a.b", "..", "a/b", &"a".repeat(40)] {
            assert_eq!(OwnerName::parse(bad), None, "{bad:?}");
        }
        assert!(RepoName::parse("sample-service").is_some());
        assert!(OwnerName::parse("Acme-1").is_some());
    }

    #[test]
    fn a_branch_that_git_would_misread_is_refused() {
        for bad in [
            "",
            "-x",
            "a..b",
            "a//b",
            "/a",
            "a/",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a@{1}",
            "@",
            "HEAD",
            "a.",
            "a\n",
            "--upload-pack=x",
        ] {
            assert_eq!(BranchName::parse(bad), None, "{bad:?}");
        }
        for good in ["main", "open-inspect/0a1b", "Fix/ABC", "ünïcode", "a.b", "<img>"] {
            assert!(BranchName::parse(good).is_some(), "{good:?}");
        }
    }
}
