//! For whom a caller acts in a session, and which fields of a body say nothing about that.

use oi_protocol::session_state::SpawnSource;
use oi_session::call::{Person, Principal};
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random};
use serde::Deserialize;

use crate::policy::Caller;
use crate::request::Cx;
use crate::store::user_identities::{self, Account};
use crate::store::users::{self, Profile};

/// Fields that a verified caller may not send with a new session.
pub const NOT_IN_A_NEW_SESSION: &[&str] =
    &["userId", "spawnSource", "authProvider", "authUserId", "actorUserId", "scmToken", "scmRefreshToken", "scmUserId"];
/// Nor with a request for a client token.
pub const NOT_IN_A_TOKEN_REQUEST: &[&str] = &["userId", "scmToken", "scmRefreshToken", "scmUserId"];
/// Nor with a prompt.
pub const NOT_IN_A_PROMPT: &[&str] = &["authorId"];
/// Nor with a title or when archiving.
pub const NOT_IN_AN_EDIT: &[&str] = &["userId"];

/// Refuses a body that claims an identity, before anything else is done with it.
pub fn refuse_claims(body: &serde_json::Value, forbidden: &[&str]) -> Result<(), Refusal> {
    let Some(object) = body.as_object() else { return Err(Refusal::invalid_body("JSON body must be an object")) };
    match forbidden.iter().find(|field| object.contains_key(**field)) {
        Some(field) => Err(Refusal::invalid_body(format!("Field '{field}' is not accepted from verified callers"))),
        None => Ok(()),
    }
}

/// What a bot says about its actor, for show only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Shown {
    scm_login: Option<String>,
    scm_name: Option<String>,
    actor_display_name: Option<String>,
    actor_email: Option<String>,
    actor_avatar_url: Option<String>,
}

fn short(text: Option<&String>) -> Option<String> {
    let text = text.map(|text| text.trim()).filter(|text| !text.is_empty())?;
    Some(oi_protocol::text::truncate_bytes(text, 300).to_owned())
}

/// The person that a caller is, or that a bot acts for; `None` for a bot that acts for nobody.
pub async fn acting_person(cx: &Cx<'_>, shown: &Shown) -> Result<Option<Person>, Failure> {
    if let Some(person) = cx.person() {
        return Ok(Some(Person {
            user_id: person.user_id.clone(),
            canonical_user_id: Some(person.user_id.clone()),
            scm_user_id: person.scm_user_id.clone(),
            scm_login: person.scm_login.clone(),
            name: person.display_name.clone(),
            email: person.email.clone(),
            avatar: person.avatar_url.clone(),
        }));
    }
    let Some(actor) = cx.actor() else { return Ok(None) };
    let name = short(shown.actor_display_name.as_ref().or(shown.scm_name.as_ref()));
    let login = short(shown.scm_login.as_ref());
    let email = short(shown.actor_email.as_ref());
    let account = Account {
        provider: actor.namespace,
        provider_user_id: &actor.id,
        login: login.as_deref(),
        email: email.as_deref(),
    };
    let profile = Profile {
        display_name: name.clone().or_else(|| login.clone()),
        // Slack and Linear vouch for the e-mails of their workspaces' members; GitHub's webhooks carry none.
        verified_email: email.clone().filter(|_| matches!(actor.namespace, "slack" | "linear")),
        avatar_url: short(shown.actor_avatar_url.as_ref()).filter(|url| url.starts_with("https://")),
    };
    let new_ids = (random::hex::<16>(), random::hex::<16>());
    let identity =
        user_identities::find_or_create(&cx.db()?, &account, &profile, (&new_ids.0, &new_ids.1), clock::now())
            .await
            .map_err(|error| Fault::new("resolving a session's identity", error))?;
    if users::is_shut_out(&cx.db()?, &identity.user_id).await? {
        return Err(Refusal::forbidden("This person may not use this deployment any more").into());
    }
    let is_github = actor.namespace == "github";
    Ok(Some(Person {
        user_id: actor.participant_id(),
        canonical_user_id: Some(identity.user_id),
        scm_user_id: is_github.then(|| actor.id.clone()),
        scm_login: login.filter(|_| is_github),
        name,
        email,
        avatar: profile.avatar_url,
    }))
}

/// Who prompts when a bot acts for nobody.
pub fn anonymous() -> Person {
    Person { user_id: "anonymous".to_owned(), ..Person::default() }
}

/// What started a session.
pub fn spawn_source(caller: &Caller) -> SpawnSource {
    match caller {
        Caller::Bot { service: Service::GithubBot, .. } => SpawnSource::GithubBot,
        Caller::Bot { service: Service::LinearBot, .. } => SpawnSource::LinearBot,
        Caller::Bot { service: Service::SlackBot, .. } => SpawnSource::SlackBot,
        _ => SpawnSource::User,
    }
}

/// The caller as the session knows it.
pub fn principal(caller: &Caller) -> Principal {
    match caller {
        Caller::Person(person) => Principal::User { user_id: person.user_id.clone() },
        Caller::Bot { actor: Some(actor), .. } => Principal::User { user_id: actor.participant_id() },
        Caller::Bearer { token } => Principal::Sandbox { token: token.clone() },
        Caller::Bot { actor: None, .. } | Caller::Web | Caller::Nobody => Principal::Platform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_that_claims_an_identity_is_refused() {
        for field in NOT_IN_A_NEW_SESSION {
            let body = json!({"title": "x", *field: null});
            let refusal = refuse_claims(&body, NOT_IN_A_NEW_SESSION).expect_err("a claim");
            assert_eq!(refusal.sentence, format!("Field '{field}' is not accepted from verified callers"));
        }
        assert_eq!(refuse_claims(&json!({"title": "x"}), NOT_IN_A_NEW_SESSION), Ok(()));
        assert!(refuse_claims(&json!([]), NOT_IN_A_PROMPT).is_err());
    }
}
