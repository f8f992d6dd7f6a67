//! The page: static assets, and the headers that its HTML has.

use oi_worker_kit::failure::while_doing;
use oi_worker_kit::http_client::fetch_through;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal, reply};
use worker::{Env, Headers, Request, Response};

use crate::source_control::web_url;
use crate::web_origin::WebOrigin;

/// Browsers come back over https for a year.
pub const STRICT_TRANSPORT: &str = "max-age=31536000";

/// Pictures of people whose accounts are elsewhere: Google, Slack, Linear, and those who use Gravatar.
const PICTURES_ELSEWHERE: [&str; 4] = [
    "https://*.googleusercontent.com",
    "https://*.slack-edge.com",
    "https://public.linear.app",
    "https://secure.gravatar.com",
];

/// Answers a GET that is not the API's: the asset, or the page for any path that no asset has.
pub async fn answer(request: Request, env: &Env) -> Result<Response, Failure> {
    let Ok(assets) = env.assets("ASSETS") else { return reply::text(404, "The web application is not built") };
    if !matches!(request.inner().method().as_str(), "GET" | "HEAD") {
        return Err(Refusal::not_found("Not found").into());
    }
    let response = fetch_through(&assets, &request).await.map_err(while_doing("reading an asset"))?;
    // Headers of a fetched answer cannot be changed in place.
    let headers = Headers::new();
    for (name, value) in response.headers().entries() {
        headers.append(&name, &value).map_err(while_doing("copying a header"))?;
    }
    let set = |name: &str, value: &str| headers.set(name, value).map_err(while_doing("writing a header"));
    set("X-Content-Type-Options", "nosniff")?;
    set("Cross-Origin-Resource-Policy", "same-origin")?;
    let is_html = headers.get("Content-Type").ok().flatten().is_some_and(|kind| kind.starts_with("text/html"));
    if is_html {
        let origin = WebOrigin::of(env)?;
        let pictures = picture_sources(&web_url(env), &env.list("AVATAR_ORIGINS"));
        set("Content-Security-Policy", &content_security_policy(&origin, &pictures))?;
        set("Referrer-Policy", "same-origin")?;
        set("X-Frame-Options", "DENY")?;
        set("Cross-Origin-Opener-Policy", "same-origin")?;
        set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")?;
        set("Cache-Control", "no-cache")?;
        if origin.is_https() {
            set("Strict-Transport-Security", STRICT_TRANSPORT)?;
        }
    }
    Ok(response.with_headers(headers))
}

/// Where pictures of people come from: the forge's hosts for them, and what the deployment adds.
fn picture_sources(forge: &str, more: &[String]) -> Vec<String> {
    // Scheme, host and port only.
    let forge = forge.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let mut sources = match forge.split_once("://") {
        Some(("https", "github.com")) => vec!["https://avatars.githubusercontent.com".to_owned()],
        // GitHub Enterprise has them at its own host, or at one below it.
        Some(("https", host)) if !host.contains(':') => vec![forge.clone(), format!("https://avatars.{host}")],
        _ => vec![forge],
    };
    sources.extend(PICTURES_ELSEWHERE.map(str::to_owned));
    // A word that could end the policy is left out.
    let plain = |source: &&String| {
        source.strip_prefix("https://").is_some_and(|host| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'*'))
        })
    };
    sources.extend(more.iter().filter(plain).cloned());
    sources
}

/// What the page may load: its own files, its own API and socket, pictures of people.
fn content_security_policy(origin: &WebOrigin, pictures: &[String]) -> String {
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "media-src 'self'",
        &format!("img-src 'self' data: {}", pictures.join(" ")),
        &format!("connect-src 'self' {}", origin.as_socket_origin()),
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
    .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_page_runs_its_own_scripts_and_no_others() {
        let vars = BTreeMap::from([("WEB_APP_URL", "https://app.example.com")]);
        let pictures = picture_sources("http://127.0.0.1:8788/x", &[]);
        let policy = content_security_policy(&WebOrigin::of(&vars).expect("an origin"), &pictures);
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("connect-src 'self' wss://app.example.com;"), "{policy}");
        assert!(
            policy.contains("img-src 'self' data: http://127.0.0.1:8788 https://*.googleusercontent.com"),
            "{policy}"
        );
    }

    #[test]
    fn pictures_of_people_come_from_the_forge_and_from_where_they_are_known_to_be() {
        for (forge, own) in [
            ("https://github.com", &["https://avatars.githubusercontent.com"][..]),
            ("https://ghe.example.com", &["https://ghe.example.com", "https://avatars.ghe.example.com"]),
            ("http://127.0.0.1:8788", &["http://127.0.0.1:8788"]),
        ] {
            assert_eq!(picture_sources(forge, &[]), [own, &PICTURES_ELSEWHERE[..]].concat(), "{forge}");
        }
        let more = ["https://cdn.example.com".to_owned()];
        assert_eq!(picture_sources("https://github.com", &more).last(), Some(&more[0]));
        let bad = ["https://x; script-src *", "http://plain.example", "https:", "https://", "*", "data:"];
        let bad: Vec<String> = bad.iter().map(|origin| (*origin).to_owned()).collect();
        let sources = picture_sources("https://github.com", &bad);
        assert_eq!(sources.len(), 1 + PICTURES_ELSEWHERE.len(), "{sources:?}");
    }
}
