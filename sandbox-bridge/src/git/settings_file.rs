//! A repository's own settings, `.git/config`: one block of ours at its end, written as a whole.
//!
//! Git has no command that sets several keys at once, so that ten keys would be ten processes before every prompt. The
//! last value of a key wins: what stands before the block needs no change, and the block is moved to the end when
//! something was written behind it.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

const BEGIN: &[u8] = b"# Open-Inspect writes these lines before each prompt.";
const END: &[u8] = b"# The end of what Open-Inspect writes.";
/// Largest file that is changed.
const MAX_BYTES: u64 = 4 << 20;
/// Git holds the lock for a moment.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Why the settings were not written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no repository, or its file is something else.
    #[error("`.git/config` cannot be used: {0}")]
    File(#[from] std::io::Error),
    /// A process of git's holds it, or left its lock behind.
    #[error("`.git/config.lock` is there and did not go within 2 s")]
    Locked,
}

/// A section with its keys and values, as git names them: `user`, `gpg "ssh"`.
pub type Section<'a> = (&'a str, Vec<(&'a str, Cow<'a, str>)>);

/// What was in the file beside the block.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest(Vec<u8>);

impl Rest {
    /// Whether a word is anywhere in it, whatever its casing. `false` is certain.
    pub fn mentions(&self, word: &str) -> bool {
        self.0.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}

fn block(sections: &[Section<'_>]) -> Vec<u8> {
    let mut text = [BEGIN, b"\n"].concat();
    for (name, pairs) in sections {
        text.extend(format!("[{name}]\n").bytes());
        for (key, value) in pairs {
            text.extend(format!("\t{key} = {}\n", quoted(value)).bytes());
        }
    }
    [&text, END, b"\n"].concat()
}

/// The lines of the file without those of the block. A block that lost one of its ends is no block any more.
fn rest(text: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let at = |mark: &[u8]| lines.iter().position(|line| line.trim_ascii() == mark);
    let mut kept = match (at(BEGIN), at(END)) {
        (Some(begin), Some(end)) if begin < end => [&lines[..begin], &lines[end + 1..]].concat().concat(),
        _ => text.to_vec(),
    };
    if kept.last().is_some_and(|byte| *byte != b'\n') {
        kept.push(b'\n');
    }
    kept
}

/// A plain file: neither a link nor a pipe, on which this process would wait.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, u32)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(std::io::Error::other("it is no plain file of at most 4 MiB"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode() & 0o777))
}

fn lock(path: &Path) -> Result<File, SettingsError> {
    for _ in 0..LOCK_ATTEMPTS {
        match File::create_new(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => std::thread::sleep(LOCK_INTERVAL),
            opened => return Ok(opened?),
        }
    }
    Err(SettingsError::Locked)
}

/// Makes the sections the last ones of a checkout's settings, under git's own lock, and gives what else is there.
/// Blocks for as long as another holds the lock, 2 s at most.
pub fn write(checkout: &Path, sections: &[Section<'_>]) -> Result<Rest, SettingsError> {
    let path = checkout.join(".git/config");
    let wanted = |text: &[u8]| {
        let rest = rest(text);
        ([rest.as_slice(), &block(sections)].concat(), Rest(rest))
    };
    let (known, _) = read(&path)?;
    let (new, rest) = wanted(&known);
    if new == known {
        return Ok(rest);
    }
    let lock_path = checkout.join(".git/config.lock");
    let mut file = lock(&lock_path)?;
    let mut replace = || {
        // It may have changed before the lock was there.
        let (known, mode) = read(&path)?;
        let (new, rest) = wanted(&known);
        file.write_all(&new)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&lock_path, &path)?;
        Ok(rest)
    };
    let replaced: std::io::Result<Rest> = replace();
    if replaced.is_err() {
        drop(std::fs::remove_file(&lock_path));
    }
    Ok(replaced?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        git(folder.path(), &["init", "-q"]);
        folder
    }

    fn git(checkout: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(checkout)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git runs");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    fn text(checkout: &Path) -> String {
        std::fs::read_to_string(checkout.join(".git/config")).expect("readable")
    }

    #[test]
    fn git_reads_every_value_as_it_was_meant() {
        let repository = repository();
        let checkout = repository.path();
        for name in ["Ada", "Ada \"the\" L\\ovelace", "a;b#c", " spaced ", "Ünï © 日本", "$(id) `id` %s", "a=b[c]"]
        {
            let sections =
                [("user", vec![("name", name.into())]), ("gpg \"ssh\"", vec![("program", "/a b/oi-git-sign".into())])];
            write(checkout, &sections).expect("written");
            assert_eq!(git(checkout, &["config", "--local", "--get-all", "user.name"]), name);
        }
        assert_eq!(git(checkout, &["config", "--local", "gpg.ssh.program"]), "/a b/oi-git-sign");
        assert_eq!(git(checkout, &["config", "--local", "core.bare"]), "false", "what was there stays");
    }

    #[test]
    fn what_is_written_behind_the_block_or_into_it_does_not_win() {
        let repository = repository();
        let checkout = repository.path();
        let ours = [("user", vec![("name", "Ada".into())])];
        write(checkout, &ours).expect("written");
        git(checkout, &["config", "user.name", "Eve"]);
        git(checkout, &["config", "remote.origin.url", "https://forge/a/b"]);
        std::fs::write(checkout.join(".git/config"), text(checkout) + "[user]\n\tname = Mallory").expect("written");
        write(checkout, &ours).expect("written");
        assert_eq!(git(checkout, &["config", "--local", "user.name"]), "Ada");
        assert_eq!(git(checkout, &["config", "--local", "remote.origin.url"]), "https://forge/a/b");
        // One that lost its end.
        std::fs::write(checkout.join(".git/config"), text(checkout).replace(str::from_utf8(END).expect("text"), ""))
            .expect("written");
        write(checkout, &[("user", vec![("name", "Bob".into())])]).expect("written");
        assert_eq!(git(checkout, &["config", "--local", "user.name"]), "Bob");
    }

    #[test]
    fn the_same_settings_again_write_nothing() {
        let repository = repository();
        let config = repository.path().join(".git/config");
        let ours = [("user", vec![("name", "Ada".into())])];
        write(repository.path(), &ours).expect("written");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"));
        let before = inode(&config);
        let rest = write(repository.path(), &ours).expect("written");
        assert_eq!(inode(&config), before);
        assert!(rest.mentions("BARE") && !rest.mentions("Ada"));
    }

    #[test]
    fn a_lock_of_gits_is_respected_and_a_pipe_or_a_link_is_refused() {
        let repository = repository();
        let checkout = repository.path();
        let ours = [("user", vec![("name", "Ada".into())])];
        std::fs::write(checkout.join(".git/config.lock"), "").expect("written");
        assert!(matches!(write(checkout, &ours), Err(SettingsError::Locked)));
        std::fs::remove_file(checkout.join(".git/config.lock")).expect("removed");
        let config = checkout.join(".git/config");
        std::fs::rename(&config, checkout.join("moved")).expect("moved");
        for make in ["mkfifo .git/config", "ln -s ../moved .git/config"] {
            assert!(Command::new("sh").args(["-c", make]).current_dir(checkout).status().expect("runs").success());
            assert!(matches!(write(checkout, &ours), Err(SettingsError::File(_))), "{make}");
            std::fs::remove_file(&config).expect("removed");
        }
        assert!(!checkout.join(".git/config.lock").exists());
    }
}
