//! Signing in and out, for browsers.

use oi_protocol::UnixMillis;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::log::Line;
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde::Deserialize;
use serde_json::json;
use worker::Response;

use super::app_config::sign_in_providers;
use crate::auth::browser::BrowserAuth;
use crate::auth::cookies::Cookie;
use crate::auth::sign_in::{self, Callback, Provider};
use crate::auth::{sign_in_rate, still_admitted};
use crate::request::Cx;
use crate::session_sweeps;
use crate::store::browser_sessions::{self, SignedIn};
use crate::store::{Database, session_pages};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignIn {
    provider: String,
    #[serde(default, rename = "callbackURL")]
    callback_url: Option<String>,
    #[serde(default)]
    disable_redirect: bool,
}

fn with_cookies(response: Response, cookies: &[String]) -> Result<Response, Failure> {
    for cookie in cookies {
        response.headers().append("Set-Cookie", cookie).map_err(while_doing("setting a cookie"))?;
    }
    Ok(response)
}

pub(super) async fn sign_in(cx: &Cx<'_>) -> Result<Response, Failure> {
    sign_in_rate::check(cx.head)?;
    let body: SignIn = request_body::parse(&cx.body, "provider is required, and callbackURL must be a string")?;
    let Some(provider) = Provider::parse(&body.provider) else {
        return Err(Refusal::invalid_body("provider must be one of: github, google").into());
    };
    let auth = BrowserAuth::of(cx.env)?;
    let wanted = body.callback_url.as_deref().unwrap_or("/");
    let begun = sign_in::begin(&auth, cx.env, &cx.db()?, provider, wanted).await?;
    let response = reply::json(200, &json!({"url": begun.url, "redirect": !body.disable_redirect}))?;
    with_cookies(response, &[begun.cookie])
}

pub(super) async fn callback(cx: &Cx<'_>, provider: Provider) -> Result<Response, Failure> {
    sign_in_rate::check(cx.head)?;
    let auth = BrowserAuth::of(cx.env)?;
    let db = cx.db()?;
    let query = |name: &str| cx.head.query_value(name);
    let (code, state, error) = (query("code"), query("state"), query("error"));
    let (cookie, user_agent) = (cx.head.header("Cookie"), cx.head.header("User-Agent"));
    let callback = Callback {
        code: code.as_deref(),
        state: state.as_deref(),
        error: error.as_deref(),
        cookie: cookie.as_deref(),
        user_agent: user_agent.as_deref(),
        request_id: &cx.trace.request_id,
    };
    let done = Cookie::SignIn.clear(&auth.origin);
    let back = |word: &str| {
        let login = reply::redirect(&auth.origin.url(&format!("/login?error={}", encode_component(word))))?;
        with_cookies(login, std::slice::from_ref(&done))
    };
    // A person is looking at this: whatever happens, they get a page.
    let outcome = sign_in::finish(&auth, cx.env, &db, provider, &callback).await;
    let finished = match outcome {
        Ok(Ok(finished)) => finished,
        Ok(Err(reason)) => {
            let line = Line::info("control-plane", "auth.not_signed_in").trace(cx.trace);
            line.with("provider", provider.as_str()).with("reason", reason.word()).write();
            return back(reason.word());
        }
        Err(failure) => {
            Line::error("control-plane", "auth.browser.failed")
                .trace(cx.trace)
                .with("provider", provider.as_str())
                .with("error", failure.to_string())
                .write();
            return back("unable_to_create_session");
        }
    };
    let line = Line::info("control-plane", "auth.signed_in").trace(cx.trace);
    line.with("provider", provider.as_str()).with("user_id", &finished.user_id).write();
    with_cookies(reply::redirect(&auth.origin.url(&finished.go_on_to))?, &[finished.cookie, done])
}

/// Where libraries send a browser whose sign-in failed: to the page that says why.
pub(super) fn error(cx: &Cx<'_>) -> Result<Response, Failure> {
    let auth = BrowserAuth::of(cx.env)?;
    let said = cx.head.query_value("error").unwrap_or_default();
    let is_word = |word: &str| word.len() <= 64 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let word = if !said.is_empty() && is_word(&said) { said.as_str() } else { "unable_to_create_session" };
    reply::redirect(&auth.origin.url(&format!("/login?error={}", encode_component(word))))
}

fn iso(millis: i64) -> String {
    clock::iso8601(UnixMillis(millis))
}

fn shown(person: &SignedIn, expires_at: i64) -> serde_json::Value {
    json!({
        "user": {
            "id": person.user_id,
            "name": person.display_name,
            "email": person.email,
            "emailVerified": person.email_verified != 0,
            "image": person.avatar_url,
            "role": person.role,
            "createdAt": iso(person.user_created_at),
            "updatedAt": iso(person.user_updated_at),
        },
        "session": {
            "id": person.session_id,
            "userId": person.user_id,
            "expiresAt": iso(expires_at),
            "createdAt": iso(person.session_created_at),
            "updatedAt": iso(person.session_updated_at),
        },
    })
}

pub(super) async fn get_session(cx: &Cx<'_>) -> Result<Response, Failure> {
    let auth = BrowserAuth::of(cx.env)?;
    let cookie = cx.head.header("Cookie");
    let Some(person) = still_admitted::by_cookie(cx.env, cookie.as_deref()).await? else {
        return reply::json_text(200, "null".to_owned());
    };
    match auth.prolong(&cx.db()?, cookie.as_deref(), &person).await? {
        Some((cookie, ends)) => with_cookies(reply::json(200, &shown(&person, ends.0))?, &[cookie]),
        None => reply::json(200, &shown(&person, person.session_expires_at)),
    }
}

pub(super) async fn sign_out(cx: &Cx<'_>) -> Result<Response, Failure> {
    let auth = BrowserAuth::of(cx.env)?;
    let cookie = auth.end(&cx.db()?, cx.head.header("Cookie").as_deref()).await?;
    with_cookies(reply::json(200, &json!({"success": true}))?, &[cookie])
}

/// Signs a person out in all their browsers, and closes their pages of sessions. A session that cannot be reached now is
/// asked again every minute.
pub(super) async fn sign_out_everywhere(cx: &Cx<'_>) -> Result<Response, Failure> {
    let auth = BrowserAuth::of(cx.env)?;
    let person = cx.person().ok_or_else(Refusal::unauthorized)?;
    let db = cx.db()?;
    let entry = cx.audit("person.sign_out_everywhere", "person", &person.user_id);
    db.batch(vec![
        browser_sessions::end_all(&person.user_id),
        session_pages::revoke(&person.user_id),
        entry.statement(),
    ])
    .await?;
    session_sweeps::close_pages(cx.env, Some(&person.user_id)).await?;
    let cookie = auth.end(&db, None).await?;
    with_cookies(reply::json(200, &json!({"status": true}))?, &[cookie])
}

pub(super) fn providers(cx: &Cx<'_>) -> Result<Response, Failure> {
    let providers = sign_in_providers(cx);
    if providers.is_empty() {
        return Err(Refusal::not_configured("Sign-in providers are not configured").into());
    }
    reply::json(200, &json!({"providers": providers}))
}
