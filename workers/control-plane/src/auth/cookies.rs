//! The two cookies: who is signed in, and which sign-in is under way.

use crate::web_origin::WebOrigin;

/// Life of a browser session, in ms: 7 days from the last time it was prolonged.
pub const SESSION_LIFE_MS: i64 = 7 * 86_400_000;
/// Time to finish a sign-in, in ms.
pub const SIGN_IN_LIFE_MS: i64 = 600_000;

/// One of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    /// Who is signed in.
    Session,
    /// The state of a sign-in, so that it ends in the browser where it began.
    SignIn,
}

impl Cookie {
    fn name(self, origin: &WebOrigin) -> String {
        let name = match self {
            Self::Session => "openinspect.session_token",
            Self::SignIn => "openinspect.sign_in_state",
        };
        // With this prefix browsers take it from this very host alone, for every path, over https.
        let prefix = if origin.is_https() { "__Host-" } else { "" };
        format!("{prefix}{name}")
    }

    const fn life_ms(self) -> i64 {
        match self {
            Self::Session => SESSION_LIFE_MS,
            Self::SignIn => SIGN_IN_LIFE_MS,
        }
    }

    /// Its value in a `Cookie` header: 64 lowercase hex digits. `None` when it is absent, there twice, or anything else.
    pub fn read(self, origin: &WebOrigin, header: Option<&str>) -> Option<String> {
        let name = self.name(origin);
        let mut values = header?.split(';').filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        });
        let value = values.next()?;
        let is_token = value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (is_token && values.next().is_none()).then(|| value.to_owned())
    }

    /// A `Set-Cookie` header that sets it.
    pub fn set(self, origin: &WebOrigin, value: &str) -> String {
        self.header(origin, value, self.life_ms() / 1000)
    }

    /// A `Set-Cookie` header that removes it.
    pub fn clear(self, origin: &WebOrigin) -> String {
        self.header(origin, "", 0)
    }

    fn header(self, origin: &WebOrigin, value: &str, seconds: i64) -> String {
        let secure = if origin.is_https() { "; Secure" } else { "" };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}", self.name(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn origin(url: &'static str) -> WebOrigin {
        WebOrigin::of(&BTreeMap::from([("WEB_APP_URL", url)])).expect("an origin")
    }

    #[test]
    fn the_session_cookie_is_for_us_alone() {
        let token = "a".repeat(64);
        let https = Cookie::Session.set(&origin("https://app.example.com"), &token);
        assert_eq!(
            https,
            format!("__Host-openinspect.session_token={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=604800; Secure")
        );
        let http = Cookie::Session.clear(&origin("http://localhost:8787"));
        assert_eq!(http, "openinspect.session_token=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }

    #[test]
    fn a_cookie_that_is_doubled_or_malformed_is_none() {
        let http = origin("http://localhost:8787");
        let token = "0f".repeat(32);
        let read = |header: &str| Cookie::Session.read(&http, Some(header));
        assert_eq!(read(&format!("a=b; openinspect.session_token={token}")).as_deref(), Some(token.as_str()));
        for bad in [
            String::new(),
            "openinspect.session_token=".to_owned(),
            format!("openinspect.session_token={token}; openinspect.session_token={token}"),
            format!("openinspect.session_token={}", token.to_uppercase()),
            format!("openinspect.session_token={token}0"),
            format!("__Host-openinspect.session_token={token}"),
            format!("xopeninspect.session_token={token}"),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
        assert_eq!(Cookie::SignIn.read(&http, None), None);
    }
}
