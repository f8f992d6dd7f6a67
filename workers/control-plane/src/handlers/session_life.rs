//! A session forked, deleted, and seen by operators.

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
use super::sessions::begin;
use crate::identity::{self, NOT_IN_A_NEW_SESSION, Shown, acting_person, refuse_claims};
use crate::media_store::MediaStore;
use crate::request::Cx;
use crate::search_index;
use crate::session_client;
use crate::source_control::require_github;
use crate::store::deleted_sessions;
use crate::store::sessions::NewSession;

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
    require_github(cx.env)?;
    let wanted = fork_body(if cx.body.is_empty() { b"{}" } else { &cx.body })?;
    let source = listed_session(cx).await?;
    let owner = acting_person(cx, &Shown::default())
        .await?
        .ok_or_else(|| Refusal::forbidden("A user identity is required to create a session"))?;
    let point = fork_point(cx, &source, wanted.event_id, wanted.timeline_sequence).await?;
    let primary = point.repositories.first();
    let new = NewSession {
        id: SessionId::from_bytes(random::bytes()),
        title: wanted.title.or(point.title),
        repository: primary.map(|r| (r.repo_owner.clone(), r.repo_name.clone(), r.base_branch.clone())),
        model: point.model,
        reasoning_effort: point.reasoning_effort,
        spawn_source: identity::spawn_source(&cx.who.caller),
        user_id: owner.canonical_user_id.clone(),
        scm_login: owner.scm_login.clone(),
    };
    let init = InitSession {
        session_id: new.id.clone(),
        title: new.title.clone(),
        repositories: point.repositories,
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
    begin(cx, new, init).await
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

/// Deletes a session. It is off the list at once; what it holds goes after, and a sweep sees to it that it does.
pub(super) async fn delete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    if !deleted_sessions::delete(&cx.db()?, &id, clock::now()).await? {
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
    fn a_fork_names_one_place_at_most_and_nobody() {
        assert_eq!(
            fork_body(br#"{"eventId":"e","title":" t "}"#),
            Ok(Fork { event_id: Some("e".to_owned()), timeline_sequence: None, title: Some("t".to_owned()) })
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
