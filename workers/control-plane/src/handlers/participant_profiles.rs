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
    canonical_user_id: Option<String>,
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    let principal = identity::principal(&cx.who.caller);
    let answer = session_client::ask(cx.env, &id, principal, SessionCall::Participants).await?;
    let listed: Listed = serde_json::from_str(&answer.body).map_err(while_doing("reading a session's participants"))?;
    let ids: Vec<String> = listed.participants.into_iter().filter_map(|one| one.canonical_user_id).collect();
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
