//! The page of the OAuth flow on which a person picks who to be.

use axum::response::Response;
use maud::html;
use url::Url;

use super::with_policy;
use crate::forge::Forge;
use crate::forge::oauth::Authorize;

pub fn page(forge: &Forge, request: &Authorize, redirect: &Url) -> Response {
    let hidden = [
        ("client_id", &request.client_id),
        ("redirect_uri", &request.redirect_uri),
        ("state", &request.state),
        ("code_challenge", &request.code_challenge),
        ("code_challenge_method", &request.code_challenge_method),
    ];
    let destination = redirect.origin().ascii_serialization();
    let mut people: Vec<_> = forge.directory.users().collect();
    // Whom the client suggests comes first.
    people.sort_by_key(|user| !user.login.eq_ignore_ascii_case(&request.login));
    let content = html! {
        h1 { "Sign in to " (forge.config.app.slug) }
        p { "This forge has no passwords. Pick who to be; you then go back to " strong { (destination) } "." }
        form class="people" method="post" action="/login/oauth/authorize" {
            @for (name, value) in hidden {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
            @for user in people {
                button type="submit" name="login" value=(user.login) {
                    "Continue as " (user.name)
                    small { (user.login) }
                }
            }
            button class="cancel" type="submit" name="login" value="-" { "Cancel" }
        }
    };
    // Chromium holds the redirect after a form to the form's policy too.
    with_policy("Sign in", &content, &format!("'self' {destination}"))
}
