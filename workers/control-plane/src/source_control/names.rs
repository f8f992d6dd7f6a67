//! Names that go into a forge's URLs. They are parsed once, so that no `..` or `/` reaches a path.

use oi_worker_kit::service_signature::encode_component;

/// Owner and name of a repository, in lower case, as two path segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryName {
    owner: String,
    name: String,
}

fn is_segment(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl RepositoryName {
    /// 1 to 100 letters, digits, `-`, `_` and `.` each.
    pub fn parse(owner: &str, name: &str) -> Option<Self> {
        let (owner, name) = (owner.trim(), name.trim());
        (is_segment(owner) && is_segment(name))
            .then(|| Self { owner: owner.to_ascii_lowercase(), name: name.to_ascii_lowercase() })
    }

    /// Owner.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `owner/name` as it goes into a URL.
    pub fn as_path(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchName(String);

impl BranchName {
    /// A name that git accepts: 1 to 200 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bad = text.is_empty()
            || text.len() > 200
            || text == "HEAD"
            || text.starts_with(['/', '.', '-'])
            || text.ends_with(['/', '.'])
            || ["..", "//", "@{", "/."].iter().any(|part| text.contains(part))
            || text.split('/').any(|part| part.to_ascii_lowercase().ends_with(".lock"))
            || text.contains(|c: char| c.is_control() || " ~^:?*[]\\".contains(c));
        (!bad).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it goes into a path: its slashes stay.
    pub fn as_path(&self) -> String {
        self.0.split('/').map(encode_component).collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_two_segments() {
        let name = RepositoryName::parse(" Acme ", "App.js_2").expect("a name");
        assert_eq!(name.as_path(), "acme/app.js_2");
        for (owner, name) in
            [("", "a"), ("a", ""), (".", "a"), ("a", ".."), ("a/b", "c"), ("a", "b%2F"), ("a", "b?x"), ("ä", "b")]
        {
            assert_eq!(RepositoryName::parse(owner, name), None, "{owner}/{name}");
        }
        assert_eq!(RepositoryName::parse("a", &"b".repeat(101)), None);
    }

    #[test]
    fn a_branch_keeps_its_case_and_cannot_leave_its_path() {
        let branch = BranchName::parse("Fix/ä#1").expect("a branch");
        assert_eq!((branch.as_str(), branch.as_path().as_str()), ("Fix/ä#1", "Fix/%C3%A4%231"));
        for bad in ["", "HEAD", "/a", "a/", "a..b", "a//b", "../a", "a/./b", "a b", "a\nb", "-x", "a.lock", "a@{1}"] {
            assert_eq!(BranchName::parse(bad), None, "{bad}");
        }
    }
}
