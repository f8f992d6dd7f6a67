//! A session forked, deleted, and seen by operators.

use oi_protocol::identity::Role;
use oi_protocol::text::utf16_len;
use oi_protocol::{SessionId, limits};
use oi_session::archive_file::{ArchivedRanges, ELSEWHERE, place_of};
use oi_session::call::{InitSession, Principal, SessionCall};
use oi_session::family::ForkOf;
use oi_session::fork::ForkPoint;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, random, reply, request_body};
use serde::Deserialize;
use serde_json::json;
use worker::Response;

use super::sandbox_broker::listed_session;
use super::sessions::{begin_plain, set_timeout};
use crate::identity::{self, NOT_IN_A_NEW_SESSION, Shown, acting_person, refuse_claims};
use crate::media_store::MediaStore;
use crate::models::Models;
use crate::request::Cx;
use crate::search_index;
use crate::session_client;
use crate::source_control::require_forge;
use crate::store::sessions::{self, NewSession};
use crate::store::{deleted_sessions, user_identities};

const SHAPE: &str = "Invalid fork body";

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fork {
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    timeline_sequence: Option<i64>,
    #[serde(default)]
    title: Option<String>,
    /// Another model than the old session's, which may be disabled by now.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    reasoning_effort: Option<String>,
}

fn fork_body(body: &[u8]) -> Result<Fork, Refusal> {
    let value: serde_json::Value = request_body::parse(body, "Invalid JSON body")?;
    refuse_claims(&value, NOT_IN_A_NEW_SESSION)?;
    let mut fork: Fork = request_body::parse(body, SHAPE)?;
    if fork.event_id.is_some() && fork.timeline_sequence.is_some() {
        return Err(Refusal::invalid_body("eventId and timelineSequence exclude each other"));
    }
    if fork.event_id.as_deref().is_some_and(|id| id.is_empty() || id.len() > 2_048) {
        return Err(Refusal::invalid_body(SHAPE));
    }
    fork.title = fork.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
    if fork.title.as_deref().is_some_and(|title| utf16_len(title) > limits::TITLE_MAX_UTF16) {
        return Err(Refusal::invalid_body("title must be 200 characters or fewer"));
    }
    Ok(fork)
}

/// Makes a session that continues another one from one of its events.
pub(super) async fn fork(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let wanted = fork_body(if cx.body.is_empty() { b"{}" } else { &cx.body })?;
    let source = listed_session(cx).await?;
    let owner = acting_person(cx, &Shown::default())
        .await?
        .ok_or_else(|| Refusal::forbidden("A user identity is required to create a session"))?;
    let models = Models::enabled(&cx.db()?, cx.env).await?;
    if let Some(model) = wanted.model.as_deref() {
        models.choose(Some(model), wanted.reasoning_effort.as_deref())?;
    }
    let point = fork_point(cx, &source, wanted.event_id, wanted.timeline_sequence).await?;
    let effort = wanted.reasoning_effort.or(point.reasoning_effort.filter(|_| wanted.model.is_none()));
    let (model, effort) = models.choose(Some(wanted.model.as_deref().unwrap_or(&point.model)), effort.as_deref())?;
    let new = NewSession {
        id: SessionId::from_bytes(random::bytes()),
        title: wanted.title.or(point.title),
        repositories: point.repositories.clone(),
        environment_id: point.environment.as_ref().map(|environment| environment.id.clone()),
        model: model.id.clone(),
        reasoning_effort: effort,
        spawn_source: identity::spawn_source(&cx.who.caller),
        user_id: owner.canonical_user_id.clone(),
        scm_login: owner.scm_login.clone(),
    };
    let sandbox_timeout_ms = set_timeout(cx, &point.repositories, new.environment_id.as_ref()).await?;
    let init = InitSession {
        session_id: new.id.clone(),
        title: new.title.clone(),
        repositories: point.repositories,
        environment: point.environment,
        sandbox_timeout_ms,
        model: new.model.clone(),
        reasoning_effort: new.reasoning_effort.clone(),
        owner,
        spawn_source: new.spawn_source,
        warm: false,
        child_of: None,
        fork_of: Some(ForkOf {
            session_id: source,
            from_sequence: point.from_sequence,
            through_sequence: point.through_sequence,
            snapshot: point.snapshot,
        }),
    };
    begin_plain(cx, new, init).await
}

