//! Names that go into a forge's URLs. They are parsed once, so that no `..` or `/` reaches a path.

use oi_worker_kit::service_signature::encode_component;
use serde::{Deserialize, Serialize};

/// Groups within groups that an owner may name, on a forge that has them.
const MAX_GROUPS: usize = 20;
/// Longest owner.
const MAX_OWNER_BYTES: usize = 255;

/// Owner and name of a repository, in lower case. An owner with slashes is a group within groups, as GitLab has them;
/// GitHub has none, and its client takes none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// 1 to 100 letters, digits, `-`, `_` and `.` each; an owner may be several of these with slashes between.
    pub fn parse(owner: &str, name: &str) -> Option<Self> {
        let (owner, name) = (owner.trim(), name.trim());
        let fits = owner.len() <= MAX_OWNER_BYTES
            && owner.split('/').count() <= MAX_GROUPS
            && owner.split('/').all(is_segment)
            && is_segment(name);
        fits.then(|| Self { owner: owner.to_ascii_lowercase(), name: name.to_ascii_lowercase() })
    }

    /// From two segments of a request's path, percent-encoded.
    pub fn from_path(owner: &str, name: &str) -> Option<Self> {
        let (owner, name) = (decoded(owner)?, decoded(name)?);
        let is_plain = |text: &str| text.trim() == text;
        (is_plain(&owner) && is_plain(&name)).then(|| Self::parse(&owner, &name))?
    }

    /// Owner.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `owner/name`, for people and for git. Nothing in it needs encoding.
    pub fn as_path(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same as two segments of a path; `None` when the owner is a group within groups.
    pub fn as_two_segments(&self) -> Option<String> {
        (!self.owner.contains('/')).then(|| self.as_path())
    }

    /// The same as one segment of a path: `group%2Fname`.
    pub fn as_one_segment(&self) -> String {
        encode_component(&self.as_path())
    }
}

/// A segment of a path without its percent-encoding; `None` when that is malformed.
pub fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
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

    /// As one segment of a path: its slashes are encoded.
    pub fn as_one_segment(&self) -> String {
        encode_component(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repository_is_an_owner_and_a_name() {
        let name = RepositoryName::parse(" Acme ", "App.js_2").expect("a name");
        assert_eq!(name.as_path(), "acme/app.js_2");
        assert_eq!(name.as_two_segments().as_deref(), Some("acme/app.js_2"));
        for (owner, name) in
            [("", "a"), ("a", ""), (".", "a"), ("a", ".."), ("a", "b/c"), ("a", "b%2F"), ("a", "b?x"), ("ä", "b")]
        {
            assert_eq!(RepositoryName::parse(owner, name), None, "{owner}/{name}");
        }
        assert_eq!(RepositoryName::parse("a", &"b".repeat(101)), None);
    }

    #[test]
    fn an_owner_may_be_a_group_within_groups_and_is_then_never_two_segments() {
        let name = RepositoryName::parse("Acme/Web", "app").expect("a name");
        assert_eq!((name.as_path(), name.as_one_segment()), ("acme/web/app".to_owned(), "acme%2Fweb%2Fapp".to_owned()));
        assert_eq!(name.as_two_segments(), None, "else `acme/app` and `pulls` would be a path of GitHub's own");
        for owner in
            ["/a", "a/", "a//b", "a/../b", "a/./b", "../a", "a/b%2f", "a\\b", &"a/".repeat(20), &"a/".repeat(200)]
        {
            assert_eq!(RepositoryName::parse(owner, "x"), None, "{owner}");
        }
    }

    #[test]
    fn a_segment_of_a_request_is_decoded_once() {
        let read = |owner: &str, name: &str| RepositoryName::from_path(owner, name).map(|name| name.as_path());
        assert_eq!(read("acme", "app").as_deref(), Some("acme/app"));
        assert_eq!(read("acme%2fweb", "app%2Ejs").as_deref(), Some("acme/web/app.js"));
        for (owner, name) in [
            ("%2e%2e", "app"),
            ("acme", "%2E%2E"),
            ("acme", "..%2F..%2Fuser"),
            ("acme%2F..", "app"),
            ("%252e%252e", "app"),
            ("acme", "app%00"),
            ("acme", "app%0a"),
            ("acme", "%"),
            ("acme", "%2"),
            ("acme", "%zz"),
            ("acme", "%+1"),
            ("acme", "%ff"),
            ("acme", "app%3Fx"),
            ("acme", "app%23x"),
        ] {
            assert_eq!(read(owner, name), None, "{owner}/{name}");
        }
    }

    #[test]
    fn a_branch_keeps_its_case_and_cannot_leave_its_path() {
        let branch = BranchName::parse("Fix/ä#1").expect("a branch");
        assert_eq!((branch.as_str(), branch.as_path().as_str()), ("Fix/ä#1", "Fix/%C3%A4%231"));
        assert_eq!(branch.as_one_segment(), "Fix%2F%C3%A4%231");
        for bad in ["", "HEAD", "/a", "a/", "a..b", "a//b", "../a", "a/./b", "a b", "a\nb", "-x", "a.lock", "a@{1}"] {
            assert_eq!(BranchName::parse(bad), None, "{bad}");
        }
    }

    /// Text of the characters that paths, queries and hosts are made of.
    fn hostile() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "a", "B", "app", ".", "..", "/", "\\", "%2e", "%2F", "%", "?", "#", "@", ":", "&", "=", ";", " ", "\n",
            "\0", "ä", "//", "~",
        ]);
        prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_path_it_is_put_into(owner in hostile(), name in hostile(), branch in hostile()) {
            const API: &str = "https://api.example.com/api/v3";
            let Some(name) = RepositoryName::parse(&owner, &name) else { return Ok(()) };
            let branch = BranchName::parse(&branch);
            let path_of = |url: String| url::Url::parse(&url).map(|url| {
                assert_eq!((url.host_str(), url.query(), url.fragment()), (Some("api.example.com"), None, None), "{url}");
                url.path().to_owned()
            });
            if let Some(two) = name.as_two_segments() {
                let path = path_of(format!("{API}/repos/{two}/pulls")).expect("a URL");
                prop_assert_eq!(path.split('/').count(), 7, "{}", path);
                prop_assert!(path.starts_with("/api/v3/repos/") && path.ends_with("/pulls"), "{}", path);
            }
            let path = path_of(format!("{API}/projects/{}/end", name.as_one_segment())).expect("a URL");
            prop_assert_eq!(path.split('/').count(), 6, "{}", path);
            if let Some(branch) = branch {
                let path = path_of(format!("{API}/x/{}", branch.as_path())).expect("a URL");
                prop_assert!(path.starts_with("/api/v3/x/"), "{}", path);
                let segments = branch.as_str().split('/').count();
                prop_assert_eq!(path.split('/').count(), 4 + segments, "{}", path);
                let path = path_of(format!("{API}/x/{}", branch.as_one_segment())).expect("a URL");
                prop_assert_eq!(path.split('/').count(), 5, "{}", path);
            }
        }
    }
}
