//! The page on which a person picks who to be.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use url::Url;

use super::{Authorize, Person};

pub fn choose(people: &[Person], request: &Authorize, redirect: &Url) -> Response {
    let hidden = [
        ("client_id", &request.client_id),
        ("redirect_uri", &request.redirect_uri),
        ("response_type", &request.response_type),
        ("scope", &request.scope),
        ("state", &request.state),
        ("nonce", &request.nonce),
        ("code_challenge", &request.code_challenge),
        ("code_challenge_method", &request.code_challenge_method),
        ("access_type", &request.access_type),
    ];
    let destination = redirect.origin().ascii_serialization();
    let content = html! {
        h1 { "Choose an account" }
        p { "This stands in for Google on this machine and has no passwords. You then go back to " strong { (destination) } "." }
        form method="post" action="/o/oauth2/v2/auth" {
            @for (name, value) in hidden {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
            @for person in people {
                p { button type="submit" name="login" value=(person.login) { (person.name) " (" (person.email) ")" } }
            }
            p { button type="submit" name="login" value="-" { "Cancel" } }
        }
    };
    // Chromium holds the redirect after a form to the form's policy too.
    page(StatusCode::OK, &content, &format!("'self' {destination}"))
}

pub fn message(status: StatusCode, message: &str) -> Response {
    page(status, &html! { h1 { "Sign-in is not possible" } p { (message) } }, "'none'")
}

fn page(status: StatusCode, content: &Markup, form_action: &str) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Sign in · Local stand-in for Google" }
            }
            body { main { (content) } }
        }
    };
    let policy = format!("default-src 'none'; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'");
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (status, headers, markup.into_string()).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
