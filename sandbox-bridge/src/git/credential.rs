//! `sandbox-bridge git-credential get|store|erase|gh-token`: git's credential helper. It holds nothing; it asks the
//! supervisor through the sandbox's socket.

use std::io::{BufRead, Write};

use crate::broker::ask;
use crate::broker::wire::{Answer, Question};
use crate::gh;
use crate::secret::Secret;

/// Longest description that git may send.
const INPUT_MAX_BYTES: u64 = 64 * 1024;

/// What git says of the credential that it wants: `key=value` lines up to a blank one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    pairs: Vec<(String, String)>,
}

impl Description {
    /// Reads a description; lines without `=` are ignored.
    pub fn read(input: impl BufRead) -> std::io::Result<Self> {
        let mut pairs = Vec::new();
        for line in input.take(INPUT_MAX_BYTES).lines() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((key, value)) = line.split_once('=') {
                pairs.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(Self { pairs })
    }

    /// The last value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The same credential with user name and password.
    pub fn answer(&self, username: &str, password: &str, output: &mut impl Write) -> std::io::Result<()> {
        for (key, value) in self.pairs.iter().filter(|(key, _)| key != "username" && key != "password") {
            writeln!(output, "{key}={value}")?;
        }
        write!(output, "username={username}\npassword={password}\n\n")?;
        output.flush()
    }
}

/// Whether a request is for the forge that the sandbox may use: `https`, or plain `http` to this machine alone.
pub fn is_for(description: &Description, vcs_host: &str) -> bool {
    let Some(host) = description.get("host") else { return false };
    let allowed_protocol = match description.get("protocol") {
        Some("https") => true,
        Some("http") => is_loopback(host),
        _ => false,
    };
    allowed_protocol && host.eq_ignore_ascii_case(vcs_host)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Runs the helper and gives its exit code. What it says on standard error is for the person who reads git's output.
pub fn run(action: &str, input: impl BufRead, output: &mut impl Write, complaints: &mut impl Write) -> u8 {
    if action == "gh-token" {
        // Whoever asks goes on without one, so that this never fails.
        if let Some(token) = gh_token() {
            drop(writeln!(output, "{}", token.reveal()));
        }
        return 0;
    }
    let Ok(description) = Description::read(input) else { return 1 };
    let field = |key: &str| description.get(key).unwrap_or_default().to_owned();
    let (protocol, host) = (field("protocol"), field("host"));
    let question = match action {
        "get" | "" => Question::CredentialGet { protocol, host },
        "erase" => {
            Question::CredentialErase { protocol, host, password: description.get("password").map(str::to_owned) }
        }
        // `store` offers what this helper gave, and later git versions may have further actions.
        _ => return 0,
    };
    match ask(&question) {
        Ok(Answer::Credential { username, password }) => {
            u8::from(description.answer(&username, &password, output).is_err())
        }
        Ok(Answer::Nothing) => 0,
        Ok(Answer::Refused { text }) => {
            drop(writeln!(complaints, "open-inspect: {text}"));
            0
        }
        Ok(Answer::Text { text, .. }) => {
            drop(writeln!(complaints, "open-inspect: {text}"));
            1
        }
        Ok(_) => 1,
        Err(_) if action == "erase" => 0,
        Err(error) => {
            drop(writeln!(complaints, "open-inspect: no credential: {error}"));
            1
        }
    }
}

/// A token for GitHub's own program, where the session's code host is GitHub.
pub fn gh_token() -> Option<Secret> {
    let question = Question::CredentialGet { protocol: "https".to_owned(), host: gh::HOST.to_owned() };
    match ask(&question) {
        Ok(Answer::Credential { password, .. }) => Some(Secret::new(password)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(text: &str) -> Description {
        Description::read(text.as_bytes()).expect("readable")
    }

    #[test]
    fn only_the_forge_is_answered_and_never_in_the_clear_over_a_network() {
        let cases = [
            ("protocol=https\nhost=github.com\n", "github.com", true),
            ("protocol=https\nhost=GitHub.com\n", "github.com", true),
            ("protocol=https\nhost=github.com.evil.example\n", "github.com", false),
            ("protocol=https\nhost=evil.example\npath=github.com\n", "github.com", false),
            ("protocol=http\nhost=github.com\n", "github.com", false),
            ("protocol=http\nhost=127.0.0.1:8788\n", "127.0.0.1:8788", true),
            ("protocol=http\nhost=localhost:8788\n", "localhost:8788", true),
            ("protocol=http\nhost=[::1]:8788\n", "[::1]:8788", true),
            ("protocol=http\nhost=127.0.0.1:9\n", "127.0.0.1:8788", false),
            ("protocol=http\nhost=127.0.0.1.evil.example\n", "127.0.0.1.evil.example", false),
            ("protocol=ssh\nhost=github.com\n", "github.com", false),
            ("host=github.com\n", "github.com", false),
            ("", "github.com", false),
        ];
        for (text, vcs_host, expected) in cases {
            assert_eq!(is_for(&description(text), vcs_host), expected, "{text:?} {vcs_host}");
        }
    }

    #[test]
    fn the_answer_repeats_the_question_with_the_credential() {
        let asked = description("protocol=https\nhost=h\npath=a/b.git\nusername=someone\nodd line\n\nignored=1\n");
        let mut output = Vec::new();
        asked.answer("x-access-token", "pass=word", &mut output).expect("written");
        let text = String::from_utf8(output).expect("text");
        assert_eq!(text, "protocol=https\nhost=h\npath=a/b.git\nusername=x-access-token\npassword=pass=word\n\n");
    }

    #[test]
    fn store_says_nothing_and_succeeds() {
        let (mut output, mut complaints) = (Vec::new(), Vec::new());
        assert_eq!(run("store", "protocol=https\nhost=h\n\n".as_bytes(), &mut output, &mut complaints), 0);
        assert!(output.is_empty() && complaints.is_empty());
    }
}
