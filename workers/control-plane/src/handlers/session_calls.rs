//! Calls that go on to the session.

use oi_protocol::callback::CallbackContext;
use oi_protocol::client_socket::{AttachmentRef, is_valid_prompt};
use oi_protocol::rest::PromptRequest;
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, limits};
use oi_session::archive_file::{self, ArchivePointer};
use oi_session::call::{EnqueuePrompt, SessionCall};
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::log::Line;
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::{Failure, Fault, Refusal, reply, request_body};
use serde::Deserialize;
use worker::Response;

use crate::enabled_models;
use crate::identity::{
    self, NOT_IN_A_PROMPT, NOT_IN_A_TOKEN_REQUEST, NOT_IN_AN_EDIT, Shown, acting_person, refuse_claims,
};
use crate::media_store::MediaStore;
use crate::models::Models;
use crate::policy::Caller;
use crate::request::Cx;
use crate::session_client;
use crate::source_control::require_forge;
use crate::store::{children, session_pages};

async fn relay(cx: &Cx<'_>, call: SessionCall) -> Result<Response, Failure> {
    let id = cx.session_id()?;
    session_client::relay(cx.env, &id, identity::principal(&cx.who.caller), call).await
}

/// A body that may be left out; when it is there, it is an object that claims nothing.
fn optional_body(cx: &Cx<'_>, forbidden: &[&str]) -> Result<(), Refusal> {
    if cx.body.is_empty() {
        return Ok(());
    }
    refuse_claims(&request_body::parse(&cx.body, "Invalid JSON body")?, forbidden)
}

/// A number of the query, when it is there.
fn number(cx: &Cx<'_>, name: &str) -> Result<Option<u32>, Refusal> {
    let Some(text) = cx.head.query_value(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Refusal::invalid_parameter(format!("{name} must be a whole number")))
}

/// A short text of the query, when it is there.
fn word(cx: &Cx<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let value = cx.head.query_value(name);
    if value.as_deref().is_some_and(|value| value.len() > 256) {
        return Err(Refusal::invalid_parameter(format!("{name} is too long")));
    }
    Ok(value)
}

/// The header `Idempotency-Key`, when it is there.
pub(super) fn idempotency_key(cx: &Cx<'_>) -> Result<Option<String>, Refusal> {
    let key = cx.head.header("Idempotency-Key");
    if key.as_deref().is_some_and(|key| utf16_len(key) > limits::CLIENT_REQUEST_ID_MAX_UTF16) {
        return Err(Refusal::invalid_parameter("Idempotency-Key must be 128 characters or fewer"));
    }
    Ok(key)
}

pub(super) async fn snapshot(cx: &Cx<'_>) -> Result<Response, Failure> {
    let dialect = match cx.head.query_value("dialect").as_deref() {
        None | Some("1") => 1,
        Some("2") => 2,
        Some(_) => return Err(Refusal::invalid_parameter("dialect must be 1 or 2").into()),
    };
    relay(cx, SessionCall::Snapshot { dialect }).await
}

#[derive(Deserialize)]
struct Title {
    title: String,
}

pub(super) async fn update_title(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    refuse_claims(&request_body::parse(&cx.body, "Invalid JSON body")?, NOT_IN_AN_EDIT)?;
    let Title { title } = request_body::parse(&cx.body, "title must be a non-empty string")?;
    relay(cx, SessionCall::UpdateTitle { title }).await
}

pub(super) async fn archive(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    optional_body(cx, NOT_IN_AN_EDIT)?;
    relay(cx, SessionCall::Archive).await
}

pub(super) async fn unarchive(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    optional_body(cx, NOT_IN_AN_EDIT)?;
    relay(cx, SessionCall::Unarchive).await
}

pub(super) async fn stop(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    optional_body(cx, &[])?;
    relay(cx, SessionCall::Stop).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    request_id: String,
    answer: String,
}

/// Answers a question of the agent, for bots and scripts.
pub(super) async fn answer_question(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    refuse_claims(&request_body::parse(&cx.body, "Invalid JSON body")?, NOT_IN_A_PROMPT)?;
    let Answered { request_id, answer } = request_body::parse(&cx.body, "requestId and answer are required")?;
    if answer.trim().is_empty() || utf16_len(&answer) > limits::ANSWER_MAX_UTF16 {
        return Err(Refusal::invalid_body("answer must not be blank, and 16000 characters or fewer").into());
    }
    let shown: Shown = request_body::parse(&cx.body, "").unwrap_or_default();
    let person = Box::new(acting_person(cx, &shown).await?.unwrap_or_else(identity::anonymous));
    relay(cx, SessionCall::AnswerQuestion { person, request_id, answer }).await
}

