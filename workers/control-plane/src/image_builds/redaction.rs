//! What is told of a failed build: bounded, and without what looks like a secret or is one.

use oi_protocol::text::truncate_bytes;

/// Longest text that is kept, in bytes.
const MAX_BYTES: usize = 500;
/// Values shorter than this are words that may stand in any text.
const MIN_SECRET: usize = 6;
/// What tokens of well-known services begin with.
const TOKENS: [&str; 14] = [
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "oi_pat_",
    "sk-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "npm_",
    "eyJ",
];

/// Whether a word looks like a secret: a token of a known kind, or hex as long as a key's. A commit is shorter.
fn looks_secret(word: &str) -> bool {
    let is_token = TOKENS.iter().any(|start| word.len() >= start.len() + 12 && word.starts_with(start));
    is_token || (word.len() >= 48 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The text without control characters, the last 500 bytes of it.
pub fn told<'a>(text: &str, secrets: impl Iterator<Item = &'a str>) -> String {
    let mut text = text.to_owned();
    let mut secrets: Vec<&str> = secrets.filter(|secret| secret.len() >= MIN_SECRET).collect();
    // A value that holds another goes first.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, "***");
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        if is_part(first) {
            let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
            clean.push_str(if looks_secret(&rest[..end]) { "***" } else { &rest[..end] });
            rest = &rest[end..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("://") {
            clean.push_str("://");
            let authority = after.find(|c: char| c == '/' || c.is_whitespace()).map_or(after, |end| &after[..end]);
            rest = match authority.rfind('@') {
                Some(at) => {
                    clean.push_str("***@");
                    &after[at + 1..]
                }
                None => after,
            };
            continue;
        }
        clean.push(if first.is_control() && first != '\n' { ' ' } else { first });
        rest = &rest[first.len_utf8()..];
    }
    let clean = clean.trim();
    let mut start = clean.len().saturating_sub(MAX_BYTES);
    while !clean.is_char_boundary(start) {
        start += 1;
    }
    truncate_bytes(&clean[start..], MAX_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_commits_stay() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let key = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("npm failed with hunter2hunter2!", "npm failed with ***!"),
            ("clone https://x-access-token:abc@github.com/a/b failed", "clone https://***@github.com/a/b failed"),
            ("see https://github.com/a/b@1", "see https://github.com/a/b@1"),
            ("token ghs_0123456789abcdef is bad", "token *** is bad"),
            (&format!("at {commit}"), &format!("at {commit}")),
            (&format!("key={key}"), "key=***"),
            ("sk-short sk-proj-0123456789", "sk-short ***"),
            ("a\u{1b}[31mred\u{0}", "a [31mred"),
        ] {
            assert_eq!(told(text, ["hunter2hunter2", "no"].into_iter()), expected);
        }
    }

    #[test]
    fn a_long_text_is_kept_from_its_end() {
        let long = told(&format!("begin {}é end", "é".repeat(1_000)), std::iter::empty());
        assert!(long.len() <= MAX_BYTES && long.ends_with("é end"), "{long}");
    }
}
