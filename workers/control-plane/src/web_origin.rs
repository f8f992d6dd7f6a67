//! The one origin that browsers use, and what follows from it: cookies, same-origin checks, where to go on to.

use std::net::{Ipv4Addr, Ipv6Addr};

use oi_worker_kit::Refusal;
use oi_worker_kit::vars::Vars;

/// Longest path that a sign-in goes on to, in bytes.
const MAX_PATH_BYTES: usize = 2_048;

/// `WEB_APP_URL`: https, or http on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    https: bool,
    /// Host, with its port when that is not the scheme's own.
    host: String,
}

fn is_local(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || v6.and_then(|host| host.parse::<Ipv6Addr>().ok()).is_some_and(|ip| ip.is_loopback())
}

impl WebOrigin {
    /// From `WEB_APP_URL`.
    pub fn of(vars: &impl Vars) -> Result<Self, Refusal> {
        let text = vars.get("WEB_APP_URL").ok_or_else(|| Refusal::not_configured("WEB_APP_URL is not set"))?;
        Self::parse(&text).ok_or_else(|| {
            Refusal::not_configured("WEB_APP_URL must be an origin: https, or http on localhost, 127.0.0.1 or [::1]")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/').to_ascii_lowercase();
        let (https, authority) = match text.split_once("://")? {
            ("https", authority) => (true, authority),
            ("http", authority) => (false, authority),
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (authority, None),
        };
        let v6 = host.starts_with('[') && host.ends_with(']');
        let name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if !(name || (v6 && is_local(host))) || !(https || is_local(host)) {
            return None;
        }
        // Browsers leave the scheme's own port out.
        let port = port.filter(|port| *port != if https { 443 } else { 80 });
        let host = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { https, host })
    }

    /// `https://host[:port]`, as browsers write it in `Origin`.
    pub fn as_origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.host)
    }

    /// Whether cookies are for https only.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// The same host for WebSockets.
    pub fn as_socket_origin(&self) -> String {
        format!("{}://{}", if self.https { "wss" } else { "ws" }, self.host)
    }

    /// A URL of the page: `path` starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.as_origin())
    }

    /// A path of this origin with its query, from what a caller asked for; `None` when it leads anywhere else.
    pub fn own_path(&self, wanted: &str) -> Option<String> {
        let path = wanted.strip_prefix(&self.as_origin()).unwrap_or(wanted);
        let path = path.split('#').next().unwrap_or_default();
        // Browsers take `\` for `/`, skip white space, and take `//host` for another origin.
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        let fits = path.len() <= MAX_PATH_BYTES && path.starts_with('/') && !path.starts_with("//") && plain;
        fits.then(|| path.to_owned())
    }

    /// Whether a request that changes something comes from our own page: by `Origin`, and by `Sec-Fetch-Site` where the
    /// browser sends it.
    pub fn is_same_origin(&self, origin: Option<&str>, fetch_site: Option<&str>) -> bool {
        let site_fits = fetch_site.is_none_or(|site| site == "same-origin");
        match origin {
            Some(origin) => origin == self.as_origin() && site_fits,
            None => fetch_site == Some("same-origin"),
        }
    }

    /// Whether a WebSocket upgrade may come from here: programs send neither, browsers our origin and, where they send
    /// it, that they are at the same site.
    pub fn may_connect(&self, origin: Option<&str>, fetch_site: Option<&str>) -> bool {
        match origin {
            // Some browsers take `ws:` and `http:` of one host for two origins of one site.
            Some(origin) => {
                origin == self.as_origin() && matches!(fetch_site, None | Some("same-origin" | "same-site"))
            }
            None => matches!(fetch_site, None | Some("same-origin")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> WebOrigin {
        WebOrigin::parse(text).expect("an origin")
    }

    #[test]
    fn an_origin_is_https_or_this_machine() {
        assert_eq!(origin("https://app.example.com/").as_origin(), "https://app.example.com");
        assert_eq!(origin("http://127.0.0.1:8787").as_socket_origin(), "ws://127.0.0.1:8787");
        assert_eq!(origin("https://app.example.com").as_socket_origin(), "wss://app.example.com");
        assert!(origin("http://[::1]:1").url("/x").ends_with("/x"));
        for bad in ["", "app", "http://app.example.com", "https://a/b", "https://u@a", "https://a?x", "ftp://localhost"]
        {
            assert_eq!(WebOrigin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sign_in_goes_on_to_our_own_pages_only() {
        let app = origin("https://app.example.com");
        for (wanted, path) in [
            ("/", "/"),
            ("/session/1?tab=a", "/session/1?tab=a"),
            ("https://app.example.com/x", "/x"),
            ("/a/../b", "/a/../b"),
            ("/x#part", "/x"),
        ] {
            assert_eq!(app.own_path(wanted).as_deref(), Some(path), "{wanted}");
        }
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example/",
            "https://app.example.com@evil.example/",
            "https://app.example.com:444/",
            "https://app.example.com.evil.example/",
            "javascript:alert(1)",
            "http://app.example.com/",
            "x",
            "",
            "/a b",
            "/a\n",
            "https://app.example.com//evil.example",
            &format!("/{}", "a".repeat(MAX_PATH_BYTES)),
        ] {
            assert_eq!(app.own_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_our_own_page_may_change_anything() {
        let app = origin("https://app.example.com");
        let ours = Some("https://app.example.com");
        assert!(app.is_same_origin(ours, None));
        assert!(app.is_same_origin(ours, Some("same-origin")));
        assert!(app.is_same_origin(None, Some("same-origin")));
        for (origin, site) in [
            (None, None),
            (None, Some("none")),
            (None, Some("cross-site")),
            (ours, Some("cross-site")),
            (ours, Some("same-site")),
            (Some("null"), None),
            (Some("https://app.example.com.evil.example"), Some("same-origin")),
            (Some("http://app.example.com"), None),
        ] {
            assert!(!app.is_same_origin(origin, site), "{origin:?} {site:?}");
        }
    }

    #[test]
    fn only_our_own_page_and_programs_may_connect() {
        let app = origin("https://app.example.com");
        let ours = Some("https://app.example.com");
        for (origin, site, may) in [
            (None, None, true),
            (ours, None, true),
            (ours, Some("same-origin"), true),
            (None, Some("same-origin"), true),
            (ours, Some("cross-site"), false),
            (ours, Some("none"), false),
            (None, Some("cross-site"), false),
            (None, Some("same-site"), false),
            (Some("null"), None, false),
            (Some("https://evil.example"), None, false),
            (Some("https://app.example.com.evil.example"), Some("same-origin"), false),
            (Some("http://app.example.com"), None, false),
        ] {
            assert_eq!(app.may_connect(origin, site), may, "{origin:?} {site:?}");
        }
    }
}