pub(super) async fn cancel(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    optional_body(cx, &[])?;
    // From here on no child of it is admitted, whatever was asked for before; a session that ended already keeps its rights.
    let (db, id, now) = (cx.db()?, cx.session_id()?, oi_worker_kit::clock::now());
    children::bar(&db, &id, now, false).await?;
    let answer = relay(cx, SessionCall::Cancel).await;
    match &answer {
        Ok(_) => children::bar(&db, &id, now, true).await?,
        Err(_) => children::lift(&db, &id).await?,
    }
    answer
}

/// What a bot asks to be told of its prompt with. From anybody else it is dropped.
fn callback_context(cx: &Cx<'_>, body: &serde_json::Value) -> Result<Option<CallbackContext>, Refusal> {
    let Some(context) = body.get("callbackContext").filter(|context| !context.is_null()) else { return Ok(None) };
    let takes = matches!(cx.who.caller, Caller::Bot { service: Service::SlackBot | Service::LinearBot, .. });
    if !takes {
        Line::warn("control-plane", "identity.callback_context_dropped").trace(cx.trace).write();
        return Ok(None);
    }
    let context = CallbackContext::deserialize(context).ok().filter(CallbackContext::is_valid);
    context.map(Some).ok_or_else(|| Refusal::invalid_body("callbackContext is not of a known shape"))
}

/// What is wrong with a prompt's files, as the wire says it. Whether they are there, the session knows.
fn check_attachments(body: &serde_json::Value) -> Result<(), Refusal> {
    let Some(listed) = body.get("attachments") else { return Ok(()) };
    let invalid = |sentence: &'static str| Err(Refusal::new(400, ErrorCode::InvalidPrompt, sentence));
    if listed.as_array().is_some_and(|listed| listed.len() > limits::PROMPT_MAX_ATTACHMENTS) {
        return invalid("You can attach up to 6 files per message");
    }
    match Vec::<AttachmentRef>::deserialize(listed) {
        Ok(files) if is_valid_prompt("text", &files) => Ok(()),
        _ => invalid("Invalid attachments"),
    }
}

pub(super) async fn prompt(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let idempotency_key = idempotency_key(cx)?;
    let body: serde_json::Value = request_body::parse(&cx.body, "Invalid JSON body")?;
    refuse_claims(&body, NOT_IN_A_PROMPT)?;
    let shown: Shown = request_body::parse(&cx.body, "").unwrap_or_default();
    let callback_context = callback_context(cx, &body)?;
    let invalid = |sentence: &'static str| Refusal::new(400, ErrorCode::InvalidPrompt, sentence);
    check_attachments(&body)?;
    let request: PromptRequest =
        request_body::parse(&cx.body, "content is required").map_err(|_| invalid("content is required"))?;
    let attachments = request.attachments.unwrap_or_default();
    let blank = request.content.trim().is_empty() && attachments.is_empty();
    if blank || utf16_len(&request.content) > limits::PROMPT_MAX_UTF16 {
        return Err(invalid("content must not be blank, and 64000 characters or fewer").into());
    }
    if request.model.is_some() || request.reasoning_effort.is_some() {
        let models = Models::enabled(&cx.db()?, cx.env).await?;
        // Without a model the effort is the session's model's matter, which the session's agent knows.
        if request.model.is_some() {
            models.choose(request.model.as_deref(), request.reasoning_effort.as_deref())?;
        }
    }
    let id = cx.session_id()?;
    let author = acting_person(cx, &shown).await?.unwrap_or_else(identity::anonymous);
    let prompt = EnqueuePrompt {
        author,
        content: request.content,
        source: request.source.unwrap_or(oi_protocol::session_state::PromptSource::Web),
        model: request.model,
        reasoning_effort: request.reasoning_effort,
        attachments,
        idempotency_key,
        callback_context,
    };
    let principal = identity::principal(&cx.who.caller);
    session_client::relay(cx.env, &id, principal, SessionCall::Prompt(Box::new(prompt))).await
}

