//! How the people of a session are shown.

use oi_session::call::SessionCall;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, reply};
use serde::Deserialize;
use serde_json::{Map, json};
use worker::Response;

use crate::request::Cx;
use crate::store::users;
use crate::{identity, session_client};

#[derive(Deserialize)]
struct Listed {
    participants: Vec<Participant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Participant {
    user_id: String,
    canonical_user_id: Option<String>,
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    let principal = identity::principal(&cx.who.caller);
    let answer = session_client::ask(cx.env, &id, principal, SessionCall::Participants).await?;
    let listed: Listed = serde_json::from_str(&answer.body).map_err(while_doing("reading a session's participants"))?;
    // Somebody who was added is known by the name that they were added with.
    let named = listed.participants.into_iter().map(|one| one.canonical_user_id.unwrap_or(one.user_id));
    let ids: Vec<String> = named.collect();
    let shown = users::profiles(&cx.db()?, &ids).await?;
    let profiles: Map<String, serde_json::Value> = shown
        .into_iter()
        .map(|one| {
            let shown = json!({"userId": one.id, "displayName": one.display_name, "avatarUrl": one.avatar_url});
            (one.id, shown)
        })
        .collect();
    reply::json(200, &json!({"profiles": profiles}))
}
