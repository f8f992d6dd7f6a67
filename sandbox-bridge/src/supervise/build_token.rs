//! The start of an image's build that waits for its token on standard input, as Modal's does: the token is in no
//! variable. Sandbox.md, section 1.12.

use std::collections::BTreeMap;
use std::io::Read;

/// 64 hex digits and the end of the line.
const LINE_BYTES: usize = 65;

/// Why the build is not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// It is no build, or has no name.
    #[error("the start of a build needs IMAGE_BUILD_MODE=true and OI_REPO_IMAGE_BUILD_ID")]
    NotABuild,
    /// The input ended before a whole line.
    #[error("the token's line is not whole")]
    Partial,
    /// The line has no end where it must have one.
    #[error("the token's line is too long")]
    TooLong,
    /// It is no token.
    #[error("the token is not 64 lower-case hex digits")]
    Invalid,
}

impl LaunchError {
    /// Stable name.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotABuild => "not_a_build",
            Self::Partial => "partial",
            Self::TooLong => "too_long",
            Self::Invalid => "invalid",
        }
    }
}

/// Whether the variables describe a build that may wait for a token.
pub fn check(variables: &BTreeMap<String, String>) -> Result<(), LaunchError> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let is_build = value("IMAGE_BUILD_MODE") == "true" && !value("OI_REPO_IMAGE_BUILD_ID").is_empty();
    if is_build { Ok(()) } else { Err(LaunchError::NotABuild) }
}

/// Reads exactly one line.
pub fn read(input: impl Read) -> Result<String, LaunchError> {
    let mut line = Vec::with_capacity(LINE_BYTES);
    let mut input = input.take(LINE_BYTES as u64);
    let mut byte = [0];
    while let Ok(1) = input.read(&mut byte) {
        if byte == *b"\n" {
            let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
            let token = String::from_utf8(line).map_err(|_| LaunchError::Invalid)?;
            let usable = token.len() == LINE_BYTES - 1 && token.as_bytes().iter().all(is_hex);
            return if usable { Ok(token) } else { Err(LaunchError::Invalid) };
        }
        line.extend_from_slice(&byte);
    }
    Err(if line.len() >= LINE_BYTES { LaunchError::TooLong } else { LaunchError::Partial })
}

/// The variables with the token and with the sandbox's name at Modal, as the rest of the contract says them.
pub fn complete(mut variables: BTreeMap<String, String>, token: String) -> BTreeMap<String, String> {
    variables.insert("OI_REPO_IMAGE_CALLBACK_TOKEN".to_owned(), token);
    let modal = variables.get("MODAL_SANDBOX_ID").cloned().unwrap_or_default();
    variables.insert("OI_REPO_IMAGE_PROVIDER_SESSION_ID".to_owned(), modal);
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_of_64_lower_case_hex_digits_is_a_token() {
        let token = "0123456789abcdef".repeat(4);
        let cases = [
            (format!("{token}\n"), Ok(token.clone())),
            (format!("{token}\nmore"), Ok(token.clone())),
            (String::new(), Err(LaunchError::Partial)),
            (token.clone(), Err(LaunchError::Partial)),
            (format!("{token}0\n"), Err(LaunchError::TooLong)),
            (format!("{token}\r\n"), Err(LaunchError::TooLong)),
            ("\n".to_owned(), Err(LaunchError::Invalid)),
            (format!("{}\n", &token[1..]), Err(LaunchError::Invalid)),
            (format!("{}\n", token.to_uppercase()), Err(LaunchError::Invalid)),
            (format!("{}g\n", &token[1..]), Err(LaunchError::Invalid)),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn only_a_build_with_a_name_waits_for_one() {
        let of = |pairs: &[(&str, &str)]| {
            check(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(of(&[("IMAGE_BUILD_MODE", "true"), ("OI_REPO_IMAGE_BUILD_ID", "b")]), Ok(()));
        assert!(of(&[("IMAGE_BUILD_MODE", "true")]).is_err() && of(&[("OI_REPO_IMAGE_BUILD_ID", "b")]).is_err());
    }
}
