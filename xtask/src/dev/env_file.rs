//! The file that carries variables and secrets to `wrangler dev`: dotenv, as wrangler reads it (with expansion of `$`).

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::failure::{Failure, Result};

/// `NAME=value` lines for these variables.
///
/// # Errors
/// A value that no quoting can carry: it ends in a backslash, or holds all three kinds of quotes.
pub fn render(variables: &[(String, String)]) -> std::result::Result<String, String> {
    let mut text = String::new();
    for (name, value) in variables {
        let quoted = quote(value).ok_or_else(|| format!("the value of `{name}` can't be written to an env file"))?;
        text.extend([name, "=", &quoted, "\n"]);
    }
    Ok(text)
}

/// Written anew, readable by its owner only.
pub fn write(path: &Path, variables: &[(String, String)]) -> Result<()> {
    let text = render(variables).map_err(|reason| Failure::content(path, reason))?;
    write_private(path, text.as_bytes())
}

/// Replaces a file by one that only its owner can read. Whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Failure::file("make the folder", parent))?;
    let new = path.with_extension("new");
    // The mode counts only for a file that is made here.
    let _ = fs::remove_file(&new);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(Failure::file("write", path))
}

fn quote(value: &str) -> Option<String> {
    // The reader takes `\` before the closing quote as part of the value.
    if value.ends_with('\\') {
        return None;
    }
    let escaped = value.replace('$', "\\$");
    // Not `"` first: inside it `\n` would become a line break.
    let mark = ['\'', '`', '"'].into_iter().find(|mark| !value.contains(*mark))?;
    (mark != '"' || !value.contains('\\')).then(|| format!("{mark}{escaped}{mark}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_so_that_nothing_in_them_has_a_meaning() {
        let cases = [
            ("plain", "'plain'"),
            ("", "''"),
            ("with space # and hash", "'with space # and hash'"),
            ("two\nlines", "'two\nlines'"),
            ("it's", "`it's`"),
            ("it's `quoted`", "\"it's `quoted`\""),
            ("cost $5 ${HOME}", "'cost \\$5 \\${HOME}'"),
            ("back\\nslash", "'back\\nslash'"),
        ];
        for (value, quoted) in cases {
            assert_eq!(quote(value).as_deref(), Some(quoted), "{value:?}");
        }
    }

    #[test]
    fn a_value_that_no_quoting_can_carry_is_refused_by_name() {
        for value in ["ends in \\", "all of ' ` \"", "' ` \\n"] {
            let refused = render(&[("SECRET".into(), value.into())]).expect_err("it can't be quoted");
            assert!(refused.contains("`SECRET`") && !refused.contains(value), "{refused}");
        }
    }

    #[test]
    fn only_the_owner_can_read_it_even_when_it_was_open_to_all() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x.env");
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        write(&path, &[("A".into(), "b".into())]).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "A='b'\n");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
