//! What git lists of a change, read from its `-z` forms: <https://git-scm.com/docs/diff-format>.

use std::collections::HashMap;
use std::fmt::Write as _;

use oi_protocol::diff::DiffFileStatus;

const SUBMODULE_MODE: &str = "160000";
const ABSENT_MODE: &str = "000000";

/// A path as git has it, and as it is told: bytes that are no UTF-8 are written `\xNN`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GitPath(pub Vec<u8>);

impl GitPath {
    /// As text, from which the bytes can be read back.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                // Writing into a text cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    }
}

/// A file that git says has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub path: GitPath,
    pub old_path: Option<GitPath>,
    pub status: DiffFileStatus,
    /// Unless they are the same or the side is absent.
    pub modes: (Option<String>, Option<String>),
    /// Commits of a submodule; zeros are none.
    pub submodule: (Option<String>, Option<String>),
}

/// The output is not what git's documentation says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("git's list of changes is malformed")]
pub struct Malformed;

fn fields(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = output.strip_suffix(b"\0").unwrap_or(output);
    whole.split(|byte| *byte == 0).filter(move |_| !output.is_empty())
}

/// `git diff --raw -z --no-abbrev`
pub fn raw(output: &[u8]) -> Result<Vec<Changed>, Malformed> {
    let mut fields = fields(output);
    let mut all = Vec::new();
    while let Some(head) = fields.next() {
        let head = std::str::from_utf8(head).map_err(|_| Malformed)?;
        let head: Vec<&str> = head.strip_prefix(':').ok_or(Malformed)?.split(' ').collect();
        let [old_mode, new_mode, old_sha, new_sha, letter] = head[..] else { return Err(Malformed) };
        let mut path = || fields.next().filter(|path| !path.is_empty()).map(|path| GitPath(path.to_vec()));
        let first = path().ok_or(Malformed)?;
        let (status, two) = match letter.as_bytes().first() {
            Some(b'A') => (DiffFileStatus::Added, false),
            Some(b'M') => (DiffFileStatus::Modified, false),
            Some(b'D') => (DiffFileStatus::Deleted, false),
            Some(b'R' | b'C') => (DiffFileStatus::Renamed, true),
            Some(b'T') => (DiffFileStatus::TypeChanged, false),
            Some(b'U') => (DiffFileStatus::Unmerged, false),
            _ => return Err(Malformed),
        };
        let (path, old_path) = if two { (path().ok_or(Malformed)?, Some(first)) } else { (first, None) };
        let side = |mode: &str, sha: &str| {
            (mode == SUBMODULE_MODE && sha.bytes().any(|digit| digit != b'0')).then(|| sha.to_owned())
        };
        let is_submodule = [old_mode, new_mode].contains(&SUBMODULE_MODE);
        let mode = |mode: &str| (mode != ABSENT_MODE && old_mode != new_mode).then(|| mode.to_owned());
        all.push(Changed {
            path,
            old_path: old_path.filter(|_| !is_submodule),
            status: if is_submodule { DiffFileStatus::Submodule } else { status },
            modes: (mode(old_mode), mode(new_mode)),
            submodule: (side(old_mode, old_sha), side(new_mode, new_sha)),
        });
    }
    Ok(all)
}

/// Lines that were added and deleted; `None` of what is no text.
pub type Counts = Option<(u32, u32)>;

/// `git diff --numstat -z`, by the path that the file has now.
pub fn numstat(output: &[u8]) -> Result<HashMap<GitPath, Counts>, Malformed> {
    let mut fields = fields(output);
    let mut all = HashMap::new();
    while let Some(head) = fields.next() {
        let mut parts = head.splitn(3, |byte| *byte == b'\t');
        let mut number = || parts.next().and_then(|text| std::str::from_utf8(text).ok());
        let (added, deleted) = (number().ok_or(Malformed)?, number().ok_or(Malformed)?);
        let path = parts.next().ok_or(Malformed)?;
        // What was renamed has its two paths in fields of their own.
        let path = if path.is_empty() { fields.nth(1).ok_or(Malformed)? } else { path };
        let counts = match (added, deleted) {
            ("-", "-") => None,
            _ => Some((added.parse().map_err(|_| Malformed)?, deleted.parse().map_err(|_| Malformed)?)),
        };
        all.insert(GitPath(path.to_vec()), counts);
    }
    Ok(all)
}

/// `-z` lists of paths alone.
pub fn paths(output: &[u8]) -> Vec<GitPath> {
    fields(output).filter(|path| !path.is_empty()).map(|path| GitPath(path.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> GitPath {
        GitPath(text.as_bytes().to_vec())
    }

    #[test]
    fn raw_lists_are_read() {
        let (a, b, zeros) = ("a".repeat(40), "b".repeat(40), "0".repeat(40));
        let output = format!(
            ":100644 100755 {a} {zeros} M\0x y\0:000000 100644 {zeros} {b} A\0new\0:100644 100644 {a} {b} R087\0old\0now\0\
             :160000 160000 {a} {zeros} M\0sub\0:100644 000000 {a} {zeros} D\0gone\0:000000 000000 {zeros} {zeros} U\0both\0"
        );
        let all = raw(output.as_bytes()).expect("read");
        let of = |index: usize| (all[index].status, all[index].path.clone(), all[index].old_path.clone());
        assert_eq!(of(0), (DiffFileStatus::Modified, path("x y"), None));
        assert_eq!(all[0].modes, (Some("100644".to_owned()), Some("100755".to_owned())));
        assert_eq!(
            (of(1), &all[1].modes),
            ((DiffFileStatus::Added, path("new"), None), &(None, Some("100644".to_owned())))
        );
        assert_eq!((of(2), &all[2].modes), ((DiffFileStatus::Renamed, path("now"), Some(path("old"))), &(None, None)));
        assert_eq!((of(3), &all[3].submodule), ((DiffFileStatus::Submodule, path("sub"), None), &(Some(a), None)));
        assert_eq!(of(4).0, DiffFileStatus::Deleted);
        assert_eq!(of(5), (DiffFileStatus::Unmerged, path("both"), None));
        assert_eq!(raw(b""), Ok(vec![]));
        for bad in
            ["x", ":1 2 3 4\0p\0", ":100644 100644 a b X\0p\0", ":100644 100644 a b R1\0p\0", ":100644 100644 a b M\0"]
        {
            assert_eq!(raw(bad.as_bytes()), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn counts_are_read_by_the_path_of_now() {
        let counts = numstat(b"1\t2\ta b\0-\t-\tpicture\x003\t0\t\0old\0now\0").expect("read");
        assert_eq!(counts[&path("a b")], Some((1, 2)));
        assert_eq!(counts[&path("picture")], None);
        assert_eq!(counts[&path("now")], Some((3, 0)));
        assert_eq!(counts.len(), 3);
        assert_eq!(numstat(b"1\t2"), Err(Malformed));
    }

    #[test]
    fn a_path_that_is_no_text_is_told_so_that_it_can_be_read_back() {
        assert_eq!(GitPath(b"a\xff\xfeb\xc3\xa4".to_vec()).text(), "a\\xff\\xfebä");
    }
}