/// Asks the old session for its event; one that left for a file is looked for there.
async fn fork_point(
    cx: &Cx<'_>,
    source: &SessionId,
    event_id: Option<String>,
    sequence: Option<i64>,
) -> Result<ForkPoint, Failure> {
    let ask = |event_id, sequence| {
        let call = SessionCall::ForkPoint { event_id, sequence };
        session_client::ask(cx.env, source, identity::principal(&cx.who.caller), call)
    };
    let answer = ask(event_id.clone(), sequence).await?;
    let Some(event_id) = event_id.filter(|_| answer.status == ELSEWHERE) else {
        return answer.read("reading a fork's point");
    };
    let ranges: ArchivedRanges = answer.read("reading where old events are")?;
    let store = MediaStore::of(cx.env)?;
    for file in ranges.files {
        let Some(text) = store.text(&file.key).await? else { continue };
        if let Some(place) = place_of(&text, &event_id).map_err(while_doing("looking for an old event"))? {
            return ask(None, Some(place)).await?.read("reading a fork's point");
        }
    }
    Err(Refusal::not_found("The session has no such event. Of an old event give `timelineSequence`").into())
}

/// Whose sessions a caller may delete: their own, and an admin anybody's. A bot deletes for whom it acts, and only that.
async fn require_owner(cx: &Cx<'_>, id: &SessionId) -> Result<(), Failure> {
    let db = cx.db()?;
    // One that is gone already may be deleted again.
    let Some(owner) = sessions::owner(&db, id).await? else { return Ok(()) };
    let caller = match (cx.person(), cx.actor()) {
        (Some(person), _) => Some(person.user_id.clone()),
        (None, Some(actor)) => {
            user_identities::find(&db, actor.namespace, &actor.id).await?.map(|identity| identity.user_id)
        }
        (None, None) => None,
    };
    let is_admin = cx.person().is_some_and(|person| person.role == Role::Admin);
    if may_delete(caller.as_deref(), is_admin, owner.user_id.as_deref()) {
        return Ok(());
    }
    Err(Refusal::forbidden("Only the person who started this session, or an admin, may delete it.").into())
}

fn may_delete(caller: Option<&str>, is_admin: bool, owner: Option<&str>) -> bool {
    is_admin || (caller.is_some() && caller == owner)
}

/// Deletes a session. It is off the list at once; what it holds goes after, and a sweep sees to it that it does.
pub(super) async fn delete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    require_owner(cx, &id).await?;
    let entry = cx.audit("session.delete", "session", id.as_str());
    if !deleted_sessions::delete(&cx.db()?, &id, clock::now(), &entry).await? {
        return Err(Refusal::not_found("Session not found").into());
    }
    let told = session_client::call(cx.env, &id, Principal::Platform, SessionCall::Delete).await;
    let trouble = match told {
        Ok(answer) if answer.is_success() || answer.status == 404 => None,
        Ok(answer) => Some(format!("status {}", answer.status)),
        Err(failure) => Some(failure.to_string()),
    };
    // What fails here is done by the sweep, and so is what a job adds after this.
    if let Err(failure) = search_index::forget(cx.env, &id).await {
        Line::warn("control-plane", "search.not_forgotten").with("error", failure.to_string()).write();
    }
    let line = Line::info("control-plane", "session.deleted").trace(cx.trace).with("session_id", id.as_str());
    line.with("left_to_the_sweep", trouble.unwrap_or_default()).write();
    reply::json(200, &json!({"status": "deleted", "sessionId": id}))
}

/// What the session has yet to do outside, and what it gave up.
pub(super) async fn deliveries(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    session_client::relay(cx.env, &id, identity::principal(&cx.who.caller), SessionCall::Deliveries).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_deleted_by_their_people_and_by_admins() {
        for (caller, is_admin, owner, may) in [
            (Some("u1"), false, Some("u1"), true),
            (Some("u1"), false, Some("u2"), false),
            (Some("u1"), false, None, false),
            (None, false, None, false),
            (None, false, Some("u1"), false),
            (Some("u1"), true, Some("u2"), true),
            (Some("u1"), true, None, true),
        ] {
            assert_eq!(may_delete(caller, is_admin, owner), may, "{caller:?} {is_admin} {owner:?}");
        }
    }

    #[test]
    fn a_fork_names_one_place_at_most_and_nobody() {
        assert_eq!(
            fork_body(br#"{"eventId":"e","title":" t "}"#),
            Ok(Fork {
                event_id: Some("e".to_owned()),
                timeline_sequence: None,
                title: Some("t".to_owned()),
                model: None,
                reasoning_effort: None
            })
        );
        assert!(fork_body(b"{}").is_ok());
        for bad in [
            r#"{"eventId":"e","timelineSequence":1}"#,
            r#"{"eventId":""}"#,
            r#"{"timelineSequence":"1"}"#,
            r#"{"userId":"me"}"#,
            "[]",
            "{",
        ] {
            assert_eq!(fork_body(bad.as_bytes()).expect_err(bad).status, 400, "{bad}");
        }
    }
}