pub(super) async fn client_token(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let body: serde_json::Value = request_body::parse(&cx.body, "Invalid JSON body")?;
    refuse_claims(&body, NOT_IN_A_TOKEN_REQUEST)?;
    let shown: Shown = request_body::parse(&cx.body, "Invalid token request body")?;
    let id = cx.session_id()?;
    let person = acting_person(cx, &shown)
        .await?
        .ok_or_else(|| Refusal::forbidden("A user identity is required for a websocket token"))?;
    // Noted before there is a token, so that none is left out when the person signs out everywhere.
    if let Some(user_id) = &person.canonical_user_id {
        session_pages::note(&cx.db()?, user_id, &id, oi_worker_kit::clock::now()).await?;
    }
    enabled_models::tell(cx.env, &id).await?;
    let principal = identity::principal(&cx.who.caller);
    session_client::relay(cx.env, &id, principal, SessionCall::MintClientToken { person: Box::new(person) }).await
}

/// Files of archived events that one listing looks into: a filter may leave nothing of one.
const FILES_A_LISTING: usize = 4;

/// Newest first. Where the session points to a file of archived events, the page comes from there, with the same
/// cursors.
pub(super) async fn events(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (event_type, message_id) = (word(cx, "type")?, word(cx, "message_id")?);
    let (mut cursor, limit) = (word(cx, "cursor")?, number(cx, "limit")?);
    let mut files = 0;
    loop {
        let (event_type, message_id) = (event_type.clone(), message_id.clone());
        let call =
            SessionCall::Events { cursor, limit, event_type: event_type.clone(), message_id: message_id.clone() };
        let mut response = relay(cx, call).await?;
        if response.status_code() != archive_file::ELSEWHERE {
            return Ok(response);
        }
        let pointer: ArchivePointer = response.json().await.map_err(while_doing("reading where events are"))?;
        let text = MediaStore::of(cx.env)?.text(&pointer.key).await?;
        let text = text.ok_or_else(|| Fault::new("reading archived events", "the file is missing"))?;
        let page = archive_file::list(&text, &pointer, event_type.as_deref(), message_id.as_deref())
            .map_err(while_doing("reading archived events"))?;
        files += 1;
        if page.found > 0 || page.cursor.is_none() || files == FILES_A_LISTING {
            return reply::json_text(200, page.body);
        }
        cursor = page.cursor;
    }
}

pub(super) async fn messages(cx: &Cx<'_>) -> Result<Response, Failure> {
    let call =
        SessionCall::Messages { cursor: word(cx, "cursor")?, limit: number(cx, "limit")?, status: word(cx, "status")? };
    relay(cx, call).await
}

/// A page of them, or with `?artifactId=` the one.
pub(super) async fn artifacts(cx: &Cx<'_>) -> Result<Response, Failure> {
    let call = match word(cx, "artifactId")? {
        Some(artifact_id) => SessionCall::Artifact { artifact_id },
        None => SessionCall::Artifacts { cursor: word(cx, "cursor")?, limit: number(cx, "limit")? },
    };
    relay(cx, call).await
}

pub(super) async fn refresh_pull_requests(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    optional_body(cx, &[])?;
    relay(cx, SessionCall::RefreshPullRequests).await
}

pub(super) async fn add_participant(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let new = request_body::parse(&cx.body, "Invalid participant body")?;
    relay(cx, SessionCall::AddParticipant(new)).await
}

pub(super) async fn participants(cx: &Cx<'_>) -> Result<Response, Failure> {
    relay(cx, SessionCall::Participants).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prompts_files_are_told_what_is_wrong_with_them() {
        let file = |id: &str, name: &str| json!({"attachmentId": id, "name": name});
        let many = |count: usize| vec![file("a", "n"); count];
        let long = "x".repeat(256);
        for (listed, expected) in [
            (json!([]), None),
            (json!(many(6)), None),
            (json!([file("a-1", &long[1..])]), None),
            (json!(many(7)), Some("You can attach up to 6 files per message")),
            (json!(null), Some("Invalid attachments")),
            (json!({}), Some("Invalid attachments")),
            (json!([file("a/1", "n")]), Some("Invalid attachments")),
            (json!([file("", "n")]), Some("Invalid attachments")),
            (json!([file("a", "")]), Some("Invalid attachments")),
            (json!([file("a", &long)]), Some("Invalid attachments")),
            (json!([{"attachmentId": "a", "name": "n", "mimeType": "image/png"}]), Some("Invalid attachments")),
        ] {
            let refused = check_attachments(&json!({"content": "x", "attachments": listed})).err();
            assert_eq!(refused.map(|refusal| refusal.sentence.into_owned()).as_deref(), expected, "{listed}");
        }
        assert_eq!(check_attachments(&json!({"content": "x"})), Ok(()));
    }
}
