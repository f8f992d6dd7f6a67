//! The page: static assets, and the headers that its HTML has.

use oi_worker_kit::failure::while_doing;
use oi_worker_kit::http_client::fetch_through;
use oi_worker_kit::{Failure, Refusal, reply};
use worker::{Env, Headers, Request, Response};

use crate::source_control::web_url;
use crate::web_origin::WebOrigin;

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
    let is_html = headers.get("Content-Type").ok().flatten().is_some_and(|kind| kind.starts_with("text/html"));
    if is_html {
        let origin = WebOrigin::of(env)?;
        set("Content-Security-Policy", &content_security_policy(&origin, &web_url(env)))?;
        set("Referrer-Policy", "same-origin")?;
        set("X-Frame-Options", "DENY")?;
        set("Cross-Origin-Opener-Policy", "same-origin")?;
        set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")?;
        set("Cache-Control", "no-cache")?;
        if origin.is_https() {
            set("Strict-Transport-Security", "max-age=31536000")?;
        }
    }
    Ok(response.with_headers(headers))
}

/// What the page may load: its own files, its own API and socket, pictures of people.
fn content_security_policy(origin: &WebOrigin, forge: &str) -> String {
    // Scheme, host and port only.
    let forge = forge.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        &format!("img-src 'self' data: https: {forge}"),
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
        let policy = content_security_policy(&WebOrigin::of(&vars).expect("an origin"), "http://127.0.0.1:8788/x");
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("connect-src 'self' wss://app.example.com;"), "{policy}");
        assert!(policy.contains("img-src 'self' data: https: http://127.0.0.1:8788;"), "{policy}");
    }
}
